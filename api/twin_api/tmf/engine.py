"""TMF630 over HTTP: for every resource what its table says. Reads from memory, writes by commands.

Who asks is at `request.state.caller`, verified by others. A resource of another tenant answers exactly as one
that does not exist.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import Final

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from domain_twin.errors import TwinError
from twin_api.negotiation import best
from twin_api.read_model import ReadModel
from twin_api.shelf import encode
from twin_api.tmf import reads, writes
from twin_api.tmf.apis import APIS
from twin_api.tmf.asked import Asked, Commands, Shared
from twin_api.tmf.bodies import MAX_BODY
from twin_api.tmf.dialects import DIALECTS, Dialect
from twin_api.tmf.errors import Refused, error_response, refusal_of
from twin_api.tmf.openapi import document
from twin_api.tmf.table import Api, Operation, Resource

__all__ = ["Engine", "routes"]

log = logging.getLogger(__name__)


class Engine:
    """The APIs in front of a read model and commands."""

    def __init__(
        self,
        model: ReadModel,
        commands: Commands,
        public_address: str,
        *,
        apis: Sequence[Api] = APIS,
        dialects: Sequence[str] = (),
        max_body: int = MAX_BODY,
    ) -> None:
        """`dialects`: older forms that are served as well, such as `v3`."""
        self.shared = Shared(model, commands, public_address.rstrip("/"), max_body)
        self.apis = tuple(apis)
        self.dialects = tuple(each for each in DIALECTS if each.name in dialects)


def routes(engine: Engine) -> list[Route]:
    """The routes of all APIs, of the dialects that are on, and of the OpenAPI documents."""
    found = [route for api in engine.apis for route in _routes(engine, api, api.base, None)]
    for dialect in engine.dialects:
        api = next(each for each in engine.apis if each.name == dialect.api)
        found += _routes(engine, api, dialect.base, dialect)
    documents = {api.name: encode(document(api, engine.shared.public_address)) for api in engine.apis}

    async def openapi(request: Request) -> Response:
        octets = documents.get(request.path_params["name"])
        if octets is None:
            return error_response(404, f"there are documents of {', '.join(documents)}")
        return Response(octets, headers={"content-type": "application/json"})

    found.append(Route("/openapi/{name}.json", openapi, methods=["GET"]))
    return found


def _routes(engine: Engine, api: Api, base: str, dialect: Dialect | None) -> Iterator[Route]:
    for resource in (*api.resources, api.hub):
        face = _Face(engine.shared, api, resource, base, dialect)
        path = f"{base}/{resource.path}"
        yield from (Route(path, face), Route(f"{path}/", face), Route(f"{path}/{{identity}}", face))
    yield Route(f"{base}/{{rest:path}}", _Nothing(api))


class _Nothing:
    """What is at no path of an API, as an ASGI application."""

    def __init__(self, api: Api) -> None:
        names = ", ".join(each.path for each in (*api.resources, api.hub))
        self._sentence = f"there is nothing at this path; {api.title} has {names}"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await error_response(404, self._sentence)(scope, receive, send)


_ONE: Final = {
    "GET": Operation.READ,
    "HEAD": Operation.READ,
    "PATCH": Operation.CHANGE,
    "DELETE": Operation.REMOVE,
}
_ALL: Final = {"GET": Operation.LIST, "HEAD": Operation.LIST, "POST": Operation.CREATE}
_ANSWERS: Final = {
    Operation.LIST: reads.listed,
    Operation.READ: reads.one,
    Operation.CREATE: writes.create,
    Operation.CHANGE: writes.change,
    Operation.REMOVE: writes.remove,
}
_ACCEPTED: Final = frozenset(("", "*/*", "application/json", "application/json;charset=utf-8"))


class _Face:
    """One resource of an API at one base path, as an ASGI application."""

    def __init__(
        self, shared: Shared, api: Api, resource: Resource, base: str, dialect: Dialect | None
    ) -> None:
        self._shared = shared
        self._api = api
        self._resource = resource
        self._base = base
        self._dialect = dialect

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        try:
            response = await self._answer(request)
        except Refused as refused:
            response = _refusal(refused)
        except TwinError as error:
            said = refusal_of(error)
            if said.status >= 500:
                log.warning("a request failed", extra={"path": scope["path"], "reason": str(error)})
            response = _refusal(said)
        except HTTPException:  # of the application around this one: a body too slow
            raise
        except Exception:
            log.exception("a request failed", extra={"path": scope["path"]})
            response = error_response(500, "something went wrong here; it has been logged")
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        resource = self._resource
        identity = request.path_params.get("identity", "")
        operations = _ONE if identity else _ALL
        methods = [method for method, each in operations.items() if each in resource.allowed]
        if request.method == "OPTIONS":
            return Response(status_code=204, headers={"Allow": ", ".join((*methods, "OPTIONS"))})
        operation = operations.get(request.method)
        if operation is None or operation not in resource.allowed:
            allow = ", ".join((*methods, "OPTIONS"))
            raise Refused(405, f"{request.method} is not possible here; {allow} are", Allow=allow)
        caller = getattr(request.state, "caller", None)
        if caller is None:
            raise Refused(401, "a request needs an access token", WWW_Authenticate="Bearer")
        needed = resource.allowed[operation]
        if not any(scope in caller.scopes for scope in needed):
            scopes = " or ".join(needed)
            raise Refused(
                403,
                f"the access token does not have the scope {scopes}",
                code="insufficientScope",
                WWW_Authenticate=f'Bearer error="insufficient_scope", scope="{" ".join(needed)}"',
            )
        accept = request.headers.get("accept", "")
        if accept.replace(" ", "").lower() not in _ACCEPTED and best(accept, ["application/json"]) is None:
            raise Refused(406, "answers are application/json")
        asked = Asked(self._shared, self._api, self._base, self._dialect, request, caller, resource, identity)
        return await _ANSWERS[operation](asked)


def _refusal(refused: Refused) -> Response:
    return error_response(refused.status, str(refused), code=refused.code, headers=refused.headers)
