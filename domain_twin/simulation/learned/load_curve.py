"""What the engine misses of delays on links as their load changes, and the correction of it in service.

The law of a link's queue is right at the load that its history had, where calibration puts it; elsewhere it
errs, as traffic is no Poisson stream. The miss is taken for a linear combination of terms of the law's own
wait, each less what it is at the load of the calibration: how the wait grows, for links whose delay varies as
much as this one's. Relative to the link, so that one that was never busy is corrected by what others' busy
links showed. The fit needs sums over many measured points only, and sums of several domains add up.

Owns terms, rows and sums, and the correction's bounds: none beyond the loads that were fitted, none by which
more load waits less, none larger than `LARGEST_DELAY` of a link's delay. Reads no history; solves nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from domain_twin.errors import ConfigError
from domain_twin.simulation.graph import FloatArray, Law, SimGraph
from domain_twin.simulation.laws.arrays import SIZE_SCV, Laws
from domain_twin.simulation.learned.residual import LARGEST_DELAY, Moments, least_squares
from domain_twin.simulation.twin.calibrate import (
    FOLDS,
    LEAST_BLOCKS,
    block_of,
    element_of,
    expected_s,
    points_of,
    traffic_of,
)
from domain_twin.simulation.twin.calibration import Calibration, ElementFit, Traffic
from domain_twin.simulation.twin.observed import Observations, Series

__all__ = [
    "BINS", "TERMS", "Correction", "LoadCurve", "Rows", "cross_fitted", "held_out", "joined", "solved",
    "sums",
]  # fmt: skip

TERMS = ("wait", "wait*load", "wait*spread", "early", "early*spread")
"""Terms of the miss, each of the law's wait. Spread is the logarithm of a link's `variance_ratio`
(`ElementFit`), 0 where that is 1 or not known. The last two are of links that calibration finds faster than
their law even without a fixed delay, as packets come evenly out of few queues: their level itself is off."""
BINS = 20
"""Of utilisation, for the count that says how far the fitted loads reach."""
_LARGEST_MISS = 1.0
"""Of one row, relative: a point that is off by more counts as that."""
_LARGEST_LOG = 3.0
_FULL = 0.99


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Measured points of links beside what the engine's law says, n of each. They stay in their domain."""

    miss: FloatArray  # (measured - computed) / measured delay
    load: FloatArray  # utilisation
    reference: FloatArray  # utilisation at which the computed delay is right; 0: at none
    unit: FloatArray  # wait at which load / (1 - load) is 1, relative to the measured delay
    spread: FloatArray
    early: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.miss)

    def terms(self, reach: float = 1.0) -> FloatArray:
        """[n, len(TERMS)], relative to the measured delay; loads beyond `reach` count as it."""
        here, there = (
            _terms(np.minimum(load, reach), self.unit, self.spread, self.early)
            for load in (self.load, self.reference)
        )
        return here - there


@dataclass(frozen=True, slots=True, eq=False)
class LoadCurve:
    """A fitted correction: a coefficient for each of TERMS, and the utilisation up to which it was fitted."""

    coefficients: FloatArray
    reach: float

    def missed(self, rows: Rows) -> FloatArray:
        """What is left of the rows' misses, [n]; the bounds of a network in service hold here as well."""
        change = rows.terms(self.reach) @ self.coefficients
        return np.asarray(rows.miss - np.clip(change, -LARGEST_DELAY, LARGEST_DELAY))


def cross_fitted(observations: Observations, traffic: Traffic | None = None) -> tuple[Rows, ...]:
    """Rows of all points of links, by quarter of the time, each computed by a fit to the other three.

    Quarters without any are left out. `traffic`: what calibration found packets to look like; None: what
    links alone say. Raises ConfigError where no link has enough points for that.
    """
    block, found = block_of(observations), []
    points = _points(observations, block)
    last = int(max((series.at.max() for series in points.values()), default=-1.0))
    for fold in range(FOLDS):
        low, high = (round((last + 1) * edge / FOLDS) for edge in (fold, fold + 1))
        away = {name: (series.at >= low) & (series.at < high) for name, series in points.items()}
        rest = {name: series.where(~away[name]) for name, series in points.items()}
        held = {name: series.where(away[name]) for name, series in points.items()}
        found.append([*_rows(*_fitted(rest, traffic), held)])
    _together([part for fold in found for part in fold], observations)
    return tuple(joined(fold) for fold in found if sum(map(len, fold)))


