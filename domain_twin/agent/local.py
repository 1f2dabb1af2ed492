"""The agent's face to its own operator: the Twin service at native level on a Unix socket. Needs no broker.

Whoever can open the socket may read the domain's whole twin, so only the agent's own user can: the socket has
mode 0600 in a folder of mode 0700. Nothing here leaves the machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import stat
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from domain_twin.agent.elements import KINDS, elements
from domain_twin.agent.graph_face import answer_operator
from domain_twin.agent.inner_path import find_inside
from domain_twin.agent.semantics import Semantics
from domain_twin.alarms.desk import AlarmDesk
from domain_twin.disclosure.abstraction import abstract
from domain_twin.errors import ConfigError, ContractError, NotFound, TwinError
from domain_twin.model import (
    Alarm,
    DeviceStatus,
    DomainStatus,
    Event,
    Finding,
    Level,
    Nanoseconds,
    Network,
    OperatorState,
    PathAnswer,
    Sample,
    ServiceRecords,
    ServiceStatus,
    View,
)
from domain_twin.model.job import Job
from domain_twin.model.query import GraphCheck, Impact, Require
from domain_twin.simulation.jobs.desk import JobDesk
from federation.wire.event_log import EventLog
from federation.wire.questions import (
    ElementList,
    ElementQuery,
    HistoryPage,
    HistoryQuery,
    JobQuestion,
    PathQuery,
    QueryQuestion,
    QueryReply,
    ServiceList,
    ViewList,
    ViewQuery,
    WatchQuery,
)

if TYPE_CHECKING:
    from domain_twin.agent.learning import Learning

__all__ = ["LocalFace", "LocalTwin", "serve_local"]

log = logging.getLogger(__name__)

_PAGE_SAMPLES = 2000
_MAX_SOCKET_PATH = 107  # sockaddr_un.sun_path has 108 octets with its end


class LocalTwin(Protocol):
    """What the local face shows: the agent's running twin."""

    domain: str
    operator: str
    events: EventLog
    published: Mapping[str, str]
    """Element ids by alias."""
    records: ServiceRecords
    alarms: AlarmDesk
    desk: JobDesk
    semantics: Semantics | None
    """The twin as a graph; None: it keeps none."""
    learning: Learning | None
    """The models that were learned with others; None: none are."""

    def network(self) -> Network:
        """The domain's network now."""

    async def network_at(self, at: Nanoseconds) -> Network:
        """The domain's network as it was. Raises NotFound for a time that history does not reach."""

    def device_statuses(self) -> Sequence[DeviceStatus]:
        """How well each device is mirrored."""

    def findings(self) -> Sequence[Finding]:
        """What the operator should see."""

    async def resolution(self, at: Nanoseconds) -> tuple[Nanoseconds, Nanoseconds]:
        """Before when figures are rolled up, and to which interval they are known at `at` (0: exact)."""

    async def copy_state(self, *, history_only: bool) -> str:
        """Copy the state for a backup or an export; the copy's folder below the state's."""

    async def series(
        self, device: str, path: str, start: Nanoseconds, end: Nanoseconds, step: Nanoseconds
    ) -> Sequence[Sample]:
        """What a leaf was over time. Raises NotFound for a leaf that was never seen."""

    def session(self) -> tuple[str, str]:
        """The broker's SPIFFE identity (empty: none is configured), and what is wrong with its session."""


