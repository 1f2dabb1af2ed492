"""The pictures of a report as SVG. Owns what is drawn and to what scale; the page owns the colours.

Colours are written as CSS variables, so that a page is right in light, in dark and on paper. Text stays text.
The same report gives the same bytes.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from federation.cli.forecast import reading

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from domain_twin.model.job import ElementForecast, FlowForecast, SweepRow

__all__ = ["delays", "parts", "ranks", "utilisations"]

MOST_BARS = 16
_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"
# Colours that nothing else has stand for the page's variables until the drawing is written.
_INK, _LINE, _BEFORE, _AFTER, _BAD = "#010101", "#020202", "#030303", "#040404", "#050505"
_VARIABLES = {_INK: "ink", _LINE: "line", _BEFORE: "before", _AFTER: "after", _BAD: "bad"}
_DOMAINS = [f"#0601{number:02d}" for number in range(6)]
_VARIABLES |= {colour: f"domain-{number}" for number, colour in enumerate(_DOMAINS)}
_WIDTH, _ROW, _EDGE = 8.6, 0.46, 0.85  # inches
_NAME_LETTERS = 44


def delays(flows: Sequence[FlowForecast], label: str) -> str:
    """Mean delay of each flow before and after, with the 90 % interval; at most 16 flows."""
    drawn = [each for each in flows if each.before or each.after][:MOST_BARS]
    if not drawn:
        return ""
    figure, axes = _canvas([_flow_name(each) for each in drawn], "mean one-way delay, ms")
    for at, flow in enumerate(drawn):
        for side, offset, colour in ((flow.before, -0.19, _BEFORE), (flow.after, 0.19, _AFTER)):
            if side is None or not math.isfinite(side.delay_ms.value):
                _words(axes, 0, at + offset, "no path" if side is None else "unknown", _BAD)
                continue
            delay = side.delay_ms
            axes.barh(at + offset, delay.value, 0.34, color=colour)
            if math.isfinite(delay.low) and math.isfinite(delay.high):
                axes.plot([delay.low, delay.high], [at + offset] * 2, color=_INK, linewidth=1.2)
    _legend(axes, {"before": _BEFORE, "after": _AFTER})
    return _svg(figure, "delays", label)


def parts(flows: Sequence[FlowForecast], domains: Sequence[str], label: str) -> str:
    """Each domain's part of the mean delay, before and after; `domains` fixes their colours.

    Nothing where there are no parts: of one domain, or none.
    """
    drawn = [each for each in flows if each.path_before or each.path_after][:MOST_BARS]
    if not drawn or len(domains) < 2:
        return ""
    figure, axes = _canvas([_flow_name(each) for each in drawn], "mean one-way delay, ms")
    colours = {domain: _DOMAINS[number % len(_DOMAINS)] for number, domain in enumerate(domains)} | {
        "": _LINE
    }
    for at, flow in enumerate(drawn):
        for path, offset in ((flow.path_before, -0.19), (flow.path_after, 0.19)):
            left = 0.0
            for domain, share in reading.shares(path).items():
                if math.isfinite(share):
                    axes.barh(at + offset, share, 0.34, left=left, color=colours.get(domain, _LINE))
                    left += share
            word = "before" if offset < 0 else "after"
            _words(axes, left, at + offset, word if path else "no path", _INK)
    _legend(axes, {domain or "between domains": colour for domain, colour in colours.items()})
    return _svg(figure, "parts", label)


def utilisations(elements: Sequence[ElementForecast], label: str) -> str:
    """Utilisation of each element before and after, per cent; a line at 100."""
    drawn = [
        each
        for each in elements
        if math.isfinite(each.utilisation_before) and math.isfinite(each.utilisation_after)
    ][:MOST_BARS]
    if not drawn:
        return ""
    figure, axes = _canvas(
        [f"{reading.short(each.element)} ({each.kind})" for each in drawn], "utilisation, %"
    )
    for at, each in enumerate(drawn):
        old, new = 100 * each.utilisation_before, 100 * each.utilisation_after
        axes.plot([old, new], [at, at], color=_LINE, linewidth=2, zorder=1)
        axes.plot([old], [at], "o", color=_BEFORE, markersize=8, zorder=2)
        axes.plot([new], [at], "o", color=_BAD if new >= 100 else _AFTER, markersize=8, zorder=3)
    axes.axvline(100, color=_BAD, linewidth=1, linestyle=":")
    _legend(axes, {"before": _BEFORE, "after": _AFTER, "overloaded": _BAD}, marker="o")
    return _svg(figure, "utilisations", label)


def ranks(rows: Sequence[SweepRow], label: str) -> str:
    """The worst delay of each variant, in the order given; at most 16."""
    drawn = list(rows)[:MOST_BARS]
    if not drawn:
        return ""
    figure, axes = _canvas([reading.short(each.name) for each in drawn], "worst mean delay, ms")
    for at, each in enumerate(drawn):
        known = math.isfinite(each.worst_delay_ms)
        colour = _BAD if each.unreachable or each.missed else _AFTER
        if known:
            axes.barh(at, each.worst_delay_ms, 0.6, color=colour)
        words = [f"{each.unreachable} without a path"] if each.unreachable else []
        words += [f"{len(each.missed)} missed"] if each.missed else []
        _words(axes, each.worst_delay_ms if known else 0, at, ", ".join(words), _INK)
    _legend(axes, {"path lost or promise missed": _BAD, "all promises kept": _AFTER})
    return _svg(figure, "ranks", label)


def _canvas(names: Sequence[str], unit: str) -> tuple[Figure, Axes]:
    """Axes with one line for each name, first on top, and a scale that begins at 0."""
    from matplotlib.figure import Figure

    height = len(names) * _ROW + _EDGE
    figure = Figure(figsize=(_WIDTH, height))
    axes = figure.add_axes((0.36, 0.5 / height, 0.6, (height - _EDGE) / height))
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_yticks(range(len(names)), [_cut(name) for name in names], parse_math=False)
    axes.set_xlabel(unit, color=_INK)
    axes.margins(x=0.14)
    axes.tick_params(colors=_INK, labelsize=9, length=0)
    axes.grid(axis="x", color=_LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_visible(False)
    return figure, axes


def _words(axes: Axes, x: float, y: float, text: str, colour: str) -> None:
    """A few words to the right of where a bar ends."""
    axes.annotate(
        text, (x, y), (4, 0), textcoords="offset points", va="center", color=colour, size=8, parse_math=False
    )


def _flow_name(flow: FlowForecast) -> str:
    return reading.short(flow.service) or reading.name_of_flow(flow)


def _cut(name: str) -> str:
    name = reading.clean(name)
    return name if len(name) <= _NAME_LETTERS else f"{name[: _NAME_LETTERS - 1]}…"


def _legend(axes: Axes, colours: dict[str, str], marker: str = "s") -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], linestyle="", marker=marker, markersize=7, color=colour, label=reading.clean(name))
        for name, colour in colours.items()
    ]
    axes.set_xlim(0, axes.get_xlim()[1])
    legend = axes.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=len(handles),
        frameon=False,
        fontsize=9,
    )
    for text in legend.get_texts():
        text.set_color(_INK)
        text.set_parse_math(False)


def _svg(figure: Figure, name: str, label: str) -> str:
    """The drawing as an SVG element with `label` as its text alternative; ids begin with `name`."""
    import matplotlib as mpl

    data = io.StringIO()
    settings: dict[str, Any] = {
        "svg.fonttype": "none",
        "svg.hashsalt": f"fedtwin-{name}",
        "font.family": "sans-serif",
    }
    with mpl.rc_context(settings), warnings.catch_warnings():
        # Text stays text: the reader's fonts draw it, those here only measure it.
        warnings.filterwarnings("ignore", "Glyph .* missing from font", UserWarning)
        figure.savefig(data, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    ElementTree.register_namespace("", _SVG)
    ElementTree.register_namespace("xlink", _XLINK)
    root = ElementTree.fromstring(data.getvalue())
    for element in root.iter():
        for key, value in list(element.attrib.items()):
            if key == "id":
                element.set(key, f"{name}-{value}")
            else:
                element.set(key, _own(value, name))
    for metadata in root.findall(f"{{{_SVG}}}metadata"):
        root.remove(metadata)
    root.attrib.pop("width", None)
    root.attrib.pop("height", None)
    root.set("role", "img")
    root.set("aria-labelledby", f"{name}-title")
    title = ElementTree.Element(f"{{{_SVG}}}title", {"id": f"{name}-title"})
    title.text = reading.clean(label)
    root.insert(0, title)
    return ElementTree.tostring(root, encoding="unicode")


def _own(value: str, name: str) -> str:
    """An attribute with its references and colours made the page's own."""
    value = re.sub(r"url\(#", f"url(#{name}-", value)
    value = re.sub(r"^#(?!\d{6}$)", f"#{name}-", value)
    for colour, variable in _VARIABLES.items():
        value = value.replace(colour, f"var(--{variable})")
    return re.sub(r"font: ([\d.]+px) [^;]*;", r"font-size: \1;", value)
