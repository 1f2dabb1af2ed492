"""Values, times and versions: what every other type of the model is made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum
from types import MappingProxyType
from typing import TypeAlias

Nanoseconds: TypeAlias = int
Scalar: TypeAlias = bool | int | float | str | bytes | Decimal | None
Value: TypeAlias = Scalar | tuple[Scalar, ...]
"""A leaf's value: typed once `yang` has seen it. None is YANG's `empty`; a tuple is a leaf-list."""


class Origin(StrEnum):
    """How a value is known."""

    MEASURED = "measured"
    MODELLED = "modelled"
    IMPUTED = "imputed"
    SYNTHETIC = "synthetic"


class StateKind(StrEnum):
    """The four kinds of state that are never mixed (IETF SIMAP)."""

    LIVE = "live"
    SNAPSHOT = "snapshot"
    CANDIDATE = "candidate"
    INTENDED = "intended"


@dataclass(frozen=True, slots=True)
class Version:
    """Which state an answer is about: `epoch` is new when history was lost, `sequence` counts within it."""

    epoch: str
    sequence: int
    observed_at: Nanoseconds = 0


@dataclass(frozen=True, slots=True)
class Kpi:
    """One figure of merit, with how we know it. `std_error` and `value` are in `unit`."""

    name: str
    value: float
    unit: str
    std_error: float = 0.0
    origin: Origin = Origin.MEASURED
    observed_at: Nanoseconds = 0
    received_at: Nanoseconds = 0


# Names of KPIs, with their units: the vocabulary of the `kpis` mappings below.
DELAY = "one_way_delay"  # ms
DELAY_VARIANCE = "delay_variance"  # ms2
LOSS = "loss_ratio"  # 1
UTILISATION = "utilisation"  # 1
CARRIED_RATE = "carried_rate"  # Mbit/s
QUEUE = "queue_occupancy"  # octets
HANDLED_RATE = "handled_rate"  # 1/s
CELL_RATE = "cell_rate"  # Mbit/s
MCS = "mcs"  # 1
ACTIVE_UES = "active_ues"  # 1
UNITS: Mapping[str, str] = MappingProxyType(
    {
        DELAY: "ms",
        DELAY_VARIANCE: "ms2",
        LOSS: "1",
        UTILISATION: "1",
        CARRIED_RATE: "Mbit/s",
        QUEUE: "octets",
        HANDLED_RATE: "1/s",
        CELL_RATE: "Mbit/s",
        MCS: "1",
        ACTIVE_UES: "1",
    }
)


_NO_KPIS: Mapping[str, Kpi] = MappingProxyType({})


def no_kpis() -> Mapping[str, Kpi]:
    """The empty mapping that elements without KPIs share."""
    return _NO_KPIS
