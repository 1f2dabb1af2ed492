"""What a broker shows of itself: domains, asks, services, storage. Owns names; counts nothing itself.

Labels are the names of members and services in the configuration and words of fixed lists: whoever dials
cannot add a series.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from domain_twin.config import BrokerConfig
from domain_twin.learning.run import RunState
from domain_twin.model import Severity
from domain_twin.operations.endpoint import Face
from domain_twin.operations.health import Check, certificate_check
from domain_twin.operations.instruments import Instrument, Kind, Sheet
from domain_twin.trust.expiry import CertificateEnd

if TYPE_CHECKING:
    from domain_twin.trust.guard import Guard
    from federation.assurance import Assurance
    from federation.attach import FederationService
    from federation.events import EventLog, FindingBoard
    from federation.learning.desk import LearningDesk
    from federation.partners.reception import Reception
    from federation.registry import Registry
    from federation.storage import Storage

__all__ = ["INSTRUMENTS", "BrokerMetrics"]

_COUNTER, _GAUGE = Kind.COUNTER, Kind.GAUGE
_DOMAIN = ("domain",)
INSTRUMENTS = (
    Instrument("fedtwin_broker_domain_connected", _GAUGE, "1 while the domain's agent is attached", _DOMAIN),
    Instrument(
        "fedtwin_broker_domain_fresh", _GAUGE, "1 while what the domain's view shows is current", _DOMAIN
    ),
    Instrument(
        "fedtwin_broker_domain_view_age_seconds",
        _GAUGE,
        "Seconds since the domain's view last changed; absent without a view",
        _DOMAIN,
    ),
    Instrument("fedtwin_broker_domain_points", _GAUGE, "Points in the domain's view", _DOMAIN),
    Instrument("fedtwin_broker_domain_segments", _GAUGE, "Segments in the domain's view", _DOMAIN),
    Instrument("fedtwin_broker_sessions_open", _GAUGE, "Sessions of agents"),
    Instrument("fedtwin_broker_sessions_total", _COUNTER, "Sessions that were welcomed"),
    Instrument(
        "fedtwin_broker_attachments_refused_total",
        _COUNTER,
        "Agents whose Hello was refused, by class of error",
        ("reason",),
    ),
    Instrument(
        "fedtwin_broker_calls_refused_total",
        _COUNTER,
        "Calls refused before they were handled, by class of error",
        ("reason",),
    ),
    Instrument("fedtwin_broker_asks_in_flight", _GAUGE, "Asks without an answer yet", _DOMAIN),
    Instrument("fedtwin_broker_asks_total", _COUNTER, "Asks by outcome", ("domain", "action", "outcome")),
    Instrument(
        "fedtwin_broker_ask_duration_seconds",
        Kind.HISTOGRAM,
        "Seconds from an ask to its answer or refusal",
        _DOMAIN,
    ),
    Instrument(
        "fedtwin_broker_late_messages_total", _COUNTER, "Messages that no question waited for", _DOMAIN
    ),
    Instrument("fedtwin_broker_composed_points", _GAUGE, "Points of the composed graph"),
    Instrument(
        "fedtwin_broker_composed_version", _GAUGE, "Changes of the composed graph since the broker began"
    ),
    Instrument("fedtwin_broker_services", _GAUGE, "Services by whether they get what was promised", ("met",)),
    Instrument("fedtwin_broker_findings", _GAUGE, "Findings that stand", ("severity",)),
    Instrument("fedtwin_broker_watchers", _GAUGE, "Who watches events"),
    Instrument(
        "fedtwin_broker_storage_writable", _GAUGE, "1 where the database is written, 0 where it cannot be"
    ),
    Instrument("fedtwin_broker_storage_waiting_rows", _GAUGE, "Events and service statuses not yet written"),
    Instrument(
        "fedtwin_broker_storage_dropped_rows_total",
        _COUNTER,
        "Events and service statuses given up unwritten",
    ),
    Instrument("fedtwin_broker_events_waiting", _GAUGE, "Events that wait for partners' callbacks"),
    Instrument("fedtwin_broker_events_delivered_total", _COUNTER, "Events that partners' callbacks took"),
    Instrument("fedtwin_broker_event_tries_failed_total", _COUNTER, "Tries to deliver an event that failed"),
    Instrument("fedtwin_broker_events_dead", _GAUGE, "Dead letters: events given up, and kept for partners"),
    Instrument(
        "fedtwin_broker_events_forgotten_total", _COUNTER, "Dead letters deleted, as there were too many"
    ),
    Instrument("fedtwin_broker_trainings", _GAUGE, "Trainings that are kept, by state", ("state",)),
    Instrument("fedtwin_broker_training_rounds_total", _COUNTER, "Rounds of trainings"),
    Instrument(
        "fedtwin_broker_training_messages_total",
        _COUNTER,
        "Messages of ended trainings by outcome",
        ("domain", "outcome"),
    ),
    Instrument(
        "fedtwin_broker_models",
        _GAUGE,
        "Versions of models that are kept, by whether they are used",
        ("use",),
    ),
    Instrument(
        "fedtwin_broker_certificate_expiry_seconds", _GAUGE, "Seconds until the first own certificate ends"
    ),
)


class BrokerMetrics:
    """Reads a running broker."""

    def __init__(
        self,
        config: BrokerConfig,
        *,
        registry: Registry,
        federation: FederationService,
        assurance: Assurance,
        findings: FindingBoard,
        events: EventLog,
        storage: Storage,
        guard: Guard,
        partners: Reception | None = None,
        learning: LearningDesk | None = None,
    ) -> None:
        self._margin_s = config.metrics.certificate_margin_s
        self._registry = registry
        self._federation = federation
        self._assurance = assurance
        self._findings = findings
        self._events = events
        self._storage = storage
        self._guard = guard
        self._partners = partners
        self._learning = learning
        self._end = CertificateEnd(config.identity.certificate, config.identity.signing_certificate)

    @property
    def face(self) -> Face:
        """What the endpoint serves."""
        return Face("broker", INSTRUMENTS, self.fill, self.checks)

    def checks(self) -> Iterator[Check]:
        """What a broker whose members are all here needs."""
        statuses = self._registry.statuses()
        away = [f"{status.domain}: {status.problem}" for status in statuses if status.problem]
        detail = f"all {len(statuses)} current" if not away else "; ".join(away[:5])
        yield Check("domains", not away, detail)
        problem = self._storage.problem
        yield Check("storage", not problem, problem or "written")
        if self._partners and self._partners.wanted:
            problem = self._partners.problem
            yield Check("partners", not problem, problem or "written")
        yield certificate_check(self._end.not_after(), self._margin_s)

    def fill(self, sheet: Sheet) -> None:
        """Show everything as it is now."""
        now = time.time_ns()
        self._domains(sheet, now)
        self._asks(sheet)
        self._services(sheet)
        self._events_out(sheet)
        if self._learning:
            self._trainings(sheet, self._learning)
        if end := self._end.not_after():
            sheet.put("fedtwin_broker_certificate_expiry_seconds", end.timestamp() - now / 1e9)

    def _domains(self, sheet: Sheet, now: int) -> None:
        for status in self._registry.statuses():
            domain = status.domain
            sheet.put("fedtwin_broker_domain_connected", status.connected, domain)
            sheet.put("fedtwin_broker_domain_fresh", status.connected and not status.problem, domain)
            sheet.put("fedtwin_broker_domain_points", status.points, domain)
            sheet.put("fedtwin_broker_domain_segments", status.segments, domain)
            if status.received_at:
                age_s = (now - status.received_at) / 1e9
                sheet.put("fedtwin_broker_domain_view_age_seconds", age_s, domain)
            session = self._registry.session(domain)
            sheet.put("fedtwin_broker_asks_in_flight", session.in_flight if session else 0, domain)
            if session:
                sheet.put("fedtwin_broker_late_messages_total", session.late_messages, domain)
        sheet.put("fedtwin_broker_composed_points", len(self._registry.graph.points))
        sheet.put("fedtwin_broker_composed_version", self._registry.changes)

    def _asks(self, sheet: Sheet) -> None:
        federation = self._federation
        sheet.put("fedtwin_broker_sessions_open", len(federation.sessions))
        sheet.put("fedtwin_broker_sessions_total", federation.welcomed)
        for reason, number in federation.refused.items():
            sheet.put("fedtwin_broker_attachments_refused_total", number, reason)
        for reason, number in self._guard.refused.items():
            sheet.put("fedtwin_broker_calls_refused_total", number, reason)
        for (domain, action, outcome), number in federation.asks.asks.items():
            sheet.put("fedtwin_broker_asks_total", number, domain, action, outcome)
        for domain, latency in federation.asks.latency.items():
            sheet.put("fedtwin_broker_ask_duration_seconds", latency, domain)

    def _events_out(self, sheet: Sheet) -> None:
        deliveries = self._partners.deliveries if self._partners else None
        counts = deliveries.counts if deliveries else None
        sheet.put("fedtwin_broker_events_waiting", deliveries.waiting if deliveries else 0)
        sheet.put("fedtwin_broker_events_dead", deliveries.dead if deliveries else 0)
        sheet.put("fedtwin_broker_events_delivered_total", counts.delivered if counts else 0)
        sheet.put("fedtwin_broker_event_tries_failed_total", counts.failed if counts else 0)
        sheet.put("fedtwin_broker_events_forgotten_total", counts.forgotten if counts else 0)

    def _trainings(self, sheet: Sheet, learning: LearningDesk) -> None:
        states = [run.state for run in learning.runs()]
        for state in RunState:
            sheet.put("fedtwin_broker_trainings", states.count(state), state.value)
        sheet.put("fedtwin_broker_training_rounds_total", learning.rounds)
        for (domain, outcome), number in learning.messages.items():
            sheet.put("fedtwin_broker_training_messages_total", number, domain, outcome)
        used = [kept.in_service for kept in learning.registry.store.models()]
        sheet.put("fedtwin_broker_models", used.count(True), "in-service")
        sheet.put("fedtwin_broker_models", used.count(False), "kept")

    def _services(self, sheet: Sheet) -> None:
        words = {True: "yes", False: "no", None: "unknown"}
        met = [status.met for status in self._assurance.statuses()]
        for value, word in words.items():
            sheet.put("fedtwin_broker_services", sum(item is value for item in met), word)
        findings = self._findings.standing()
        for severity in Severity:
            count = sum(finding.severity is severity for finding in findings)
            sheet.put("fedtwin_broker_findings", count, severity.value)
        sheet.put("fedtwin_broker_watchers", self._events.watchers)
        sheet.put("fedtwin_broker_storage_writable", not self._storage.problem)
        sheet.put("fedtwin_broker_storage_waiting_rows", self._storage.waiting)
        sheet.put("fedtwin_broker_storage_dropped_rows_total", self._storage.dropped)
