"""The NDT job face: NDTFunction, NDTJob and NDTReport of 3GPP TS 28.561 over HTTP, for partners.

The names are the standard's; the schemas are this product's, as its stage 3 documents are not open. An
NDTFunction is a partner's twin with what may be asked of it; a job is asked of one, runs on it, and leaves a
report. Decides nothing: jobs are the broker's, and it is asked as the partner.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Any, Final, Protocol

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from domain_twin.errors import ConfigError, ContractError, NotFound, OverCapacity, TwinError
from domain_twin.model import Nanoseconds, Version
from domain_twin.model.job import Capability, Job, Report, Requirements
from domain_twin.model.job_json import report_json
from domain_twin.model.scenario import Scenario
from federation.partners.record import Kind
from twin_api.ndt_document import ndt_document
from twin_api.read_model import ReadModel
from twin_api.shelf import encode
from twin_api.tmf.bodies import read_object
from twin_api.tmf.errors import JSON, Refused, error_response, refusal_of

__all__ = ["BASE", "DOCUMENT", "Jobs", "NdtTwin", "routes"]

log = logging.getLogger(__name__)

BASE: Final = "/3gpp-ndt/v1"
DOCUMENT: Final = "/openapi/ndtJobs.json"
"""Path of the OpenAPI document of this face."""
MAX_DEADLINE_S: Final = 600.0
WATCHERS: Final = 4
"""Followers of progress that one tenant may have at once."""
_PAGE, _MOST_PAGE = 50, 500
_CAPABILITIES: Final = (
    Capability.RISKY_ACTIONS_PREDICTION,
    Capability.EVENTS_IMPACTS_VERIFICATION,
    Capability.NETWORK_ISSUE_INDUCEMENT,
    Capability.NETWORK_CONFIGURATIONS_VERIFICATION,
)
"""What is served across domains."""
_MEMBERS: Final = ("ndtFunctionRef", "capability", "scope", "scenario", "requirements", "objectClass")
_REQUIREMENTS: Final = ("deadline", "delay", "loss", "atVersions")
_TWIN, _TEST = "twin", "test"  # labels of jobs


class Jobs(Protocol):
    """The jobs of one partner: a `TwinClient` that speaks for it."""

    async def start_job(
        self,
        scenario: Scenario,
        *,
        capability: Capability | None = None,
        scope: Sequence[str] = (),
        requirements: Requirements | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> Job:
        """Take a question in."""

    async def jobs(self) -> list[Job]:
        """All, newest first."""

    async def job(self, identity: str) -> Job:
        """One of them. Raises NotFound."""

    async def cancel_job(self, identity: str) -> Job:
        """Have it end."""

    async def report(self, identity: str) -> Report:
        """What it found. Raises NotFound."""

    def watch_job(self, identity: str) -> AsyncIterator[Job]:
        """The job at every change, until it has ended."""


class NdtTwin(Protocol):
    """The broker: a `TwinClient`."""

    def for_partner(self, tenant: str) -> Jobs:
        """The twin as that partner is shown it."""


def routes(twin: NdtTwin, model: ReadModel, public_address: str) -> list[Route]:
    """The face's routes; `model` knows the partners' twins, every reference begins with `public_address`."""
    face = _Face(twin, model, f"{public_address.rstrip('/')}{BASE}")

    def route(path: str, answer: Callable[[Request], Awaitable[Response]], method: str) -> Route:
        return Route(f"{BASE}{path}", _answering(answer), methods=[method])

    shown = encode(ndt_document(f"{public_address.rstrip('/')}{BASE}", max_deadline_s=MAX_DEADLINE_S))

    async def openapi(_: Request) -> Response:
        return Response(shown, headers={"content-type": JSON, "cache-control": "no-cache"})

    return [
        Route(DOCUMENT, openapi, methods=["GET"]),
        route("/NDTFunction", face.functions, "GET"),
        route("/NDTFunction/{id}", face.function, "GET"),
        route("/NDTJob", face.jobs, "GET"),
        route("/NDTJob", face.create, "POST"),
        route("/NDTJob/{id}", face.job, "GET"),
        route("/NDTJob/{id}", face.change, "PATCH"),
        route("/NDTJob/{id}/progress", face.progress, "GET"),
        route("/NDTReport/{id}", face.report, "GET"),
    ]


class _Face:
    def __init__(self, twin: NdtTwin, model: ReadModel, base: str) -> None:
        self._twin = twin
        self._model = model
        self._base = base
        self._watching: dict[str, int] = {}

    async def functions(self, request: Request) -> Response:
        shelf = self._model.shelf(_tenant(request), Kind.SERVICE)
        twins = [entry.shown for entry in shelf.entries().values()]
        active = [self._function(twin) for twin in twins if twin.get("state") == "active"]
        return _page(request, active[::-1])

    async def function(self, request: Request) -> Response:
        _no_query(request)
        identity = request.path_params["id"]
        entry = self._model.get(_tenant(request), Kind.SERVICE, identity)
        if entry is None or entry.shown.get("state") != "active":
            raise NotFound(f"no NDTFunction {identity[:80]!r} of yours is here")
        return _json(self._function(entry.shown))

    async def jobs(self, request: Request) -> Response:
        found = await self._of(request).jobs()
        return _page(request, found, self._job)

    async def create(self, request: Request) -> Response:
        _no_query(request)
        body = await read_object(request, ("application/json",))
        _known(body, _MEMBERS, "")
        twin = body.get("ndtFunctionRef")
        if not isinstance(twin, str) or not twin:
            raise ContractError("ndtFunctionRef: which of your twins is asked is missing")
        twin = twin.rpartition("/")[2]
        scenario = _scenario(body.get("scenario"))
        job = await self._of(request).start_job(
            scenario,
            capability=_capability(body.get("capability")),
            scope=_scope(body.get("scope")),
            requirements=_requirements(body.get("requirements")),
            labels={_TWIN: twin},
        )
        shown = self._job(job)
        return _json(shown, 201, {"location": shown["href"]})

    async def job(self, request: Request) -> Response:
        _no_query(request)
        return _json(self._job(await self._read(request)))

    async def change(self, request: Request) -> Response:
        """Only to cancel: a job does not change otherwise."""
        _no_query(request)
        body = await read_object(request, ("application/merge-patch+json", "application/json"))
        if body != {"cancelJob": True}:
            raise ContractError('an NDTJob can only be cancelled: send {"cancelJob": true}')
        job = await self._read(request)
        if job.state.ended:
            raise Refused(409, f"the job is {job.state.value}, which is its end")
        if _TEST in job.labels:
            raise Refused(409, f"the job carries out the serviceTest {job.labels[_TEST]}; cancel that one")
        return _json(self._job(await self._of(request).cancel_job(job.id)))

    async def report(self, request: Request) -> Response:
        _no_query(request)
        job = await self._read(request)
        report = await self._of(request).report(job.id)
        shown = {
            "id": job.id,
            "href": f"{self._base}/NDTReport/{job.id}",
            "objectClass": "NDTReport",
            "ndtJobRef": f"{self._base}/NDTJob/{job.id}",
            "digest": report.digest,
            "partial": report.partial,
            "report": json.loads(await asyncio.to_thread(report_json, report)),
        }
        return _json(shown)

    async def progress(self, request: Request) -> Response:
        """The job at every change, as server-sent events, until it has ended."""
        _no_query(request)
        tenant, job = _tenant(request), await self._read(request)
        if self._watching.get(tenant, 0) >= WATCHERS:
            error = OverCapacity(f"you follow {WATCHERS} jobs already; end one of these streams")
            error.retry_after_s = 5.0
            raise error

        async def events() -> AsyncIterator[bytes]:
            self._watching[tenant] = self._watching.get(tenant, 0) + 1
            try:
                async with aclosing(self._of(request).watch_job(job.id)) as changes:  # type: ignore[type-var]
                    async for now in changes:
                        yield b"event: progress\ndata: " + encode(self._job(now)) + b"\n\n"
            except TwinError as error:
                shown = {"reason": str(error)}
                yield b"event: error\ndata: " + encode(shown) + b"\n\n"
            finally:
                self._watching[tenant] -= 1
                if not self._watching[tenant]:
                    del self._watching[tenant]

        return StreamingResponse(
            events(), headers={"content-type": "text/event-stream", "cache-control": "no-store"}
        )

    async def _read(self, request: Request) -> Job:
        identity = request.path_params["id"]
        job = await self._of(request).job(identity)
        if job.id != identity:  # the beginning of an id is for people at a terminal
            raise NotFound(f"no NDTJob {identity[:80]!r} of yours is kept here")
        return job

    def _of(self, request: Request) -> Jobs:
        return self._twin.for_partner(_tenant(request))

    def _function(self, twin: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "id": twin["id"],
            "href": f"{self._base}/NDTFunction/{twin['id']}",
            "objectClass": "NDTFunction",
            "userLabel": twin.get("name") or twin["id"],
            "operationalState": "ENABLED",
            "supportedCapabilities": [capability.value for capability in _CAPABILITIES],
            "scopes": ["RAN", "CORE", "TRANSPORT", "EDGE"],
            "twin": {"id": twin["id"], "href": twin.get("href", "")},
        }

    def _job(self, job: Job) -> dict[str, Any]:
        twin = job.labels.get(_TWIN, "")
        monitor: dict[str, Any] = {
            "status": job.state.value,
            "progressPercentage": int(100 * job.progress),
            "progressStateInfo": job.step,
            "startTime": _time(job.created_at),
        }
        if job.ended_at:
            monitor["endTime"] = _time(job.ended_at)
        if job.problem:
            monitor["resultStateInfo"] = job.problem
        shown: dict[str, Any] = {
            "id": job.id,
            "href": f"{self._base}/NDTJob/{job.id}",
            "objectClass": "NDTJob",
            "ndtFunctionRef": f"{self._base}/NDTFunction/{twin}",
            "capability": job.capability.value,
            "scope": {"domains": list(job.scope)},
            "scenario": job.scenario.model_dump(mode="json", exclude_none=True),
            "requirements": _shown_requirements(job.requirements),
            "processMonitor": monitor,
        }
        if _TEST in job.labels:
            shown["serviceTestRef"] = job.labels[_TEST]
        if job.state.ended and not job.problem:
            shown["ndtReportRef"] = f"{self._base}/NDTReport/{job.id}"
        return shown


def _answering(
    answer: Callable[[Request], Awaitable[Response]],
) -> Callable[[Request], Awaitable[Response]]:
    """Have every refusal take the form of the other APIs' errors."""

    async def respond(request: Request) -> Response:
        try:
            return await answer(request)
        except Refused as error:
            refused = error
        except ConfigError as error:
            refused = Refused(400, str(error))
        except TwinError as error:
            refused = refusal_of(error)
            if refused.status >= 500:
                log.warning("ndt job face failed", extra={"reason": str(error)})
        return error_response(refused.status, str(refused), code=refused.code, headers=refused.headers)

    return respond


