"""A TCP proxy that misbehaves on demand. Owns what is wrong with a connection, not what it carries.

Every connection of the network under test passes through one of these. A random number generator decides what
is hit and when, so that a run can be repeated.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from dataclasses import dataclass
from enum import StrEnum
from random import Random

_READ = 16_384
_RESET = struct.pack("ii", 1, 0)


class Trouble(StrEnum):
    """What is wrong with a proxy's connections."""

    NONE = "none"
    REFUSE = "refuse"  # nobody listens, as far as a newcomer can tell; connections there are stay
    HOLD = "hold"  # nothing passes, nothing is lost: it arrives afterwards, as TCP repeats it
    SWALLOW = "swallow"  # connections are taken and stay silent; what was sent is lost
    THROTTLE = "throttle"
    DELAY = "delay"
    CORRUPT = "corrupt"  # one octet in some chunks is another
    TRUNCATE = "truncate"  # part of a chunk is left out, the rest goes on


@dataclass(slots=True, eq=False)
class _Connection:
    client: asyncio.StreamWriter
    device: asyncio.StreamWriter | None = None


class Proxy:
    """Listens on a port of its own and passes on to `target`, with whatever trouble is set."""

    def __init__(self, name: str, rng: Random) -> None:
        self.name = name
        self.target: tuple[str, int] = ("127.0.0.1", 0)
        self.octets = 0
        self._rng = rng
        self._trouble = Trouble.NONE
        self._changed = asyncio.Event()
        self._connections: set[_Connection] = set()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0
        self.kbit_s = 50.0
        self.delay_s = 0.2

    async def start(self) -> None:
        """Listen on any free port."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        """Stop listening and end all connections."""
        if self._server:
            self._server.close()
        self.cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def address(self) -> str:
        """host:port that clients dial."""
        return f"127.0.0.1:{self.port}"

    @property
    def connections(self) -> int:
        """How many connections pass through now."""
        return len(self._connections)

    def set(self, trouble: Trouble) -> None:
        """From now on this is wrong, with the connections there are and with new ones."""
        self._trouble = trouble
        self._changed.set()
        self._changed = asyncio.Event()

    def cut(self) -> int:
        """Reset every connection (RST) on both sides; how many there were."""
        cut = list(self._connections)
        for connection in cut:
            for writer in (connection.client, connection.device):
                if writer is not None:
                    _reset(writer)
        return len(cut)

    def half_close(self) -> int:
        """Tell one side of every connection that the other has finished sending; that one is told nothing."""
        halved = 0
        for connection in list(self._connections):
            writer = connection.client if self._rng.random() < 0.5 else connection.device
            if writer is not None and not writer.is_closing():
                with contextlib.suppress(OSError, RuntimeError):
                    writer.write_eof()
                    halved += 1
        return halved

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        connection = _Connection(writer)
        self._connections.add(connection)
        try:
            await self._serve(connection, reader)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._connections.discard(connection)
            self._tasks.discard(task)
            for each in (connection.client, connection.device):
                if each is not None:
                    _reset(each)

    async def _serve(self, connection: _Connection, reader: asyncio.StreamReader) -> None:
        _no_delay(connection.client)
        if self._trouble is Trouble.REFUSE:
            return
        while self._trouble in (Trouble.HOLD, Trouble.SWALLOW):
            await self._changed.wait()  # a SYN that nobody answers would look the same from here on
        try:
            theirs, connection.device = await asyncio.open_connection(*self.target)
        except OSError:
            return
        _no_delay(connection.device)
        pumps = [
            asyncio.create_task(self._pump(reader, connection.device)),
            asyncio.create_task(self._pump(theirs, connection.client)),
        ]
        try:
            await asyncio.gather(*pumps)
        finally:
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await self._read(reader):
            match self._trouble:
                case Trouble.SWALLOW:
                    continue
                case Trouble.THROTTLE:
                    await self._or_change(len(data) * 8 / (self.kbit_s * 1000))
                case Trouble.DELAY:
                    await self._or_change(self.delay_s * self._rng.uniform(0.2, 1.8))
                case Trouble.CORRUPT if self._rng.random() < 0.5:
                    damaged = bytearray(data)
                    damaged[self._rng.randrange(len(data))] ^= self._rng.randrange(1, 256)
                    data = bytes(damaged)
                case Trouble.TRUNCATE if self._rng.random() < 0.5:
                    data = data[: self._rng.randrange(len(data))]
            while self._trouble is Trouble.HOLD:
                await self._changed.wait()
            self.octets += len(data)
            writer.write(data)
            await writer.drain()
        if not writer.is_closing():
            with contextlib.suppress(OSError, RuntimeError):
                writer.write_eof()

    async def _read(self, reader: asyncio.StreamReader) -> bytes:
        size = max(64, int(self.kbit_s * 1000 / 8 / 10)) if self._trouble is Trouble.THROTTLE else _READ
        return await reader.read(size)

    async def _or_change(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._changed.wait()


def _no_delay(writer: asyncio.StreamWriter) -> None:
    writer.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _reset(writer: asyncio.StreamWriter) -> None:
    if not writer.is_closing():
        with contextlib.suppress(OSError):
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()
