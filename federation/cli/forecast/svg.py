"""Drawings as SVG for pages: axes, legends, colours. Owns how a picture looks and what of it is written.

Colours are written as CSS variables, so that a page is right in light, in dark and on paper. Text stays text.
The same drawing gives the same bytes.
"""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal
from xml.etree import ElementTree

from federation.cli.forecast import reading

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "AFTER",
    "BAD",
    "BEFORE",
    "DOMAINS",
    "INK",
    "LINE",
    "WIDTH",
    "canvas",
    "clear",
    "legend",
    "svg",
    "words",
]

_SVG = "http://www.w3.org/2000/svg"
_XLINK = "http://www.w3.org/1999/xlink"
# Colours that nothing else has stand for the page's variables until the drawing is written.
INK, LINE, BEFORE, AFTER, BAD = "#010101", "#020202", "#030303", "#040404", "#050505"
_VARIABLES = {INK: "ink", LINE: "line", BEFORE: "before", AFTER: "after", BAD: "bad"}
DOMAINS = [f"#0601{number:02d}" for number in range(6)]
_VARIABLES |= {colour: f"domain-{number}" for number, colour in enumerate(DOMAINS)}
WIDTH = 8.6  # inches
_ROW, _EDGE = 0.46, 0.85
_NAME_LETTERS = 44


def canvas(names: Sequence[str], unit: str) -> tuple[Figure, Axes]:
    """Axes with one line for each name, first on top, and a scale that begins at 0."""
    from matplotlib.figure import Figure

    height = len(names) * _ROW + _EDGE
    figure = Figure(figsize=(WIDTH, height))
    axes = figure.add_axes((0.36, 0.5 / height, 0.6, (height - _EDGE) / height))
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_yticks(range(len(names)), [_cut(name) for name in names], parse_math=False)
    axes.set_xlabel(unit, color=INK)
    axes.margins(x=0.14)
    clear(axes, "x")
    return figure, axes


def clear(axes: Axes, grid: Literal["x", "y", "both"]) -> None:
    """Axes without a frame, with a light grid."""
    axes.tick_params(colors=INK, labelsize=9, length=0)
    axes.grid(axis=grid, color=LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_visible(False)


def words(axes: Axes, x: float, y: float, text: str, colour: str) -> None:
    """A few words to the right of where a bar ends."""
    axes.annotate(
        text, (x, y), (4, 0), textcoords="offset points", va="center", color=colour, size=8, parse_math=False
    )


def _cut(name: str) -> str:
    name = reading.clean(name)
    return name if len(name) <= _NAME_LETTERS else f"{name[: _NAME_LETTERS - 1]}…"


def legend(axes: Axes, colours: dict[str, str], marker: str = "s") -> None:
    """Names of colours, above the drawing."""
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], linestyle="", marker=marker, markersize=7, color=colour, label=reading.clean(name))
        for name, colour in colours.items()
    ]
    axes.set_xlim(0, axes.get_xlim()[1])
    drawn = axes.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(0, 1),
        ncols=len(handles),
        frameon=False,
        fontsize=9,
    )
    for text in drawn.get_texts():
        text.set_color(INK)
        text.set_parse_math(False)


def svg(figure: Figure, name: str, label: str) -> str:
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
