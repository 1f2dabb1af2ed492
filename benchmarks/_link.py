"""A link with a rate and a delay: a TCP proxy as a process, `python _link.py HOST:PORT MBIT_S RTT_MS`.

Prints the port it listens on. Each direction is paced to the rate, delayed by half the round trip, and holds
no more than what is under way and a router's buffer of 30 ms: whoever sends faster has to wait.
"""

from __future__ import annotations

import asyncio
import socket
import sys
import time

_PIECE = 8 << 10
_BUFFER_S = 0.030


class Link:
    """Both directions of every connection share nothing but the figures."""

    def __init__(self, target: str, mbit_s: float, rtt_ms: float) -> None:
        host, _, port = target.rpartition(":")
        self.target = (host, int(port))
        self.bytes_per_s = mbit_s * 1e6 / 8
        self.delay_s = rtt_ms / 2e3

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass one connection on until either end closes it."""
        far_reader, far_writer = await asyncio.open_connection(*self.target, limit=_PIECE)
        for stream in (writer, far_writer):
            stream.transport.set_write_buffer_limits(high=_PIECE)
            stream.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        ways = [
            asyncio.ensure_future(self._way(reader, far_writer)),
            asyncio.ensure_future(self._way(far_reader, writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            for stream in (writer, far_writer):
                stream.transport.abort()

    async def _way(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
        room = int(self.bytes_per_s * (self.delay_s + _BUFFER_S)) + _PIECE
        held = 0
        space = asyncio.Event()

        async def deliver() -> None:
            nonlocal held
            while True:
                due, data = await under_way.get()
                if (wait_s := due - time.monotonic()) > 0:
                    await asyncio.sleep(wait_s)
                sink.write(data)
                await sink.drain()
                held -= len(data)
                space.set()

        delivering = asyncio.ensure_future(deliver())
        free_at = time.monotonic()
        try:
            while data := await source.read(_PIECE):
                free_at = max(free_at, time.monotonic()) + len(data) / self.bytes_per_s
                held += len(data)
                under_way.put_nowait((free_at + self.delay_s, data))
                while held > room:
                    space.clear()
                    await space.wait()
        finally:
            delivering.cancel()


async def main(target: str, mbit_s: float, rtt_ms: float) -> None:
    """Listen until killed."""
    link = Link(target, mbit_s, rtt_ms)
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 << 10)
    server = await asyncio.start_server(link.serve, sock=listener, limit=_PIECE)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], float(sys.argv[2]), float(sys.argv[3])))
