"""The Twin service in front of any twin: messages in and out, errors as statuses, bounds on size and time.

A `TwinFace` answers in model types; broker and agent each have one. `admit` decides before it who may ask.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Protocol

import grpc

from domain_twin.errors import ContractError, OverCapacity, TwinError, Unreachable
from domain_twin.model import (
    Alarm,
    DeviceStatus,
    DomainStatus,
    Event,
    EventKind,
    Finding,
    Level,
    OperatorState,
    PathAnswer,
)
from domain_twin.model.job import Job
from domain_twin.model.query import GraphCheck, Impact, Require
from domain_twin.trust.refusal import refuse
from federation.v1 import fedtwin_pb2 as pb
from federation.v1 import fedtwin_pb2_grpc
from federation.wire import convert, semantic
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

log = logging.getLogger(__name__)

MAX_ANSWER_BYTES = 32 << 20
MAX_ANSWER_S = 30.0
MAX_CHECK_S = 600.0
MAX_WATCHERS = 256
MAX_ALTERNATIVES = 16
MAX_NOTE = 1000
MAX_IMPACT_ELEMENTS = 1000
REPORT_PIECE = 256 << 10

Admit = Callable[[Any], None]
"""Decides from the call's context whether the asker may read this twin. Raises TwinError where not."""


class TwinFace(Protocol):
    """One twin's answers: a method for each RPC. Each raises TwinError for what it cannot answer."""

    async def domains(self) -> Sequence[DomainStatus]:
        """How each domain stands."""

    async def devices(self) -> Sequence[DeviceStatus]:
        """How well each device is mirrored."""

    async def elements(self, query: ElementQuery) -> ElementList:
        """Elements in general form."""

    async def views(self, query: ViewQuery) -> ViewList:
        """What is seen of each domain."""

    async def path(self, query: PathQuery) -> PathAnswer:
        """A path and each domain's part in it."""

    async def services(self, service: str) -> ServiceList:
        """Services (by id or name; empty: all) with the records around them."""

    async def findings(self, domain: str) -> Sequence[Finding]:
        """What a person should see."""

    async def alarms(self, domain: str, *, everything: bool) -> Sequence[Alarm]:
        """What is wrong, with its life cycle."""

    async def set_alarm_state(self, identity: str, state: OperatorState, note: str) -> Alarm:
        """Note what the asker says of an alarm."""

    async def copy_state(self, *, history_only: bool) -> str:
        """Copy the state for a backup or an export; the copy's folder beside the socket."""

    async def start_job(self, question: JobQuestion) -> Job:
        """Take a question in; the answer comes later."""

    async def jobs(self) -> Sequence[Job]:
        """The jobs that the asker may see, newest first."""

    async def job(self, identity: str) -> Job:
        """One job, by its id or the beginning of it."""

    def watch_job(self, identity: str) -> AsyncIterator[Job]:
        """The job now and at every change, until it has ended."""

    async def cancel_job(self, identity: str) -> Job:
        """Have a job end without an answer."""

    async def report(self, identity: str) -> bytes:
        """A job's report as canonical JSON."""

    async def query(self, question: QueryQuestion) -> QueryReply:
        """What a question in SPARQL answers."""

    async def impact(self, elements: Sequence[str], require: Require) -> Impact:
        """What depends on any of `elements`, nearest first; the answer is named after the first."""

    async def check_graph(self, shape: str) -> GraphCheck:
        """What one shape (empty: all) finds in the graph."""

    def history(self, query: HistoryQuery) -> AsyncIterator[HistoryPage]:
        """What was, page by page."""

    def watch(self, query: WatchQuery) -> AsyncIterator[Event]:
        """What happens from this call on, read or not; closing the iterator ends the subscription."""


