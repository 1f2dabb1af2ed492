"""The what-if engine's residual: what its laws miss of links' delays, fitted together from sums in one round.

Owns what a domain sums (rows of `simulation.learned.load_curve`, computed from its own panel by a calibration
of its own), how sums of many are added, which of them are refused, and how much of others' a domain takes. A
model is the fitted coefficients and `reach`, the utilisation up to which they were fitted, and of three
parties or more the sums of all; before its round all are 0 and correct nothing. Once delivered, each domain
fits its own sums with others' at a weight that its own history chose. numpy.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from domain_twin.errors import ConfigError, ContractError
from domain_twin.learning import contribution
from domain_twin.learning.learner import Arrays, Trained
from domain_twin.learning.panel import Panel
from domain_twin.learning.task import Profile, Task
from domain_twin.simulation.learned.load_curve import (
    BINS,
    TERMS,
    LoadCurve,
    Rows,
    cross_fitted,
    held_out,
    joined,
    solved,
    sums,
)
from domain_twin.simulation.learned.residual import Moments
from domain_twin.simulation.twin.calibration import Traffic
from domain_twin.simulation.twin.observed import Observations, Series

__all__ = ["FEATURES", "LEAST_ROWS", "TRAFFIC", "WEIGHTS", "ResidualLearner", "curve_of", "make", "weight_of"]

Floats = NDArray[np.float64]

FEATURES: Final = ("utilisation", "carried_rate", "one_way_delay", "delay_variance")
"""KPIs of links that are read, whatever a task's other features: three are needed, the variance helps."""
TRAFFIC: Final = ("packet_octets", "packets_per_train", "size_scv")
"""What of the domain's calibration a panel holds (`Panel.known`): the engine in service computes with it."""
LEAST_ROWS: Final = 60
"""Rows below which a domain tells no sums: they would be few more than the numbers that leave."""
LEAST_IN_BIN: Final = 5
"""Rows below which a bin of load counts as empty, in a domain and of all: one row is a sample."""
_MOST_ROWS: Final = 1e9
_WEIGHT_CAP: Final = 4.0
"""Of an operator's rows, in medians over operators, where operators do not trust each other."""
WEIGHTS: Final = (0.0, 0.01, 0.05, 0.25, 1.0)
"""How much a row of others may count beside one of a domain's own; 1 is the model as it is delivered."""
_LEAST_PARTIES: Final = 3
"""Whose sums a model tells the total of: of two, each could take its own away and see the other's."""
_WORSE: Final = 0.1
"""By how much the fit of a part may beat that of all for the median operator, before a part is left out."""

_FORM: Final = {
    "gram": np.zeros((len(TERMS), len(TERMS))),
    "moment": np.zeros(len(TERMS)),
    "square": np.zeros(1),
    "rows": np.zeros(1),
    "bins": np.zeros(BINS),
}
_MOST_CHOICES: Final = 300
"""Ways to leave out so many parts, up to which all are tried."""

_COEFFICIENTS, _REACH, _WEIGHT = "coefficients", "reach", "weight"
_GRAM, _MOMENT, _SQUARE, _ROWS, _BINS = "gram", "moment", "square", "rows", "bins"


_TOTAL: Final = {name: _FORM[name] for name in (_GRAM, _MOMENT, _BINS)}
"""What a model tells of all sums together."""


def make(task: Task) -> ResidualLearner:
    """The learner of a task. Raises ConfigError for what it cannot be."""
    where = f"model {task.model!r}: a residual"
    if task.settings:
        raise ConfigError(f"{where} has no settings, not {min(task.settings)!r}")
    if task.element_kind != "link":
        raise ConfigError(f"{where} is of links; {task.element_kind!r} is served by another law")
    names = [feature.kpi.rpartition("#")[2].removeprefix("ndt:") for feature in task.features]
    if missing := [name for name in FEATURES[:3] if name not in names]:
        raise ConfigError(f"{where} needs the feature ndt:{missing[0]}")
    if task.rounds != 1:
        raise ConfigError(f"{where} is fitted in one round, from sums; rounds is {task.rounds}, make it 1")
    if task.profile is Profile.PRIVATE:
        raise ConfigError(
            f"{where} is made of sums over the data, to which no noise is added: profile 'private' cannot"
            " train it; a forecaster can be"
        )
    return ResidualLearner(task, tuple(names))


def curve_of(arrays: Arrays) -> LoadCurve:
    """The correction that a model is. Raises ContractError for arrays that are none."""
    known = {_COEFFICIENTS: np.zeros(len(TERMS)), _REACH: np.zeros(1)}
    more = _TOTAL | {_WEIGHT: np.zeros(1)}
    contribution.check(arrays, known | {name: more[name] for name in arrays.keys() & more.keys()})
    if not 0.0 <= arrays[_REACH][0] < 1.0:
        raise ContractError(f"reach is {arrays[_REACH][0]}, a utilisation is from 0 to below 1")
    return LoadCurve(arrays[_COEFFICIENTS].astype(np.float64), float(arrays[_REACH][0]))


