"""`fedtwin simulate`: the engine on a network in a file, without any agent. Owns options, formats, tables."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import click
import typer

from federation.cli.options import Json
from federation.cli.register import command

if TYPE_CHECKING:
    from domain_twin.model.job import Report
    from domain_twin.model.scenario import Scenario
    from domain_twin.simulation.outside.file_answer import Answer, Input

SECTION = "Ask what would be"
_FORMS = (".json", ".ned", ".mat")


def add_to(app: typer.Typer) -> None:
    """Add `simulate`."""
    command(
        app,
        "simulate",
        section=SECTION,
        example=(
            "fedtwin simulate examples/whatif/five-routers.json",
            "fedtwin simulate network.json --scenario cut.yaml --report cut.html",
            "fedtwin simulate network.json --rung packets --seed 7",
            "fedtwin simulate network.json --export network.ned --export network.mat",
        ),
    )(simulate)


def simulate(
    *,
    file: Annotated[
        Path,
        typer.Argument(
            metavar="FILE",
            help="Network file (JSON), MATLAB file (.mat), or BNN-UPC folder.",
            show_default=False,
        ),
    ],
    scenario: Annotated[
        str, typer.Option("--scenario", metavar="FILE", help="YAML or JSON; - is standard input.")
    ] = "",
    rung: Annotated[
        str, typer.Option("--rung", metavar="RUNG", help="Fidelity: capacity, tables, residual or packets.")
    ] = "",
    flow: Annotated[
        list[str] | None, typer.Option("--flow", metavar="FROM>TO", help="Show this flow; repeatable.")
    ] = None,
    top: Annotated[int, typer.Option("--top", min=1, help="Show at most so many rows of each table.")] = 20,
    sample: Annotated[
        int, typer.Option("--sample", min=1, help="Which sample of a BNN-UPC folder, from 1.")
    ] = 1,
    residual: Annotated[
        Path | None, typer.Option("--residual", metavar="FILE", help="Fitted correction, for rung residual.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, help="Seed of packets and draws; default: one is drawn.")
    ] = None,
    packets: Annotated[
        float, typer.Option("--packets", min=1000, help="Packets to simulate, for rung packets.")
    ] = 1e6,
    limit: Annotated[
        str, typer.Option("--limit", metavar="DURATION", help="Give up after so long: 30s, 10m.")
    ] = "10m",
    beside: Annotated[
        list[Path] | None,
        typer.Option("--beside", metavar="FILE.sca", help="OMNeT++ results to compare with; repeatable."),
    ] = None,
    octave: Annotated[
        Path | None, typer.Option("--octave", metavar="FILE.m", help="Run this script on the network.")
    ] = None,
    export: Annotated[
        list[Path] | None,
        typer.Option("--export", metavar="FILE", help="Write it as .json, .ned (with .ini) or .mat."),
    ] = None,
    report: Annotated[
        Path | None, typer.Option("--report", metavar="FILE.html", help="With --scenario: a page with plots.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Compute what flows get in a network in a file.

    Delay, percentiles, loss and throughput of every flow, and the busiest elements; with --scenario what its
    changes would do, before and after. No twin is asked. Rung packets runs ns-3 (`pip install fedtwin[ns3]`).
    """
    from domain_twin.simulation.outside.file_answer import Options, answered, load
    from federation.cli.console import err, short_path
    from federation.cli.duration import nanoseconds

    for each in export or ():
        if each.suffix not in _FORMS:
            raise click.BadParameter(f"{each}: write {', '.join(_FORMS)}", param_hint="--export")
    network = load(file, sample=sample)
    asked = _scenario(scenario, rung, seed)
    for each in export or ():
        for written in network.export(each):
            err().print(f"written: {short_path(written)}", style="note", markup=False)
    if octave is not None:
        _octave(octave, network, nanoseconds(limit, "--limit") / 1e9, as_json=as_json)
        return
    options = Options(
        rung=rung or (asked.rung if asked else "tables"),
        flows=tuple(_pair(text) for text in flow or ()),
        seed=seed if seed is not None else asked.seed if asked else None,
        packets=packets,
        limit_s=nanoseconds(limit, "--limit") / 1e9,
        residual=residual,
        beside=tuple(beside or ()),
    )
    if report is not None and asked is None:
        raise click.UsageError("--report writes a page about a --scenario")
    with _progress() as heard:
        found = asyncio.run(answered(network, options, scenario=asked, progress=heard))
    if found.report is not None:
        _show_report(found.report, as_json=as_json, page=report, top=top)
    else:
        _show(found, as_json=as_json, top=top)


def _pair(text: str) -> tuple[str, str]:
    from federation.cli.shortcuts import pair

    return pair(text, "--flow")


def _scenario(name: str, rung: str, seed: int | None) -> Scenario | None:
    if not name:
        return None
    from federation.cli.shortcuts import Shortcuts, scenario_from

    return scenario_from(name, Shortcuts(), rung=rung or None, seed=seed)


