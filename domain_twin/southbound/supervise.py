"""Keeps one device mirrored: connect, subscribe, and again after a loss. Owns retries; reads no data.

Back-off is exponential with jitter (0.2 to 10 s), so that a domain's devices do not come back in step after
an outage. Wrong credentials and refusals do not mend themselves: they are retried slowly, and said at once.
"""

from __future__ import annotations

import logging
import math
import time
from asyncio import sleep
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from random import Random
from typing import Protocol, cast

from domain_twin.errors import CredentialError, TwinError, Unreachable
from domain_twin.model import Connection, DeviceStatus, Sync, UpdateBatch
from domain_twin.southbound.base import SouthboundSession

log = logging.getLogger(__name__)

DOUBT_S = 30.0
"""For so long after a device was heard, its refusal of credentials is taken for a broken path."""

__all__ = ["BackOff", "Mirror", "supervise"]


STEADY_S = 2.0
"""A session that was complete for so long is no flapping one: the next attempt comes soon."""


class Mirror(SouthboundSession, Protocol):
    """A session that can be closed."""

    async def close(self) -> None:
        """End the session and free what it holds."""
        ...


class BackOff:
    """Waiting times in seconds: between half and all of 0.2, 0.4, 0.8 … 10."""

    def __init__(
        self, rng: Random, *, first_s: float = 0.2, longest_s: float = 10.0, slow_s: float = 15.0
    ) -> None:
        self._rng = rng
        self._first_s = first_s
        self._longest_s = longest_s
        self._slow_s = slow_s
        self._attempt = 0

    def reset(self) -> None:
        """The session was complete: start from the shortest time again."""
        self._attempt = 0

    def wait_s(self, *, transient: bool) -> float:
        """How long to wait before the next attempt."""
        if not transient:
            return self._rng.uniform(0.5, 1.0) * self._slow_s
        limit = min(self._longest_s, self._first_s * 2.0 ** min(self._attempt, 16))
        self._attempt += 1
        return self._rng.uniform(0.5, 1.0) * limit


async def supervise(
    name: str,
    open_session: Callable[[], Mirror],
    paths: Sequence[str],
    *,
    protocol: str,
    address: str = "",
    back_off: BackOff | None = None,
    reconnects: int = 0,
    steady_s: float = STEADY_S,
    wait: Callable[[float], Awaitable[None]] = sleep,
) -> AsyncIterator[UpdateBatch | DeviceStatus]:
    """All batches of a device for as long as it is iterated, and its status whenever that changes.

    STALE comes right after a loss, with the problem in words; SYNCHRONISED right after the END of a resync.
    Ends only where a session ends by itself, as a replay does. Never raises for a device's failure.
    `reconnects` is how often it was connected anew before. The waits between attempts start anew after a
    session that was complete for `steady_s`: one that syncs and breaks at once is tried ever less often.
    """
    back_off = back_off or BackOff(Random())
    received_at = updates = 0
    heard = -math.inf  # monotonic
    problem = ""

    def status(connection: Connection) -> DeviceStatus:
        return DeviceStatus(
            name=name,
            protocol=protocol,
            connection=connection,
            address=address,
            received_at=received_at,
            updates=updates,
            reconnects=reconnects,
            problem=problem,
        )

    while True:
        complete_at = math.inf
        yield status(Connection.CONNECTING)
        transient = True
        session = open_session()
        try:
            async with aclosing(cast("AsyncGenerator[UpdateBatch]", session.subscribe(paths))) as stream:
                async for batch in stream:
                    received_at = batch.received_at
                    heard = time.monotonic()
                    updates += len(batch.updates)
                    if batch.sync is Sync.BEGIN:
                        yield status(Connection.SYNCHRONISING)
                    yield batch
                    if batch.sync is Sync.END:
                        problem = ""
                        complete_at = time.monotonic()
                        yield status(Connection.SYNCHRONISED)
                return
        except Unreachable as error:
            problem = str(error)
        except TwinError as error:
            # These credentials just did: a path that breaks handshakes is likelier than a change.
            transient = isinstance(error, CredentialError) and time.monotonic() - heard < DOUBT_S
            problem = str(error)
            level = logging.ERROR if isinstance(error, CredentialError) else logging.WARNING
            log.log(level, "device refused", extra={"device": name, "reason": problem})
        except Exception as error:  # what a device sends must not end its mirror
            transient = False
            problem = f"device {name}: internal error: {error!r}"
            log.exception("session failed", extra={"device": name})
        finally:
            await _close(name, session)
        if time.monotonic() - complete_at >= steady_s:
            back_off.reset()
        yield status(Connection.STALE)
        wait_s = back_off.wait_s(transient=transient)
        log.info("reconnecting", extra={"device": name, "wait_s": round(wait_s, 2), "reason": problem})
        await wait(wait_s)
        reconnects += 1


async def _close(name: str, session: Mirror) -> None:
    try:
        await session.close()
    except Exception:  # the next session does not depend on how this one ended
        log.exception("session did not close", extra={"device": name})