class TwinService(fedtwin_pb2_grpc.TwinServicer):  # type: ignore[misc]  # generated
    """Serves a TwinFace over gRPC."""

    def __init__(
        self,
        face: TwinFace,
        *,
        admit: Admit = lambda _: None,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
        max_answer_s: float = MAX_ANSWER_S,
        max_watchers: int = MAX_WATCHERS,
    ) -> None:
        self._face = face
        self._admit = admit
        self._max_answer_bytes = max_answer_bytes
        self._max_answer_s = max_answer_s
        self._max_watchers = max_watchers
        self._watchers = 0

    async def ListDomains(self, request: Any, context: Any) -> Any:
        """How each domain stands with the one who serves this."""

        async def work() -> Any:
            domains = await self._face.domains()
            return pb.ListDomainsResponse(domains=[convert.encode_domain_status(item) for item in domains])

        return await self._answer(context, work)

    async def ListDevices(self, request: Any, context: Any) -> Any:
        """How well each device is mirrored; only the domain's own agent knows."""

        async def work() -> Any:
            devices = await self._face.devices()
            return pb.ListDevicesResponse(devices=[convert.encode_device_status(item) for item in devices])

        return await self._answer(context, work)

    async def ListElements(self, request: Any, context: Any) -> Any:
        """Elements in general form, now or (at an agent) as they were."""

        async def work() -> Any:
            found = await self._face.elements(
                ElementQuery(request.domain, request.kind, request.id_prefix, request.at)
            )
            versions = [
                pb.VersionOf(domain=domain, version=convert.encode_version(version))
                for domain, version in found.versions.items()
            ]
            elements = [convert.encode_element(element) for element in found.elements]
            return pb.ListElementsResponse(elements=elements, versions=versions, resolution=found.resolution)

        return await self._answer(context, work)

    async def GetView(self, request: Any, context: Any) -> Any:
        """What is seen of one domain or all."""

        async def work() -> Any:
            level = _level(request.level) if request.level else None
            found = await self._face.views(ViewQuery(request.domain, level))
            return pb.GetViewResponse(
                views=[convert.encode_view(view) for view in found.views],
                domains=[convert.encode_domain_status(status) for status in found.domains],
            )

        return await self._answer(context, work)

    async def FindPath(self, request: Any, context: Any) -> Any:
        """A path between two points, with each domain's part in the answer."""

        async def work() -> Any:
            if not request.source or not request.target:
                raise ContractError(
                    "FindPathRequest: a path needs source and target, each spelled domain/name"
                )
            if request.alternatives > MAX_ALTERNATIVES:
                raise OverCapacity(
                    f"FindPathRequest.alternatives: {request.alternatives} asked for,"
                    f" {MAX_ALTERNATIVES} at most"
                )
            answer = await self._face.path(
                PathQuery(
                    request.source,
                    request.target,
                    convert.decode_path_mode(request),
                    convert.decode_requirement(request.requirement),
                    request.alternatives or 1,
                    request.disjoint,
                )
            )
            return pb.FindPathResponse(answer=convert.encode_path_answer(answer))

        return await self._answer(context, work)

    async def ListServices(self, request: Any, context: Any) -> Any:
        """Services with what they get now, and the records around them."""

        async def work() -> Any:
            found = await self._face.services(request.service)
            return pb.ListServicesResponse(
                services=[convert.encode_service_status(status) for status in found.statuses],
                slices=[convert.encode_slice(item) for item in found.slices],
                customers=[convert.encode_customer(customer) for customer in found.customers],
            )

        return await self._answer(context, work)

    async def ListFindings(self, request: Any, context: Any) -> Any:
        """What a person should see."""

        async def work() -> Any:
            findings = await self._face.findings(request.domain)
            return pb.ListFindingsResponse(findings=[convert.encode_finding(item) for item in findings])

        return await self._answer(context, work)

    async def ListAlarms(self, request: Any, context: Any) -> Any:
        """What is wrong, with its life cycle."""

        async def work() -> Any:
            alarms = await self._face.alarms(request.domain, everything=request.all)
            return pb.ListAlarmsResponse(alarms=[convert.encode_alarm(item) for item in alarms])

        return await self._answer(context, work)

    async def SetAlarmState(self, request: Any, context: Any) -> Any:
        """Note what the asker says of an alarm."""

        async def work() -> Any:
            if len(request.note) > MAX_NOTE:
                raise ContractError(f"SetAlarmStateRequest.note: {MAX_NOTE} characters at most")
            state = _operator_state(request.state)
            alarm = await self._face.set_alarm_state(request.id, state, request.note)
            return pb.SetAlarmStateResponse(alarm=convert.encode_alarm(alarm))

        return await self._answer(context, work)

    async def CopyState(self, request: Any, context: Any) -> Any:
        """Write a consistent copy of the state; only an agent does, for its own operator."""

        async def work() -> Any:
            return pb.CopyStateResponse(folder=await self._face.copy_state(history_only=request.history_only))

        return await self._answer(context, work)

    async def StartJob(self, request: Any, context: Any) -> Any:
        """Take a question in and answer with the job that it has become."""

        async def work() -> Any:
            job = await self._face.start_job(convert.decode_job_question(request))
            return pb.StartJobResponse(job=convert.encode_job(job))

        return await self._answer(context, work)

    async def GetJob(self, request: Any, context: Any) -> Any:
        """How far a job is."""

        async def work() -> Any:
            return pb.GetJobResponse(job=convert.encode_job(await self._face.job(request.id)))

        return await self._answer(context, work)

    async def ListJobs(self, request: Any, context: Any) -> Any:
        """The jobs that the asker may see."""

        async def work() -> Any:
            answer, room = pb.ListJobsResponse(), self._max_answer_bytes
            for job in await self._face.jobs():
                message = convert.encode_job(job)
                room -= message.ByteSize() + 16
                if room < 0:  # older ones have to be asked for by their ids
                    break
                answer.jobs.append(message)
            return answer

        return await self._answer(context, work)

    async def CancelJob(self, request: Any, context: Any) -> Any:
        """Have a job end without an answer."""

        async def work() -> Any:
            return pb.CancelJobResponse(job=convert.encode_job(await self._face.cancel_job(request.id)))

        return await self._answer(context, work)

    async def WatchJob(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """A job now and at every change, until it has ended."""

        async def jobs() -> AsyncIterator[Any]:
            if self._watchers >= self._max_watchers:
                raise OverCapacity(f"{self._watchers} watchers are served already; try again later")
            self._watchers += 1
            watching = self._face.watch_job(request.id)
            try:
                async for job in watching:
                    yield pb.WatchJobResponse(job=convert.encode_job(job))
            finally:
                self._watchers -= 1
                close = getattr(watching, "aclose", None)
                if close:
                    await close()

        async for message in self._stream(context, jobs()):
            yield message

    async def GetReport(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """A job's report, in pieces."""

        async def pieces() -> AsyncIterator[Any]:
            data = await self._face.report(request.id)
            for start in range(0, len(data), REPORT_PIECE):
                whole = 0 if start else len(data)
                yield pb.GetReportResponse(data=data[start : start + REPORT_PIECE], bytes=whole)

        async for message in self._stream(context, pieces()):
            yield message

    async def Query(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """What a question in SPARQL answers, in pieces."""

        async def pieces() -> AsyncIterator[Any]:
            question = semantic.decode_query_question(request)
            remaining = context.time_remaining()
            limit_s = self._max_answer_s if remaining is None else min(self._max_answer_s, remaining)
            try:
                async with asyncio.timeout(limit_s):
                    reply = await self._face.query(question)
            except TimeoutError:
                raise Unreachable(f"the twin had no answer within {limit_s:.0f} s; ask for less") from None
            if len(reply.data) > self._max_answer_bytes:
                raise OverCapacity(
                    f"the answer has {len(reply.data)} bytes and {self._max_answer_bytes} is the most that is"
                    " sent; ask for fewer rows (LIMIT), or fewer variables"
                )
            for piece in semantic.encode_query_reply(reply):
                yield piece

        async for message in self._stream(context, pieces()):
            yield message

    async def GetImpact(self, request: Any, context: Any) -> Any:
        """What depends on an element, with the chain that shows it."""

        async def work() -> Any:
            if not request.element:
                raise ContractError("GetImpactRequest.element: empty, an element is needed")
            if len(request.also) > MAX_IMPACT_ELEMENTS:
                raise OverCapacity(
                    f"GetImpactRequest.also: {len(request.also)} elements, {MAX_IMPACT_ELEMENTS} at most"
                )
            require = semantic.decode_require(request.require)
            return semantic.encode_impact(await self._face.impact((request.element, *request.also), require))

        return await self._answer(context, work)

    async def CheckGraph(self, request: Any, context: Any) -> Any:
        """What the shapes find."""

        async def work() -> Any:
            return semantic.encode_graph_check(await self._face.check_graph(request.shape))

        return await self._answer(
            context,
            work,
            most_s=MAX_CHECK_S,
            remedy="check one shape (--shape Link), or wait longer (--timeout 5m)",
        )

    async def GetHistory(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """A leaf's series or a service's statuses, page by page."""
        query = HistoryQuery(
            request.device, request.path, request.service, request.start, request.end, request.step
        )

        async def pages() -> AsyncIterator[Any]:
            async for page in self._face.history(query):
                yield pb.GetHistoryResponse(
                    samples=[convert.encode_sample(sample) for sample in page.samples],
                    rolled_before=page.rolled_before,
                    resolution=page.resolution,
                    statuses=[convert.encode_service_status(status) for status in page.statuses],
                    events=[convert.encode_event(event) for event in page.events],
                )

        async for message in self._stream(context, pages()):
            yield message

    async def Watch(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """Events from now on, or after one that was seen."""

        async def events() -> AsyncIterator[Any]:
            if self._watchers >= self._max_watchers:
                raise OverCapacity(f"{self._watchers} watchers are served already; try again later")
            query = WatchQuery(tuple(_kind(word) for word in request.kinds), request.domain, request.after)
            watching = self._face.watch(query)
            self._watchers += 1
            try:
                # The asker knows by this that nothing which happens from here on is missed.
                await context.send_initial_metadata(())
                async for event in watching:
                    yield pb.WatchResponse(event=convert.encode_event(event))
            finally:
                self._watchers -= 1
                close = getattr(watching, "aclose", None)
                if close:
                    await close()

        async for message in self._stream(context, events()):
            yield message

    async def _answer(
        self,
        context: Any,
        work: Callable[[], Awaitable[Any]],
        *,
        most_s: float = 0.0,
        remedy: str = "ask for less",
    ) -> Any:
        try:
            self._admit(context)
            limit_s, remaining = most_s or self._max_answer_s, context.time_remaining()
            if remaining is not None:  # the sentence has to arrive before the asker gives up
                limit_s = min(limit_s, remaining - min(1.0, remaining / 10))
            try:
                async with asyncio.timeout(limit_s):
                    message = await work()
            except TimeoutError:
                raise Unreachable(f"the twin had no answer within {limit_s:.0f} s; {remedy}") from None
            return self._bounded(message)
        except Exception as error:
            await _abort(context, error)

    async def _stream(self, context: Any, messages: AsyncIterator[Any]) -> AsyncIterator[Any]:
        try:
            self._admit(context)
            async for message in messages:
                yield self._bounded(message)
        except Exception as error:
            await _abort(context, error)
        finally:
            await messages.aclose()  # type: ignore[attr-defined]  # both are generators

    def _bounded(self, message: Any) -> Any:
        size = message.ByteSize()
        if size > self._max_answer_bytes:
            raise OverCapacity(
                f"{type(message).__name__}: the answer has {size} bytes and {self._max_answer_bytes} is the"
                " most that is sent; ask for one domain, one kind or a shorter time"
            )
        return message


def _level(word: str) -> Level:
    try:
        return Level(word)
    except ValueError:
        raise ContractError(f"GetViewRequest.level: {word!r}; accepted are {', '.join(Level)}") from None


def _operator_state(word: str) -> OperatorState:
    try:
        return OperatorState(word)
    except ValueError:
        accepted = ", ".join(OperatorState)
        raise ContractError(f"SetAlarmStateRequest.state: {word!r}; accepted are {accepted}") from None


def _kind(word: str) -> EventKind:
    try:
        return EventKind(word)
    except ValueError:
        raise ContractError(f"WatchRequest.kinds: {word!r}; accepted are {', '.join(EventKind)}") from None


async def _abort(context: Any, error: Exception) -> None:
    if isinstance(error, grpc.aio.AbortError):
        raise error
    if not isinstance(error, TwinError):
        log.error("question failed", exc_info=error)
        error = TwinError("the twin failed on this question; its log has the details")
    await refuse(context, error)
