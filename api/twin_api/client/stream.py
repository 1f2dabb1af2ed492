"""Server-sent events as they come (HTML Living Standard 9.2.6): octets in, frames out. Knows no connection.

Only what ends a line there ends one here, and no event is taken that is larger than the api keeps one.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import Final

from twin_api.client.errors import ApiError

__all__ = ["MAX_EVENT", "Frame", "frames"]

MAX_EVENT: Final = 8 << 20
"""Octets of one event."""
_END = re.compile(rb"\r\n|\n|\r")


@dataclass(frozen=True, slots=True)
class Frame:
    """What stood between two blank lines; without `data` it is no event, and its id counts nevertheless."""

    event: str = ""
    data: str = ""
    id: str = ""
    retry_s: float | None = None
    """So long is to be waited before coming back, where it says so."""


async def frames(pieces: AsyncIterator[bytes]) -> AsyncGenerator[Frame, None]:
    """The frames of a stream; what was cut off at its end is none. Raises ApiError for one without end."""
    event, data, identity, size = "", list[str](), "", 0
    retry_s: float | None = None
    async for line in _lines(pieces):
        size += len(line) + 1
        if size > MAX_EVENT:
            raise ApiError(200, "malformed", f"an event of the stream is larger than {MAX_EVENT} octets")
        if not line:
            yield Frame(event, "\n".join(data), identity, retry_s)
            event, data, identity, size, retry_s = "", [], "", 0, None
            continue
        name, _, value = line.decode("utf-8", "replace").partition(":")
        value = value.removeprefix(" ")
        match name:
            case "event":
                event = value
            case "data":
                data.append(value)
            case "id" if "\0" not in value:
                identity = value
            case "retry" if value.isascii() and value.isdecimal() and len(value) < 10:
                retry_s = int(value) / 1000


async def _lines(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    rest, after_return, first = b"", False, True
    async for piece in pieces:
        new = piece[1:] if after_return and piece[:1] == b"\n" else piece
        after_return = piece[-1:] == b"\r" if piece else after_return
        *whole, rest = _END.split(rest + new)
        for line in whole:
            yield line.removeprefix(b"\xef\xbb\xbf") if first else line
            first = False
        if len(rest) > MAX_EVENT:
            raise ApiError(200, "malformed", f"an event of the stream is larger than {MAX_EVENT} octets")
