"""NETCONF over SSH framing (RFC 6242): octets to messages and back. No I/O."""

import re

END_OF_MESSAGE = b"]]>]]>"
MAXIMUM_MESSAGE = 4 * 1024 * 1024
"""Longest message a device takes, in octets."""

_CHUNK = re.compile(rb"\n#([1-9][0-9]{0,9})\n")
_LONGEST_HEADER = len(b"\n#4294967295\n")


class FramingError(ValueError):
    """The peer breaks the framing; the session cannot go on."""


class MessageTooBig(FramingError):
    """A message is longer than the device takes."""


class Decoder:
    """Takes octets as they come and gives whole messages; `chunked` once both sides said base:1.1."""

    def __init__(self, maximum: int = MAXIMUM_MESSAGE):
        self.chunked = False
        self._maximum = maximum
        self._buffer = bytearray()
        self._message = bytearray()
        self._missing = 0  # octets of the present chunk still to come
        self._searched = 0

    def feed(self, octets: bytes) -> None:
        """Take in what arrived."""
        self._buffer += octets

    def next_message(self) -> bytes | None:
        """The next whole message, or None until more arrives. Raises FramingError."""
        message = self._next_chunked() if self.chunked else self._next_delimited()
        if (
            message is None
            and len(self._message) + (0 if self.chunked else len(self._buffer)) > self._maximum
        ):
            raise MessageTooBig(f"a message of more than {self._maximum} octets")
        return message

    def _next_delimited(self) -> bytes | None:
        end = self._buffer.find(END_OF_MESSAGE, self._searched)
        if end < 0:
            self._searched = max(0, len(self._buffer) - len(END_OF_MESSAGE))
            return None
        if end > self._maximum:
            raise MessageTooBig(f"a message of more than {self._maximum} octets")
        message = bytes(self._buffer[:end])
        del self._buffer[: end + len(END_OF_MESSAGE)]
        self._searched = 0
        return message

    def _next_chunked(self) -> bytes | None:
        while True:
            if self._missing:
                taken = self._buffer[: self._missing]
                if not taken:
                    return None
                del self._buffer[: len(taken)]
                self._message += taken
                self._missing -= len(taken)
                if len(self._message) > self._maximum:
                    raise MessageTooBig(f"a message of more than {self._maximum} octets")
                continue
            if self._buffer.startswith(b"\n##\n"):
                if not self._message:
                    raise FramingError("a message without a chunk (RFC 6242 4.2)")
                del self._buffer[:4]
                message = bytes(self._message)
                self._message.clear()
                return message
            header = _CHUNK.match(self._buffer)
            if header is None:
                if len(self._buffer) >= _LONGEST_HEADER or not _may_become_header(bytes(self._buffer)):
                    raise FramingError("no chunk header where one is due (RFC 6242 4.2)")
                return None
            self._missing = int(header[1])
            del self._buffer[: header.end()]


def encode(message: bytes, chunked: bool) -> bytes:
    """One message, framed."""
    if chunked:
        return b"\n#%d\n%b\n##\n" % (len(message), message)
    return message + END_OF_MESSAGE


def _may_become_header(start: bytes) -> bool:
    return b"\n##\n".startswith(start) or re.fullmatch(rb"\n?|\n#([1-9][0-9]{0,9})?", start) is not None
