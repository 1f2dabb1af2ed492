"""`fedtwin learn models|card|rollback|forecast|export`: what came of trainings. Owns what is exported."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from federation.cli.options import At, Json
from federation.cli.register import command

if TYPE_CHECKING:
    from domain_twin.learning.learner import Arrays
    from domain_twin.learning.store import Kept

SECTION = "Learn together"
Model = Annotated[str, typer.Argument(metavar="MODEL", help="Name of the model.")]
Number = Annotated[
    int, typer.Argument(metavar="[VERSION]", min=0, help="Version; default: the one in service.")
]


def add_to(group: typer.Typer) -> None:
    """Add the commands of this file."""
    for name, function, example in (
        ("models", models, ("fedtwin learn models", "fedtwin learn models demand --json")),
        ("card", card, ("fedtwin learn card demand", "fedtwin learn card demand 2 --report demand.html")),
        ("rollback", rollback, ("fedtwin learn rollback demand 1",)),
        (
            "forecast",
            forecast,
            (
                "fedtwin learn forecast demand --at .fedtwin/demo/core/state/agent.sock",
                "fedtwin learn forecast demand --hindsight --at .fedtwin/demo/core/state/agent.sock",
            ),
        ),
        (
            "export",
            export,
            (
                "fedtwin learn export demand --out demand-model/",
                "fedtwin learn export telemetry --synthetic 10000 --recording --out synthetic/",
            ),
        ),
    ):
        command(group, name, section=SECTION, group="learn", example=example)(function)


def models(
    *,
    model: Annotated[str, typer.Argument(metavar="[MODEL]", help="Only this one.")] = "",
    at: At = "",
    as_json: Json = False,
) -> None:
    """List models and their versions, newest first: which one is in service, and why."""
    from domain_twin.errors import NotFound
    from federation.cli.console import emit, out
    from federation.cli.learn.asking import ask
    from federation.cli.learn.screens import card_document, models_screen

    found = ask(at, lambda learning: learning.models(model), "asking for the models")
    if model and not found:
        raise NotFound(f"no model {model!r} is kept here; `fedtwin learn models` lists those that are")
    if as_json:
        emit({"models": [card_document(kept) for kept in found]})
        return
    if not found:
        out().print("There is no model yet: `fedtwin learn start demand`")
        return
    out().print(models_screen(found))


def card(
    *,
    model: Model,
    version: Number = 0,
    page: Annotated[
        Path | None, typer.Option("--report", metavar="FILE.html", help="Also write a page with plots.")
    ] = None,
    at: At = "",
    as_json: Json = False,
) -> None:
    """Show a model's card: what it is, who made it, and how good it is beside naive rivals."""
    from federation.cli.console import emit, out
    from federation.cli.learn.asking import ask
    from federation.cli.learn.screens import card_document, card_screen

    kept = ask(at, lambda learning: learning.card(model, version), "asking for the card")
    if page is not None:
        from federation.cli.learn.report import write_report

        write_report(at, kept, page)
    if as_json:
        emit(card_document(kept))
        return
    out().print(card_screen(kept))


def rollback(
    *,
    model: Model,
    version: Annotated[int, typer.Argument(metavar="VERSION", min=1, help="Version that is to serve again.")],
    at: At = "",
    as_json: Json = False,
) -> None:
    """Put an earlier version back into service, in every domain that has it."""
    from federation.cli.console import emit, out
    from federation.cli.learn.asking import ask
    from federation.cli.learn.screens import card_document

    done = ask(at, lambda learning: learning.roll_back(model, version), "rolling back")
    if as_json:
        emit({**card_document(done.model), "outcomes": done.outcomes})
        return
    out().print(f"{model} {version} is in service")
    for outcome in done.outcomes:
        why = f": {outcome.reason}" if outcome.reason else ""
        out().print(f"  {outcome.domain}: {outcome.outcome.value}{why}", markup=False)


