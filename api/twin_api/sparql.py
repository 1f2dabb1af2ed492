"""The SPARQL 1.1 protocol in front of a twin: GET, POST of a form, POST of a query. Owns HTTP's words for it.

Read-only: updates are refused, and so is a dataset of the asker's choice (`default-graph-uri`, FROM): what is
asked is what the twin shows this client. What a limit cut, and which domains are missing, is told in headers.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol
from urllib.parse import parse_qsl

from fastapi import APIRouter, Request
from fastapi.responses import Response

from domain_twin.errors import (
    ContractError,
    CredentialError,
    NoPath,
    NotFound,
    NotShared,
    OverCapacity,
    TwinError,
    Unreachable,
)
from domain_twin.model import Outcome
from domain_twin.model.query import QueryForm, Require
from domain_twin.semantic.tokens import tokens
from federation.wire.questions import QueryReply
from twin_api.description import DESCRIPTIONS, describe
from twin_api.negotiation import best, parameters

__all__ = ["MAX_BODY", "Asked", "respond", "router", "status_of"]

log = logging.getLogger(__name__)

MAX_BODY: Final = 256 << 10
_OWN: Final = frozenset(("query", "require", "view", "max-rows", "timeout-s"))
_DATASET: Final = frozenset(("default-graph-uri", "named-graph-uri"))
_UPDATE: Final = frozenset(("update", "using-graph-uri", "using-named-graph-uri"))
_ROWS: Final = {
    "application/sparql-results+json": "json",
    "application/json": "json",
    "application/sparql-results+xml": "xml",
    "application/xml": "xml",
    "text/xml": "xml",
    "text/csv": "csv",
    "text/tab-separated-values": "tsv",
}
_TRUTH: Final = {name: form for name, form in _ROWS.items() if form in ("json", "xml")}
_TRIPLES: Final = {
    "text/turtle": "turtle",
    "application/n-triples": "n-triples",
    "application/ld+json": "json-ld",
    "application/json": "json-ld",
    "text/plain": "n-triples",
}
_OFFERED: Final = {
    QueryForm.BINDINGS: _ROWS,
    QueryForm.BOOLEAN: _TRUTH,
    QueryForm.TRIPLES: _TRIPLES,
}
_NO_UPDATE = "updates are not accepted: the twin follows its devices, and nobody changes it by SPARQL"
_FORMS: Final = {"ASK": QueryForm.BOOLEAN, "CONSTRUCT": QueryForm.TRIPLES}


class Asked(Protocol):
    """Who answers: a `TwinClient`."""

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
        """The answer to a query. Raises TwinError."""


class _Refused(Exception):
    """What the protocol has a status for, and a sentence for the asker."""

    def __init__(self, status: int, sentence: str, **headers: str) -> None:
        super().__init__(sentence)
        self.status = status
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


@dataclass(frozen=True, slots=True)
class _Question:
    query: str
    require: Require | None = None
    view: str = ""
    max_rows: int = 0
    timeout_s: float = 0.0


def router(twin: Asked) -> APIRouter:
    """The routes of the protocol, at `/sparql`."""
    routes = APIRouter()

    @routes.api_route("/sparql", methods=["GET", "POST", "HEAD"], summary="SPARQL 1.1 protocol")
    @routes.api_route("/sparql/", methods=["GET", "POST", "HEAD"], include_in_schema=False)
    async def sparql(request: Request) -> Response:
        """Answer a query: `query` in the address or a form, or a body of application/sparql-query.

        Without a query: the service description.
        """
        return await respond(twin, request)

    return routes


async def respond(twin: Asked, request: Request, endpoint: str = "", *, stranger: bool = False) -> Response:
    """Answer one request of the protocol; `endpoint`: its own address, else the one it was asked by.

    A `stranger` is not told why the twin could not be asked: only the log names addresses and processes.
    """
    try:
        return await _answer(twin, request, endpoint)
    except _Refused as refusal:
        return _text(refusal.status, str(refusal), refusal.headers)
    except TwinError as error:
        status, sentence = status_of(error), str(error)
        if stranger and status >= 500:
            log.warning("twin not asked", extra={"reason": sentence})
            sentence = "the twin cannot be asked at present; try again later"
        return _text(status, sentence, {"Retry-After": "1"} if status == 503 else {})


def status_of(error: TwinError) -> int:
    """The HTTP status that says what an error is."""
    kinds: Sequence[tuple[type[TwinError], int]] = (
        (ContractError, 400),
        (NotShared, 403),
        (NotFound, 404),
        (NoPath, 404),
        (OverCapacity, 503),
        (CredentialError, 502),
        (Unreachable, 503),
    )
    return next((status for kind, status in kinds if isinstance(error, kind)), 500)


async def _answer(twin: Asked, request: Request, endpoint: str) -> Response:
    accept = request.headers.get("accept", "")
    question = await _question(request)
    if question is None:
        media_type = best(accept, list(DESCRIPTIONS))
        if media_type is None:
            raise _Refused(406, f"the service description is there as {', '.join(DESCRIPTIONS)}")
        endpoint = endpoint or str(request.url.replace(query="", fragment="")).rstrip("/")
        return Response(describe(endpoint, media_type), media_type=media_type)
    form = _form(question.query)
    offered = _OFFERED[form]
    wanted = best(accept, list(offered))
    if wanted is None:
        raise _Refused(
            406, f"an answer of this form is there as {', '.join(offered)}; none of them is accepted"
        )
    reply = await twin.query(
        question.query,
        format=offered[wanted],
        max_rows=question.max_rows,
        timeout_s=question.timeout_s,
        require=question.require,
        view=question.view,
    )
    content_type = f"{wanted}; charset=utf-8" if wanted.startswith("text/") else wanted
    return Response(reply.data, headers=_headers(reply) | {"content-type": content_type})


def _form(query: str) -> QueryForm:
    """What the query answers with. Raises ContractError where it cannot even be read."""
    words = tokens(query)
    return _FORMS.get(words[0].text.upper() if words else "", QueryForm.BINDINGS)


async def _question(request: Request) -> _Question | None:
    """What is asked; None: for the service's description. Raises _Refused."""
    given = _pairs(request.url.query.encode())
    if request.method == "POST":
        kind, details = parameters(request.headers.get("content-type", ""))
        if details.get("charset", "utf-8").lower().replace("_", "-") not in ("utf-8", "utf8"):
            raise _Refused(415, f"charset {details['charset']}: queries are in UTF-8")
        match kind:
            case "application/x-www-form-urlencoded":
                given += _pairs(await _body(request))
            case "application/sparql-query":
                if any(name == "query" for name, _ in given):
                    raise _Refused(400, "a query stands in the address and one in the body; send one")
                given.append(("query", _decoded(await _body(request))))
            case "application/sparql-update":
                raise _Refused(415, _NO_UPDATE)
            case _:
                raise _Refused(
                    415,
                    f"Content-Type {kind or 'is missing'}: POST `query` in a form (as"
                    " application/x-www-form-urlencoded), or a query as application/sparql-query",
                )
    if not given and request.method != "POST":
        return None
    return _read(given)


