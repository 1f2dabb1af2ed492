"""NETCONF sessions over SSH with a pinned host key. Owns what a device is asked, and in which order.

State comes by YANG-push on change where the device has it (RFC 8641), else by polling, sped up by
notifications of configuration changes (RFC 5277) where it has those. Changes go through the candidate
datastore and a confirmed commit (RFC 6241 8.4), whose persist-id keeps it when this session is lost.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any

from domain_twin.config import NetconfConfig
from domain_twin.errors import OperationRejected, SessionLost, TwinError, Unreachable
from domain_twin.model import Delete, Nanoseconds, Sync, Update, UpdateBatch
from domain_twin.southbound.base import Capabilities, Edit, YangModule
from domain_twin.southbound.netconf_messages import BASE
from domain_twin.southbound.netconf_operations import (
    NMDA,
    commit,
    edit_config,
    get_data,
    get_library,
    get_nothing,
    get_schema,
    hello_features,
    hello_modules,
    library_modules,
    on_datastore,
    operation,
    schema_text,
)
from domain_twin.southbound.netconf_push import (
    Pushed,
    PushReader,
    changed_paths,
    create_subscription,
    establish_push,
    resync_push,
    subscription_id,
)
from domain_twin.southbound.netconf_transport import Transport
from domain_twin.southbound.netconf_xml import XmlReader, config_element, filter_element
from domain_twin.yang.paths import covers, parse_path
from domain_twin.yang.schema import SchemaSet

log = logging.getLogger(__name__)

__all__ = ["NetconfSession"]

_RPC_S = 30.0
_BY_MODULE = {"ietf-yang-push": "yang-push", "ietf-netconf-nmda": "nmda"}
_OLDEST_NS = 24 * 3600 * 10**9  # an event older than this is of a clock that was never set
_NEWEST_NS = 60 * 10**9


class NetconfSession:
    """A session to one NETCONF server: a SouthboundSession and a ChangeSession.

    `source` names it in its batches (default: the device); without `push` it polls, whatever the device
    offers. Connects at first use; `close` ends it.
    """

    def __init__(
        self, device: str, config: NetconfConfig, schema: SchemaSet, *, source: str = "", push: bool = True
    ) -> None:
        self.device = device
        self._config = config
        self._schema = schema
        self._source = source or device
        self._reader = XmlReader(schema)
        self._transport: Transport | None = None
        self._connecting = asyncio.Lock()
        self._capabilities: Capabilities | None = None
        self._persist_id = ""
        self._push = push
        self._subscription = ""

    async def __aenter__(self) -> NetconfSession:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the session and its threads. A pending confirmed commit keeps its own time."""
        transport, self._transport = self._transport, None
        if transport is not None:
            await transport.close()

    @property
    def strays(self) -> Counter[str]:
        """How much of what the device sent was set aside in this session, by kind."""
        return self._transport.strays if self._transport else Counter()

    async def capabilities(self) -> Capabilities:
        """What the hello announces, completed from the YANG library (RFC 8525) where the device has one."""
        if self._capabilities is None:
            transport = await self._connected()
            features = hello_features(transport.capabilities)
            modules = {module.name: module for module in hello_modules(transport.capabilities)}
            if "yang-library" in features:
                modules |= {module.name: module for module in await self._library()}
            features |= {name for module, name in _BY_MODULE.items() if module in modules}
            self._capabilities = Capabilities("netconf", tuple(modules.values()), ("xml",), features)
        return self._capabilities

    async def get(self, paths: Sequence[str]) -> UpdateBatch:
        """The leaves at and below `paths` now, by one `get`."""
        leaves = await self._get(await self._offered(paths))
        now = time.time_ns()
        return UpdateBatch(self._source, now, self._updates(leaves, now), sync=Sync.END)

    async def schemas(self, names: Iterable[str]) -> dict[str, str]:
        """Texts of modules as the device has them (get-schema, RFC 6022); what it lacks is left out."""
        out: dict[str, str] = {}
        for name in names:
            with suppress(OperationRejected):
                out[name] = schema_text(await self._rpc(get_schema(name)))
        return out

    async def subscribe(self, paths: Sequence[str]) -> AsyncIterator[UpdateBatch]:
        """All of the state at and below `paths` (BEGIN … END), then changes; an empty batch: it is alive."""
        wanted = await self._offered(paths)
        features = (await self.capabilities()).features
        if self._push and "yang-push" in features and (period := await self._establish(wanted)) is not None:
            async for batch in self._pushed(period):
                yield batch
            return
        if {"notification", "interleave"} <= features:
            with suppress(OperationRejected):
                await self._rpc(create_subscription())
        async for batch in self._polled(wanted):
            yield batch

    async def resync(self) -> None:
        """Have the device send all of a pushed subscription anew (RFC 8641). Raises OperationRejected."""
        if not self._subscription:
            raise OperationRejected(f"device {self.device}: this session has no subscription to resync")
        await self._rpc(resync_push(self._subscription))

    async def edit(self, changes: Sequence[Edit], confirm_timeout_s: float | None = None) -> None:
        """Apply all changes or none. With `confirm_timeout_s` (whole seconds, rounded up) they roll back."""
        features = (await self.capabilities()).features
        config = config_element(self._schema, changes)
        if confirm_timeout_s is not None and "confirmed-commit" not in features:
            raise OperationRejected(
                f"device {self.device} has no confirmed commit (RFC 6241 8.4, 1.1); leave out the time, and"
                " know the way back"
            )
        if "candidate" in features:
            await self._edit_candidate(config, confirm_timeout_s, validate="validate" in features)
        elif "writable-running" in features:
            options = {"error-option": "rollback-on-error"} if "rollback-on-error" in features else {}
            await self._rpc(edit_config("running", config, options))
        else:
            raise OperationRejected(f"device {self.device} has no datastore that can be written")

    async def confirm(self) -> None:
        """Make the last confirmed edit permanent."""
        await self._rpc(operation("commit", {"persist-id": self._pending()}))
        self._persist_id = ""

    async def cancel(self) -> None:
        """Roll the last confirmed edit back now."""
        await self._rpc(operation("cancel-commit", {"persist-id": self._pending()}))
        self._persist_id = ""

    def _pending(self) -> str:
        if not self._persist_id:
            raise OperationRejected(f"device {self.device}: no edit of this session waits for confirmation")
        return self._persist_id

    async def _edit_candidate(self, config: Any, confirm_timeout_s: float | None, *, validate: bool) -> None:
        await self._rpc(on_datastore("lock", "target", "candidate"))
        try:
            try:
                await self._rpc(edit_config("candidate", config))
                if validate:
                    await self._rpc(on_datastore("validate", "source", "candidate"))
                persist_id = "" if confirm_timeout_s is None else secrets.token_hex(8)
                await self._rpc(commit(confirm_timeout_s, persist_id))
                self._persist_id = persist_id
            except OperationRejected:
                with suppress(TwinError):
                    await self._rpc(operation("discard-changes"))
                raise
        finally:
            with suppress(TwinError):
                await self._rpc(on_datastore("unlock", "target", "candidate"))

    async def _connected(self) -> Transport:
        async with self._connecting:
            if self._transport is None:
                self._transport = await _open(self.device, self._config)
            return self._transport

    async def _rpc(self, operation: Any, timeout_s: float = _RPC_S) -> Any:
        return await (await self._connected()).rpc(operation, timeout_s)

    async def _offered(self, paths: Sequence[str]) -> list[str]:
        modules = {module.name for module in (await self.capabilities()).modules}
        wanted = [
            path for path in paths if path == "/" or not modules or parse_path(path)[0].module in modules
        ]
        if not wanted:
            raise OperationRejected(
                f"device {self.device}: implements none of the modules of {', '.join(paths) or 'no paths'}"
            )
        return wanted

    async def _library(self) -> list[YangModule]:
        try:
            return library_modules(await self._rpc(get_library()))
        except OperationRejected:
            return []

    async def _get(self, paths: Sequence[str]) -> dict[str, Any]:
        if "nmda" in (await self.capabilities()).features:  # what applies now, as a push reports it
            request = get_data(filter_element(self._schema, paths, f"{{{NMDA}}}subtree-filter"))
            data = (await self._rpc(request)).find(f"{{{NMDA}}}data")
        else:
            request = operation("get")
            chosen = filter_element(self._schema, paths)
            if chosen is not None:
                request.append(chosen)
            data = (await self._rpc(request)).find(f"{{{BASE}}}data")
        return self._reader.leaves(data if data is not None else ())

    def _updates(self, leaves: Mapping[str, Any], observed_at: Nanoseconds) -> tuple[Update, ...]:
        return tuple(Update(self.device, path, value, observed_at) for path, value in leaves.items())

    async def _establish(self, paths: Sequence[str]) -> float | None:
        """Subscribe on change, else periodically; the period (0: on change), None where both are refused."""
        for period_s in (None, self._config.poll_interval_s):
            try:
                reply = await self._rpc(establish_push(self._schema, paths, period_s))
            except OperationRejected as error:
                log.info("push refused", extra={"device": self.device, "reason": str(error)})
            else:
                self._subscription = subscription_id(reply)
                return period_s or 0.0
        return None

    async def _pushed(self, period_s: float) -> AsyncIterator[UpdateBatch]:
        transport = await self._connected()
        pushes = PushReader(self._reader, self._subscription)
        guard = asyncio.create_task(self._guard(transport), name=f"netconf-liveness-{self.device}")
        before: dict[str, Any] | None = None
        try:
            while True:
                pushed = pushes.read(await transport.notification())
                now = time.time_ns()
                if pushed is None:
                    continue
                if pushes.is_other(pushed):
                    transport.stray("subscription", pushed.subscription)
                    continue
                if pushed.ended:
                    raise SessionLost(f"device {self.device}: {pushed.ended}")
                observed_at = self._moment(transport, pushed.observed_at, now)
                if period_s and before is not None:
                    yield self._difference(before, pushed.updates, observed_at, now)
                elif pushed.full:
                    yield UpdateBatch(self._source, now, sync=Sync.BEGIN)
                    yield UpdateBatch(
                        self._source, now, self._updates(pushed.updates, observed_at), sync=Sync.END
                    )
                else:
                    yield self._delta(pushed, observed_at, now)
                if pushed.incomplete:
                    await self.resync()
                if period_s:
                    before = pushed.updates
        finally:
            guard.cancel()
            await asyncio.gather(guard, return_exceptions=True)

    def _moment(self, transport: Transport, event_time: Nanoseconds, now: Nanoseconds) -> Nanoseconds:
        """When it happened: what the device says, unless its clock cannot be right; then now."""
        if now - _OLDEST_NS <= event_time <= now + _NEWEST_NS:
            return event_time
        transport.stray("clock", f"eventTime {event_time} ns")
        return now

    def _delta(self, pushed: Pushed, observed_at: Nanoseconds, now: Nanoseconds) -> UpdateBatch:
        deletes = tuple(Delete(self.device, path, observed_at) for path in pushed.deletes)
        return UpdateBatch(self._source, now, self._updates(pushed.updates, observed_at), deletes)

    def _difference(
        self, before: Mapping[str, Any], after: Mapping[str, Any], observed_at: Nanoseconds, now: Nanoseconds
    ) -> UpdateBatch:
        changed = {
            path: value
            for path, value in after.items()
            if path not in before or before[path] != value or type(before[path]) is not type(value)
        }
        gone = tuple(Delete(self.device, path, observed_at) for path in before if path not in after)
        return UpdateBatch(self._source, now, self._updates(changed, observed_at), gone)

    async def _guard(self, transport: Transport) -> None:
        """Ask for nothing when the device has been silent for a heartbeat; no answer ends the session."""
        heartbeat_s = self._config.heartbeat_s
        while True:
            silent_s = transport.silent_s
            if silent_s < heartbeat_s:
                await asyncio.sleep(heartbeat_s - silent_s)
                continue
            try:
                await transport.rpc(get_nothing(), heartbeat_s * 0.9)
            except Unreachable:
                if transport.silent_s < heartbeat_s:
                    continue  # in the middle of a long answer
                transport.fail(f"silent for {transport.silent_s:.1f} s, and no answer to a request")
                return
            except OperationRejected:
                continue  # an answer all the same

    async def _polled(self, paths: Sequence[str]) -> AsyncIterator[UpdateBatch]:
        transport = await self._connected()
        guard = asyncio.create_task(self._guard(transport), name=f"netconf-liveness-{self.device}")
        try:
            async for batch in self._polls(transport, paths):
                yield batch
        finally:
            guard.cancel()
            await asyncio.gather(guard, return_exceptions=True)

    async def _polls(self, transport: Transport, paths: Sequence[str]) -> AsyncIterator[UpdateBatch]:
        state = await self._get(paths)
        now = time.time_ns()
        yield UpdateBatch(self._source, now, sync=Sync.BEGIN)
        yield UpdateBatch(self._source, now, self._updates(state, now), sync=Sync.END)
        loop = asyncio.get_running_loop()
        due = loop.time() + self._config.poll_interval_s
        while True:
            touched = await self._touched(transport, due, paths)
            asked = touched or list(paths)
            fresh = await self._get(asked)
            now = time.time_ns()
            before = {path: v for path, v in state.items() if any(covers(top, path) for top in asked)}
            yield self._difference(before, fresh, now, now)
            for path in before:
                state.pop(path, None)
            state |= fresh
            if not touched:
                due = max(due + self._config.poll_interval_s, loop.time())

    async def _touched(self, transport: Transport, due: float, paths: Sequence[str]) -> list[str]:
        """Wait until `due`, or for a configuration change: the paths within `paths` that it names."""
        try:
            async with asyncio.timeout_at(due):
                while True:
                    named = set(changed_paths(self._reader, await transport.notification()))
                    inside = [path for path in named if any(covers(top, path) for top in paths)]
                    if inside:
                        return inside
                    if any(covers(path, top) for path in named for top in paths):
                        return list(paths)
        except TimeoutError:
            return []


async def _open(device: str, config: NetconfConfig) -> Transport:
    """A session by the configured client; each is imported only where it is used."""
    if config.uses_ncclient:
        from domain_twin.southbound.netconf_ncclient import NcclientTransport

        return await NcclientTransport.open(device, config)
    from domain_twin.southbound.netconf_asyncssh import AsyncsshTransport

    return await AsyncsshTransport.open(device, config)
