"""Keeps one twin as its record says: asks domains for parts, composes, refreshes, closes what is over.

One task per twin, which alone writes what becomes of its parts; partners and orders write what it is to be,
and poke it. Holds in memory what the domains showed, and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from domain_twin.errors import NotFound, NotShared, OverCapacity, TwinError
from domain_twin.model import Nanoseconds, PointKind
from federation.compose import ComposedGraph, Member
from federation.partners.asking import Asking, PartView, code_of, is_refusal
from federation.partners.dates import stamp
from federation.partners.record import Body, Kind, Record, Repository
from federation.partners.scope import Scope
from federation.partners.twin_record import TwinRecord, asked_at, set_part
from federation.partners.twin_resources import resources

__all__ = ["Keeper", "Owner", "Timing", "apply_state"]

_SECOND = 1_000_000_000
_IDLE_S = 3600.0

Outcome = PartView | TwinError
"""What became of an ask."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How long domains are waited for, in seconds."""

    ask_s: float = 10.0
    """For one answer."""
    join_within_s: float = 600.0
    """A domain that did not take part by then is left out."""
    late_s: float = 5.0
    """A domain is late from then on, and the order says so."""
    retry_s: float = 1.0
    """Domains that did not answer are tried again this often."""
    look_s: float = 2.0
    """Whether domains are connected is looked at this often, however seldom a twin is refreshed."""
    refused_again_s: float = 300.0
    """Domains that refused are asked again this often while the twin is active."""
    told_every_s: float = 60.0
    """How often the record says how fresh the twin is when nothing else changes."""


class Owner(Protocol):
    """Who keeps all twins."""

    timing: Timing
    clock: Callable[[], Nanoseconds]
    members: frozenset[str]

    async def write(
        self, repository: Repository, identity: str, change: Callable[[TwinRecord], bool]
    ) -> Record:
        """Change a twin's record, however often others do so at the same time."""

    def show(self, repository: Repository, service: str, found: Mapping[str, Body]) -> None:
        """What is inside a twin now."""


