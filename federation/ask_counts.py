"""What became of the broker's asks, and how long they took. Owns counters; knows no question."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from domain_twin.errors import TwinError
from domain_twin.operations.instruments import Distribution
from federation.wire.refusals import outcome_of

__all__ = ["AskCounts", "counted"]

P = ParamSpec("P")
T = TypeVar("T")


class AskCounts:
    """Counters over all sessions of a broker; they only grow."""

    def __init__(self) -> None:
        self.asks: Counter[tuple[str, str, str]] = Counter()
        """By domain, kind of question and outcome: `ok`, `cancelled`, `failed`, or the refusal's word."""
        self.latency: dict[str, Distribution] = {}
        """Seconds from question to answer or refusal, by domain."""

    def note(self, domain: str, action: str, outcome: str, seconds: float) -> None:
        """Count one ask."""
        self.asks[domain, action, outcome] += 1
        self.latency.setdefault(domain, Distribution()).observe(seconds)


class _Asker(Protocol):
    domain: str
    asks: AskCounts


S = TypeVar("S", bound=_Asker)


def counted(
    ask: Callable[Concatenate[S, Any, P], Coroutine[Any, Any, T]],
) -> Callable[Concatenate[S, Any, P], Coroutine[Any, Any, T]]:
    """Count each call of a session's `ask`, by the kind of its body."""

    @wraps(ask)
    async def measured(session: S, body: Any, /, *rest: P.args, **options: P.kwargs) -> T:
        action = type(body).__name__.removesuffix("Ask").lower()
        began, outcome = time.monotonic(), "cancelled"
        try:
            answer = await ask(session, body, *rest, **options)
            outcome = "ok"
            return answer
        except TwinError as error:
            outcome = outcome_of(error).value
            raise
        except Exception:
            outcome = "failed"
            raise
        finally:
            session.asks.note(session.domain, action, outcome, time.monotonic() - began)

    return measured
