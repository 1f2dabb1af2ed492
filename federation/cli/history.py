"""`fedtwin history`: what was. Owns the table and the plot of a series; asks the twin for the values."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Annotated

import typer

from federation.cli import completion
from federation.cli.options import At, Json, Last
from federation.cli.register import command

if TYPE_CHECKING:
    from domain_twin.model import Sample, ServiceStatus


def add_to(app: typer.Typer) -> None:
    """Add the command of this file."""
    command(
        app,
        "history",
        section="Go back in time",
        example=(
            "fedtwin history factory-control --last 10m --plot",
            "fedtwin history warsaw --at .fedtwin/demo/transport/state/agent.sock --last 5m \\",
            "    \"/ietf-interfaces:interfaces/interface[name='eth0']/statistics/in-octets\"",
            "fedtwin history export /tmp/last-week --at .fedtwin/demo/transport/state/agent.sock --last 7d",
        ),
    )(history)


def history(
    *,
    subject: Annotated[
        str,
        typer.Argument(
            metavar="SERVICE|DEVICE|export",
            help="A service, a device, or the word export.",
            autocompletion=completion.services,
        ),
    ],
    path: Annotated[
        str,
        typer.Argument(
            metavar="[PATH]", help="With a device: its leaf; with export: a new folder.", show_default=False
        ),
    ] = "",
    last: Last = "10m",
    step: Annotated[
        str, typer.Option("--step", help="One value for each such interval; default: every change.")
    ] = "",
    plot: Annotated[bool, typer.Option("--plot", help="Draw it.")] = False,
    start_at: Annotated[
        str, typer.Option("--from", metavar="TIME", help="Export from this ISO 8601 time on, UTC.")
    ] = "",
    end_at: Annotated[str, typer.Option("--to", metavar="TIME", help="Export up to this time.")] = "",
    pattern: Annotated[str, typer.Option("--path", help="Export only leaves of this pattern.")] = "/",
    device: Annotated[str, typer.Option("--device", help="Export only this device.")] = "",
    as_csv: Annotated[bool, typer.Option("--csv", help="Export CSV instead of Parquet.")] = False,
    at: At = "",
    as_json: Json = False,
) -> None:
    """Show how a service or a leaf did over time, or export it all.

    An export needs an agent, running (--at its socket) or stopped (--at its agent.toml or state folder).
    """
    from federation.cli.asking import ask
    from federation.cli.console import emit, out
    from federation.cli.duration import moment, nanoseconds

    end = time.time_ns()
    start = end - nanoseconds(last, "--last")
    every = nanoseconds(step, "--step") if step else 0
    if subject == "export":
        from federation.cli.exporting import export_history

        export_history(
            at,
            path,
            start=moment(start_at, "--from") if start_at else start,
            end=moment(end_at, "--to") if end_at else end,
            pattern=pattern,
            device=device,
            as_csv=as_csv,
            as_json=as_json,
        )
        return
    if every:
        start -= start % every  # whole steps: they can be read from what is rolled up
    if path:
        samples = ask(
            at,
            lambda twin: twin.series(subject, path, start=start, end=end, step=every),
            "reading the history",
        )
        if as_json:
            emit({"device": subject, "path": path, "samples": samples})
            return
        _show_samples(samples, plot, last)
        return
    statuses, events = ask(
        at, lambda twin: twin.service_history(subject, start=start, end=end), "reading the history"
    )
    if every:
        statuses = _thin(statuses, every)
    if as_json:
        emit({"service": subject, "statuses": statuses, "events": events})
        return
    if not statuses:
        out().print(f"Nothing is known of {subject} in the last {last}.")
        return
    if not plot:
        _show_statuses(statuses)
        return
    from federation.cli.plots import service_plot
    from federation.cli.route import turning_points
    from federation.cli.tables import event_line

    turns = turning_points(events, subject)
    out().print(service_plot(statuses, turns, width=out().width))
    for event in turns:
        out().print(event_line(event))


def _thin(statuses: list[ServiceStatus], every: int) -> list[ServiceStatus]:
    """The last status of each interval: what held at its end."""
    return list({status.at // every: status for status in statuses}.values())


def _show_samples(samples: list[Sample], plot: bool, last: str) -> None:
    from federation.cli.console import out
    from federation.cli.plots import series_plot
    from federation.cli.tables import samples_table

    if not samples:
        out().print(f"No value in the last {last}.")
    elif plot:
        out().print(series_plot([(s.at, s.value) for s in samples], width=out().width))
    else:
        out().print(samples_table(samples))


def _show_statuses(statuses: list[ServiceStatus]) -> None:
    from federation.cli.console import clock, ms, out
    from federation.cli.route import chain, verdict_of
    from federation.cli.tables import grid

    table = grid("at", "delay", "verdict", "path", "because", right=("delay",), wraps="because")
    for status in statuses:
        delay = status.path.total.delay_ms if status.path else math.nan
        table.add_row(
            clock(status.at),
            ms(delay),
            verdict_of(status),
            chain(status.path) if status.path else "",
            status.cause,
        )
    out().print(table)
