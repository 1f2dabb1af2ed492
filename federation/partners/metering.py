"""What the runs of each tenant took, by day, and whether it may run more. Owns the USE records.

Counted are wall seconds at the broker, from the moment that a run is begun until its answer is composed: the
time that domains compute is in them, the time that a run waits behind others is not. A run that the end of
the broker cuts short is not counted.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

from domain_twin.errors import Conflict, NotFound, OverCapacity, StaleVersion
from domain_twin.model import Nanoseconds
from federation.partners.record import Kind, Repository

__all__ = ["Meter"]

log = logging.getLogger(__name__)

_TRIES = 5


class Meter:
    """Seconds by tenant and day (UTC)."""

    def __init__(
        self,
        repository_of: Callable[[str], Repository],
        quota_s: Callable[[str], float],
        *,
        clock: Callable[[], Nanoseconds] = time.time_ns,
    ) -> None:
        """`quota_s`: seconds that a tenant's runs may take a day."""
        self._repository_of = repository_of
        self._quota_s = quota_s
        self._clock = clock

    def used_s(self, tenant: str) -> float:
        """What the tenant's runs took today, seconds."""
        try:
            record = self._repository_of(tenant).get(Kind.USE, self._today())
        except NotFound:
            return 0.0
        return float(record.body.get("runSeconds", 0.0))

    def check(self, tenant: str) -> None:
        """Raises OverCapacity, with the seconds until midnight, where today's seconds are used up."""
        used, quota = self.used_s(tenant), self._quota_s(tenant)
        if used >= quota:
            error = OverCapacity(
                f"your runs took {used:.1f} s today, and {quota:g} s a day is your quota; it begins anew at"
                " midnight UTC"
            )
            error.retry_after_s = self._until_midnight_s()
            raise error

    async def took(self, tenant: str, seconds: float) -> None:
        """Count a run that took so long. Raises TwinError where it cannot be written."""
        repository, day = self._repository_of(tenant), self._today()
        for _ in range(_TRIES):
            try:
                record = repository.get(Kind.USE, day)
            except NotFound:
                body = {"id": day, "@type": "NdtUse", "date": day, "runs": 1, "runSeconds": round(seconds, 3)}
                try:
                    await repository.create(Kind.USE, body)
                except Conflict:
                    continue
                return
            runs, before_s = int(record.body.get("runs", 0)), float(record.body.get("runSeconds", 0.0))
            more = {"runs": runs + 1, "runSeconds": round(before_s + seconds, 3)}
            try:
                await repository.update(record, {**record.body, **more})
            except (StaleVersion, NotFound):
                continue
            return
        log.error("use of a run not counted", extra={"tenant": tenant, "seconds": seconds})

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock() / 1e9, UTC)

    def _today(self) -> str:
        return self._now().date().isoformat()

    def _until_midnight_s(self) -> float:
        now = self._now()
        midnight = (now + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
        return (midnight - now).total_seconds()
