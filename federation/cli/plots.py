"""Series over time, drawn with characters. Owns scales and marks; plotext puts the dots."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from rich.text import Text

if TYPE_CHECKING:
    from domain_twin.model import Event, ServiceStatus

HEIGHT = 14
_TICKS = 5


def service_plot(
    statuses: Sequence[ServiceStatus], events: Sequence[Event], *, width: int, height: int = HEIGHT
) -> Text:
    """A service's delay over time as a step line; the objective as a level, events as upright lines."""
    points = [(status.at, status.path.total.delay_ms if status.path else math.nan) for status in statuses]
    objective = statuses[-1].service.objective.delay_ms if statuses else None
    return series_plot(
        points,
        width=width,
        height=height,
        unit="one-way delay, ms",
        marks=[event.at for event in events],
        level=objective,
    )


def series_plot(
    points: Sequence[tuple[int, float]],
    *,
    width: int,
    height: int = HEIGHT,
    unit: str = "",
    marks: Sequence[int] = (),
    level: float | None = None,
) -> Text:
    """`(nanoseconds, value)` as a step line: a value holds until the next one; nan is a gap."""
    known = [value for _, value in points if math.isfinite(value)]
    if not known:
        return Text("nothing to draw: no value in this time", "dim")
    first, last = points[0][0], points[-1][0]
    figure = _empty(width, height)
    for part in _unbroken(points):
        xs, ys = _steps(part, last)
        figure.draw(figure.signal([(x - first) / 1e9 for x in xs], ys, marker="hd").lines())
    low, high = min(known), max(known)
    if level is not None and level <= high + 2 * max(high - low, 0.2 * high):
        figure.line(level, orientation="horizontal", style="dotted")
        low, high = min(low, level), max(high, level)
    for mark in marks:
        if first <= mark <= last:
            figure.line((mark - first) / 1e9, orientation="vertical", style="dotted")
    return _finished(figure, (first, last), (low, high), unit)


def band_plot(
    points: Sequence[tuple[int, float]],
    band: Sequence[tuple[float, float]],
    *,
    width: int,
    height: int = HEIGHT,
    unit: str = "",
) -> Text:
    """`(nanoseconds, value)` as a line, and between which bounds it was expected as dots; all finite."""
    first, last = points[0][0], points[-1][0]
    figure = _empty(width, height)
    xs = [(at - first) / 1e9 for at, _ in points]
    for bound in (0, 1):
        figure.draw(figure.signal(xs, [pair[bound] for pair in band], marker="·"))
    values = [value for _, value in points]
    figure.draw(figure.signal(xs, values, marker="hd").lines())
    low, high = min(values + [pair[0] for pair in band]), max(values + [pair[1] for pair in band])
    return _finished(figure, (first, last), (low, high), unit)


def _empty(width: int, height: int) -> Any:
    import plotext

    figure = plotext.figure
    figure.clear()
    figure.plot_size(width, height)
    figure.theme("colorless")
    return figure


def _finished(figure: Any, times: tuple[int, int], values: tuple[float, float], unit: str) -> Text:
    (first, last), (low, high) = times, values
    margin = 0.08 * (high - low) or 0.1 * abs(high) or 1.0
    figure.ruler("y").lim(max(0.0, low - margin) if low >= 0 else low - margin, high + margin)
    ticks = [(last - first) / 1e9 * i / (_TICKS - 1) for i in range(_TICKS)]
    names = [f"{datetime.fromtimestamp(first / 1e9 + tick).astimezone():%H:%M:%S}" for tick in ticks]
    figure.ruler("x").ticks(ticks, names)
    drawing = Text.from_ansi(str(figure.build()))
    return Text.assemble((f"{unit}\n", "dim"), drawing) if unit else drawing


def _unbroken(points: Sequence[tuple[int, float]]) -> list[list[tuple[int, float]]]:
    parts: list[list[tuple[int, float]]] = [[]]
    for at, value in points:
        if math.isfinite(value):
            parts[-1].append((at, value))
        elif parts[-1]:
            parts[-1].append((at, parts[-1][-1][1]))
            parts.append([])
    return [part for part in parts if part]


def _steps(part: Sequence[tuple[int, float]], last: int) -> tuple[list[int], list[float]]:
    xs, ys = [part[0][0]], [part[0][1]]
    for (_, before), (at, value) in pairwise(part):
        xs += [at, at]
        ys += [before, value]
    if len(part) == 1:
        xs.append(last)
        ys.append(part[0][1])
    return xs, ys
