"""How figures of parts become those of a path. docs/kpi-algebra.md derives each rule with its assumption."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

from domain_twin.model import Origin, PathKpis

__all__ = ["IDENTITY", "claims_bandwidth", "claims_delay", "claims_loss", "meets", "qualified", "serial"]

IDENTITY = PathKpis(delay_ms=0.0)
"""The path of no parts: what every composition starts from."""
_ORDER = {Origin.MEASURED: 0, Origin.MODELLED: 1, Origin.IMPUTED: 2, Origin.SYNTHETIC: 3}


def serial(parts: Iterable[PathKpis]) -> PathKpis:
    """One part after the other: the figures of the whole. `serial(())` is the identity."""
    listed = tuple(parts)
    if not listed:
        return IDENTITY
    if len(listed) == 1:
        return listed[0]
    return PathKpis(
        delay_ms=sum(part.delay_ms for part in listed),
        delay_variance_ms2=sum(part.delay_variance_ms2 for part in listed),
        loss=_loss(part.loss for part in listed),
        bandwidth_mbps=min(part.bandwidth_mbps for part in listed),
        metric=sum(part.metric for part in listed),
        availability=math.prod(part.availability for part in listed),
        delay_std_error_ms=math.hypot(*(part.delay_std_error_ms for part in listed)),
        origin=max((part.origin for part in listed), key=_ORDER.__getitem__),
        shared_risks=frozenset().union(*(part.shared_risks for part in listed)),
    )


def qualified(kpis: PathKpis, domain: str) -> PathKpis:
    """The same figures with risks that name their domain: tokens of two domains are unrelated.

    The inter-domain links, whose domain is '', keep theirs: they are the links' own ids.
    """
    if not domain or not kpis.shared_risks:
        return kpis
    return replace(kpis, shared_risks=frozenset(f"{domain}/{token}" for token in kpis.shared_risks))


def claims_delay(kpis: PathKpis) -> bool:
    """Whether the delay is known: an unmeasured or withheld one is infinite."""
    return math.isfinite(kpis.delay_ms)


def claims_loss(kpis: PathKpis) -> bool:
    """Whether the loss is known: an unmeasured or withheld one is 1."""
    return kpis.loss < 1.0


def claims_bandwidth(kpis: PathKpis) -> bool:
    """Whether any free capacity is promised: an unmeasured or withheld one is 0."""
    return kpis.bandwidth_mbps > 0.0


def meets(
    kpis: PathKpis,
    *,
    delay_ms: float | None = None,
    bandwidth_mbps: float | None = None,
    loss: float | None = None,
) -> bool:
    """Whether the figures are within every bound that is given."""
    return (
        (delay_ms is None or kpis.delay_ms <= delay_ms)
        and (bandwidth_mbps is None or kpis.bandwidth_mbps >= bandwidth_mbps)
        and (loss is None or kpis.loss <= loss)
    )


def _loss(ratios: Iterable[float]) -> float:
    """1 - prod(1 - p), by logarithms: products of numbers near 1 would lose the small ones."""
    survival = 0.0
    for ratio in ratios:
        if ratio >= 1.0:
            return 1.0
        survival += math.log1p(-ratio)
    return -math.expm1(survival)
