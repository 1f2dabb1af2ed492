"""The partners' side of a broker from its start to its end: opens the store, puts the desks to work, closes.

A database that cannot be reached or written when the broker starts costs the partners their service and the
federation nothing: it is told, and tried again. What no waiting mends (another broker, a newer schema, a
damaged file) ends the start.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from domain_twin.config import BrokerConfig
from domain_twin.errors import ConfigError, NotFound, OverCapacity, Unreachable
from federation.partners.assemble import Surroundings, assemble, open_store
from federation.partners.deliveries import Deliveries
from federation.partners.hubs import Hubs
from federation.partners.partners import Partners
from federation.partners.record import Kind
from federation.partners.store import RecordStore

__all__ = ["Reception"]

log = logging.getLogger(__name__)

AGAIN_S = 5.0


class Reception:
    """Has `partners` once the store is open. `open` first, then `run` until the end, then `close`."""

    def __init__(self, config: BrokerConfig, *, on_problem: Callable[[str], None]) -> None:
        """`on_problem` is told in words why nothing is kept at present; empty when all is well again."""
        self._config = config
        self._on_problem = on_problem
        self._store: RecordStore | None = None
        self._partners: Partners | None = None
        self.problem = ""
        """Why nothing is kept at present."""

    @property
    def wanted(self) -> bool:
        """Whether this broker is to have partners."""
        return bool(self._config.partner)

    @property
    def partners(self) -> Partners:
        """Who takes in what partners ask. Raises NotFound where there are none, Unreachable while closed."""
        if not self.wanted:
            raise NotFound("this broker serves no partners; have its operator add [[partner]] to broker.toml")
        if self._partners is None:
            raise Unreachable(self.problem or "the broker is starting; ask again in a moment")
        return self._partners

    @property
    def deliveries(self) -> Deliveries | None:
        """What brings events to partners; None while there are none to bring."""
        desk = self._partners.desks.get(Kind.HUB) if self._partners else None
        return desk.deliveries if isinstance(desk, Hubs) else None

    async def open(self, surroundings: Callable[[RecordStore], Surroundings]) -> None:
        """Open the store and put the desks to work, if that can be now. Raises ConfigError.

        `surroundings` says, of an open store, what the desks have around them.
        """
        if not self.wanted:
            return
        try:
            self._store = store = await open_store(self._config)
        except (Unreachable, OverCapacity) as error:
            self._note(str(error))
            return
        store.on_problem = self._note
        self._partners = assemble(surroundings(store))
        self._partners.begin()
        self._note("")

    async def run(self, surroundings: Callable[[RecordStore], Surroundings]) -> None:
        """Open what could not be opened, then keep the desks at work, until cancelled."""
        while self._partners is None:
            await asyncio.sleep(AGAIN_S)
            try:
                await self.open(surroundings)
            except ConfigError as error:  # it is too late to refuse the start
                self._note(str(error))
        await self._partners.run()

    def end_following(self) -> None:
        """End all following: the broker is about to stop."""
        if self._store:
            self._store.end_following()

    async def close(self) -> None:
        """Write what waits and let go of the database."""
        if self._store:
            await self._store.close()

    def _note(self, problem: str) -> None:
        if problem == self.problem:
            return
        self.problem = problem
        if problem and self._partners is None:
            log.error("no partners are served yet", extra={"reason": problem})
        self._on_problem(problem)
