"""The agent's session with its broker: attach, and attach again. Owns when to dial; the stream is
`attachment`'s.

What is said on it is the handler's and the pipeline's business.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import time
import uuid
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from domain_twin.agent.attachment import Asked, AskHandler, Attachment
from domain_twin.agent.session_counts import SessionCounts
from domain_twin.config import AgentConfig
from domain_twin.errors import (
    ConfigError,
    ContractError,
    CredentialError,
    NotShared,
    OverCapacity,
    SessionLost,
    TwinError,
)
from domain_twin.model import ViewDelta

__all__ = ["AskHandler", "Asked", "BrokerSession", "Retry"]

log = logging.getLogger(__name__)

_GOODBYE_WITHIN_S = 2.0
_LASTED_S = 5.0  # a session that lasted so long resets the back-off
_NEEDS_A_PERSON = (ConfigError, ContractError, CredentialError, NotShared, OverCapacity)


@dataclass(frozen=True, slots=True)
class Retry:
    """When to dial again: `first_s`, doubled up to `most_s`; `slow_s` where a person must act. Jittered."""

    first_s: float = 0.2
    most_s: float = 3.0
    slow_s: float = 30.0


class BrokerSession:
    """Keeps the agent attached to its broker. One per process; all methods are for its event loop."""

    def __init__(
        self,
        config: AgentConfig,
        handler: AskHandler,
        on_status: Callable[[str], None] = lambda _: None,
        *,
        rng: random.Random | None = None,
        retry: Retry | None = None,
    ) -> None:
        """Count this start of the installation. Raises ConfigError, also where there is no [broker]."""
        if config.broker is None or config.identity is None:
            raise ConfigError("the agent's configuration has no [broker] with an [identity]; it works alone")
        self.error: TwinError | None = None
        """Why there is no session now; None while there is one."""
        self.counts = SessionCounts()
        self._config = config
        self._handler = handler
        self._on_status = on_status
        self._rng = rng or random.Random()
        self._retry = retry or Retry()
        self._instance, self._incarnation = _count_start(config.state)
        self._current: Attachment | None = None
        self._closing = asyncio.Event()
        self._farewell = ""

    @property
    def connected(self) -> bool:
        """Whether the broker has welcomed this agent, and the session stands."""
        return self._current is not None

    async def run(self) -> None:
        """Attach, serve, and attach again, until `close`."""
        delay_s = self._retry.first_s
        async with asyncio.TaskGroup() as tasks:
            while not self._closing.is_set():
                attachment = Attachment(
                    self._config,
                    self._handler,
                    instance=self._instance,
                    incarnation=self._incarnation,
                    on_attached=self._attached,
                    on_status=self._on_status,
                    counts=self.counts,
                )
                started = time.monotonic()
                task = tasks.create_task(self._run(attachment))
                await _first_of(attachment.over.wait(), self._closing.wait())
                if self._closing.is_set():
                    attachment.say_goodbye(self._farewell)
                    await asyncio.wait([task], timeout=_GOODBYE_WITHIN_S)
                    task.cancel()
                    return
                if attachment.reattach:
                    continue  # the old session goes on until the broker has its answers
                error = attachment.error or SessionLost("the broker ended the session")
                if attachment.welcomed and time.monotonic() - started > _LASTED_S:
                    delay_s = self._retry.first_s
                slow = isinstance(error, _NEEDS_A_PERSON)
                wait_s = (self._retry.slow_s if slow else delay_s) * self._rng.uniform(0.5, 1.0)
                delay_s = min(2 * delay_s, self._retry.most_s)
                self._status(f"{error}; next try in {wait_s:.1f} s", error)
                await _first_of(asyncio.sleep(wait_s), self._closing.wait())

    def publish(self, delta: ViewDelta) -> None:
        """Send a change of the view, folded with those that are not sent yet; dropped when nobody watches."""
        if self._current:
            self._current.publish(delta)

    async def close(self, goodbye: str) -> None:
        """Tell the broker goodbye and have `run` return."""
        self._farewell = goodbye
        self._closing.set()

    def _status(self, text: str, error: TwinError | None) -> None:
        self.error = error
        log.info("broker session", extra={"status": text})
        self._on_status(text)

    def _attached(self, attachment: Attachment, text: str) -> None:
        self._current = attachment
        self.counts.sessions += 1
        self._status(text, None)

    async def _run(self, attachment: Attachment) -> None:
        try:
            await attachment.run()
        finally:
            if self._current is attachment:
                self._current = None


def _count_start(state: Path) -> tuple[str, int]:
    """The installation's instance id, and which start of it this is; kept in the state folder."""
    path = state / "instance.json"
    instance, incarnation = str(uuid.uuid4()), 0
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        instance, incarnation = str(kept["instance"]), int(kept["incarnation"])
    except FileNotFoundError:
        state.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{path}: cannot be read ({error}); delete it, the agent makes a new one"
        ) from error
    incarnation += 1
    temporary = path.with_name(f".instance.{os.getpid()}")
    temporary.write_text(json.dumps({"instance": instance, "incarnation": incarnation}), encoding="utf-8")
    temporary.replace(path)
    return instance, incarnation


async def _first_of(*waits: Coroutine[Any, Any, Any]) -> None:
    """Return when the first is done; the rest are cancelled."""
    tasks = [asyncio.ensure_future(wait) for wait in waits]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
