"""`fedtwin whatif` and `fedtwin sweep`: what would happen if. Owns options; the twin has the answers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import click
import typer

from federation.cli import completion
from federation.cli.options import At, Capacity, Changes, Demand, Json
from federation.cli.register import command

if TYPE_CHECKING:
    from domain_twin.model.job import Job, Report
    from domain_twin.model.scenario import Scenario

SECTION = "Ask what would be"
_OWN = "--at .fedtwin/demo/transport/state/agent.sock"

Down: TypeAlias = Annotated[
    Changes,
    typer.Option(
        "--down",
        metavar="ELEMENT",
        help="It fails: a link, node, cell …; repeatable.",
        autocompletion=completion.elements,
    ),
]
Flow: TypeAlias = Annotated[
    Changes, typer.Option("--flow", metavar="FROM>TO", help="Report this flow; repeatable.")
]
Rung: TypeAlias = Annotated[
    str, typer.Option("--rung", metavar="RUNG", help="Fidelity: capacity, tables, residual or packets.")
]
NoResidual: TypeAlias = Annotated[
    bool,
    typer.Option(
        "--no-residual",
        help="Leave out the correction that domains learned together, where one is in service.",
    ),
]
Seed: TypeAlias = Annotated[
    int | None, typer.Option("--seed", min=0, help="Seed of what is drawn at random; default: one is drawn.")
]
Deadline: TypeAlias = Annotated[
    str, typer.Option("--deadline", metavar="DURATION", help="Give up after so long: 30s, 5m.")
]
ReportFile: TypeAlias = Annotated[
    Path | None, typer.Option("--report", metavar="FILE.html", help="Also write a page with plots.")
]
Top: TypeAlias = Annotated[int, typer.Option("--top", min=1, help="Show at most so many rows of each table.")]


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    command(
        app,
        "whatif",
        section=SECTION,
        example=(
            "fedtwin whatif cut.yaml --report cut.html",
            f"fedtwin whatif --down poznan:eth2:out {_OWN}",
            "fedtwin whatif --demand x2 --workers core/upf-1=+1 --flow 'ran/cell-1>edge/host-1'",
            f"fedtwin whatif --when +15s {_OWN}",
        ),
    )(whatif)
    command(
        app,
        "sweep",
        section=SECTION,
        example=(f"fedtwin sweep --failures links --top 5 {_OWN}", "fedtwin sweep growth.yaml --json"),
    )(sweep)


def whatif(
    *,
    scenario: Annotated[
        str,
        typer.Argument(
            metavar="[SCENARIO]",
            help="YAML or JSON file; - reads it from standard input. Options add changes.",
            show_default=False,
        ),
    ] = "",
    down: Down = None,
    up: Annotated[
        Changes, typer.Option("--up", metavar="ELEMENT", help="It comes back; repeatable, as all of these.")
    ] = None,
    capacity: Capacity = None,
    metric: Annotated[
        Changes, typer.Option("--metric", metavar="LINK=N", help="New metric of the routing protocol.")
    ] = None,
    buffer: Annotated[
        Changes, typer.Option("--buffer", metavar="LINK=PACKETS", help="New length of a link's queue.")
    ] = None,
    scheduler: Annotated[
        Changes,
        typer.Option("--scheduler", metavar="LINK=WORD", help="fifo, strict-priority, wfq or drr."),
    ] = None,
    demand: Demand = None,
    cell_load: Annotated[
        Changes, typer.Option("--cell-load", metavar="CELL=x2", help="What enters at a cell.")
    ] = None,
    workers: Annotated[
        Changes,
        typer.Option(
            "--workers", metavar="ELEMENT=N", help="Of a function or host; =+1 or =-1: more, fewer."
        ),
    ] = None,
    when: Annotated[
        str,
        typer.Option(
            "--when",
            metavar="TIME",
            help="At the demand expected then, by the domain's forecaster: +15m, 'tomorrow 18:00', RFC 3339.",
        ),
    ] = "",
    flow: Flow = None,
    name: Annotated[str, typer.Option("--name", help="What to call it in the report.")] = "",
    delay: Annotated[
        float | None, typer.Option("--delay", min=0, help="A reported flow over so many ms is a finding.")
    ] = None,
    loss: Annotated[
        float | None, typer.Option("--loss", min=0, max=1, help="So is one that loses more than this share.")
    ] = None,
    rung: Rung = "",
    no_residual: NoResidual = False,
    seed: Seed = None,
    deadline: Deadline = "",
    top: Top = 10,
    report: ReportFile = None,
    at: At = "",
    as_json: Json = False,
) -> None:
    """Predict what a change would do, before it is made.

    Delay, loss and throughput of every flow before and after, with 90 % intervals, and each domain's part.
    An agent answers about its own network, a broker across all. Nothing in the network is touched. Exit
    status 1 when there is no answer; a partial answer says so, on the screen and as `partial` in the JSON.
    """
    from federation.cli.shortcuts import Shortcuts, scenario_from

    shortcuts = Shortcuts(
        down=down or (),
        up=up or (),
        capacity=capacity or (),
        metric=metric or (),
        buffer=buffer or (),
        scheduler=scheduler or (),
        demand=demand or (),
        cell_load=cell_load or (),
        workers=workers or (),
    )
    if not scenario and not shortcuts.changes() and not when:
        raise click.UsageError("say what changes: a scenario file, or options such as --down LINK")
    asked = scenario_from(
        scenario, shortcuts, when=when or None, **_more(name, flow, rung, seed, no_residual)
    )
    _tell(_at_one_time(asked), deadline, delay, loss, at=at, as_json=as_json, page=report, top=top)


def sweep(
    *,
    scenario: Annotated[
        str,
        typer.Argument(
            metavar="[SCENARIO]",
            help="File with a sweep; - reads it from standard input.",
            show_default=False,
        ),
    ] = "",
    failures: Annotated[
        str, typer.Option("--failures", metavar="WHAT", help="One variant each: links, nodes or risk-groups.")
    ] = "",
    element: Annotated[
        Changes, typer.Option("--element", metavar="ID", help="Only these fail, one by one; repeatable.")
    ] = None,
    simultaneous: Annotated[
        int, typer.Option("--simultaneous", min=1, max=3, help="So many fail together.")
    ] = 1,
    down: Down = None,
    demand: Demand = None,
    flow: Flow = None,
    rung: Rung = "",
    no_residual: NoResidual = False,
    seed: Seed = None,
    deadline: Deadline = "",
    top: Top = 20,
    report: ReportFile = None,
    at: At = "",
    as_json: Json = False,
) -> None:
    """Rank many what-ifs, worst first.

    Every single failure with --failures, or what a scenario's `sweep` says: failures, a grid, random draws.
    """
    from federation.cli.shortcuts import Shortcuts, scenario_from

    swept: dict[str, Any] | None = None
    if failures or element:
        if failures and element:
            raise click.UsageError("--failures says what fails or --element names it; leave one out")
        which: dict[str, Any] = {"elements": element} if element else {"of": failures}
        swept = {"kind": "failures", "simultaneous": simultaneous, **which}
    if bool(scenario) == bool(swept):
        raise click.UsageError("say what to sweep: a scenario file, --failures links or --element LINK")
    shortcuts = Shortcuts(down=down or (), demand=demand or ())
    asked = scenario_from(scenario, shortcuts, sweep=swept, **_more("", flow, rung, seed, no_residual))
    if asked.sweep is None:
        raise click.UsageError(f"{scenario}: has no `sweep`; ask it with `fedtwin whatif`")
    _tell(asked, deadline, None, None, at=at, as_json=as_json, page=report, top=top)


def _more(name: str, flow: Changes, rung: str, seed: int | None, no_residual: bool) -> dict[str, Any]:
    from federation.cli.shortcuts import pair

    flows = [list(pair(text, "--flow")) for text in flow] if flow else None
    return {
        "name": name or None,
        "flows": flows,
        "rung": rung or None,
        "seed": seed,
        "residual": False if no_residual else None,
    }


def _at_one_time(scenario: Scenario) -> Scenario:
    """With `when` as RFC 3339: what is meant here, whatever clock and zone the one who answers has."""
    if scenario.when is None:
        return scenario
    import time

    from domain_twin.model.moments import moment
    from federation.cli.console import iso

    return scenario.model_copy(update={"when": iso(moment(scenario.when, time.time_ns()))})


def _tell(
    scenario: Scenario,
    deadline: str,
    delay: float | None,
    loss: float | None,
    *,
    at: str,
    as_json: bool,
    page: Path | None,
    top: int,
) -> None:
    from dataclasses import replace

    from domain_twin.model.job import Requirements
    from federation.cli.asking_jobs import answer
    from federation.cli.duration import nanoseconds
    from federation.cli.shortcuts import capability_of

    requirements = Requirements(delay_ms=delay, loss=loss)
    if deadline:
        requirements = replace(requirements, deadline_s=nanoseconds(deadline, "--deadline") / 1e9)
    job, found = answer(at, scenario, capability=capability_of(scenario), requirements=requirements)
    show(job, found, as_json=as_json, page=page, top=top)


def show(job: Job, report: Report, *, as_json: bool, page: Path | None, top: int) -> None:
    """Print a report, and write its page. Exit status 1 where its job did not come to its end.

    Raises ConfigError where the page cannot be written.
    """
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

        emit({**document(report), "state": job.state, "problem": job.problem})
    else:
        from rich.text import Text

        from federation.cli.forecast.text import report_block

        if job.problem:
            out().print(Text(f"{job.state.value}: {job.problem}", "bold red"))
        out().print(report_block(report, top=top))
    if job.state.value in ("FAILED", "CANCELLED"):
        raise typer.Exit(1)
