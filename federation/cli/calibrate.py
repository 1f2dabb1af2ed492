"""`fedtwin calibrate`: fit what configuration does not say to an agent's history. Owns the table of fits."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Annotated

import typer

from domain_twin.errors import NotFound
from federation.cli.options import Json
from federation.cli.register import command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType
    from rich.table import Table

    from domain_twin.datastore.history import History
    from domain_twin.simulation.twin.calibration import Calibration, ElementFit
    from federation.cli.recorded import Recorded

FILE = "calibration.json"
"""In the agent's state folder, which looks for it at every question."""


def add_to(app: typer.Typer) -> None:
    """Add the command of this file."""
    command(
        app,
        "calibrate",
        section="Ask what would be",
        example=(
            "fedtwin calibrate --window 10m --at .fedtwin/demo/transport/state/agent.sock",
            "fedtwin calibrate --window 7d --try --at agent.toml",
        ),
    )(calibrate)


def calibrate(
    *,
    window: Annotated[
        str, typer.Option("--window", metavar="DURATION", help="Fit to so much of the history: 10m, 2h, 7d.")
    ] = "1h",
    only_try: Annotated[
        bool, typer.Option("--try", help="Show how well it fits, and leave the agent as it is.")
    ] = False,
    top: Annotated[int, typer.Option("--top", min=1, help="Show at most so many elements.")] = 20,
    at: Annotated[
        str,
        typer.Option(
            "--at",
            metavar="SOCKET|AGENT_TOML|FOLDER",
            help="The agent: its socket, agent.toml or state folder.",
        ),
    ] = "",
    as_json: Json = False,
) -> None:
    """Fit service times, buffers and burstiness to the history.

    An agent needs no restart: from then on its what-ifs rest on the fit, and have intervals. The last quarter
    of the window is not fitted to: the errors that are shown were made on it.
    """
    import asyncio

    from federation.cli.asking import patiently
    from federation.cli.console import emit, out
    from federation.cli.duration import nanoseconds
    from federation.cli.recorded import Recorded

    end = time.time_ns()
    start = end - nanoseconds(window, "--window")
    recorded = Recorded.at(at, "calibrate")
    found = asyncio.run(patiently(fitted(recorded, start, end), "reading the history and fitting to it"))
    file = recorded.state / FILE
    if not only_try:
        from domain_twin.simulation.twin.calibration import save

        save(found, file)
    if as_json:
        emit({"saved": None if only_try else file, "mape_percent": found.mape, **document(found)})
        return
    out().print(calibration_block(found, top=top))
    out().print("Tried only; nothing was saved." if only_try else f"Saved: {file}", markup=False)


async def fitted(recorded: Recorded, start: int, end: int) -> Calibration:
    """The fit to what was recorded between two times, or since recording began. Raises NotFound."""
    from domain_twin.mapping.mapper import Mapper
    from domain_twin.simulation.twin.calibrate import calibrate as fit_to

    async with recorded.open() as recording:
        history = recording.history
        begin = await _beginning(history, start, end)
        mapper = Mapper(recording.domain)
        mapper.apply((await history.state_at(end)).as_delta())
        return await fit_to(history, mapper.network(), (begin, end))


async def _beginning(history: History, start: int, end: int) -> int:
    """`start`, or the first change after it where history begins later. Raises NotFound: there is none."""
    try:
        await history.state_at(start)
    except NotFound:
        async for change in history.changes(start, end):
            return change.received_at
        raise
    return start


def document(found: Calibration) -> dict[str, object]:
    """A calibration in JSON's types, without the residuals."""
    from federation.cli.console import iso

    return {
        "domain": found.domain,
        "start": iso(found.start),
        "end": iso(found.end),
        "samples": found.samples,
        "traffic": found.traffic,
        "elements": [found.elements[name] for name in sorted(found.elements)],
        "assumptions": found.assumptions,
    }


def calibration_block(found: Calibration, *, top: int) -> RenderableType:
    """How well a fit fits: of the traffic as a whole, then element by element, the worst first."""
    from rich.console import Group
    from rich.text import Text

    from federation.cli.console import clock, count, span
    from federation.cli.tables import attributes_table

    traffic = found.traffic
    rows = {
        "domain": found.domain,
        "fitted to": f"{clock(found.start)} to {clock(found.end)} ({span(found.end - found.start)}),"
        f" {found.samples:,} values",
        "traffic": f"{traffic.packet_octets:.0f} octets a packet,"
        f" {traffic.packets_per_train:.1f} packets together",
        "mean error": "not known"
        if math.isnan(found.mape)
        else f"{found.mape:.1f} % of the mean delay, held out",
    }
    ordered = sorted(found.elements.values(), key=_worst_first)
    parts: list[RenderableType] = [attributes_table(rows), Text(), fits_table(ordered[:top])]
    if len(ordered) > top:
        parts.append(Text(f"{count(len(ordered) - top, 'element')} more: --top or --json", "note"))
    if found.assumptions:
        parts += [Text(), *(Text(sentence, "note") for sentence in found.assumptions)]
    return Group(*parts, Text())


def _worst_first(fit: ElementFit) -> tuple[bool, float, str]:
    return (not fit.note, -fit.mape if math.isfinite(fit.mape) else 0.0, fit.element)


def fits_table(fits: Sequence[ElementFit]) -> Table:
    """Elements with what was fitted, and how far off that is on what it was not fitted to."""
    from rich.text import Text

    from federation.cli.forecast.reading import short
    from federation.cli.tables import grid

    heads = ("element", "points", "fixed", "service", "off by", "r2")
    table = grid(*heads, right=heads[1:], wraps="element")
    for fit in fits:
        name = Text.assemble(short(fit.element), (f" {fit.kind}", "dim"))
        if fit.note:
            name.append(f"\ndefault: {fit.note}", "warn")
        style = "bad" if fit.mape > 20 else "warn" if fit.mape > 10 else "good"
        table.add_row(
            name,
            str(fit.points),
            _milliseconds(fit.fixed_s),
            _milliseconds(fit.service_s),
            Text(f"{fit.mape:.1f} %", style) if math.isfinite(fit.mape) else "",
            f"{fit.r2:.2f}" if math.isfinite(fit.r2) else "",
        )
    return table


def _milliseconds(seconds: float) -> str:
    return f"{seconds * 1e3:.3f} ms" if math.isfinite(seconds) else ""
