"""The pictures of a report as SVG. Owns what is drawn and to what scale; the page owns the colours.

The same report gives the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from federation.cli.forecast import reading
from federation.cli.forecast.svg import AFTER, BAD, BEFORE, DOMAINS, INK, LINE, canvas, legend, svg, words

if TYPE_CHECKING:
    from domain_twin.model.job import ElementForecast, FlowForecast, SweepRow

__all__ = ["delays", "parts", "ranks", "utilisations"]

MOST_BARS = 16


def delays(flows: Sequence[FlowForecast], label: str) -> str:
    """Mean delay of each flow before and after, with the 90 % interval; at most 16 flows."""
    drawn = [each for each in flows if each.before or each.after][:MOST_BARS]
    if not drawn:
        return ""
    figure, axes = canvas([_flow_name(each) for each in drawn], "mean one-way delay, ms")
    for at, flow in enumerate(drawn):
        for side, offset, colour in ((flow.before, -0.19, BEFORE), (flow.after, 0.19, AFTER)):
            if side is None or not math.isfinite(side.delay_ms.value):
                words(axes, 0, at + offset, "no path" if side is None else "unknown", BAD)
                continue
            delay = side.delay_ms
            axes.barh(at + offset, delay.value, 0.34, color=colour)
            if math.isfinite(delay.low) and math.isfinite(delay.high):
                axes.plot([delay.low, delay.high], [at + offset] * 2, color=INK, linewidth=1.2)
    legend(axes, {"before": BEFORE, "after": AFTER})
    return svg(figure, "delays", label)


def parts(flows: Sequence[FlowForecast], domains: Sequence[str], label: str) -> str:
    """Each domain's part of the mean delay, before and after; `domains` fixes their colours.

    Nothing where there are no parts: of one domain, or none.
    """
    drawn = [each for each in flows if each.path_before or each.path_after][:MOST_BARS]
    if not drawn or len(domains) < 2:
        return ""
    figure, axes = canvas([_flow_name(each) for each in drawn], "mean one-way delay, ms")
    colours = {domain: DOMAINS[number % len(DOMAINS)] for number, domain in enumerate(domains)} | {"": LINE}
    for at, flow in enumerate(drawn):
        for path, offset in ((flow.path_before, -0.19), (flow.path_after, 0.19)):
            left = 0.0
            for domain, share in reading.shares(path).items():
                if math.isfinite(share):
                    axes.barh(at + offset, share, 0.34, left=left, color=colours.get(domain, LINE))
                    left += share
            word = "before" if offset < 0 else "after"
            words(axes, left, at + offset, word if path else "no path", INK)
    legend(axes, {domain or "between domains": colour for domain, colour in colours.items()})
    return svg(figure, "parts", label)


def utilisations(elements: Sequence[ElementForecast], label: str) -> str:
    """Utilisation of each element before and after, per cent; a line at 100."""
    drawn = [
        each
        for each in elements
        if math.isfinite(each.utilisation_before) and math.isfinite(each.utilisation_after)
    ][:MOST_BARS]
    if not drawn:
        return ""
    figure, axes = canvas(
        [f"{reading.short(each.element)} ({each.kind})" for each in drawn], "utilisation, %"
    )
    for at, each in enumerate(drawn):
        old, new = 100 * each.utilisation_before, 100 * each.utilisation_after
        axes.plot([old, new], [at, at], color=LINE, linewidth=2, zorder=1)
        axes.plot([old], [at], "o", color=BEFORE, markersize=8, zorder=2)
        axes.plot([new], [at], "o", color=BAD if new >= 100 else AFTER, markersize=8, zorder=3)
    axes.axvline(100, color=BAD, linewidth=1, linestyle=":")
    legend(axes, {"before": BEFORE, "after": AFTER, "overloaded": BAD}, marker="o")
    return svg(figure, "utilisations", label)


def ranks(rows: Sequence[SweepRow], label: str) -> str:
    """The worst delay of each variant, in the order given; at most 16."""
    drawn = list(rows)[:MOST_BARS]
    if not drawn:
        return ""
    figure, axes = canvas([reading.short(each.name) for each in drawn], "worst mean delay, ms")
    for at, each in enumerate(drawn):
        known = math.isfinite(each.worst_delay_ms)
        colour = BAD if each.unreachable or each.missed else AFTER
        if known:
            axes.barh(at, each.worst_delay_ms, 0.6, color=colour)
        said = [f"{each.unreachable} without a path"] if each.unreachable else []
        said += [f"{len(each.missed)} missed"] if each.missed else []
        words(axes, each.worst_delay_ms if known else 0, at, ", ".join(said), INK)
    legend(axes, {"path lost or promise missed": BAD, "all promises kept": AFTER})
    return svg(figure, "ranks", label)


def _flow_name(flow: FlowForecast) -> str:
    return reading.short(flow.service) or reading.name_of_flow(flow)
