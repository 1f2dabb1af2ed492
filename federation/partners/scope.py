"""What a twin is to span, as a partner orders it: domains, end points, freshness, end. Pure.

Read from characteristics; everything that is wrong with them is told at once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from domain_twin.model import Nanoseconds
from federation.partners.dates import moment, stamp

__all__ = ["DEFAULTS", "LIMITS", "Scope", "read_scope", "scope_of", "value_of"]

_SECOND = 1_000_000_000
_LONGEST_NAME = 255


@dataclass(frozen=True, slots=True)
class _Limits:
    end_points: int = 500
    least_freshness_s: float = 1.0
    most_freshness_s: float = 3600.0
    least_life_s: float = 60.0
    most_life_s: float = 366 * 86_400.0


@dataclass(frozen=True, slots=True)
class _Defaults:
    freshness_s: float = 5.0
    life_s: float = 30 * 86_400.0


LIMITS: Final = _Limits()
DEFAULTS: Final = _Defaults()


@dataclass(frozen=True, slots=True)
class Scope:
    """What a twin spans. `end_points` None: all that the partner may see."""

    domains: tuple[str, ...]
    end_points: tuple[str, ...] | None
    freshness_s: float
    until: Nanoseconds

    def points_of(self, domain: str) -> tuple[str, ...]:
        """The end points of one domain that were named."""
        return tuple(name for name in self.end_points or () if name.startswith(f"{domain}/"))

    def borders_only(self, domain: str) -> bool:
        """Whether the domain only joins the parts of others."""
        return self.end_points is not None and not self.points_of(domain)

    def characteristics(self) -> list[dict[str, Any]]:
        """As they are shown on the twin."""
        found: list[dict[str, Any]] = [
            {"name": "domains", "valueType": "array", "value": list(self.domains)},
            {"name": "freshness", "valueType": "number", "value": self.freshness_s},
            {"name": "until", "valueType": "dateTime", "value": stamp(self.until)},
        ]
        if self.end_points is not None:
            found.insert(1, {"name": "endPoints", "valueType": "array", "value": list(self.end_points)})
        return found


def value_of(characteristics: Any, name: str) -> Any:
    """The value of the characteristic of that name; None where there is none."""
    for item in characteristics or ():
        if item.get("name") == name:
            return item.get("value")
    return None


def scope_of(characteristics: Any) -> Scope:
    """The scope that a twin shows by its characteristics."""
    points = value_of(characteristics, "endPoints")
    return Scope(
        tuple(value_of(characteristics, "domains")),
        None if points is None else tuple(points),
        float(value_of(characteristics, "freshness")),
        moment(value_of(characteristics, "until")),
    )


def read_scope(
    characteristics: Any,
    *,
    members: Iterable[str],
    now: Nanoseconds,
    before: Scope | None = None,
) -> tuple[Scope, list[str]]:
    """What characteristics ask for, over what there was `before`, and everything that is wrong with them.

    With problems the scope means nothing.
    """
    known = sorted(members)
    start = before or Scope(tuple(known), None, DEFAULTS.freshness_s, _after(now, DEFAULTS.life_s))
    reader = _Reader(known, now)
    reader.scope = start
    named: set[str] = set()
    if not isinstance(characteristics or [], list | tuple):
        return start, ["serviceCharacteristic: must be a list of characteristics"]
    for place, item in enumerate(characteristics or ()):
        where = f"serviceCharacteristic[{place}]"
        name = item.get("name") if isinstance(item, Mapping) else None
        read = reader.readers.get(name) if isinstance(name, str) else None
        if read is None:
            reader.problems.append(
                f"{where}: {str(name)[:80]!r} is nothing that a twin has; there are"
                f" {', '.join(reader.readers)}"
            )
        elif name in named or (name in _ENDS and named & _ENDS):
            reader.problems.append(f"{where}: {name} is given twice; keep one")
        else:
            named.add(str(name))
            read(str(name), _plain(item.get("value")))
    if not reader.problems:
        reader.agree(by_name="endPoints" in named)
    return reader.scope, reader.problems


_ENDS = frozenset({"validFor", "until"})


class _Reader:
    """Takes characteristics one by one."""

    def __init__(self, members: Sequence[str], now: Nanoseconds) -> None:
        self.scope: Scope
        self.problems: list[str] = []
        self.readers: dict[str, Callable[[str, Any], None]] = {
            "domains": self._domains,
            "endPoints": self._end_points,
            "freshness": self._freshness,
            "validFor": self._valid_for,
            "until": self._until,
        }
        self._members = members
        self._now = now

    def agree(self, *, by_name: bool) -> None:
        """See that the end points lie in the domains."""
        named = self.scope.end_points
        if named is None:
            return
        inside = tuple(name for name in named if name.partition("/")[0] in self.scope.domains)
        if by_name and inside != named:
            outside = next(name for name in named if name not in inside)
            self.problems.append(
                f"endPoints: {outside} lies in none of the twin's domains ({', '.join(self.scope.domains)})"
            )
        # A domain that is taken out of a twin takes its end points with it.
        self.scope = replace(self.scope, end_points=inside)

    def _domains(self, name: str, value: Any) -> None:
        listed = self._names(name, value, most=len(self._members))
        for domain in listed:
            if domain not in self._members:
                there = ", ".join(self._members)
                self.problems.append(f"{name}: no domain {domain!r} takes part; there are {there}")
        self.scope = replace(self.scope, domains=tuple(sorted(listed)))

    def _end_points(self, name: str, value: Any) -> None:
        listed = self._names(name, value, most=LIMITS.end_points)
        for point in listed:
            domain, slash, rest = point.partition("/")
            if not (domain and slash and rest):
                self.problems.append(f"{name}: {point!r} is no end point; they are called domain/name")
        self.scope = replace(self.scope, end_points=tuple(sorted(listed)))

    def _names(self, name: str, value: Any, *, most: int) -> list[str]:
        listed = value.split(",") if isinstance(value, str) else value
        if not isinstance(listed, list | tuple) or not listed:
            self.problems.append(f"{name}: must be a list with at least one name")
            return []
        if len(listed) > max(most, 1):
            self.problems.append(f"{name}: {len(listed)} are named, and {most} are the most")
            return []
        found = []
        for item in listed:
            text = item.strip() if isinstance(item, str) else ""
            if not text or len(text) > _LONGEST_NAME or not text.isprintable():
                self.problems.append(f"{name}: {str(item)[:40]!r} is no name")
            elif text in found:
                self.problems.append(f"{name}: {text} is named twice")
            else:
                found.append(text)
        return found

    def _freshness(self, name: str, value: Any) -> None:
        number = self._number(name, value, LIMITS.least_freshness_s, LIMITS.most_freshness_s)
        self.scope = replace(self.scope, freshness_s=number)

    def _valid_for(self, name: str, value: Any) -> None:
        number = self._number(name, value, LIMITS.least_life_s, LIMITS.most_life_s)
        self.scope = replace(self.scope, until=_after(self._now, number))

    def _until(self, name: str, value: Any) -> None:
        try:
            until = moment(value)
        except ValueError as error:
            self.problems.append(f"{name}: {str(value)[:40]!r} {error}; write it as 2027-01-31T12:00:00Z")
            return
        life_s = (until - self._now) / _SECOND
        if not LIMITS.least_life_s <= life_s <= LIMITS.most_life_s:
            self.problems.append(
                f"{name}: must lie between {LIMITS.least_life_s:g} s and {LIMITS.most_life_s / 86_400:g} days"
                " ahead"
            )
            return
        self.scope = replace(self.scope, until=until)

    def _number(self, name: str, value: Any, least: float, most: float) -> float:
        if isinstance(value, str):  # TMF systems often write numbers as text
            try:
                value = float(value)
            except ValueError:
                value = None
        wrong = isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value)
        if wrong or not least <= value <= most:
            self.problems.append(f"{name}: must be seconds from {least:g} to {most:g}")
            return least
        return float(value)


def _after(now: Nanoseconds, seconds: float) -> Nanoseconds:
    """A time to the millisecond, as it is written."""
    return moment(stamp(now + int(seconds * _SECOND)))


def _plain(value: Any) -> Any:
    """The value itself where it is wrapped, as later versions of TMF write it: {"value": ...}."""
    return value["value"] if isinstance(value, Mapping) and "value" in value else value
