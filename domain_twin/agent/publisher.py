"""What leaves the domain, and when: one view per agreement and level, rebuilt when the network changes.

Owns the rhythm: a change leaves at once when the last one is `interval_s` ago, else together with the others
of that time; figures alone (every device measures each second) gather for `figures_interval_s`. What a view
may show was decided by `disclosure`; this is where it is carried out.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import secrets
import time
from collections.abc import Callable, Mapping

from domain_twin.disclosure.policy import Grant
from domain_twin.disclosure.views import ViewBuilder
from domain_twin.errors import NotShared
from domain_twin.model import Finding, Level, Nanoseconds, Network, Version, View, ViewDelta

log = logging.getLogger(__name__)

_LOOK_EVERY_S = 1.0


class Publisher:
    """Keeps the views that peers asked for up to date. `send` gets every delta, with the ask it answers."""

    def __init__(
        self,
        *,
        network: Callable[[], Network],
        published: Mapping[str, str],
        interval_s: float,
        figures_interval_s: float,
        send: Callable[[ViewDelta], None],
        clock: Callable[[], Nanoseconds] = time.time_ns,
    ) -> None:
        self._network = network
        self._published = published
        self._interval_s = interval_s
        self._figures_interval_s = figures_interval_s
        self.on_expired: Callable[[str, Level], None] = lambda *_: None
        """Told when an agreement has ended, with the level of its view: nothing more of it is sent."""
        self.on_views: Callable[[], None] = lambda: None
        """Told that a view was opened, has changed or is made no more."""
        self._send = send
        self._clock = clock
        self._opened = asyncio.Event()
        self._changed = asyncio.Event()
        self._urgent = asyncio.Event()
        self._building = asyncio.Lock()  # a builder is for one thread at a time
        self._builders: dict[tuple[str, Level], tuple[ViewBuilder, Grant]] = {}
        # Risk tokens and epochs are of this run: what was seen in one cannot be linked with another.
        self._salt = secrets.token_bytes(16)

    def notify(self, *, urgent: bool) -> None:
        """The network changed; `urgent` when by more than figures."""
        self._changed.set()
        if urgent:
            self._urgent.set()

    async def open(self, grant: Grant, resume_from: Version | None) -> list[ViewDelta]:
        """The first deltas of a view: what the peer lacks since `resume_from`, else a snapshot.

        Later ones go to `send` by themselves.
        """
        key = (grant.agreement, grant.level)
        async with self._building:
            held = self._builders.get(key)
            if held is None or held[1] != grant:
                builder = ViewBuilder(
                    grant, published=self._published, risk_salt=self._salt, epoch=secrets.token_hex(8)
                )
                # A cold search of a large domain takes a third of a second: not on the loop.
                await asyncio.to_thread(builder.update, self._network(), now=self._clock())
                self._builders[key] = held = (builder, grant)
                self._opened.set()
                self.on_views()
            # Without a pause until the peer has them: what `send` gets next follows these.
            return held[0].resume(resume_from)

    def view(self, agreement: str) -> View:
        """The finest view open under an agreement, as last built. Raises NotShared when there is none."""
        for level in (Level.NATIVE, Level.MESH, Level.NODE):
            held = self._builders.get((agreement, level))
            if held is not None and held[0].view is not None:
                return held[0].view
        raise NotShared(f"no view was asked for under {agreement!r}; ask for one first")

    def close(self, agreement: str, level: Level) -> None:
        """Make this view no more."""
        self._builders.pop((agreement, level), None)
        self.on_views()

    def open_views(self) -> dict[tuple[str, Level], tuple[Grant, View]]:
        """The views that are open, as last built, by agreement and level."""
        return {
            key: (grant, builder.view)
            for key, (builder, grant) in self._builders.items()
            if builder.view is not None
        }

    def findings(self) -> list[Finding]:
        """What the owner should see about what its views can and cannot show."""
        found = {f.code + f.element: f for builder, _ in self._builders.values() for f in builder.findings()}
        return list(found.values())

    async def run(self) -> None:
        """Rebuild, send and end what has expired, until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._rebuild())
            tasks.create_task(self._mind_expiry())

    async def _mind_expiry(self) -> None:
        """End views at the moment at which their agreements do, though nothing changes and nobody asks."""
        while True:
            self._opened.clear()
            now = self._clock()
            ends = []
            for (agreement, level), (_, grant) in list(self._builders.items()):
                if grant.expires_at is None:
                    continue
                if now >= grant.expires_at:
                    log.info("agreement expired", extra={"agreement": agreement})
                    self.close(agreement, level)
                    self.on_expired(agreement, level)
                else:
                    ends.append(grant.expires_at)
            # Looked at every second: the clock may be set.
            wait_s = min((min(ends) - now) / 1e9, _LOOK_EVERY_S) if ends else math.inf
            await _set_within(self._opened, max(wait_s, 0.001))

    async def _rebuild(self) -> None:
        started = -math.inf
        while True:
            await self._wait()
            await _set_within(self._urgent, started + self._figures_interval_s - time.monotonic())
            await asyncio.sleep(started + self._interval_s - time.monotonic())
            self._changed.clear()
            self._urgent.clear()
            started = time.monotonic()
            network = self._network()
            now = self._clock()
            for key, (builder, grant) in list(self._builders.items()):
                if grant.expires_at is not None and now >= grant.expires_at:
                    self._opened.set()  # `_mind_expiry` sees to it
                    continue
                async with self._building:
                    delta = await asyncio.to_thread(builder.update, network, now=now)
                    if delta is not None and self._builders.get(key, (None,))[0] is builder:
                        self._send(delta)
                        self.on_views()

    async def _wait(self) -> None:
        due = [b.due_at for b, _ in self._builders.values() if b.due_at is not None]
        await _set_within(self._changed, (min(due) - self._clock()) / 1e9 if due else math.inf)


async def _set_within(event: asyncio.Event, timeout_s: float) -> None:
    """Return when the event is set, at the latest after that time."""
    if timeout_s > 0 and not event.is_set():
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s if math.isfinite(timeout_s) else None):
                await event.wait()
