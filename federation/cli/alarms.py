"""The command for alarms: what is wrong, since when, and what a person says of it. Owns its options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import click
import typer

from federation.cli.options import At, Json
from federation.cli.register import command

if TYPE_CHECKING:
    from domain_twin.model import Alarm, OperatorState

_ID = "Id of the alarm, or the beginning of it."


def add_to(app: typer.Typer) -> None:
    """Add the command of this file."""
    command(
        app,
        "alarms",
        section="Ask the twin",
        example=(
            "fedtwin alarms --at .fedtwin/demo/transport/state/agent.sock",
            'fedtwin alarms --ack 3f2a --note "crew sent" --at .fedtwin/demo/transport/state/agent.sock',
        ),
    )(alarms)


def alarms(
    *,
    domain: Annotated[str, typer.Argument(help="One domain; default: all.", show_default=False)] = "",
    everything: Annotated[
        bool, typer.Option("--all", help="Also those that are cleared, closed or shelved.")
    ] = False,
    severity: Annotated[
        str,
        typer.Option(
            "--severity",
            metavar="WORD",
            help="Only this bad or worse: indeterminate, warning, minor, major, critical.",
        ),
    ] = "",
    show: Annotated[
        str, typer.Option("--show", metavar="ID", help="The life of one alarm, step by step.")
    ] = "",
    ack: Annotated[str, typer.Option("--ack", metavar="ID", help="Say that you look after it.")] = "",
    close: Annotated[
        str,
        typer.Option(
            "--close",
            metavar="ID",
            help="Say that you are done with it; it stays away until it is raised again.",
        ),
    ] = "",
    shelve: Annotated[
        str, typer.Option("--shelve", metavar="ID", help="Put it away, also when it is raised again.")
    ] = "",
    reopen: Annotated[str, typer.Option("--reopen", metavar="ID", help="Take any of these back.")] = "",
    note: Annotated[str, typer.Option("--note", metavar="TEXT", help="Words to go with it.")] = "",
    at: At = "",
    as_json: Json = False,
) -> None:
    """Show what is wrong, and say that you look after it.

    Alarms have a life (RFC 8632): raised, changed, cleared, raised again. An agent shows its devices' own
    alarms and what the twin found; a broker what stands between the domains. What you say of an alarm stays
    in the twin: no device is told.
    """
    from domain_twin.model import OperatorState

    said = {
        OperatorState.ACK: ack,
        OperatorState.CLOSED: close,
        OperatorState.SHELVED: shelve,
        OperatorState.NONE: reopen,
    }
    chosen = [(state, identity) for state, identity in said.items() if identity]
    if len(chosen) > 1:
        raise click.UsageError("one of --ack, --close, --shelve and --reopen at a time")
    if note and not chosen:
        raise click.UsageError("--note goes with --ack, --close, --shelve or --reopen")
    if chosen:
        _say(*chosen[0], note=note, at=at, as_json=as_json)
    elif show:
        _show(show, at=at, as_json=as_json)
    else:
        _list(domain, everything=everything, severity=severity, at=at, as_json=as_json)


def _list(domain: str, *, everything: bool, severity: str, at: str, as_json: bool) -> None:
    from domain_twin.model import PerceivedSeverity
    from federation.cli.asking import ask
    from federation.cli.console import count, emit, out

    if severity and severity not in set(PerceivedSeverity):
        raise click.BadParameter(
            f"{severity!r} is no severity; there are {', '.join(PerceivedSeverity)}",
            param_hint="--severity",
        )
    least = PerceivedSeverity(severity).rank if severity else 0
    found = ask(at, lambda twin: twin.alarms(domain, everything=everything), "asking for the alarms")
    shown = [alarm for alarm in found if alarm.severity.rank >= least]
    if as_json:
        emit({"alarms": [_document(alarm) for alarm in shown]})
        return
    from federation.cli.tables import alarms_table

    if not shown:
        out().print("Nothing is wrong: no alarms." if not everything else "There was never an alarm.")
        return
    out().print(alarms_table(shown))
    standing = sum(not alarm.is_cleared for alarm in shown)
    out().print(
        f"{count(standing, 'alarm')} standing" + (f", {len(shown) - standing} cleared" if everything else "")
    )


def _show(identity: str, *, at: str, as_json: bool) -> None:
    from federation.cli.asking import ask
    from federation.cli.console import emit, iso, out

    alarm = _named(identity, ask(at, lambda twin: twin.alarms(everything=True), "asking for the alarm"))
    if as_json:
        emit(_document(alarm))
        return
    from federation.cli.tables import alarms_table

    out().print(alarms_table([alarm]))
    for step in alarm.changes:
        out().print(f"  {iso(step.at)}  {step.severity.value if step.severity else 'cleared'}: {step.text}")
    if alarm.operator:
        out().print(
            f"  {alarm.operator_state.value} by {alarm.operator}" + (f": {alarm.note}" if alarm.note else "")
        )


def _say(state: OperatorState, identity: str, *, note: str, at: str, as_json: bool) -> None:
    from federation.cli.asking import ask
    from federation.cli.console import emit, out

    alarm = ask(at, lambda twin: twin.set_alarm_state(identity, state, note), "telling the twin")
    if as_json:
        emit(_document(alarm))
        return
    word = "open again" if state.value == "none" else state.value
    out().print(f"{alarm.id}: {word}: {alarm.text}")


def _named(identity: str, found: list[Alarm]) -> Alarm:
    matching = [alarm for alarm in found if alarm.id.startswith(identity)]
    if len(matching) != 1:
        raise click.UsageError(f"{len(matching)} alarms have ids that begin with {identity!r}")
    return matching[0]


def _document(alarm: Alarm) -> dict[str, object]:
    from federation.cli.console import plain

    document: dict[str, object] = {"id": alarm.id, **alarm.key._asdict(), **plain(alarm)}
    del document["key"]
    return document
