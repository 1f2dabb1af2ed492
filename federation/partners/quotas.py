"""What each partner may order and have at once, as the broker's configuration says. Keeps nothing.

Runs and their seconds are counted by `admission` and `metering`.
"""

from __future__ import annotations

from collections.abc import Iterable

from domain_twin.config import PartnerConfig, QuotaConfig
from domain_twin.errors import NotShared, OverCapacity
from federation.partners.record import Kind, Repository

__all__ = ["Quotas"]

_NOTHING = QuotaConfig(twins=0, runs=0, cpu_s_per_day=0.0, hubs=0, records=1)


class Quotas:
    """The terms of all partners."""

    def __init__(self, partners: Iterable[PartnerConfig]) -> None:
        self._partners = {partner.id: partner for partner in partners}

    def of(self, tenant: str) -> QuotaConfig:
        """What a tenant may have at once; nothing for one that is not a partner (any more)."""
        partner = self._partners.get(tenant)
        return partner.quota if partner else _NOTHING

    def check_entitled(self, tenant: str, specification: str, name: str) -> None:
        """Raises NotShared where a tenant may not order a specification, given by id and name."""
        partner = self._partners.get(tenant)
        offered = partner.specifications if partner else ()
        if partner is None or (offered and specification not in offered and name not in offered):
            raise NotShared(
                f"you may not order {name or specification}; ask the operator of the exchange for it"
            )

    def check_twins(self, tenant: str, held: int, more: int = 1) -> None:
        """Raises OverCapacity where a tenant that holds so many twins may not have more."""
        quota = self.of(tenant).twins
        if held + more > quota:
            raise OverCapacity(
                f"you have {held} twins and may have {quota} at once; retire one first"
                if more == 1
                else f"you have {held} twins, ask for {more} more, and may have {quota} at once"
            )

    def check_hubs(self, repository: Repository, *, coming: int = 0) -> None:
        """Raises OverCapacity where a tenant has as many subscriptions as it may; `coming`: not kept yet."""
        held, quota = len(repository.list(Kind.HUB)) + coming, self.of(repository.tenant).hubs
        if held >= quota:
            raise OverCapacity(f"you have {held} subscriptions and may have {quota}; delete one first")
