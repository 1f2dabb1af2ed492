"""One end of a session's stream: what leaves in which order, and how large things are cut and put together.

Two lanes go out: control messages first, then bulk, at most two messages deep. What is larger than a chunk
travels in chunks, and no more of them are under way than the receiver gave credit for: so a ping never waits
behind more than one window. Every size is checked before it is written: a message over gRPC's cap would end
the stream, and all unrelated asks on it. Knows nothing of what the messages mean.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from domain_twin.errors import ContractError, OverCapacity, TwinError
from federation.v1 import fedtwin_pb2 as pb

__all__ = [
    "CONTRACT_VERSIONS",
    "MAX_ANSWER_BYTES",
    "MAX_ASK_BYTES",
    "MAX_HELD_BYTES",
    "MAX_VIEW_BYTES",
    "STREAM_OPTIONS",
    "VIEW_TRANSFER",
    "Framing",
    "Inbox",
    "Limits",
    "Outbox",
    "Window",
]

M = TypeVar("M")

CONTRACT_VERSIONS = (1,)
"""Versions of the contract that this software speaks, best first."""

MAX_ANSWER_BYTES = 64 << 20
MAX_ASK_BYTES = 16 << 20
MAX_VIEW_BYTES = 64 << 20
MAX_HELD_BYTES = 192 << 20
"""Of transfers that are not complete, over a whole session."""
VIEW_TRANSFER = 1 << 63
"""Set in the id of a transfer that carries a view; all others are the ids of their asks."""

_LARGE = 16 << 10  # a message from this size on waits in the bulk lane
_BULK_DEPTH = 2
_MAX_WAITING = 512  # control messages; so many wait only for a peer that does not read

STREAM_OPTIONS: list[tuple[str, int]] = [
    ("grpc.max_receive_message_length", 1 << 20),
    ("grpc.max_send_message_length", -1),  # checked here, before it would cost the stream
    ("grpc.max_allowed_incoming_connections", 1024),  # of a server; those in their handshake count
    ("grpc.server_handshake_timeout_ms", 10_000),
    ("grpc.so_reuseport", 0),  # a port in use is an error, not a second listener
    ("grpc.enable_http_proxy", 0),  # a session is dialled directly, whatever the environment says of the web
]
"""Arguments of the server and of the channels that carry sessions."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What the broker sets for a session, in WelcomeTerms."""

    chunk_bytes: int = 256 << 10
    window_bytes: int = 1 << 20
    max_in_flight: int = 16
    max_message_bytes: int = 1 << 20

    def __post_init__(self) -> None:
        """Raises ContractError for limits that no session could work with."""
        if not (
            1 << 10 <= self.chunk_bytes <= self.window_bytes
            and self.chunk_bytes + 1024 <= self.max_message_bytes <= 1 << 20
            and 1 <= self.max_in_flight <= 1024
        ):
            raise ContractError(
                f"limits of a session: {self} cannot work; a chunk fits the window and a message, a message"
                " has at most 1 MiB"
            )


class Outbox(Generic[M]):
    """What waits to be written. `get` is for one writer; all the rest may be called by many."""

    def __init__(self, credit: Callable[[int], M], max_message_bytes: int) -> None:
        self._credit = credit
        self._max_message_bytes = max_message_bytes
        self._granted = 0
        self._control: deque[tuple[M | None, asyncio.Future[None] | None]] = deque()  # None: the grant
        self._bulk: deque[tuple[M, asyncio.Future[None]]] = deque()
        self._bulk_places = asyncio.Semaphore(_BULK_DEPTH)
        self._ready = asyncio.Event()
        self._closed: TwinError | None = None

    def __len__(self) -> int:
        return len(self._control) + len(self._bulk)

    def put(self, message: M) -> None:
        """Queue a control message. Raises OverCapacity when it is too large or the peer does not read."""
        self._check(message)
        if len(self._control) >= _MAX_WAITING:
            raise OverCapacity(f"{_MAX_WAITING} messages wait for a peer that does not read; try again later")
        self._control.append((message, None))
        self._ready.set()

    async def send(self, message: M, *, bulk: bool) -> None:
        """Queue a message and return when the writer has taken it; what is put afterwards comes after it."""
        self._check(message)
        if not bulk:
            taken = asyncio.get_running_loop().create_future()
            self._control.append((message, taken))
            self._ready.set()
            await taken
            return
        async with self._bulk_places:
            self._check(message)
            taken = asyncio.get_running_loop().create_future()
            self._bulk.append((message, taken))
            self._ready.set()
            await taken

    def grant(self, size: int) -> None:
        """Let the peer send so many bytes more; grants that wait are added up."""
        if not self._granted:
            self._control.append((None, None))  # takes its turn: neither lane may starve the other
            self._ready.set()
        self._granted += size

    def close(self, error: TwinError) -> None:
        """Have everything that waits, and whatever comes later, fail with `error`."""
        self._closed = error
        for _, taken in (*self._control, *self._bulk):
            if taken and not taken.done():
                taken.set_exception(error)
        self._control.clear()
        self._bulk.clear()

    async def get(self) -> M:
        """The next message to write."""
        while True:
            if self._control or self._bulk:
                message, taken = (self._control or self._bulk).popleft()
                if taken and not taken.done():
                    taken.set_result(None)
                if message is not None:
                    return message
                size, self._granted = self._granted, 0
                return self._credit(size)
            self._ready.clear()
            await self._ready.wait()

    def _check(self, message: Any) -> None:
        if self._closed:
            raise self._closed
        if (size := message.ByteSize()) > self._max_message_bytes:
            raise OverCapacity(
                f"a message of {size} bytes does not fit: {self._max_message_bytes} are accepted; ask for"
                " less"
            )


