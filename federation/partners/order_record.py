"""An order (TMF641) as it is written down: its state, derived from its items; milestones, alerts, errors.

acknowledged -> inProgress -> completed | failed | partial | rejected, inProgress <-> pending | held;
cancelled by way of assessingCancellation and pendingCancellation. What is over never changes.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

from domain_twin.model import Nanoseconds
from federation.partners.dates import moment, stamp
from federation.partners.record import Record

__all__ = ["ITEM_OVER", "ORDER_OVER", "OrderRecord", "derive"]

ORDER_OVER = frozenset({"completed", "failed", "partial", "rejected", "cancelled"})
"""Terminal states of an order."""
ITEM_OVER = ORDER_OVER
"""Terminal states of an item."""
_CANCELLING = frozenset({"assessingCancellation", "pendingCancellation"})


def derive(items: Iterable[str]) -> str:
    """The state of an order whose items are in these states."""
    states = set(items)
    if states <= ITEM_OVER:
        if len(states) == 1:
            return states.pop()
        if states <= {"failed", "rejected"}:
            return "failed"
        return "partial"
    for state in ("held", "pending"):
        if state in states:
            return state
    return "acknowledged" if states <= {"acknowledged", "rejected"} else "inProgress"


class OrderRecord:
    """A copy of an order's body, to be read and edited."""

    def __init__(self, record: Record) -> None:
        self.body: dict[str, Any] = copy.deepcopy(dict(record.body))

    @property
    def id(self) -> str:
        """Of the order."""
        return str(self.body["id"])

    @property
    def state(self) -> str:
        """Of the order."""
        return str(self.body["state"])

    @property
    def over(self) -> bool:
        """Whether it will never change any more."""
        return self.state in ORDER_OVER

    @property
    def cancelling(self) -> bool:
        """Whether it is being cancelled, or it is thought about."""
        return self.state in _CANCELLING

    @property
    def items(self) -> list[dict[str, Any]]:
        """In the order in which they were sent."""
        found: list[dict[str, Any]] = self.body["serviceOrderItem"]
        return found

    @property
    def open_items(self) -> list[dict[str, Any]]:
        """Items that are not over."""
        return [item for item in self.items if item["state"] not in ITEM_OVER]

    @property
    def ordered_at(self) -> Nanoseconds:
        """When it was taken in."""
        return moment(self.body["orderDate"])

    @property
    def starts_at(self) -> Nanoseconds:
        """Before when nothing is done."""
        wanted = self.body.get("requestedStartDate")
        return moment(wanted) if wanted else self.ordered_at

    def settle(self, now: Nanoseconds) -> None:
        """Bring the order's state up to that of its items; not while it is being cancelled."""
        if self.over or self.cancelling:
            return
        self.body["state"] = derive(item["state"] for item in self.items)
        if self.over:
            self.body["completionDate"] = stamp(now)

    def begin(self, now: Nanoseconds) -> None:
        """Start working on it."""
        for item in self.open_items:
            if item["state"] in ("acknowledged", "pending"):
                item["state"] = "inProgress"
        self.body.setdefault("startDate", stamp(now))

    def reach(self, name: str, description: str, items: Iterable[str], now: Nanoseconds) -> None:
        """Note a milestone, once."""
        reached = self.body.setdefault("milestone", [])
        if any(milestone["name"] == name for milestone in reached):
            return
        reached.append(
            {
                "id": str(len(reached) + 1),
                "name": name,
                "description": description,
                "message": description,
                "milestoneDate": stamp(now),
                "status": "completed",
                "serviceOrderItem": [self._reference(item) for item in items],
            }
        )

    def alert(self, kind: str, message: str, item: str, now: Nanoseconds) -> None:
        """Warn that the order may be late, once for each message."""
        alerts = self.body.setdefault("jeopardyAlert", [])
        if any(alert["message"] == message for alert in alerts):
            return
        alerts.append(
            {
                "id": str(len(alerts) + 1),
                "name": kind,
                "jeopardyType": kind,
                "message": message,
                "alertDate": stamp(now),
                "serviceOrderItem": [self._reference(item)],
            }
        )

    def error(self, item: dict[str, Any], code: str, message: str, now: Nanoseconds) -> None:
        """Say why an item is not done, at the item and at the order, once."""
        told = {"code": code, "reason": message, "message": message, "timestamp": stamp(now)}
        errors = item.setdefault("errorMessage", [])
        if any((error["code"], error["message"]) == (code, message) for error in errors):
            return
        errors.append(told)
        of_order = {**told, "serviceOrderItem": [self._reference(str(item["id"]))]}
        self.body.setdefault("errorMessage", []).append(of_order)

    def _reference(self, item: str) -> Mapping[str, str]:
        return {"id": item, "itemId": item, "serviceOrderId": self.id}
