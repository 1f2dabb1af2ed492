"""The Twin service as a Python API: for the command line, the HTTP api and users' scripts.

The same client talks to an agent on its Unix socket and to a broker over mTLS. Errors of the service are
raised as the TwinErrors that they are, with the server's own sentence. grpc is imported on connecting.
"""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import aclosing
from functools import partial
from pathlib import Path
from types import AsyncGeneratorType
from typing import TYPE_CHECKING, Any

from domain_twin.config import load_client
from domain_twin.errors import ContractError, NotFound
from domain_twin.model import (
    Alarm,
    DeviceStatus,
    DomainStatus,
    Element,
    Event,
    EventKind,
    Finding,
    Level,
    Nanoseconds,
    OperatorState,
    PathAnswer,
    PathMode,
    Requirement,
    Sample,
    ServiceStatus,
    View,
)
from federation.connection import Connection
from federation.v1 import fedtwin_pb2 as pb
from federation.wire import convert
from federation.wire.questions import NO_REQUIREMENT, QueryQuestion, QueryReply, ServiceList

if TYPE_CHECKING:
    from domain_twin.model.job import Capability, Job, Report, Requirements
    from domain_twin.model.query import GraphCheck, Impact, Require
    from domain_twin.model.scenario import Scenario

__all__ = ["DEFAULT_PROFILE", "EventStream", "QueryReply", "ServiceList", "TwinClient"]

DEFAULT_PROFILE = Path(".fedtwin/demo/client.toml")
ENVIRONMENT = "FEDTWIN_AT"
PARTNER_METADATA = "fedtwin-partner"
MAX_REPORT_BYTES = 256 << 20
MAX_QUERY_BYTES = 64 << 20


