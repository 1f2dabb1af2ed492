"""A store to try things on, opened and closed in one line."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from federation.partners.record import Kind, News, Record
from federation.partners.store import RecordStore

TENANTS = ("acme", "globex")
ORDER, SERVICE, RESOURCE = Kind.SERVICE_ORDER, Kind.SERVICE, Kind.RESOURCE
ALARM, SPECIFICATION = Kind.ALARM, Kind.SERVICE_SPECIFICATION


@asynccontextmanager
async def opened(url: str, **more: Any) -> AsyncIterator[RecordStore]:
    store = await RecordStore.open(Path("/nonexistent"), url, TENANTS, **more)
    try:
        yield store
    finally:
        await store.close()


async def state(following: Any) -> tuple[dict[tuple[str, str, str], Record], News]:
    """What a follower holds once it has all that is sent at first, and the last news of that."""
    held: dict[tuple[str, str, str], Record] = {}
    async for news in following:
        if news.begins_anew:
            held.clear()
        take(held, news)
        if news.complete:
            return held, news
    raise AssertionError("following ended")


def take(held: dict[tuple[str, str, str], Record], news: News) -> None:
    """A read model in three lines."""
    for record in news.records:
        name = (record.tenant, record.kind, record.id)
        if record.body:
            held[name] = record
        else:
            held.pop(name, None)
