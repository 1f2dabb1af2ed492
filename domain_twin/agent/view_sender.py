"""Sends one view and its changes. Owns what the broker has of it and what it still lacks.

One message at a time; changes that come meanwhile are folded into one, so that memory does not grow with a
slow broker. Does no I/O of its own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import NoReturn

from domain_twin.errors import NotShared, StaleVersion, TwinError
from domain_twin.model import Level, Version, ViewDelta
from domain_twin.model.delta import fold

log = logging.getLogger(__name__)


class ViewSender:
    """The changes of one view, as one peer asked for it.

    `first` gives the deltas to begin with after a version (None: a snapshot), or raises the TwinError that
    `refuse` then gets; `send` returns when the message is being written.
    """

    def __init__(
        self,
        level: Level,
        resume_from: Version | None,
        *,
        first: Callable[[Version | None], Awaitable[list[ViewDelta]]],
        send: Callable[[ViewDelta], Awaitable[None]],
        refuse: Callable[[TwinError], None],
    ) -> None:
        self.sent = resume_from
        """The version that the peer has when all that was sent has arrived."""
        self.begun = asyncio.Event()
        """Set when the first deltas are on their way, or it is clear that there will be none."""
        self._level = level
        self._agreement = ""  # known from the first delta on
        self._first = first
        self._send = send
        self._refuse = refuse
        self._refused = False
        self._unsent: ViewDelta | None = None
        self._taken = resume_from  # what the peer has when also what is being sent has arrived
        self._end = resume_from  # of what was sent and what is waiting
        self._changed = asyncio.Event()
        self._beginning = True  # after `_taken`; what is published until it is done is part of it

    def publish(self, delta: ViewDelta) -> None:
        """Take over a change of this view; those of other views are left alone."""
        other = delta.level is not self._level or delta.agreement != (self._agreement or delta.agreement)
        if self._refused or self._beginning or other or _same(self._end, delta.target):
            return
        if delta.source is None or _same(self._end, delta.source):
            self._add([delta])
        else:
            self._begin_after(self._taken)

    def withdraw(self, agreement: str, level: Level, error: TwinError) -> None:
        """Send no more of this view, not even what is waiting, and say why; another view is left alone."""
        if self._refused or level is not self._level or self._agreement not in ("", agreement):
            return
        self._refused = True
        self._unsent, self._beginning = None, False
        self._refuse(error)

    def start_over(self) -> None:
        """The peer could not use what it got: send it all."""
        self._begin_after(None)

    async def run(self) -> NoReturn:
        """Send what is waiting, forever."""
        try:
            while True:
                delta = await self._next()
                self._taken = delta.target
                await self._send(delta)
                self.sent = delta.target
        finally:
            self.begun.set()

    async def _next(self) -> ViewDelta:
        while True:
            while self._beginning:
                await self._begin()
            self.begun.set()  # whoever waits for it goes on after what is returned now was queued
            if self._unsent is not None:
                delta, self._unsent = self._unsent, None
                return delta
            self._changed.clear()
            await self._changed.wait()

    def _begin_after(self, version: Version | None) -> None:
        self._unsent, self._taken, self._end = None, version, version
        self._beginning = not self._refused
        self._changed.set()

    async def _begin(self) -> None:
        resume_from = self._taken
        try:
            deltas = await self._first(resume_from)
        except TwinError as error:
            if not self._refused:  # it may have been withdrawn meanwhile
                self._refused = True
                self._refuse(error)
            return
        except Exception:
            log.exception("the view could not be made")
            self._refused = True
            self._refuse(NotShared("the agent failed to make this view; its log says why"))
            return
        finally:
            # Told to start over meanwhile.
            self._beginning = self._taken is not resume_from and not self._refused
        if not self._beginning and not self._refused:
            self._add(deltas)

    def _add(self, deltas: Sequence[ViewDelta]) -> None:
        if not deltas:
            return
        self._agreement = deltas[-1].agreement
        try:
            self._unsent = fold([self._unsent, *deltas] if self._unsent else deltas)
        except StaleVersion as error:
            log.warning("deltas of the view do not follow each other", extra={"reason": str(error)})
            self._begin_after(None)
            return
        self._end = self._unsent.target
        self._changed.set()


def _same(one: Version | None, other: Version) -> bool:
    return one is not None and (one.epoch, one.sequence) == (other.epoch, other.sequence)
