"""The what-if engine's residual: what its laws miss of links' delays, fitted together from sums in one round.

Owns what a domain sums (rows of `simulation.learned.load_curve`, computed from its own panel by a calibration
of its own), how sums of many are added, which of them are refused, and how much of the fit a domain takes. A
model is the fitted coefficients and `reach`, the utilisation up to which they were fitted; before its round
all are 0 and correct nothing. Once delivered, each domain mixes the fit with its own, in a share that its own
history chose. numpy.
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

__all__ = ["FEATURES", "LEAST_ROWS", "SHARES", "TRAFFIC", "ResidualLearner", "curve_of", "make", "share_of"]

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
SHARES: Final = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Of the fit of all, beside a domain's own; 1 is the model as it is delivered."""
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

_COEFFICIENTS, _REACH, _SHARE = "coefficients", "reach", "share"
_GRAM, _MOMENT, _SQUARE, _ROWS, _BINS = "gram", "moment", "square", "rows", "bins"


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
    contribution.check(arrays, known | ({_SHARE: np.zeros(1)} if _SHARE in arrays else {}))
    if not 0.0 <= arrays[_REACH][0] < 1.0:
        raise ContractError(f"reach is {arrays[_REACH][0]}, a utilisation is from 0 to below 1")
    return LoadCurve(arrays[_COEFFICIENTS].astype(np.float64), float(arrays[_REACH][0]))


def share_of(arrays: Arrays) -> float:
    """How much of a model is the fit of all, the rest being the domain's own; 1 as it was delivered."""
    return float(arrays[_SHARE][0]) if _SHARE in arrays else 1.0


@dataclass(frozen=True, slots=True)
class ResidualLearner:
    """A `Learner` that is `Summed`. `names` are the KPIs of the panel's columns."""

    task: Task
    names: tuple[str, ...]

    def initial(self, rng: np.random.Generator) -> Arrays:
        """No correction."""
        return {_COEFFICIENTS: np.zeros(len(TERMS)), _REACH: np.zeros(1)}

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
        fitted = _fit([parts[place] for place in chosen])
        return {_COEFFICIENTS: fitted.coefficients, _REACH: np.array([fitted.reach])}, chosen

    def fitted_here(self, arrays: Arrays, panel: Panel) -> Arrays:
        """The model that a domain makes of a delivered one and a fit of its own rows, with the `share` of it.

        The share is that of `SHARES` which errs least on quarters of the training part that were left out of
        its own fit. 1 is the model as it is delivered; so is that of a domain with too few rows. Raises
        ContractError for arrays that are no model.
        """
        delivered = curve_of(arrays)
        try:
            parts = self._parts(panel)
        except ContractError:
            parts = ()
        share = _share(parts, delivered) if len(parts) > 1 else 1.0
        curve = _mixed(_fit([_sums_of(joined(parts))]), delivered, share) if share < 1.0 else delivered
        return {
            _COEFFICIENTS: curve.coefficients,
            _REACH: np.array([curve.reach]),
            _SHARE: np.array([share]),
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
    total = parts[0].moments
    for part in parts[1:]:
        total += part.moments
    return solved(total, np.sum([part.bins for part in parts], axis=0).reshape(BINS), least=LEAST_IN_BIN)


def _sums_of(rows: Rows) -> _Sums:
    moments, bins = sums(rows)
    return _Sums(moments, np.where(bins >= LEAST_IN_BIN, bins, 0.0))


def _mixed(own: LoadCurve, delivered: LoadCurve, share: float) -> LoadCurve:
    """Both curves, the delivered one with a share; any of the domain's own reaches as far as that."""
    if share == 1.0:
        return delivered
    return replace(own, coefficients=share * delivered.coefficients + (1.0 - share) * own.coefficients)


def _share(parts: Sequence[Rows], delivered: LoadCurve) -> float:
    """The share of the delivered curve that errs least, each part judged with a fit of the other ones."""
    errors = []
    for held in parts:
        own = _fit([_sums_of(joined([part for part in parts if part is not held]))])
        errors.append([float(np.abs(_mixed(own, delivered, share).missed(held)).mean()) for share in SHARES])
    return SHARES[int(np.mean(errors, axis=0).argmin())]
