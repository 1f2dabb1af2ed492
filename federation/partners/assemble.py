"""What a broker does for its partners, put together: the one place where desks are made and named by kind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from domain_twin.config import BrokerConfig
from domain_twin.model import Finding
from federation.partners.asking import Asking
from federation.partners.callbacks import Callbacks
from federation.partners.catalogue import publish
from federation.partners.deliveries import Deliveries
from federation.partners.hubs import Hubs
from federation.partners.orders import Cancels, Orders
from federation.partners.partners import Partners
from federation.partners.quotas import Quotas
from federation.partners.record import PUBLIC, Desk, Kind
from federation.partners.run_desks import run_desks
from federation.partners.signing import EventKey
from federation.partners.store import RecordStore
from federation.partners.twins import Twins

if TYPE_CHECKING:
    from domain_twin.alarms.desk import AlarmDesk
    from domain_twin.simulation.jobs.desk import JobDesk
    from federation.jobs import BrokerJobs
    from federation.registry import Registry

__all__ = ["Surroundings", "assemble", "open_store"]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What desks may need of the broker around them."""

    config: BrokerConfig
    store: RecordStore
    registry: Registry
    runs: JobDesk
    jobs: BrokerJobs
    alarms: AlarmDesk
    report: Callable[[Sequence[Finding]], None] = lambda _: None
    """Told what is wrong with subscriptions to events."""


async def open_store(config: BrokerConfig) -> RecordStore:
    """The store of the partners that are configured, with the catalogue of what they may order in it.

    Raises ConfigError, Unreachable, OverCapacity.
    """
    store = await RecordStore.open(
        config.state,
        config.database,
        [partner.id for partner in config.partner],
        limits={partner.id: partner.quota.records for partner in config.partner},
    )
    try:
        await publish(store.of(PUBLIC), [member.domain for member in config.member])
    except BaseException:
        await store.close()
        raise
    return store


def assemble(around: Surroundings) -> Partners:
    """All desks at work on the store."""
    return Partners(around.store, _desks(around))


def _desks(around: Surroundings) -> Mapping[Kind, Desk]:
    config = around.config
    quotas = Quotas(config.partner)
    callbacks = Callbacks(config.events)
    deliveries = Deliveries(around.store, config.events, EventKey.load(config.state), callbacks)
    deliveries.on_findings = around.report
    twins = Twins(
        Asking(config.operator, around.registry.session),
        members=[member.domain for member in config.member],
        quotas=quotas,
    )
    orders = Orders(twins)
    return {
        Kind.SERVICE: twins,
        Kind.SERVICE_ORDER: orders,
        Kind.CANCEL_SERVICE_ORDER: Cancels(orders),
        Kind.HUB: Hubs(deliveries, callbacks, quotas),
        **run_desks(config, around.store, around.runs, around.jobs, twins.sandbox),
    }
