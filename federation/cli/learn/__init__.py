"""`fedtwin learn`: trainings across domains, the models that come of them, and what these foretell."""

from __future__ import annotations

import typer

from federation.cli import learn_deploy
from federation.cli.learn import models, runs
from federation.cli.register import subgroup

SECTION = "Learn together"


def add_to(app: typer.Typer) -> None:
    """Add the group."""
    group = subgroup(
        app,
        "learn",
        section=SECTION,
        help_text="Train models across domains; no data is shared.",
    )
    runs.add_to(group)
    models.add_to(group)
    learn_deploy.add_to(group)
