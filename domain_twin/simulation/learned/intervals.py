"""Intervals around predicted figures, from how far predictions were off where it was measured.

Split conformal (V. Vovk, A. Gammerman, G. Shafer, "Algorithmic Learning in a Random World", 2005; J. Lei et
al., JASA 113 (2018)): the interval is the prediction plus and minus a quantile of misses that were not fitted
on, by quantity and by the highest utilisation on the path. The level holds for flows that come from where the
calibrating ones came; `coverage` says what it is elsewhere. Where nothing was calibrated the bounds are NaN:
no interval is made up.

A miss is relative to the prediction; of loss, which is mostly 0, to the prediction plus `LOSS_FLOOR`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Self

import numpy as np

from domain_twin.errors import ConfigError
from domain_twin.simulation.graph import FloatArray

__all__ = ["BANDS", "LEVEL", "Band", "Coverage", "Intervals", "Misses", "Quantity", "calibrate", "misses_of"]

SCHEMA = "fedtwin-intervals/1"
LEVEL = 0.9
BANDS = (0.0, 0.3, 0.5, 0.7, 0.9)
"""Lower ends of the bands of the highest utilisation on a path; the last one is open."""
LOSS_FLOOR = 1e-4


class Quantity(StrEnum):
    """What an interval is about."""

    DELAY = "delay"
    VARIANCE = "variance"
    LOSS = "loss"


@dataclass(frozen=True, slots=True, eq=False)
class Misses:
    """Misses by quantity and band, of predictions that the measured value had no part in. Adds with `+`."""

    found: Mapping[Quantity, tuple[FloatArray, ...]]

    def __add__(self, other: Misses) -> Misses:
        """All misses of both."""
        return Misses(
            {
                quantity: tuple(
                    np.concatenate([self._of(quantity, band), other._of(quantity, band)])
                    for band in range(len(BANDS))
                )
                for quantity in {*self.found, *other.found}
            }
        )

    def _of(self, quantity: Quantity, band: int) -> FloatArray:
        return self.found[quantity][band] if quantity in self.found else np.empty(0)


@dataclass(frozen=True, slots=True)
class Band:
    """A quantile of misses; NaN where there were too few, also over all bands."""

    quantile: float
    count: int  # misses of the band itself
    borrowed: bool  # too few of its own: the quantile is that of all bands


@dataclass(frozen=True, slots=True)
class Coverage:
    """How many measured values lie within their intervals."""

    share: float  # NaN: none had an interval
    count: int
    by_band: tuple[tuple[float, int], ...]  # share and count
    without: int  # values that had no interval


@dataclass(frozen=True, slots=True)
class Intervals:
    """Quantiles by quantity and band; empty: nothing was calibrated."""

    level: float = LEVEL
    bands: Mapping[Quantity, tuple[Band, ...]] = field(default_factory=dict)

    @property
    def calibrated(self) -> bool:
        """Whether there is any interval at all."""
        return any(not math.isnan(band.quantile) for bands in self.bands.values() for band in bands)

    @property
    def note(self) -> str:
        """What a report says about its intervals."""
        if not self.calibrated:
            return "no intervals: nothing was calibrated (`fedtwin calibrate`)"
        counts = {quantity: sum(band.count for band in bands) for quantity, bands in self.bands.items()}
        listed = ", ".join(f"{counts[quantity]} of {quantity}" for quantity in Quantity if quantity in counts)
        return f"{self.level:.0%} intervals from measured misses: {listed}"

    def bounds(
        self, quantity: Quantity, predicted: FloatArray, load: FloatArray
    ) -> tuple[FloatArray, FloatArray]:
        """Lower and upper ends, NaN where not calibrated; never below 0, and no loss above 1.

        `load` is the highest utilisation on each flow's path.
        """
        known = self.bands.get(quantity)
        if known is None:
            nothing = np.full(np.shape(predicted), np.nan)
            return nothing, nothing.copy()
        half = np.array([band.quantile for band in known])[_band(load)] * _scale(quantity, predicted)
        ceiling = 1.0 if quantity is Quantity.LOSS else np.inf
        return np.clip(predicted - half, 0.0, ceiling), np.clip(predicted + half, 0.0, ceiling)

    def coverage(
        self, quantity: Quantity, predicted: FloatArray, measured: FloatArray, load: FloatArray
    ) -> Coverage:
        """Count the measured values that lie within; flows without a measured value do not count."""
        low, high = self.bounds(quantity, predicted, load)
        seen = np.isfinite(measured) & np.isfinite(predicted)
        judged = seen & np.isfinite(low)
        within = judged & (measured >= low) & (measured <= high)
        band = _band(load)
        parts = []
        for index in range(len(BANDS)):
            count = int((judged & (band == index)).sum())
            parts.append((_share(int((within & (band == index)).sum()), count), count))
        total = int(judged.sum())
        return Coverage(_share(int(within.sum()), total), total, tuple(parts), int((seen & ~judged).sum()))

    def save(self, path: Path) -> None:
        """Write as JSON; a quantile that is not known is null there."""
        document = {
            "schema": SCHEMA,
            "level": self.level,
            "bands_from": BANDS,
            "quantities": {
                quantity: [
                    {
                        "quantile": None if math.isnan(band.quantile) else band.quantile,
                        "count": band.count,
                        "borrowed": band.borrowed,
                    }
                    for band in bands
                ]
                for quantity, bands in self.bands.items()
            },
        }
        path.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote; raises ConfigError for anything else."""
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            if found["schema"] != SCHEMA or tuple(found["bands_from"]) != BANDS:
                raise ConfigError(f"{path}: is of another schema or other bands; calibrate anew")
            loaded = cls(
                _level(found["level"]),
                {
                    Quantity(name): tuple(
                        Band(
                            math.nan if band["quantile"] is None else float(band["quantile"]),
                            int(band["count"]),
                            bool(band["borrowed"]),
                        )
                        for band in bands
                    )
                    for name, bands in found["quantities"].items()
                },
            )
        except ConfigError:
            raise
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as fault:
            raise ConfigError(f"{path}: holds no intervals ({fault}); calibrate anew") from None
        if any(
            len(bands) != len(BANDS) or any(band.quantile < 0 or math.isinf(band.quantile) for band in bands)
            for bands in loaded.bands.values()
        ):
            raise ConfigError(f"{path}: needs {len(BANDS)} quantiles of 0 or more a quantity; calibrate anew")
        return loaded


