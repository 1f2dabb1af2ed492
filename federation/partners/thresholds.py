"""Thresholds of a test specification (TMF653): read, checked and applied to what a run found. Pure.

A comparator says when a threshold is crossed, as the document has it: `>` at an upper target is crossed by
larger values. The other reading (when a value conforms) is refused rather than guessed. What a partner sees
is what is judged: values are rounded first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from domain_twin.errors import ContractError
from federation.partners.record import Body

__all__ = ["ACCURACY", "SEVERITIES", "Definition", "Rule", "definitions", "shown"]

ACCURACY = 6
"""Significant digits of every value that is shown and judged."""
SEVERITIES = ("critical", "major", "minor", "warning")
_MOST_DEFINITIONS = 50
_MOST_RULES = 20
_UPPER = {">": False, "gt": False, "greaterthan": False, ">=": True, "gte": True, "greaterthanorequal": True}
_LOWER = {"<": False, "lt": False, "lessthan": False, "<=": True, "lte": True, "lessthanorequal": True}
_UNITS = {
    "delay": "ms", "delayP90": "ms", "delayP95": "ms", "delayP99": "ms", "delayVariation": "ms",
    "delayIncrease": "ms", "loss": "1", "throughput": "Mbit/s", "reachable": "1",
    "linkUtilisation": "1", "worstDelay": "ms", "worstLoss": "1", "unreachableFlows": "1",
    "worstLinkUtilisation": "1",
}  # fmt: skip
_KEPT = (
    "name", "description", "thresholdRuleSeverity", "conformanceTargetUpper", "conformanceComparatorUpper",
    "conformanceTargetLower", "conformanceComparatorLower", "conformanceTargetExact",
    "conformanceComparatorExact",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Rule:
    """One threshold. `inclusive` bounds are crossed by the target itself; `same`: exactly this, or not it."""

    body: Body
    severity: str
    upper: float | None = None
    upper_inclusive: bool = False
    lower: float | None = None
    lower_inclusive: bool = False
    exact: float | None = None
    same: bool = True

    def crossed(self, value: float) -> str:
        """Which way the threshold is crossed: `up`, `down` or `off`; empty where it is not."""
        if self.upper is not None and (value > self.upper or (self.upper_inclusive and value == self.upper)):
            return "up"
        if self.lower is not None and (value < self.lower or (self.lower_inclusive and value == self.lower)):
            return "down"
        if self.exact is not None and (value == self.exact) is not self.same:
            return "off"
        return ""

    def violation(self, found: str) -> Body:
        """What TMF653 calls a MeasureThresholdRuleViolation; `found` says it in words."""
        told = {key: self.body[key] for key in _KEPT if key in self.body}
        told |= {"thresholdRuleSeverity": self.severity, "description": found}
        consequences = [
            {
                "name": item.get("name", ""),
                "description": item.get("description", ""),
                "appliedAction": item.get("prescribeAction", ""),
                "repeatAction": bool(item.get("repeatAction", False)),
            }
            for item in self.body.get("consequence", ())
        ]
        return told | ({"appliedConsequence": consequences} if consequences else {})


@dataclass(frozen=True, slots=True)
class Definition:
    """One metric that a run measures, and its thresholds."""

    metric: str
    unit: str
    rules: tuple[Rule, ...] = ()

    @property
    def of_sweep(self) -> bool:
        """Whether it is about all variants of a sweep together."""
        return self.metric.startswith("worst") or self.metric == "unreachableFlows"


_WITHOUT = ("delay", "delayP99", "loss", "throughput", "reachable")


def definitions(found: Any) -> tuple[Definition, ...]:
    """The measures of a specification; where it defines none, those that everybody asks for, unjudged.

    Raises ContractError that names the attribute.
    """
    where = "testMeasureDefinition"
    if not found:
        return tuple(Definition(metric, _UNITS[metric]) for metric in _WITHOUT)
    items = _objects(found, where, _MOST_DEFINITIONS)
    read = [_definition(item, f"{where}[{place}]") for place, item in enumerate(items)]
    names = [item.metric for item in read]
    for place, name in enumerate(names):
        if name in names[:place]:
            raise ContractError(
                f"{where}[{place}].metricName: {name} is defined twice; put both rules under one definition"
            )
    return tuple(read)


def shown(value: float) -> float | None:
    """A value as a partner sees it; None where it cannot be said."""
    return float(f"{value:.{ACCURACY}g}") if math.isfinite(value) else None


def _definition(item: Body, where: str) -> Definition:
    metric = item.get("metricName")
    if metric not in _UNITS:
        raise ContractError(
            f"{where}.metricName: {_spelled(metric)} is no metric of a run; there are {', '.join(_UNITS)}"
        )
    unit = item.get("unitOfMeasure") or _UNITS[metric]
    if unit != _UNITS[metric]:
        raise ContractError(
            f"{where}.unitOfMeasure: {_spelled(unit)}; {metric} is measured in {_UNITS[metric]}: leave the"
            " unit out, or convert the targets"
        )
    rules = _objects(item.get("thresholdRule") or (), f"{where}.thresholdRule", _MOST_RULES)
    return Definition(
        metric,
        _UNITS[metric],
        tuple(_rule(rule, f"{where}.thresholdRule[{place}]") for place, rule in enumerate(rules)),
    )


def _rule(body: Body, where: str) -> Rule:
    upper, lower = (_target(body, f"conformanceTarget{side}", where) for side in ("Upper", "Lower"))
    exact = _target(body, "conformanceTargetExact", where)
    if upper is None and lower is None and exact is None:
        raise ContractError(
            f"{where}: has no target; give conformanceTargetUpper, conformanceTargetLower or"
            " conformanceTargetExact"
        )
    if upper is not None and lower is not None and not lower < upper:
        raise ContractError(
            f"{where}.conformanceTargetLower: {lower:g} is not below conformanceTargetUpper {upper:g}"
        )
    same = body.get("conformanceComparatorExact", True)
    if not isinstance(same, bool):
        raise ContractError(f"{where}.conformanceComparatorExact: {_spelled(same)} is neither true nor false")
    severity = str(body.get("thresholdRuleSeverity") or "major").lower()
    if severity not in SEVERITIES:
        raise ContractError(
            f"{where}.thresholdRuleSeverity: {_spelled(severity)}; there are {', '.join(SEVERITIES)}"
        )
    if body.get("numberOfAllowedCrossing") or body.get("tolerancePeriod"):
        raise ContractError(
            f"{where}.numberOfAllowedCrossing: a run predicts one state and has no time in which crossings"
            " could be tolerated; leave it and tolerancePeriod out"
        )
    _objects(body.get("consequence") or (), f"{where}.consequence", _MOST_RULES)
    return Rule(
        body,
        severity,
        upper,
        _inclusive(body, "conformanceComparatorUpper", _UPPER, where),
        lower,
        _inclusive(body, "conformanceComparatorLower", _LOWER, where),
        exact,
        same,
    )


def _target(body: Body, name: str, where: str) -> float | None:
    found = body.get(name)
    if found is None:
        return None
    try:
        if isinstance(found, bool):
            raise ValueError
        value = float(found)
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise ContractError(f"{where}.{name}: {_spelled(found)} is no number; all metrics of a run are")
    return value


def _inclusive(body: Body, name: str, words: Mapping[str, bool], where: str) -> bool:
    found = body.get(name)
    if found is None:
        return False
    word = str(found).strip().lower()
    if word not in words:
        accepted = " or ".join(word for word in words if not word.isalpha())
        raise ContractError(
            f"{where}.{name}: {_spelled(found)}; it says when the threshold is crossed, by {accepted}"
        )
    return words[word]


def _objects(found: Any, where: str, most: int) -> Sequence[Body]:
    if not isinstance(found, list | tuple) or not all(isinstance(item, Mapping) for item in found):
        raise ContractError(f"{where}: must be a list of objects")
    if len(found) > most:
        raise ContractError(f"{where}: {len(found)} entries; {most} at most")
    return found


def _spelled(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
