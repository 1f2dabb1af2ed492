"""Who may run what now: a tenant's twins, its runs at once, its seconds of today. Keeps no records.

Runs are counted however they were asked for: tests (TMF653) and jobs of the NDT face. A test is counted from
the moment that it is taken in; the job that carries it out is not counted again.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable

from domain_twin.errors import OverCapacity
from domain_twin.model.job import Job
from federation.jobs import Sandbox, tenant_of
from federation.partners.metering import Meter

__all__ = ["TEST_LABEL", "Admission"]

TEST_LABEL = "test"
"""Label of a job that carries out a test: the id of it."""
_UNKEPT_S = 60.0  # a test that was taken in and never reached the disk counts so long
_AGAIN_S = 5.0


class Admission:
    """What jobs need to know of partners (`federation.jobs.Tenants`), and the places of runs."""

    def __init__(
        self,
        sandbox_of: Callable[[str, str], Sandbox | None],
        *,
        jobs: Callable[[], Iterable[Job]],
        most: Callable[[str], int],
        meter: Meter,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`sandbox_of`: by tenant and twin; `jobs`: all of the broker's; `most`: runs at once of a tenant."""
        self._sandbox_of = sandbox_of
        self._jobs = jobs
        self._most = most
        self._meter = meter
        self._monotonic = monotonic
        self._tests: dict[str, dict[str, float]] = {}  # by tenant: until when a test counts

    def sandbox(self, tenant: str, service: str) -> Sandbox | None:
        """The active twin of a tenant."""
        return self._sandbox_of(tenant, service)

    def admit(self, tenant: str, job: Job) -> None:
        """Count a job, unless it carries out a test that is counted. Raises OverCapacity."""
        if job.labels.get(TEST_LABEL) not in self._tests.get(tenant, {}):
            self.check(tenant)

    def check(self, tenant: str) -> None:
        """Raises OverCapacity where the tenant runs as much as it may, or its seconds are used up."""
        self._meter.check(tenant)
        running, most = self.running(tenant), self._most(tenant)
        if running >= most:
            error = OverCapacity(f"{running} of your runs are open, and {most} at once is your quota")
            error.retry_after_s = _AGAIN_S
            raise error

    def running(self, tenant: str) -> int:
        """The tenant's runs that are not over."""
        now = self._monotonic()
        tests = sum(until > now for until in self._tests.get(tenant, {}).values())
        return tests + sum(
            not job.state.ended and TEST_LABEL not in job.labels and tenant_of(job.owner) == tenant
            for job in self._jobs()
        )

    def taken_in(self, tenant: str, test: str) -> None:
        """Count a test that is about to be kept."""
        self._tests.setdefault(tenant, {})[test] = self._monotonic() + _UNKEPT_S

    def opened(self, tenant: str, test: str) -> None:
        """Count a test that is kept and not over."""
        self._tests.setdefault(tenant, {})[test] = float("inf")

    def over(self, tenant: str, test: str) -> None:
        """Count a test no more."""
        self._tests.get(tenant, {}).pop(test, None)

    async def took(self, tenant: str, seconds: float) -> None:
        """Note how long a job of the tenant was answered."""
        await self._meter.took(tenant, seconds)
