"""A domain's own recorded history as a panel: KPIs of the ontology, in the task's units and on its grid.

Owns which leaf of which element is which KPI (read off the mapping's tables), units, and the grid of time.
Only what was measured is learned from: imputed and synthetic values count as gaps. What is not known stays
NaN, and elements of which nothing is known are left out.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from domain_twin.errors import ConfigError, ContractError, NotFound
from domain_twin.learning.panel import Panel
from domain_twin.learning.task import Feature, Task
from domain_twin.mapping.table import Kind, Row
from domain_twin.mapping.tables import TABLES
from domain_twin.model import UNITS, Nanoseconds, Network, Origin, Sample
from domain_twin.yang.paths import quote

if TYPE_CHECKING:
    from domain_twin.datastore.history import History

__all__ = ["ELEMENT_KINDS", "LeafOf", "check_terms", "kpi_of", "leaves_of", "offered", "panel", "unit_factor"]

_NAMESPACE: Final = "https://fedtwin.example/ns/ndt#"
_PREFIX: Final = "ndt:"
_MOST_CELLS: Final = 20_000_000
"""Elements times steps times features: 160 MB of doubles."""
_AT_ONCE: Final = 512
"""Series that are read in one question."""
_SAMPLES_AT_ONCE: Final = 500_000
"""Samples, at about 200 bytes each, that are read in one question: others say how long a window is."""

ELEMENT_KINDS: Final[Mapping[str, Kind]] = {
    "link": Kind.LINK_FIGURES,
    "border": Kind.LINK_FIGURES,
    "cell": Kind.CELL,
    "network-function": Kind.FUNCTION,
    "host": Kind.HOST,
}
"""What can be learned from; `border` is the domain's end of an inter-domain link."""

_SCALES: Final[Mapping[str, Mapping[str, float]]] = {
    "ms": {"ms": 1.0, "s": 1e-3, "us": 1e3, "µs": 1e3, "ns": 1e6},
    "ms2": {"ms2": 1.0, "s2": 1e-6, "us2": 1e6},
    "Mbit/s": {"Mbit/s": 1.0, "Gbit/s": 1e-3, "kbit/s": 1e3, "bit/s": 1e6},
    "octets": {"octets": 1.0, "byte": 1.0, "kbyte": 1e-3, "Mbyte": 1e-6, "bit": 8.0},
    "1/s": {"1/s": 1.0, "1/min": 60.0},
    "1": {"1": 1.0, "%": 100.0},
}


@dataclass(frozen=True, slots=True)
class LeafOf:
    """Where a device says a figure; times `scale` it is in the task's unit."""

    device: str
    path: str
    scale: float


@dataclass(frozen=True, slots=True)
class _Element:
    """One element, and by what the tables' paths know it."""

    id: str
    device: str
    keys: Mapping[str, str]


def kpi_of(feature: Feature) -> str:
    """The KPI that a feature's term names (`ndt:utilisation`, or the IRI). Raises ContractError."""
    local = feature.kpi.removeprefix(_NAMESPACE).removeprefix(_PREFIX)
    if local == feature.kpi or local not in UNITS:
        terms = ", ".join(f"{_PREFIX}{name}" for name in UNITS)
        raise ContractError(f"feature {feature.kpi!r}: no such KPI; there are {terms}")
    return local


def unit_factor(feature: Feature) -> float:
    """What a figure in the model's unit is multiplied with. Raises ContractError for another quantity."""
    own = UNITS[kpi_of(feature)]
    scales = _SCALES[own]
    if feature.unit not in scales:
        raise ContractError(
            f"feature {feature.kpi}: {feature.unit!r} is no unit of it; accepted are {', '.join(scales)}"
        )
    return scales[feature.unit]


def offered(element_kind: str) -> tuple[Feature, ...]:
    """All KPIs that elements of a kind can have. Raises ContractError for an unknown kind."""
    rows = {row.attribute: row.unit for row in _rows(element_kind)}
    return tuple(Feature(f"{_PREFIX}{name}", unit) for name, unit in rows.items())


