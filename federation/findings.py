"""Findings over time: raised once, with the time since when, and cleared when gone. Time is an argument."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from domain_twin.model import Finding, Nanoseconds, Severity

__all__ = ["FindingLedger", "Turn", "identity"]

_RANK = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.INFO: 2}


def identity(finding: Finding) -> tuple[str, str, str]:
    """What makes two findings the same one: code, domain and element. Words and severity may change."""
    return finding.code, finding.domain, finding.element


@dataclass(frozen=True, slots=True)
class Turn:
    """What a look at the state of things changed about its findings."""

    raised: tuple[Finding, ...] = ()
    changed: tuple[Finding, ...] = ()
    cleared: tuple[Finding, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.raised or self.changed or self.cleared)


class FindingLedger:
    """The findings that stand. Sources report independently: each replaces only what it said before."""

    def __init__(self) -> None:
        self._standing: dict[str, dict[tuple[str, str, str], Finding]] = {}

    def report(self, source: str, findings: Iterable[Finding], *, now: Nanoseconds) -> Turn:
        """Take over all that `source` finds now; what it no longer finds is cleared. `since` survives."""
        old = self._standing.get(source, {})
        new: dict[tuple[str, str, str], Finding] = {}
        raised: list[Finding] = []
        changed: list[Finding] = []
        for finding in findings:
            key = identity(finding)
            before = old.get(key)
            standing = replace(finding, since=before.since if before else finding.since or now)
            if before is None and key not in new:
                raised.append(standing)
            elif before is not None and before != standing:
                changed.append(standing)
            new[key] = standing
        cleared = tuple(finding for key, finding in old.items() if key not in new)
        self._standing[source] = new
        return Turn(tuple(raised), tuple(changed), cleared)

    def forget(self, source: str) -> Turn:
        """Clear all that a source said, for instance because it left for good."""
        return Turn(cleared=tuple(self._standing.pop(source, {}).values()))

    def standing(self) -> tuple[Finding, ...]:
        """All findings that stand: the most severe first, then the oldest."""
        found = [finding for mapping in self._standing.values() for finding in mapping.values()]
        return tuple(sorted(found, key=lambda f: (_RANK[f.severity], f.since, identity(f))))
