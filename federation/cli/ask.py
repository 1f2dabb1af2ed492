"""Commands that ask a twin what is: domains, devices, view, path, services, findings, mapping."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import click
import typer

from federation.cli import completion
from federation.cli.options import At, Json
from federation.cli.register import command

if TYPE_CHECKING:
    from domain_twin.model import Level, View

SECTION = "Ask the twin"


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    command(app, "domains", section=SECTION, example="fedtwin domains")(domains)
    command(
        app,
        "devices",
        section=SECTION,
        example="fedtwin devices --at .fedtwin/demo/transport/state/agent.sock",
    )(devices)
    command(
        app,
        "view",
        section=SECTION,
        example=("fedtwin view transport", "fedtwin view --level node --json"),
    )(view)
    command(
        app,
        "path",
        section=SECTION,
        example=(
            "fedtwin path ran/cell-1 edge/host-1",
            "fedtwin path ran/cell-1 edge/host-1 --best --bandwidth 50 --delay 10 -k 2 --disjoint",
        ),
    )(path)
    command(app, "services", section=SECTION, example="fedtwin services")(services)
    command(app, "findings", section=SECTION, example="fedtwin findings transport")(findings)
    command(app, "mapping", section=SECTION, example="fedtwin mapping cell")(mapping)


def domains(*, at: At = "", as_json: Json = False) -> None:
    """Show who takes part, and how much of each stays hidden."""
    from federation.cli.asking import ask
    from federation.cli.console import emit, out

    found = ask(at, lambda twin: twin.domains(), "asking for the domains")
    if as_json:
        emit({"domains": found})
        return
    from rich.text import Text

    from federation.cli.tables import domains_table

    if not found:
        out().print("No domain has joined yet.")
        return
    out().print(domains_table(found))
    for each in found:
        if each.problem:
            out().print(Text.assemble((each.domain, "bold"), f": {each.problem}"))


def devices(*, at: At = "", as_json: Json = False) -> None:
    """Show how well each device is mirrored.

    Only an operator's own agent knows its devices; a broker never does.
    """
    from federation.cli.asking import ask
    from federation.cli.console import emit, out

    found = ask(at, lambda twin: twin.devices(), "asking for the devices")
    if as_json:
        emit({"devices": found})
        return
    from rich.text import Text

    from federation.cli.tables import devices_table

    if not found:
        out().print(
            "This twin sees no devices: a broker never does. Ask an agent: --at its state folder's agent.sock"
        )
        return
    out().print(devices_table(found))
    for each in found:
        if each.problem:
            out().print(Text.assemble((each.name, "bold"), f": {each.problem}"))


def view(
    *,
    domain: Annotated[str, typer.Argument(help="One domain; default: all.", show_default=False)] = "",
    level: Annotated[str, typer.Option("--level", help="node, mesh or native.", metavar="LEVEL")] = "",
    segments: Annotated[
        bool, typer.Option("--segments/--no-segments", help="Whether to list what lies between the points.")
    ] = True,
    at: At = "",
    as_json: Json = False,
) -> None:
    """Show what this twin sees of a domain.

    Points, what lies between them, and how much stays hidden.
    """
    from federation.cli.asking import ask
    from federation.cli.console import emit, out

    wanted = _level(level)
    views = ask(at, lambda twin: twin.views(domain, level=wanted), "asking for the view")
    if as_json:
        emit({"views": [_view_document(each) for each in views]})
        return
    if not views:
        out().print(f"No view of {domain}." if domain else "No view of any domain yet.")
    for each in views:
        _show_view(each, segments)


def _view_document(view: View) -> dict[str, object]:
    from federation.cli.console import plain

    document: dict[str, object] = plain(view)
    document["points"] = plain(list(view.points.values()))
    document["segments"] = plain(list(view.segments.values()))
    return document


def _show_view(view: View, with_segments: bool) -> None:
    from rich.text import Text

    from federation.cli.console import count, out
    from federation.cli.tables import name_of, points_table, segments_table

    hidden = f"{count(view.hidden_nodes, 'node')} and {count(view.hidden_links, 'link')} stay hidden"
    out().print(
        Text.assemble(
            name_of(view.domain),
            (f"  level {view.level.value}, version {view.version.sequence}", "dim"),
            f"  {hidden}",
        )
    )
    out().print(points_table(view))
    if with_segments and view.segments:
        out().print()
        out().print(segments_table(list(view.segments.values())))
    out().print()


def _level(text: str) -> Level | None:
    from domain_twin.model import Level

    if not text:
        return None
    try:
        return Level(text)
    except ValueError as error:
        raise click.BadParameter(
            f"{text!r} is not a level; choose node, mesh or native", param_hint="--level"
        ) from error


def path(
    *,
    source: Annotated[
        str, typer.Argument(metavar="FROM", help="Point DOMAIN/NAME.", autocompletion=completion.points)
    ],
    target: Annotated[
        str, typer.Argument(metavar="TO", help="Point DOMAIN/NAME.", autocompletion=completion.points)
    ],
    best: Annotated[
        bool,
        typer.Option("--best/--current", help="What could be provisioned / what the devices forward now."),
    ] = False,
    bandwidth: Annotated[
        float | None, typer.Option("--bandwidth", help="Rate it must carry, Mbit/s.", min=0)
    ] = None,
    delay: Annotated[float | None, typer.Option("--delay", help="Largest mean delay, ms.", min=0)] = None,
    loss: Annotated[
        float | None, typer.Option("--loss", help="Largest share of packets lost.", min=0, max=1)
    ] = None,
    alternatives: Annotated[int, typer.Option("-k", help="How many alternatives.", min=1, max=32)] = 1,
    disjoint: Annotated[
        bool, typer.Option("--disjoint", help="A pair of paths that share no risk of failing together.")
    ] = False,
    at: At = "",
    as_json: Json = False,
) -> None:
    """Find the path between two points across all domains.

    Hop by hop, with delay, loss and bandwidth. Exit status 1 when there is none.
    """
    from domain_twin.model import PathMode, Requirement
    from federation.cli.asking import ask
    from federation.cli.console import emit, out

    mode = PathMode.BEST if best else PathMode.CURRENT
    requirement = Requirement(delay_ms=delay, bandwidth_mbps=bandwidth, loss=loss)

    answer = ask(
        at,
        lambda twin: twin.path(
            source,
            target,
            mode=mode,
            requirement=requirement,
            alternatives=alternatives,
            disjoint=disjoint,
        ),
        "searching the path",
    )
    if as_json:
        emit(answer)
    else:
        from federation.cli.route import answer_block

        out().print(answer_block(answer))
    if not answer.paths:
        raise typer.Exit(1)


def services(
    *,
    name: Annotated[
        str,
        typer.Argument(
            help="Id or name of one service; default: all.",
            show_default=False,
            autocompletion=completion.services,
        ),
    ] = "",
    at: At = "",
    as_json: Json = False,
) -> None:
    """Show what each service was promised, and what it gets now.

    A single service also shows its path, and who uses how much of its delay budget.
    """
    from federation.cli.asking import ask
    from federation.cli.console import emit, out

    found = ask(at, lambda twin: twin.services(name), "asking for the services")
    if as_json:
        emit(found)
        return
    from federation.cli.route import service_block, services_table

    if not found.statuses:
        out().print("There are no services; a broker reads them from the file `services` in broker.toml.")
    elif len(found.statuses) == 1 or name:
        for status in found.statuses:
            out().print(service_block(status))
    else:
        out().print(services_table(found.statuses))


def findings(
    *,
    domain: Annotated[str, typer.Argument(help="One domain; default: all.", show_default=False)] = "",
    at: At = "",
    as_json: Json = False,
) -> None:
    """Show what a person should look at.

    Each finding says what would make it go away.
    """
    from federation.cli.asking import ask
    from federation.cli.console import emit, out

    found = ask(at, lambda twin: twin.findings(domain), "asking for the findings")
    if as_json:
        emit({"findings": found})
        return
    from federation.cli.tables import findings_table

    out().print(findings_table(found) if found else "Nothing to look at: no findings.")


def mapping(
    *,
    word: Annotated[
        str, typer.Argument(help="Only rows with this word, such as cell or delay.", show_default=False)
    ] = "",
    as_json: Json = False,
) -> None:
    """Show which YANG path feeds which attribute of the model."""
    from domain_twin.mapping.tables import describe
    from federation.cli.console import emit, out

    rows = [
        {"path": path, "element": element, "attribute": attribute, "unit": unit}
        for path, element, attribute, unit in describe()
        if word.lower() in f"{path} {element} {attribute}".lower()
    ]
    if as_json:
        emit({"mapping": rows})
        return
    from itertools import groupby

    from rich.text import Text

    from federation.cli.tables import grid

    if not rows:
        out().print(f"No row has the word {word!r}.")
        return
    table = grid("element", "attribute", "unit", "YANG path", wraps="YANG path")
    for element, group in groupby(
        sorted(rows, key=lambda row: row["element"]), key=lambda row: row["element"]
    ):
        for number, row in enumerate(group):
            first = Text(element if number == 0 else "", "bold")
            table.add_row(first, row["attribute"], "" if row["unit"] == "1" else row["unit"], row["path"])
    out().print(table)