def forecast(
    *,
    model: Model,
    element: Annotated[
        list[str] | None, typer.Option("--element", metavar="ID", help="Only this one; may be repeated.")
    ] = None,
    hindsight: Annotated[
        bool,
        typer.Option(
            "--hindsight", help="What it would have said of the last part of the history, and what came true."
        ),
    ] = False,
    at: At = "",
    as_json: Json = False,
) -> None:
    """Show what a domain's own agent expects of its elements, with quantiles.

    Only the agent knows its history: name its socket with --at.
    """
    from federation.cli.console import emit, out
    from federation.cli.learn.asking import ask
    from federation.cli.learn.screens import forecast_document, forecast_table

    found, version = ask(
        at,
        lambda learning: learning.forecast(model, element or (), hindsight=hindsight),
        "asking for the forecast",
    )
    if as_json:
        forecasts = [forecast_document(each) for each in found]
        emit({"model": model, "version": version, "forecasts": forecasts})
        return
    if not found:
        out().print(f"{model} {version} foretells nothing here: too little is known of these elements")
        return
    if hindsight:
        from federation.cli.learn.hindsight import hindsight_screen

        out().print(hindsight_screen(found, width=min(out().width, 110)))
        return
    out().print(forecast_table(found))


def export(
    *,
    model: Model,
    version: Number = 0,
    target: Annotated[Path, typer.Option("--out", metavar="FOLDER", help="New folder that it goes to.")],
    synthetic: Annotated[
        int,
        typer.Option(
            "--synthetic",
            metavar="ROWS",
            min=0,
            help="Of a generator (gan): instead a data set of so many steps, each marked as synthetic.",
        ),
    ] = 0,
    elements: Annotated[
        int, typer.Option("--elements", min=1, help="Synthetic elements, each with ROWS steps.")
    ] = 1,
    form: Annotated[str, typer.Option("--form", help="Of the data set: csv or parquet.")] = "csv",
    recording: Annotated[
        bool,
        typer.Option("--recording", help="Also what a device would have said, for `fedtwin replay`."),
    ] = False,
    seed: Annotated[int, typer.Option("--seed", min=0, help="The same seed makes the same data.")] = 0,
    own: Annotated[
        bool,
        typer.Option(
            "--own",
            help="At an agent: with the statistics of its own history, and not the contributors' mean.",
        ),
    ] = False,
    at: At = "",
    as_json: Json = False,
) -> None:
    """Write a model's card (JSON) and arrays (NumPy .npz) to a folder, or synthetic telemetry made by it."""
    from domain_twin.errors import ConfigError
    from federation.cli.console import emit, out

    if target.exists():
        raise ConfigError(f"{target}: exists already; name a new folder")
    if recording and not synthetic:
        raise typer.BadParameter("a recording is made of synthetic data: add --synthetic ROWS")
    if own and not synthetic:
        raise typer.BadParameter("own statistics make synthetic data of a domain: add --synthetic ROWS")
    kept, arrays = _fetched(at, model, version, own=own)
    if synthetic:
        from domain_twin.learning.dataset import export_synthetic

        card = kept.card
        made = export_synthetic(
            arrays,
            card.task,
            card,
            target,
            rows=synthetic,
            elements=elements,
            seed=seed,
            form=form,
            record=recording,
            own=own,
        )
        if as_json:
            emit(
                {
                    "folder": made.folder,
                    "data": made.data,
                    "card": made.card,
                    "recording": made.recording,
                    "rows": made.rows,
                    "sha256": made.digest,
                    "model": card.model,
                    "version": card.version,
                }
            )
            return
        more = f", {made.recording.name}" if made.recording else ""
        out().print(
            f"{target}: {made.rows:,} synthetic rows of {card.model} {card.version} in {made.data.name},"
            f" {made.card.name}{more}"
        )
        return
    _write(target, kept, arrays)
    if as_json:
        emit({"folder": target, "model": kept.card.model, "version": kept.card.version})
        return
    out().print(f"{target}: {kept.card.model} {kept.card.version}, card.json and arrays.npz")


def _fetched(at: str, model: str, version: int, *, own: bool) -> tuple[Kept, Arrays]:
    from federation.cli.asking import patiently
    from federation.learning_client import LearningClient

    async def session() -> tuple[Kept, Arrays]:
        async with LearningClient.connect(at) as learning:
            return await learning.arrays(model, version, own=own)

    return asyncio.run(patiently(session(), "fetching the model"))


def _write(folder: Path, kept: Kept, arrays: Arrays) -> None:
    from domain_twin.errors import ConfigError
    from domain_twin.learning.arrays import encode_arrays

    try:
        folder.mkdir(parents=True)
        (folder / "card.json").write_bytes(kept.card.to_json() + b"\n")
        (folder / "arrays.npz").write_bytes(encode_arrays(arrays))
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written ({error.strerror})") from error
