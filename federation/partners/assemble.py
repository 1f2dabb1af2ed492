"""What a broker does for its partners, put together: the one place where desks are made and named by kind."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from domain_twin.config import BrokerConfig
from federation.partners.partners import Partners
from federation.partners.record import Desk, Kind
from federation.partners.run_desks import run_desks
from federation.partners.store import RecordStore

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


async def open_store(config: BrokerConfig) -> RecordStore:
    """The store of the partners that are configured. Raises ConfigError, Unreachable, OverCapacity."""
    return await RecordStore.open(
        config.state,
        config.database,
        [partner.id for partner in config.partner],
        limits={partner.id: partner.quota.records for partner in config.partner},
    )


def assemble(around: Surroundings) -> Partners:
    """All desks at work on the store."""
    return Partners(around.store, _desks(around))


def _desks(around: Surroundings) -> Mapping[Kind, Desk]:
    return run_desks(around.config, around.store, around.runs, around.jobs, lambda tenant, service: None)