def _read(given: Sequence[tuple[str, str]]) -> _Question:
    names = [name for name, _ in given]
    for name in names:
        if name in _DATASET:
            raise _Refused(
                400, f"{name} is refused: which graphs are asked is decided by who asks, not by the query"
            )
        if name in _UPDATE:
            raise _Refused(400, f"{name}: {_NO_UPDATE}")
        if name not in _OWN:
            raise _Refused(400, f"parameter {name!r} is unknown; there are {', '.join(sorted(_OWN))}")
        if names.count(name) > 1:
            raise _Refused(400, f"{name} is given {names.count(name)} times; give it once")
    values = dict(given)
    if "query" not in values:
        raise _Refused(400, "no query is given; pass it as the parameter `query`")
    try:
        require = Require(values["require"]) if values.get("require") else None
        max_rows = int(values.get("max-rows", "0"))
        timeout_s = float(values.get("timeout-s", "0"))
        if max_rows < 0 or not 0.0 <= timeout_s < 3600.0:
            raise ValueError
    except ValueError:
        raise _Refused(
            400,
            "require is `all` or `best-effort`; max-rows and timeout-s are numbers, 0: as the twin has it",
        ) from None
    return _Question(values["query"], require, values.get("view", ""), max_rows, timeout_s)


def _pairs(encoded: bytes) -> list[tuple[str, str]]:
    try:
        text = encoded.decode("ascii")
        return parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=32, encoding="utf-8")
    except ValueError:
        raise _Refused(400, "the parameters are not percent-encoded UTF-8") from None


def _decoded(body: bytes) -> str:
    try:
        return body.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _Refused(400, f"the query is not UTF-8 (octet {error.start})") from None


async def _body(request: Request) -> bytes:
    """The body, bounded. Raises _Refused."""
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > MAX_BODY:
            raise _Refused(413, f"a request has at most {MAX_BODY} bytes")
    return bytes(body)


def _headers(reply: QueryReply) -> dict[str, str]:
    """What the answer's body has no place for: why it is not complete, and how much it is."""
    missing = [part for part in reply.parts if part.outcome is not Outcome.OK]
    headers = {"Fedtwin-Rows": str(reply.rows)}
    if reply.stopped_by:
        headers["Fedtwin-Stopped-By"] = _line(reply.stopped_by)
    if missing:
        told = "; ".join(f"{part.domain}: {part.outcome} ({part.reason})" for part in missing)
        headers["Fedtwin-Missing"] = _line(told)
    return headers


def _line(text: str) -> str:
    """Text as a header's value: one line of ASCII, no longer than servers and proxies take."""
    return " ".join(text.split()).encode("ascii", "replace").decode()[:1000]


def _text(status: int, sentence: str, headers: dict[str, str]) -> Response:
    return Response(
        f"{sentence}\n".encode(),
        status_code=status,
        headers={"content-type": "text/plain; charset=utf-8", **headers},
    )
