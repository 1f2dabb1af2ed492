"""The life cycle of alarms (RFC 8632 3.5, 3.6): raise, change, clear, what operators say. Does no I/O.

Sources are independent: each reports all that is wrong now as far as it can see, and what it no longer
reports is cleared. A source that is lost clears nothing: its alarms are marked stale.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from domain_twin.errors import NotFound
from domain_twin.model import Alarm, AlarmKey, Condition, Nanoseconds, OperatorState, StatusChange

__all__ = ["KEPT_ALARMS", "KEPT_CHANGES", "AlarmBook"]

KEPT_CHANGES = 32
"""Status changes kept for each alarm."""
KEPT_ALARMS = 10_000
"""Alarms kept in all; beyond that the cleared ones that changed longest ago go."""


class AlarmBook:
    """All alarms of one twin. Each method returns the alarms that it changed."""

    def __init__(self, alarms: Iterable[Alarm] = (), *, capacity: int = KEPT_ALARMS) -> None:
        """`alarms` are those of an earlier run: each is stale until its source reports again."""
        self._alarms: dict[AlarmKey, Alarm] = {}
        self._standing: dict[str, dict[AlarmKey, Condition]] = {}
        self._capacity = capacity
        for alarm in alarms:
            self._alarms[alarm.key] = alarm
            if not alarm.is_cleared:
                self._alarms[alarm.key] = replace(alarm, stale=True)
                self._standing.setdefault(alarm.source, {})[alarm.key] = Condition(
                    alarm.key, alarm.severity, alarm.text, alarm.element, alarm.raised_at, alarm.remedy
                )

    def __len__(self) -> int:
        return len(self._alarms)

    def report(self, source: str, conditions: Iterable[Condition], *, now: Nanoseconds) -> list[Alarm]:
        """Take over all that `source` says is wrong now; what it no longer says is cleared."""
        before = self._standing.get(source, {})
        current = {condition.key: condition for condition in conditions}
        changed = [
            alarm
            for condition in current.values()
            if (alarm := self._raise(source, condition, before.get(condition.key), now))
        ]
        self._standing[source] = current
        changed += [alarm for key in before.keys() - current.keys() if (alarm := self._clear(key, now))]
        self._make_room()
        return changed

    def set_stale(self, source: str, stale: bool) -> list[Alarm]:
        """Mark the alarms of a source that does not answer, or answers again."""
        changed = []
        for key in self._standing.get(source, {}):
            alarm = self._alarms[key]
            if alarm.stale != stale:
                self._alarms[key] = replace(alarm, stale=stale)
                changed.append(self._alarms[key])
        return changed

    def set_operator_state(
        self, identity: str, state: OperatorState, *, operator: str, note: str, now: Nanoseconds
    ) -> Alarm:
        """Note what a person says of an alarm. Raises NotFound: no alarm, or several, have that id."""
        alarm = replace(
            self.find(identity), operator_state=state, operator=operator, note=note, changed_at=now
        )
        self._alarms[alarm.key] = alarm
        return alarm

    def find(self, identity: str) -> Alarm:
        """The alarm whose id begins so. Raises NotFound: none does, or several do."""
        found = [alarm for alarm in self._alarms.values() if identity and alarm.id.startswith(identity)]
        if len(found) != 1:
            what = f"{len(found)} alarms have ids that begin" if found else "no alarm has an id that begins"
            raise NotFound(f"{what} with {identity!r}; `fedtwin alarms --all` lists them")
        return found[0]

    def alarms(self) -> list[Alarm]:
        """All alarms: standing before cleared, the most severe first, then the latest."""
        return sorted(
            self._alarms.values(),
            key=lambda alarm: (alarm.is_cleared, -alarm.severity.rank, -alarm.raised_at, alarm.key),
        )

    def _raise(
        self, source: str, condition: Condition, before: Condition | None, now: Nanoseconds
    ) -> Alarm | None:
        alarm = self._alarms.get(condition.key)
        at = condition.raised_at or now
        step = StatusChange(at, condition.severity, condition.text)
        if alarm is None:
            alarm = Alarm(
                key=condition.key,
                source=source,
                severity=condition.severity,
                text=condition.text,
                is_cleared=False,
                created_at=at,
                raised_at=at,
                changed_at=at,
                element=condition.element,
                remedy=condition.remedy,
                changes=(step,),
            )
        elif alarm.is_cleared:
            alarm = replace(
                alarm,
                severity=condition.severity,
                text=condition.text,
                is_cleared=False,
                raised_at=at,
                changed_at=at,
                cleared_at=0,
                element=condition.element,
                remedy=condition.remedy,
                occurrences=alarm.occurrences + 1,
                stale=False,
                changes=(*alarm.changes, step)[-KEPT_CHANGES:],
                operator_state=_reopened(alarm.operator_state),
            )
        elif before == condition and not alarm.stale:
            return None
        else:
            news = (alarm.severity, alarm.text) != (condition.severity, condition.text)
            same = replace(
                alarm,
                severity=condition.severity,
                text=condition.text,
                element=condition.element,
                remedy=condition.remedy,
                stale=False,
            )
            if same == alarm:
                return None
            alarm = same
            if news:
                step = replace(step, at=now)
                alarm = replace(alarm, changed_at=now, changes=(*alarm.changes, step)[-KEPT_CHANGES:])
        self._alarms[alarm.key] = alarm
        return alarm

    def _clear(self, key: AlarmKey, now: Nanoseconds) -> Alarm | None:
        alarm = self._alarms.get(key)
        if alarm is None or alarm.is_cleared:
            return None
        self._alarms[key] = replace(
            alarm,
            is_cleared=True,
            cleared_at=now,
            changed_at=now,
            stale=False,
            changes=(*alarm.changes, StatusChange(now, None, alarm.text))[-KEPT_CHANGES:],
        )
        return self._alarms[key]

    def _make_room(self) -> None:
        excess = len(self._alarms) - self._capacity
        if excess > 0:
            cleared = sorted((a for a in self._alarms.values() if a.is_cleared), key=lambda a: a.changed_at)
            for alarm in cleared[:excess]:
                del self._alarms[alarm.key]


def _reopened(state: OperatorState) -> OperatorState:
    """An alarm that somebody had done with and that is back needs a look; a shelved one stays away."""
    return state if state is OperatorState.SHELVED else OperatorState.NONE
