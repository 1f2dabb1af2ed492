"""The query processes as their owner sees them: starting, frames to and from them, changes on their way.

Owns sockets and process ids; knows no limits of questions (`workers`) and runs nothing (`query_worker`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import struct
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyoxigraph as ox

from domain_twin.errors import Unreachable
from domain_twin.semantic import query_worker
from domain_twin.semantic.names import AUTHORITY
from domain_twin.semantic.store import Batch

__all__ = ["OPERATOR", "Changes", "Keeper", "Outcome", "Worker", "chunks", "dataset_of", "quads_frame"]

OPERATOR: Final = "operator"
"""The dataset of the domain's own operator: every graph but those of views and simulations."""
_ALONE: Final = (f"{AUTHORITY}/g/view/", f"{AUTHORITY}/g/sim/")
_CHUNK: Final = 4 << 20
_SCRIPT: Final = Path(query_worker.__file__)
_ENDED_WITHIN_S: Final = 5.0


def dataset_of(graph: str) -> str:
    """The dataset that a graph belongs to: a view or simulation is one by itself, under its own name."""
    return graph if graph.startswith(_ALONE) else OPERATOR


def quads_frame(dataset: str, remove: bytes, add: bytes) -> bytes:
    """The content of a frame `B`: quads out of and into a dataset, as N-Quads."""
    name = dataset.encode()
    return struct.pack("!HI", len(name), len(remove)) + name + remove + add


def chunks(data: bytes) -> Iterator[bytes]:
    """N-Quads in pieces of whole lines."""
    start = 0
    while start < len(data):
        end = start + _CHUNK
        end = len(data) if end >= len(data) else data.rfind(b"\n", start, end) + 1
        yield data[start:end]
        start = end


class Changes:
    """Batches of the store on their way to the processes. Any thread may `take`."""

    def __init__(self, notify: Callable[[], None] = lambda: None) -> None:
        """`notify` is called when there is something again."""
        self._lock = threading.Lock()
        self._batches: list[Batch] = []
        self._notify = notify

    def __bool__(self) -> bool:
        return bool(self._batches)

    def take(self, batch: Batch) -> None:
        """A batch, in the order of the store."""
        with self._lock:
            first = not self._batches
            self._batches.append(batch)
        if first:
            self._notify()

    def frames(self) -> list[bytes]:
        """All that was taken since, as contents of frames: what one batch undid of another is left out."""
        with self._lock:
            batches, self._batches = self._batches, []
        last: dict[ox.Quad, bool] = {}
        for batch in batches:
            last.update(dict.fromkeys(batch.remove, False))
            last.update(dict.fromkeys(batch.add, True))
        split: dict[str, tuple[list[ox.Quad], list[ox.Quad]]] = {}
        for quad, there in last.items():
            name = quad.graph_name
            graph = name.value if isinstance(name, ox.NamedNode) else ""
            split.setdefault(dataset_of(graph), ([], []))[there].append(quad)
        return [
            quads_frame(
                dataset,
                ox.serialize(gone, format=ox.RdfFormat.N_QUADS) or b"",
                ox.serialize(new, format=ox.RdfFormat.N_QUADS) or b"",
            )
            for dataset, (gone, new) in split.items()
        ]


class _Stream:
    """Frames over a Unix socket, each way; what is to be sent waits here, up to a bound."""

    def __init__(self, sock: socket.socket, behind_bytes: int) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._out: deque[tuple[bytes, int]] = deque()
        self._behind_bytes = behind_bytes
        self._held_bytes = 0
        self._more = asyncio.Event()
        self._less = asyncio.Event()
        self._in = bytearray()
        self._receiving = False
        self._closed = False
        self.lost = False
        self._writing = self._loop.create_task(self._write())

    def send(self, letter: bytes, content: bytes, fd: int = -1) -> bool:
        """Put a frame in the queue; False (and lost) where too much waits already."""
        if self.lost:
            return False
        if self._held_bytes > self._behind_bytes:
            self.lost = True
            return False
        self._out.append((query_worker.HEAD.pack(letter, len(content)) + content, fd))
        self._held_bytes += len(content)
        self._more.set()
        return True

    async def room(self) -> None:
        """Wait until little of what was sent still waits."""
        while self._held_bytes > _CHUNK and not self.lost:
            self._less.clear()
            await self._less.wait()

    async def receive(self) -> tuple[bytes, bytes] | None:
        """The next frame; None at the end."""
        head = await self._exactly(query_worker.HEAD.size)
        if head is None:
            return None
        letter, length = query_worker.HEAD.unpack(head)
        content = await self._exactly(length)
        return None if content is None else (letter, content)

    def gone(self) -> bool:
        """Whether the process on the other side has ended, while nothing was asked of it."""
        try:
            return self.lost or not self._sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def close(self) -> None:
        """Let go of the socket."""
        self.lost = True
        self._writing.cancel()
        for _, fd in self._out:
            if fd >= 0:
                os.close(fd)
        self._out.clear()
        self._less.set()
        self._closed = True
        with contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_RDWR)
        if not self._receiving:  # who waits for it would never wake: that one closes it
            self._sock.close()

    async def _exactly(self, length: int) -> bytes | None:
        while len(self._in) < length:
            self._receiving = True
            try:
                piece = b"" if self._closed else await self._loop.sock_recv(self._sock, 1 << 18)
            except OSError:
                piece = b""
            finally:
                self._receiving = False
                if self._closed:
                    self._sock.close()
            if not piece:
                self.lost = True
                return None
            self._in += piece
        found = bytes(self._in[:length])
        del self._in[:length]
        return found

    async def _write(self) -> None:
        try:
            while True:
                while not self._out:
                    self._more.clear()
                    await self._more.wait()
                frame, fd = self._out.popleft()
                if fd >= 0:
                    try:
                        await self._send_with(frame, fd)
                    finally:
                        os.close(fd)
                else:
                    await self._loop.sock_sendall(self._sock, frame)
                self._held_bytes -= len(frame) - query_worker.HEAD.size
                self._less.set()
        except OSError:
            self.lost = True
            self._less.set()

    async def _send_with(self, frame: bytes, fd: int) -> None:
        """Send a small frame with a descriptor: it counts from the frame's first octet on."""
        while True:
            try:
                sent = socket.send_fds(self._sock, [frame], [fd])
            except BlockingIOError:
                writable = asyncio.Event()
                self._loop.add_writer(self._sock, writable.set)
                try:
                    await writable.wait()
                finally:
                    self._loop.remove_writer(self._sock)
                continue
            await self._loop.sock_sendall(self._sock, frame[sent:])
            return


