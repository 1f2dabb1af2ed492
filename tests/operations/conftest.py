"""A running federation, shared by the tests of a file: starting it takes seconds."""

from __future__ import annotations

import warnings
from collections.abc import Iterator

import pytest
from small_federation import Federation

with warnings.catch_warnings():  # of click's, in typer
    warnings.simplefilter("ignore", DeprecationWarning)
    import typer  # noqa: F401


@pytest.fixture(scope="module")
def federation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Federation]:
    made = Federation(tmp_path_factory.mktemp("f"))
    made.write()
    try:
        for kind in ("emulate", "broker"):
            made.start(kind, "--log-level", "debug", "--log-format", "json")
        made.ready("emulate")
        made.start("agent", "--log-level", "debug", "--log-format", "json")
        made.ready("agent")
        made.ready("broker")
        yield made
    finally:
        made.end()
