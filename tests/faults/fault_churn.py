"""The network that never rests: configuration edits and cut links all the time. Owns what was done and when.

Each domain has one marker: the metric of a border, which is set to a number never used before. Every value
that a twin shows of it says how old that twin's knowledge is.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Any

from fault_network import DOMAINS, FaultNetwork
from fault_truth import Devices

from domain_twin.errors import TwinError, Unreachable
from domain_twin.southbound.base import Edit
from domain_twin.southbound.devices import Changer, change_session

_METRIC = "/fedtwin-inter-domain:inter-domain/metric"


@dataclass(slots=True)
class Mark:
    """A value of a marker: in force at the latest from `acked` (inf: never confirmed), not before `sent`."""

    value: int
    sent: float
    acked: float


@dataclass(frozen=True, slots=True)
class Marker:
    """Where a domain's marker is: the leaf, and the point that peers know it by."""

    domain: str
    device: str
    path: str
    element: str
    point: str
    initial: int


class Churn:
    """Edits devices at random moments while it runs; pauses where equality is looked at."""

    def __init__(self, network: FaultNetwork, devices: Devices, rng: Random) -> None:
        self.markers: dict[str, Marker] = {}
        self.marks: dict[str, list[Mark]] = {}
        self.edits = 0
        self.failed = 0
        self.paused = asyncio.Event()
        self._network = network
        self._devices = devices
        self._rng = rng
        self._sessions: dict[str, Changer] = {}
        self._leaves: list[tuple[str, str, str, Any]] = []  # domain, device, path, value
        self._value = 20_000
        self._turn = asyncio.Lock()
        self._go = asyncio.Event()

    async def survey(self) -> None:
        """Find what can be edited, from the devices themselves."""
        for domain in DOMAINS:
            truth = await self._devices.read(domain)
            for (device, path), value in truth.leaves.items():
                if path.endswith(("/ietf-l3-unicast-topology:l3-link-attributes/metric1", "/prb-share")):
                    self._leaves.append((domain, device, path, value))
                if domain not in self.markers and path.endswith(_METRIC):
                    point = path.partition("[tp-id='")[2].partition("'")[0]
                    element = truth.elements[f"termination-point {point}"]
                    link = element.attributes["link-id"].rpartition(":")[2]
                    self.markers[domain] = Marker(
                        domain, device, path, point, f"{domain}/idl-{link}", int(str(value))
                    )
                    self.marks[domain] = [Mark(int(str(value)), 0.0, 0.0)]

    def start(self) -> None:
        """Edit from now on."""
        self._go.set()

    async def pause(self) -> None:
        """Return when no edit is under way; none follows."""
        self._go.clear()
        async with self._turn:
            return

    async def run(self) -> None:
        """Edit until cancelled."""
        try:
            while True:
                await asyncio.sleep(self._rng.uniform(0.02, 0.4))
                await self._go.wait()
                async with self._turn:
                    await self._one()
        finally:
            for session in self._sessions.values():
                with suppress(TwinError, OSError):
                    await session.close()

    async def mark(self, domain: str) -> int:
        """Give the domain's marker a new value. Raises TwinError: then it has one of the two."""
        marker = self.markers[domain]
        self._value += 1
        mark = Mark(self._value, time.monotonic(), float("inf"))
        self.marks[domain].append(mark)
        await self._edit(domain, marker.device, Edit(marker.path, self._value))
        mark.acked = time.monotonic()
        return mark.value

    async def mark_now(self, domain: str) -> None:
        """Set a domain's marker between two other edits. Raises TwinError, TimeoutError."""
        async with self._turn, asyncio.timeout(10):
            await self.mark(domain)

    def reset(self, since: float) -> None:
        """The devices started anew, at some time after `since`: markers have their first values."""
        for domain, marker in self.markers.items():
            self.marks[domain].append(Mark(marker.initial, since, time.monotonic()))

    def allowed(self, domain: str, start: float, end: float) -> set[int]:
        """The values that the marker may have had at some time from `start` to `end`."""
        values: set[int] = set()
        for mark in reversed(self.marks[domain]):
            if mark.sent <= end:
                values.add(mark.value)
            if mark.acked < start:
                break
        return values

    async def _one(self) -> None:
        self.edits += 1
        try:
            async with asyncio.timeout(10):
                kind = self._rng.random()
                if kind < 0.5:
                    await self.mark(self._rng.choice(DOMAINS))
                elif kind < 0.85:
                    domain, device, path, _ = self._rng.choice(self._leaves)
                    share = path.endswith("prb-share")
                    value = f"0.{self._rng.randint(5, 9)}" if share else str(self._rng.randint(900, 9000))
                    await self._edit(domain, device, Edit(path, value if share else int(value)))
                else:
                    async with self._network.control() as control:
                        link = self._rng.choice(("gnb-1-gnb-2", "upf-1-upf-2", "host-1-host-2"))
                        await control.inject("link-cut", link=link, duration_s=self._rng.uniform(0.1, 1.0))
        except (TwinError, OSError, TimeoutError):
            self.failed += 1  # a device that is stopped or gone: part of the exercise

    async def _edit(self, domain: str, device: str, edit: Edit) -> None:
        name = f"{domain}/{device}"
        kept = self._sessions.pop(name, None)
        if kept is not None:
            try:
                await self._apply(name, kept, edit)
            except Unreachable:
                pass  # the session ended with a device of before: a new one will tell
            else:
                return
        config = self._network.devices(domain)[device]
        await self._apply(name, change_session(config, await self._devices.schema(domain)), edit)

    async def _apply(self, name: str, session: Changer, edit: Edit) -> None:
        try:
            await session.edit([edit])
        except BaseException:
            with suppress(TwinError, OSError):
                await session.close()
            raise
        self._sessions[name] = session