def weight_of(arrays: Arrays) -> float:
    """What a row of others counted beside a domain's own; 1 for a model as it was delivered."""
    return float(arrays[_WEIGHT][0]) if _WEIGHT in arrays else 1.0


@dataclass(frozen=True, slots=True)
class ResidualLearner:
    """A `Learner` that is `Summed`. `names` are the KPIs of the panel's columns."""

    task: Task
    names: tuple[str, ...]

    def initial(self, rng: np.random.Generator) -> Arrays:
        """No correction."""
        return {_COEFFICIENTS: np.zeros(len(TERMS)), _REACH: np.zeros(1)} | self.bare({})

    def sums(self, panel: Panel) -> Arrays:
        """What leaves the domain: sums over the rows of the training part. Raises ContractError: too few."""
        told = _sums_of(self.rows(panel))
        return {
            _GRAM: told.moments.gram,
            _MOMENT: told.moments.moment,
            _SQUARE: np.array([told.moments.square]),
            _ROWS: np.array([told.moments.weight]),
            _BINS: told.bins,
        }

    def check_sums(self, told: Arrays) -> int:
        """How many rows the sums are over. Raises ContractError for what no rows can add up to."""
        return _checked(told).moments.count

    def summed(self, told: Sequence[Arrays], *, robust: bool) -> tuple[Arrays, tuple[int, ...]]:
        """The fit of all sums that were `told`, and which of them are in it.

        `robust`: each counts for at most `_WEIGHT_CAP` medians of rows, and a quarter of them, at least one
        of three, is left out where the median of all is fitted better without. Raises ContractError.
        """
        parts = [_checked(one) for one in told]
        if not parts:
            raise ContractError("no sums to fit")
        chosen = tuple(range(len(parts)))
        if robust:
            parts = _capped(parts)
            chosen = _agreeing(parts)
        used = [parts[place] for place in chosen]
        fitted = _fit(used)
        made = {_COEFFICIENTS: fitted.coefficients, _REACH: np.array([fitted.reach])} | self.bare({})
        if len(used) >= _LEAST_PARTIES:
            total = _added(used)
            made |= {_GRAM: total.moments.gram, _MOMENT: total.moments.moment, _BINS: total.bins}
        return made, chosen

    def bare(self, arrays: Arrays) -> Arrays:
        """`arrays` without the sums of all."""
        return arrays | {name: array.copy() for name, array in _TOTAL.items()}

    def fitted_here(self, arrays: Arrays, panel: Panel, *, took_part: bool) -> Arrays:
        """The model that a domain makes of a delivered one and its own rows, with the `weight` of others'.

        The weight is the largest of `WEIGHTS` that errs no more than a standard error above the best one, on
        quarters of the training part that were left out of the sums. 1 is the model as it is delivered; so is
        that of a domain with too few rows, and where the model tells no sums of all. `took_part`: the
        domain's sums are in those. Raises ContractError for arrays that are no model.
        """
        delivered = curve_of(arrays)
        made = {_COEFFICIENTS: delivered.coefficients, _REACH: np.array([delivered.reach])}
        as_it_is = made | {_WEIGHT: np.ones(1)}
        try:
            parts = self._parts(panel)
        except ContractError:
            return as_it_is
        total = _total_of(arrays)
        if total is None or len(parts) < 2:
            return as_it_is
        own = _sums_of(joined(parts))
        others = _without(total, own) if took_part else total
        weight = _weight(parts, others)
        if weight == 1.0:
            return as_it_is
        curve = _mixed(own, others, weight)
        return {
            _COEFFICIENTS: curve.coefficients,
            _REACH: np.array([curve.reach]),
            _WEIGHT: np.array([weight]),
        }

    def train(self, arrays: Arrays, panel: Panel, rng: np.random.Generator) -> Trained:
        """The fit of this domain's own sums alone. Raises ContractError: too few rows."""
        fitted, _ = self.summed([self.sums(panel)], robust=False)
        rows = self.rows(panel)
        loss = float(np.abs(curve_of(fitted).missed(rows)).mean())
        return Trained(fitted, len(rows), {"loss": loss})

    def evaluate(self, arrays: Arrays, panel: Panel) -> dict[str, float]:
        """`loss`: mean relative error of the delay of links on the holdout; `naive:tables`: uncorrected."""
        before, after = slice(0, panel.holdout_from), slice(panel.holdout_from, None)
        try:
            observed = self._observed(panel, before), self._observed(panel, after)
            rows = held_out(*observed, _traffic(panel))
        except ConfigError as error:
            raise ContractError(f"model {self.task.model!r}: {error}") from error
        left = curve_of(arrays).missed(rows)
        return {
            "loss": float(np.abs(left).mean()),
            "naive:tables": float(np.abs(rows.miss).mean()),
            "rmse": float(np.sqrt((left**2).mean())),
            "rmse:tables": float(np.sqrt((rows.miss**2).mean())),
            "points": float(len(rows)),
        }

    def rows(self, panel: Panel) -> Rows:
        """What the sums are over. Never leaves. Raises ContractError: too few."""
        return joined(self._parts(panel))

    def _parts(self, panel: Panel) -> tuple[Rows, ...]:
        """The rows by quarter of the time. Raises ContractError: too few."""
        try:
            parts = cross_fitted(self._observed(panel, slice(0, panel.holdout_from)), _traffic(panel))
        except ConfigError as error:
            raise ContractError(f"model {self.task.model!r}: {error}") from error
        if (count := sum(map(len, parts))) < LEAST_ROWS:
            raise ContractError(
                f"model {self.task.model!r}: {count} points to sum over, {LEAST_ROWS} at least; ask for a"
                " longer window"
            )
        return parts

    def _observed(self, panel: Panel, part: slice) -> Observations:
        """A part of the panel as calibration reads measured links, in seconds and Mbit/s."""
        from domain_twin.learning.history import unit_factor

        factor = dict(zip(self.names, (unit_factor(f) for f in self.task.features), strict=True))
        values = panel.values[:, part]
        steps = values.shape[1]
        at = np.arange(steps, dtype=np.float64) * float(panel.step_s)
        unknown = np.full(steps, np.nan)
        series = {}
        for place, element in enumerate(panel.elements):
            column = {name: values[place, :, index] / factor[name] for index, name in enumerate(self.names)}
            used, rate = column["utilisation"], column["carried_rate"]
            busy = np.isfinite(used) & np.isfinite(rate) & (used > 1e-4) & (rate > 0)
            if not busy.any():
                continue
            # What a link can carry does not change with its load; single intervals round.
            capacity = float(np.median(rate[busy] / used[busy]))
            series[element] = Series(
                element,
                "link",
                at=at,
                delay_s=column["one_way_delay"] / 1e3,
                variance_s2=column.get("delay_variance", unknown) / 1e6,
                loss=np.zeros(steps),
                utilisation=used,
                queue_octets=unknown,
                rate=rate,
                capacity_mbps=np.full(steps, capacity),
                servers=np.ones(steps),
            )
        return Observations("", panel.start, panel.start + round(steps * panel.step_s * 1e9), series)


