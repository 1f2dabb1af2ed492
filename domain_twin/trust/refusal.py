"""A TwinError as a gRPC status and back, so that the sentence and the class survive the wire."""

from __future__ import annotations

from typing import Any, NoReturn

import grpc

from domain_twin import errors
from domain_twin.errors import TwinError

_CLASS_KEY = "fedtwin-error"
_MAX_SENTENCE = 1000  # a gRPC status travels in one HTTP/2 header

_CODES: tuple[tuple[type[TwinError], grpc.StatusCode], ...] = (
    (errors.CredentialError, grpc.StatusCode.UNAUTHENTICATED),
    (errors.NotShared, grpc.StatusCode.PERMISSION_DENIED),
    (errors.NotFound, grpc.StatusCode.NOT_FOUND),
    (errors.NoPath, grpc.StatusCode.NOT_FOUND),
    (errors.OverCapacity, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (errors.StaleVersion, grpc.StatusCode.ABORTED),
    (errors.Conflict, grpc.StatusCode.FAILED_PRECONDITION),
    (errors.ContractError, grpc.StatusCode.INVALID_ARGUMENT),
    (errors.ConfigError, grpc.StatusCode.FAILED_PRECONDITION),
    (errors.Unreachable, grpc.StatusCode.UNAVAILABLE),
    (TwinError, grpc.StatusCode.FAILED_PRECONDITION),
)
_CLASSES: dict[grpc.StatusCode, type[TwinError]] = {
    grpc.StatusCode.UNAUTHENTICATED: errors.CredentialError,
    grpc.StatusCode.PERMISSION_DENIED: errors.NotShared,
    grpc.StatusCode.NOT_FOUND: errors.NotFound,
    grpc.StatusCode.RESOURCE_EXHAUSTED: errors.OverCapacity,
    grpc.StatusCode.ABORTED: errors.StaleVersion,
    grpc.StatusCode.INVALID_ARGUMENT: errors.ContractError,
}


async def refuse(context: Any, error: TwinError) -> NoReturn:
    """End the call behind `context` (a grpc.aio.ServicerContext) with `error`."""
    code = next(code for kind, code in _CODES if isinstance(error, kind))
    await context.abort(code, str(error)[:_MAX_SENTENCE], ((_CLASS_KEY, type(error).__name__),))
    raise AssertionError("abort does not return")


def error_of(failure: grpc.aio.AioRpcError, peer: str) -> TwinError:
    """The TwinError that ended a call to `peer`; what no handler said is Unreachable."""
    metadata = dict(failure.trailing_metadata() or ())
    name = str(metadata.get(_CLASS_KEY, ""))
    kind = getattr(errors, name, None) if name in errors.__all__ else None
    sentence = failure.details() or failure.code().name.lower().replace("_", " ")
    if isinstance(kind, type) and issubclass(kind, TwinError):
        return kind(sentence)
    if failure.code() is grpc.StatusCode.UNIMPLEMENTED:
        return errors.ContractError(
            f"{peer}: does not know this question: it is of an earlier version of fedtwin; have it updated"
        )
    return _CLASSES.get(failure.code(), errors.Unreachable)(f"{peer}: {sentence}")