async def panel(history: History, network: Network, task: Task, now: Nanoseconds) -> Panel:
    """What `task` is learned from, out of this domain's history.

    The grid lies on multiples of the step, and begins where the first value is known. Raises NotFound where
    nothing is recorded of what is asked, ContractError for terms, units, kinds or windows that cannot be.
    """
    if not task.features:
        raise ContractError(f"task {task.model!r}: it names no features")
    factors = [unit_factor(feature) for feature in task.features]
    kpis = [kpi_of(feature) for feature in task.features]
    elements = sorted(_elements(network, task.element_kind), key=lambda element: element.id)
    if not elements:
        raise NotFound(f"{network.domain} has no {task.element_kind} to learn from")
    step = round(task.step_s * 1e9)
    start, steps = _grid(task, step, now)
    if len(elements) * steps * len(kpis) > _MOST_CELLS:
        raise ContractError(
            f"task {task.model!r}: {len(elements)} elements, {steps} steps and {len(kpis)} features are more"
            f" than {_MOST_CELLS} values; take a longer step or a shorter window"
        )
    values = np.full((len(elements), steps, len(kpis)), np.nan)
    for column, (kpi, factor) in enumerate(zip(kpis, factors, strict=True)):
        rows = [(row, factor) for row in _rows(task.element_kind) if row.attribute == kpi]
        await _fill(history, values[:, :, column], elements, rows, (start, step))
    return _trimmed(values, elements, task, network.domain, start=start, step=step)


def leaves_of(network: Network, task: Task) -> dict[tuple[str, int], list[LeafOf]]:
    """The leaves that can say a feature (its place in the task) of an element, the first choice first."""
    found: dict[tuple[str, int], list[LeafOf]] = {}
    for element in _elements(network, task.element_kind):
        for place, feature in enumerate(task.features):
            kpi, factor = kpi_of(feature), unit_factor(feature)
            for row in _rows(task.element_kind):
                if row.attribute == kpi and (path := _path(row, element)):
                    leaf = LeafOf(element.device, path, float(row.convert(1.0)) * factor)
                    found.setdefault((element.id, place), []).append(leaf)
    return found


