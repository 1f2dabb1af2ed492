"""One twin's alarms, from source to people: life cycle, storage and news. Owns when alarms are written.

What changed is told at once and written by `flush`, off the event loop; a crash in between loses at most the
news since then, and what stands is reported again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable

from domain_twin.alarms.book import AlarmBook
from domain_twin.alarms.store import AlarmStore
from domain_twin.model import (
    Alarm,
    AlarmKey,
    Condition,
    Finding,
    Nanoseconds,
    OperatorState,
    PerceivedSeverity,
    Severity,
)

__all__ = ["AlarmDesk", "condition_of"]

_SEVERITIES = {Severity.ERROR: PerceivedSeverity.MAJOR, Severity.WARNING: PerceivedSeverity.WARNING}


class AlarmDesk:
    """The alarms of a domain's twin, or of the composed one. `tell` hears of every alarm that changed."""

    def __init__(
        self,
        store: AlarmStore,
        earlier: Iterable[Alarm],
        tell: Callable[[Alarm, str], None],
        *,
        clock: Callable[[], Nanoseconds] = time.time_ns,
    ) -> None:
        self._store = store
        self._book = AlarmBook(earlier)
        self._tell = tell
        self._clock = clock
        self._unwritten: dict[str, Alarm] = {}
        self._written = {alarm.id for alarm in self._book.alarms()}

    @property
    def problem(self) -> str:
        """Why alarms are not written, in words; empty when they are."""
        return self._store.problem

    def alarms(self, *, everything: bool = False) -> list[Alarm]:
        """The alarms that stand and nobody closed or shelved; with `everything` also the others."""
        return [alarm for alarm in self._book.alarms() if everything or alarm.active]

    def report(self, source: str, conditions: Iterable[Condition]) -> None:
        """Take over all that a source says is wrong now."""
        for alarm in self._book.report(source, conditions, now=self._clock()):
            word = "cleared" if alarm.is_cleared else alarm.severity.value
            self._note(alarm, f"alarm {word}: {alarm.text}")

    def report_findings(self, source: str, findings: Iterable[Finding]) -> None:
        """The same for findings; mere information is no alarm."""
        self.report(source, [condition_of(item) for item in findings if item.severity in _SEVERITIES])

    def set_stale(self, source: str, stale: bool) -> None:
        """Note that a source does not answer, or answers again."""
        for alarm in self._book.set_stale(source, stale):
            self._note(alarm, f"alarm {'stale' if stale else 'current'}: {alarm.text}")

    def set_operator_state(self, identity: str, state: OperatorState, *, operator: str, note: str) -> Alarm:
        """Note what a person says of an alarm, named by its id or the beginning of it. Raises NotFound."""
        alarm = self._book.set_operator_state(
            identity, state, operator=operator, note=note, now=self._clock()
        )
        said = f": {note}" if note else ""
        self._note(alarm, f"alarm {state.value} by {operator}{said}: {alarm.text}")
        return alarm

    async def flush(self) -> None:
        """Write what changed since the last time; `problem` says why that failed."""
        kept = {alarm.id for alarm in self._book.alarms()}
        gone, unwritten = self._written - kept, self._unwritten
        if not gone and not unwritten:
            return
        self._unwritten = {}
        await asyncio.to_thread(self._store.save, list(unwritten.values()), gone)
        if self._store.problem:
            self._unwritten = unwritten | self._unwritten
        else:
            self._written = (self._written | unwritten.keys()) & kept

    def _note(self, alarm: Alarm, text: str) -> None:
        self._unwritten[alarm.id] = alarm
        self._tell(alarm, text)


def condition_of(finding: Finding) -> Condition:
    """A finding as what is wrong now: its code is the qualifier of `fedtwin-alarms:twin-alarm`."""
    where = finding.element or finding.domain or "twin"
    return Condition(
        AlarmKey(finding.domain, "", where, "fedtwin-alarms:twin-alarm", finding.code),
        _SEVERITIES.get(finding.severity, PerceivedSeverity.INDETERMINATE),
        finding.message,
        element=finding.element,
        raised_at=finding.since,
        remedy=finding.remedy,
    )