class Window:
    """Bytes of chunks that the peer will take now."""

    def __init__(self, size: int) -> None:
        self._size = self._left = size
        self._changed = asyncio.Event()
        self._closed: TwinError | None = None
        self._waiters = 0
        self._waiting_since = 0.0  # monotonic seconds; of the last credit where that is later

    @property
    def starved_s(self) -> float:
        """For how long somebody has been waiting and no credit came."""
        return time.monotonic() - self._waiting_since if self._waiters else 0.0

    async def take(self, size: int) -> None:
        """Wait for credit for `size` bytes, and use it. Raises what the window was closed with."""
        if not self._waiters:
            self._waiting_since = time.monotonic()
        self._waiters += 1
        try:
            while self._left < size and not self._closed:
                self._changed.clear()
                await self._changed.wait()
        finally:
            self._waiters -= 1
        if self._closed:
            raise self._closed
        self._left -= size

    def close(self, error: TwinError) -> None:
        """Have everything that waits, and whatever comes later, fail with `error`."""
        self._closed = error
        self._changed.set()

    def give(self, size: int) -> None:
        """The peer has room for so many bytes more. Raises ContractError for more than the window."""
        if not 0 < size <= self._size - self._left:
            raise ContractError(
                f"credit for {size} bytes came where {self._size - self._left} were under way"
            )
        self._left += size
        self._waiting_since = time.monotonic()
        self._changed.set()


@dataclass(slots=True)
class _Incoming:
    limit: int
    data: bytearray  # not a list of pieces: a peer that sends byte by byte costs no more than another
    digest: Any


class Inbox:
    """Transfers that are coming in. `allow` says how large one may get; 0: nobody waits for it.

    All of them together hold at most `max_held` bytes; of views only the last one that was begun.
    """

    def __init__(
        self, limits: Limits, allow: Callable[[int], int], *, max_held: int = MAX_HELD_BYTES
    ) -> None:
        self.bytes_received = 0
        self.bytes_dropped = 0
        self.bytes_held = 0
        self._limits = limits
        self._allow = allow
        self._max_held = max_held
        self._open: dict[int, _Incoming] = {}

    def add(self, chunk: pb.Chunk) -> bool:
        """Keep one chunk; False when its transfer outgrew its limit and was dropped. Raises ContractError."""
        size = len(chunk.data)
        if not 0 < size <= self._limits.chunk_bytes:
            raise ContractError(f"a chunk of {size} bytes came; 1 to {self._limits.chunk_bytes} are accepted")
        self.bytes_received += size
        transfer = self._open.get(chunk.transfer_id)
        if transfer is None:
            if not (limit := self._allow(chunk.transfer_id)):
                self.bytes_dropped += size
                return True
            if len(self._open) > 2 * self._limits.max_in_flight:
                raise ContractError(
                    f"more than {2 * self._limits.max_in_flight} transfers were begun at once"
                )
            if chunk.transfer_id & VIEW_TRANSFER:  # views come one after another: this one was given up
                for other in [other for other in self._open if other & VIEW_TRANSFER]:
                    self.drop(other)
            transfer = self._open[chunk.transfer_id] = _Incoming(limit, bytearray(), hashlib.sha256())
        if len(transfer.data) + size > transfer.limit or self.bytes_held + size > self._max_held:
            self.drop(chunk.transfer_id)
            return False
        transfer.data += chunk.data
        transfer.digest.update(chunk.data)
        self.bytes_held += size
        return True

    def take(self, transfer: pb.Transfer) -> bytes:
        """The bytes of a finished transfer. Raises ContractError when they are not what was announced."""
        incoming = self._open.get(transfer.transfer_id)
        self.drop(transfer.transfer_id)
        if incoming is None or len(incoming.data) != transfer.bytes:
            got = len(incoming.data) if incoming else 0
            raise ContractError(
                f"transfer {transfer.transfer_id}: {transfer.bytes} bytes were announced and {got} came"
            )
        if incoming.digest.digest() != transfer.sha256:
            raise ContractError(
                f"transfer {transfer.transfer_id}: its bytes do not have the announced SHA-256"
            )
        return bytes(incoming.data)

    def drop(self, transfer_id: int) -> None:
        """Forget what came of a transfer."""
        if incoming := self._open.pop(transfer_id, None):
            self.bytes_held -= len(incoming.data)


