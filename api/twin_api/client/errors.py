"""What the api answers instead of what was asked for. Owns the reading of TMF630's error body."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from domain_twin.errors import TwinError, Unreachable

__all__ = ["ApiError", "NoAnswer", "error_of"]

_SHORT = 200


class ApiError(TwinError):
    """The api refused: `status` of HTTP, `code`, `reason` and `message` of the body (TMF630)."""

    def __init__(
        self, status: int, code: str, reason: str, message: str = "", *, retry_after_s: float = 0.0
    ) -> None:
        self.status = status
        self.code = code
        self.reason = reason
        self.message = message
        self.retry_after_s = retry_after_s
        super().__init__(
            message if message and reason in message else ": ".join(filter(None, (reason, message)))
        )


class NoAnswer(ApiError, Unreachable):
    """No answer came within the time, or nothing listens: `status` is 0, and asking again may help."""

    def __init__(self, what: str) -> None:
        super().__init__(0, "unreachable", what)


def error_of(status: int, data: bytes, *, asked: str, retry_after: str = "") -> ApiError:
    """The error that a response stands for; also where its body is not TMF630's."""
    body: Any = None
    with contextlib.suppress(ValueError):
        body = json.loads(data)
    if not isinstance(body, dict):
        text = data[:_SHORT].decode(errors="replace").strip()
        body = {"reason": f"{asked}: HTTP {status}", "message": text}
    wait_s = float(retry_after) if retry_after.isdecimal() else 0.0
    return ApiError(
        status,
        str(body.get("code") or ""),
        str(body.get("reason") or f"{asked}: HTTP {status}"),
        str(body.get("message") or ""),
        retry_after_s=wait_s,
    )