def _tenant(request: Request) -> str:
    return str(request.state.caller.tenant)


def _json(body: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(
        encode(body), status, {"content-type": JSON, "cache-control": "no-store", **(headers or {})}
    )


def _page(
    request: Request, found: Sequence[Any], shown: Callable[[Any], Mapping[str, Any]] = lambda item: item
) -> Response:
    """A part of a list, by `offset` and `limit`. Raises Refused."""
    bounds = {"offset": (0, 0, 1 << 31), "limit": (_PAGE, 1, _MOST_PAGE)}
    chosen = {name: default for name, (default, _, _) in bounds.items()}
    for name, text in request.query_params.multi_items():
        if name not in bounds:
            raise Refused(400, f"{name[:80]}: unknown; there are offset and limit", code="invalidQuery")
        _, least, most = bounds[name]
        if not text.isascii() or not text.isdecimal() or not least <= int(text[:12]) <= most:
            raise Refused(400, f"{name}: must be a whole number from {least} to {most}", code="invalidQuery")
        chosen[name] = int(text)
    part = [shown(item) for item in found[chosen["offset"] :][: chosen["limit"]]]
    return Response(
        encode(part),
        headers={
            "content-type": JSON,
            "cache-control": "no-store",
            "x-total-count": str(len(found)),
            "x-result-count": str(len(part)),
        },
    )


def _no_query(request: Request) -> None:
    for name in request.query_params:
        raise Refused(400, f"{name[:80]}: nothing is asked by query here", code="invalidQuery")


def _known(body: Mapping[str, Any], names: Sequence[str], where: str) -> None:
    for name in body:
        if name not in names:
            raise ContractError(f"{where}{name[:80]}: unknown; there are {', '.join(names)}")


def _scenario(found: Any) -> Scenario:
    from domain_twin.simulation.questions.scenario_file import make_scenario

    if not isinstance(found, dict):
        raise ContractError("scenario: must be an object, a document of the scenario language")
    return make_scenario(found, "scenario")


def _capability(found: Any) -> Capability:
    if found is None:
        return Capability.RISKY_ACTIONS_PREDICTION
    try:
        return Capability(found)
    except ValueError:
        accepted = ", ".join(capability.value for capability in _CAPABILITIES)
        raise ContractError(f"capability: {str(found)[:80]!r}; there are {accepted}") from None


def _scope(found: Any) -> tuple[str, ...]:
    if found is None:
        return ()
    if not isinstance(found, dict):
        raise ContractError('scope: must be an object such as {"domains": ["ran"]}')
    _known(found, ("domains",), "scope.")
    domains = found.get("domains") or []
    if not isinstance(domains, list) or not all(isinstance(name, str) and name for name in domains):
        raise ContractError("scope.domains: must be a list of names")
    return tuple(domains)


def _requirements(found: Any) -> Requirements:
    if found is None:
        return Requirements()
    if not isinstance(found, dict):
        raise ContractError("requirements: must be an object")
    _known(found, _REQUIREMENTS, "requirements.")
    deadline_s = _number(found, "deadline", MAX_DEADLINE_S)
    return Requirements(
        deadline_s=Requirements().deadline_s if deadline_s is None else deadline_s,
        at_versions=_versions(found.get("atVersions")),
        delay_ms=_number(found, "delay", 1e9),
        loss=_number(found, "loss", 1.0),
    )


def _number(found: Mapping[str, Any], name: str, most: float) -> float | None:
    value = found.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= most:
        raise ContractError(f"requirements.{name}: must be a number above 0 and up to {most:g}")
    return float(value)


def _versions(found: Any) -> dict[str, Version]:
    if found is None:
        return {}
    where = "requirements.atVersions"
    if not isinstance(found, dict) or not all(isinstance(text, str) for text in found.values()):
        raise ContractError(f'{where}: must be an object such as {{"ran": "epoch:12"}}')
    versions = {}
    for domain, text in found.items():
        epoch, _, sequence = text.rpartition(":")
        if not epoch or not sequence.isascii() or not sequence.isdecimal() or len(sequence) > 18:
            raise ContractError(f"{where}.{domain[:80]}: {text[:80]!r} is no version, as reports show them")
        versions[domain] = Version(epoch, int(sequence))
    return versions


def _shown_requirements(required: Requirements) -> dict[str, Any]:
    shown: dict[str, Any] = {"deadline": required.deadline_s}
    if required.delay_ms is not None:
        shown["delay"] = required.delay_ms
    if required.loss is not None:
        shown["loss"] = required.loss
    if required.at_versions:
        shown["atVersions"] = {
            name: f"{version.epoch}:{version.sequence}" for name, version in required.at_versions.items()
        }
    return shown


def _time(at: Nanoseconds) -> str:
    return datetime.fromtimestamp(at / 1e9, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
