"""The pictures of a learning report: losses, gains, forecasts against truth. Owns what is drawn."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from federation.cli.forecast import reading
from federation.cli.forecast.svg import (
    AFTER,
    BAD,
    BEFORE,
    DOMAINS,
    INK,
    WIDTH,
    canvas,
    clear,
    legend,
    svg,
    words,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["against_truth", "gains", "losses", "rivals"]

_HEIGHT = 3.2  # inches
_MOST_ROWS = 16


def losses(rounds: Sequence[Mapping[str, Any]], domains: Sequence[str], label: str) -> str:
    """Each operator's loss by round, and the median; refused rounds are marked."""
    drawn = [entry for entry in rounds if entry.get("loss") is not None]
    if len(drawn) < 2:
        return ""
    figure, axes = _plane("round", "loss on the holdouts")
    colours = {}
    for number, domain in enumerate(domains):
        points = [
            (entry["round"], did["loss"])
            for entry in drawn
            if (did := entry.get("domains", {}).get(domain)) and did.get("loss") is not None
        ]
        if points:
            colours[domain] = DOMAINS[number % len(DOMAINS)]
            axes.plot(*zip(*points, strict=True), color=colours[domain], linewidth=1.2)
    axes.plot(
        [entry["round"] for entry in drawn], [entry["loss"] for entry in drawn], color=INK, linewidth=2.2
    )
    refused = [entry for entry in drawn if not entry["accepted"]]
    axes.plot(
        [entry["round"] for entry in refused],
        [entry["loss"] for entry in refused],
        color=BAD,
        marker="x",
        linestyle="",
    )
    names = {"median": INK, **colours, **({"refused": BAD} if refused else {})}
    _named(axes, names)
    return svg(figure, "losses", label)


def gains(by_domain: Mapping[str, float], label: str) -> str:
    """How much less each operator loses than with what it learned alone, per cent."""
    if not by_domain:
        return ""
    named = sorted(by_domain.items())[:_MOST_ROWS]
    figure, axes = canvas([name for name, _ in named], "less loss than learning alone, %")
    for at, (_, gain) in enumerate(named):
        axes.barh(at, 100 * gain, 0.6, color=AFTER if gain > 0 else BAD)
        words(axes, max(0.0, 100 * gain), at, f"{gain:+.1%}", INK)
    axes.axvline(0, color=INK, linewidth=0.8)
    return svg(figure, "gains", label)


def rivals(scores: Mapping[str, Mapping[str, float]], label: str) -> str:
    """The model's loss beside those of its naive rivals."""
    rows = {
        name.removeprefix("naive:"): row["loss"]
        for name, row in scores.items()
        if (name == "model" or name.startswith("naive:")) and "loss" in row
    }
    if len(rows) < 2:
        return ""
    named = sorted(rows.items(), key=lambda row: row[1])[:_MOST_ROWS]
    figure, axes = canvas([name for name, _ in named], "loss on the holdouts, median of the domains")
    for at, (name, loss) in enumerate(named):
        axes.barh(at, loss, 0.6, color=AFTER if name == "model" else BEFORE)
        words(axes, loss, at, f"{loss:.4g}", INK)
    legend(axes, {"the model": AFTER, "naive rivals": BEFORE})
    return svg(figure, "rivals", label)


def against_truth(
    seconds: Sequence[float],
    levels: Sequence[float],
    values: Sequence[Sequence[float]],
    truth: Sequence[float],
    *,
    unit: str,
    name: str,
    label: str,
) -> str:
    """What was foretold, as a band around the median, and what came. `values` is [times][levels]."""
    if len(seconds) < 2:
        return ""
    figure, axes = _plane("seconds", unit)
    low, high = levels.index(min(levels)), levels.index(max(levels))
    middle = min(range(len(levels)), key=lambda place: abs(levels[place] - 0.5))
    axes.fill_between(
        seconds,
        [row[low] for row in values],
        [row[high] for row in values],
        color=AFTER,
        alpha=0.22,
        linewidth=0,
    )
    axes.plot(seconds, [row[middle] for row in values], color=AFTER, linewidth=1.4)
    came = [(at, value) for at, value in zip(seconds, truth, strict=True) if math.isfinite(value)]
    if came:
        axes.plot(*zip(*came, strict=True), color=INK, linewidth=1.0, marker=".", markersize=3)
    _named(axes, {"foretold, with its band": AFTER, "came": INK})
    return svg(figure, name, label)


def _plane(across: str, up: str) -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, _HEIGHT))
    axes = figure.add_axes((0.09, 0.16, 0.88, 0.7))
    axes.set_xlabel(across, color=INK)
    axes.set_ylabel(reading.clean(up), color=INK)
    clear(axes, "both")
    return figure, axes


def _named(axes: Axes, colours: dict[str, str]) -> None:
    """A legend that leaves the scale as it is."""
    limits = axes.get_xlim()
    legend(axes, colours)
    axes.set_xlim(limits)
