"""Flower's Grid over whatever carries bytes to a domain: within this process, or the agents' session.

Owns deadlines, the match of replies with messages, and that a domain's failure becomes a reply that says so.
Every message is serialised, in process too: Flower's strategies share one record among all messages, and what
a domain does to its copy must not be seen by another. Knows nothing of what is learned.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Final, Protocol

from domain_twin.errors import ContractError
from domain_twin.learning.client import Endpoint
from domain_twin.learning.contribution import Absence
from domain_twin.learning.flower import (
    MAX_MESSAGE_BYTES,
    ClientApp,
    Error,
    Grid,
    Message,
    RecordDict,
    Run,
    decode,
    empty_run,
    encode,
    node_number,
    run_number,
)

__all__ = ["CarriedGrid", "Carrier", "InProcess"]

_GLANCE_S: Final = 0.2  # how late a stop is noticed
_TURN_S: Final = 1.0  # how long a domain within this process waits for the one before it


class Carrier(Protocol):
    """Takes a message's bytes to a domain and brings the reply's."""

    def domains(self) -> Sequence[str]:
        """The domains that can be asked now."""

    def carry(self, domain: str, message: bytes, timeout_s: float) -> Future[bytes]:
        """The reply to be. Does not block; what it fails with is told of the domain as unreachable."""


class InProcess:
    """Domains within this process, each in a thread of its own: one that hangs holds others up for a second.

    They compute in turns where they can: small arrays in several threads mostly wait for the interpreter's
    lock, which took twice the CPU of one after another.
    """

    def __init__(self, apps: Mapping[str, ClientApp]) -> None:
        self._turn = threading.Lock()
        self._endpoints = {domain: Endpoint(app) for domain, app in apps.items()}
        self._threads = {domain: ThreadPoolExecutor(1, f"learn-{domain}") for domain in apps}

    def domains(self) -> Sequence[str]:
        """All of them."""
        return tuple(self._endpoints)

    def carry(self, domain: str, message: bytes, timeout_s: float) -> Future[bytes]:
        """The reply of `domain`'s ClientApp, when its thread has come to it."""
        return self._threads[domain].submit(self._answer, domain, message)

    def _answer(self, domain: str, message: bytes) -> bytes:
        mine = self._turn.acquire(timeout=_TURN_S)
        try:
            return self._endpoints[domain].answer(message)
        finally:
            if mine:
                self._turn.release()

    def close(self) -> None:
        """Wait for the threads."""
        for thread in self._threads.values():
            thread.shutdown(cancel_futures=True)

    def __enter__(self) -> InProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@dataclass(frozen=True, slots=True)
class _Sent:
    message: Message
    reply: Future[bytes]


