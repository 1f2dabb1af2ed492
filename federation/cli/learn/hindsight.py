"""Forecasts looked back on: what was expected, and what came true. Owns the measures and the drawing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from federation.cli.console import span
from federation.cli.tables import grid

if TYPE_CHECKING:
    from federation.wire.learning import ElementForecast

__all__ = ["Judged", "hindsight_screen", "judged"]

_PLOTS = 2


@dataclass(frozen=True, slots=True)
class Judged:
    """How good forecasts of one KPI of one element were; errors are mean absolute ones, in its unit."""

    times: int
    inside: float
    """Share of what came true within the outermost quantiles."""
    expected: float
    """The share that these quantiles promise."""
    error: float | None
    """Of the middle quantile, at the times of which the rival knows something."""
    naive: float | None
    """Of the last value known when the forecast was made; None where none was."""


def judged(forecast: ElementForecast) -> Judged:
    """The measures of one look back; quantiles in rising order, `truth` given."""
    known = dict(zip(forecast.times, forecast.truth, strict=True))
    ahead = forecast.times[0] - forecast.at
    middle = min(range(len(forecast.quantiles)), key=lambda place: abs(forecast.quantiles[place] - 0.5))
    rows = list(zip(forecast.times, forecast.values, forecast.truth, strict=True))
    inside = sum(row[0] <= truth <= row[-1] for _, row, truth in rows) / len(rows)
    both = [
        (abs(row[middle] - truth), abs(known[at - ahead] - truth))
        for at, row, truth in rows
        if at - ahead in known
    ]
    return Judged(
        len(rows),
        inside,
        forecast.quantiles[-1] - forecast.quantiles[0],
        sum(error for error, _ in both) / len(both) if both else None,
        sum(error for _, error in both) / len(both) if both else None,
    )


def hindsight_screen(forecasts: Sequence[ElementForecast], *, width: int) -> RenderableType:
    """A row an element and KPI, then drawings of the busiest: the truth as a line, the band as dots."""
    from federation.cli.plots import band_plot

    first = forecasts[0]
    promised = first.quantiles[-1] - first.quantiles[0]
    right = ("steps", "inside", "error", "last value's", "better")
    table = grid("element", "KPI", *right, "unit", right=right)
    for each in forecasts:
        found = judged(each)
        gain = 1 - found.error / found.naive if found.error is not None and found.naive else None
        close = found.inside >= promised - 0.1
        table.add_row(
            each.element,
            each.kpi,
            str(found.times),
            Text(f"{found.inside:.0%}", "good" if close else "warn"),
            "" if found.error is None else f"{found.error:.4g}",
            "" if found.naive is None else f"{found.naive:.4g}",
            "" if gain is None else Text(f"{gain:+.0%}", "good" if gain > 0 else "warn"),
            each.unit,
        )
    parts: list[RenderableType] = [
        Text(
            f"Each forecast was made {span(first.times[0] - first.at)} ahead, over the last part of the"
            f" history, which nobody trained on; {promised:.0%} should lie inside the band",
            "dim",
        ),
        table,
    ]
    for each in sorted(forecasts, key=_size, reverse=True)[:_PLOTS]:
        parts.append(
            band_plot(
                list(zip(each.times, each.truth, strict=True)),
                [(row[0], row[-1]) for row in each.values],
                width=width,
                unit=f"{each.element}, {each.kpi}, {each.unit}",
            )
        )
    return Group(*parts)


def _size(forecast: ElementForecast) -> tuple[int, float]:
    """Longest first, then the largest relative to its own beginning: what moved is worth drawing."""
    low, high = min(forecast.truth), max(forecast.truth)
    return len(forecast.times), (high - low) / (abs(high) or 1.0)