def _octave(script: Path, network: Input, limit_s: float, *, as_json: bool) -> None:
    from domain_twin.simulation.outside.matlab import octave
    from federation.cli.console import emit, out

    said, result = asyncio.run(octave(script, network.as_network(), limit_s=limit_s))
    if as_json:
        emit({"output": said, "result": _plain(result)})
        return
    out().print(said.rstrip(), markup=False)
    for name, value in result.items():
        out().print(f"{name} = {value}", markup=False)


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    return {name: _plain(item) for name, item in value.items()} if isinstance(value, dict) else value


def _show_report(report: Report, *, as_json: bool, page: Path | None, top: int) -> None:
    from federation.cli.console import emit, err, out, short_path

    if page:
        from domain_twin.errors import ConfigError
        from federation.cli.forecast.page import render

        try:
            page.write_text(render(report), encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"{page}: cannot be written ({error.strerror})") from error
        err().print(f"written: {short_path(page)}", style="note", markup=False)
    if as_json:
        from federation.cli.forecast.reading import document

        emit(document(report))
    else:
        from federation.cli.forecast.text import report_block

        out().print(report_block(report, top=top))


def _show(found: Answer, *, as_json: bool, top: int) -> None:
    from rich.text import Text

    from federation.cli.console import count, emit, out

    if as_json:
        emit(found)
        return
    from federation.cli.forecast.reading import rung_words
    from federation.cli.tables import attributes_table

    head = {"network": found.name, "by": rung_words(found.rung)}
    if found.seed is not None:
        head["seed"] = str(found.seed)
    out().print(attributes_table(head))
    for said in found.notes:
        out().print(Text(said))
    if found.flows:
        out().print()
        out().print(_flow_table(found, top))
    if len(found.flows) > top:
        out().print(Text(f"{count(len(found.flows) - top, 'flow')} more: --top, --flow or --json", "note"))
    if found.edges:
        out().print()
        out().print(_edge_table(found, top))


def _flow_table(found: Answer, top: int) -> Any:
    from rich.text import Text

    from federation.cli.console import ratio
    from federation.cli.tables import grid

    packets = any(math.isfinite(row.delay_error_ms) for row in found.flows)
    besides = {(row.source, row.target, row.traffic_class): row for row in found.beside}
    columns = ["from", "to", "class", "delay, ms"]
    columns += ["± ms"] if packets else []
    columns += ["seen, ms"] if besides else []
    columns += ["90 %", "95 %", "99 %", "loss", "Mbit/s"]
    table = grid(*columns, right=columns[3:])
    for row in found.flows[:top]:
        cells: list[Any] = [row.source, row.target, row.traffic_class]
        if not math.isfinite(row.delay_ms):
            table.add_row(*cells, Text("no path" if row.loss >= 1 else "unknown", "bad"))
            continue
        cells.append(f"{row.delay_ms:,.3f}")
        if packets:
            cells.append(_number(row.delay_error_ms))
        if besides:
            seen = besides.get((row.source, row.target, row.traffic_class))
            cells.append(_number(seen.delay_ms) if seen else "")
        cells += [_number(value) for value in (row.p90_ms, row.p95_ms, row.p99_ms)]
        cells.append(Text(ratio(row.loss), "bad" if row.loss > 1e-3 else ""))
        table.add_row(*cells, f"{row.throughput_mbps:,.3f}")
    return table


def _number(value: float) -> str:
    return f"{value:,.3f}" if math.isfinite(value) else ""


def _edge_table(found: Answer, top: int) -> Any:
    from rich.text import Text

    from federation.cli.console import ratio
    from federation.cli.tables import grid

    table = grid("busiest element", "busy", "loss", right=("busy", "loss"))
    for row in found.edges[: min(top, 8)]:
        style = "bad" if row.utilisation > 0.9 or row.loss > 1e-3 else "warn" if row.utilisation > 0.7 else ""
        table.add_row(row.edge, Text(f"{100 * row.utilisation:.1f} %", style), ratio(row.loss))
    return table


def _progress() -> Any:
    """A progress bar that comes when there is progress to show, and goes at the end."""
    import contextlib
    from collections.abc import Callable, Iterator

    @contextlib.contextmanager
    def bar() -> Iterator[Callable[[float, str], None]]:
        from rich.progress import BarColumn, Progress, TextColumn

        from federation.cli.console import err

        words = (BarColumn(30), TextColumn("{task.percentage:3.0f} %"), TextColumn("{task.description}"))
        progress = Progress(*words, console=err(), transient=True)
        task = progress.add_task("", total=1.0)

        def heard(share: float, step: str) -> None:
            if err().is_terminal:
                progress.start()
            progress.update(task, completed=share, description=step)

        try:
            yield heard
        finally:
            if progress.live.is_started:
                progress.stop()

    return bar()


__all__: Sequence[str] = ["add_to", "simulate"]
