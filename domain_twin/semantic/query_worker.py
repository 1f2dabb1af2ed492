"""The processes that run queries: one keeps the copies, and forks those that ask them. Run as a file.

The keeper takes in quads and runs no query, so nothing ever ends it in the middle of something. A worker is a
fork of it: it shares the keeper's memory, follows the changes by itself, and may be killed at any time; a
fresh one is milliseconds away, however large the graph. Imports nothing of this product: it starts in a tenth
of a second, and there is no secret in its memory.

A worker can open nothing: no file, no socket (RLIMIT_NOFILE). Its questions have been guarded before; this
holds when that did not. At a question's time limit the kernel ends it (ITIMER_REAL), at its memory limit the
allocator.

Frames: a letter, four octets of length (big endian), content. To the keeper: `B` changes of a dataset, `F`
fork (with the worker's socket), `K` end a worker. From it: `E` a worker's exit status. To a worker: `B`, `Q`
a question. From it: `P` its process id, then for each question `D` pieces of the answer and `E` its end, or
`X` what was wrong.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
import struct
import sys
import time
from typing import Any

import pyoxigraph as ox

HEAD = struct.Struct("!cI")
_BATCH = struct.Struct("!HI")
_PIECE = 65_536
_SEND_AFTER_S = 0.05
_ROW_ENDS = b'},{"'  # in a string of JSON the quote is escaped: this is between two rows and nowhere else
_SOCKET_FD = 3
_MEMORY_FD = 4
_GRACE_S = 0.05


class Stop(Exception):
    """A limit is reached; the word says which."""


class Copies:
    """The datasets of this process."""

    def __init__(self) -> None:
        self.stores: dict[str, ox.Store] = {}

    def change(self, content: bytes) -> None:
        """Take in one batch: of a dataset, quads out and in, as N-Quads.

        The default graph is kept as the merge of all: the engine's own union counts a triple that stands in
        two graphs twice.
        """
        name_length, removed = _BATCH.unpack_from(content)
        start = _BATCH.size + name_length
        name = content[_BATCH.size : start].decode()
        store = self.stores.get(name)
        if store is None:
            store = self.stores[name] = ox.Store()
        merged = ox.DefaultGraph()
        for quad in ox.parse(content[start : start + removed], format=ox.RdfFormat.N_QUADS):
            store.remove(quad)
            subject, predicate, value = quad.triple
            others = store.quads_for_pattern(subject, predicate, value, None)
            if all(other.graph_name == merged for other in others):
                store.remove(ox.Quad(subject, predicate, value))
        added = content[start + removed :]
        store.load(added, format=ox.RdfFormat.N_QUADS)
        triples = [line.rsplit(b" ", 2)[0] for line in added.splitlines()]  # the graph is the last term
        store.load(b" .\n".join((*triples, b"")), format=ox.RdfFormat.N_TRIPLES)


class Stream:
    """Frames over a socket; with a frame may come a file descriptor."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.fds: list[int] = []

    def receive(self) -> tuple[bytes, bytes] | None:
        """The next frame; None at the end."""
        head = self._exactly(HEAD.size)
        if head is None:
            return None
        letter, length = HEAD.unpack(head)
        content = self._exactly(length) if length else b""
        return None if content is None else (letter, content)

    def send(self, letter: bytes, content: bytes) -> None:
        """Send a frame."""
        self.sock.sendall(HEAD.pack(letter, len(content)))
        self.sock.sendall(content)

    def _exactly(self, length: int) -> bytes | None:
        pieces = []
        while length:
            piece, fds, _, _ = socket.recv_fds(self.sock, min(length, 1 << 20), 1)
            self.fds += fds
            if not piece:
                return None
            pieces.append(piece)
            length -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


class Output:
    """Where the engine writes an answer: counts, and stops it at a limit."""

    def __init__(self, stream: Stream, question: dict[str, Any], started: float) -> None:
        self.stream = stream
        self.mark = b"\n" if question["form"] == "triples" else _ROW_ENDS
        # A mark ends a line, and stands between rows.
        self.most_marks = int(question["max_rows"]) - (question["form"] != "triples")
        self.room = int(question["max_bytes"])
        self.until = started + float(question["timeout_s"])
        self.marks = 0
        self.tail = b""
        self.stopped = False
        self.held = bytearray()
        self.sent_at = started

    def write(self, piece: bytes) -> int:
        """Take a piece of the answer. Raises Stop."""
        if self.stopped:  # the engine's buffer is emptied once more when it is let go
            return len(piece)
        self.room -= len(piece)
        self.marks += (self.tail + piece).count(self.mark) - self.tail.count(self.mark)
        self.tail = bytes(piece[-len(self.mark) + 1 :]) if len(self.mark) > 1 else b""
        self.held += piece
        now = time.monotonic()
        if len(self.held) >= _PIECE or now - self.sent_at > _SEND_AFTER_S:
            self.flush()
            self.sent_at = now
        for limit, reached in (
            ("rows", self.marks > self.most_marks),
            ("bytes", self.room < 0),
            ("time", now > self.until),
        ):
            if reached:
                self.stopped = True
                raise Stop(limit)
        return len(piece)

    def flush(self) -> None:
        """Send what is held."""
        if self.held:
            self.stream.send(b"D", bytes(self.held))
            self.held.clear()