class LocalFace:
    """Answers the Twin service's questions from the agent's own twin."""

    def __init__(self, twin: LocalTwin) -> None:
        self._twin = twin
        self._views: dict[Level, tuple[Network, View]] = {}

    async def domains(self) -> Sequence[DomainStatus]:
        """This domain, as its own agent sees it."""
        return (self._status(),)

    async def devices(self) -> Sequence[DeviceStatus]:
        """How well each device is mirrored."""
        return self._twin.device_statuses()

    async def elements(self, query: ElementQuery) -> ElementList:
        """The model's elements, now or as they were. Raises NotFound."""
        self._check_domain(query.domain)
        if query.kind and query.kind not in KINDS.values():
            raise NotFound(f"no elements are of kind {query.kind!r}; kinds are {', '.join(KINDS.values())}")
        network = await self._twin.network_at(query.at) if query.at else self._twin.network()
        found = tuple(elements(network, kind=query.kind, prefix=query.prefix))
        _, resolution = await self._twin.resolution(query.at) if query.at else (0, 0)
        return ElementList(found, {self._twin.domain: network.version}, resolution)

    async def views(self, query: ViewQuery) -> ViewList:
        """The domain's own view; at the levels mesh and node as peers would see it, without rounding."""
        self._check_domain(query.domain)
        view = await self._view(query.level or Level.NATIVE)
        return ViewList((view,), (self._status(),))

    async def path(self, query: PathQuery) -> PathAnswer:
        """A path between two points of the domain. Raises NotFound, NoPath."""
        network, view = self._twin.network(), await self._view(Level.NATIVE)
        return await asyncio.to_thread(find_inside, network, view, query, now=time.time_ns())

    async def services(self, service: str) -> ServiceList:
        """The domain's service records; what a service gets end to end, only the broker can say."""
        records = self._twin.records
        found = [item for item in records.services.values() if service in ("", item.id, item.name)]
        if service and not found:
            raise NotFound(f"no service {service!r}; there are {_some(records.services)}")
        now = time.time_ns()
        return ServiceList(
            statuses=tuple(ServiceStatus(item, None, (), (), None, now) for item in found),
            slices=tuple(records.slices.values()),
            customers=tuple(records.customers.values()),
        )

    async def findings(self, domain: str) -> Sequence[Finding]:
        """What the operator should see. Raises NotFound for another domain."""
        self._check_domain(domain)
        return self._twin.findings()

    async def copy_state(self, *, history_only: bool) -> str:
        """Copy the state for a backup or an export. Raises NotFound, ConfigError."""
        return await self._twin.copy_state(history_only=history_only)

    async def alarms(self, domain: str, *, everything: bool) -> Sequence[Alarm]:
        """What is wrong in the domain. Raises NotFound for another domain."""
        self._check_domain(domain)
        return self._twin.alarms.alarms(everything=everything)

    async def set_alarm_state(self, identity: str, state: OperatorState, note: str) -> Alarm:
        """Note what the operator says of an alarm. Raises NotFound."""
        return self._twin.alarms.set_operator_state(identity, state, operator="operator", note=note)

    async def start_job(self, question: JobQuestion) -> Job:
        """Take the operator's question in. Raises OverCapacity, StaleVersion, NotFound, ConfigError."""
        for domain in question.scope:
            self._check_domain(domain)
        return await self._twin.desk.submit(
            question.capability,
            question.scenario,
            scope=question.scope,
            requirements=question.requirements,
            labels=question.labels,
        )

    async def jobs(self) -> Sequence[Job]:
        """The jobs kept here, newest first."""
        return self._twin.desk.jobs()

    async def job(self, identity: str) -> Job:
        """How far a job is. Raises NotFound."""
        return self._twin.desk.job(identity)

    def watch_job(self, identity: str) -> AsyncIterator[Job]:
        """A job until it has ended. Raises NotFound."""
        return self._twin.desk.watch(identity)

    async def cancel_job(self, identity: str) -> Job:
        """Have a job end without an answer. Raises NotFound."""
        return await self._twin.desk.cancel(identity)

    async def report(self, identity: str) -> bytes:
        """A job's report. Raises NotFound."""
        return await self._twin.desk.report(identity)

    async def query(self, question: QueryQuestion) -> QueryReply:
        """What the graph answers in SPARQL. Raises ContractError, NotFound, OverCapacity, Unreachable."""
        return await answer_operator(self._graph(), self._twin.domain, question)

    async def impact(self, elements: Sequence[str], require: Require) -> Impact:
        """What depends on elements of the domain, inside it. Raises NotFound, OverCapacity, Unreachable."""
        return await self._graph().impact(elements)

    async def check_graph(self, shape: str) -> GraphCheck:
        """What shapes and rules find in the domain's graph. Raises NotFound, Unreachable."""
        return await self._graph().check_graph(shape)

    def _graph(self) -> Semantics:
        if self._twin.semantics is None:
            raise NotFound(
                f"the agent of {self._twin.domain} keeps no graph; set enabled = true under [semantic] in its"
                " agent.toml"
            )
        return self._twin.semantics

    async def history(self, query: HistoryQuery) -> AsyncIterator[HistoryPage]:
        """A leaf's series. Raises NotFound."""
        if query.service:
            raise NotFound(f"{query.service}: the history of services is the broker's; ask it there")
        if not query.device or not query.path:
            raise ContractError("GetHistoryRequest: an agent's history needs device and path")
        end = query.end or time.time_ns()
        samples = await self._twin.series(query.device, query.path, query.start, end, query.step)
        before, resolution = await self._twin.resolution(query.start)
        if query.step or not resolution:
            before = resolution = 0
        for first in range(0, len(samples), _PAGE_SAMPLES):
            part = tuple(samples[first : first + _PAGE_SAMPLES])
            yield HistoryPage(samples=part, rolled_before=before, resolution=resolution)

    def watch(self, query: WatchQuery) -> AsyncIterator[Event]:
        """The domain's events."""
        return self._twin.events.subscribe(kinds=query.kinds, domain=query.domain, after=query.after)

    def _status(self) -> DomainStatus:
        network = self._twin.network()
        peer, problem = self._twin.session()
        return DomainStatus(
            domain=self._twin.domain,
            operator=self._twin.operator,
            connected=True,
            level=Level.NATIVE,
            version=network.version,
            received_at=max((status.received_at for status in self._twin.device_statuses()), default=0),
            points=len(network.nodes),
            segments=len(network.links),
            peer=peer,
            problem=problem,
        )

    async def _view(self, level: Level) -> View:
        network = self._twin.network()
        held = self._views.get(level)
        if held and held[0] is network:
            return held[1]
        # A cold search over a large domain takes a third of a second: not on the loop.
        view = await asyncio.to_thread(
            abstract,
            network,
            level=level,
            published=self._twin.published,
            agreement="",
            precision=None,
            risk_salt=b"",
        )
        self._views[level] = (network, view)
        return view

    def _check_domain(self, domain: str) -> None:
        if domain not in ("", self._twin.domain):
            raise NotFound(f"this agent is the twin of {self._twin.domain}; ask the broker about {domain!r}")


