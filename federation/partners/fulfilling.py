"""Takes one order forward: carries out its items, waits for news of their twins, settles what is cancelled.

What an item did is known from the twin's own record, so that looking again does nothing twice: a twin's id
follows from the order's, and changes of a twin are listed on it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid5

from domain_twin.errors import Conflict, NotFound, OverCapacity, StaleVersion, Unreachable
from domain_twin.model import Nanoseconds
from federation.partners.dates import stamp
from federation.partners.order_items import wanted_scope
from federation.partners.order_record import ITEM_OVER, OrderRecord
from federation.partners.record import Body, Kind, Record, Repository
from federation.partners.twin_record import TwinRecord, asked_at, reasons
from federation.partners.twins import Twins

__all__ = ["Fulfilment"]

_SECOND = 1_000_000_000
_TRIES = 50
_LOOK_AGAIN_S = 60.0
_TWINS = UUID("0b9d1b3c-58a5-5f0e-8d0b-2a5c1a9d7e42")


@dataclass(frozen=True, slots=True)
class _Result:
    """How far an item is: its state, why it is not done, and the twin that it is about."""

    state: str
    errors: tuple[tuple[str, str], ...] = ()
    twin: TwinRecord | None = None


class Fulfilment:
    """Works on the orders of all tenants, one at a time for each `look`."""

    def __init__(self, twins: Twins) -> None:
        self._twins = twins

    async def look(self, repository: Repository, identity: str, poke: asyncio.Event) -> bool:
        """Take an order one step forward and wait for news of it; whether it is over."""
        try:
            order = OrderRecord(repository.get(Kind.SERVICE_ORDER, identity))
        except NotFound:
            await self._settle_cancels(repository, identity, None)
            return True
        services = [service for item in order.items if (service := _twin_of(order, item))]
        async with self._twins.watching(repository.tenant, services) as news:
            if await self._settle_cancels(repository, identity, order):
                return False  # it was changed: look again
            if order.over:
                return True
            if order.state == "pendingCancellation":
                await self._cancel(repository, order)
                return False
            now = self._twins.clock()
            if order.starts_at > now and order.state in ("acknowledged", "pending"):
                await self._postpone(repository, order)
                wait_s = (order.starts_at - now) / _SECOND
            else:
                if await self._step(repository, order):
                    return False
                wait_s = self._twins.timing.late_s
            await _first(news, poke, timeout_s=min(wait_s, _LOOK_AGAIN_S))
        return False

    async def _postpone(self, repository: Repository, order: OrderRecord) -> None:
        def pend(now: OrderRecord) -> None:
            for item in now.open_items:
                item["state"] = "pending"
            now.settle(self._twins.clock())

        await self._write(repository, order.id, pend)

    async def _step(self, repository: Repository, order: OrderRecord) -> bool:
        """Carry out what is open, and write down how far it is; whether it is over or was changed."""
        before = order.body
        order = await self._write(repository, order.id, self._start)
        if order.over or order.cancelling:
            return True
        results: dict[str, _Result] = {}
        for item in order.open_items:
            try:
                results[item["id"]] = await self._carry_out(repository, order, item)
            except OverCapacity as error:
                results[item["id"]] = _Result("rejected", (("overQuota", str(error)),))
            except (NotFound, Conflict) as error:
                results[item["id"]] = _Result("failed", (("conflict", str(error)),))

        def write_down(now: OrderRecord) -> None:
            self._write_down(now, results)

        order = await self._write(repository, order.id, write_down)
        return order.over or (order.body != before and order.cancelling)

    def _start(self, order: OrderRecord) -> None:
        now = self._twins.clock()
        if order.over or order.cancelling or order.body.get("startDate"):
            return
        order.begin(now)
        open_ones = [item["id"] for item in order.open_items]
        order.reach("scopeAgreed", "what is ordered was found in order", open_ones, now)
        order.settle(now)

    async def _carry_out(self, repository: Repository, order: OrderRecord, item: Body) -> _Result:
        """Do what an item asks, once, and say how far it is. Raises OverCapacity, NotFound, Conflict."""
        service = item["service"]
        action, members = item["action"], self._twins.members
        if action == "noChange":
            return _Result("completed")
        if action == "add":
            scope = wanted_scope(service, members=members, now=order.ordered_at)
            record = await self._twins.open(
                repository, _twin_of(order, item), scope, asked=service, order=order.id, item=item["id"]
            )
            return self._result(TwinRecord(record), added=True)
        change = self._retire(order, item) if action == "delete" else self._modify(order, item)
        record = await self._twins.edit(repository, str(service["id"]), change)
        twin = TwinRecord(record)
        if action == "delete":
            return _Result("completed", twin=twin)
        return self._result(twin, added=False)

    def _retire(self, order: OrderRecord, item: Body) -> Callable[[TwinRecord], bool]:
        def retire(twin: TwinRecord) -> bool:
            if twin.terminated:
                return False
            twin.add_item(order.id, item["id"], "delete")
            twin.terminate("retired by an order", self._twins.clock())
            return True

        return retire

    def _modify(self, order: OrderRecord, item: Body) -> Callable[[TwinRecord], bool]:
        def modify(twin: TwinRecord) -> bool:
            if twin.has_item(order.id, item["id"]):
                return False  # done before; another order may have changed it since
            if twin.terminated:
                raise Conflict(f"service {twin.id} was terminated meanwhile; order another one")
            service, now = item["service"], self._twins.clock()
            state = str(service.get("state") or "")
            if state and not (state == "active" and not twin.suspended):
                self._twins.move(twin, state)
            before = twin.scope
            scope = wanted_scope(service, members=self._twins.members, now=order.ordered_at, before=before)
            if scope != before:
                twin.rescope(scope, now)
            twin.body |= {name: service[name] for name in ("name", "description") if name in service}
            twin.add_item(order.id, item["id"], "modify")
            return True

        return modify

    @staticmethod
    def _result(twin: TwinRecord, *, added: bool) -> _Result:
        """How far an item is whose twin is in this state."""
        errors = tuple(
            (code, f"{domain}: {why.removeprefix(f'{domain}: ')}")
            for domain, code, why in reasons(twin.refused)
        )
        if twin.terminated and not (added and twin.body["hasStarted"]):
            told = errors or (("conflict", f"service {twin.id} was terminated before it was ready"),)
            return _Result("failed", told, twin)
        if twin.suspended or twin.terminated:
            return _Result("completed", twin=twin)
        if twin.undecided or (twin.state != "active" and twin.operating != "failed"):
            away = any(part["operatingStatus"] == "pending" for part in twin.undecided)
            return _Result("held" if away else "inProgress", twin=twin)
        if twin.state != "active":
            return _Result("failed", errors, twin)
        return _Result("partial" if errors else "completed", errors, twin)

    def _write_down(self, order: OrderRecord, results: Mapping[str, _Result]) -> None:
        if order.over or order.cancelling:
            return
        now = self._twins.clock()
        for item in order.open_items:
            result = results.get(item["id"])
            if result is None:
                continue
            item["state"] = result.state
            for code, message in result.errors:
                order.error(item, code, message, now)
            if (twin := result.twin) is not None:
                item["service"] |= {"id": twin.id, "state": twin.state}
                self._warn(order, item, twin, now)
        twins = [result.twin for result in results.values() if result.twin]
        ids = [item["id"] for item in order.items if item["action"] != "noChange"]
        if twins and all(not twin.undecided and twin.joined for twin in twins):
            order.reach("domainsJoined", "every domain took part or refused", ids, now)
        order.settle(now)
        if order.state in ("completed", "partial"):
            order.reach("synced", "what was ordered is ready", ids, now)

    def _warn(self, order: OrderRecord, item: Body, twin: TwinRecord, now: Nanoseconds) -> None:
        for part in twin.undecided:
            if now - asked_at(part) >= self._twins.timing.late_s * _SECOND:
                message = f"{part['name']} has not taken part in item {item['id']} yet"
                order.alert("domainLate", message, item["id"], now)

    # ------------------------------------------------------------ cancelling

    async def _settle_cancels(self, repository: Repository, identity: str, order: OrderRecord | None) -> bool:
        """Answer what was asked to be cancelled; whether the order was changed by that."""
        asked = [
            record
            for record in repository.list(Kind.CANCEL_SERVICE_ORDER)
            if record.body.get("state") in ("accepted", "inProgress")
            and record.body["serviceOrder"]["id"] == identity
        ]
        if not asked:
            if order is not None and order.state == "assessingCancellation":
                # Whoever asked has taken it back.
                await self._write(repository, identity, self._go_on)
                return True
            return False
        if order is None or order.over:
            why = "is gone" if order is None else f"is {order.state} already"
            for record in asked:
                if order is not None and order.state == "cancelled":
                    await self._answer(repository, record, "done", "", order)
                else:
                    await self._answer(repository, record, "terminatedWithError", f"the order {why}", order)
            return False
        if order.state == "pendingCancellation":
            return False
        if order.state != "assessingCancellation":
            await self._write(repository, identity, self._assess)
            for record in asked:
                await self._answer(repository, record, "inProgress", "", order)
            return True
        if late := self._too_late(repository, order):
            await self._write(repository, identity, self._go_on)
            for record in asked:
                await self._answer(repository, record, "terminatedWithError", late, order)
        else:
            reason = next(
                (str(r.body["cancellationReason"]) for r in asked if "cancellationReason" in r.body), ""
            )
            await self._write(repository, identity, lambda now: self._accept(now, reason))
        return True

    @staticmethod
    def _assess(order: OrderRecord) -> None:
        if not order.over:
            order.body["state"] = "assessingCancellation"

    def _go_on(self, order: OrderRecord) -> None:
        if order.state == "assessingCancellation":
            order.body["state"] = "inProgress"
            order.settle(self._twins.clock())

    @staticmethod
    def _accept(order: OrderRecord, reason: str) -> None:
        if order.over:
            return
        order.body["state"] = "pendingCancellation"
        if reason:
            order.body["cancellationReason"] = reason
        for item in order.open_items:
            item["state"] = "pendingCancellation"

    @staticmethod
    def _too_late(repository: Repository, order: OrderRecord) -> str:
        """Why an order cannot be cancelled any more; empty where it can."""
        for item in order.items:
            if item["state"] in ("completed", "partial"):
                return f"item {item['id']} is {item['state']} already"
            if item["action"] in ("modify", "delete") and item["state"] not in ITEM_OVER:
                with contextlib.suppress(NotFound):
                    service = repository.get(Kind.SERVICE, str(item["service"].get("id", "")))
                    if TwinRecord(service).has_item(order.id, item["id"]):
                        return f"item {item['id']} was begun already, and cannot be taken back"
        return ""

    async def _cancel(self, repository: Repository, order: OrderRecord) -> None:
        """Retire what was begun, and end the order."""

        def retire(twin: TwinRecord) -> bool:
            if twin.terminated:
                return False
            twin.terminate("its order was cancelled", self._twins.clock())
            return True

        for item in order.items:
            if item["action"] == "add" and item["state"] == "pendingCancellation":
                with contextlib.suppress(NotFound):
                    await self._twins.edit(repository, _twin_of(order, item), retire)

        def end(now: OrderRecord) -> None:
            at = self._twins.clock()
            for item in now.open_items:
                item["state"] = "cancelled"
            now.body |= {"state": "cancelled", "cancellationDate": stamp(at), "completionDate": stamp(at)}

        await self._write(repository, order.id, end)

    async def _answer(
        self, repository: Repository, record: Record, state: str, why: str, order: OrderRecord | None
    ) -> None:
        body: dict[str, Any] = {**record.body, "state": state}
        if state == "done" and order is not None:
            body["effectiveCancellationDate"] = order.body.get("cancellationDate", "")
            body["completionMessage"] = "the order is cancelled"
        if why:
            body["completionMessage"] = f"too late: {why}"
            body["errorMessage"] = {"code": "conflict", "reason": why, "message": f"too late: {why}"}
        with contextlib.suppress(StaleVersion, NotFound):  # it is looked at again
            await repository.update(record, body)

    # ------------------------------------------------------------ records

    async def _write(
        self, repository: Repository, identity: str, change: Callable[[OrderRecord], None]
    ) -> OrderRecord:
        """Change an order however often others do so at the same time. Raises NotFound, Unreachable."""
        for _ in range(_TRIES):
            record = repository.get(Kind.SERVICE_ORDER, identity)
            order = OrderRecord(record)
            change(order)
            if order.body == record.body:
                return order
            try:
                await repository.update(record, order.body)
            except StaleVersion:
                continue
            return order
        raise Unreachable(f"serviceOrder {identity} changes faster than it can be written; it is tried again")


def _twin_of(order: OrderRecord, item: Body) -> str:
    """The service that an item is about; for `add` an id that every look at the order finds again."""
    if item["action"] == "add":
        return str(uuid5(_TWINS, f"{order.id}\0{item['id']}"))
    return str(item["service"].get("id", ""))


async def _first(*events: asyncio.Event, timeout_s: float) -> None:
    """Return when one of the events is set, at the latest after that time."""
    waits = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waits, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for wait in waits:
            wait.cancel()
        await asyncio.gather(*waits, return_exceptions=True)
