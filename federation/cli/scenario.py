"""`fedtwin scenario`: scenarios in a partner's own twin, and verdicts. Owns options and tables of runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import click
import typer

from federation.cli.options import Api, Capacity, Changes, Demand, Json
from federation.cli.order import SECTION, STYLES, Timeout, Wait
from federation.cli.register import command, subgroup

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from twin_api.client import Definition, PartnerClient, Run, Threshold

Definable: TypeAlias = Annotated[
    str,
    typer.Argument(
        metavar="SCENARIO", help="Id of the scenario, the beginning of it, or its name.", show_default=False
    ),
]
RunId: TypeAlias = Annotated[
    str, typer.Argument(metavar="RUN", help="Id of the run, or the beginning of it.", show_default=False)
]


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    group = subgroup(
        app, "scenario", section=SECTION, help_text="Define and run what-ifs in one's twin; verdicts."
    )
    for name, function, example in (
        (
            "define",
            define,
            (
                "fedtwin scenario define cut --down urn:ndt:idl:k3x9 --delay 9",
                "fedtwin scenario define busy-day growth.yaml --loss 0.001",
            ),
        ),
        ("list", list_definitions, ("fedtwin scenario list",)),
        ("run", run, ("fedtwin scenario run cut --twin 'our lines'",)),
        ("runs", list_runs, ("fedtwin scenario runs", "fedtwin scenario runs --twin 'our lines' --json")),
        ("show", show, ("fedtwin scenario show 4f1c",)),
        ("cancel", cancel, ("fedtwin scenario cancel 4f1c",)),
    ):
        command(group, name, section=SECTION, group="scenario", example=example)(function)


def define(
    *,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call it.", show_default=False)],
    source: Annotated[
        str,
        typer.Argument(
            metavar="[FILE]",
            help="YAML or JSON file; - reads it from standard input. Options add changes.",
            show_default=False,
        ),
    ] = "",
    down: Annotated[
        Changes, typer.Option("--down", metavar="ELEMENT", help="It fails; repeatable, as all of these.")
    ] = None,
    capacity: Capacity = None,
    demand: Demand = None,
    flow: Annotated[
        Changes, typer.Option("--flow", metavar="FROM>TO", help="Measure between these end points.")
    ] = None,
    delay: Annotated[
        float | None,
        typer.Option("--delay", metavar="MS", min=0, help="A flow's delay stays within so many ms."),
    ] = None,
    loss: Annotated[
        float | None, typer.Option("--loss", min=0, max=1, help="A flow loses no more than this share.")
    ] = None,
    keep: Annotated[
        Changes,
        typer.Option(
            "--keep", metavar="METRIC<=N", help="Any other threshold: 'delayP99<=20', 'throughput>=5'."
        ),
    ] = None,
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, help="Seed of what is drawn at random.")
    ] = None,
    api: Api = "",
    as_json: Json = False,
) -> None:
    """Keep a scenario, and the thresholds that a run of it is judged by.

    It is written in the language of `fedtwin whatif`, and may name what the twin shows.
    """
    from federation.cli.asking_api import ask_api
    from federation.cli.console import emit, out
    from federation.cli.shortcuts import Shortcuts, pair, scenario_from

    shortcuts = Shortcuts(down=down or (), capacity=capacity or (), demand=demand or ())
    if not source and not shortcuts.changes():
        raise click.UsageError("say what changes: a scenario file, or options such as --down LINK")
    flows = [list(pair(text, "--flow")) for text in flow] if flow else None
    asked = scenario_from(source, shortcuts, name=name, flows=flows, seed=seed)
    document = asked.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    document["changes"] = [change.model_dump(mode="json", exclude_none=True) for change in asked.changes]
    judged = thresholds(delay, loss, keep or ())
    found = ask_api(api, lambda partner: partner.define(name, document, thresholds=judged), "keeping it")
    if as_json:
        emit(found.body)
        return
    out().print(f"{found.id}: {found.name}", markup=False)
    out().print(f"\nRun it: fedtwin scenario run {found.id} --twin TWIN", style="note", markup=False)


def list_definitions(
    *,
    top: Annotated[int, typer.Option("--top", min=1, help="So many at most, the newest.")] = 50,
    api: Api = "",
    as_json: Json = False,
) -> None:
    """List the scenarios that are kept, newest first."""
    from federation.cli.asking_api import ask_api, collected
    from federation.cli.console import emit, out

    found = ask_api(api, lambda partner: collected(partner.definitions(), top), "asking for the scenarios")
    if as_json:
        emit({"scenarios": [each.body for each in found]})
    elif found:
        out().print(definitions_table(found))
    else:
        out().print("No scenario is kept: `fedtwin scenario define --help`")


def run(
    *,
    scenario: Definable,
    twin: Annotated[str, typer.Option("--twin", metavar="TWIN", help="Where: a twin's id or name.")],
    seed: Annotated[
        int | None, typer.Option("--seed", min=0, help="Seed, where the scenario has none.")
    ] = None,
    deadline: Annotated[
        str, typer.Option("--deadline", metavar="DURATION", help="The run gives up after so long: 30s, 5m.")
    ] = "",
    wait: Wait = True,
    timeout: Timeout = "2m",
    api: Api = "",
    as_json: Json = False,
) -> None:
    """Run a scenario in a twin and read the verdict. Nothing in any network is touched.

    Exit status 1 where a threshold is not kept, or there is no verdict; Ctrl-C leaves the run to itself.
    """
    import asyncio

    from federation.cli import twin as twins
    from federation.cli.asking_api import waiting
    from federation.cli.order import overdue, seconds, words

    deadline_s = seconds(deadline, "--deadline") if deadline else None

    async def ran() -> Run:
        from twin_api.client import PartnerClient

        async with PartnerClient.connect(api) as partner:
            definition = await find(partner, scenario)
            place = await twins.find(partner, twin)
            begun = await partner.run(
                definition.id, place.id, name=definition.name, seed=seed, deadline_s=deadline_s
            )
            if not wait:
                return begun
            with waiting(f"run {begun.id}: {words(begun.state)}") as say:
                return await partner.finished(
                    begun,
                    timeout_s=seconds(timeout, "--timeout"),
                    told=lambda now: say(f"run {now.id}: {words(now.state)}"),
                )

    with overdue("the run"):
        found = asyncio.run(ran())
    _tell(found, as_json=as_json)
    if found.ended and not found.passed:
        raise typer.Exit(1)


def list_runs(
    *,
    twin: Annotated[str, typer.Option("--twin", metavar="TWIN", help="Only those in this twin.")] = "",
    top: Annotated[int, typer.Option("--top", min=1, help="So many at most, the newest.")] = 20,
    api: Api = "",
    as_json: Json = False,
) -> None:
    """List runs with their verdicts, newest first."""
    from federation.cli import twin as twins
    from federation.cli.asking_api import ask_api, collected
    from federation.cli.console import emit, out

    async def asked(partner: PartnerClient) -> list[Run]:
        filters = {"relatedService.id": (await twins.find(partner, twin)).id} if twin else {}
        return await collected(partner.runs(**filters), top)

    found = ask_api(api, asked, "asking for the runs")
    if as_json:
        emit({"runs": [each.body for each in found]})
    elif found:
        out().print(runs_table(found))
    else:
        out().print("Nothing was run yet: `fedtwin scenario run --help`")


def show(*, identity: RunId, api: Api = "", as_json: Json = False) -> None:
    """Show a run: its verdict, what was measured, which thresholds were not kept."""
    from federation.cli.asking_api import ask_api

    _tell(ask_api(api, lambda partner: find_run(partner, identity), "asking for the run"), as_json=as_json)


def cancel(*, identity: RunId, api: Api = "", as_json: Json = False) -> None:
    """Have a run end without results."""
    from federation.cli.asking_api import ask_api
    from federation.cli.console import emit, out
    from federation.cli.order import words

    async def asked(partner: PartnerClient) -> Run:
        return await partner.cancel_run((await find_run(partner, identity)).id)

    found = ask_api(api, asked, "cancelling")
    if as_json:
        emit(found.body)
    else:
        out().print(f"{found.id}: {words(found.state)}", markup=False)


async def find(partner: PartnerClient, identity: str) -> Definition:
    """The scenario with this id, beginning of one, or name. Raises ApiError, NotFound."""
    from federation.cli.asking_api import resolve

    return await resolve(identity, partner.definition, partner.definitions, "scenario")


async def find_run(partner: PartnerClient, identity: str) -> Run:
    """The run with this id or beginning of one. Raises ApiError, NotFound."""
    from federation.cli.asking_api import resolve

    return await resolve(identity, partner.run_of, partner.runs, "run")


def thresholds(delay: float | None, loss: float | None, more: list[str] | tuple[()]) -> list[Threshold]:
    """What runs are judged by, as the options say it. Raises BadParameter."""
    from twin_api.client import Threshold

    found = []
    if delay is not None:
        found.append(Threshold("delay", upper=delay, unit="ms"))
    if loss is not None:
        found.append(Threshold("loss", upper=loss))
    for text in more:
        sign = "<=" if "<=" in text else ">="
        metric, _, number = text.partition(sign)
        try:
            target = float(number)
        except ValueError:
            target = float("nan")
        if not metric.strip() or not abs(target) < float("inf"):
            raise click.BadParameter(
                f"{text!r} is not METRIC<=NUMBER or METRIC>=NUMBER; quote it for the shell",
                param_hint="--keep",
            )
        bound: dict[str, Any] = {"upper" if sign == "<=" else "lower": target}
        found.append(Threshold(metric.strip(), **bound))
    return found


def definitions_table(definitions: list[Definition]) -> Table:
    """Scenarios, one a row."""
    from federation.cli.tables import grid

    table = grid("scenario", "name", "status", "thresholds", wraps="thresholds")
    for each in definitions:
        kept = "; ".join(bounds(threshold) for threshold in each.thresholds)
        table.add_row(each.id[:13], each.name, each.status, kept)
    return table


def bounds(threshold: Threshold) -> str:
    """A threshold in short: `delay at most 12 ms`."""
    unit = f" {threshold.unit}" if threshold.unit not in ("", "1") else ""
    upper = f"at most {threshold.upper:g}{unit}" if threshold.upper is not None else ""
    lower = f"at least {threshold.lower:g}{unit}" if threshold.lower is not None else ""
    return f"{threshold.metric} {' and '.join(filter(None, (lower, upper)))}"


def runs_table(runs: list[Run]) -> Table:
    """Runs, one a row."""
    from rich.text import Text

    from federation.cli.order import words
    from federation.cli.tables import grid

    table = grid("run", "scenario", "twin", "state", "verdict", "remark", wraps="remark")
    for each in runs:
        table.add_row(
            each.id[:13],
            each.name or each.definition[:13],
            each.twin[:13],
            Text(words(each.state), STYLES.get(each.state, "")),
            verdict(each),
            each.violations[0].text if each.violations else each.problem,
        )
    return table


def verdict(found: Run) -> Text:
    """The verdict in its colour; empty where there is none yet."""
    from rich.text import Text

    style = {"pass": "good", "fail": "bad", "inconclusive": "warn"}.get(found.verdict, "")
    return Text({"pass": "passed", "fail": "failed"}.get(found.verdict, found.verdict), style)


def measures_table(found: Run) -> Table:
    """What a run measured; what was not kept stands out."""
    from rich.text import Text

    from federation.cli.tables import grid

    table = grid("measure", "of", "value", "", right=("value",), wraps="of")
    for each in found.measures:
        unit = f" {each.unit}" if each.unit not in ("", "1") else ""
        value = "none" if each.value is None else f"{each.value:.4g}{unit}"
        broken = bool(each.violations)
        table.add_row(
            each.metric, each.subject, Text(value, "bad" if broken else ""), "not kept" if broken else ""
        )
    return table


def _tell(found: Run, *, as_json: bool) -> None:
    from rich.text import Text

    from federation.cli.console import emit, out
    from federation.cli.order import words
    from federation.cli.tables import attributes_table

    if as_json:
        emit(found.body)
        return
    rows = {"run": found.id, "scenario": found.name, "twin": found.twin, "state": words(found.state)}
    out().print(attributes_table({name: value for name, value in rows.items() if value}))
    if found.measures:
        out().print()
        out().print(measures_table(found))
    out().print()
    if found.verdict:
        out().print(Text.assemble("verdict: ", verdict(found)))
    for each in found.violations:
        out().print(Text(each.text or each.name, "bad"))
    for remark in filter(None, (found.problem, *found.remarks)):
        out().print(Text(remark, "warn"))