@contextlib.asynccontextmanager
async def serve_local(twin: LocalTwin, path: Path) -> AsyncIterator[None]:
    """Serve `twin` on a Unix socket at `path` as long as the block lasts. Raises ConfigError."""
    import grpc

    from domain_twin.agent.learning_face import LocalLearning
    from federation.v1.fedtwin_pb2_grpc import add_LearningServicer_to_server, add_TwinServicer_to_server
    from federation.wire.learning_service import LearningService
    from federation.wire.twin_service import TwinService

    path = _prepare(path)
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", 1 << 20)])
    add_TwinServicer_to_server(TwinService(LocalFace(twin)), server)
    add_LearningServicer_to_server(LearningService(LocalLearning(twin)), server)
    try:
        server.add_insecure_port(f"unix:{path}")
    except RuntimeError as error:
        raise ConfigError(f"{path}: the agent's socket cannot be made ({error})") from error
    path.chmod(0o600)
    await server.start()
    log.info("serving the operator", extra={"socket": str(path)})
    try:
        yield
    finally:
        twin.events.close()
        await server.stop(grace=1.0)
        path.unlink(missing_ok=True)


def _prepare(path: Path) -> Path:
    """Make the folder private and see that no socket of this name lives; the absolute path."""
    path = path.resolve()
    if len(bytes(path)) > _MAX_SOCKET_PATH:
        raise ConfigError(
            f"{path}: a socket's path has at most {_MAX_SOCKET_PATH} octets; choose a shorter state folder"
        )
    folder = path.parent
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = folder.stat().st_mode
        if mode & stat.S_ISVTX:
            raise ConfigError(
                f"{folder}: many users share this folder; the agent's state needs one of its own"
            )
        if mode & 0o077:
            folder.chmod(0o700)
        if not path.is_socket():
            if path.exists():
                raise ConfigError(f"{path}: something that is no socket lies there; move it away")
            return path
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1.0)
            probe.connect(str(path))
        raise ConfigError(f"{path}: another agent serves there; give each agent a state folder of its own")
    except ConnectionRefusedError:
        path.unlink()  # left behind by an agent that was killed
        return path
    except TwinError:
        raise
    except OSError as error:
        raise ConfigError(f"{path}: the agent's socket cannot be made ({error.strerror})") from error


def _some(names: Mapping[str, object]) -> str:
    return ", ".join(sorted(names)[:10]) or "none"
