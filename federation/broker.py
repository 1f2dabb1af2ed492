"""The broker process: wires sessions, registry, services and the composed twin's face. Owns start and end.

Importing this module does not import grpc: `run_broker` first sets the TLS 1.3 floor, which must come before.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import hashlib
import logging
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from domain_twin.config import BrokerConfig, load_broker
from domain_twin.errors import ConfigError
from domain_twin.model import Alarm, EventKind, Finding, ServiceRecords, Severity, View
from domain_twin.operations.endpoint import serve_metrics
from domain_twin.trust import tls
from domain_twin.trust.identity import Role

if TYPE_CHECKING:
    from domain_twin.trust.credentials import Identity
    from federation.assurance import Assurance
    from federation.learning.desk import LearningDesk
    from federation.partners.store import RecordStore
    from federation.query.desk import FederatedQueries
    from federation.registry import Change, Registry
    from federation.session import Session

__all__ = ["Broker", "run_broker", "serve"]

log = logging.getLogger(__name__)

_GRACE_S = 2.0
_AGAIN_S = 1.0
_ALARMS_S = 0.5

LoadRecords = Callable[[Path], ServiceRecords]


@dataclass(frozen=True, slots=True)
class Broker:
    """A broker that is serving. `stop` is set when its process is asked to end."""

    address: str
    stop: asyncio.Event
    sessions: Mapping[str, Session]
    """By domain, as they are now."""


async def run_broker(
    config_path: Path,
    *,
    load_records: LoadRecords | None = None,
    ready: Callable[[], None] | None = None,
    stopping: Callable[[], None] | None = None,
) -> None:
    """Run a broker until SIGINT or SIGTERM. Raises ConfigError, CredentialError.

    `load_records` reads the file that `services` names; an argument, because reading YANG is not the
    federation's business.
    """
    tls.enforce_tls13_floor()
    config = load_broker(config_path)
    records = ServiceRecords()
    if config.services:
        if load_records is None:
            raise ConfigError(f"{config_path}: services: this process cannot read service records")
        records = await asyncio.to_thread(load_records, config.services)
    async with serve(config, records) as broker:

        def stop() -> None:
            if stopping:
                stopping()
            broker.stop.set()

        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop)
        try:
            log.info("broker ready", extra={"address": broker.address})
            gc.freeze()  # what was loaded to get here lives on: no collection need look at it again
            if ready:
                ready()
            await broker.stop.wait()
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)
    log.info("broker ended")


@asynccontextmanager
async def serve(config: BrokerConfig, records: ServiceRecords) -> AsyncIterator[Broker]:
    """A broker that serves as long as the block lasts. Raises ConfigError, CredentialError.

    The floor of TLS 1.3 then rests on the guard alone, unless it was set before grpc was imported.
    """
    import grpc

    from domain_twin.alarms.desk import AlarmDesk
    from domain_twin.alarms.store import AlarmStore
    from domain_twin.simulation.jobs.desk import JobDesk
    from domain_twin.simulation.jobs.store import JobStore
    from domain_twin.trust.audit_export import Exporter
    from domain_twin.trust.audit_log import AuditLog
    from domain_twin.trust.credentials import RenewingIdentity, load_identity
    from domain_twin.trust.guard import Guard, current_peer
    from domain_twin.trust.roots import TrustBundle
    from federation.assurance import Assurance
    from federation.attach import FederationService
    from federation.audit import AuditGate, BrokerAuditor
    from federation.events import FindingBoard, event_log
    from federation.jobs import BrokerJobs
    from federation.learning.service import BrokerLearning
    from federation.metrics import BrokerMetrics
    from federation.partners.assemble import Surroundings
    from federation.partners.gate import PartnerGate, current_caller
    from federation.partners.operating import DeliveriesService
    from federation.partners.reception import Reception
    from federation.partners.service import PartnersService
    from federation.rates import Rates
    from federation.registry import Registry
    from federation.renewal import Renewal
    from federation.storage import Storage
    from federation.twin import BrokerFace, access_check, may_train
    from federation.v1.fedtwin_pb2_grpc import (
        add_DeliveriesServicer_to_server,
        add_FederationServicer_to_server,
        add_LearningServicer_to_server,
        add_PartnersServicer_to_server,
        add_TwinServicer_to_server,
    )
    from federation.wire.framing import STREAM_OPTIONS
    from federation.wire.learning_service import LearningService
    from federation.wire.twin_service import TwinService

    with contextlib.suppress(OSError):  # what cannot be written, storage says in words
        await asyncio.to_thread(config.state.mkdir, mode=0o700, parents=True, exist_ok=True)
    identity = load_identity(config.identity, operator=config.operator, role=Role.BROKER, name=config.id)
    trust = TrustBundle.load(config.trust)
    trail = None
    if config.audit.enabled:
        renewing = RenewingIdentity(config.identity, identity)
        trail = AuditLog(
            config.state / "audit", who=str(identity.id), config=config.audit, identity=renewing.current
        )
    auditor = BrokerAuditor(trail)
    rates = Rates(
        reads_per_second=config.reads_per_second,
        attaches_per_minute=config.attaches_per_minute,
        clock=time.time_ns,
    )
    storage, restored = await Storage.open(config.state, config.database)
    work = _Work()
    reception: Reception | None = None
    learning: LearningDesk | None = None
    try:
        content = config.model_dump_json().encode()
        auditor.note("configured", file="broker.toml", file_sha256=hashlib.sha256(content).hexdigest())
        if trail:
            work.start(work.forever(trail.run))
            if config.audit.syslog:
                work.start(work.forever(Exporter(trail, config.audit.syslog).run))
        events = event_log(storage, restored)
        findings = FindingBoard(events, storage, restored.findings)
        alarm_store = AlarmStore(config.state / "alarms.sqlite")

        def on_alarm(alarm: Alarm, text: str) -> None:
            events.publish(EventKind.ALARM, text, domain=alarm.key.domain, alarm=alarm)

        alarms = AlarmDesk(alarm_store, await asyncio.to_thread(alarm_store.load), on_alarm)

        async def watch_over_alarms() -> None:
            while True:
                await asyncio.sleep(_ALARMS_S)
                if learning:
                    findings.report("learning", learning.findings())
                alarms.report_findings("broker", findings.standing())
                await alarms.flush()

        def on_storage(problem: str) -> None:
            findings.report("storage", [_storage_finding(problem)] if problem else [])

        def on_audit(problem: str) -> None:
            findings.report("audit", [_audit_finding(problem)] if problem else [])

        def on_partners(problem: str) -> None:
            findings.report("partners", [_partners_finding(problem)] if problem else [])

        def on_deliveries(found: Sequence[Finding]) -> None:
            findings.report("events", found)

        if trail:
            trail.on_problem = on_audit
            on_audit(trail.problem)
        storage.on_problem = on_storage
        on_storage(storage.problem)
        registry = Registry(
            config, events=events, findings=findings, storage=storage, restored=restored, spawn=work.start
        )
        assurance = Assurance(
            records,
            registry,
            events=events,
            findings=findings,
            storage=storage,
            spawn=work.start,
            restored=restored.statuses,
            sample_interval_s=config.sample_interval_s,
        )
        registry.audit = auditor.note
        face = BrokerFace(
            registry,
            assurance,
            events=events,
            findings=findings,
            storage=storage,
            alarms=alarms,
            caller=current_caller,
            watch_ends_at=lambda: current_peer().not_after,
        )
        jobs = BrokerJobs(registry, records)
        face.desk = desk = JobDesk(JobStore(config.state / "jobs"), jobs.answer, check=jobs.check)
        face.queries = queries = _queries(registry, assurance, records)

        def around(store: RecordStore) -> Surroundings:
            return Surroundings(config, store, registry, desk, jobs, alarms, on_deliveries)

        learning = await _learning(config, registry, RenewingIdentity(config.identity, identity).current)
        trainings = BrokerLearning(
            learning,
            caller=current_caller,
            watch_ends_at=lambda: current_peer().not_after,
            may_train=lambda: may_train(config)(current_peer().identity),
        )
        reception = Reception(config, on_problem=on_partners)
        await reception.open(around)

        def on_change(change: Change) -> None:
            queries.changed(change.domain, structural=change.structural, shown=change.shown)
            assurance.notify(change)

        registry.on_change = on_change
        federation = FederationService(registry, config, identity, trust)
        guard = Guard(trust, rates.check(access_check(config)))
        server = grpc.aio.server(
            interceptors=[AuditGate(auditor, rates), guard, PartnerGate(config)], options=STREAM_OPTIONS
        )
        add_FederationServicer_to_server(federation, server)
        add_TwinServicer_to_server(TwinService(face), server)
        speaker = PartnersService(reception, ends_at=lambda: current_peer().not_after)
        add_PartnersServicer_to_server(speaker, server)
        operating = DeliveriesService(reception, caller=current_caller)
        add_DeliveriesServicer_to_server(operating, server)
        add_LearningServicer_to_server(LearningService(trainings), server)
        credentials = tls.server_credentials(config.identity.certificate, config.identity.key, trust)
        address = _listen(server, config.listen, credentials)
        work.start(work.forever(storage.run))
        work.start(work.forever(assurance.run))
        work.start(work.forever(face.desk.run))
        learning_at_work = work.start(work.forever(learning.run))
        work.start(work.forever(learning.registry.log.run))
        work.start(queries.warm())
        work.start(work.forever(Renewal(federation, trust, findings).run))
        work.start(work.forever(watch_over_alarms))
        if reception.wanted:
            work.start(work.forever(partial(reception.run, around)))
        await server.start()
        metrics = BrokerMetrics(
            config,
            registry=registry,
            federation=federation,
            assurance=assurance,
            findings=findings,
            events=events,
            storage=storage,
            guard=guard,
            partners=reception,
            learning=learning,
        )
        try:
            async with serve_metrics(config.metrics, metrics.face, config.state):
                yield Broker(address, asyncio.Event(), federation.sessions)
        finally:
            reception.end_following()
            learning_at_work.cancel()
            registry.close()
            await federation.close("the broker is stopping")
            await queries.close()
            events.close()
            await server.stop(_GRACE_S)
            await alarms.flush()
    finally:
        await work.end()
        if learning:
            await learning.close()
        if reception:
            await reception.close()
        await storage.close()
        if trail:
            trail.close("the broker ended")


def _queries(registry: Registry, assurance: Assurance, records: ServiceRecords) -> FederatedQueries:
    """Questions across the domains of the registry."""
    from federation.query.asking import SessionDomains
    from federation.query.desk import Federated, FederatedQueries

    def view_of(domain: str) -> View | None:
        member = registry.graph.members.get(domain)
        return member.view if member else None

    domains = SessionDomains(registry.session)
    return FederatedQueries(
        Federated(
            members=lambda: tuple(sorted(registry.graph.members)),
            connected=lambda domain: registry.session(domain) is not None,
            view_of=view_of,
            records=records,
            statuses=assurance.statuses,
            domains=domains,
            card=domains.card,
        )
    )


async def _learning(
    config: BrokerConfig, registry: Registry, identity: Callable[[], Identity]
) -> LearningDesk:
    """Trainings across the domains of the registry, with what is on disk of them."""
    from domain_twin.learning.run_store import RunStore
    from federation.learning.desk import LearningDesk
    from federation.learning.registry import ModelRegistry

    settings = config.learning
    os.environ["FLWR_HOME"] = str(config.state / "learning" / "flwr")  # before Flower is imported
    models = await asyncio.to_thread(
        ModelRegistry,
        config.state / "learning",
        who=f"spiffe://{config.operator}/broker/{config.id}",
        identity=identity,
        max_bytes=int(settings.max_mb * 1e6),
        kept=settings.kept_versions,
    )
    desk = LearningDesk(
        settings,
        RunStore(config.state / "learning" / "runs", kept=settings.kept_runs),
        models,
        session_of=registry.session,
        members=lambda: [member.domain for member in config.member],
        operators={member.domain: member.operator for member in config.member},
    )
    await asyncio.to_thread(desk.load)
    return desk


class _Work:
    """What runs beside the server; an error in one task is logged and ends nothing else."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work` until it ends or the broker does."""
        task = asyncio.get_running_loop().create_task(self._guarded(work))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def forever(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Start `work` again whenever it fails."""
        while True:
            await self._guarded(work())
            await asyncio.sleep(_AGAIN_S)

    async def end(self) -> None:
        """Cancel all and wait for it."""
        while tasks := tuple(self._tasks):
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    @staticmethod
    async def _guarded(work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except Exception:
            log.exception("background work failed")


def _listen(server: Any, address: str, credentials: Any) -> str:
    """Bind and return the address with the port that was taken. Raises ConfigError."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():
        raise ConfigError(f"listen = {address!r}: not host:port, such as 0.0.0.0:50051 or [::]:50051")
    try:
        taken = server.add_secure_port(address, credentials)
    except RuntimeError as error:
        raise ConfigError(
            f"listen = {address!r}: cannot listen there; another process has the port, or the host is not"
            f" this machine ({error})"
        ) from error
    return f"{host}:{taken}"


def _audit_finding(problem: str) -> Finding:
    return Finding(
        "audit.unwritable",
        Severity.ERROR,
        "",
        "broker",
        f"the audit cannot be written: {problem}; questions are answered as [audit] when_unwritable says",
        "make room on the disk and the folder writable; the broker goes on by itself",
    )


def _partners_finding(problem: str) -> Finding:
    return Finding(
        "broker.partners-unwritable",
        Severity.ERROR,
        "",
        "broker",
        f"nothing new is kept for partners: {problem}",
        "see the message; what is kept can be read, and the broker writes again by itself when it can",
    )


def _storage_finding(problem: str) -> Finding:
    return Finding(
        "broker.storage-unusable",
        Severity.ERROR,
        "",
        "broker",
        problem,
        "see the message; the broker writes again by itself when it can",
    )
