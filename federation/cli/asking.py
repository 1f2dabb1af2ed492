"""One question to a twin and back. Owns the connection's life and the spinner of what takes over a second."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from federation.client import TwinClient

T = TypeVar("T")
_PATIENCE_S = 0.7


def ask(at: str, question: Callable[[TwinClient], Awaitable[T]], waiting: str) -> T:
    """Connect to the twin at `at`, ask, disconnect. `waiting` is shown while it takes long.

    Raises what the twin answers with: a TwinError that names object and remedy.
    """

    async def session() -> T:
        from federation.client import TwinClient

        async with TwinClient.connect(at) as twin:
            return await question(twin)

    return asyncio.run(patiently(session(), waiting))


async def patiently(work: Awaitable[T], waiting: str) -> T:
    """Await `work`; from 0.7 s on say on stderr what is being waited for."""
    task = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait({task}, timeout=_PATIENCE_S)
        if done:
            return task.result()
        from federation.cli.console import err

        with err().status(f"{waiting} …"):
            return await task
    finally:
        task.cancel()
