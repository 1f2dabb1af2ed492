"""Orders of partners: the desks of `serviceOrder` and `cancelServiceOrder` (TMF641).

An order is acknowledged by itself. One task per open order takes its items forward (`fulfilling`) and settles
what was asked to be cancelled; a broker that starts anew goes on from what is on disk.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

from domain_twin.errors import (
    Conflict,
    ContractError,
    TwinError,
)
from federation.partners.dates import stamp
from federation.partners.fulfilling import Fulfilment
from federation.partners.order_items import check_form, judge, over_quota
from federation.partners.order_record import OrderRecord
from federation.partners.record import Body, Kind, Record, Repository
from federation.partners.twins import Twins

__all__ = ["Cancels", "Orders"]

log = logging.getLogger(__name__)

_OURS = frozenset(
    {
        "id",
        "href",
        "state",
        "orderDate",
        "startDate",
        "completionDate",
        "expectedCompletionDate",
        "cancellationDate",
        "cancellationReason",
        "milestone",
        "jeopardyAlert",
        "errorMessage",
    }
)
"""Attributes of an order that only the broker writes."""


class Orders:
    """The desk of service orders."""

    def __init__(self, twins: Twins) -> None:
        self._twins = twins
        self._fulfilment = Fulfilment(twins)
        self._work: dict[tuple[str, str], tuple[Repository, asyncio.Event]] = {}
        self._begin: asyncio.Queue[tuple[str, str]] = asyncio.Queue()

    # ------------------------------------------------------------ Desk

    async def create(self, repository: Repository, body: Body) -> Body:
        """An order that is acknowledged, or rejected with all its reasons. Raises ContractError."""
        if wrong := check_form(body):
            raise ContractError("; ".join(wrong))
        now = self._twins.clock()
        kept: dict[str, Any] = {name: value for name, value in body.items() if name not in _OURS}
        kept |= {"id": str(uuid4()), "@type": "ServiceOrder", "state": "acknowledged"}
        kept["orderDate"] = stamp(now)
        kept["serviceOrderItem"] = [
            {
                **{name: value for name, value in item.items() if name not in ("state", "errorMessage")},
                "state": "acknowledged",
            }
            for item in body["serviceOrderItem"]
        ]
        order = OrderRecord(Record(repository.tenant, Kind.SERVICE_ORDER, kept["id"], 0, 0, kept, now))
        held = self._twins.held_by(repository)
        for item in order.items:
            problems = judge(
                item, repository, members=self._twins.members, quotas=self._twins.quotas, now=now
            )
            if item["action"] == "add":
                problems = problems or over_quota(self._twins.quotas, repository.tenant, held)
                held += not problems
            for code, message in problems:
                item["state"] = "rejected"
                order.error(item, code, message, now)
        order.settle(now)
        return order.body

    async def change(self, repository: Repository, record: Record, body: Body) -> Body:
        """A partner's patch: words and dates of its own. Raises Conflict for states, ContractError else."""
        before = record.body
        if body.get("state") != before.get("state"):
            raise Conflict(
                f"serviceOrder {record.id} is {before.get('state')}; its state follows from its items, and it"
                " is cancelled with a cancelServiceOrder"
            )
        for name in sorted(_OURS | {"serviceOrderItem", "requestedStartDate", "@type"}):
            if body.get(name) != before.get(name):
                raise ContractError(f"{name}: cannot be changed on an order; send another one")
        return body

    async def remove(self, repository: Repository, record: Record) -> None:
        """Only what is over is forgotten. Raises Conflict."""
        order = OrderRecord(record)
        if not order.over:
            raise Conflict(
                f"serviceOrder {order.id} is {order.state}; cancel it first, or wait until it is over"
            )

    def kept(self, repository: Repository, record: Record) -> None:
        """Begin to work on it, or go on."""
        if not OrderRecord(record).over:
            self.poke(repository, record.id)

    def poke(self, repository: Repository, identity: str) -> None:
        """Have an order looked at again."""
        key = (repository.tenant, identity)
        if key in self._work:
            self._work[key][1].set()
        else:
            self._work[key] = (repository, asyncio.Event())
            self._begin.put_nowait(key)

    async def run(self) -> None:
        """Work on all open orders until cancelled."""
        while not self._begin.empty():
            self._begin.get_nowait()
        async with asyncio.TaskGroup() as tasks:
            for key in list(self._work):
                tasks.create_task(self._take_forward(key))
            while True:
                tasks.create_task(self._take_forward(await self._begin.get()))

    async def _take_forward(self, key: tuple[str, str]) -> None:
        repository, poke = self._work[key]
        while True:
            poke.clear()
            try:
                if await self._fulfilment.look(repository, key[1], poke) and not poke.is_set():
                    break
            except TwinError as error:  # the disk, for one
                log.warning("an order waits", extra={"order": key[1], "reason": str(error)})
                await asyncio.sleep(self._twins.timing.retry_s)
            except Exception:
                log.exception("an order failed", extra={"tenant": key[0], "order": key[1]})
                await asyncio.sleep(self._twins.timing.retry_s)
        del self._work[key]


class Cancels:
    """The desk of tasks that cancel orders."""

    def __init__(self, orders: Orders) -> None:
        self._orders = orders

    async def create(self, repository: Repository, body: Body) -> Body:
        """A task that is accepted; the order's own task carries it out. Raises ContractError, NotFound."""
        reference = body.get("serviceOrder")
        identity = reference.get("id") if isinstance(reference, Mapping) else None
        if not isinstance(identity, str):
            raise ContractError("serviceOrder.id: names the order to cancel, and is missing")
        reason = body.get("cancellationReason", "")
        if not isinstance(reason, str):
            raise ContractError("cancellationReason: must be text")
        repository.get(Kind.SERVICE_ORDER, identity)
        ours = ("id", "href", "state", "errorMessage", "completionMessage", "effectiveCancellationDate")
        kept = {name: value for name, value in body.items() if name not in ours}
        return {**kept, "id": str(uuid4()), "@type": "CancelServiceOrder", "state": "accepted"}

    async def change(self, repository: Repository, record: Record, body: Body) -> Body:
        """Nothing of it can be changed. Raises Conflict."""
        raise Conflict(f"cancelServiceOrder {record.id}: a task cannot be changed")

    async def remove(self, repository: Repository, record: Record) -> None:
        """Only what is over is forgotten. Raises Conflict."""
        if record.body.get("state") not in ("done", "terminatedWithError"):
            raise Conflict(
                f"cancelServiceOrder {record.id} is {record.body.get('state')}; wait until it is over"
            )

    def kept(self, repository: Repository, record: Record) -> None:
        """Have the order's task see to it."""
        if record.body.get("state") in ("accepted", "inProgress"):
            self._orders.poke(repository, record.body["serviceOrder"]["id"])

    async def run(self) -> None:
        """Everything is done by the orders' own tasks."""
        await asyncio.get_running_loop().create_future()
