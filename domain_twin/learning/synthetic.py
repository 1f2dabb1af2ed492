"""Series that a generator makes, of any length, in units. Owns drawing them; exports are `dataset`'s.

Needs no net library: a generator is three matrices. What comes out is synthetic in every use and says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from domain_twin.errors import ContractError
from domain_twin.learning.holding import held
from domain_twin.learning.learner import Arrays
from domain_twin.learning.marginals import Marginals
from domain_twin.learning.panel import Panel
from domain_twin.learning.regimes import path
from domain_twin.learning.task import Card, Kind, Task
from domain_twin.model import Nanoseconds

__all__ = [
    "CLOCKS", "DAY_NS", "MAX_REGIMES", "MAX_ROWS", "REGIMES", "SCALES", "check", "clock_inputs", "generate",
    "series", "sizes",
]  # fmt: skip

CLOCKS: Final[Mapping[str, int]] = {"day": 4, "none": 0}
"""Inputs that tell the time of day: sine and cosine of one and two turns."""
SCALES: Final = 9
MAX_SCALES: Final = 14
REGIMES: Final = 3
MAX_REGIMES: Final = 8
MAX_ROWS: Final = 1_000_000
DAY_NS: Final = 86_400 * 10**9
_REFERENCE_ROWS: Final = 20_000
_CHUNK: Final = 20_000
_EXACT_FROM: Final = 12


def generate(
    arrays: Arrays, task: Task, card: Card | None, rows: int, rng: np.random.Generator, *,
    elements: int = 1, start: Nanoseconds = 0, name: str = "synthetic",
) -> Panel:  # fmt: skip
    """`elements` independent series of `rows` steps in the features' units, from `start` on.

    What the domains say of themselves (regimes, marginals, mixing) is in `arrays` as their mean; a domain
    puts its own there first, by `gan_start.own`. `card` is checked against `task`. Raises ContractError where
    arrays, card and task do not fit, and beyond 1,000,000 rows of all elements together.
    """
    check(arrays, task, card)
    if rows < 1 or elements < 1 or rows * elements > MAX_ROWS:
        raise ContractError(
            f"{rows} rows of {elements} elements: both at least 1, and at most {MAX_ROWS} rows in all"
        )
    levels = np.stack([each.levels for each in Marginals.unpacked(arrays)])
    wanted = (_regimes(task), len(task.features))
    if levels.shape[:2] != wanted:
        raise ContractError(
            f"marginals are of {levels.shape[0]} regimes of {levels.shape[1]} features, the task has"
            f" {wanted[0]} of {wanted[1]}"
        )
    if not np.ptp(levels, axis=(0, 2)).any():
        raise ContractError(f"model {task.model!r} was never trained: no marginals are known")
    clock = sizes(task)[1]
    made = [series(arrays, clock, rows, rng, start=start, step_s=task.step_s) for _ in range(elements)]
    names = tuple(f"{name}-{number + 1}" for number in range(elements))
    features = tuple(feature.kpi for feature in task.features)
    return Panel(names, features, np.stack(made), start, task.step_s, rows)


def series(
    arrays: Arrays, clock: int, rows: int, rng: np.random.Generator, *, start: Nanoseconds, step_s: float
) -> NDArray[np.float64]:
    """[rows, F]: one series in units, of a generator that is told `clock` figures of the time of day.

    Regimes follow each other as they did in the data. In each, a long run of the generator itself tells how
    far its scores are from normal, so that the spread of values is kept whatever averaging did to the nets.
    What devices repeat is repeated.
    """
    regimes = path(arrays["regimes.transitions"], rows, rng)
    made = _raw(arrays, clock, regimes, rng, start, step_s)
    marginals = Marginals.unpacked(arrays)
    for regime in np.unique(regimes).tolist():
        alone = np.full(_REFERENCE_ROWS, regime)
        reference = _raw(arrays, clock, alone, np.random.default_rng(0), start, max(step_s, 120.0))
        within = regimes == regime
        made[within] = marginals[regime].values(_levelled(made[within], reference))
    return held(made, arrays["holding"], rng)


_RANKS: Final = (np.arange(400) + 0.5) / 400
_RANK_SCORES: Final = ndtri(_RANKS)


def _levelled(made: NDArray[np.float64], reference: NDArray[np.float64]) -> NDArray[np.float64]:
    """`made` by the monotone maps that give every column of `reference` the standard normal law."""
    out = np.empty_like(made)
    for column in range(out.shape[1]):
        own = np.quantile(reference[:, column], _RANKS) + 1e-9 * np.arange(len(_RANKS))
        series = made[:, column]
        beyond = np.clip(series - own[-1], 0, 1) + np.clip(series - own[0], -1, 0)
        out[:, column] = np.interp(series, own, _RANK_SCORES) + beyond
    return out


def _raw(  # noqa: PLR0917
    arrays: Arrays, clock: int, regimes: NDArray[np.intp], rng: np.random.Generator, start: Nanoseconds,
    step_s: float,
) -> NDArray[np.float64]:  # fmt: skip
    """[T, F]: normal scores, more or less, in `regimes` [T]."""
    _, inputs, features = arrays["generator.direct"].shape
    rows = len(regimes)
    time = np.arange(rows)
    knots = [
        (1 << scale, rng.uniform(), _drawn(rows // (1 << scale) + 3, features, rng))
        for scale in range((inputs - clock) // features)
    ]
    out = np.empty((rows, features))
    for begin in range(0, rows, _CHUNK):
        part = time[begin : begin + _CHUNK]
        drawn = [_between(drawn, part, apart, phase) for apart, phase, drawn in knots]
        known = np.concatenate([*drawn, clock_inputs(start, part, step_s, clock)], axis=1)
        for regime in np.unique(regimes[part]).tolist():
            within = np.flatnonzero(regimes[part] == regime)
            out[begin + within] = _net(arrays, known[within], regime)
    return out


def _drawn(count: int, channels: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Noise; where there is enough, with exactly its law's mean and spread: few slow knots mislead less."""
    noise = rng.standard_normal((count, channels))
    if count >= _EXACT_FROM:
        noise = (noise - noise.mean(0)) / noise.std(0)
    return noise


