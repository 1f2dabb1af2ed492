"""The residual that domains learned together, as this domain's what-ifs use it: the newest in service.

Owns which version that is and how it is told; what a correction does is `simulation.learned.load_curve`'s.
Reads it when it changed, and not before a question is asked. Blocks on disk.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from domain_twin.errors import ContractError, NotFound
from domain_twin.learning.task import Kind

if TYPE_CHECKING:
    from domain_twin.learning.store import Kept, ModelStore
    from domain_twin.simulation.graph import SimGraph
    from domain_twin.simulation.learned.load_curve import Correction, LoadCurve
    from domain_twin.simulation.twin.calibration import Calibration

__all__ = ["Corrections", "InService", "traffic_known"]

log = logging.getLogger(__name__)

_MOST_BYTES: Final = 64 << 10
"""Of a residual: a few numbers; whoever delivers more delivered something else."""


@dataclass(frozen=True, slots=True, eq=False)
class InService:
    """A residual in service: what it is called, who taught it, and what it corrects."""

    name: str
    contributors: int
    curve: LoadCurve
    share: float = 1.0
    """How much of the curve is what all taught; the rest is the domain's own fit."""

    @property
    def taught(self) -> str:
        """What it was fitted to, in words."""
        if not self.share:
            return "what this domain's own history taught (others' would not have made it better)"
        beside = f" ({self.share:.0%}) and its own history (the rest)" if self.share < 1 else ""
        return f"what {self.contributors} domains taught each other{beside}"

    def on(self, graph: SimGraph, calibration: Calibration | None) -> tuple[Correction, str]:
        """The correction of a network, and the words that an answer says of it."""
        from domain_twin.simulation.learned.load_curve import Correction

        made = Correction.of(self.curve, graph, calibration)
        if not made.links:
            return made, (
                f"the residual {self.name} is in service and corrects nothing: no link is calibrated by this"
                " release; `fedtwin calibrate` does"
            )
        return made, (
            f"delays of {len(made.links)} links are corrected by {self.taught} (model {self.name}), as far as"
            f" {self.curve.reach:.0%} busy; --no-residual leaves it out"
        )


class Corrections:
    """Of one agent's models. Its method may be called from any thread."""

    def __init__(self, store: ModelStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._read: tuple[tuple[str, int], InService | None] | None = None

    def in_service(self) -> InService | None:
        """The newest residual that is in service; None: there is none that can be used."""
        found = [kept for kept in self._store.models() if _usable(kept)]
        if not found:
            return None
        newest = max(found, key=lambda kept: kept.card.created_at).card
        key = newest.model, newest.version
        with self._lock:
            if self._read is None or self._read[0] != key:
                self._read = key, self._loaded(*key)
            return self._read[1]

    def _loaded(self, model: str, version: int) -> InService | None:
        from domain_twin.learning.arrays import decode_arrays
        from domain_twin.learning.models.residual import curve_of, share_of

        try:
            card = self._store.get(model, version).card
            arrays = decode_arrays(self._store.here(model, version), _MOST_BYTES)
            curve = curve_of(arrays)
        except (NotFound, ContractError) as error:
            log.warning("a residual cannot be used", extra={"model": model, "reason": str(error)})
            return None
        return InService(f"{model} {version}", len(card.contributors), curve, share_of(arrays))


def traffic_known(calibration: Calibration | None) -> dict[str, float]:
    """What a panel of a residual's holds of the domain's calibration; nothing where there is none."""
    if calibration is None:
        return {}
    traffic = calibration.traffic
    return {
        "packet_octets": traffic.packet_octets,
        "packets_per_train": traffic.packets_per_train,
        "size_scv": traffic.size_scv,
    }


def _usable(kept: Kept) -> bool:
    return kept.in_service and kept.card.task.kind is Kind.RESIDUAL