@dataclass(slots=True)
class Outcome:
    """How a question ended in its worker. `kind`: ok, syntax, memory, engine, or died."""

    kind: str = "ok"
    stopped: str = ""
    """The limit that ended it: rows, bytes, time; empty: none."""
    message: str = ""
    overdue: bool = False
    """It was not even stopped by the kernel in time."""


class Keeper(_Stream):
    """The process that holds the copies and forks workers."""

    def __init__(self, sock: socket.socket, process: asyncio.subprocess.Process, behind_bytes: int) -> None:
        super().__init__(sock, behind_bytes)
        self._process = process
        self._behind = behind_bytes
        self._ending: dict[int, asyncio.Future[int | None]] = {}
        self._reading = self._loop.create_task(self._read())

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @classmethod
    async def start(cls, behind_bytes: int) -> Keeper:
        """Start it, empty. Raises Unreachable."""
        ours, theirs = socket.socketpair()
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-I",
                str(_SCRIPT),
                str(theirs.fileno()),
                pass_fds=(theirs.fileno(),),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
                env={"PATH": os.defpath},
                start_new_session=True,  # a Ctrl-C at the terminal is the twin's to act on
            )
        except OSError as error:
            ours.close()
            raise Unreachable(f"the graph cannot be asked: no process can be started ({error})") from error
        finally:
            theirs.close()
        return cls(ours, process, behind_bytes)

    def fork(self) -> Worker:
        """Have a worker forked that knows everything sent until now."""
        ours, theirs = socket.socketpair()
        self.send(b"F", b"", theirs.detach())
        return Worker(ours, self, self._behind)

    async def kill(self, pid: int) -> int | None:
        """End a worker; its exit status, None where the keeper itself is lost."""
        if self.lost:
            return None
        ended = self._ending.setdefault(pid, self._loop.create_future())
        self.send(b"K", str(pid).encode())
        try:
            async with asyncio.timeout(_ENDED_WITHIN_S):
                return await ended
        except TimeoutError:  # it is filling its copies; the worker's own timer ends that one
            return None
        finally:
            self._ending.pop(pid, None)

    async def stop(self) -> None:
        """End it and with it its workers."""
        self._reading.cancel()
        self.close()
        for ended in self._ending.values():
            if not ended.done():
                ended.set_result(None)
        try:
            async with asyncio.timeout(_ENDED_WITHIN_S):
                await self._process.wait()
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()

    async def _read(self) -> None:
        while frame := await self.receive():
            pid, _, status = frame[1].partition(b" ")
            ended = self._ending.get(int(pid))
            if ended is not None and not ended.done():
                ended.set_result(int(status))
        for ended in self._ending.values():
            if not ended.done():
                ended.set_result(None)


class Worker(_Stream):
    """A process that answers one question at a time, and may end in the middle of it."""

    def __init__(self, sock: socket.socket, keeper: Keeper, behind_bytes: int) -> None:
        super().__init__(sock, behind_bytes)
        self.keeper = keeper
        self.pid = 0

    async def started(self) -> None:
        """Wait until it is there. Raises OSError."""
        frame = await self.receive()
        if frame is None:
            raise OSError("the query process ended while it started")
        self.pid = int(frame[1])

    async def ask(self, content: bytes, within_s: float) -> tuple[bytes, Outcome]:
        """Put a question; what the engine wrote, and how it ended. Never raises for the worker's end."""
        pieces: list[bytes] = []
        if not self.send(b"Q", content):
            return b"", Outcome(kind="died")
        try:
            async with asyncio.timeout(within_s):
                while frame := await self.receive():
                    letter, piece = frame
                    if letter == b"D":
                        pieces.append(piece)
                    elif letter == b"E":
                        return b"".join(pieces), Outcome(stopped=json.loads(piece)["stopped"])
                    else:
                        wrong = json.loads(piece)
                        return b"", Outcome(kind=wrong["kind"], message=wrong["message"])
        except TimeoutError:
            return b"".join(pieces), Outcome(kind="died", overdue=True)
        return b"".join(pieces), Outcome(kind="died")
