"""Events on their way to partners: from the outbox to every subscription that asks for them, at least once.

Each subscription has a queue on disk and a task of its own: one connection at a time, in the order of the
events; whoever is slow or away keeps nobody else waiting. What fails is tried again, later and later, until
it is a dead letter; a subscription that fails for long is suspended. A restart at any point loses nothing and
may repeat what was sent last, under the same `eventId`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final, TypeVar
from uuid import UUID, uuid5

import sqlalchemy as sa

from domain_twin.config import EventsConfig
from domain_twin.errors import TwinError
from domain_twin.model import Finding, Nanoseconds, Severity
from federation.partners import delivery_rows as rows
from federation.partners.callbacks import Callbacks
from federation.partners.delivery_rows import HubName, Letter, NewRow
from federation.partners.notices import (
    PLACES,
    Condition,
    date_of,
    listener_of,
    matches,
    notice,
    read_query,
)
from federation.partners.outbox import OutboxRow
from federation.partners.record import PUBLIC, Body, Kind, Record
from federation.partners.signing import HEADER, EventKey, publish_key
from federation.partners.store import RecordStore

__all__ = ["ACTIVE", "IMPAIRED", "RETRYING", "SUSPENDED", "TROUBLE", "Counts", "Deliveries"]

log = logging.getLogger(__name__)

ACTIVE, RETRYING, IMPAIRED, SUSPENDED = "active", "retrying", "impaired", "suspended"
TROUBLE: Final = ("lastError", "failingSince", "deadLetterCount", "deadLetter")
"""Attributes of a subscription that say what is wrong with it."""

SHOWN_LETTERS: Final = 20
_BATCH: Final = 32
_FAN_OUT: Final = 500
_LOOK_S: Final = 1.0
_AGAIN_S: Final = 1.0
_FLUSH_S: Final = 1.0
_TOLD_S: Final = 10.0
_TRIM_S: Final = 3600.0
_LETTERS_KEPT_S: Final = 30 * 86_400.0
_UNTAKEN: Final = frozenset((400, 413, 415, 422))  # says something of the event, not of the receiver
_UNTAKEN_TRIES: Final = 3
_GONE: Final = 410

T = TypeVar("T")


@dataclass(slots=True)
class Counts:
    """Since the process began, of all partners."""

    delivered: int = 0
    failed: int = 0
    """Tries that failed."""
    forgotten: int = 0
    """Dead letters that nobody fetched."""


@dataclass(slots=True)
class _Line:
    """What waits for one subscription."""

    hub: HubName
    created: int  # the sequence of the subscription: earlier events are none of its business
    api: str
    conditions: tuple[Condition, ...]
    waiting: int = 0
    dead: int = 0
    failures: int = 0
    """Tries that failed in a row."""
    told_at: float = 0.0
    wake: asyncio.Event = field(default_factory=asyncio.Event)
    again: bool = False
    """The partner wants all of it to be tried now."""
    hurry: asyncio.Event = field(default_factory=asyncio.Event)
    """What is to happen does not wait for the end of a pause."""
    task: asyncio.Task[None] | None = None


class _Failed(Exception):
    """A try that failed: `status` 0 where there was no answer."""

    def __init__(self, error: str, status: int = 0, retry_after_s: float = 0.0) -> None:
        super().__init__(error)
        self.status = status
        self.retry_after_s = retry_after_s


class Deliveries:
    """Delivers what the store's outbox holds."""

    def __init__(
        self,
        store: RecordStore,
        config: EventsConfig,
        key: EventKey,
        callbacks: Callbacks,
        *,
        clock: Callable[[], Nanoseconds] = time.time_ns,
    ) -> None:
        self._store = store
        self._config = config
        self._key = key
        self._callbacks = callbacks
        self._clock = clock
        self._lines: dict[HubName, _Line] = {}
        self._again: set[HubName] = set()
        self._cursor = 0
        self._namespace = UUID(int=0)
        self._news = asyncio.Event()
        self._slots = asyncio.Semaphore(config.at_once)
        self._counting = asyncio.Lock()  # held from a change of rows until it is counted
        self._trimmed_at = time.monotonic()
        self.counts = Counts()
        self.on_findings: Callable[[Sequence[Finding]], None] = lambda _: None
        """Told what is wrong with subscriptions, whenever that changes."""

    @property
    def waiting(self) -> int:
        """Events that wait, of all subscriptions."""
        return sum(line.waiting for line in self._lines.values())

    @property
    def dead(self) -> int:
        """Dead letters, of all subscriptions."""
        return sum(line.dead for line in self._lines.values())

    def standing(self, hub: HubName) -> tuple[int, int]:
        """How many events wait for a subscription, and how many are dead letters."""
        line = self._lines.get(hub)
        return (line.waiting, line.dead) if line else (0, 0)

    async def letters(self, hub: HubName, *, limit: int) -> list[tuple[str, Letter]]:
        """The newest dead letters of a subscription, each with its `eventId`. Raises Unreachable."""
        found = await self._store.execute(partial(rows.dead_letters, hub=hub, limit=limit))
        return [(self._event_id(letter.event), letter) for letter in found]

    def try_again(self, hub: HubName) -> None:
        """Have everything that was not delivered tried now."""
        self._again.add(hub)
        if line := self._lines.get(hub):
            line.again = True
            line.hurry.set()
            line.wake.set()
        self._news.set()

    async def run(self) -> None:
        """Deliver until cancelled. Raises TwinError where the database cannot be used at the start."""
        await publish_key(self._store.of(PUBLIC), self._key, self._clock)
        hubs = [(kept.tenant, kept.id) for kept in self._hubs()]
        start = await self._store.execute(
            partial(rows.begin, tenants=self._store.tenants, hubs=hubs)  # one transaction
        )
        self._cursor, self._namespace = start.cursor, UUID(start.store)
        self._lines.clear()
        self._store.on_events = self._news.set
        try:
            async with asyncio.TaskGroup() as group:
                for hub in hubs:
                    self._open(group, hub, start.counts.get(hub, {}))
                self._report()
                await self._keep_fed(group)
        finally:
            self._store.on_events = lambda: None
            await self._callbacks.close()

    # ------------------------------------------------------------ from the outbox to the queues

    async def _keep_fed(self, group: asyncio.TaskGroup) -> None:
        while True:
            self._news.clear()
            self._open_new(group)
            await self._forget_gone()
            try:
                await self._fan_out(group)
                await self._trim()
            except TwinError as error:
                log.warning("events wait for the database", extra={"reason": str(error)})
                await asyncio.sleep(_AGAIN_S)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_S):
                    await self._news.wait()

    def _open_new(self, group: asyncio.TaskGroup) -> None:
        for kept in self._hubs():
            if (kept.tenant, kept.id) not in self._lines:
                self._open(group, (kept.tenant, kept.id), {})

    def _open(self, group: asyncio.TaskGroup, hub: HubName, counts: Any) -> None:
        kept = self._store.kept.get((hub[0], Kind.HUB), {}).get(hub[1])
        if kept is None:
            return
        body = kept.record.body
        line = _Line(
            hub,
            kept.created,
            str(body.get("api", "")),
            read_query(str(body.get("query") or "")),
            counts.get(rows.WAITING, 0),
            counts.get(rows.DEAD, 0),
        )
        if hub in self._again or (line.dead and not body.get("deadLetterCount") and _state(body) == ACTIVE):
            line.again = True
        self._lines[hub] = line
        line.task = group.create_task(self._forever(line))

    async def _forget_gone(self) -> None:
        there = {(record.tenant, record.id) for record in self._hubs()}
        gone = [line for hub, line in self._lines.items() if hub not in there]
        for line in gone:
            del self._lines[line.hub]
            self._again.discard(line.hub)
            if line.task:
                line.task.cancel()
                await asyncio.gather(line.task, return_exceptions=True)
            await self._surely(partial(rows.forget_hub, hub=line.hub))
        if gone:
            self._report()

    async def _fan_out(self, group: asyncio.TaskGroup) -> None:
        while events := await self._store.events(self._cursor, limit=_FAN_OUT):
            self._open_new(group)  # who subscribed while they were read may have been first
            new = [row for event in events for row in self._for_hubs(event)]
            cursor = events[-1].sequence
            async with self._counting:
                await self._store.execute(partial(rows.put, cursor=cursor, rows=new))
                self._cursor = cursor
                for row in new:
                    if line := self._lines.get(row.hub):
                        line.waiting += not row.error
                        line.dead += bool(row.error)
                        line.wake.set()
                        if line.waiting > self._config.waiting:
                            line.hurry.set()

    def _for_hubs(self, event: OutboxRow) -> Iterator[NewRow]:
        document: dict[str, Any] | None = None
        for line in self._lines.values():
            api, _ = PLACES.get(event.kind, ("", ""))
            if event.tenant not in (line.hub[0], PUBLIC) or line.api != api or line.created >= event.sequence:
                continue
            document = document or notice(event, "", "")
            record = self._record(line)
            if record is None or not matches(line.conditions, document):
                continue
            suspended = _state(record.body) == SUSPENDED
            yield NewRow(line.hub, event.sequence, "the subscription is suspended" if suspended else "")

    async def _trim(self) -> None:
        if time.monotonic() - self._trimmed_at < _TRIM_S:
            return
        self._trimmed_at = time.monotonic()
        before = self._clock() - int(_LETTERS_KEPT_S * 1e9)
        forgotten = await self._store.execute(partial(rows.forget_old, before=before))
        for hub, number in forgotten.items():
            self._forgot(hub, number)

    # ------------------------------------------------------------ from a queue to its callback

    async def _forever(self, line: _Line) -> None:
        while True:
            try:
                await self._serve(line)
            except Exception:
                log.exception("deliveries failed", extra={"tenant": line.hub[0], "hub": line.hub[1]})
            await asyncio.sleep(_AGAIN_S)

    async def _serve(self, line: _Line) -> None:
        while (record := self._record(line)) is not None:
            line.wake.clear()
            line.hurry.clear()
            if line.again:
                await self._begin_again(line)
                continue
            if line.waiting > self._config.waiting and _state(record.body) != SUSPENDED:
                await self._suspend(line, f"more than {self._config.waiting} events wait")
                continue
            letters = []
            if _state(record.body) == SUSPENDED:
                if line.waiting:  # came while it was being suspended
                    await self._bury(line, str(record.body.get("lastError", "")))
            else:
                letters = await self._surely(partial(rows.waiting, hub=line.hub, limit=_BATCH))
            if letters:
                await self._pause(line, await self._deliver(line, letters))
                continue
            await self._keep_newest(line)
            told = await self._tell_if_new(line)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if told else _AGAIN_S):
                    await line.wake.wait()

    async def _begin_again(self, line: _Line) -> None:
        line.again = False
        self._again.discard(line.hub)
        async with self._counting:
            line.waiting = await self._surely(partial(rows.try_again, hub=line.hub))
            line.dead = line.failures = 0
        self._report()

    async def _pause(self, line: _Line, pause_s: float) -> None:
        """Until it is time, or the partner wants it now."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause_s):
                await line.hurry.wait()

    async def _deliver(self, line: _Line, letters: Sequence[Letter]) -> float:
        """Send letters in their order up to the first that fails; the pause after that, seconds."""
        delivered: list[int] = []
        flushed_at = time.monotonic()
        try:
            for letter in letters:
                record = self._record(line)
                wait_s = (letter.next_at - self._clock()) / 1e9
                if record is None or line.again or wait_s > 0:
                    await self._flush(line, delivered)
                    # A clock that was set back must not make anybody wait for years.
                    return max(0.0, min(wait_s, self._config.longest_retry_s))
                try:
                    await self._try(record, letter.event)
                except _Failed as failed:
                    await self._flush(line, delivered)
                    return await self._note_failure(line, record, letter, failed)
                self.counts.delivered += 1
                delivered.append(letter.event.sequence)
                line.failures = 0
                if time.monotonic() - flushed_at > _FLUSH_S:
                    await self._flush(line, delivered)
                    flushed_at = time.monotonic()
        except asyncio.CancelledError:
            with contextlib.suppress(TwinError):  # else they are sent once more
                await self._store.execute(partial(rows.settle, hub=line.hub, delivered=tuple(delivered)))
            raise
        await self._flush(line, delivered)
        await self._tell_if_new(line)
        return 0.0

    async def _try(self, record: Record, event: OutboxRow) -> None:
        """Send one event. Raises _Failed."""
        identity = self._event_id(event)
        document = notice(event, identity, str(record.body.get("apiAddress", "")))
        octets = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
        try:
            callback = self._callbacks.read(str(record.body.get("callback", "")))
            async with self._slots:
                signature = self._key.sign(octets, event_id=identity, hub_id=record.id, at=self._clock())
                headers = {"Content-Type": "application/json;charset=utf-8", HEADER: signature}
                listener = listener_of(event.event_type)
                answer = await self._callbacks.post(callback, listener, octets, headers, tenant=record.tenant)
        except TwinError as error:
            raise _Failed(str(error)) from None
        if not 200 <= answer.status < 300:
            words = ", which is not followed" if 300 <= answer.status < 400 else ""
            raise _Failed(f"answered {answer.status}{words}", answer.status, answer.retry_after_s)

    async def _note_failure(self, line: _Line, record: Record, letter: Letter, failed: _Failed) -> float:
        config, now = self._config, self._clock()
        attempts = letter.attempts + 1
        self.counts.failed += 1
        line.failures = max(line.failures, letter.attempts) + 1
        untaken = failed.status in _UNTAKEN and attempts >= _UNTAKEN_TRIES
        dead = untaken or attempts >= config.attempts or failed.status == _GONE
        pause_s = min(config.longest_retry_s, config.first_retry_s * 2.0 ** min(line.failures - 1, 40))
        pause_s = max(pause_s * random.uniform(0.5, 1.0), min(failed.retry_after_s, config.longest_retry_s))
        noted = replace(letter, attempts=attempts, next_at=now + int(pause_s * 1e9), error=str(failed))
        await self._surely(partial(rows.settle, hub=line.hub, delivered=(), failed=noted, dead=dead))
        log.info(
            "event not delivered",
            extra={"tenant": line.hub[0], "hub": line.hub[1], "reason": str(failed), "dead": dead},
        )
        if dead:
            line.waiting -= 1
            line.dead += 1
        since = record.body.get("failingSince")
        if failed.status == _GONE:
            await self._suspend(line, "answered 410 Gone: it wants no events any more")
        elif isinstance(since, str) and date_of(now - int(config.suspend_after_s * 1e9)) >= since:
            await self._suspend(line, f"has failed since {since}, last: {failed}")
        else:
            if untaken:
                line.failures = 0  # the next one may be taken
            await self._tell(line, RETRYING if line.failures else IMPAIRED, str(failed), always=dead)
        if dead:
            await self._keep_newest(line)
        return 0.0 if untaken else pause_s

    async def _suspend(self, line: _Line, reason: str) -> None:
        await self._bury(line, reason)
        log.warning("subscription suspended", extra={"tenant": line.hub[0], "hub": line.hub[1]})
        await self._tell(line, SUSPENDED, reason, always=True)
        await self._keep_newest(line)

    async def _bury(self, line: _Line, reason: str) -> None:
        async with self._counting:
            bury = partial(rows.bury_all, hub=line.hub, error=f"suspended: {reason}")
            line.dead += await self._surely(bury)
            line.waiting = 0

    async def _keep_newest(self, line: _Line) -> None:
        async with self._counting:
            if line.dead > self._config.dead_letters:
                forget = partial(rows.forget_oldest, hub=line.hub, keep=self._config.dead_letters)
                self._forgot(line.hub, await self._surely(forget))

    def _forgot(self, hub: HubName, number: int) -> None:
        self.counts.forgotten += number
        if line := self._lines.get(hub):
            line.dead -= number
        log.warning("dead letters forgotten", extra={"tenant": hub[0], "hub": hub[1], "number": number})

    async def _flush(self, line: _Line, delivered: list[int]) -> None:
        if delivered:
            done = tuple(delivered)
            delivered.clear()
            line.waiting -= len(done)
            await self._surely(partial(rows.settle, hub=line.hub, delivered=done))

    # ------------------------------------------------------------ what a partner and the operator see

    async def _tell_if_new(self, line: _Line) -> bool:
        """Say that it works again, or that it has dead letters that were not there; whether all is told."""
        record = self._record(line)
        if record is None or line.failures:
            return True
        held = _state(record.body)
        state = SUSPENDED if held == SUSPENDED else IMPAIRED if line.dead else ACTIVE
        if state == held and record.body.get("deadLetterCount", 0) == line.dead:
            return True
        return await self._tell(line, state, record.body.get("lastError", ""), always=state != held)

    async def _tell(self, line: _Line, state: str, error: str, *, always: bool = False) -> bool:
        """Write into a subscription how it is doing; what only changes in words, not too often."""
        record = self._record(line)
        now = time.monotonic()
        if record is None or (not always and _state(record.body) == state and now - line.told_at < _TOLD_S):
            return False
        line.told_at = now
        body: dict[str, Any] = {k: v for k, v in record.body.items() if k not in TROUBLE}
        body["state"] = state
        if state in (RETRYING, SUSPENDED):
            body["failingSince"] = record.body.get("failingSince") or date_of(self._clock())
        if state != ACTIVE and error:
            body["lastError"] = error
        if line.dead:
            find = partial(rows.dead_letters, hub=line.hub, limit=SHOWN_LETTERS)
            letters = await self._surely(find)
            body["deadLetterCount"] = line.dead
            body["deadLetter"] = [self._shown(letter) for letter in letters]
        try:
            await self._store.of(line.hub[0]).update(record, body)
        except TwinError as error_:  # it changed meanwhile, or is gone, or the disk is full: told later
            line.told_at = 0.0
            log.debug("subscription not updated", extra={"reason": str(error_)})
            return False
        self._report()
        return True

    def _event_id(self, event: OutboxRow) -> str:
        return str(uuid5(self._namespace, str(event.sequence)))

    def _shown(self, letter: Letter) -> dict[str, Any]:
        event = letter.event
        return {
            "eventId": self._event_id(event),
            "eventType": event.event_type,
            "eventTime": date_of(event.at),
            "resourceId": event.id,
            "attempts": letter.attempts,
            "reason": letter.error,
        }

    def _report(self) -> None:
        self.on_findings([finding for line in self._lines.values() for finding in self._findings(line)])

    def _findings(self, line: _Line) -> Iterator[Finding]:
        record = self._record(line)
        if record is None:
            return
        tenant, identity = line.hub
        if _state(record.body) == SUSPENDED:
            yield Finding(
                "events.suspended",
                Severity.WARNING,
                "",
                f"{tenant}/{identity}",
                f"a subscription of {tenant} is suspended: {record.body.get('lastError', '')}",
                f"tell {tenant}; it goes on when they set its state to active, or delete it",
            )
        elif line.dead:
            yield Finding(
                "events.dead-letters",
                Severity.WARNING,
                "",
                f"{tenant}/{identity}",
                f"{line.dead} events could not be delivered to a subscription of {tenant}",
                f"tell {tenant}; they are tried again when they set its state to active",
            )

    # ------------------------------------------------------------ the store

    def _hubs(self) -> Iterable[Record]:
        for tenant in sorted(self._store.tenants):
            for kept in list(self._store.kept.get((tenant, Kind.HUB), {}).values()):
                yield kept.record

    def _record(self, line: _Line) -> Record | None:
        kept = self._store.kept.get((line.hub[0], Kind.HUB), {}).get(line.hub[1])
        return kept.record if kept else None

    async def _surely(self, work: Callable[[sa.Connection], T]) -> T:
        """Do `work` in a transaction, however long the database is away."""
        while True:
            try:
                return await self._store.execute(work)
            except TwinError as error:
                log.warning("deliveries wait for the database", extra={"reason": str(error)})
                await asyncio.sleep(_AGAIN_S)


def _state(body: Body) -> str:
    return str(body.get("state", ACTIVE))
