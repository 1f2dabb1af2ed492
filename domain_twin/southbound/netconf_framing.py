"""NETCONF over SSH framing (RFC 6242), a client's side: octets to pieces of messages and back. No I/O.

Pieces go on as they arrive, so that a message of any size is held once, as elements. What breaks the framing
or is longer than the cap raises ValueError, and the session cannot go on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

__all__ = ["Framing", "encode"]

_END = b"]]>]]>"
_HEADER = re.compile(rb"\n#(?:([1-9][0-9]{0,9})|(#))\n")
_PREFIX = re.compile(rb"(?:\n(?:#(?:#|[1-9][0-9]{0,9})?)?)?")
_LARGEST_CHUNK = 2**32 - 1  # RFC 6242 4.2


class Framing:
    """Takes octets apart; `chunked` from the message on after both sides said base:1.1."""

    def __init__(self, largest: int) -> None:
        self.chunked = False
        self._largest = largest
        self._buffer = b""
        self._missing = 0  # octets of the present chunk still to come
        self._size = 0  # octets of the present message so far

    def feed(self, octets: bytes) -> Iterator[bytes | None]:
        """Pieces of messages in order, None at the end of each. Raises ValueError."""
        self._buffer += octets
        while self._buffer:
            before = self._buffer
            if self.chunked:
                yield from self._chunked()
            else:
                yield from self._delimited()
            if self._buffer is before:
                return

    def _taken(self, count: int) -> bytes:
        piece, self._buffer = self._buffer[:count], self._buffer[count:]
        self._size += len(piece)
        if self._size > self._largest:
            raise ValueError(f"a message of more than {self._largest} octets")
        return piece

    def _delimited(self) -> Iterator[bytes | None]:
        end = self._buffer.find(_END)
        if end >= 0:
            if end:
                yield self._taken(end)
            self._buffer = self._buffer[len(_END) :]
            self._size = 0
            yield None
        elif len(self._buffer) >= len(_END):  # the last octets may be a delimiter's beginning
            yield self._taken(len(self._buffer) - len(_END) + 1)

    def _chunked(self) -> Iterator[bytes | None]:
        if self._missing:
            piece = self._taken(self._missing)
            self._missing -= len(piece)
            yield piece
            return
        header = _HEADER.match(self._buffer)
        if header is None:
            if not _PREFIX.fullmatch(self._buffer[:13]):
                raise ValueError("no chunk header where one is due (RFC 6242 4.2)")
            return
        if header[2]:
            if not self._size:
                raise ValueError("a message without a chunk (RFC 6242 4.2)")
            self._size = 0
            self._buffer = self._buffer[header.end() :]
            yield None
            return
        self._missing = int(header[1])
        if self._missing > _LARGEST_CHUNK or self._size + self._missing > self._largest:
            raise ValueError(f"a message of more than {self._largest} octets")
        self._buffer = self._buffer[header.end() :]


def encode(message: bytes, *, chunked: bool) -> bytes:
    """One message, framed."""
    if chunked:
        return b"\n#%d\n%b\n##\n" % (len(message), message)
    return message + _END
