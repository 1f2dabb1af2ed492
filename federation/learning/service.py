"""The broker's face to those who train: what readers see, what trainers may, what only a domain knows.

`federation.twin.access_check` has decided who may call what; this ends what outlives a certificate.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from domain_twin.errors import CredentialError, NotFound, NotShared
from domain_twin.learning.run import Run
from domain_twin.learning.store import Kept
from domain_twin.learning.task import Task
from federation.wire.learning import ElementForecast, RolledBack

if TYPE_CHECKING:
    from federation.learning.desk import LearningDesk

__all__ = ["BrokerLearning"]


class BrokerLearning:
    """Answers the Learning service's questions from the broker's desk."""

    def __init__(
        self,
        desk: LearningDesk,
        *,
        caller: Callable[[], str],
        watch_ends_at: Callable[[], datetime],
        may_train: Callable[[], bool],
    ) -> None:
        """`caller` says who asks now, `may_train` whether that one may also have models' arrays."""
        self._desk = desk
        self._caller = caller
        self._watch_ends_at = watch_ends_at
        self._may_train = may_train

    async def start(self, task: Task, domains: Sequence[str]) -> Run:
        """Take the caller's training in. Raises OverCapacity, NotFound, ConfigError, Conflict."""
        return await self._desk.start(task, domains, self._caller())

    async def run(self, identity: str) -> Run:
        """One training. Raises NotFound."""
        return self._desk.run_of(identity)

    async def runs(self) -> Sequence[Run]:
        """All trainings, newest first."""
        return self._desk.runs()

    async def watch(self, identity: str) -> AsyncIterator[Run]:
        """A training until it has ended, or the watcher's certificate. Raises NotFound, CredentialError."""
        ends_at = self._watch_ends_at()
        watching = self._desk.watch(identity)
        try:
            while True:
                left_s = (ends_at - datetime.now(UTC)).total_seconds()
                try:
                    async with asyncio.timeout(max(0.0, left_s)):
                        run = await anext(watching)
                except StopAsyncIteration:
                    return
                except TimeoutError:
                    raise CredentialError(
                        "your certificate ended while you watched; renew it and watch again"
                    ) from None
                yield run
        finally:
            await watching.aclose()  # type: ignore[attr-defined]  # it is a generator

    async def stop(self, identity: str) -> Run:
        """Have a training end without a model. Raises NotFound."""
        return await self._desk.stop(identity, self._caller())

    async def models(self, model: str) -> Sequence[Kept]:
        """Versions, newest first."""
        found = await asyncio.to_thread(self._desk.registry.store.models, model)
        return sorted(found, key=lambda kept: (-kept.card.created_at, kept.card.model, -kept.card.version))

    async def model(self, model: str, version: int, *, arrays: bool, own: bool) -> tuple[Kept, bytes]:
        """One version. Raises NotFound, also for `own`; NotShared: only who may train gets arrays."""
        if own:
            raise NotFound(
                "the broker has no history of its own: ask a domain's agent, by --at its socket, for a"
                " generator with that domain's statistics"
            )
        if not arrays:
            return await asyncio.to_thread(self._desk.registry.store.get, model, version), b""
        if not self._may_train():
            raise NotShared(
                f"{self._caller()} may see cards and not have models; have the broker's operator set learn ="
                " true under the [[access]] that names this subject"
            )
        card, data = await self._desk.registry.data(model, version)
        return self._desk.registry.store.get(model, card.version), data

    async def roll_back(self, model: str, version: int) -> RolledBack:
        """Put an earlier version back into service. Raises NotFound."""
        kept, outcomes = await self._desk.roll_back(model, version, self._caller())
        return RolledBack(kept, tuple(outcomes))

    async def forecasts(
        self, model: str, elements: Sequence[str], *, hindsight: bool
    ) -> tuple[Sequence[ElementForecast], int]:
        """Refused: raises NotShared."""
        raise NotShared(
            "what a model foretells rests on a domain's own data; ask the domain's agent, on its socket"
        )