def answer(copies: Copies, stream: Stream, content: bytes) -> None:
    """Answer one question, to the end or to a limit."""
    (length,) = struct.unpack_from("!I", content)
    question = json.loads(content[4 : 4 + length])
    started = time.monotonic()
    wrong: dict[str, str] = {}
    stopped = ""
    _limit_memory(question["memory_bytes"])
    # Where the engine is busy and writes nothing, the kernel ends this process, and a new one is forked.
    signal.setitimer(signal.ITIMER_REAL, question["timeout_s"] + _GRACE_S)
    try:
        _evaluate(copies, question, content[4 + length :], Output(stream, question, started))
    except Stop as stop:
        stopped = str(stop)
    except (SyntaxError, ValueError) as error:
        wrong = {"kind": "syntax", "message": str(error)}
    except MemoryError:
        wrong = {"kind": "memory", "message": ""}
    except ConnectionError:
        raise
    except Exception as error:
        wrong = {"kind": "engine", "message": f"{type(error).__name__}: {error}"}
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        _limit_memory(0)
    if wrong:
        stream.send(b"X", json.dumps({**wrong, "message": wrong["message"][:1000]}).encode())
    else:
        stream.send(b"E", json.dumps({"stopped": stopped, "took_s": time.monotonic() - started}).encode())


def _evaluate(copies: Copies, question: dict[str, Any], data: bytes, output: Output) -> None:
    """Run the query over what the asker may see, and nothing else. Raises Stop, SyntaxError, MemoryError."""
    store = copies.stores.get(question["dataset"])
    if data or store is None:
        store = ox.Store()
        store.load(data, format=ox.RdfFormat.N_QUADS)
    try:
        if question["default"] is None:
            found = store.query(question["text"])
        else:
            # These override FROM and GRAPH: even a text that passed the guard by mistake sees no more.
            default = [ox.NamedNode(name) for name in question["default"]]
            found = store.query(question["text"], default_graph=default, named_graphs=[])  # type: ignore[arg-type]
        if isinstance(found, ox.QueryTriples):
            found.serialize(output, format=ox.RdfFormat.N_TRIPLES)  # type: ignore[arg-type]
        else:
            found.serialize(output, format=ox.QueryResultsFormat.JSON)  # type: ignore[arg-type]
    finally:
        output.flush()


def _limit_memory(more: int) -> None:
    """Let this process grow by so many bytes; 0: by any."""
    limit = resource.RLIM_INFINITY
    if more:
        try:
            limit = int(os.pread(_MEMORY_FD, 64, 0).split()[0]) * resource.getpagesize() + more
        except OSError:  # no /proc here: the time limit alone holds
            return
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))


def work(copies: Copies, fd: int) -> None:
    """Be a worker: answer questions on the socket `fd` until it ends."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    os.dup2(fd, _SOCKET_FD)
    os.closerange(_MEMORY_FD, 4096)
    with contextlib.suppress(OSError):
        memory = os.open("/proc/self/statm", os.O_RDONLY)  # the lowest free one: _MEMORY_FD
        assert memory == _MEMORY_FD
    resource.setrlimit(resource.RLIMIT_NOFILE, (_MEMORY_FD + 1, _MEMORY_FD + 1))  # from here on nothing opens
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    stream = Stream(socket.socket(fileno=_SOCKET_FD))
    stream.send(b"P", str(os.getpid()).encode())
    while frame := stream.receive():
        letter, content = frame
        if letter == b"B":
            copies.change(content)
        else:
            answer(copies, stream, content)


def keep(fd: int) -> None:
    """Be the keeper: hold the copies, fork workers and end them, until the socket ends."""
    stream = Stream(socket.socket(fileno=fd))
    copies = Copies()
    children: set[int] = set()
    try:
        while frame := stream.receive():
            letter, content = frame
            if letter == b"B":
                copies.change(content)
            elif letter == b"F":
                theirs = stream.fds.pop(0)
                child = os.fork()
                if child == 0:
                    children = set()
                    with contextlib.suppress(OSError):
                        work(copies, theirs)
                    os._exit(0)
                os.close(theirs)
                children.add(child)
            elif letter == b"K":
                child = int(content)
                if child in children:
                    children.discard(child)
                    os.kill(child, signal.SIGKILL)
                    _, status = os.waitpid(child, 0)
                    stream.send(b"E", f"{child} {os.waitstatus_to_exitcode(status)}".encode())
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)


if __name__ == "__main__":
    with contextlib.suppress(OSError):
        keep(int(sys.argv[1]))