class Keeper:
    """One twin. `run` returns when the twin is over and every domain knows it."""

    def __init__(self, repository: Repository, identity: str, *, asking: Asking, owner: Owner) -> None:
        self.repository = repository
        self.id = identity
        self.graph = ComposedGraph()
        """Of what the domains show; changes in place while the twin is active."""
        self.held: dict[str, PartView] = {}
        """What each domain showed last."""
        self.poke = asyncio.Event()
        """To be set when the record changed."""
        self._asking = asking
        self._owner = owner
        self._opened: set[str] = set()  # since the broker began, and since the scope is what it is
        self._due: dict[str, float] = {}
        self._tell_at = 0.0
        self._shown: Mapping[str, Body] = {}
        self._scope: Scope | None = None

    async def run(self) -> None:
        """Ask, refresh and close until nothing is left to do. Raises what the disk refuses with."""
        while True:
            self.poke.clear()
            try:
                twin = TwinRecord(self.repository.get(Kind.SERVICE, self.id))
            except NotFound:
                return
            if not twin.terminated and twin.scope.until <= self._owner.clock():
                await self._end("its time was over")
                continue
            if twin.terminated or twin.suspended:
                self.forget()
            told = await self._tell_leaving(twin)
            if told and twin.terminated:
                return
            if not (twin.terminated or twin.suspended) and not await self._round(twin):
                continue
            wait_s = min(_IDLE_S if told else self._retry_s(*twin.leaving), self._wait_s(twin))
            if self.held:
                wait_s = min(wait_s, self._owner.timing.look_s)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self.poke.wait()

    def forget(self) -> None:
        """Keep nothing that the domains showed."""
        self.held.clear()
        self._opened.clear()
        self._due.clear()
        self._scope = None
        self.graph = ComposedGraph()
        self._show()

    def _wait_s(self, twin: TwinRecord) -> float:
        """Until something is due, in seconds."""
        now = time.monotonic()
        ends = [twin.scope.until, *(part.expires_at for part in self.held.values() if part.expires_at)]
        waits = [due - now for due in self._due.values()]
        waits += [(end - self._owner.clock()) / _SECOND for end in ends]
        return max(0.001, min(waits))

    def _retry_s(self, *domains: str) -> float:
        """When to try again with domains that did not do what was asked; nobody is there: not so soon."""
        timing = self._owner.timing
        return timing.retry_s if any(map(self._asking.connected, domains)) else timing.look_s

    # ------------------------------------------------------------ asking

    async def _round(self, twin: TwinRecord) -> bool:
        """Ask whoever is due, and write down what became of it; False: the twin was changed meanwhile."""
        scope = twin.scope
        if self._scope is None or _asks(self._scope) != _asks(scope):
            self._opened.clear()
            self._due.clear()
            for domain in self.held.keys() - set(scope.domains):
                del self.held[domain]
        self._scope = scope
        self._opened -= {part["name"] for part in twin.undecided}
        now = time.monotonic()
        due = [
            name
            for part in twin.open_parts
            if self._due.get(name := part["name"], 0.0) <= now
            or (part["state"] == "active" and not self._asking.connected(name))
        ]
        asks = {domain: asyncio.ensure_future(self._ask(domain, scope)) for domain in due}
        outcomes = await _unless(self.poke, asks)
        if outcomes is None:
            return False
        self._take(outcomes, scope)
        await self._settle(scope, outcomes)
        return not self.poke.is_set()

    async def _ask(self, domain: str, scope: Scope) -> Outcome:
        timeout_s = self._owner.timing.ask_s
        if not (opens := domain not in self._opened):
            timeout_s = min(timeout_s, max(1.0, scope.freshness_s))

        async def part(*, opens: bool) -> PartView:
            part = await self._asking.part(
                domain, self.id, self.repository.tenant, scope, opens=opens, timeout_s=timeout_s
            )
            if 0 < part.expires_at <= self._owner.clock():
                raise NotShared(f"{domain}: its agreement has ended; set the clocks of both sides")
            return part

        try:
            try:
                return await part(opens=opens)
            except NotFound:
                if opens:
                    raise
                return await part(opens=True)  # the domain lost its list, or its agreement was renewed
        except TwinError as error:
            return error

    def _take(self, outcomes: Mapping[str, Outcome], scope: Scope) -> None:
        """Hold the views that came, and drop what may not be held any more."""
        now, timing = time.monotonic(), self._owner.timing
        for domain, outcome in outcomes.items():
            if isinstance(outcome, PartView):
                self._opened.add(domain)
                self.held[domain] = outcome
                self._due[domain] = now + scope.freshness_s
            elif is_refusal(outcome):
                self._opened.discard(domain)
                self.held.pop(domain, None)
                self._due[domain] = now + timing.refused_again_s
            else:
                wait_s = outcome.retry_after_s if isinstance(outcome, OverCapacity) else 0.0
                self._due[domain] = now + max(wait_s, self._retry_s(domain))
        for domain, part in list(self.held.items()):
            # The right to keep it ends, whether or not the domain is there to say so.
            if 0 < part.expires_at <= self._owner.clock():
                del self.held[domain]
                self._due.setdefault(domain, 0.0)
                if domain not in outcomes:
                    self._due[domain] = 0.0

    # ------------------------------------------------------------ writing down

    async def _settle(self, scope: Scope, outcomes: Mapping[str, Outcome]) -> None:
        """Write down what became of the parts, one step of the twin's life after the other."""
        stepped = ""

        def apply(twin: TwinRecord) -> bool:
            nonlocal stepped
            stepped = ""
            if twin.terminated or twin.suspended or _asks(twin.scope) != _asks(scope):
                return False
            before = twin.state
            news = self._apply(twin, outcomes)
            stepped = twin.state if twin.state != before else ""
            return news

        while True:
            coming = TwinRecord(self.repository.get(Kind.SERVICE, self.id))
            if apply(coming):
                self._compose(coming)  # before anybody reads of it
                self._show()
            twin = TwinRecord(await self._owner.write(self.repository, self.id, apply))
            if twin.terminated or twin.suspended:
                self.forget()
                self.poke.set()  # there is something else to be done now
                return
            self._compose(twin)
            self._show()
            if stepped not in ("reserved", "inactive"):
                break
        if (now := time.monotonic()) >= self._tell_at:
            self._tell_at = now + self._owner.timing.told_every_s

    def _apply(self, twin: TwinRecord, outcomes: Mapping[str, Outcome]) -> bool:
        """One step of the twin's life; whether there is anything new to be kept."""
        now = self._owner.clock()
        news = False
        for part in twin.open_parts:
            if (outcome := outcomes.get(part["name"])) is not None:
                news |= self._apply_part(part, outcome, now)
        if not twin.undecided:
            news |= apply_state(twin, now)
        if not news and time.monotonic() < self._tell_at:
            return False
        held = sorted(self.held.items())
        twin.show(
            scope={"domains": [domain for domain, _ in held], "endPoints": _end_points(self.held)},
            fidelity={domain: part.view.level.value for domain, part in held},
            observedAt={d: stamp(at) for d, part in held if (at := part.view.version.observed_at)},
        )
        return True

    def _apply_part(self, part: dict[str, Any], outcome: Outcome, now: Nanoseconds) -> bool:
        if isinstance(outcome, PartView):
            return set_part(part, "active", "running")
        why, within_s = str(outcome), self._owner.timing.join_within_s
        if is_refusal(outcome):
            state, operating = "terminated", "failed"
        elif part["state"] == "designed" and now - asked_at(part) >= within_s * _SECOND:
            state, operating = "terminated", "failed"
            why = f"{why}; it did not take part within {within_s:g} s"
        elif part["state"] == "designed":
            state, operating = "designed", "pending"
        elif part["state"] == "terminated":
            return False
        else:
            state, operating = "inactive", "degraded"
        return set_part(part, state, operating, code=code_of(outcome), why=why, now=now)

    async def _end(self, why: str) -> None:
        def end(twin: TwinRecord) -> bool:
            if twin.terminated:
                return False
            twin.terminate(why, self._owner.clock())
            return True

        await self._owner.write(self.repository, self.id, end)

    # ------------------------------------------------------------ closing

    async def _tell_leaving(self, twin: TwinRecord) -> bool:
        """Close the parts that are not wanted any more; whether all of them are closed."""
        leaving = twin.leaving
        ends = await asyncio.gather(*(self._close(domain, twin) for domain in leaving))
        closed = [domain for domain, done in zip(leaving, ends, strict=True) if done]

        def write_down(now: TwinRecord) -> bool:
            there = [domain for domain in closed if domain in now.leaving]
            for domain in there:
                now.stopped(domain)
            return bool(there)

        if closed:
            await self._owner.write(self.repository, self.id, write_down)
        return len(closed) == len(leaving)

    async def _close(self, domain: str, twin: TwinRecord) -> bool:
        if domain not in self._owner.members or twin.scope.until <= self._owner.clock():
            return True  # nobody to tell, or it has ended by itself
        try:
            tenant, timeout_s = self.repository.tenant, self._owner.timing.ask_s
            await self._asking.close(domain, self.id, tenant, timeout_s=timeout_s)
        except TwinError as error:
            return is_refusal(error)
        return True

    # ------------------------------------------------------------ what is inside

    def _compose(self, twin: TwinRecord) -> None:
        """Bring the graph up to what is held."""
        why = {part["name"]: _reason(part) for part in twin.joined if part["state"] != "active"}
        joined = {part["name"] for part in twin.joined}  # not heard since a restart: a part that is missing
        for domain in twin.scope.domains:
            if (part := self.held.get(domain)) or domain in self.graph.members or domain in joined:
                here = part is not None and domain not in why
                member = Member(domain, part.view if part else None, here, why.get(domain, ""))
                if self.graph.members.get(domain) != member:
                    self.graph.put(member)
        for domain in self.graph.members.keys() - set(twin.scope.domains):
            self.graph.remove(domain)

    def _show(self) -> None:
        found = resources(self.id, self.graph)
        if found != self._shown:
            self._shown = found
            self._owner.show(self.repository, self.id, found)


