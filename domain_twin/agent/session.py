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
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

from domain_twin.agent.attachment import Asked, AskHandler, Attachment
from domain_twin.agent.auditor import Auditor
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
from domain_twin.model import Finding, Level, ViewDelta
from domain_twin.trust.credentials import Identity, RenewingIdentity, identity_files, load_identity
from domain_twin.trust.files import stamp
from domain_twin.trust.identity import Role

__all__ = ["AskHandler", "Asked", "BrokerSession", "Retry"]

log = logging.getLogger(__name__)

_GOODBYE_WITHIN_S = 2.0
_LASTED_S = 5.0  # a session that lasted so long resets the back-off
_LOOK_EVERY_S = 0.5  # at the files of the identity
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
        auditor: Auditor | None = None,
    ) -> None:
        """Count this start of the installation. Raises ConfigError, also where there is no [broker]."""
        if config.broker is None or config.identity is None:
            raise ConfigError("the agent's configuration has no [broker] with an [identity]; it works alone")
        self.error: TwinError | None = None
        """Why there is no session now; None while there is one."""
        self.counts = SessionCounts()
        self.on_lost: Callable[[], None] = lambda: None
        """Told when there is no session any more: not when another one took over."""
        self._config = config
        self._handler = handler
        self._on_status = on_status
        self._rng = rng or random.Random()
        self._retry = retry or Retry()
        self._auditor = auditor
        self._instance, self._incarnation = _count_start(config.state)
        self._current: Attachment | None = None
        self._renewing: RenewingIdentity | None = None
        self._fell_back = False  # to the identity before a renewal that the broker does not take
        self._wake = asyncio.Event()  # what a wait for the next try waited for may have come
        self._closing = asyncio.Event()
        self._farewell = ""

    @property
    def connected(self) -> bool:
        """Whether the broker has welcomed this agent, and the session stands."""
        return self._current is not None

    def findings(self) -> list[Finding]:
        """What a person should see of this agent's certificates."""
        return self._renewing.findings(self._config.domain) if self._renewing else []

    def signs_with(self) -> Identity | None:
        """The keys of now; None before they were read for the first time."""
        return self._renewing.current() if self._renewing else None

    async def run(self) -> None:
        """Attach, serve, and attach again, until `close`."""
        delay_s = self._retry.first_s
        async with asyncio.TaskGroup() as tasks:
            running: set[asyncio.Task[Any]] = {tasks.create_task(self._mind_files())}
            while not self._closing.is_set():
                attachment = Attachment(
                    self._config,
                    self._handler,
                    identity=self._identity,
                    instance=self._instance,
                    incarnation=self._incarnation,
                    on_attached=self._attached,
                    on_status=self._on_status,
                    counts=self.counts,
                    auditor=self._auditor,
                )
                started = time.monotonic()
                task = tasks.create_task(self._run(attachment))
                running = {other for other in running if not other.done()} | {task}
                await _first_of(attachment.over.wait(), self._closing.wait())
                if self._closing.is_set():
                    attachment.say_goodbye(self._farewell)
                    await asyncio.wait([task], timeout=_GOODBYE_WITHIN_S)
                    for other in running:
                        other.cancel()
                    return
                if attachment.reattach:
                    continue  # the old session goes on until the broker has its answers
                error = attachment.error or SessionLost("the broker ended the session")
                if self._blames_renewal(attachment, error):
                    continue
                if attachment.welcomed and time.monotonic() - started > _LASTED_S:
                    delay_s = self._retry.first_s
                slow = isinstance(error, _NEEDS_A_PERSON)
                wait_s = (self._retry.slow_s if slow else delay_s) * self._rng.uniform(0.5, 1.0)
                delay_s = min(2 * delay_s, self._retry.most_s)
                self._status(f"{error}; next try in {wait_s:.1f} s", error)
                self._wake.clear()
                await _first_of(asyncio.sleep(wait_s), self._closing.wait(), self._wake.wait())
            for other in running:
                other.cancel()

    def publish(self, delta: ViewDelta) -> None:
        """Send a change of the view, folded with those that are not sent yet; dropped when nobody watches."""
        if self._current:
            self._current.publish(delta)

    def withdraw(self, agreement: str, level: Level, error: TwinError) -> None:
        """Take a view back from the broker, with the reason that it is told."""
        if self._current:
            self._current.withdraw(agreement, level, error)

    def reattach(self, reason: str) -> None:
        """Open a new session in the place of the present one."""
        if self._current and not self._current.over.is_set():
            self._current.give_way(reason)

    async def close(self, goodbye: str) -> None:
        """Tell the broker goodbye and have `run` return."""
        self._farewell = goodbye
        self._closing.set()

    def _identity(self) -> Identity:
        """What to dial with now. Raises CredentialError."""
        assert self._config.identity
        config, domain, operator = self._config.identity, self._config.domain, self._config.operator
        if self._renewing:
            again, self._fell_back = not self._fell_back, False
            identity = self._renewing.current(again=again)
            if identity.not_after > datetime.now(UTC):
                return identity
        first = load_identity(config, operator=operator, role=Role.AGENT, name=domain)
        self._renewing = RenewingIdentity(config, first)
        return first

    def _blames_renewal(self, attachment: Attachment, error: TwinError) -> bool:
        """Whether the broker does not take a renewed identity, and the one before is still there to use."""
        refused = isinstance(error, CredentialError) and not attachment.welcomed
        self._fell_back = bool(refused and self._renewing and self._renewing.refuse(str(error)))
        return self._fell_back

    async def _mind_files(self) -> NoReturn:
        """Open a new session when the certificates are renewed, and dial at once when that was missing."""
        assert self._config.identity
        assert self._config.broker
        files = (*identity_files(self._config.identity), self._config.broker.root)
        seen = stamp(*files)
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            if (now := stamp(*files)) != seen:
                seen = now
                self._wake.set()
            if self._renewing is None:
                continue
            identity, current = self._renewing.current(), self._current
            # A broker of an earlier version would cut the old session short: it sends Reattach in time.
            if (
                current
                and current.hands_over
                and current.identity is not identity
                and not current.over.is_set()
            ):
                current.give_way("the certificates of this agent were renewed")

    def _status(self, text: str, error: TwinError | None) -> None:
        person = isinstance(error, _NEEDS_A_PERSON)
        log.log(logging.WARNING if person else logging.INFO, "broker session", extra={"status": text})
        self.error = error
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
                self._wake.set()
                self.on_lost()


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