def _grid(task: Task, step: Nanoseconds, now: Nanoseconds) -> tuple[Nanoseconds, int]:
    """The first step's beginning and the number of steps. Raises ContractError."""
    window = task.window
    end = window.end or now
    start = window.start or end - round(window.length_s * 1e9)
    if end > now + step:
        raise ContractError(
            f"task {task.model!r}: its window ends {(end - now) / 1e9:.0f} s after this domain's now; set the"
            " clocks of both sides, or give a window in the past"
        )
    first, last = -(-start // step) * step, end // step * step
    steps = (last - first) // step
    wanted = task.lags + max(task.horizons) + 1
    if steps < wanted:
        raise ContractError(
            f"task {task.model!r}: its window has {max(0, steps)} steps of {task.step_s:g} s, and"
            f" {wanted} are the least for its lags and horizons"
        )
    return first, steps


async def _fill(
    history: History,
    values: NDArray[np.float64],
    elements: Sequence[_Element],
    rows: Sequence[tuple[Row, float]],
    grid: tuple[Nanoseconds, Nanoseconds],
) -> None:
    """Put one KPI of all elements into `values` [E, T]; where several leaves feed it, the first that does."""
    start, step = grid
    end = start + values.shape[1] * step
    for row, factor in rows:
        scale = float(row.convert(1.0)) * factor  # every figure's conversion is a scaling
        leaves = {
            (element.device, path): place
            for place, element in enumerate(elements)
            if (path := _path(row, element)) and np.isnan(values[place]).all()
        }
        listed = list(leaves)
        span = min(values.shape[1], _SAMPLES_AT_ONCE) * step
        at_once = max(1, min(_AT_ONCE, _SAMPLES_AT_ONCE * step // span))
        for first in range(0, len(listed), at_once):
            for begin in range(start, end, span):
                until = min(end, begin + span)
                found = await history.series_of(listed[first : first + at_once], begin, until, step)
                for leaf, samples in found.items():
                    _place(values[leaves[leaf]], samples, scale, start, step)


def _place(
    row: NDArray[np.float64], samples: Sequence[Sample], scale: float, start: Nanoseconds, step: Nanoseconds
) -> None:
    for sample in samples:
        if sample.origin is Origin.MEASURED and math.isfinite(sample.value):
            row[(sample.at - start) // step] = sample.value * scale


def _trimmed(
    values: NDArray[np.float64],
    elements: Sequence[_Element],
    task: Task,
    domain: str,
    *,
    start: Nanoseconds,
    step: Nanoseconds,
) -> Panel:
    """The panel without elements and edges of which nothing is known. Raises NotFound.

    For noised statistics it is all of the window and of the network's elements, known or not, and no
    holdout.
    """
    known = np.isfinite(values)
    unknown = [f.kpi for column, f in enumerate(task.features) if not known[:, :, column].any()]
    if unknown:
        raise NotFound(
            f"{domain}: no {task.element_kind} has {', '.join(unknown)} recorded in this window; devices must"
            " report it and history be kept"
        )
    kept = np.flatnonzero(known.any(axis=(1, 2)))
    at = np.flatnonzero(known.any(axis=(0, 2)))
    first, last = int(at[0]), int(at[-1]) + 1
    wanted = task.lags + max(task.horizons) + 1
    if last - first < wanted:
        raise NotFound(
            f"{domain}: {last - first} steps of {task.step_s:g} s are recorded, and {wanted} are the least"
            " for this task's lags and horizons; ask again when there is more"
        )
    if task.tells_noised:
        # What is told of must not hang on what is known: one step less would move where it begins and ends.
        kept, first, last = np.arange(len(elements)), 0, values.shape[1]
    holdout = 0.0 if task.tells_noised else task.holdout
    part = np.ascontiguousarray(values[kept, first:last])
    return Panel(
        elements=tuple(elements[int(place)].id for place in kept),
        features=tuple(feature.kpi for feature in task.features),
        values=part,
        start=start + first * step,
        step_s=task.step_s,
        holdout_from=round((last - first) * (1.0 - holdout)),
    )


def _rows(element_kind: str) -> list[Row]:
    kind = ELEMENT_KINDS.get(element_kind)
    if kind is None:
        raise ContractError(
            f"element kind {element_kind!r}: nothing is learned from such; there are"
            f" {', '.join(ELEMENT_KINDS)}"
        )
    return [row for table in TABLES for row in table if row.kpi and row.kind is kind]


def _elements(network: Network, kind: str) -> Iterable[_Element]:
    """The elements of a kind, each with the keys that its figures are reported under."""
    _rows(kind)
    if kind == "link":
        for link in network.links.values():
            yield _Element(link.id, link.device, {"link-id": link.id})
    elif kind == "border":
        for point in network.termination_points.values():
            if point.inter_domain is not None:
                link_id = point.inter_domain.link_id
                yield _Element(link_id, point.device, {"link-id": link_id})
    elif kind == "cell":
        for cell in network.cells.values():
            yield _Element(cell.id, cell.device, {"cellLocalId": str(cell.local_id)})
    else:
        found: Mapping[str, Any] = network.functions if kind == "network-function" else network.hosts
        for item in found.values():
            yield _Element(item.id, item.device, {})


def _path(row: Row, element: _Element) -> str:
    """The leaf that `row` reads for this element; empty where it is known by other keys."""
    if any(name not in element.keys for name in row.key_names):
        return ""
    path = row.path
    for name in row.key_names:
        path = path.replace(f"[{name}]", f"[{name}={quote(element.keys[name])}]", 1)
    return path


def check_terms(task: Task) -> None:
    """Refuse terms, units and kinds that no domain could have. Raises ContractError, ConfigError."""
    kinds = dict.fromkeys(row.attribute for row in _rows(task.element_kind))
    for feature in task.features:
        unit_factor(feature)
        if kpi_of(feature) not in kinds:
            has = ", ".join(f"{_PREFIX}{name}" for name in kinds)
            raise ConfigError(f"feature {feature.kpi}: a {task.element_kind} has no such KPI; it has {has}")
