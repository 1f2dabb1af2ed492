"""The Deliveries service as a Python API: what an operator of a broker asks of partners' subscriptions."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from domain_twin.errors import NotFound
from domain_twin.model import Nanoseconds
from federation.client import TwinClient
from federation.connection import Connection
from federation.v1 import fedtwin_pb2 as pb

__all__ = ["DeadLetter", "DeliveriesClient", "Subscription"]


@dataclass(frozen=True, slots=True)
class Subscription:
    """One subscription of a partner, and how its events get there."""

    tenant: str
    id: str
    api: str
    callback: str
    query: str
    state: str
    waiting: int
    dead: int
    last_error: str = ""
    failing_since: str = ""
    """ISO 8601; empty while it works."""

    @property
    def troubled(self) -> bool:
        """Whether there is anything to try again."""
        return bool(self.dead) or self.state == "suspended"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """An event that could not be delivered."""

    event_id: str
    event_type: str
    at: Nanoseconds
    resource_id: str
    attempts: int
    reason: str


class DeliveriesClient(Connection):
    """A connection of an operator, used as `async with DeliveriesClient.connect(at) as deliveries`."""

    use = "`async with DeliveriesClient.connect(…)`"

    @classmethod
    def connect(cls, at: str | Path = "", *, timeout_s: float = 30.0) -> DeliveriesClient:
        """A client of the broker at `at`, as `TwinClient.connect` finds it. Raises NotFound for an agent."""
        profile = TwinClient.connect(at)._profile
        if isinstance(profile, Path):
            raise NotFound(f"{profile}: an agent has no partners; ask the broker, with its client profile")
        return cls(profile, timeout_s=timeout_s)

    def _make_stub(self, channel: Any) -> Any:
        from federation.v1.fedtwin_pb2_grpc import DeliveriesStub

        return DeliveriesStub(channel)

    async def subscriptions(self, tenant: str = "") -> list[Subscription]:
        """Those of all partners, or of one. Raises NotShared, NotFound, Unreachable."""
        answer = await self._ask("ListSubscriptions", pb.ListSubscriptionsRequest(tenant=tenant))
        return [_subscription(item) for item in answer.subscriptions]

    async def dead_letters(self, tenant: str, identity: str, *, limit: int = 0) -> list[DeadLetter]:
        """The newest first; 0: all that are kept. Raises NotFound."""
        request = pb.ListDeadLettersRequest(tenant=tenant, id=identity, limit=limit)
        return [
            DeadLetter(each.event_id, each.event_type, each.at, each.resource_id, each.attempts, each.reason)
            for each in (await self._ask("ListDeadLetters", request)).letters
        ]

    async def retry(self, tenant: str, identity: str) -> tuple[Subscription, int]:
        """Have all that was not delivered tried again: the subscription, and how many dead letters it had.

        Raises NotFound, and ContractError where its callback is not allowed any more.
        """
        answer = await self._ask("RetryDeliveries", pb.RetryDeliveriesRequest(tenant=tenant, id=identity))
        return _subscription(answer.subscription), int(answer.retried)


def _subscription(message: Any) -> Subscription:
    return Subscription(
        message.tenant,
        message.id,
        message.api,
        message.callback,
        message.query,
        message.state,
        int(message.waiting),
        int(message.dead),
        message.last_error,
        message.failing_since,
    )