class CarriedGrid(Grid):
    """One run's Grid. Nodes are the carrier's domains; `traffic` is (bytes out, bytes in) so far."""

    def __init__(
        self,
        carrier: Carrier,
        run: str,
        *,
        domains: Sequence[str] = (),
        limit_bytes: int = MAX_MESSAGE_BYTES,
        stop: threading.Event | None = None,
    ) -> None:
        self._carrier = carrier
        self._run_name = run
        self._run = empty_run(run)
        self._only = frozenset(domains)
        self._limit = limit_bytes
        self._stop = stop or threading.Event()
        self._sent: dict[str, _Sent] = {}
        self._names: dict[int, str] = {}
        self._overdue: dict[int, Future[bytes]] = {}
        self.traffic = (0, 0)

    def set_run(self, run: Run) -> None:
        """Take another run's record."""
        self._run = run

    @property
    def run(self) -> Run:
        """The run."""
        return self._run

    def name(self, node_id: int) -> str:
        """The domain that `node_id` is."""
        return self._names.get(node_id, str(node_id))

    def create_message(
        self,
        content: RecordDict,
        message_type: str,
        dst_node_id: int,
        group_id: str,
        ttl: float | None = None,
    ) -> Message:
        """A message to a node; its run and id are set when it is sent."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> Iterable[int]:
        """Nodes of the domains that can be asked now, take part in this run and have no answer overdue."""
        there = {node_number(domain): domain for domain in self._carrier.domains()}
        self._names |= {
            node: domain for node, domain in there.items() if not self._only or domain in self._only
        }
        self._overdue = {node: reply for node, reply in self._overdue.items() if not reply.done()}
        return [node for node in self._names if node in there and node not in self._overdue]

    def push_messages(self, messages: Iterable[Message], *, timeout_s: float = 3600.0) -> Iterable[str]:
        """Send `messages`; the ids to pull their replies by."""
        ready: dict[str, tuple[Message, bytes]] = {}
        for message in messages:
            message_id = uuid.uuid4().hex
            message.metadata.__dict__["_message_id"] = message_id  # what a reply of our own refers to
            ready[message_id] = message, encode(message, run=self._run_name, message_id=message_id)
        # None goes out before all are made: a domain that trains in this process would slow the others' down.
        for message_id, (message, data) in ready.items():
            reply = self._carry(message.metadata.dst_node_id, data, timeout_s)
            self._sent[message_id] = _Sent(message, reply)
        out = sum(len(data) for _, data in ready.values())
        self.traffic = (self.traffic[0] + out, self.traffic[1])
        return list(ready)

    def _carry(self, node: int, data: bytes, timeout_s: float) -> Future[bytes]:
        try:
            if len(data) > self._limit:
                raise ContractError(f"a message of {len(data)} bytes; {self._limit} are sent at most")
            return self._carrier.carry(self._names[node], data, timeout_s)
        except Exception as error:  # a domain that has just gone is data, as if it had gone a moment later
            gone: Future[bytes] = Future()
            gone.set_exception(error)
            return gone

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Replies that are there; each is given once."""
        ready = [one for one in message_ids if one in self._sent and self._sent[one].reply.done()]
        return [self._reply(one, self._sent.pop(one)) for one in ready]

    def send_and_receive(
        self, messages: Iterable[Message], *, timeout: float | None = None
    ) -> Iterable[Message]:
        """A reply for each of `messages`, in their order; it may say that the domain failed or is late."""
        deadline = time.monotonic() + (3600.0 if timeout is None else timeout)
        ids = list(self.push_messages(messages, timeout_s=max(0.0, deadline - time.monotonic())))
        waiting = {self._sent[one].reply for one in ids}
        while waiting and not self._stop.is_set() and (left := deadline - time.monotonic()) > 0:
            _, waiting = wait(waiting, min(left, _GLANCE_S), FIRST_COMPLETED)
        return [self._reply(one, self._sent.pop(one)) for one in ids]

    def _reply(self, message_id: str, sent: _Sent) -> Message:
        if not sent.reply.done():
            if not sent.reply.cancel():  # under way: who works on an old message is not given another
                self._overdue[sent.message.metadata.dst_node_id] = sent.reply
            return _failure(sent.message, Absence.LATE)
        try:
            data = sent.reply.result()
        except (TimeoutError, CancelledError):
            return _failure(sent.message, Absence.LATE)
        except ContractError:
            return _failure(sent.message, Absence.MALFORMED)
        except Exception:  # whatever the carrier met; it logs what it was
            return _failure(sent.message, Absence.UNREACHABLE)
        self.traffic = (self.traffic[0], self.traffic[1] + len(data))
        try:
            reply = decode(data, limit_bytes=self._limit)
        except ContractError:
            return _failure(sent.message, Absence.MALFORMED)
        said, asked = reply.metadata, sent.message.metadata
        if said.reply_to_message_id != message_id or said.run_id != run_number(self._run_name):
            return _failure(sent.message, Absence.REPLAYED)
        if said.src_node_id != asked.dst_node_id or said.message_type != asked.message_type:
            return _failure(sent.message, Absence.MALFORMED)
        return reply


def _failure(message: Message, absence: Absence) -> Message:
    return Message(Error(0, absence.value), reply_to=message)