def _traffic(panel: Panel) -> Traffic | None:
    """What the domain's calibration found packets to look like; None: it has none."""
    try:
        octets, together, scv = (panel.known[name] for name in TRAFFIC)
    except KeyError:
        return None
    return Traffic(octets, together, scv)


@dataclass(frozen=True, slots=True, eq=False)
class _Sums:
    moments: Moments
    bins: Floats


def _checked(told: Arrays) -> _Sums:
    """Sums as they must be, whoever made them. Raises ContractError for what no rows can add up to."""
    contribution.check(told, _FORM)
    gram, moment = told[_GRAM].astype(np.float64), told[_MOMENT].astype(np.float64)
    square, bins = float(told[_SQUARE][0]), told[_BINS].astype(np.float64)
    count = float(told[_ROWS][0])
    whole = np.block([[gram, moment[:, None]], [moment[None, :], np.array([[square]])]])
    scale = np.sqrt(np.maximum(np.diag(whole), 1e-300))
    faults = (
        (not LEAST_ROWS <= count <= _MOST_ROWS or (bins < 0).any() or bins.sum() > count, "its counts"),
        (not np.allclose(gram, gram.T, rtol=1e-9, atol=0.0), "gram is not symmetric"),
        (square < 0 or (np.diag(gram) < 0).any(), "sums of squares below 0"),
        # Rows are relative: a miss counts as 1 at most.
        (square > count * 2, "misses larger than any may be"),
    )
    for fault, what in faults:
        if fault:
            raise ContractError(f"sums that no rows can have: {what}")
    if float(np.linalg.eigvalsh(whole / scale / scale[:, None]).min()) < -1e-6:
        raise ContractError("sums that no rows can have: they contradict each other")
    return _Sums(Moments(gram, moment, square, count, int(count)), bins)


def _capped(parts: Sequence[_Sums]) -> list[_Sums]:
    """No operator counts for much more rows than the median one."""
    limit = _WEIGHT_CAP * float(np.median([part.moments.weight for part in parts]))
    return [_scaled(part, min(1.0, limit / part.moments.weight)) for part in parts]


