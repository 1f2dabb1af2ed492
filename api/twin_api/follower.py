"""Keeps a read model fed from the broker's stream, connecting again for as long as it runs."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final, Protocol

from domain_twin.errors import TwinError
from federation.partners.record import News
from twin_api.read_model import ReadModel

__all__ = ["Followed", "keep_fed"]

log = logging.getLogger(__name__)

_FIRST_PAUSE_S: Final = 0.2
_LONGEST_PAUSE_S: Final = 5.0
_SILENCE_S: Final = 10.0


class Followed(Protocol):
    """Where records come from: a `PartnersClient`."""

    def follow(self, after: int = 0, epoch: str = "") -> AsyncGenerator[News, None]:
        """All records, or what changed since, then every change. Raises TwinError."""


async def keep_fed(model: ReadModel, source: Followed, *, silence_s: float = _SILENCE_S) -> None:
    """Follow until cancelled; a stream that says nothing for `silence_s` is given up (a heartbeat is 1 s)."""
    pause_s = _FIRST_PAUSE_S
    while True:
        after, epoch = model.resume()
        try:
            pause_s = await _follow(model, source, after, epoch, silence_s) or pause_s
            reason = "the stream ended"
        except TwinError as error:
            reason = str(error)
        except TimeoutError:
            reason = f"nothing was heard for {silence_s:g} s"
        log.warning(
            "the broker's records cannot be followed", extra={"reason": reason, "again_in_s": pause_s}
        )
        await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))
        pause_s = min(_LONGEST_PAUSE_S, pause_s * 2)


async def _follow(model: ReadModel, source: Followed, after: int, epoch: str, silence_s: float) -> float:
    """Follow one stream to its end; the pause after it, once something was heard."""
    pause_s = 0.0
    async with aclosing(source.follow(after, epoch)) as news_of:
        while True:
            async with asyncio.timeout(silence_s):
                news = await anext(news_of, None)
            if news is None:
                return pause_s
            model.take(news)
            pause_s = _FIRST_PAUSE_S
