"""A model's card as one HTML file: no script, nothing from outside, every name escaped. Owns the page.

At a broker it shows the rounds; at an agent, what the model foretold of the domain's own past and what came.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from domain_twin.errors import NotFound, NotShared, TwinError
from federation.cli.console import iso
from federation.cli.forecast import reading
from federation.cli.forecast.page import style
from federation.cli.learn import drawings
from federation.cli.learn.scores import RAW, scores_rows

if TYPE_CHECKING:
    import jinja2

    from domain_twin.learning.run import Run
    from domain_twin.learning.store import Kept
    from federation.wire.learning import ElementForecast

__all__ = ["Material", "render", "write_report"]

MOST_FORECASTS = 6


@dataclass(frozen=True, slots=True)
class Material:
    """What a page is made of: the card, the rounds if they are known, and forecasts of what has come."""

    kept: Kept
    run: Run | None = None
    past: Sequence[ElementForecast] = ()


def write_report(at: str, kept: Kept, page: Path) -> None:
    """Fetch what belongs to `kept` from the broker or agent at `at`, and write the page. Raises TwinError."""
    from federation.cli.output import write

    write(render(asyncio.run(_gathered(at, kept))), page)


def render(material: Material) -> str:
    """The page. The same material gives the same text."""
    from markupsafe import Markup

    card = material.kept.card
    title = f"{card.model} {card.version}"
    log: Sequence[Mapping[str, Any]] = material.run.log if material.run else ()
    rounds = [entry for entry in log if "round" in entry]
    domains = sorted({domain for entry in rounds for domain in entry.get("domains", {})})
    pictures = {
        "rivals": drawings.rivals(card.scores, f"Loss of {title} beside naive rivals"),
        "gains": drawings.gains(card.gains, f"What each operator gained by {title}"),
        "losses": drawings.losses(rounds, domains, f"Loss by round and operator, {title}"),
    }
    measures, rows = scores_rows(card)
    return _template().render(
        title=title,
        style=style(),
        kept=material.kept,
        card=card,
        made=iso(card.created_at),
        measures=measures,
        raw=RAW if "raw" in measures else "",
        table=[(name, [_figure(row.get(measure)) for measure in measures]) for name, row in rows.items()],
        private=card.task.profile.value == "private",
        spent=sorted(card.privacy_spent.items()) if card.task.privacy else [],
        # Written by matplotlib from cleaned text, and parsed as XML: markup, not text.
        pictures={name: Markup(picture) for name, picture in pictures.items()},
        forecasts=[
            {"name": f"{each.element}, {each.kpi}", "picture": Markup(picture)}
            for number, each in enumerate(material.past[:MOST_FORECASTS])
            if (picture := _past(each, number))
        ],
        forecast_words=_past_words(material.past),
    )


async def _gathered(at: str, kept: Kept) -> Material:
    from federation.learning_client import LearningClient

    async with LearningClient.connect(at) as learning:
        run: Run | None = None
        past: Sequence[ElementForecast] = ()
        with contextlib.suppress(NotFound, NotShared):  # an agent knows no rounds, a broker forgets old ones
            run = await learning.run(kept.card.run)
        if run is None and kept.in_service:
            with contextlib.suppress(
                TwinError
            ):  # no forecaster, or too little is known: the page goes without
                past, _ = await learning.forecast(kept.card.model, hindsight=True)
        return Material(kept, run, _telling(past))


def _telling(past: Sequence[ElementForecast]) -> list[ElementForecast]:
    """Those of which most came true and moved, first."""

    def moved(forecast: ElementForecast) -> float:
        came = [value for value in forecast.truth if math.isfinite(value)]
        return len(came) * (max(came) - min(came)) / (abs(sum(came)) or 1.0) if came else 0.0

    return sorted(past, key=moved, reverse=True)


def _past(forecast: ElementForecast, number: int) -> str:
    first = forecast.times[0] if forecast.times else 0
    return drawings.against_truth(
        [(at - first) / 1e9 for at in forecast.times],
        forecast.quantiles,
        forecast.values,
        forecast.truth,
        unit=f"{forecast.kpi.removeprefix('ndt:')}, {forecast.unit}",
        name=f"past-{number}",
        label=f"{forecast.element}: {forecast.kpi} foretold and come true",
    )


def _past_words(past: Sequence[ElementForecast]) -> str:
    inside = known = 0
    for forecast in past:
        for row, came in zip(forecast.values, forecast.truth, strict=False):
            if math.isfinite(came):
                known += 1
                inside += min(row) <= came <= max(row)
    if not known:
        return ""
    band = 100 * (max(past[0].quantiles) - min(past[0].quantiles))
    return (
        f"{known:,} values of {len(past)} series came true; {100 * inside / known:.1f} % of them inside the"
        f" band of {band:.0f} %."
    )


@cache
def _template() -> jinja2.Template:
    import jinja2

    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: reading.clean(value) if type(value) is str else value,
    )
    source = files("federation.cli.learn").joinpath("page.html.j2").read_text(encoding="utf-8")
    return environment.from_string(source)


def _figure(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.4g}"