def _scaled(part: _Sums, share: float) -> _Sums:
    if share == 1.0:
        return part
    own = part.moments
    return _Sums(
        Moments(own.gram * share, own.moment * share, own.square * share, own.weight * share, own.count),
        part.bins * share,
    )


def _agreeing(parts: Sequence[_Sums]) -> tuple[int, ...]:
    """Which parts are added: all, unless the median one of them is fitted clearly better without some.

    Sums say the error of any coefficients on the rows that they are of; one who lies says only its own. All
    choices of whom to leave out are tried where they are few, else one is left out after the other.
    """

    def error(kept: tuple[int, ...]) -> float:
        fitted = _fit([parts[place] for place in kept])
        return float(np.median([_error(part, fitted) for part in parts]))

    everyone = tuple(range(len(parts)))
    most = max(1, len(parts) // 4) if len(parts) >= 3 else 0
    errors = {everyone: error(everyone)}
    fewest = [everyone]
    for out in range(1, most + 1):
        if math.comb(len(parts), out) <= _MOST_CHOICES:
            fewest = list(itertools.combinations(everyone, len(parts) - out))
        else:
            last = min(fewest, key=lambda kept: errors[kept])
            fewest = [tuple(each for each in last if each != place) for place in last]
        errors |= {kept: error(kept) for kept in fewest}
    enough = min(errors.values()) + _WORSE  # nobody is left out for little
    return min(
        (kept for kept in errors if errors[kept] <= enough), key=lambda kept: (-len(kept), errors[kept])
    )


def _error(part: _Sums, curve: LoadCurve) -> float:
    """Sum of squares that the curve leaves of a part's, relative to no correction."""
    own, found = part.moments, curve.coefficients
    left = own.square - 2.0 * float(found @ own.moment) + float(found @ own.gram @ found)
    return left / max(own.square, 1e-300)


def _fit(parts: Sequence[_Sums]) -> LoadCurve:
    total = _added(parts)
    return solved(total.moments, total.bins, least=LEAST_IN_BIN)


def _added(parts: Sequence[_Sums]) -> _Sums:
    total = parts[0].moments
    for part in parts[1:]:
        total += part.moments
    return _Sums(total, np.sum([part.bins for part in parts], axis=0).reshape(BINS))


def _sums_of(rows: Rows) -> _Sums:
    moments, bins = sums(rows)
    return _Sums(moments, np.where(bins >= LEAST_IN_BIN, bins, 0.0))


def _total_of(arrays: Arrays) -> _Sums | None:
    """The sums of all that a model tells; None: it tells none, or none that rows can add up to."""
    if not all(name in arrays for name in _TOTAL) or not arrays[_GRAM].any():
        return None
    gram, moment, bins = (arrays[name].astype(np.float64) for name in _TOTAL)
    if not _positive(gram, np.diag(gram)) or (bins < 0).any():
        return None
    return _Sums(Moments(gram, moment, 0.0, 0.0, 0), bins)


def _without(total: _Sums, own: _Sums) -> _Sums:
    """What others' sums add up to; `total` where not all of `own` is in it, as of one with many rows."""
    gram, bins = total.moments.gram - own.moments.gram, total.bins - own.bins
    if not _positive(gram, np.diag(total.moments.gram)) or (bins < 0).any():
        return total
    return _Sums(Moments(gram, total.moments.moment - own.moments.moment, 0.0, 0.0, 0), bins)


def _positive(gram: Floats, diagonal: Floats) -> bool:
    """Whether rows can add up to `gram`, but for rounding beside `diagonal`."""
    scale = np.sqrt(np.maximum(diagonal, 1e-300))
    return float(np.linalg.eigvalsh(gram / scale / scale[:, None]).min()) > -1e-9


def _mixed(own: _Sums, others: _Sums, weight: float) -> LoadCurve:
    """The fit of a domain's own sums, and of others' at a weight, which reaches as far as theirs if not 0."""
    if not weight:
        return _fit([own])
    reach = _fit([own, others]).reach
    return replace(_fit([own, _scaled(others, weight)]), reach=reach)


def _weight(parts: Sequence[Rows], others: _Sums) -> float:
    """The largest weight of others that errs no more than a standard error above the best one.

    Each part is judged with a fit of the other ones and of others' sums.
    """
    errors = []
    for held in parts:
        own = _sums_of(joined([part for part in parts if part is not held]))
        errors.append([np.abs(_mixed(own, others, weight).missed(held)) for weight in WEIGHTS])
    mean = np.mean([[each.mean() for each in part] for part in errors], axis=0)
    best = int(mean.argmin())
    above = np.concatenate([np.stack(part) - part[best] for part in errors], axis=1)
    error = above.std(axis=1, ddof=1) / math.sqrt(above.shape[1])
    return max(weight for weight, enough in zip(WEIGHTS, mean - mean[best] <= error, strict=True) if enough)
