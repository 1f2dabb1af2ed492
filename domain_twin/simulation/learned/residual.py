"""The learned correction of queueing tables: linear, per queue, and fitted from sums that can be added up.

Measured less computed delay is taken for a linear combination of features of the solution (`features`),
summed along the path. A fit by least squares then needs k x k sums only: each domain (or owner of a
simulator) makes its own `Statistics`, they are added, and the fit is that of the pooled flows, in one round;
`fit_robust` takes some rounds more.

Owns sums, fit, and when a correction may speak: not at queues outside of what it was fitted on, or crowded;
not beyond `LARGEST_DELAY` and `LARGEST_VARIANCE` of a flow's own figure; never so that more load means less
wait. Solves nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from domain_twin.errors import ConfigError
from domain_twin.simulation.flows import Flows, FlowSolution
from domain_twin.simulation.graph import FloatArray, SimGraph
from domain_twin.simulation.learned.features import (
    DEGREES,
    DELAY_FEATURES,
    OF_WAIT,
    VARIANCE_FEATURES,
    Features,
    features_of,
)

__all__ = [
    "LARGEST_DELAY", "LARGEST_VARIANCE", "Corrected", "Evidence", "Hull", "Moments", "Residual", "Statistics",
    "correct", "evidence_of", "fit", "fit_robust", "least_squares",
]  # fmt: skip

SCHEMA = "fedtwin-residual/1"
LARGEST_DELAY = 0.3
"""Most that the correction changes a mean delay by, relative."""
LARGEST_VARIANCE = 0.6
"""Most that it changes a variance by; waits that go together double it on long paths without branches."""
RIDGE = 1e-3
ROBUST_ROUNDS = 10
_SMALLEST_MISS = 1e-3  # relative; nearer than that, a flow counts no more in a robust fit


@dataclass(frozen=True, slots=True, eq=False)
class Hull:
    """The range of queues that carried flows in fitting; at those outside it the correction is silent."""

    utilisation: float  # highest; from 0
    rooms: tuple[float, float]  # lowest and highest number of packets that may wait
    size_scvs: tuple[float, float]  # of the mix of packets

    def __add__(self, other: Hull) -> Hull:
        """The smallest hull that holds both."""
        return Hull(
            max(self.utilisation, other.utilisation),
            (min(self.rooms[0], other.rooms[0]), max(self.rooms[1], other.rooms[1])),
            (min(self.size_scvs[0], other.size_scvs[0]), max(self.size_scvs[1], other.size_scvs[1])),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """The sums that least squares needs, of k features: a fit of A c = b with weights W."""

    gram: FloatArray  # [k, k] A^T W A
    moment: FloatArray  # [k] A^T W b
    square: float  # b^T W b
    weight: float
    count: int

    def __add__(self, other: Moments) -> Moments:
        return Moments(
            self.gram + other.gram,
            self.moment + other.moment,
            self.square + other.square,
            self.weight + other.weight,
            self.count + other.count,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Statistics:
    """All that leaves a domain for a fit: no flow, no path, no name. Adds with `+`."""

    delay: Moments
    variance: Moments
    hull: Hull

    def __add__(self, other: Statistics) -> Statistics:
        return Statistics(self.delay + other.delay, self.variance + other.variance, self.hull + other.hull)

    def to_json(self) -> str:
        """One JSON document; `from_json` reads it."""
        return json.dumps({"schema": SCHEMA, **_plain(self)}, sort_keys=True)

    @classmethod
    def from_json(cls, text: str, where: str = "statistics") -> Self:
        """Read what `to_json` wrote; raises ConfigError for anything else."""
        found = _document(text, where)
        with _refusing(where):
            return cls(
                _moments(found["delay"], len(DELAY_FEATURES)),
                _moments(found["variance"], len(VARIANCE_FEATURES)),
                _hull(found["hull"]),
            )


@dataclass(frozen=True, slots=True, eq=False)
class Evidence:
    """Measured flows of one network beside what was computed for them, relative to the measured value."""

    delay_features: FloatArray  # [F', 22]
    delay_miss: FloatArray  # [F'] (measured - computed) / measured
    variance_features: FloatArray  # [F'', 24]
    variance_miss: FloatArray  # [F'']
    hull: Hull

    def statistics(self, previous: Residual | None = None) -> Statistics:
        """The sums of these flows; a robust round weighs them by what `previous` leaves of their misses."""
        return Statistics(
            _sums(self.delay_features, self.delay_miss, None if previous is None else previous.delay),
            _sums(
                self.variance_features, self.variance_miss, None if previous is None else previous.variance
            ),
            self.hull,
        )


@dataclass(frozen=True, slots=True, eq=False)
class Residual:
    """A fitted correction."""

    delay: FloatArray  # [22]
    variance: FloatArray  # [24]
    hull: Hull
    flows: int  # that it was fitted on

    @property
    def digest(self) -> str:
        """SHA-256 over all that it consists of: two that agree in it correct alike."""
        return hashlib.sha256(json.dumps(_plain(self), sort_keys=True).encode()).hexdigest()

    def save(self, path: Path) -> None:
        """Write as JSON, with its schema and digest."""
        document = {
            "schema": SCHEMA,
            "digest": self.digest,
            "delay_features": DELAY_FEATURES,
            "variance_features": VARIANCE_FEATURES,
            **_plain(self),
        }
        path.write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote; raises ConfigError where the file is another, older, or was altered."""
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as fault:
            raise ConfigError(f"{path}: cannot be read ({fault})") from None
        found = _document(text, str(path))
        with _refusing(str(path)):
            if (
                tuple(found["delay_features"]) != DELAY_FEATURES
                or tuple(found["variance_features"]) != VARIANCE_FEATURES
            ):
                raise ConfigError(f"{path}: was fitted for other features; fit it anew")
            loaded = cls(
                _vector(found["delay"], len(DELAY_FEATURES)),
                _vector(found["variance"], len(VARIANCE_FEATURES)),
                _hull(found["hull"]),
                int(found["flows"]),
            )
        if found.get("digest") != loaded.digest:
            raise ConfigError(f"{path}: the digest does not fit the content; it was altered, fit it anew")
        return loaded


