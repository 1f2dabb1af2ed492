"""Why a question was not answered, as data: TwinError to `Refusal` and back."""

from __future__ import annotations

from domain_twin import errors
from domain_twin.errors import TwinError
from domain_twin.model import Outcome
from federation.v1 import fedtwin_pb2 as pb
from federation.wire.answers import decode_outcome

_OUTCOMES: tuple[tuple[type[TwinError], Outcome], ...] = (
    (errors.NotShared, Outcome.NOT_SHARED),
    (errors.NoPath, Outcome.NO_PATH),
    (errors.NotFound, Outcome.NO_DATA),
    (errors.OverCapacity, Outcome.OVER_CAPACITY),
    (errors.StaleVersion, Outcome.STALE_VERSION),
    (errors.Unreachable, Outcome.UNREACHABLE),
)
_CLASSES: dict[Outcome, type[TwinError]] = {outcome: kind for kind, outcome in _OUTCOMES}


_LONGEST = 2_000


def words(text: str, longest: int = _LONGEST) -> str:
    """What another side says, fit for a log and a terminal: one line, cut, no control or direction signs."""
    return "".join(sign if sign.isprintable() else " " for sign in text[:longest])


def outcome_of(error: TwinError) -> Outcome:
    """The word for an error in an answer; NO_DATA for what has no word of its own."""
    return next((outcome for kind, outcome in _OUTCOMES if isinstance(error, kind)), Outcome.NO_DATA)


def encode_refusal(error: TwinError) -> pb.Refusal:
    """An error as a message."""
    retry_after_s = getattr(error, "retry_after_s", 0.0)
    return pb.Refusal(
        outcome=outcome_of(error), reason=str(error), retry_after_ms=min(int(retry_after_s * 1000), 1 << 31)
    )


def decode_refusal(refusal: pb.Refusal, who: str) -> TwinError:
    """The error that `who` refuses with; a word that is not known here is read as NO_DATA."""
    outcome, reason = decode_outcome(refusal.outcome, refusal.reason)
    error = _CLASSES.get(outcome, errors.NotFound)(f"{who}: {words(reason) or outcome}")
    if isinstance(error, errors.OverCapacity):
        error.retry_after_s = refusal.retry_after_ms / 1000
    return error
