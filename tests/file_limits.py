"""A full disk, for what this process writes; and the wait for what comes of it."""

from __future__ import annotations

import asyncio
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager

__all__ = ["full_disk", "until"]


@contextmanager
def full_disk(octets: int) -> Iterator[None]:
    """No file of this process grows beyond so many octets."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (octets, hard))  # Python ignores SIGXFSZ: writes raise EFBIG
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def until(true: Callable[[], object]) -> None:
    """Wait until something holds; fails after a minute."""
    async with asyncio.timeout(60):
        while not true():  # noqa: ASYNC110 - nobody tells of it
            await asyncio.sleep(0.02)
