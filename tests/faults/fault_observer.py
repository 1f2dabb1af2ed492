"""Looks at the twins all the time, as operators and engineers would, and judges each answer by itself.

Owns what must never be seen: an answer that rests on a lost domain or device and does not say so, and a value
without a mark that is not, and has not lately been, the device's. `Loss` says what a fault took away; how
long it took until the twins said so is measured here.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from fault_churn import Churn
from fault_network import DOMAINS, PAIRS, FaultNetwork

from domain_twin.errors import NoPath, NotFound, TwinError
from domain_twin.model import (
    Connection,
    DeviceStatus,
    DomainOutcome,
    DomainStatus,
    Element,
    Hop,
    Outcome,
    PathAnswer,
    ServiceStatus,
    View,
)
from federation.client import TwinClient

LOOK_EVERY_S = 0.12
UNMARKED_S = 12.0
"""A value without a mark was in force this lately, or it is wrong. Generous: the machine may be busy."""
NOTICE_S = 30.0
"""A loss that nobody has marked after this long is not noticed at all."""


@dataclass(eq=False, slots=True)
class Loss:
    """Something that is gone: a domain for the broker, or a device (all: empty) for its agent."""

    domain: str
    device: str | None = None  # None: the domain's session with the broker
    unheard: bool = False  # and the agent hears no device meanwhile
    began: float = 0.0
    noticed: float = 0.0  # marked in every part
    ended: float = 0.0
    marked: dict[str, float] = field(default_factory=dict)  # by whom, since when: the agent, the broker

    @property
    def what(self) -> str:
        """In words."""
        if self.device is None:
            return f"the domain {self.domain}"
        return f"{self.domain}'s {self.device or 'devices'}"

    @property
    def parts(self) -> dict[str, frozenset[str]]:
        """Who has to mark it, and the processes and links without which that one cannot."""
        if self.device is None:
            return {"broker": frozenset({"broker"})}
        agent, session = f"agent-{self.domain}", f"{self.domain}>broker"
        return {self.domain: frozenset({agent}), "broker": frozenset({agent, session, "broker"})}


@dataclass(slots=True)
class Look:
    """What the twins said at one moment: an answer is None where nobody answered."""

    part: str  # who was asked: "broker", or the agent of a domain
    start: float
    end: float = 0.0
    domains: dict[str, DomainStatus] | None = None
    views: dict[str, View] = field(default_factory=dict)
    paths: list[PathAnswer] = field(default_factory=list)
    services: list[ServiceStatus] = field(default_factory=list)
    devices: dict[str, dict[str, DeviceStatus]] = field(default_factory=dict)
    elements: dict[str, list[Element]] = field(default_factory=dict)


class Observer:
    """Looks, and keeps what was wrong."""

    def __init__(self, network: FaultNetwork, churn: Churn, points: dict[str, dict[str, set[str]]]) -> None:
        """`points`: for each domain, the points of its view that rest on each device."""
        self.wrong: list[str] = []
        self.seen = 0  # of these; what is wrong again counts again
        self.looks = 0
        self.answers = 0
        self.unavailable: dict[str, float] = {}  # processes and links that are away, since when
        self.recovered: dict[str, float] = {}
        self._network = network
        self._churn = churn
        self._points = points
        self._losses: set[Loss] = set()
        self._unmarked: dict[Loss, str] = {}
        self._news = asyncio.Event()

    def lose(self, losses: Iterable[Loss]) -> None:
        """These are gone from now on."""
        for loss in losses:
            loss.began = time.monotonic()
            self._losses.add(loss)

    def regain(self, losses: Iterable[Loss]) -> None:
        """These are there again, or will be: nothing is expected of them any more."""
        for loss in losses:
            loss.ended = time.monotonic()
            self._losses.discard(loss)

    async def noticed(self, losses: Iterable[Loss], within_s: float = NOTICE_S) -> None:
        """Return when every loss is marked wherever it shows. Raises AssertionError naming what is not."""
        wanted = list(losses)
        try:
            async with asyncio.timeout(within_s):
                while waiting := [loss for loss in wanted if self._missing(loss)]:
                    self._news.clear()
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(
                f"{waiting[0].what} was lost {within_s:g} s ago, and an answer does not say so:"
                f" {self._unmarked.get(waiting[0], 'nobody could be asked')}"
            ) from None

    async def run(self) -> None:
        """Look until cancelled; at each twin by itself, so that one that hangs holds up no other."""
        async with asyncio.TaskGroup() as tasks:
            for part in ("broker", *DOMAINS):
                tasks.create_task(self._follow(part))

    async def _follow(self, part: str) -> None:
        """Look at one twin over one connection until that breaks, then over another one."""
        while True:
            try:
                async with (
                    self._network.broker(timeout_s=2.0)
                    if part == "broker"
                    else self._network.agent(part, timeout_s=2.0)
                ) as twin:
                    while True:
                        await self._look(twin, Look(part, time.monotonic()))
                        await asyncio.sleep(LOOK_EVERY_S)
            except (TwinError, OSError):
                self._news.set()  # nobody answers: that is no wrong answer
                await asyncio.sleep(LOOK_EVERY_S)

    async def _look(self, twin: TwinClient, look: Look) -> None:
        self.looks += 1
        await (self._ask_broker(twin, look) if look.part == "broker" else self._ask_agent(twin, look))
        self.answers += 1
        look.end = time.monotonic()
        self._judge(look)
        self._news.set()

    # --- looking

    async def _ask_broker(self, twin: TwinClient, look: Look) -> None:
        before = {status.domain: status for status in await twin.domains()}
        look.views = {view.domain: view for view in await twin.views()}
        for source, target in PAIRS[:2]:
            try:
                look.paths.append(await twin.path(source, target))
            except (NoPath, NotFound):
                continue
        look.services = list((await twin.services()).statuses)
        after = {status.domain: status for status in await twin.domains()}
        look.domains = {
            name: status for name, status in after.items() if status.connected == before[name].connected
        }

    async def _ask_agent(self, twin: TwinClient, look: Look) -> None:
        domain = look.part
        before = {status.name: status for status in await twin.devices()}
        look.elements[domain] = await twin.elements(domain)
        after = {status.name: status for status in await twin.devices()}
        look.devices[domain] = {
            name: status  # lost all the time, and not lost again
            for name, status in after.items()
            if (status.connection, status.reconnects) == (before[name].connection, before[name].reconnects)
        }

    # --- judging

    def _judge(self, look: Look) -> None:
        for complaint in (*self._inconsistent(look), *self._outdated(look)):
            self._complain(complaint)
        for loss in list(self._losses):
            if look.start < loss.began or not self._observable(loss, look.part, look.start):
                continue
            if look.part == "broker" and loss.device is not None and loss.domain not in loss.marked:
                continue  # a view may be stale for reasons of its own: the agent is first to know a device
            unmarked = self._not_said(loss, look)
            if unmarked and look.part in loss.marked:
                self._complain(f"{loss.what} is lost and was marked so; then it was not: {unmarked}")
            if unmarked:
                self._unmarked[loss] = unmarked
                continue
            loss.marked.setdefault(look.part, look.end)
            if not loss.noticed and not self._missing(loss):
                loss.noticed = look.end

    def _complain(self, text: str) -> None:
        if text.partition("=")[0] not in {each.partition("=")[0] for each in self.wrong[self.seen :]}:
            self.wrong.append(text)

    def _observable(self, loss: Loss, part: str, at: float) -> bool:
        """Whether `part` has to mark the loss, and could at that time."""
        return part in loss.parts and not any(
            name in self.unavailable or self.recovered.get(name, 0.0) > at for name in loss.parts[part]
        )

    def _missing(self, loss: Loss) -> list[str]:
        """Who has not marked a loss yet, and could."""
        now = time.monotonic()
        return [p for p in loss.parts if p not in loss.marked and self._observable(loss, p, now)]

    @staticmethod
    def _inconsistent(look: Look) -> Iterable[str]:
        """Marks that the twins' own words demand: what is not connected is stale, in every answer."""
        for domain, status in (look.domains or {}).items():
            if not status.connected:
                yield from (f"broker: {text}" for text in _fresh_parts(look, domain))
        for domain, statuses in look.devices.items():
            lost = {n for n, s in statuses.items() if s.connection is not Connection.SYNCHRONISED}
            for element in look.elements[domain]:
                if element.attributes.get("device") in lost and not element.stale:
                    yield f"{domain}: {element.kind} {element.id} is not stale, though its device is lost"

    def _outdated(self, look: Look) -> Iterable[str]:
        """Markers without a mark that have a value which they did not lately have."""
        since = look.start - UNMARKED_S
        for domain, marker in self._churn.markers.items():
            allowed = self._churn.allowed(domain, since, look.end)
            for element in look.elements.get(domain, ()):
                if element.id == marker.element and not element.stale:
                    value = int(element.attributes.get("metric", "-1"))
                    if value not in allowed:
                        yield f"{domain}: {element.id} metric = {value} unmarked; was {sorted(allowed)[-3:]}"
            view = look.views.get(domain)
            point = view.points.get(marker.point) if view else None
            if point and not point.stale and point.metric not in allowed:
                yield f"broker: {point.id} metric = {point.metric} unmarked; was {sorted(allowed)[-3:]}"

    def _not_said(self, loss: Loss, look: Look) -> str:
        """What rests on a loss without saying so; empty: nothing does."""
        if loss.device is None:
            return next(iter(_fresh_parts(look, loss.domain)), "")
        for name, status in look.devices.get(loss.domain, {}).items():
            if loss.device in ("", name) and status.connection is Connection.SYNCHRONISED:
                return f"{loss.domain}: device {name} is {status.connection}"
        for element in look.elements.get(loss.domain, ()):
            device = element.attributes.get("device", "")
            if device and loss.device in ("", device) and not element.stale:
                return f"{loss.domain}: {element.kind} {element.id} is not stale"
        if view := look.views.get(loss.domain):
            for device, points in self._points[loss.domain].items():
                for name in points if loss.device in ("", device) else ():
                    if name in view.points and not view.points[name].stale:
                        return f"broker: point {name} is not stale"
        return ""