@dataclass(frozen=True, slots=True, eq=False)
class Corrected:
    """Corrected figures of flows, and how often the correction was held back."""

    delay_s: FloatArray  # [F]
    variance_s2: FloatArray  # [F]
    outside: int  # queues with traffic that were left as they are
    guarded: int  # hops where more load would have meant less wait
    clamped: int  # flows at the limit
    silent: np.ndarray  # [E] bool: those queues


def evidence_of(
    graph: SimGraph,
    flows: Flows,
    solution: FlowSolution,
    delay_s: FloatArray,
    variance_s2: FloatArray,
    *,
    features: Features | None = None,
) -> Evidence:
    """Set measured delays and variances [F] beside the solution; flows without a measured value are left out.

    Raises ConfigError where no flow is left.
    """
    known = features_of(graph, flows, solution) if features is None else features
    used = known.eligible & (solution.load_pps.sum(axis=1) > 0)
    delay = np.isfinite(delay_s) & (delay_s > 0) & np.isfinite(solution.delay_s)
    spread = np.isfinite(variance_s2) & (variance_s2 > 0) & delay
    if not used.any() or not delay.any() or not spread.any():
        raise ConfigError(
            "no flow with a measured delay crosses a queue that the correction knows: nothing to fit"
        )
    along_delay = _along(known.delay, solution, flows.count)
    along_variance = _along(known.variance, solution, flows.count)
    return Evidence(
        along_delay[delay] / delay_s[delay, None],
        1.0 - solution.delay_s[delay] / delay_s[delay],
        along_variance[spread] / variance_s2[spread, None],
        1.0 - solution.variance_s2[spread] / variance_s2[spread],
        Hull(
            float(known.utilisation[used].max()),
            (float(known.room[used].min()), float(known.room[used].max())),
            (float(known.size_scv[used].min()), float(known.size_scv[used].max())),
        ),
    )


def fit(statistics: Statistics, *, ridge: float = RIDGE) -> Residual:
    """Least squares of the relative miss, each feature shrunk by `ridge` of its own sum of squares."""
    return Residual(
        least_squares(statistics.delay, ridge),
        least_squares(statistics.variance, ridge),
        statistics.hull,
        statistics.delay.count,
    )


def fit_robust(
    evidence: Iterable[Evidence], *, ridge: float = RIDGE, rounds: int = ROBUST_ROUNDS
) -> Residual:
    """Least absolute misses, by rounds of reweighted least squares (P. W. Holland, R. E. Welsch, 1977).

    Federated, a round is one exchange: coefficients out, `Evidence.statistics(previous)` back, added.
    """
    parts = list(evidence)
    found = fit(_total(part.statistics() for part in parts), ridge=ridge)
    for _ in range(rounds):
        found = fit(_total(part.statistics(found) for part in parts), ridge=ridge)
    return found


