"""A what-if report as one HTML file: no script, nothing from outside, every name escaped. Owns the page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from federation.cli.console import KNOWN_DOMAINS, iso, ratio
from federation.cli.forecast import drawings, reading

if TYPE_CHECKING:
    import jinja2
    import markupsafe

    from domain_twin.model.job import Report

__all__ = ["MOST_ROWS", "render", "style"]

MOST_ROWS = 2000
"""Rows of one table; what is more is counted, and in the JSON."""


def render(report: Report) -> str:
    """The page. The same report gives the same text."""
    from markupsafe import Markup

    flows = reading.by_change(report.flows)
    elements = reading.changed_elements(report.elements)
    rows = reading.ranking(report.rows)
    met = [part.domain for flow in flows for part in (*flow.path_before, *flow.path_after) if part.domain]
    domains = list(dict.fromkeys([*(name for name in KNOWN_DOMAINS if name in met), *sorted(set(met))]))
    title = report.scenario.name or "What-if report"
    pictures = {
        "delays": drawings.delays(flows, f"Mean delay of {_many(flows)} flows before and after"),
        "parts": drawings.parts(flows, domains, f"Each domain's part of the delay of {_many(flows)} flows"),
        "utilisations": drawings.utilisations(elements, f"Utilisation of {_many(elements)} elements"),
        "ranks": drawings.ranks(rows, f"Worst delay of {_many(rows)} variants, worst first"),
    }
    return _template().render(
        title=title,
        style=style(),
        report=report,
        changes=reading.change_lines(report.scenario),
        sweep=reading.sweep_words(report.scenario),
        state=reading.state_words(report),
        rung=reading.rung_words(report.rung),
        troubles=reading.troubles(report),
        answered=iso(report.answered_at) if report.answered_at else "",
        flows=[_flow(flow) for flow in flows[:MOST_ROWS]],
        elements=elements[:MOST_ROWS],
        rows=rows[:MOST_ROWS],
        more={"flows": len(flows), "elements": len(elements), "variants": len(rows)},
        most=MOST_ROWS,
        # Written by matplotlib from cleaned text, and parsed as XML: markup, not text.
        pictures={name: Markup(svg) for name, svg in pictures.items()},
        drawn=drawings.MOST_BARS,
    )


def _many(things: Sequence[object]) -> str:
    return str(min(len(things), drawings.MOST_BARS))


def _flow(flow: Any) -> dict[str, Any]:
    return {
        "name": reading.name_of_flow(flow),
        "service": reading.short(flow.service),
        "traffic_class": flow.traffic_class,
        "path": reading.path_words(flow),
        "before": reading.shown_path(flow.path_before),
        "after": reading.shown_path(flow.path_after),
        "rows": reading.flow_rows(flow),
        "shares": _shares(flow),
    }


def _shares(flow: Any) -> list[tuple[str, float | None, float | None]]:
    before, after = reading.shares(flow.path_before), reading.shares(flow.path_after)
    return [
        (domain or "between domains", before.get(domain), after.get(domain))
        for domain in dict.fromkeys([*before, *after])
    ]


@cache
def style() -> markupsafe.Markup:
    """The style of all pages."""
    from markupsafe import Markup

    return Markup(files("federation.cli.forecast").joinpath("style.css").read_text(encoding="utf-8"))


@cache
def _template() -> jinja2.Template:
    import jinja2

    environment = jinja2.Environment(
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_clean,
    )
    environment.filters["share"] = _share
    environment.filters["ms"] = _ms
    environment.filters["ratio"] = _ratio
    environment.filters["short"] = reading.short
    source = files("federation.cli.forecast").joinpath("page.html.j2").read_text(encoding="utf-8")
    return environment.from_string(source)


def _clean(value: Any) -> Any:
    return reading.clean(value) if type(value) is str else value


def _share(value: float) -> str:
    return f"{100 * value:.1f} %" if math.isfinite(value) else "unknown"


def _ratio(value: float) -> str:
    return ratio(value) if math.isfinite(value) else "unknown"


def _ms(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}" if math.isfinite(value) else "unknown"