def _fresh_parts(look: Look, domain: str) -> Iterable[str]:
    """Answers of the broker that use a domain without saying that it is not there."""
    if view := look.views.get(domain):
        parts = [*view.points.values(), *view.segments.values()]
        if fresh := next((part for part in parts if not part.stale), None):
            yield f"the view of {domain} has {type(fresh).__name__} {_name(fresh)} that is not stale"
    for path in look.paths:
        hops = [hop for each in path.paths for hop in each.hops]
        yield from _used(f"the path {path.source} to {path.target}", domain, hops, path.domains)
    for status in look.services:
        hops = list(status.path.hops) if status.path else []
        yield from _used(f"the service {status.service.name}", domain, hops, status.domains)


def _used(what: str, domain: str, hops: Iterable[Hop], outcomes: Iterable[DomainOutcome]) -> Iterable[str]:
    own = [hop for hop in hops if hop.domain == domain]
    if own and any(not hop.stale for hop in own):
        yield f"{what} crosses {domain} as if it were there"
    if any(each.domain == domain and each.outcome is Outcome.OK for each in outcomes):
        yield f"{what} has {domain} as ok"


def _name(part: object) -> str:
    return str(getattr(part, "id", "") or f"{getattr(part, 'source', '')}>{getattr(part, 'target', '')}")