def correct(
    residual: Residual,
    graph: SimGraph,
    flows: Flows,
    solution: FlowSolution,
    *,
    features: Features | None = None,
) -> Corrected:
    """Correct the delay and the variance of every flow, within the limits that the module states."""
    known = features_of(graph, flows, solution) if features is None else features
    hull = residual.hull
    inside = (
        known.eligible
        & ~known.crowded
        & (known.utilisation <= hull.utilisation)
        & (known.room >= hull.rooms[0])
        & (known.room <= hull.rooms[1])
        & (known.size_scv >= hull.size_scvs[0] - 1e-9)
        & (known.size_scv <= hull.size_scvs[1] + 1e-9)
    )
    hops = solution.hops
    speaks = inside[hops.edge]
    growth = solution.wait_growth[hops.edge, hops.traffic_class]
    wait = solution.wait_s[hops.edge, hops.traffic_class]
    terms = known.delay * residual.delay
    change = terms.sum(axis=1)
    # d/dt of all terms where all load is scaled by t, at t = 1; of the wait itself it is growth * wait.
    slope = (terms * (DEGREES + np.where(OF_WAIT, growth[:, None], 0.0))).sum(axis=1)
    falls = slope < -growth * wait
    change = np.where(falls, change * growth * wait / np.maximum(-slope, 1e-300), change)
    change = np.where(speaks, change, 0.0)
    spread = np.where(speaks, known.variance @ residual.variance, 0.0)
    delay_change = np.bincount(hops.flow, change, flows.count)
    variance_change = np.bincount(hops.flow, spread, flows.count)
    delay_limit = LARGEST_DELAY * np.abs(solution.delay_s)
    variance_limit = LARGEST_VARIANCE * np.abs(solution.variance_s2)
    silent = (solution.load_pps.sum(axis=1) > 0) & ~inside
    clamped = (np.abs(delay_change) > delay_limit) | (np.abs(variance_change) > variance_limit)
    return Corrected(
        solution.delay_s + np.clip(delay_change, -delay_limit, delay_limit),
        solution.variance_s2 + np.clip(variance_change, -variance_limit, variance_limit),
        outside=int(silent.sum()),
        guarded=int((falls & speaks).sum()),
        clamped=int(clamped.sum()),
        silent=silent,
    )


def _along(columns: FloatArray, solution: FlowSolution, count: int) -> FloatArray:
    """Sum the columns over the hops of each flow, [F, k]."""
    owner = solution.hops.flow
    return np.stack([np.bincount(owner, column, count) for column in columns.T], axis=1)


def _sums(features: FloatArray, miss: FloatArray, previous: FloatArray | None) -> Moments:
    weights = np.ones(len(miss))
    if previous is not None:
        weights = 1.0 / np.maximum(np.abs(miss - features @ previous), _SMALLEST_MISS)
    weighted = features * weights[:, None]
    return Moments(
        weighted.T @ features, weighted.T @ miss, float(weights @ miss**2), float(weights.sum()), len(miss)
    )


def least_squares(moments: Moments, ridge: float = RIDGE) -> FloatArray:
    """Solve with each feature scaled to unit sum of squares; one that never showed gets 0."""
    scale = np.sqrt(np.diag(moments.gram))
    shown = scale > 0
    scale = np.where(shown, scale, 1.0)
    scaled = moments.gram / scale / scale[:, None] + ridge * np.eye(len(scale))
    return np.asarray(np.where(shown, np.linalg.solve(scaled, moments.moment / scale) / scale, 0.0))


def _total(parts: Iterable[Statistics]) -> Statistics:
    total: Statistics | None = None
    for part in parts:
        total = part if total is None else total + part
    if total is None:
        raise ConfigError("no network to fit on: give at least one with measured flows")
    return total


def _plain(value: Any) -> Any:
    """Arrays as lists and dataclasses as objects; repr of a float reads back as the same float."""
    if isinstance(value, np.ndarray):
        return value.tolist()
    if hasattr(value, "__dataclass_fields__"):
        return {name: _plain(getattr(value, name)) for name in value.__dataclass_fields__}
    return list(value) if isinstance(value, tuple) else value


def _document(text: str, where: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as fault:
        raise ConfigError(f"{where}: is no JSON ({fault})") from None
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        raise ConfigError(f"{where}: its schema is not {SCHEMA!r}; fit it anew with this version")
    return found


@contextmanager
def _refusing(where: str) -> Iterator[None]:
    try:
        yield
    except ConfigError:
        raise
    except (KeyError, TypeError, ValueError) as fault:
        raise ConfigError(f"{where}: a field is missing or of the wrong shape ({fault})") from None


def _vector(values: Any, size: int) -> FloatArray:
    vector = np.array(values, dtype=np.float64)
    if vector.shape != (size,) or not np.isfinite(vector).all():
        raise ValueError(f"{size} finite numbers are expected")
    return vector


def _moments(found: Any, size: int) -> Moments:
    gram = _vector(np.array(found["gram"], dtype=np.float64).ravel(), size * size).reshape(size, size)
    square, weight = _vector([found["square"], found["weight"]], 2)
    return Moments(gram, _vector(found["moment"], size), float(square), float(weight), int(found["count"]))


def _hull(found: Any) -> Hull:
    low, high = _vector(found["rooms"], 2)
    narrow, wide = _vector(found["size_scvs"], 2)
    return Hull(float(found["utilisation"]), (float(low), float(high)), (float(narrow), float(wide)))