def clock_inputs(
    start: Nanoseconds, steps: NDArray[np.int64], step_s: float, count: int
) -> NDArray[np.float64]:
    """[T, count]: what the generator is told of the time of day."""
    turn = 2 * np.pi * (start % DAY_NS / DAY_NS + steps * (step_s / 86_400))
    waves = [wave(k * turn) for k in range(1, count // 2 + 1) for wave in (np.sin, np.cos)]
    return np.stack(waves, axis=1) if waves else np.empty((len(steps), 0))


def _between(
    drawn: NDArray[np.float64], time: NDArray[np.int64], apart: int, phase: float
) -> NDArray[np.float64]:
    """Noise of unit variance between knots `apart` steps from each other, as the generator was trained on."""
    if apart == 1:
        return drawn[time]
    at = time / apart + phase
    low = np.floor(at).astype(int)
    share = (at - low)[:, None]
    mixed: NDArray[np.float64] = (1 - share) * drawn[low] + share * drawn[low + 1]
    mixed /= np.sqrt((1 - share) ** 2 + share**2)
    return mixed


def _net(arrays: Arrays, inputs: NDArray[np.float64], regime: int) -> NDArray[np.float64]:
    def leaky(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.maximum(values, 0.2 * values)

    count = inputs.shape[1]
    told = arrays["generator.in"][count + regime] + arrays["generator.in_bias"]
    hidden = leaky(inputs @ arrays["generator.in"][:count] + told)
    hidden = leaky(hidden @ arrays["generator.mid"] + arrays["generator.mid_bias"])
    out: NDArray[np.float64] = (
        inputs @ arrays["generator.direct"][regime]
        + hidden @ arrays["generator.out"]
        + arrays["generator.out_bias"]
    )
    return out


def check(arrays: Arrays, task: Task, card: Card | None) -> None:
    """Raises ContractError where these do not fit together."""
    if task.kind is not Kind.GAN:
        raise ContractError(f"model {task.model!r} is a {task.kind.value}: only a gan makes synthetic series")
    if card is not None and card.task.features != task.features:
        raise ContractError(f"model {task.model!r}: the card is about other features than the task")
    scales, clock = sizes(task)
    wide = scales * len(task.features) + clock
    count, features = _regimes(task), len(task.features)
    for name, wanted in (
        ("generator.direct", [count, wide, features]),
        ("regimes.transitions", [count, count]),
        ("holding", [features]),
    ):
        held = list(arrays[name].shape) if name in arrays else "missing"
        if held != wanted:
            raise ContractError(f"model {task.model!r}: array {name!r} is {held}, this task's is {wanted}")


def sizes(task: Task) -> tuple[int, int]:
    """Time scales of noise, and inputs that tell the time. Raises ContractError."""
    scales, clock = task.settings.get("scales", SCALES), str(task.settings.get("clock", "day"))
    if clock not in CLOCKS or not isinstance(scales, int | float) or not 1 <= scales <= MAX_SCALES:
        raise ContractError(
            f"model {task.model!r}: scales is {scales!r} and clock {clock!r}; accepted are 1 to {MAX_SCALES},"
            f" and {' or '.join(CLOCKS)}"
        )
    return int(scales), CLOCKS[clock]


def _regimes(task: Task) -> int:
    """Raises ContractError."""
    count = task.settings.get("regimes", 1 if task.tells_noised else REGIMES)
    if not isinstance(count, int | float) or not 1 <= count <= MAX_REGIMES:
        raise ContractError(f"model {task.model!r}: regimes is {count!r}; accepted are 1 to {MAX_REGIMES}")
    return int(count)
