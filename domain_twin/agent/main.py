"""The agent's process: read the configuration, open what lasts, run the twin, end cleanly on a signal."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING

from domain_twin.agent import collector
from domain_twin.agent.auditor import Auditor
from domain_twin.agent.jobs import Jobs
from domain_twin.agent.local import serve_local
from domain_twin.agent.metrics import AgentMetrics
from domain_twin.agent.sandboxes import Sandboxes
from domain_twin.agent.schema import load_schema
from domain_twin.agent.session import BrokerSession
from domain_twin.agent.twin import DomainTwin
from domain_twin.agent.what_if_jobs import PRIVATE_FOLDER, WhatIfJobs
from domain_twin.config import AgentConfig, AgreementConfig, SyslogConfig, load_agent
from domain_twin.datastore.checkpoint import Checkpoint
from domain_twin.datastore.history import History
from domain_twin.disclosure.policy import Action, Agreement
from domain_twin.disclosure.precision import Precision
from domain_twin.errors import ConfigError
from domain_twin.model import ServiceRecords
from domain_twin.operations.endpoint import serve_metrics
from domain_twin.trust.audit_export import Exporter
from domain_twin.trust.audit_log import AuditLog
from domain_twin.yang.records import load_services
from domain_twin.yang.schema import SchemaSet

if TYPE_CHECKING:
    from domain_twin.agent.learning import Learning
    from domain_twin.agent.queries import PeerQueries

log = logging.getLogger(__name__)


async def run_agent(
    config_path: Path,
    *,
    ready: Callable[[], None] | None = None,
    stopping: Callable[[], None] | None = None,
) -> None:
    """Run one twin agent until SIGINT or SIGTERM. `ready` is called when it serves its operator, `stopping`
    when it is asked to end.

    Raises ConfigError for whatever a person has to mend before it can start.
    """
    config = load_agent(config_path)
    agreements = [to_agreement(item) for item in config.agreement]
    try:
        config.state.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ConfigError(
            f"{config_path}: state: {config.state} cannot be made ({error.strerror})"
        ) from error
    schema = await load_schema(config)
    records = await asyncio.to_thread(load_services, config.services) if config.services else ServiceRecords()
    history = (
        await History.open(
            config.state / "history",
            raw_days=config.history.raw_days,
            minute_days=config.history.minute_days,
            retention_days=config.history.retention_days,
            flush_s=config.history.flush_s,
            monotonic=time.monotonic_ns,
        )
        if config.history.enabled
        else None
    )
    try:
        await _run(
            config_path, config, agreements, schema, records, history=history, ready=ready, stopping=stopping
        )
    finally:
        if history:  # a twin that ran has closed it; one that could not begin has not
            await history.close()


async def _run(
    config_path: Path,
    config: AgentConfig,
    agreements: list[Agreement],
    schema: SchemaSet,
    records: ServiceRecords,
    *,
    history: History | None,
    ready: Callable[[], None] | None,
    stopping: Callable[[], None] | None,
) -> None:
    """Run the twin on a history that is open."""
    checkpoint = Checkpoint(config.state)
    last = await history.last_version() if history else None
    restored = await asyncio.to_thread(checkpoint.restore, last=last)
    if restored.message:
        log.warning("state restored", extra={"how": restored.restart.value, "why": restored.message})
    if history:
        await history.align(restored.store.snapshot())
    twin = DomainTwin(
        config, schema=schema, records=records, restored=restored, checkpoint=checkpoint, history=history
    )
    trail = None
    if config.audit.enabled:
        who = f"spiffe://{config.operator}/agent/{config.domain}"
        trail = AuditLog(
            config.state / "audit",
            who=who,
            config=config.audit,
            identity=lambda: twin.broker.signs_with() if twin.broker else None,
        )
    auditor = Auditor(trail)
    content = await asyncio.to_thread(config_path.read_bytes)
    auditor.configured(str(config_path), content, [item.id for item in config.agreement])
    queries = learning = None
    if config.broker:
        jobs = Jobs(
            domain=config.domain,
            agreements=agreements,
            published=twin.published,
            publisher=twin.publisher,
            auditor=auditor,
        )
        session = BrokerSession(config, jobs, twin.broker_status, auditor=auditor)
        jobs.on_withdrawn = session.withdraw
        session.on_lost = jobs.session_lost
        jobs.what_ifs = WhatIfJobs(
            network=twin.network,
            published=twin.published,
            calibration=twin.calibration,
            learned=twin.learned_residual,
            loads=twin.recent_loads,
            private=config.state / PRIVATE_FOLDER,
        )
        jobs.sandboxes = Sandboxes(
            config.state / "sandboxes.json",
            domain=config.domain,
            network=twin.network,
            published=twin.published,
        )
        if config.semantic.enabled:
            queries = jobs.queries = _peer_queries(config, twin)
        if config.learning.enabled:
            learning = jobs.learning = twin.learning = _learning(config, twin, history)
        twin.attach(session, jobs)
    async with (
        queries or contextlib.nullcontext(),
        contextlib.aclosing(learning) if learning else contextlib.nullcontext(),
        _watching(config, twin, learning),
        serve_local(twin, config.state / "agent.sock"),
        serve_metrics(config.metrics, AgentMetrics(config, twin).face, config.state),
        _kept(trail, config.audit.syslog),
    ):

        def stop() -> None:
            if stopping:
                stopping()
            twin.stop()

        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop)
        if config.broker:
            loop.add_signal_handler(signal.SIGHUP, _take_up, config_path, jobs, session)
        collector.settle()
        if ready:
            ready()
        try:
            await twin.run()
        finally:
            collector.release()


def _peer_queries(config: AgentConfig, twin: DomainTwin) -> PeerQueries:
    from domain_twin.agent.queries import PeerQueries
    from domain_twin.semantic.workers import PoolLimits

    semantic = config.semantic
    limits = PoolLimits(
        max_rows=semantic.max_rows, timeout_s=semantic.timeout_s, memory_bytes=semantic.memory_mb << 20
    )
    return PeerQueries(
        network=twin.network,
        published=twin.published,
        open_views=twin.publisher.open_views,
        limits=limits,
    )


def _learning(config: AgentConfig, twin: DomainTwin, history: History | None) -> Learning:
    from domain_twin.agent.learning import Learning
    from domain_twin.learning.vouching import Vouching

    vouching = None
    if config.learning.peers and config.identity is not None:
        vouching = Vouching(config.operator, config.domain, config.identity, config.learning.peers)
    return Learning(
        config.learning,
        config.state / "learning",
        domain=config.domain,
        network=twin.network,
        history=history,
        calibration=twin.calibration,
        vouching=vouching,
    )


@contextlib.asynccontextmanager
async def _watching(config: AgentConfig, twin: DomainTwin, learning: Learning | None) -> AsyncIterator[None]:
    """Use models in service on what devices say, as long as the block lasts."""
    if learning is None:
        yield
        return
    from domain_twin.agent.watching import Watching

    watching = Watching(
        config.learning,
        domain=config.domain,
        learning=learning,
        network=twin.network,
        pipe=twin.pipeline,
        alarms=twin.alarms,
    )
    task = asyncio.create_task(watching.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@contextlib.asynccontextmanager
async def _kept(trail: AuditLog | None, syslog: SyslogConfig | None) -> AsyncIterator[None]:
    """Keep the audit on disk, signed and exported as long as the block lasts."""
    if trail is None:
        yield
        return
    tasks = [asyncio.create_task(trail.run())]
    if syslog:
        tasks.append(asyncio.create_task(Exporter(trail, syslog).run()))
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        trail.close("the agent ended")


def _take_up(config_path: Path, jobs: Jobs, session: BrokerSession) -> None:
    """Take up changed agreements (SIGHUP); the rest of a changed configuration needs a new start."""
    try:
        content = config_path.read_bytes()
        agreements = [to_agreement(item) for item in load_agent(config_path).agreement]
    except (ConfigError, OSError) as error:
        log.error("changed configuration not used", extra={"reason": str(error)})
        return
    jobs.auditor.configured(str(config_path), content, [item.id for item in agreements])
    jobs.replace_agreements(agreements)
    session.reattach("the agreements of this agent were changed")
    log.info("agreements taken up", extra={"agreements": len(agreements)})


def to_agreement(item: AgreementConfig) -> Agreement:
    """An agreement as the policy understands it. Raises ConfigError."""
    return Agreement(
        id=item.id,
        subject=item.peer,
        level=item.level,
        actions=frozenset(Action(action) for action in item.actions),
        figures=frozenset(item.kpis),
        precision=Precision(item.precision.delay_ms, item.precision.bandwidth_mbps, item.precision.loss),
        asks_per_second=item.asks_per_second,
        expires_at=int(item.expires.timestamp() * 1e9) if item.expires else None,
    )
