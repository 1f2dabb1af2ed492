"""What a report says, in words and in order, for every face of it. Owns no form and no colour."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from itertools import groupby
from typing import TYPE_CHECKING, Any

from federation.cli.console import plain, ratio

if TYPE_CHECKING:
    from domain_twin.model.job import (
        ElementForecast,
        Figure,
        FlowFigures,
        FlowForecast,
        PathPart,
        Report,
        SweepRow,
    )
    from domain_twin.model.scenario import Scenario

__all__ = [
    "ROWS", "Row", "by_change", "change_lines", "changed_elements", "clean", "cleaned", "delay_change",
    "document", "flow_rows", "name_of_flow", "path_words", "percent", "ranking", "rung_words", "shares",
    "short", "shown_path", "state_words", "sweep_words", "troubles",
]  # fmt: skip

_RUNGS = {
    "capacity": "reachability and capacity only: no delay is predicted",
    "tables": "queueing tables",
    "residual": "queueing tables with the fitted correction",
    "packets": "packet-level simulation",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One figure of a flow, before and after, ready to be shown."""

    name: str
    before: str
    after: str
    interval: str  # of what is predicted
    change: str
    worse: bool | None  # None: neither better nor worse


def _ms(value: float) -> str:
    return f"{value:,.3f}" if math.isfinite(value) else "unknown"


def _loss(value: float) -> str:
    return ratio(value) if math.isfinite(value) else "unknown"


def _rate(value: float) -> str:
    return "unknown" if not math.isfinite(value) else f"{value:,.2f}" if value < 1000 else f"{value:,.0f}"


# Attribute of FlowFigures, its name and unit for people, how it is written, and whether more of it is worse.
ROWS = (
    ("delay_ms", "mean delay, ms", _ms, True),
    ("p90_ms", "90 % below, ms", _ms, True),
    ("p95_ms", "95 % below, ms", _ms, True),
    ("p99_ms", "99 % below, ms", _ms, True),
    ("loss", "loss ratio", _loss, True),
    ("throughput_mbps", "throughput, Mbit/s", _rate, False),
)
_SAME = 5e-4  # relative: what rounds to the same figure on a screen


def flow_rows(flow: FlowForecast) -> list[Row]:
    """The figures of a flow, one a row; without a path before or after, that side is empty."""
    found = []
    for attribute, name, write, more_is_worse in ROWS:
        old = getattr(flow.before, attribute) if flow.before else None
        new = getattr(flow.after, attribute) if flow.after else None
        if all(each is None or not math.isfinite(each.value) for each in (old, new)):
            continue
        change, worse = _change(old, new, write, more_is_worse)
        found.append(
            Row(
                name,
                write(old.value) if old else "no path",
                write(new.value) if new else "no path",
                _interval(new, write),
                change,
                worse,
            )
        )
    return found


def _interval(figure: Figure | None, write: Callable[[float], str]) -> str:
    if figure is None or not (math.isfinite(figure.low) and math.isfinite(figure.high)):
        return ""
    return f"{write(figure.low)} to {write(figure.high)}"


def _change(
    old: Figure | None, new: Figure | None, write: Callable[[float], str], more_is_worse: bool
) -> tuple[str, bool | None]:
    if old is None or new is None or not (math.isfinite(old.value) and math.isfinite(new.value)):
        return "", None
    difference = new.value - old.value
    if abs(difference) <= _SAME * max(abs(old.value), abs(new.value)):
        return "the same", None
    worse = (difference > 0) == more_is_worse
    sign = "+" if difference > 0 else "-"
    share = f" ({percent(difference / old.value)})" if old.value > 0 and difference < 100 * old.value else ""
    return f"{sign}{write(abs(difference))}{share}", worse


def percent(value: float) -> str:
    """`+51 %`, to two significant digits below 10 %."""
    digits = 1 if abs(value) < 0.0995 else 0
    return f"{100 * value:+.{digits}f} %"


def name_of_flow(flow: FlowForecast) -> str:
    """`FROM to TO`, short ids."""
    return f"{short(flow.source)} to {short(flow.target)}"


def short(text: str) -> str:
    """Text with its elements' ids cut short: without what all ids have in common."""
    return text.replace("urn:ndt:idl:", "idl-").replace("urn:ndt:", "").replace("urn:service:", "")


def delay_change(flow: FlowForecast) -> float:
    """By how much the mean delay changes, ms; infinite where a path is lost, minus that where one is won."""
    old, new = _delay(flow.before), _delay(flow.after)
    if flow.after is None:
        return math.inf if flow.before else 0.0
    if flow.before is None:
        return -math.inf
    return new - old if math.isfinite(old) and math.isfinite(new) else 0.0


