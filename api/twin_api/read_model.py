"""What the HTTP face reads: every tenant's records in memory, fed by the broker's stream. Decides nothing.

Reads are asked here and nowhere else, always of one tenant: there is no question across tenants. The model
says how old it is; until the broker has sent everything once there is nothing to read.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from domain_twin.errors import Unreachable
from federation.partners.record import PUBLIC, Kind, News, Record
from twin_api.shelf import Entry, Shelf

__all__ = ["ReadModel"]

Present = Callable[[Record], dict[str, Any]]


@dataclass(slots=True)
class _Copy:
    """All records as far as they came; `gone`: the sequence at which a record was removed."""

    shelves: dict[tuple[str, Kind], Shelf] = field(default_factory=dict)
    gone: dict[tuple[str, Kind, str], int] = field(default_factory=dict)


class ReadModel:
    """The records of all tenants. For one event loop; nothing in it waits but `newer`."""

    def __init__(self, present: Present, *, clock: Callable[[], float] = time.monotonic) -> None:
        """`present` makes of a record the document that clients see."""
        self.present = present
        """What makes documents of records."""
        self._clock = clock
        self._serving: _Copy | None = None
        self._coming: _Copy | None = _Copy()
        self._heard_at: float | None = None
        self._changed = asyncio.Event()
        self.on_news: Callable[[News], None] = lambda _: None
        """Told what the stream sent, after it was taken."""
        self.epoch = ""
        self.sequence = 0
        """Of the last change that the stream has sent."""
        self._tenants: frozenset[str] | None = None  # None: the broker has not said

    @property
    def complete(self) -> bool:
        """Whether the broker has sent everything once."""
        return self._serving is not None

    def age_s(self) -> float:
        """Seconds since the broker was last heard. Infinite before."""
        return float("inf") if self._heard_at is None else max(0.0, self._clock() - self._heard_at)

    def serves(self, tenant: str) -> bool:
        """Whether the broker serves a partner; True as long as it has not said whom it serves."""
        return self._tenants is None or tenant in self._tenants

    def shelf(self, tenant: str, kind: Kind) -> Shelf:
        """What a tenant sees of a kind: its own, and what the operator publishes. Raises Unreachable."""
        if self._serving is None:
            raise Unreachable("the broker has not sent the records yet; ask again in a moment")
        return self._shelf(self._serving, tenant, kind)

    def get(self, tenant: str, kind: Kind, identity: str) -> Entry | None:
        """One resource as a tenant sees it; None: for this tenant there is none. Raises Unreachable."""
        return self.shelf(tenant, kind).get(identity)

    def apply(self, record: Record) -> None:
        """Take the answer to a command: the newer of it and of what the stream sent stays."""
        for copy in (self._serving, self._coming):
            if copy is not None:
                self._put(copy, record)
        self._tell()

    def remove(self, tenant: str, kind: Kind, identity: str, sequence: int) -> None:
        """Forget a record that was removed at that sequence."""
        self.apply(Record(tenant, kind, identity, 0, sequence, {}, 0))

    def resume(self) -> tuple[int, str]:
        """Where to follow from: (sequence, epoch). What a broken stream had half sent is forgotten."""
        self._coming = None if self._serving is not None else _Copy()
        return self.sequence, self.epoch

    def begin_anew(self) -> None:
        """All records follow: the old ones are read until the new ones are complete."""
        self._coming = _Copy()

    def take(self, news: News) -> None:
        """What the stream sent."""
        if news.begins_anew:
            self._tenants = news.tenants
            self.begin_anew()
        fed = self._coming if self._coming is not None else self._serving
        for record in news.records:
            if fed is not None:
                self._put(fed, record)
        if news.complete:
            if self._coming is not None:
                self._serving, self._coming = self._coming, None
            self.epoch, self.sequence = news.epoch, news.sequence
            self._forget_removals()
        self._heard_at = self._clock()
        self._tell()
        self.on_news(news)

    async def newer(self, tenant: str, kind: Kind, identity: str, *, than: int, within_s: float) -> bool:
        """Wait until another version of a record than that is here; False: none came in time."""
        try:
            async with asyncio.timeout(within_s):
                while (
                    entry := self.get(tenant, kind, identity)
                ) is not None and entry.record.version <= than:
                    await self._changed.wait()
        except TimeoutError:
            return False
        return True

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _shelf(self, copy: _Copy, tenant: str, kind: Kind) -> Shelf:
        found = copy.shelves.get((tenant, kind))
        if found is None:
            found = Shelf()
            if tenant != PUBLIC and (public := copy.shelves.get((PUBLIC, kind))) is not None:
                for entry in public.entries().values():
                    found.put(entry)
            copy.shelves[tenant, kind] = found
        return found

    def _put(self, copy: _Copy, record: Record) -> None:
        name = (record.tenant, record.kind, record.id)
        shelf = self._shelf(copy, record.tenant, record.kind)
        held = shelf.get(record.id)
        if held is not None and held.record.tenant != record.tenant:
            held = None  # a public one of the same id
        known = max(held.record.sequence if held else -1, copy.gone.get(name, -1))
        if record.sequence <= known:
            return
        if record.body:
            copy.gone.pop(name, None)
            self._show(copy, record, Entry(record, self.present))
        else:
            copy.gone[name] = record.sequence
            self._hide(copy, record)

    def _show(self, copy: _Copy, record: Record, entry: Entry) -> None:
        self._shelf(copy, record.tenant, record.kind).put(entry)
        if record.tenant == PUBLIC:
            for (tenant, kind), shelf in copy.shelves.items():
                if kind == record.kind and tenant != PUBLIC and not _own(shelf, tenant, record.id):
                    shelf.put(entry)

    def _hide(self, copy: _Copy, record: Record) -> None:
        if record.tenant != PUBLIC:
            self._shelf(copy, record.tenant, record.kind).drop(record.id)
            public = copy.shelves.get((PUBLIC, record.kind))
            if public is not None and (entry := public.get(record.id)) is not None:
                self._shelf(copy, record.tenant, record.kind).put(entry)
            return
        for (tenant, kind), shelf in copy.shelves.items():
            if kind == record.kind and not _own(shelf, tenant, record.id):
                shelf.drop(record.id)

    def _forget_removals(self) -> None:
        """The stream has sent what came before: nothing older than these can come any more."""
        if self._serving is not None and self._serving.gone:
            self._serving.gone = {name: at for name, at in self._serving.gone.items() if at > self.sequence}


def _own(shelf: Shelf, tenant: str, identity: str) -> bool:
    entry = shelf.get(identity)
    return entry is not None and tenant != PUBLIC and entry.record.tenant == tenant