def held_out(training: Observations, held: Observations, traffic: Traffic | None = None) -> Rows:
    """Rows of the points of `held`, computed by a fit to `training`. Raises ConfigError: there are none."""
    block = block_of(training)
    fitted = _fitted(_points(training, block), traffic)
    return _together([*_rows(*fitted, _points(held, block))], held)


def joined(parts: Sequence[Rows]) -> Rows:
    """All rows of some parts, one at least."""
    return Rows(*(np.concatenate([getattr(part, name) for part in parts]) for name in Rows.__slots__))


def sums(rows: Rows) -> tuple[Moments, FloatArray]:
    """All that leaves a domain for a fit: moments of the rows, and their number by bin of load [BINS]."""
    bins = np.bincount((rows.load * BINS).astype(int).clip(0, BINS - 1), minlength=BINS)
    terms = rows.terms()
    moments = Moments(
        terms.T @ terms,
        terms.T @ rows.miss,
        float(rows.miss @ rows.miss),
        float(len(rows)),
        len(rows),
    )
    return moments, bins.astype(np.float64)


def solved(moments: Moments, bins: FloatArray, *, least: float) -> LoadCurve:
    """The least squares of summed rows; it reaches up to the highest bin with at least `least` of them."""
    filled = np.flatnonzero(bins >= least)
    reach = (float(filled[-1]) + 1.0) / BINS if len(filled) else 0.0
    return LoadCurve(least_squares(moments), min(reach, _FULL))


class Correction:
    """A curve for one network: what is added to the delay of each edge. Made by `Correction.of`."""

    def __init__(self, curve: LoadCurve, known: Mapping[int, tuple[float, float, bool]], edges: int) -> None:
        """`known`, by index of the edge: load at which calibration is right, spread, and if it is early."""
        self.links = tuple(sorted(known))
        self._curve = curve
        self._at = np.array(self.links, dtype=np.int64)
        told = np.array([known[edge] for edge in self.links], dtype=np.float64).reshape(-1, 3)
        self._reference, self._spread, self._early = told[:, 0], told[:, 1], told[:, 2] > 0
        self._edges = edges
        self._strength = self._bounded()

    @classmethod
    def of(cls, curve: LoadCurve, graph: SimGraph, calibration: Calibration | None) -> Correction:
        """For the links of `graph` that `calibration` has fitted; for no other."""
        known = {}
        for number, name in enumerate(graph.edges):
            fit = calibration.elements.get(name) if calibration is not None else None
            usable = graph.law[number] == Law.LINK and fit is not None and fit.kind == "link"
            if usable and fit is not None and np.isfinite(fit.load) and not fit.note:
                known[number] = (_reference(fit), _spread(fit), _early(fit))
        return cls(curve, known, len(graph.edges))

    def change_s(self, laws: Laws, load: FloatArray, delay: FloatArray) -> FloatArray:
        """Seconds to add to each edge's delay, [E, C], at `load` [E, C] packets/s and computed `delay`."""
        change = np.zeros((self._edges, load.shape[1]))
        if not len(self._at):
            return change
        here, service = load[self._at], laws.service_s[self._at]
        total = here.sum(axis=1)
        weights = np.where(total[:, None] > 0, here / np.maximum(total, 1e-300)[:, None], 1.0 / here.shape[1])
        mean = (weights * service).sum(axis=1)
        square = (weights * service**2 * (1.0 + laws.traffic[:, SIZE_SCV])).sum(axis=1)
        unit = square / (2.0 * np.maximum(mean, 1e-300))
        busy = (here * service).sum(axis=1)
        terms = _terms(np.minimum(busy, self._curve.reach), unit, self._spread, self._early)
        terms -= _terms(np.minimum(self._reference, self._curve.reach), unit, self._spread, self._early)
        seconds = (terms @ self._curve.coefficients) * self._strength
        limit = LARGEST_DELAY * delay[self._at]
        change[self._at] = np.clip(seconds[:, None], -limit, limit)
        return change

    def _bounded(self) -> FloatArray:
        """How much of the correction each link gets, so that its wait still grows with load, [links]."""
        loads = np.linspace(0.0, max(self._curve.reach, 1e-3), 65)[None, :]
        terms = _terms(loads, np.ones_like(loads), self._spread[:, None], self._early[:, None])
        added = np.diff(terms @ self._curve.coefficients)
        own = np.diff(loads / (1.0 - loads))  # what the law's wait grows by, in its own unit
        most = np.where(added < 0, own / np.maximum(-added, 1e-300), 1.0)
        return np.asarray(np.minimum(most.min(axis=1, initial=1.0), 1.0))