def apply_state(twin: TwinRecord, now: Nanoseconds) -> bool:
    """The next state of a twin whose domains all have decided; whether that is news."""
    before = (twin.state, twin.operating)
    if not twin.joined:
        if twin.body["hasStarted"]:
            twin.body |= {"state": "inactive", "operatingStatus": "failed"}
        else:
            twin.terminate("no domain takes part", now)
        return before != (twin.state, twin.operating)
    if twin.state == "designed":
        twin.body["state"] = "reserved"
    elif twin.state == "reserved":
        twin.body["state"] = "inactive"
    elif twin.state == "inactive" and all(part["state"] == "active" for part in twin.joined):
        if not twin.body["hasStarted"]:
            twin.body |= {"hasStarted": True, "startDate": stamp(now)}
        twin.body["state"] = "active"
    if twin.state == "active":
        away = any(part["state"] == "inactive" for part in twin.joined)
        twin.body["operatingStatus"] = "degraded" if away else "limited" if twin.refused else "running"
    return before != (twin.state, twin.operating)


def _asks(scope: Scope) -> tuple[object, ...]:
    """What of a scope domains are asked for."""
    return scope.domains, scope.end_points, scope.until


def _reason(part: Mapping[str, Any]) -> str:
    return next((str(note["text"]) for note in part.get("note", ())), f"{part['name']} is away")


def _end_points(held: Mapping[str, PartView]) -> list[str]:
    return sorted(
        name
        for part in held.values()
        for name, point in part.view.points.items()
        if point.kind is PointKind.ENDPOINT
    )


async def _unless(
    poke: asyncio.Event, asks: Mapping[str, asyncio.Future[Outcome]]
) -> dict[str, Outcome] | None:
    """What became of all asks; None, and they are cancelled, when `poke` is set before that."""
    poked = asyncio.ensure_future(poke.wait())
    open_asks: set[asyncio.Future[Any]] = set(asks.values())
    try:
        while open_asks and not poke.is_set():
            done, _ = await asyncio.wait({poked, *open_asks}, return_when=asyncio.FIRST_COMPLETED)
            open_asks -= done
        return None if open_asks else {domain: ask.result() for domain, ask in asks.items()}
    finally:
        poked.cancel()
        for ask in asks.values():
            ask.cancel()
        await asyncio.gather(poked, *asks.values(), return_exceptions=True)