def _carried(figures: FlowFigures | None) -> float:
    return figures.throughput_mbps.value if figures and figures.throughput_mbps.value > 0 else 0.0


def _delay(figures: FlowFigures | None) -> float:
    return figures.delay_ms.value if figures else math.nan


def by_change(flows: Sequence[FlowForecast]) -> list[FlowForecast]:
    """Flows that lose their path first, then services, then by how much the mean delay changes.

    Of those that change alike (to 10 us), the ones with more traffic first.
    """
    return sorted(
        flows,
        key=lambda flow: (
            not (flow.before and not flow.after),
            not flow.service,
            -round(abs(delay_change(flow)), 2),
            -_carried(flow.before or flow.after),
            flow.source,
            flow.target,
            flow.traffic_class,
        ),
    )


def shares(parts: Sequence[PathPart]) -> dict[str, float]:
    """Each domain's part of the mean delay, ms, in the order of the path; `""`: between domains."""
    found: dict[str, float] = {}
    for part in parts:
        found[part.domain] = found.get(part.domain, 0.0) + part.delay_ms
    return found


def shown_path(parts: Sequence[PathPart]) -> str:
    """A path in one line: domains, and where one domain is seen inside, its nodes."""
    if not parts:
        return "no path"
    told = []
    for domain, group in groupby(parts, key=lambda part: part.domain):
        inner = list(group)
        if any(part.element for part in inner) and domain:
            places = [inner[0].source, *(part.target for part in inner)]
            told.append(" - ".join(_place(place, domain) for place in places))
        elif domain:
            told.append(domain)
    return " > ".join(told) or "between domains"


def _place(element: str, domain: str) -> str:
    return short(element).removeprefix(f"{domain}:").removeprefix(f"{domain}/")


def path_words(flow: FlowForecast) -> str:
    """What becomes of a flow's path, in words."""
    if flow.after is None:
        return "loses its path" if flow.before else "has no path, before or after"
    if flow.before is None:
        return f"gets a path: {shown_path(flow.path_after)}"
    if not flow.path_before or not flow.path_after:
        return "which path it takes is not disclosed"
    old, new = _domains(flow.path_before), _domains(flow.path_after)
    if old != new:
        return f"now through {' > '.join(new)}, before through {' > '.join(old)}"
    elsewhere = [
        domain or "between domains" for domain in dict.fromkeys(_all_domains(flow)) if _moved(flow, domain)
    ]
    if not elsewhere:
        inside = all(part.element for part in (*flow.path_before, *flow.path_after))
        return "the same path" if inside else "the same points; ways inside the domains are not visible"
    where = " and ".join(elsewhere)
    left = [
        part for part in flow.path_before if part.element and part.element not in _elements(flow.path_after)
    ]
    taken = [
        part for part in flow.path_after if part.element and part.element not in _elements(flow.path_before)
    ]
    if not (left and taken):
        return f"another way inside {where}"
    return f"another way inside {where}: leaves {_list(left)}, takes {_list(taken)}"


def _list(parts: Sequence[PathPart], most: int = 4) -> str:
    names = [f"{_place(part.source, part.domain)} - {_place(part.target, part.domain)}" for part in parts]
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _domains(parts: Sequence[PathPart]) -> list[str]:
    return [domain for domain, _ in groupby(part.domain for part in parts if part.domain)]


def _all_domains(flow: FlowForecast) -> list[str]:
    return [part.domain for part in (*flow.path_before, *flow.path_after)]


def _elements(parts: Sequence[PathPart]) -> set[str]:
    return {part.element for part in parts}


def _moved(flow: FlowForecast, domain: str) -> bool:
    def inside(parts: Sequence[PathPart]) -> list[tuple[str, str, str]]:
        return [(part.element, part.source, part.target) for part in parts if part.domain == domain]

    return inside(flow.path_before) != inside(flow.path_after)


def changed_elements(elements: Sequence[ElementForecast]) -> list[ElementForecast]:
    """Elements by how much their utilisation changes; those that become overloaded first."""

    def moved(each: ElementForecast) -> float:
        change = each.utilisation_after - each.utilisation_before
        return abs(change) if math.isfinite(change) else 0.0

    return sorted(
        elements,
        key=lambda each: (not each.utilisation_after >= 1.0, -moved(each), each.element),
    )


def ranking(rows: Sequence[SweepRow]) -> list[SweepRow]:
    """Variants, worst first: by flows without a path, missed promises, loss, then delay."""
    return sorted(
        rows,
        key=lambda row: (
            -row.unreachable,
            -len(row.missed),
            -_known(row.worst_loss),
            -_known(row.worst_delay_ms),
            row.name,
        ),
    )


