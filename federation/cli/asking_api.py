"""One question to the service APIs and back, as a partner. Owns waiting on the screen, and short ids."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from twin_api.client import Document, PartnerClient

__all__ = ["ask_api", "collected", "gone_by", "resolve", "waiting"]

T = TypeVar("T")
D = TypeVar("D", bound="Document")
_SHORTEST = 4


def ask_api(api: str, question: Callable[[PartnerClient], Awaitable[T]], doing: str) -> T:
    """Ask the api that the profile `api` names. `doing` is shown while it takes long.

    Raises what it answers with: an ApiError, or NotFound where there is no profile.
    """
    from federation.cli.asking import patiently

    async def session() -> T:
        from twin_api.client import PartnerClient

        async with PartnerClient.connect(api) as partner:
            return await question(partner)

    return asyncio.run(patiently(session(), doing))


async def collected(found: AsyncIterator[D], most: int = 0) -> list[D]:
    """All of a collection, or the first `most`."""
    kept: list[D] = []
    async for each in found:
        kept.append(each)
        if most and len(kept) >= most:
            break
    return kept


async def resolve(
    identity: str, get: Callable[[str], Awaitable[D]], every: Callable[[], AsyncIterator[D]], what: str
) -> D:
    """The one with this id, this name, or an id that begins so. Raises NotFound, also where several fit."""
    from domain_twin.errors import NotFound
    from twin_api.client import ApiError

    try:
        return await get(identity)
    except ApiError as error:
        if error.status != 404:
            raise
        refused = error
    fitting = []
    async for each in every():
        if each.name == identity or (len(identity) >= _SHORTEST and each.id.startswith(identity)):
            fitting.append(each)
    living = [each for each in fitting if not getattr(each, "ended", False)] or fitting
    if len(living) > 1:
        named = ", ".join(each.id for each in living[:5])
        raise NotFound(f"{identity!r} is the name of {len(living)} {what}s: {named}; give the id of one")
    if not living:
        raise refused
    return await get(living[0].id)


@contextlib.contextmanager
def waiting(first: str) -> Iterator[Callable[[str], None]]:
    """A line on stderr that says what is waited for; without a terminal, nothing."""
    from federation.cli.console import err

    if not err().is_terminal:
        yield lambda _: None
        return
    from rich.markup import escape

    with err().status(f"{escape(first)} …") as status:
        yield lambda words: status.update(f"{escape(words)} …")


def gone_by(moment: str) -> str:
    """How long ago an ISO 8601 time was; empty where there is none."""
    from datetime import UTC, datetime

    from federation.cli.console import age

    try:
        at = datetime.fromisoformat(moment)
    except ValueError:
        return ""
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return age(int(at.timestamp() * 1e9))
