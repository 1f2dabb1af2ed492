"""The one body that every error has, and which status an error of the product becomes."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final

from starlette.responses import Response

from domain_twin.errors import (
    Conflict,
    ContractError,
    CredentialError,
    NotFound,
    NotShared,
    OverCapacity,
    StaleVersion,
    TwinError,
    Unreachable,
)
from twin_api.shelf import encode

__all__ = ["JSON", "Refused", "error_body", "error_response", "refusal_of"]

JSON: Final = "application/json;charset=utf-8"
_REASONS: Final = {
    400: "Bad request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not found",
    405: "Method not allowed",
    406: "Not acceptable",
    409: "Conflict",
    411: "Length required",
    412: "Precondition failed",
    413: "Content too large",
    414: "URI too long",
    415: "Unsupported media type",
    429: "Too many requests",
    431: "Request header fields too large",
    500: "Internal server error",
    501: "Not implemented",
    502: "Bad gateway",
    503: "Service unavailable",
    504: "Gateway timeout",
}
_CODES: Final = {
    400: "badRequest",
    401: "unauthorized",
    403: "forbidden",
    404: "notFound",
    405: "methodNotAllowed",
    406: "notAcceptable",
    409: "conflict",
    412: "preconditionFailed",
    413: "contentTooLarge",
    415: "unsupportedMediaType",
    429: "tooManyRequests",
    431: "headTooLarge",
    500: "internalError",
    503: "unavailable",
}
_MESSAGE: Final = 2000


class Refused(Exception):
    """A request that is answered by an error: its status, a code for programs, a sentence for people."""

    def __init__(self, status: int, message: str, *, code: str = "", **headers: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def error_body(status: int, message: str, code: str = "") -> dict[str, Any]:
    """The body of an error: `code` for programs, `reason` the status in words, `message` for people."""
    return {
        "@type": "Error",
        "code": code or _CODES.get(status, "error"),
        "reason": _REASONS.get(status, "Error"),
        "message": message.encode("utf-8", "replace").decode()[:_MESSAGE],
        "status": str(status),
        "referenceError": f"https://www.rfc-editor.org/rfc/rfc9110.html#status.{status}"
        if status not in (429, 431)
        else f"https://www.rfc-editor.org/rfc/rfc6585.html#section-{4 if status == 429 else 5}",
    }


def error_response(
    status: int, message: str, *, code: str = "", headers: Mapping[str, str] | None = None
) -> Response:
    """An error, for whoever answers HTTP: this engine, and the application around it."""
    return Response(
        encode(error_body(status, message, code)),
        status,
        {"content-type": JSON, "cache-control": "no-store", **(headers or {})},
    )


def refusal_of(error: TwinError, *, named_version: bool = False) -> Refused:
    """What an error of the product is in HTTP; `named_version`: the client said which version it means."""
    match error:
        case OverCapacity():
            after = str(max(1, math.ceil(error.retry_after_s)))
            return Refused(429, str(error), code="overCapacity", Retry_After=after)
        case StaleVersion():
            return Refused(412 if named_version else 409, str(error), code="staleVersion")
        case Conflict():
            return Refused(409, str(error))
        case NotFound():
            return Refused(404, str(error))
        case NotShared():
            return Refused(403, str(error), code="notShared")
        case ContractError():
            return Refused(400, str(error))
        case CredentialError():
            return Refused(502, "the broker does not take this server's credentials", code="badGateway")
        case Unreachable():  # whose words name addresses within
            return Refused(
                503, "the broker cannot be asked at present; try again in a moment", Retry_After="1"
            )
        case _:
            return Refused(500, "something went wrong here; it has been logged")