def _points(observations: Observations, block: int) -> dict[str, Series]:
    found = {
        name: points_of(series, block)
        for name, series in observations.series.items()
        if series.kind == "link"
    }
    return {name: series for name, series in found.items() if len(series)}


def _fitted(points: Mapping[str, Series], traffic: Traffic | None) -> tuple[Traffic, dict[str, ElementFit]]:
    """Traffic and elements as calibration finds them in `points`."""
    usable = {name: series for name, series in points.items() if len(series) >= LEAST_BLOCKS // 2}
    known = traffic or traffic_of(usable, float("nan"), [])
    return known, {name: element_of(series, known) for name, series in usable.items()}


def _rows(traffic: Traffic, fits: Mapping[str, ElementFit], points: Mapping[str, Series]) -> Iterator[Rows]:
    for name, series in points.items():
        fit = fits.get(name)
        if fit is None or not len(series) or not np.isfinite(fit.load):
            continue
        columns = zip(series.utilisation, series.capacity_mbps, series.servers, strict=True)
        expected = np.array([expected_s(fit, load, speed, k, traffic) for load, speed, k in columns])
        unit = traffic.train_octets * 8 / 1e6 / series.capacity_mbps * (1.0 + traffic.size_scv) / 2.0
        count = len(series)
        found = Rows(
            np.clip((series.delay_s - expected) / series.delay_s, -_LARGEST_MISS, _LARGEST_MISS),
            np.clip(series.utilisation, 0.0, _FULL),
            np.full(count, _reference(fit)),
            unit / series.delay_s,
            np.full(count, _spread(fit)),
            np.full(count, _early(fit)),
        )
        good = np.isfinite(found.miss) & np.isfinite(found.unit) & (series.delay_s > 0)
        yield Rows(*(getattr(found, name)[good] for name in Rows.__slots__))


def _terms(load: FloatArray, unit: FloatArray, spread: FloatArray, early: Any) -> FloatArray:
    """TERMS [n, 5] in seconds: `unit` is the wait at which load / (1 - load) is 1."""
    wait = unit * load / (1.0 - load)
    usual = np.where(early, 0.0, wait)
    other = np.where(early, wait, 0.0)
    return np.stack([usual, usual * load, usual * spread, other, other * spread], axis=-1)


def _spread(fit: ElementFit) -> float:
    """How much more a link's delay varies than that of Poisson arrivals would, as a logarithm."""
    if not (fit.variance_ratio > 0 and np.isfinite(fit.variance_ratio)):
        return 0.0
    return float(np.clip(np.log(fit.variance_ratio), -_LARGEST_LOG, _LARGEST_LOG))


def _early(fit: ElementFit) -> bool:
    """Whether a link is faster than its law even without a fixed delay."""
    return fit.fixed_s <= 0


def _reference(fit: ElementFit) -> float:
    """The load at which a link's computed delay is right; 0: there is none."""
    return 0.0 if _early(fit) else min(fit.load, _FULL)


def _together(parts: list[Rows], observations: Observations) -> Rows:
    if not parts or not sum(map(len, parts)):
        raise ConfigError(
            f"{observations.domain or 'this domain'}: no link has {LEAST_BLOCKS} points with a delay; take a"
            " longer window"
        )
    return joined(parts)