class Framing:
    """Lanes, credit and transfers of one end; `envelope` is the message type that this end writes."""

    def __init__(self, envelope: Any, limits: Limits, allow: Callable[[int], int]) -> None:
        self.limits = limits
        self.inbox = Inbox(limits, allow)
        self._envelope = envelope
        self._outbox: Outbox[Any] = Outbox(
            lambda size: envelope(credit=pb.Credit(bytes=size)), limits.max_message_bytes
        )
        self._window = Window(limits.window_bytes)
        self._writing_since: float | None = None

    @property
    def stuck_s(self) -> float:
        """For how long the peer has taken nothing: one message is being written, or no credit came."""
        writing = 0.0 if self._writing_since is None else time.monotonic() - self._writing_since
        return max(writing, self._window.starved_s)

    @property
    def waiting(self) -> int:
        """Messages that wait to be written."""
        return len(self._outbox)

    def post(self, **body: Any) -> None:
        """Queue a small message. Raises OverCapacity."""
        self._outbox.put(self._envelope(**body))

    async def submit(self, **body: Any) -> None:
        """Queue a message of any size below a chunk's; a small one at once. Raises OverCapacity."""
        message = self._envelope(**body)
        if message.ByteSize() < _LARGE:
            self._outbox.put(message)
        else:
            await self._outbox.send(message, bulk=True)

    async def send(self, **body: Any) -> None:
        """Queue a message of any size below a chunk's, and return when it is being written."""
        message = self._envelope(**body)
        await self._outbox.send(message, bulk=message.ByteSize() >= _LARGE)

    async def send_after_chunks(self, **body: Any) -> None:
        """Queue the message that refers to a transfer, in the chunks' lane: it must not overtake them."""
        await self._outbox.send(self._envelope(**body), bulk=True)

    async def transfer(self, transfer_id: int, payload: bytes) -> pb.Transfer:
        """Send `payload` in chunks, as fast as the peer gives credit; returns what refers to it."""
        digest = hashlib.sha256()
        step = self.limits.chunk_bytes
        for start in range(0, len(payload), step):
            data = payload[start : start + step]
            digest.update(data)
            await self._window.take(len(data))
            chunk = pb.Chunk(transfer_id=transfer_id, data=data)
            await self._outbox.send(self._envelope(chunk=chunk), bulk=True)
        return pb.Transfer(transfer_id=transfer_id, bytes=len(payload), sha256=digest.digest())

    async def send_signed(
        self, transfer_id: int, payload: bytes, jws: str, wrap: Callable[[pb.Signed], dict[str, Any]]
    ) -> None:
        """Send a statement, in chunks where it is large; `wrap` makes the message body around it."""
        if len(payload) <= self.limits.chunk_bytes:
            await self.send(**wrap(pb.Signed(payload=pb.Body(inline=payload), jws=jws)))
            return
        body = pb.Body(transfer=await self.transfer(transfer_id, payload))
        await self.send_after_chunks(**wrap(pb.Signed(payload=body, jws=jws)))

    def on_chunk(self, chunk: pb.Chunk) -> bool:
        """Take in a chunk and give its room back; False when its transfer outgrew its limit."""
        kept = self.inbox.add(chunk)
        self._outbox.grant(len(chunk.data))
        return kept

    def on_credit(self, credit: pb.Credit) -> None:
        """The peer takes so much more. Raises ContractError."""
        self._window.give(credit.bytes)

    def payload(self, body: pb.Body) -> bytes:
        """The bytes that a body holds or refers to. Raises ContractError."""
        match body.WhichOneof("at"):
            case "inline":
                return bytes(body.inline)
            case "transfer":
                return self.inbox.take(body.transfer)
            case _:
                raise ContractError("a statement without a payload came")

    def close(self, error: TwinError) -> None:
        """The stream is over: have all that waits here fail with `error`."""
        self._outbox.close(error)
        self._window.close(error)

    async def write_to(self, write: Callable[[Any], Awaitable[None]]) -> None:
        """Write whatever is queued, forever."""
        while True:
            message = await self._outbox.get()
            self._writing_since = time.monotonic()
            await write(message)
            self._writing_since = None
