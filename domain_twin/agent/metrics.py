"""What an agent shows of itself: devices, live state, history, session. Owns names; counts nothing itself.

Read at the moment of a scrape from what the agent keeps anyway. Labels are names of the agent's own devices
and words of fixed lists, so that the number of series is that of the configuration.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from domain_twin.agent.semantics import Semantics
from domain_twin.agent.twin import DomainTwin
from domain_twin.config import AgentConfig
from domain_twin.model import Connection, DeviceStatus, Severity
from domain_twin.operations.endpoint import Face
from domain_twin.operations.health import Check, certificate_check
from domain_twin.operations.instruments import Instrument, Kind, Sheet
from domain_twin.trust.expiry import CertificateEnd

__all__ = ["INSTRUMENTS", "AgentMetrics"]

_SHOWN = 5  # devices named in one sentence

_COUNTER, _GAUGE = Kind.COUNTER, Kind.GAUGE
_DEVICE = ("device",)
_SOURCE = ("source",)
INSTRUMENTS = (
    Instrument("fedtwin_agent_devices", _GAUGE, "Devices by how well they are mirrored", ("connection",)),
    Instrument(
        "fedtwin_agent_device_connection",
        _GAUGE,
        "1 for the state that the device's session is in",
        ("device", "connection"),
    ),
    Instrument("fedtwin_agent_device_updates_total", _COUNTER, "Values received", _DEVICE),
    Instrument(
        "fedtwin_agent_device_quarantined_total",
        _COUNTER,
        "Values that break their YANG type, set aside",
        _DEVICE,
    ),
    Instrument("fedtwin_agent_device_reconnects_total", _COUNTER, "Sessions begun after the first", _DEVICE),
    Instrument("fedtwin_agent_device_leaves", _GAUGE, "Leaves held in the live state", _DEVICE),
    Instrument(
        "fedtwin_agent_device_last_received_age_seconds",
        _GAUGE,
        "Seconds since the device was last heard; absent while it never was",
        _DEVICE,
    ),
    Instrument(
        "fedtwin_agent_device_late_total",
        _COUNTER,
        "Values left out, as a newer one was there already",
        _DEVICE,
    ),
    Instrument(
        "fedtwin_agent_device_clock_faults_total", _COUNTER, "Device times that could not be meant", _DEVICE
    ),
    Instrument("fedtwin_agent_intake_offered_total", _COUNTER, "Values offered to the intake", _SOURCE),
    Instrument(
        "fedtwin_agent_intake_conflated_total",
        _COUNTER,
        "Values superseded by newer ones of the same leaf while they waited",
        _SOURCE,
    ),
    Instrument(
        "fedtwin_agent_intake_dropped_total", _COUNTER, "Counters and state left out under overload", _DEVICE
    ),
    Instrument(
        "fedtwin_agent_intake_lost_total",
        _COUNTER,
        "Events, deletes and configuration left out under overload",
        _DEVICE,
    ),
    Instrument("fedtwin_agent_intake_failed_total", _COUNTER, "Batches that could not be taken in", _SOURCE),
    Instrument(
        "fedtwin_agent_intake_resyncs_total", _COUNTER, "Times that a source had to begin anew", _SOURCE
    ),
    Instrument("fedtwin_agent_intake_waiting_bytes", _GAUGE, "Bytes of updates that wait", _SOURCE),
    Instrument("fedtwin_agent_live_version", _GAUGE, "Sequence of the live state within its epoch"),
    Instrument(
        "fedtwin_agent_live_observed_age_seconds", _GAUGE, "Age of the newest value by its device's clock"
    ),
    Instrument("fedtwin_agent_elements", _GAUGE, "Elements of the network model", ("kind",)),
    Instrument("fedtwin_agent_findings", _GAUGE, "Findings that stand", ("severity",)),
    Instrument("fedtwin_agent_watchers", _GAUGE, "Who watches events on the local socket"),
    Instrument("fedtwin_agent_history_written_rows_total", _COUNTER, "Rows of history on disk"),
    Instrument("fedtwin_agent_history_waiting_rows", _GAUGE, "Rows of history not yet on disk"),
    Instrument(
        "fedtwin_agent_history_dropped_rows_total",
        _COUNTER,
        "Changes left out of history, within a recorded gap",
    ),
    Instrument("fedtwin_agent_history_writable", _GAUGE, "1 where history is written, 0 where it cannot be"),
    Instrument(
        "fedtwin_agent_graph_writable", _GAUGE, "1 where the graph follows the twin, 0 where it cannot"
    ),
    Instrument("fedtwin_agent_graph_batches_total", _COUNTER, "Changes written to the graph, in batches"),
    Instrument("fedtwin_agent_graph_waiting_changes", _GAUGE, "Changes of leaves not yet in the graph"),
    Instrument(
        "fedtwin_agent_graph_visible_seconds",
        _GAUGE,
        "From a change's arrival until queries see it, of the last few thousand",
        ("quantile",),
    ),
    Instrument(
        "fedtwin_agent_graph_unmapped_leaves", _GAUGE, "Leaves that no module knows, left out of the graph"
    ),
    Instrument("fedtwin_agent_session_up", _GAUGE, "1 while the broker has this agent attached"),
    Instrument("fedtwin_agent_sessions_total", _COUNTER, "Sessions that the broker welcomed"),
    Instrument(
        "fedtwin_agent_asks_total",
        _COUNTER,
        "Asks of the broker by action and outcome",
        ("action", "outcome"),
    ),
    Instrument("fedtwin_agent_view_deltas_sent_total", _COUNTER, "Steps of views sent to the broker"),
    Instrument("fedtwin_agent_view_octets_sent_total", _COUNTER, "Octets of those steps"),
    Instrument(
        "fedtwin_agent_learning_steps_total",
        _COUNTER,
        "Steps of trainings with others by outcome",
        ("step", "outcome"),
    ),
    Instrument("fedtwin_agent_learning_processes_total", _COUNTER, "Processes that trained or used models"),
    Instrument("fedtwin_agent_detections_total", _COUNTER, "Deviations that detectors in service noticed"),
    Instrument("fedtwin_agent_imputed_leaves_total", _COUNTER, "Leaves that were imputed, never as measured"),
    Instrument("fedtwin_agent_models_in_service", _GAUGE, "Learned models that the domain uses"),
    Instrument(
        "fedtwin_agent_certificate_expiry_seconds", _GAUGE, "Seconds until the first own certificate ends"
    ),
)


class AgentMetrics:
    """Reads a running twin."""

    def __init__(self, config: AgentConfig, twin: DomainTwin) -> None:
        identity = config.identity
        self._twin = twin
        self._margin_s = config.metrics.certificate_margin_s
        self._end = CertificateEnd(identity.certificate, identity.signing_certificate) if identity else None

    @property
    def face(self) -> Face:
        """What the endpoint serves."""
        return Face("agent", INSTRUMENTS, self.fill, self.checks)

    def checks(self) -> Iterator[Check]:
        """What an agent in step with its domain needs."""
        yield _devices(self._twin.device_statuses())
        if self._twin.broker:
            peer, problem = self._twin.session()
            up = self._twin.broker.connected
            yield Check(
                "broker", up, f"attached to {peer}" if up else problem or f"not attached to {peer} yet"
            )
        if history := self._twin.history_status():
            good = not history.problem
            yield Check("history", good, f"{history.waiting} rows wait" if good else history.problem)
        if self._twin.semantics:
            graph = self._twin.semantics.findings()
            yield Check("graph", not graph, graph[0].message if graph else "follows the twin")
        if self._end:
            yield certificate_check(self._end.not_after(), self._margin_s)

    def fill(self, sheet: Sheet) -> None:
        """Show everything as it is now."""
        now = time.time_ns()
        statuses = self._twin.device_statuses()
        for connection in Connection:
            count = sum(status.connection is connection for status in statuses)
            sheet.put("fedtwin_agent_devices", count, connection.value)
        for status in statuses:
            self._device(sheet, status, now)
        self._intake(sheet)
        self._state(sheet, now)
        self._session(sheet, now)
        if learning := self._twin.learning:
            for (step, outcome), number in learning.steps.items():
                sheet.put("fedtwin_agent_learning_steps_total", number, step, outcome)
            started = learning.process.started + learning.serving.started
            sheet.put("fedtwin_agent_learning_processes_total", started)
            used = sum(kept.in_service for kept in learning.models())
            sheet.put("fedtwin_agent_models_in_service", used)
            sheet.put("fedtwin_agent_detections_total", learning.detections)
            sheet.put("fedtwin_agent_imputed_leaves_total", learning.imputed)

    def _device(self, sheet: Sheet, status: DeviceStatus, now: int) -> None:
        name = status.name
        for connection in Connection:
            value = status.connection is connection
            sheet.put("fedtwin_agent_device_connection", value, name, connection.value)
        sheet.put("fedtwin_agent_device_updates_total", status.updates, name)
        sheet.put("fedtwin_agent_device_quarantined_total", status.quarantined, name)
        sheet.put("fedtwin_agent_device_reconnects_total", status.reconnects, name)
        sheet.put("fedtwin_agent_device_leaves", status.leaves, name)
        if status.received_at:
            age_s = (now - status.received_at) / 1e9
            sheet.put("fedtwin_agent_device_last_received_age_seconds", age_s, name)
        freshness = self._twin.pipeline.store.freshness(name)
        sheet.put("fedtwin_agent_device_late_total", freshness.late if freshness else 0, name)
        sheet.put("fedtwin_agent_device_clock_faults_total", freshness.clock_faults if freshness else 0, name)

    def _intake(self, sheet: Sheet) -> None:
        for source, counted in self._twin.intake.counters().items():
            sheet.put("fedtwin_agent_intake_offered_total", counted.offered, source)
            sheet.put("fedtwin_agent_intake_conflated_total", counted.conflated, source)
            for device, number in counted.dropped.items():
                sheet.put("fedtwin_agent_intake_dropped_total", number, device)
            for device, number in counted.lost.items():
                sheet.put("fedtwin_agent_intake_lost_total", number, device)
            sheet.put("fedtwin_agent_intake_failed_total", counted.failed, source)
            sheet.put("fedtwin_agent_intake_resyncs_total", counted.resyncs, source)
            sheet.put("fedtwin_agent_intake_waiting_bytes", counted.waiting_bytes, source)

    def _state(self, sheet: Sheet, now: int) -> None:
        network = self._twin.network()
        version = self._twin.pipeline.store.version
        sheet.put("fedtwin_agent_live_version", version.sequence)
        if version.observed_at:
            sheet.put("fedtwin_agent_live_observed_age_seconds", (now - version.observed_at) / 1e9)
        sheet.put("fedtwin_agent_elements", len(network.nodes), "node")
        sheet.put("fedtwin_agent_elements", len(network.links), "link")
        findings = self._twin.findings()
        for severity in Severity:
            count = sum(finding.severity is severity for finding in findings)
            sheet.put("fedtwin_agent_findings", count, severity.value)
        sheet.put("fedtwin_agent_watchers", self._twin.events.watchers)
        if history := self._twin.history_status():
            sheet.put("fedtwin_agent_history_written_rows_total", history.written)
            sheet.put("fedtwin_agent_history_waiting_rows", history.waiting)
            sheet.put("fedtwin_agent_history_dropped_rows_total", history.dropped)
            sheet.put("fedtwin_agent_history_writable", not history.problem)
        if self._twin.semantics:
            self._graph(sheet, self._twin.semantics)

    def _graph(self, sheet: Sheet, semantics: Semantics) -> None:
        status, backlog = semantics.status(), semantics.backlog()
        sheet.put("fedtwin_agent_graph_writable", status is not None and not status.problem)
        if status is None or backlog is None:
            return
        sheet.put("fedtwin_agent_graph_batches_total", status.batches)
        sheet.put("fedtwin_agent_graph_waiting_changes", backlog.waiting)
        sheet.put("fedtwin_agent_graph_visible_seconds", status.visible_ms_p50 / 1e3, "0.5")
        sheet.put("fedtwin_agent_graph_visible_seconds", status.visible_ms_p99 / 1e3, "0.99")
        sheet.put("fedtwin_agent_graph_unmapped_leaves", backlog.unmapped)

    def _session(self, sheet: Sheet, now: int) -> None:
        if broker := self._twin.broker:
            counts = broker.counts
            sheet.put("fedtwin_agent_session_up", broker.connected)
            sheet.put("fedtwin_agent_sessions_total", counts.sessions)
            for (action, outcome), number in counts.asks.items():
                sheet.put("fedtwin_agent_asks_total", number, action, outcome)
            sheet.put("fedtwin_agent_view_deltas_sent_total", counts.view_deltas)
            sheet.put("fedtwin_agent_view_octets_sent_total", counts.view_octets)
        if self._end and (end := self._end.not_after()):
            sheet.put("fedtwin_agent_certificate_expiry_seconds", end.timestamp() - now / 1e9)


def _devices(statuses: Sequence[DeviceStatus]) -> Check:
    behind = [status for status in statuses if status.connection is not Connection.SYNCHRONISED]
    if not behind:
        return Check("devices", True, f"all {len(statuses)} in step")
    told = [
        f"{status.name}: {status.connection.value}{f' ({status.problem})' if status.problem else ''}"
        for status in behind[:_SHOWN]
    ]
    more = f" and {len(behind) - _SHOWN} more" if len(behind) > _SHOWN else ""
    return Check("devices", False, f"{len(behind)} of {len(statuses)} are not: {'; '.join(told)}{more}")
