"""The gRPC service `Deliveries`: how events reach partners, for whoever operates the broker.

Only identities whose [[access]] says `operate = true` come here: `federation.twin.access_check` sees to it.
To try again is what the partner itself would do, and is decided by the same desk.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import grpc

from domain_twin.errors import TwinError, Unreachable
from domain_twin.trust.refusal import refuse
from federation.partners.deliveries import ACTIVE, Deliveries
from federation.partners.reception import Reception
from federation.partners.record import Kind, Record
from federation.v1 import fedtwin_pb2 as pb
from federation.v1 import fedtwin_pb2_grpc

__all__ = ["DeliveriesService"]

log = logging.getLogger(__name__)

MAX_LETTERS = 1000


class DeliveriesService(fedtwin_pb2_grpc.DeliveriesServicer):  # type: ignore[misc]  # generated
    """Serves operators over gRPC, while partners are received."""

    def __init__(self, reception: Reception, *, caller: Callable[[], str]) -> None:
        """`caller` says who asks now."""
        self._reception = reception
        self._caller = caller

    async def ListSubscriptions(self, request: Any, context: Any) -> Any:
        """All subscriptions, or those of one partner."""

        async def work() -> Any:
            deliveries = self._deliveries()
            found = [self._shown(record, deliveries) for record in self._hubs(request.tenant)]
            return pb.ListSubscriptionsResponse(subscriptions=found)

        return await _answer(context, work)

    async def ListDeadLetters(self, request: Any, context: Any) -> Any:
        """The newest events that could not be delivered."""

        async def work() -> Any:
            record = self._hub(request)
            limit = min(request.limit or MAX_LETTERS, MAX_LETTERS)
            letters = await self._deliveries().letters((record.tenant, record.id), limit=limit)
            return pb.ListDeadLettersResponse(
                letters=[
                    pb.DeadLetter(
                        event_id=identity,
                        event_type=letter.event.event_type,
                        at=letter.event.at,
                        resource_id=letter.event.id,
                        attempts=letter.attempts,
                        reason=letter.error,
                    )
                    for identity, letter in letters
                ]
            )

        return await _answer(context, work)

    async def RetryDeliveries(self, request: Any, context: Any) -> Any:
        """Have all that was not delivered tried again."""

        async def work() -> Any:
            record, deliveries = self._hub(request), self._deliveries()
            hub = (record.tenant, record.id)
            _, dead = deliveries.standing(hub)
            changed = await self._reception.partners.change(*hub[:1], Kind.HUB, hub[1], {"state": ACTIVE})
            if changed.version == record.version:  # it is told as active, and may not be yet
                deliveries.try_again(hub)
            log.info(
                "deliveries tried again", extra={"tenant": hub[0], "hub": hub[1], "operator": self._caller()}
            )
            return pb.RetryDeliveriesResponse(subscription=self._shown(changed, deliveries), retried=dead)

        return await _answer(context, work)

    def _deliveries(self) -> Deliveries:
        """Raises NotFound, Unreachable."""
        _ = self._reception.partners
        if (deliveries := self._reception.deliveries) is None:
            raise Unreachable("events are not delivered yet; ask again in a moment")
        return deliveries

    def _hubs(self, tenant: str) -> Iterator[Record]:
        """Raises NotFound for a partner that is not served."""
        store = self._reception.partners.store
        for name in [store.of(tenant).tenant] if tenant else sorted(store.tenants):
            yield from (record for record in store.of(name).list(Kind.HUB) if record.tenant == name)

    def _hub(self, request: Any) -> Record:
        """Raises NotFound."""
        return self._reception.partners.store.of(request.tenant).get(Kind.HUB, request.id)

    @staticmethod
    def _shown(record: Record, deliveries: Deliveries) -> Any:
        waiting, dead = deliveries.standing((record.tenant, record.id))
        body = record.body
        return pb.Subscription(
            tenant=record.tenant,
            id=record.id,
            api=str(body.get("api", "")),
            callback=str(body.get("callback", "")),
            query=str(body.get("query") or ""),
            state=str(body.get("state", ACTIVE)),
            waiting=waiting,
            dead=dead,
            last_error=str(body.get("lastError", "")),
            failing_since=str(body.get("failingSince", "")),
        )


async def _answer(context: Any, work: Callable[[], Awaitable[Any]]) -> Any:
    try:
        return await work()
    except grpc.aio.AbortError:
        raise
    except TwinError as error:
        await refuse(context, error)
    except Exception:
        log.exception("an operator's request failed")
        await refuse(context, TwinError("the broker failed on this; its log has the details"))