def misses_of(quantity: Quantity, predicted: FloatArray, measured: FloatArray, load: FloatArray) -> Misses:
    """The misses of predictions beside measured values; pairs with NaN are left out."""
    seen = np.isfinite(predicted) & np.isfinite(measured) & np.isfinite(load)
    miss = np.abs(measured[seen] - predicted[seen]) / _scale(quantity, predicted[seen])
    band = _band(load[seen])
    return Misses({quantity: tuple(miss[band == index] for index in range(len(BANDS)))})


def calibrate(misses: Misses, *, level: float = LEVEL) -> Intervals:
    """Take the quantiles, rounded up as a finite sample needs: the ceil((n + 1) level)-th smallest of n."""
    level = _level(level)
    bands = {}
    for quantity, parts in misses.found.items():
        overall = _quantile(np.concatenate(parts), level)
        listed = []
        for part in parts:
            own = _quantile(part, level)
            listed.append(Band(overall if math.isnan(own) else own, len(part), math.isnan(own)))
        bands[quantity] = tuple(listed)
    return Intervals(level, bands)


def _quantile(misses: FloatArray, level: float) -> float:
    """NaN where n is too small for the level: the interval would have no end."""
    # Without the guard, 0.9 * (9 + 1) is 9.000000000000002 in floating point on some levels.
    rank = math.ceil((len(misses) + 1) * level - 1e-9)
    if not 0 < rank <= len(misses):
        return math.nan
    return float(np.partition(misses, rank - 1)[rank - 1])


def _level(level: float) -> float:
    if not 0.0 < level < 1.0:
        raise ConfigError(f"level {level}: must lie between 0 and 1, as 0.9 does")
    return float(level)


def _scale(quantity: Quantity, predicted: FloatArray) -> FloatArray:
    floor = LOSS_FLOOR if quantity is Quantity.LOSS else 0.0
    return np.maximum(np.abs(predicted) + floor, 1e-300)


def _band(load: FloatArray) -> np.ndarray:
    """The band of each load; one that is not known counts as the highest."""
    return np.clip(
        np.searchsorted(BANDS, np.nan_to_num(load, nan=np.inf), side="right") - 1, 0, len(BANDS) - 1
    )


def _share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
