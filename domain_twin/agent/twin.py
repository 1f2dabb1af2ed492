"""One domain's running twin: what the local face shows and what the jobs answer from.

Owns the state of the agent while it runs and the order in which it starts and ends. The stages themselves are
`pipeline` (devices to network model) and `publisher` (network model to views).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from domain_twin.agent.device_schemas import DeviceSchemas
from domain_twin.agent.jobs import Jobs
from domain_twin.agent.mirror import Mirror
from domain_twin.agent.ndt_jobs import CalibrationFile, NdtJobs
from domain_twin.agent.pipeline import Pipeline
from domain_twin.agent.publisher import Publisher
from domain_twin.agent.semantics import Semantics
from domain_twin.agent.session import BrokerSession
from domain_twin.agent.state_copy import copy_state
from domain_twin.agent.unheard import Unheard
from domain_twin.agent.validation import TreeCheck, Values
from domain_twin.alarms.desk import AlarmDesk
from domain_twin.alarms.store import AlarmStore
from domain_twin.config import AgentConfig, DeviceConfig
from domain_twin.datastore.checkpoint import Checkpoint, Restored
from domain_twin.datastore.history import History, HistoryStatus
from domain_twin.datastore.snapshot import Snapshot
from domain_twin.errors import NotFound
from domain_twin.mapping.alarms import DeviceAlarms
from domain_twin.mapping.mapper import Mapper
from domain_twin.model import (
    Alarm,
    Connection,
    Delta,
    DeviceStatus,
    EventKind,
    Finding,
    Nanoseconds,
    Network,
    Sample,
    ServiceRecords,
    StateKind,
    Value,
    ViewDelta,
)
from domain_twin.simulation.jobs.desk import JobDesk
from domain_twin.simulation.jobs.store import JobStore
from domain_twin.simulation.twin.recent import RecentLoads
from domain_twin.southbound.conflate import Facts
from domain_twin.southbound.intake import Intake, Overload
from domain_twin.yang.quarantine import Typer
from domain_twin.yang.schema import SchemaSet
from federation.wire.event_log import EventLog

if TYPE_CHECKING:
    from domain_twin.agent.corrections import InService
    from domain_twin.agent.learning import Learning
    from domain_twin.simulation.learned.residual import Residual
    from domain_twin.simulation.twin.calibration import Calibration
    from domain_twin.simulation.twin.traffic import Loads

log = logging.getLogger(__name__)
_HOUSEKEEPING_S = 1.0
_GOODBYE_S = 2.0
_WHOLE_WITHIN_S = 10.0
_SILENCE_NS: Nanoseconds = 10_000_000_000


class DomainTwin:
    """The twin of one domain. Made with what was restored; `run` mirrors, remembers and publishes."""

    def __init__(
        self,
        config: AgentConfig,
        *,
        schema: SchemaSet,
        records: ServiceRecords,
        restored: Restored,
        checkpoint: Checkpoint,
        history: History | None,
    ) -> None:
        self.domain = config.domain
        self.operator = config.operator
        self.records = records
        self.published: Mapping[str, str] = {item.alias: item.element for item in config.publish}
        self.events = EventLog()
        self._config = config
        self._checkpoint = checkpoint
        self._history = history
        self._mapper = Mapper(config.domain)
        self._mapper.apply(restored.store.snapshot().as_delta())
        self._device_alarms = DeviceAlarms(config.domain)
        self._device_alarms.apply(restored.store.snapshot().as_delta().changes)
        for device in restored.store.devices():
            self._mapper.set_stale(device, True)
        alarm_store = AlarmStore(config.state / "alarms.sqlite")
        self.alarms = AlarmDesk(alarm_store, alarm_store.load(), self._tell_alarm)
        typer = Typer(schema)
        self.schemas = DeviceSchemas(config.domain, schema, config.yang, typer.use)
        self.pipeline = Pipeline(
            devices=[device.name for device in (*config.device, *config.controller)],
            typer=typer,
            store=restored.store,
            mapper=self._mapper,
            history=history,
            on_change=self._changed,
            max_leaves=config.intake.max_leaves,
        )
        self.publisher = Publisher(
            network=self.network,
            published=self.published,
            interval_s=config.view_interval_ms / 1000,
            figures_interval_s=config.figures_interval_ms / 1000,
            send=self._send,
        )
        self.semantics = (
            Semantics(
                config.semantic,
                domain=config.domain,
                operator=config.operator,
                state=config.state,
                network=self.network,
                published=self.published,
                records=records,
                schema_of=self.schemas.of,
                snapshot=self.pipeline.store.snapshot,
                views=self.publisher.open_views,
            )
            if config.semantic.enabled
            else None
        )
        if self.semantics:
            self.publisher.on_views = self.semantics.note_views
        self._trees = TreeCheck(
            config.domain, self.schemas.of, self._leaves_of, complete=self.pipeline.synchronised
        )
        self._calibration = CalibrationFile(config.state)
        self._recent = RecentLoads()
        jobs = NdtJobs(self)
        self.desk = JobDesk(JobStore(config.state / "jobs"), jobs.answer, check=jobs.check)
        self.broker: BrokerSession | None = None
        self.learning: Learning | None = None
        """Who trains models together with others; None: nobody does."""
        self._jobs: Jobs | None = None
        self._stopping = asyncio.Event()
        self._whole = asyncio.Event()
        if self.pipeline.complete():
            self._whole.set()
        self._unheard = Unheard(config.state, [device.name for device in config.device], now=time.time_ns())
        self._silence_ns = {device.name: _silence_ns(device) for device in config.device}
        self._findings: dict[tuple[str, str], Finding] = {}
        self.intake = Intake(
            max_bytes=int(config.intake.max_mb * 1e6),
            keep=Facts(schema),
            consume=self.pipeline.ingest,
            on_status=self._device_status,
            on_overload=self._overload,
        )
        taken = [device.name for device in config.device]
        self._mirrors = {
            source.name: Mirror(
                source,
                schemas=self.schemas,
                intake=self.intake,
                on_status=self._device_status,
                taken=taken,
            )
            for source in (*config.device, *config.controller)
        }

    # --- what the local face shows

    def network(self) -> Network:
        """The domain's network now."""
        return self.pipeline.network()

    def snapshot(self) -> Snapshot:
        """The devices' state now."""
        return self.pipeline.store.snapshot()

    def calibration(self) -> Calibration | None:
        """What was fitted from this domain's history; None: nothing was. Raises ConfigError."""
        return self._calibration()

    def recent_loads(self, network: Network) -> Loads:
        """What elements carried on the mean of the last half a minute, up to this network."""
        return self._recent.loads(network)

    def residual(self) -> Residual | None:
        """The correction for the rung residual; None: none is configured. Raises ConfigError."""
        from domain_twin.simulation.learned.residual import Residual

        file = self._config.what_if.residual
        return Residual.load(file) if file else None

    def learned_residual(self) -> InService | None:
        """The residual of links that domains learned together, if one is in service here. Blocks."""
        learning = self.learning
        return learning.corrections.in_service() if learning is not None else None

    async def snapshot_at(self, at: Nanoseconds) -> Snapshot:
        """The devices' state as it was. Raises NotFound for a time that history does not reach."""
        if self._history is None:
            raise NotFound("this agent keeps no history: set enabled = true under [history]")
        return await self._history.state_at(at)

    async def loads(self, start: Nanoseconds, end: Nanoseconds) -> Loads:
        """What elements carried between two times, on the mean. Raises NotFound."""
        from domain_twin.simulation.twin.traffic import loads_between

        if self._history is None:
            raise NotFound("this agent keeps no history: set enabled = true under [history]")
        return await loads_between(self._history, self.domain, start, end)

    async def expected_loads(self, at: Nanoseconds, loads: Loads) -> Loads:
        """What elements will carry at a time to come, where they carry `loads` now. Raises NotFound."""
        from domain_twin.agent.expected import expected_loads

        return await expected_loads(
            at,
            now=time.time_ns(),
            network=self.network(),
            loads=loads,
            learned=self.learning,
            between=self.loads,
        )

    def schema_of(self, device: str) -> SchemaSet:
        """The YANG modules of a device."""
        return self.schemas.of(device)

    async def network_at(self, at: Nanoseconds) -> Network:
        """The domain's network as it was. Raises NotFound for a time that history does not reach."""
        snapshot = await self.snapshot_at(at)
        mapper = Mapper(self.domain)
        await asyncio.to_thread(mapper.apply, snapshot.as_delta())
        return replace(mapper.network(), kind=StateKind.SNAPSHOT)

    def device_statuses(self) -> list[DeviceStatus]:
        """How well each device is mirrored."""
        return [self.pipeline.count(status) for status in self.pipeline.device_statuses()]

    def findings(self) -> list[Finding]:
        """What the operator should see, as of now."""
        self._survey()
        return list(self._findings.values())

    async def resolution(self, at: Nanoseconds) -> tuple[Nanoseconds, Nanoseconds]:
        """Before when figures are rolled up, and to which interval they are known at `at` (0: exact)."""
        return await self._history.resolution(at) if self._history else (0, 0)

    async def copy_state(self, *, history_only: bool) -> str:
        """Copy the state for a backup or an export. Raises NotFound, ConfigError."""
        snapshot = self.pipeline.store.snapshot()
        return await copy_state(self._config.state, self._history, snapshot, history_only=history_only)

    async def series(
        self, device: str, path: str, start: Nanoseconds, end: Nanoseconds, step: Nanoseconds
    ) -> list[Sample]:
        """What a leaf was over time. Raises NotFound."""
        if self._history is None:
            raise NotFound("this agent keeps no history: set enabled = true under [history]")
        return list(await self._history.series(device, path, start, end, step or None))

    def history_status(self) -> HistoryStatus | None:
        """How the writing of history goes; None where none is kept."""
        return self._history.status() if self._history else None

    def session(self) -> tuple[str, str]:
        """The broker's SPIFFE identity (empty: none is configured), and what is wrong with its session."""
        if self.broker is None or self._config.broker is None:
            return "", ""
        return self._config.broker.identity, str(self.broker.error or "")

    # --- running

    def attach(self, broker: BrokerSession, jobs: Jobs) -> None:
        """Take part in a federation."""
        self.broker, self._jobs = broker, jobs

    def stop(self) -> None:
        """Have `run` end in good order."""
        self._stopping.set()

    async def run(self) -> None:
        """Mirror, remember and publish until `stop`; then say goodbye and save the state."""
        try:
            async with asyncio.TaskGroup() as tasks:
                owned = [tasks.create_task(mirror.run()) for mirror in self._mirrors.values()]
                owned.append(tasks.create_task(self.intake.run()))
                owned.append(tasks.create_task(self.publisher.run()))
                owned.append(tasks.create_task(self._checkpoint.keep(self.pipeline.store)))
                owned.append(tasks.create_task(self._trees.run()))
                owned.append(tasks.create_task(self.desk.run()))
                owned.append(tasks.create_task(self._housekeeping()))
                if self.semantics:
                    owned.append(tasks.create_task(self.semantics.run()))
                session = tasks.create_task(self._take_part(self.broker)) if self.broker else None
                await self._stopping.wait()
                if self.broker and session:
                    await self.broker.close("the agent was stopped by its operator")
                    await asyncio.wait([session], timeout=_GOODBYE_S)
                    session.cancel()
                for task in owned:
                    task.cancel()
        finally:
            self.intake.close()
            snapshot = self.pipeline.store.snapshot()
            try:
                await asyncio.to_thread(self._checkpoint.save, snapshot, clean=True)
            except OSError as error:  # a full disk: the next start takes it for a crash
                log.error("state not saved", extra={"problem": str(error)})
            await self.alarms.flush()
            if self._history:
                await self._history.close()

    async def _take_part(self, broker: BrokerSession) -> None:
        """Attach once the twin is whole: peers would take what is not heard yet for missing."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_WHOLE_WITHIN_S):
                await self._whole.wait()
        await broker.run()

    def broker_status(self, text: str) -> None:
        """Tell the operator what became of the session with the broker."""
        self.events.publish(EventKind.DOMAIN, f"broker session: {text}", domain=self.domain)

    def _changed(self, delta: Delta | None, restructured: bool) -> None:
        self.publisher.notify(urgent=restructured)
        if restructured:
            self._recent.clear()
        if self.semantics:
            self.semantics.note(delta, restructured)
        if delta is None:
            return
        self._trees.note_config(delta.changes)
        for device in self._device_alarms.apply(delta.changes):
            self._report_alarms(device)
        first = delta.changes[0]
        text = f"{first.device}: {first.path} {'gone' if first.deleted else f'= {first.value!r}'}"
        if len(delta.changes) > 1:
            text += f" and {len(delta.changes) - 1} more"
        self.events.publish(EventKind.CHANGE, text, domain=self.domain, observed_at=first.observed_at)

    def _device_status(self, status: DeviceStatus) -> None:
        if not self.pipeline.set_status(status):
            return
        if self.pipeline.complete():
            self._whole.set()
        text = f"{status.name}: {status.connection.value}" + (f": {status.problem}" if status.problem else "")
        self.events.publish(EventKind.DEVICE, text, domain=self.domain, device_status=status)
        if status.connection is Connection.STALE:
            now = time.time_ns()
            self._unheard.lost(
                status.name,
                heard_at=status.received_at,
                now=now,
                silence_ns=self._silence_ns.get(status.name, _SILENCE_NS),
            )
            self.alarms.set_stale(status.name, True)
        elif status.connection is Connection.SYNCHRONISED:
            self._trees.note(status.name)
            self._report_alarms(status.name)
            lost_at = self._unheard.back(status.name)
            if lost_at and self._history:
                self._history.gap(status.name, lost_at, time.time_ns(), "the device was not heard")

    def _overload(self, overload: Overload) -> None:
        """A source's values were dropped, or are complete again: say so, and keep the gap."""
        self._mirrors[overload.source].overloaded(overload)
        if overload.until and self._history:
            for device, count in overload.dropped.items():
                reason = f"overload: {count} values were dropped"
                self._history.gap(device, overload.since, overload.until, reason)

    def _leaves_of(self, device: str) -> Mapping[str, Value]:
        return Values(self.pipeline.store.snapshot().devices.get(device, {}))

    def _send(self, delta: ViewDelta) -> None:
        if self.broker:
            self.broker.publish(delta)

    async def _housekeeping(self) -> None:
        while True:
            await asyncio.sleep(_HOUSEKEEPING_S)
            self.pipeline.limit()
            self._recent.note(self.network())
            self._survey()
            self.alarms.report_findings("twin", self._findings.values())
            await self.alarms.flush()

    def _report_alarms(self, device: str) -> None:
        """Take over what is wrong with a device, once all of its state is known."""
        status = self.pipeline.device_status(device)
        if status and status.connection is Connection.SYNCHRONISED:
            self.alarms.report(device, self._device_alarms.conditions(device))
            self.alarms.set_stale(device, False)

    def _tell_alarm(self, alarm: Alarm, text: str) -> None:
        self.events.publish(EventKind.ALARM, text, domain=self.domain, alarm=alarm)

    def _survey(self) -> None:
        """Raise the findings that are new and clear those that are gone."""
        now = time.time_ns()
        found = [
            *self.pipeline.findings(now),
            *(finding for mirror in self._mirrors.values() for finding in mirror.findings(self.domain, now)),
            *self.publisher.findings(),
            *self._trees.findings(),
            *self.schemas.findings(),
            *(self._history.findings(self.domain) if self._history else ()),
            *(self.semantics.findings() if self.semantics else ()),
            *(self._jobs.findings() if self._jobs else ()),
            *(self.broker.findings() if self.broker else ()),
        ]
        if self.pipeline.complete():  # else what looks like a missing neighbour has only not been heard yet
            found += self.network().findings
        current = {(f.code, f.element): f for f in found}
        for key, finding in current.items():
            raised = self._findings.get(key)
            current[key] = replace(finding, since=raised.since if raised else finding.since or now)
            if raised is None:
                self._tell_finding(current[key], finding.message)
        for key in self._findings.keys() - current.keys():
            self._tell_finding(self._findings[key], f"cleared: {self._findings[key].message}")
        self._findings = current

    def _tell_finding(self, finding: Finding, text: str) -> None:
        self.events.publish(EventKind.FINDING, text, domain=self.domain, finding=finding)


def _silence_ns(device: DeviceConfig) -> Nanoseconds:
    """How long a device can have been silent when its loss is noticed: two heartbeats of its mirror."""
    access = device.gnmi or device.netconf
    return int(2e9 * access.heartbeat_s) if access else _SILENCE_NS
