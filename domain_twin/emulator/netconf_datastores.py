"""Candidate, locks and confirmed commit of one device (RFC 6241 7.5, 8.3, 8.4), shared by its sessions.

Guards the running configuration for every face: while a session holds its lock, or a confirmed commit waits
for its confirmation, nobody else edits it.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

from domain_twin.emulator import data_tree
from domain_twin.emulator.data_tree import ConfigRejected, Tree
from domain_twin.emulator.device import Actor, DeviceDatastore
from domain_twin.emulator.rpc_error import RpcError

log = logging.getLogger(__name__)

Name: TypeAlias = Literal["running", "candidate"]
Confirmation: TypeAlias = Literal["start", "cancel", "timeout", "extend", "complete"]


@dataclass(slots=True)
class _Pending:
    """A confirmed commit that waits for its confirmation."""

    before: Tree
    committed: Tree
    persist: str | None
    actor: Actor
    timer: asyncio.TimerHandle


class Datastores:
    """The configuration datastores of one device as NETCONF sessions see them."""

    def __init__(self, store: DeviceDatastore):
        self.store = store
        self.locks: dict[Name, int] = {}
        self.on_confirmation: Callable[[Confirmation, Actor, float], None] = lambda *_: None
        self._candidate: Tree | None = None  # None: the same as running
        self._pending: _Pending | None = None
        store.guard = self._guard

    def tree(self, name: Name) -> Tree:
        """The configuration held by a datastore."""
        if name == "candidate" and self._candidate is not None:
            return self._candidate
        return self.store.running

    def write(self, name: Name, tree: Tree, actor: Actor) -> None:
        """Replace what a datastore holds. Raises ConfigRejected or RpcError(in-use)."""
        self.check_free(name, actor.session_id)
        if name == "candidate":
            self._candidate = tree
        else:
            self.store.commit(tree, actor)

    def discard(self, session_id: int) -> None:
        """Make the candidate the same as running."""
        self.check_free("candidate", session_id)
        self._candidate = None

    def check_free(self, name: Name, session_id: int) -> None:
        """Raise RpcError(in-use) where another session holds the lock."""
        holder = self.locks.get(name)
        if holder is not None and holder != session_id:
            raise RpcError("in-use", f"{name} is locked by session {holder}", kind="protocol")

    # ---- locks -------------------------------------------------------------

    def lock(self, name: Name, session_id: int) -> None:
        """Lock a datastore. Raises RpcError(lock-denied) naming the session in the way."""
        holder = self.locks.get(name)
        if holder is not None:
            raise _denied(f"{name} is locked by session {holder}", holder)
        pending = self._pending
        if pending is not None and pending.actor.session_id != session_id:
            raise _denied("a confirmed commit waits for its confirmation", pending.actor.session_id)
        if name == "candidate" and self._candidate is not None and self._candidate is not self.store.running:
            raise _denied("the candidate has changes that were not committed: discard them first", 0)
        self.locks[name] = session_id

    def unlock(self, name: Name, session_id: int) -> None:
        """Give a lock back. Raises RpcError where it is not this session's."""
        if self.locks.get(name) != session_id:
            raise RpcError("operation-failed", f"this session holds no lock of {name}", kind="protocol")
        self._release(name)

    def _release(self, name: Name) -> None:
        del self.locks[name]

    # ---- commit ------------------------------------------------------------

    def commit(
        self,
        actor: Actor,
        *,
        confirmed: bool = False,
        timeout_s: float = 600.0,
        persist: str | None = None,
        persist_id: str | None = None,
    ) -> None:
        """Make the candidate the running configuration; `confirmed` takes it back unless confirmed in time.

        Raises ConfigRejected, or RpcError for a wrong persist-id or another session's pending commit.
        """
        self.check_free("running", actor.session_id)
        self.check_free("candidate", actor.session_id)
        pending = self._pending
        self._check_may_confirm(pending, actor, persist_id)
        tree = self.tree("candidate")
        before = pending.before if pending is not None else self.store.running
        self.store.commit(tree, actor, guarded=False)
        self._candidate = None
        if pending is not None:
            pending.timer.cancel()
            self._pending = None
        if confirmed:
            timer = asyncio.get_running_loop().call_later(timeout_s, self._roll_back, "timeout")
            kept = pending.persist if pending is not None and persist is None else persist
            self._pending = _Pending(before, tree, kept, actor, timer)
            self.on_confirmation("extend" if pending is not None else "start", actor, timeout_s)
        elif pending is not None:
            self.on_confirmation("complete", actor, 0)

    def cancel_commit(self, actor: Actor, persist_id: str | None) -> None:
        """Take a pending confirmed commit back. Raises RpcError where there is none or it is another's."""
        if self._pending is None:
            raise RpcError("operation-failed", "no confirmed commit is pending")
        self._check_may_confirm(self._pending, actor, persist_id)
        self._roll_back("cancel")

    def close_session(self, session_id: int) -> None:
        """Release what a closed session held; its unconfirmed commit goes with it unless it persists."""
        for name in [name for name, holder in self.locks.items() if holder == session_id]:
            if name == "candidate":
                self._candidate = None  # RFC 6241 8.3.5.2
            del self.locks[name]
        pending = self._pending
        if pending is not None and pending.persist is None and pending.actor.session_id == session_id:
            self._roll_back("cancel")

    def close(self) -> None:
        """Take an unconfirmed commit back, as a device that goes down must (RFC 6241 8.4.1)."""
        self._roll_back("cancel")
        if self.store.guard == self._guard:
            self.store.guard = None

    def validate(self, name: Name) -> None:
        """Raise ConfigRejected where a datastore's configuration is not valid."""
        data_tree.validate(self.tree(name))

    # ---- inside ------------------------------------------------------------

    def _check_may_confirm(self, pending: _Pending | None, actor: Actor, persist_id: str | None) -> None:
        if pending is None:
            if persist_id is not None:
                raise _wrong_persist_id(persist_id)
            return
        if pending.persist is not None:
            if persist_id is None:
                raise RpcError("in-use", "a persistent confirmed commit is pending: give its persist-id")
            if persist_id != pending.persist:
                raise _wrong_persist_id(persist_id)
        elif persist_id is not None:
            raise _wrong_persist_id(persist_id)
        elif pending.actor.session_id != actor.session_id:
            raise RpcError("in-use", f"session {pending.actor.session_id} has a confirmed commit pending")

    def _roll_back(self, why: Confirmation) -> None:
        pending = self._pending
        if pending is None:
            return
        pending.timer.cancel()
        self._pending = None
        if self._candidate is pending.committed:
            self._candidate = None
        try:
            self.store.commit(pending.before, pending.actor, guarded=False)
        except ConfigRejected as rejection:
            log.error(
                "a device refuses to go back to its own configuration",
                extra={"device": self.store.name, "reason": str(rejection)},
            )
            return
        self.on_confirmation(why, pending.actor, 0)

    def _guard(self, actor: Actor) -> None:
        holder = self.locks.get("running")
        if holder is not None and holder != actor.session_id:
            raise ConfigRejected(
                "/", f"the running configuration is locked by NETCONF session {holder}", "in-use"
            )
        pending = self._pending
        if pending is not None and pending.actor.session_id != actor.session_id:
            raise ConfigRejected("/", "a NETCONF confirmed commit waits for its confirmation", "in-use")


def _denied(message: str, session_id: int) -> RpcError:
    return RpcError("lock-denied", message, kind="protocol", info={"session-id": session_id})


def _wrong_persist_id(persist_id: str) -> RpcError:
    return RpcError("invalid-value", f"no confirmed commit is pending under persist-id {persist_id!r}")
