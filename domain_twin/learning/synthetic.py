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
from domain_twin.learning.marginals import Marginals
from domain_twin.learning.panel import Panel
from domain_twin.learning.task import Card, Kind, Task
from domain_twin.model import Nanoseconds

__all__ = ["CHANNELS", "CLOCKS", "DAY_NS", "MAX_ROWS", "SCALES", "generate", "normal_series"]

CLOCKS: Final[Mapping[str, int]] = {"day": 4, "none": 0}
"""Inputs that tell the time of day: sine and cosine of one and two turns."""
SCALES: Final = 10
CHANNELS: Final = 6
MAX_ROWS: Final = 1_000_000
DAY_NS: Final = 86_400 * 10**9
_REFERENCE_ROWS: Final = 20_000
_CHUNK: Final = 20_000


def generate(
    arrays: Mapping[str, NDArray[np.float32]], task: Task, card: Card | None, rows: int, rng: np.random.Generator, *,
    elements: int = 1, start: Nanoseconds = 0, marginals: Marginals | None = None, name: str = "synthetic",
) -> Panel:  # fmt: skip
    """`elements` independent series of `rows` steps in the features' units, from `start` on.

    `marginals` is how a domain's own values are spread; by default the model's, which is the mean over
    the domains that trained it. `card` is checked against `task`. Raises ContractError where arrays, card and
    task do not fit, and beyond 1,000,000 values of rows times elements.
    """
    _check(arrays, task, card)
    if rows < 1 or elements < 1 or rows * elements > MAX_ROWS:
        raise ContractError(
            f"{rows} rows of {elements} elements: both at least 1, and at most {MAX_ROWS} rows in all"
        )
    spread = marginals or Marginals.unpacked(arrays["marginals.levels"], arrays["marginals.resolution"])
    if len(spread.levels) != len(task.features):
        raise ContractError(
            f"the spread of values is of {len(spread.levels)} features, the task has {len(task.features)}"
        )
    if not np.ptp(spread.levels, axis=1).any():
        raise ContractError(f"model {task.model!r} was never trained: no spread of values is known")
    series = [
        spread.values(normal_series(arrays, task, rows, rng, start=start, step_s=task.step_s))
        for _ in range(elements)
    ]
    names = tuple(f"{name}-{number + 1}" for number in range(elements))
    features = tuple(feature.kpi for feature in task.features)
    return Panel(names, features, np.stack(series), start, task.step_s, rows)


def normal_series(
    arrays: Mapping[str, NDArray[np.float32]], task: Task, rows: int, rng: np.random.Generator, *,
    start: Nanoseconds, step_s: float,
) -> NDArray[np.float64]:  # fmt: skip
    """[rows, F]: normal scores of one series. Their law is made standard normal with a long run of the
    generator itself, so that the spread of values is kept whatever averaging did to the nets."""
    reference = _raw(arrays, task, _REFERENCE_ROWS, np.random.default_rng(0), start, max(step_s, 120.0))
    levels = (np.arange(400) + 0.5) / 400
    scores = ndtri(levels)
    out = _raw(arrays, task, rows, rng, start, step_s)
    for column in range(out.shape[1]):
        own = np.quantile(reference[:, column], levels) + 1e-9 * np.arange(400)
        slope = (scores[-1] - scores[-2]) / (own[-1] - own[-2] + 1e-9)
        series = out[:, column]
        beyond = np.clip(series - own[-1], 0, 1) * min(slope, 2.0) + np.clip(series - own[0], -1, 0)
        out[:, column] = np.interp(series, own, scores) + beyond
    return out


def _raw(
    arrays: Mapping[str, NDArray[np.float32]], task: Task, rows: int, rng: np.random.Generator,
    start: Nanoseconds, step_s: float,
) -> NDArray[np.float64]:  # fmt: skip
    scales, channels = int(task.settings.get("scales", SCALES)), int(task.settings.get("channels", CHANNELS))
    clock = CLOCKS[str(task.settings.get("clock", "day"))]
    time = np.arange(rows)
    knots = [
        (1 << scale, rng.uniform(), rng.standard_normal((rows // (1 << scale) + 3, channels)))
        for scale in range(scales)
    ]
    out = np.empty((rows, len(task.features)))
    for begin in range(0, rows, _CHUNK):
        part = time[begin : begin + _CHUNK]
        inputs = [_between(drawn, part, apart, phase) for apart, phase, drawn in knots]
        if clock:
            turn = 2 * np.pi * (start % DAY_NS / DAY_NS + part * (step_s / 86_400))
            inputs.append(
                np.stack([wave(k * turn) for k in range(1, clock // 2 + 1) for wave in (np.sin, np.cos)], axis=1)
            )
        out[begin : begin + len(part)] = _net(arrays, np.concatenate(inputs, axis=1))
    return out


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
    return mixed / np.sqrt((1 - share) ** 2 + share**2)


def _net(arrays: Mapping[str, NDArray[np.float32]], inputs: NDArray[np.float64]) -> NDArray[np.float64]:
    def leaky(values: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.maximum(values, 0.2 * values)

    hidden = leaky(inputs @ arrays["generator.in"] + arrays["generator.in_bias"])
    hidden = leaky(hidden @ arrays["generator.mid"] + arrays["generator.mid_bias"])
    out: NDArray[np.float64] = (
        inputs @ arrays["generator.direct"] + hidden @ arrays["generator.out"] + arrays["generator.out_bias"]
    )
    return out


def _check(arrays: Mapping[str, NDArray[np.float32]], task: Task, card: Card | None) -> None:
    if task.kind is not Kind.GAN:
        raise ContractError(f"model {task.model!r} is a {task.kind.value}: only a gan makes synthetic series")
    if card is not None and card.task.features != task.features:
        raise ContractError(f"model {task.model!r}: the card is about other features than the task")
    scales, channels = int(task.settings.get("scales", SCALES)), int(task.settings.get("channels", CHANNELS))
    inputs = scales * channels + CLOCKS[str(task.settings.get("clock", "day"))]
    direct = arrays.get("generator.direct")
    if direct is None or direct.shape != (inputs, len(task.features)):
        found = "missing" if direct is None else list(direct.shape)
        raise ContractError(
            f"model {task.model!r}: array 'generator.direct' is {found},"
            f" this task's is {[inputs, len(task.features)]}"
        )