class TwinClient(Connection):
    """A connection to one twin, used as `async with TwinClient.connect(at) as twin`."""

    use = "`async with TwinClient.connect(…)`"

    @classmethod
    def connect(cls, at: str | Path = "", *, timeout_s: float = 30.0) -> TwinClient:
        """A client of the twin at `at`: a Unix socket, or a client profile (TOML).

        Empty: what the environment variable FEDTWIN_AT names, else the demo's profile in the working folder.
        Raises NotFound where there is nothing, ConfigError where the profile cannot be used.
        """
        path = Path(at or os.environ.get(ENVIRONMENT, "") or DEFAULT_PROFILE)
        try:
            mode = path.stat().st_mode
        except OSError:
            where = f"{path}: no such file"
            remedy = f"name a client profile or an agent's socket with --at or {ENVIRONMENT}"
            if not at and ENVIRONMENT not in os.environ:
                remedy = f"start the demo with `fedtwin demo --keep`, or {remedy}"
            raise NotFound(f"{where}; {remedy}") from None
        return cls(path if stat.S_ISSOCK(mode) else load_client(path), timeout_s=timeout_s)

    def for_partner(self, tenant: str) -> TwinClient:
        """The same connection, asking for a partner: only `query` and jobs, and only where that is allowed.

        Raises NotShared on asking where the broker does not let you speak for that partner.
        """
        client = TwinClient(self._profile, timeout_s=self._timeout_s)
        client._behind, client._partner = self, tenant
        return client

    _behind: TwinClient | None = None
    _partner = ""

    def _connected(self) -> Any:
        if self._behind is None:
            return super()._connected()
        return _Speaking(self._behind._connected(), ((PARTNER_METADATA, self._partner),))

    def _make_stub(self, channel: Any) -> Any:
        from federation.v1.fedtwin_pb2_grpc import TwinStub

        return TwinStub(channel)

    async def domains(self) -> list[DomainStatus]:
        """How each domain stands with the one who serves the twin."""
        answer = await self._ask("ListDomains", pb.ListDomainsRequest())
        return [convert.decode_domain_status(item) for item in answer.domains]

    async def devices(self) -> list[DeviceStatus]:
        """How well each device is mirrored. Raises NotShared at a broker, which knows none."""
        answer = await self._ask("ListDevices", pb.ListDevicesRequest())
        return [convert.decode_device_status(item) for item in answer.devices]

    async def elements(
        self, domain: str = "", kind: str = "", prefix: str = "", at: Nanoseconds = 0
    ) -> list[Element]:
        """Elements in general form; `at` (an agent only) asks for the past."""
        request = pb.ListElementsRequest(domain=domain, kind=kind, id_prefix=prefix, at=at)
        answer = await self._ask("ListElements", request)
        return [convert.decode_element(item) for item in answer.elements]

    async def views(self, domain: str = "", level: Level | None = None) -> list[View]:
        """What is seen of one domain, or of all."""
        answer = await self._ask("GetView", pb.GetViewRequest(domain=domain, level=level or ""))
        return [convert.decode_view(item) for item in answer.views]

    async def path(
        self,
        source: str,
        target: str,
        *,
        mode: PathMode = PathMode.CURRENT,
        requirement: Requirement = NO_REQUIREMENT,
        alternatives: int = 1,
        disjoint: bool = False,
    ) -> PathAnswer:
        """A path between two points, each `domain/name`. No path is an answer: `paths` is empty then."""
        request = pb.FindPathRequest(
            source=source,
            target=target,
            mode=mode,
            requirement=convert.encode_requirement(requirement),
            alternatives=alternatives,
            disjoint=disjoint,
        )
        return convert.decode_path_answer((await self._ask("FindPath", request)).answer)

    async def services(self, name: str = "") -> ServiceList:
        """Services (by id or name; empty: all) with what they get, slices and customers."""
        answer = await self._ask("ListServices", pb.ListServicesRequest(service=name))
        return ServiceList(
            statuses=tuple(convert.decode_service_status(item) for item in answer.services),
            slices=tuple(convert.decode_slice(item) for item in answer.slices),
            customers=tuple(convert.decode_customer(item) for item in answer.customers),
        )

    async def findings(self, domain: str = "") -> list[Finding]:
        """What a person should see."""
        answer = await self._ask("ListFindings", pb.ListFindingsRequest(domain=domain))
        return [convert.decode_finding(item) for item in answer.findings]

    async def alarms(self, domain: str = "", *, everything: bool = False) -> list[Alarm]:
        """What is wrong; with `everything` also what is cleared, closed or shelved."""
        answer = await self._ask("ListAlarms", pb.ListAlarmsRequest(domain=domain, all=everything))
        return [convert.decode_alarm(item) for item in answer.alarms]

    async def set_alarm_state(self, identity: str, state: OperatorState, note: str = "") -> Alarm:
        """Note what you say of an alarm, named by its id or the beginning of it."""
        request = pb.SetAlarmStateRequest(id=identity, state=state, note=note)
        return convert.decode_alarm((await self._ask("SetAlarmState", request)).alarm)

    async def start_job(
        self,
        scenario: Scenario,
        *,
        capability: Capability | None = None,
        scope: Sequence[str] = (),
        requirements: Requirements | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Job:
        """Ask what would happen; the answer is the job's `report` once it has ended.

        Without a capability: RISKY_ACTIONS_PREDICTION. `scope` lists domains; empty: all that are concerned.
        Raises OverCapacity, StaleVersion, NotShared, ConfigError.
        """
        from domain_twin.model.job import Capability, Requirements
        from federation.wire.questions import JobQuestion

        question = JobQuestion(
            capability=capability or Capability.RISKY_ACTIONS_PREDICTION,
            scenario=scenario,
            scope=tuple(scope),
            requirements=requirements or Requirements(),
            labels=labels or {},
        )
        answer = await self._ask("StartJob", convert.encode_job_question(question))
        return convert.decode_job(answer.job)

    async def jobs(self) -> list[Job]:
        """The jobs that you may see, newest first."""
        answer = await self._ask("ListJobs", pb.ListJobsRequest())
        return [convert.decode_job(item) for item in answer.jobs]

    async def job(self, identity: str) -> Job:
        """One job, by its id or the beginning of it. Raises NotFound."""
        return convert.decode_job((await self._ask("GetJob", pb.GetJobRequest(id=identity))).job)

    async def watch_job(self, identity: str) -> AsyncIterator[Job]:
        """The job now, then at every change; ends with the job itself. Raises NotFound, Unreachable."""
        call = self._connected().WatchJob(pb.WatchJobRequest(id=identity))
        async with aclosing(self._messages(call)) as messages:
            async for message in messages:
                yield convert.decode_job(message.job)

    async def cancel_job(self, identity: str) -> Job:
        """Have a job end without an answer; one that has ended stays as it is. Raises NotFound."""
        return convert.decode_job((await self._ask("CancelJob", pb.CancelJobRequest(id=identity))).job)

    async def report(self, identity: str) -> Report:
        """A job's report; of a job that was stopped, what was known by then. Raises NotFound."""
        import grpc

        from domain_twin.model.job_json import parse_report

        request = pb.GetReportRequest(id=identity)
        whole, pieces = 0, bytearray()
        try:
            async for piece in self._connected().GetReport(request, timeout=self._timeout_s):
                whole = whole or piece.bytes
                if whole > MAX_REPORT_BYTES or len(pieces) + len(piece.data) > whole:
                    raise ContractError(f"{self.address}: the report of {identity} is larger than announced")
                pieces += piece.data
        except grpc.aio.AioRpcError as error:
            raise await self.error_of(error) from None
        return parse_report(bytes(pieces))

    async def query(
        self,
        text: str,
        *,
        format: str = "",
        max_rows: int = 0,
        timeout_s: float = 0.0,
        require: Require | None = None,
        view: str = "",
    ) -> QueryReply:
        """Ask in SPARQL 1.1: SELECT, ASK or CONSTRUCT, without updates, SERVICE and FROM.

        `format`: json, xml, csv or tsv; of CONSTRUCT turtle, n-triples or json-ld. `view` (an agent only):
        ask what the peer of that agreement sees. An answer that a limit cut short says so in `stopped_by`.
        Raises ContractError for a query that is refused, with the place; OverCapacity, NotShared,
        Unreachable.
        """
        from domain_twin.model.query import Require

        return await self._query(
            QueryQuestion(
                text, format, max_rows, timeout_s, require=require or Require.BEST_EFFORT, view=view
            )
        )

    async def explain(self, text: str, *, view: str = "") -> str:
        """How a query would be answered, a line a step; nothing is asked. Raises ContractError."""
        return (await self._query(QueryQuestion(text, explain=True, view=view))).plan

    async def _query(self, question: QueryQuestion) -> QueryReply:
        import grpc

        from federation.wire import semantic

        request = semantic.encode_query_question(question)
        head, end, data = pb.QueryHead(), None, bytearray()
        try:
            async for piece in self._connected().Query(
                request, timeout=max(self._timeout_s, question.timeout_s + 5)
            ):
                match piece.WhichOneof("part"):
                    case "head":
                        head = piece.head
                    case "data":
                        data += piece.data
                    case "end":
                        end = piece.end
                if len(data) > MAX_QUERY_BYTES:
                    raise ContractError(f"{self.address}: an answer of more than {MAX_QUERY_BYTES} bytes")
        except grpc.aio.AioRpcError as error:
            raise await self.error_of(error) from None
        if end is None:
            raise ContractError(f"{self.address}: the answer to a query ended before its end")
        return semantic.decode_query_reply(head, bytes(data), end)

    async def impact(
        self, element: str, *, also: Sequence[str] = (), require: Require | None = None
    ) -> Impact:
        """What depends on an element, nearest first, each with its chain; `also`: more elements at once.

        Raises NotFound, and NotShared or Unreachable where all domains are required and one is missing.
        """
        from federation.wire import semantic

        request = pb.GetImpactRequest(element=element, also=also, require=require or "")
        return semantic.decode_impact(await self._ask("GetImpact", request))

    async def check_graph(self, shape: str = "", *, timeout_s: float = 120.0) -> GraphCheck:
        """What the shapes, or one of them, find in this twin's graph; waited for that long.

        Raises NotFound for an unknown shape, OverCapacity, Unreachable where it takes longer.
        """
        from federation.wire import semantic

        request = pb.CheckGraphRequest(shape=shape)
        return semantic.decode_graph_check(await self._ask("CheckGraph", request, timeout_s=timeout_s))

    async def copy_state(self, *, history_only: bool = False) -> Path:
        """Have an agent copy its state; the folder of the copy, which the caller deletes. An agent only."""
        answer = await self._ask("CopyState", pb.CopyStateRequest(history_only=history_only))
        if not isinstance(self._profile, Path) or ".." in Path(answer.folder).parts:
            raise NotFound(f"{self.address}: no copy of a state was made here")
        folder: Path = self._profile.resolve().parent / str(answer.folder)
        return folder

    async def series(
        self, device: str, path: str, start: Nanoseconds, end: Nanoseconds = 0, step: Nanoseconds = 0
    ) -> list[Sample]:
        """What a leaf was over time; only its own agent knows."""
        request = pb.GetHistoryRequest(device=device, path=path, start=start, end=end, step=step)
        return [convert.decode_sample(item) async for page in self._pages(request) for item in page.samples]

    async def service_history(
        self, service: str, start: Nanoseconds, end: Nanoseconds = 0
    ) -> tuple[list[ServiceStatus], list[Event]]:
        """What a service got over time, and the events of that time."""
        request = pb.GetHistoryRequest(service=service, start=start, end=end)
        statuses: list[ServiceStatus] = []
        events: list[Event] = []
        async for page in self._pages(request):
            statuses += (convert.decode_service_status(item) for item in page.statuses)
            events += (convert.decode_event(item) for item in page.events)
        return statuses, events

    def watch(self, kinds: Collection[EventKind] = (), domain: str = "", after: int = 0) -> EventStream:
        """Events from now on (or after the id of one seen), as an async iterator.

        `await stream.started()` returns once nothing can be missed any more. Iterating raises Unreachable
        when the connection is lost: go on with `after` the last id seen.
        """
        request = pb.WatchRequest(kinds=list(kinds), domain=domain, after=after)
        return EventStream(self, self._connected().Watch(request))

    async def _pages(self, request: Any) -> AsyncIterator[Any]:
        import grpc

        try:
            async for page in self._connected().GetHistory(request, timeout=self._timeout_s):
                yield page
        except grpc.aio.AioRpcError as error:
            raise await self.error_of(error) from None


class _Speaking:
    """A stub whose every call carries metadata."""

    def __init__(self, stub: Any, metadata: tuple[tuple[str, str], ...]) -> None:
        self._stub = stub
        self._metadata = metadata

    def __getattr__(self, method: str) -> Any:
        return partial(getattr(self._stub, method), metadata=self._metadata)


class EventStream:
    """Events as they happen: an async iterator, ended by `aclose` or the server."""

    def __init__(self, client: TwinClient, call: Any) -> None:
        self._client = client
        self._call = call
        self._messages: AsyncGeneratorType[Any, None] = aiter(call)

    async def started(self) -> None:
        """Wait until the server watches on our behalf. Raises TwinError where it refuses."""
        import grpc

        try:
            await self._call.initial_metadata()
            if self._call.done() and await self._call.code() is not grpc.StatusCode.OK:
                await self._call.read()
        except grpc.aio.AioRpcError as error:
            raise await self._client.error_of(error) from None

    def __aiter__(self) -> EventStream:
        return self

    async def __anext__(self) -> Event:
        import grpc

        try:
            return convert.decode_event((await anext(self._messages)).event)
        except grpc.aio.AioRpcError as error:
            raise await self._client.error_of(error) from None
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task and task.cancelling():
                raise
            raise StopAsyncIteration from None  # grpc's word for a stream that was closed on this side

    async def aclose(self) -> None:
        """Stop watching."""
        self._call.cancel()
        if not self._messages.ag_running:  # else who waits for the next one ends it
            await self._messages.aclose()
