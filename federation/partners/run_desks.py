"""The desks of runs and alarms, put together: what a broker needs beside the partners' twins."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from domain_twin.config import BrokerConfig
from federation.partners.admission import Admission
from federation.partners.alarm_tasks import task_desks
from federation.partners.alarms import Alarms
from federation.partners.metering import Meter
from federation.partners.predicted import Predicted
from federation.partners.record import Desk, Kind
from federation.partners.runner import Runner
from federation.partners.runs import Runs
from federation.partners.specifications import TestSpecifications
from federation.partners.store import RecordStore

if TYPE_CHECKING:
    from domain_twin.simulation.jobs.desk import JobDesk
    from federation.jobs import BrokerJobs, Sandbox

__all__ = ["run_desks"]


def run_desks(
    config: BrokerConfig,
    store: RecordStore,
    desk: JobDesk,
    jobs: BrokerJobs,
    sandbox_of: Callable[[str, str], Sandbox | None],
) -> dict[Kind, Desk]:
    """Desks of tests, their specifications, alarms and alarm tasks; `jobs` learns of the partners' twins.

    `sandbox_of`: the twin of a tenant, by tenant and service id; None while it is not up.
    """
    quotas = {partner.id: partner.quota for partner in config.partner}
    meter = Meter(store.of, lambda tenant: quotas[tenant].cpu_s_per_day)
    admission = Admission(sandbox_of, jobs=desk.jobs, most=lambda tenant: quotas[tenant].runs, meter=meter)
    jobs.tenants = admission
    runner = Runner(config.operator, desk, admission, results=Predicted())
    return {
        Kind.SERVICE_TEST_SPECIFICATION: TestSpecifications(),
        Kind.SERVICE_TEST: Runs(config.operator, runner, admission, jobs.check),
        Kind.ALARM: Alarms(lambda: [store.of(tenant) for tenant in sorted(store.tenants)], sandbox_of),
        **task_desks(),
    }