def _known(value: float) -> float:
    return 0.0 if math.isnan(value) else value


def troubles(report: Report) -> list[str]:
    """What makes an answer partial, one sentence for each domain that did not answer as asked."""
    return [
        f"{each.domain}: {each.outcome.value}" + (f" ({each.reason})" if each.reason else "")
        for each in report.domains
        if each.outcome.value != "ok"
    ]


def rung_words(rung: str) -> str:
    """What a rung of the fidelity ladder is."""
    return f"{rung}: {_RUNGS[rung]}" if rung in _RUNGS else rung


def state_words(report: Report) -> str:
    """Which state of which domains the answer is about."""
    versions = ", ".join(
        f"{domain} {version.epoch}:{version.sequence}" for domain, version in sorted(report.versions.items())
    )
    return f"{report.kind.value} state" + (f" of {versions}" if versions else "")


def clean(text: str) -> str:
    """One line of `text` without control and direction characters and surrogates: fit for screen and page."""
    return "".join(
        "\N{REPLACEMENT CHARACTER}" if unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Cn") else letter
        for letter in re.sub(r"[\t\n\r]+", " ", text)
    )


def cleaned(value: Any) -> Any:
    """A report with all its text made safe to show: some of it is what other operators wrote."""
    if type(value) is str:
        return clean(value)
    if isinstance(value, tuple):
        return tuple(cleaned(item) for item in value)
    if isinstance(value, Mapping):
        return {cleaned(key): cleaned(item) for key, item in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{field.name: cleaned(getattr(value, field.name)) for field in fields(value)})
    return value


def change_lines(scenario: Scenario) -> list[str]:
    """What is changed, one line each, in the order in which it is applied."""
    return [_change_words(change) for change in scenario.changes]


def sweep_words(scenario: Scenario) -> str:
    """What a sweep varies; empty where there is none."""
    from domain_twin.model.scenario import FailureSweep, GridSweep, MonteCarloSweep

    match scenario.sweep:
        case None:
            return ""
        case FailureSweep(of=of, elements=named, simultaneous=together):
            which = f"each of {', '.join(named)}" if named else f"each of the {of.replace('-', ' ')}"
            return f"{which} fails" if together == 1 else f"{which} fails, {together} at once"
        case GridSweep(demand=factors, options=options):
            words = f"demand times {', '.join(f'{factor:g}' for factor in factors)}"
            for option in options:
                words += f"; with and without: {', '.join(_change_words(change) for change in option)}"
            return words
        case MonteCarloSweep(draws=draws, link_failure=failure, demand_sigma=sigma):
            words = f"{draws} random draws"
            words += f"; each link is down with probability {failure:g}" if failure else ""
            return words + (f"; demand spreads by {sigma:g} (logarithm)" if sigma else "")


def _change_words(change: Any) -> str:
    element = getattr(change, "element", "")
    match change.kind:
        case "element-down":
            return f"{element} fails"
        case "element-up":
            return f"{element} comes back"
        case "capacity":
            return f"{element} gets {_by(change.factor, change.mbps)}"
        case "metric":
            return f"{element} gets metric {change.value}"
        case "buffer":
            return f"{element} gets a queue of {change.packets} packets"
        case "scheduler":
            return f"{element} serves its classes by {change.discipline}"
        case "demand":
            whom = f"{change.source} to {change.target}" if change.source or change.target else "all demand"
            of_class = f" of class {change.traffic_class}" if change.traffic_class else ""
            return f"{whom}{of_class}: {_by(change.factor, change.mbps)}"
        case "cell-load":
            return f"the load of {element} times {change.factor:g}"
        case "workers":
            how = f"{change.count} workers" if change.count is not None else f"{change.delta or 0:+d} workers"
            return f"{element} gets {how}"
        case "service":
            ends = f"{change.source} to {change.target}"
            return f"new: {change.name}, {ends}, {change.mbps:g} Mbit/s {change.arrivals}"
        case "config":
            what = "deleted" if change.delete else f"set to {change.value}"
            return f"{change.device}: {change.path} {what}"
    return str(change.kind)


def _by(factor: float | None, rate: float | None) -> str:
    return f"times {factor:g}" if factor is not None else f"{rate:g} Mbit/s"


def document(report: Report) -> Mapping[str, Any]:
    """A report in JSON's types: its fields, `partial`, and the scenario without what it leaves open."""
    found = {field.name: plain(getattr(report, field.name), field.name) for field in fields(report)}
    found["scenario"] = report.scenario.model_dump(mode="json", exclude_none=True)
    return {"partial": report.partial, **found}
