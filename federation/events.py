"""What the broker tells those who watch: events, and findings as they come and go. Owns what is kept of them.

Ids, ring and bounded queues are those of `federation.wire.event_log`, which agents use too. Events of new
views come many times a second and repeat what the views hold: they are sent to watchers and not stored.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime

from domain_twin.model import Event, EventKind, Finding, Nanoseconds
from federation.findings import FindingLedger, Turn, identity
from federation.storage import Restored, Storage
from federation.wire.event_log import EventLog, Subscription

__all__ = ["EventLog", "FindingBoard", "Subscription", "event_log"]


def event_log(storage: Storage, restored: Restored) -> EventLog:
    """A log that goes on after the last stored event, and stores what is worth it.

    Its first event after a restart says since when nothing was recorded.
    """

    def store(event: Event) -> None:
        if event.kind is not EventKind.VIEW:
            storage.add_event(event)

    log = EventLog(last_id=restored.last_event_id, on_event=store)
    if restored.last_at:
        since = datetime.fromtimestamp(restored.last_at / 1e9, UTC).isoformat(timespec="milliseconds")
        log.publish(EventKind.GAP, f"the broker started; since {since} it recorded nothing")
    return log


class FindingBoard:
    """The findings that stand. Each source replaces what it said before; changes become events.

    A finding that stood before a restart and is found again keeps the time since when it stands.
    """

    def __init__(
        self,
        events: EventLog,
        storage: Storage,
        restored: Iterable[Finding] = (),
        *,
        clock: Callable[[], Nanoseconds] = time.time_ns,
    ) -> None:
        self._events = events
        self._storage = storage
        self._clock = clock
        self._ledger = FindingLedger()
        self._earlier = {}
        for finding in restored:
            self._earlier[identity(finding)] = finding.since
            storage.clear_finding(finding)

    def report(self, source: str, findings: Iterable[Finding]) -> Turn:
        """Take over all that `source` finds now."""
        known = [replace(item, since=self._since(item)) for item in findings]
        turn = self._ledger.report(source, known, now=self._clock())
        for finding in (*turn.raised, *turn.changed):
            self._storage.save_finding(finding)
        for finding in turn.raised:
            self._tell(finding, finding.message)
        for finding in turn.cleared:
            self._storage.clear_finding(finding)
            self._tell(finding, f"cleared: {finding.message}")
        return turn

    def standing(self, domain: str = "") -> tuple[Finding, ...]:
        """The findings of a domain (empty: all), the most severe first."""
        found = self._ledger.standing()
        return tuple(item for item in found if item.domain == domain) if domain else found

    def _since(self, finding: Finding) -> Nanoseconds:
        return finding.since or self._earlier.pop(identity(finding), 0)

    def _tell(self, finding: Finding, text: str) -> None:
        self._events.publish(EventKind.FINDING, text, domain=finding.domain, finding=finding)
