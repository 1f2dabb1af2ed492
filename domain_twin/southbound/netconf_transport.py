"""One NETCONF session as its user sees it: RPCs by message-id, notifications in order, one end for all.

Owns what is pending and what is set aside; how octets travel is a subclass's (`netconf_asyncssh`, the
default, and `netconf_ncclient`). An answer that comes after its time, a second time, or to an rpc that was
never sent is dropped, counted in `strays`, and logged once a session. A session outlives an rpc without an
answer: ids are not used again, so that a late answer is never another's.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from abc import ABC, abstractmethod
from collections import Counter, OrderedDict, deque
from contextlib import suppress
from typing import Any

from lxml import etree

from domain_twin.errors import OperationRejected, SessionLost, TwinError, Unreachable
from domain_twin.southbound.netconf_messages import BASE, NOTIFICATION, refusals, request

log = logging.getLogger(__name__)

__all__ = ["CONNECT_S", "WAITING", "Transport"]

CONNECT_S = 15.0
WAITING = 64 * 1024 * 1024  # octets of notifications that wait to be read; beyond, the session starts anew
HELD_BACK = 1024 * 1024  # octets that wait before the device is asked to wait, where the transport can
_REMEMBERED = 256  # rpcs without an answer whose late answer is told from a stranger's


class Transport(ABC):
    """An established session. A subclass sends, and hands over what comes with `_received` and `_ended`."""

    def __init__(self, device: str, capabilities: tuple[str, ...], session_id: str) -> None:
        self.device = device
        self.capabilities = capabilities
        self.session_id = session_id
        self.strays: Counter[str] = Counter()  # what was set aside, by kind: late, twice, unknown ...
        self._loop = asyncio.get_running_loop()
        self._ids = itertools.count(1)
        self._last_id = 0
        self._pending: dict[str, asyncio.Future[Any]] = {}
        self._abandoned: OrderedDict[str, None] = OrderedDict()
        self._notifications: deque[tuple[Any, int]] = deque()
        self._news = asyncio.Event()
        self._waiting = 0
        self._held = False
        self._problem: SessionLost | None = None
        self._closing = False

    # ---- what a subclass does

    @abstractmethod
    def _send(self, message: str) -> None:
        """Queue a message. Raises any exception where the session has ended."""

    @abstractmethod
    def _heard(self) -> float:
        """When the last octet came, in monotonic seconds."""

    @abstractmethod
    def _drop(self) -> None:
        """Cut the connection now, without waiting."""

    @abstractmethod
    async def _collect(self) -> None:
        """Wait until everything that the session held is gone."""

    def _hold(self, held: bool) -> None:  # noqa: B027 - by default it cannot
        """Stop or go on taking octets, where the transport can."""

    # ---- what its user does

    @property
    def silent_s(self) -> float:
        """How long no octet has come from the device, seconds; 0 while it is us who do not listen."""
        return 0.0 if self._held else time.monotonic() - self._heard()

    async def rpc(self, operation: Any, timeout_s: float) -> Any:
        """The rpc-reply to `operation`. Raises OperationRejected for an rpc-error, Unreachable otherwise."""
        self._check()
        self._last_id = next(self._ids)
        message_id = str(self._last_id)
        name = etree.QName(operation).localname
        future: asyncio.Future[Any] = self._loop.create_future()
        self._pending[message_id] = future
        self._balance()
        try:
            self._send(request(message_id, operation))
            async with asyncio.timeout(timeout_s):
                reply = await future
        except TwinError:
            raise
        except TimeoutError as error:
            raise Unreachable(f"device {self.device}: no reply to {name} within {timeout_s:g} s") from error
        except Exception as error:  # the transport's own: the session has ended meanwhile
            raise self._problem or SessionLost(
                f"device {self.device}: the session ended ({error})"
            ) from error
        finally:
            if self._pending.pop(message_id, None) is not None and not _answered(future):
                self._abandoned[message_id] = None
                if len(self._abandoned) > _REMEMBERED:
                    self._abandoned.popitem(last=False)
            self._balance()
        if problems := refusals(reply):
            raise OperationRejected(f"device {self.device} refuses {name}: " + "; ".join(problems))
        return reply

    async def notification(self) -> Any:
        """The next notification element, in order of arrival. Raises SessionLost."""
        while not self._notifications:
            self._check()
            self._news.clear()
            await self._news.wait()
        element, size = self._notifications.popleft()
        self._waiting -= size
        self._balance()
        return element

    async def close(self) -> None:
        """End the session politely, and wait until nothing of it is left."""
        if self._closing:
            return
        self._closing = True
        if self._problem is None:
            with suppress(TwinError):
                await self.rpc(etree.Element(f"{{{BASE}}}close-session"), 1.0)
        self._ended(ConnectionError("closed here"))
        await asyncio.shield(self._collect())

    def stray(self, kind: str, what: str) -> None:
        """Count something that was set aside, and log the first of its kind."""
        self.strays[kind] += 1
        if self.strays[kind] == 1:
            log.warning(
                "what a device sent was set aside",
                extra={"device": self.device, "kind": kind, "what": what[:80]},
            )

    def fail(self, reason: str) -> None:
        """End the session for everybody who waits on it, and drop the connection."""
        self._ended(ConnectionError(reason))
        self._drop()

    # ---- what comes in

    def _received(self, root: Any, size: int) -> None:
        """A whole message of `size` octets."""
        if self._problem is not None:
            return
        if root.tag == f"{{{BASE}}}rpc-reply":
            self._replied(root)
        elif root.tag == f"{{{NOTIFICATION}}}notification":
            self._notifications.append((root, size))
            self._waiting += size
            self._news.set()
            if self._waiting > WAITING:
                self.fail(f"more than {WAITING} octets of notifications wait to be read")
            self._balance()
        else:
            self.stray("unknown", etree.QName(root).localname)

    def _replied(self, reply: Any) -> None:
        message_id = reply.get("message-id", "")
        future = self._pending.pop(message_id, None)
        if future is not None and not future.done():
            future.set_result(reply)
        elif message_id in self._abandoned:
            del self._abandoned[message_id]
            self.stray("late", message_id)
        elif message_id.isascii() and message_id.isdigit() and 0 < int(message_id[:10]) <= self._last_id:
            self.stray("twice", message_id)
        else:
            self.stray("unknown", message_id)

    def _ended(self, error: Exception) -> None:
        if self._problem is None:
            reason = str(error).partition("\n")[0] or type(error).__name__
            self._problem = SessionLost(f"device {self.device}: the NETCONF session ended ({reason})")
        for future in self._pending.values():
            if not future.done():
                future.set_exception(self._problem)
        self._news.set()

    def _check(self) -> None:
        if self._problem is not None:
            raise self._problem

    def _balance(self) -> None:
        """Have the device wait while too much waits here, but never while its answer is waited for."""
        held = self._waiting > (HELD_BACK // 2 if self._held else HELD_BACK) and not self._pending
        if held != self._held and self._problem is None:
            self._held = held
            self._hold(held)


def _answered(future: asyncio.Future[Any]) -> bool:
    return future.done() and not future.cancelled() and future.exception() is None
