"""What is told of elements that deviate, and how a watch stands: data that an agent keeps and shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from domain_twin.model import Nanoseconds

__all__ = ["Detection", "ElementStanding", "Evidence", "Onset", "Standing"]


class Onset(StrEnum):
    """How a deviation began."""

    JUMP = "jump"
    DRIFT = "drift"


@dataclass(frozen=True, slots=True)
class Evidence:
    """What one KPI was, and what the other KPIs let expect (a VAE: its mean); both in its unit.

    `deviations` says how far apart they are, in usual distances, with a sign.
    """

    kpi: str
    value: float
    expected: float
    deviations: float


@dataclass(frozen=True, slots=True)
class Detection:
    """One element that deviates. `score` is in thresholds: 1 is just enough."""

    element: str
    started_at: Nanoseconds
    detected_at: Nanoseconds
    score: float
    onset: Onset
    evidence: tuple[Evidence, ...]
    """The KPIs that contribute most, the first one most of all."""


@dataclass(frozen=True, slots=True)
class ElementStanding:
    """One element: steps in a row above the threshold and well below it, and what stands."""

    above: int = 0
    below: int = 0
    detection: Detection | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """How the elements of a watch stand: what a later fit goes on from. Of others nothing stands."""

    seen: Nanoseconds = 0
    """The end of the last step that was looked at."""
    elements: Mapping[str, ElementStanding] = field(default_factory=dict)

    @property
    def detections(self) -> list[Detection]:
        """What deviates."""
        return [one.detection for one in self.elements.values() if one.detection]
