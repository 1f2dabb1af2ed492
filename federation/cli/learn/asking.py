"""One question to those who train, and back. Owns the connection's life, and words that name choices."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import TYPE_CHECKING, TypeVar

import click

from domain_twin.errors import TwinError

if TYPE_CHECKING:
    from domain_twin.learning.run import Run
    from federation.learning_client import LearningClient

__all__ = ["ask", "one_of", "stop_quietly", "stopped"]

T = TypeVar("T")
_STOP_WITHIN_S = 3.0
_ENDS_WITHIN_S = 10.0


def ask(at: str, question: Callable[[LearningClient], Awaitable[T]], waiting: str) -> T:
    """Connect to the broker or agent at `at`, ask, disconnect. Raises what it answers with."""
    from federation.cli.asking import patiently

    async def session() -> T:
        from federation.learning_client import LearningClient

        async with LearningClient.connect(at) as learning:
            return await question(learning)

    return asyncio.run(patiently(session(), waiting))


def one_of(value: str, choices: type[StrEnum], option: str) -> str:
    """`value`, if it is one of `choices`. Raises BadParameter naming the option and the choices."""
    if value not in {choice.value for choice in choices}:
        known = ", ".join(choice.value for choice in choices)
        raise click.BadParameter(f"{value!r} is none of {known}", param_hint=option)
    return value


async def stopped(learning: LearningClient, identity: str) -> Run:
    """Stop a training; as it ended, or as it is after some seconds: the step under way ends first."""
    run = await learning.stop(identity)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(_ENDS_WITHIN_S):
            async for now in learning.watch(run.id):
                run = now
    return run


async def stop_quietly(learning: LearningClient, run: str) -> None:
    """Stop a training because its caller goes; says on stderr what became of it."""
    from federation.cli.console import err

    with contextlib.suppress(asyncio.CancelledError):
        try:
            async with asyncio.timeout(_STOP_WITHIN_S):
                ended = await learning.stop(run)
        except (TwinError, TimeoutError) as error:
            why = str(error) or f"no answer within {_STOP_WITHIN_S:g} s"
            err().print(f"training {run} may still run: {why}", style="warn", markup=False)
            return
        state = "stopped" if ended.state.ended else "is being stopped"
        err().print(f"training {run}: {state}", style="note", markup=False)
