"""`fedtwin watch`: what happens in a twin, as it happens. Owns the live screens, nothing of the stream."""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING, Annotated

import typer

from federation.cli.options import At, Json
from federation.cli.register import command

if TYPE_CHECKING:
    from rich.console import RenderableType

    from domain_twin.model import Event, ServiceStatus
    from federation.client import TwinClient

_KEPT = 120
_SHOWN_EVENTS = 8


def add_to(app: typer.Typer) -> None:
    """Add the command of this file."""
    command(
        app,
        "watch",
        section="Ask the twin",
        example=(
            "fedtwin watch",
            "fedtwin watch --kind service --kind finding --events",
            "fedtwin watch --json",
        ),
    )(watch)


def watch(
    *,
    kind: Annotated[
        list[str] | None,
        typer.Option("--kind", help="domain, view, service, finding, alarm, device or change; repeatable."),
    ] = None,
    domain: Annotated[str, typer.Option("--domain", help="Only events about this domain.")] = "",
    events: Annotated[
        bool, typer.Option("--events", help="One line an event instead of the live table of services.")
    ] = False,
    limit: Annotated[int, typer.Option("--limit", help="Stop after so many events; 0: never.", min=0)] = 0,
    at: At = "",
    as_json: Json = False,
) -> None:
    """Watch what happens, as it happens.

    On a terminal a live table of services with their trend; else, or with --events, one line an event;
    with --json one JSON document a line. Ends by Ctrl-C.
    """
    import asyncio

    from federation.cli.console import out

    kinds = tuple(_kinds(kind or []))
    stream = events or as_json or bool(kinds) or bool(domain) or not out().is_terminal
    try:
        asyncio.run(_lines(at, kinds, domain, limit, as_json) if stream else _screen(at, limit))
    except KeyboardInterrupt:
        raise typer.Exit(0) from None


def _kinds(words: list[str]) -> list[str]:
    from domain_twin.model import EventKind

    for word in words:
        if word not in set(EventKind):
            raise typer.BadParameter(
                f"{word!r} is not a kind of event; there are {', '.join(EventKind)}", param_hint="--kind"
            )
    return words


async def _lines(at: str, kinds: tuple[str, ...], domain: str, limit: int, as_json: bool) -> None:
    from domain_twin.model import EventKind
    from federation.cli.console import emit_line, out
    from federation.cli.tables import event_line
    from federation.client import TwinClient

    seen = 0
    async with TwinClient.connect(at) as twin:
        async for event in twin.watch(kinds=tuple(EventKind(word) for word in kinds), domain=domain):
            if as_json:
                emit_line(event)
            else:
                out().print(event_line(event), soft_wrap=True)
            seen += 1
            if limit and seen >= limit:
                return


async def _screen(at: str, limit: int) -> None:
    from rich.live import Live

    from federation.cli.console import out
    from federation.client import TwinClient

    board = Board()
    async with TwinClient.connect(at) as twin:
        await board.load(twin)
        with Live(board.render(), console=out(), auto_refresh=False, transient=False) as live:
            seen = 0
            async for event in twin.watch():
                board.take(event)
                live.update(board.render(), refresh=True)
                seen += 1
                if limit and seen >= limit:
                    return


class Board:
    """What the live screen shows: services with their trend, and the last events."""

    def __init__(self) -> None:
        self._services: dict[str, ServiceStatus] = {}
        self._trend: dict[str, deque[float]] = {}
        self._events: deque[Event] = deque(maxlen=_SHOWN_EVENTS)

    async def load(self, twin: TwinClient) -> None:
        """Start from what is, so that a quiet network shows something."""
        for status in (await twin.services()).statuses:
            self._note(status)

    def take(self, event: Event) -> None:
        """Fold one event in."""
        new = event.service_status
        if new is not None:
            old = self._services.get(new.service.id)
            self._note(new)
            if old is not None and _character(old) == _character(new):
                return  # only new figures: the table shows them
        if event.kind.value not in {"view", "change"} and event.text:
            self._events.append(event)

    def render(self) -> RenderableType:
        """The screen as it is now."""
        from rich.console import Group
        from rich.text import Text

        from federation.cli.console import out
        from federation.cli.route import services_table
        from federation.cli.tables import event_line

        parts: list[RenderableType] = [
            services_table(list(self._services.values()), self._trend, out().width)
        ]
        if self._events:
            parts += [Text(), *(event_line(event) for event in self._events)]
        else:
            parts += [Text(), Text("No path, verdict, domain or finding has changed so far.", "dim")]
        parts += [Text(), Text("Ctrl-C ends", "dim")]
        return Group(*parts)

    def _note(self, status: ServiceStatus) -> None:
        self._services[status.service.id] = status
        delay = status.path.total.delay_ms if status.path else math.nan
        self._trend.setdefault(status.service.id, deque(maxlen=_KEPT)).append(delay)


def _character(status: ServiceStatus) -> tuple[int, bool | None]:
    """What has to differ for a change to be news: the path's metric, or the verdict."""
    return (status.path.total.metric if status.path else -1, status.met)
