"""gNMI sessions over TLS with a pinned root. Owns channel, subscription and liveness of one device.

Decoding is cached by the raw bytes of paths; values keep their wire types, which the YANG stage then checks.
Subscribes ON_CHANGE, since that is freshest, and falls back to TARGET_DEFINED and SAMPLE where a device
refuses. Silence is answered with a Capabilities call, not with HTTP/2 pings, over which servers hang up.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import Any

import grpc
from pygnmi.spec.v080 import gnmi_pb2, gnmi_pb2_grpc

from domain_twin.config import GnmiConfig
from domain_twin.errors import (
    CredentialError,
    OperationRejected,
    SchemaViolation,
    SessionLost,
    TwinError,
    Unreachable,
)
from domain_twin.model import Sync, Update, UpdateBatch
from domain_twin.southbound.base import Capabilities, Edit, Operation, YangModule
from domain_twin.southbound.gnmi_decode import Decoder
from domain_twin.southbound.gnmi_tls import channel_credentials, diagnose
from domain_twin.southbound.gnmi_wire import Response, encode_path
from domain_twin.yang.paths import parse_path
from domain_twin.yang.schema import SchemaSet

log = logging.getLogger(__name__)

__all__ = ["GnmiSession"]

_LARGEST_MESSAGE = 64 * 1024 * 1024
_LOST = {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED}
_BROKEN = "Stream removed"  # UNKNOWN with these words is gRPC's own: the connection broke under the call
_REFUSED = {grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED}
_UNSUITED = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.UNIMPLEMENTED}
_MODES = (
    gnmi_pb2.SubscriptionMode.ON_CHANGE,
    gnmi_pb2.SubscriptionMode.TARGET_DEFINED,
    gnmi_pb2.SubscriptionMode.SAMPLE,
)


class GnmiSession:
    """A session to one gNMI server: a SouthboundSession, and a ChangeSession without confirmed commits.

    `source` names it in its batches (default: the device); `targets` is the target that it subscribes to, `*`
    for all that a controller speaks for; `decoder` one that has learned its paths. Connects at first use;
    `close` ends it.
    """

    def __init__(
        self,
        device: str,
        config: GnmiConfig,
        schema: SchemaSet,
        *,
        source: str = "",
        targets: str = "",
        decoder: Decoder | None = None,
    ) -> None:
        self.device = device
        self._config = config
        self._schema = schema
        self._source = source or device
        self._targets = targets
        self._decoder = decoder or Decoder(device, self._source, schema)
        self._channel: Any = None
        self._stub: Any = None
        self._capabilities: Capabilities | None = None

    async def __aenter__(self) -> GnmiSession:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End all calls and the connection."""
        channel, self._channel, self._stub = self._channel, None, None
        if channel is not None:
            await channel.close()

    async def capabilities(self) -> Capabilities:
        """Encodings and modules by the Capabilities RPC; asked once a session."""
        if self._capabilities is None:
            stub = self._connected()
            try:
                reply = await stub.Capabilities(
                    gnmi_pb2.CapabilityRequest(), timeout=self._config.heartbeat_s
                )
            except grpc.aio.AioRpcError as error:
                raise await self._explained(error) from error
            self._capabilities = Capabilities(
                protocol="gnmi",
                modules=tuple(YangModule(model.name, model.version) for model in reply.supported_models),
                encodings=tuple(gnmi_pb2.Encoding.Name(encoding) for encoding in reply.supported_encodings),
                features=frozenset({"set"}),
            )
        return self._capabilities

    async def get(self, paths: Sequence[str]) -> UpdateBatch:
        """The leaves at and below `paths` now, by a ONCE subscription."""
        request = await self._request(paths, gnmi_pb2.SubscriptionList.ONCE)
        updates: list[Update] = []
        call, ended = self._subscribe_call(request)
        try:
            async with aclosing(aiter(call)) as messages:  # left open it keeps the connection of the channel
                async for message in messages:
                    if message.sync_response:
                        break
                    updates += self._decoder.batch(message.update, time.time_ns()).updates
        except grpc.aio.AioRpcError as error:
            raise await self._explained(error) from error
        finally:
            ended.set()
            call.cancel()
        return UpdateBatch(self._source, time.time_ns(), tuple(updates), sync=Sync.END)

    async def subscribe(self, paths: Sequence[str]) -> AsyncIterator[UpdateBatch]:
        """All of the state at and below `paths` (BEGIN … END), then changes; an empty batch: it is alive."""
        for mode in _MODES:
            request = await self._request(paths, gnmi_pb2.SubscriptionList.STREAM, mode)
            started = False
            try:
                async for batch in self._stream(request):
                    started = True
                    yield batch
            except OperationRejected as error:
                cause = error.__cause__
                unsuited = isinstance(cause, grpc.aio.AioRpcError) and cause.code() in _UNSUITED
                if started or not unsuited or mode == _MODES[-1]:
                    raise
                log.info(
                    "subscription mode refused",
                    extra={"device": self.device, "mode": gnmi_pb2.SubscriptionMode.Name(mode)},
                )

    async def edit(self, changes: Sequence[Edit], confirm_timeout_s: float | None = None) -> None:
        """Apply all changes in one Set, at once and for good."""
        if confirm_timeout_s is not None:
            raise OperationRejected(
                f"device {self.device}: gNMI has no confirmed commit; leave out the time, or change the"
                " device by NETCONF"
            )
        request = gnmi_pb2.SetRequest()
        for change in changes:
            path = encode_path(parse_path(change.path))
            if change.operation is Operation.DELETE:
                request.delete.append(path)
                continue
            updates = request.replace if change.operation is Operation.REPLACE else request.update
            update = updates.add(path=path)
            update.val.json_ietf_val = json.dumps(self._json(change)).encode()
        stub = self._connected()
        try:
            await stub.Set(request, timeout=2 * self._config.heartbeat_s)
        except grpc.aio.AioRpcError as error:
            raise await self._explained(error) from error

    async def confirm(self) -> None:
        """Refused: a Set needs no confirmation."""
        raise OperationRejected(f"device {self.device}: gNMI has no confirmed commit; the Set holds already")

    async def cancel(self) -> None:
        """Refused: a Set cannot be taken back."""
        raise OperationRejected(
            f"device {self.device}: gNMI has no confirmed commit; apply the opposite change instead"
        )

    def _json(self, change: Edit) -> Any:
        node = self._schema.resolve(change.path)
        if node.is_leaf:
            return node.codec.json(node.codec.native(change.value))
        if change.value is not None:
            raise SchemaViolation(f"{change.path} is a {node.kind}: give its leaves their values")
        return {}

    def _connected(self) -> Any:
        if self._stub is None:
            options = [
                ("grpc.ssl_target_name_override", self._config.server_name or self.device),
                ("grpc.max_receive_message_length", _LARGEST_MESSAGE),
                ("grpc.use_local_subchannel_pool", 1),  # else a new session inherits an old one's back-off
                ("grpc.enable_retries", 0),
            ]
            credentials = channel_credentials(self.device, self._config)
            self._channel = grpc.aio.secure_channel(self._config.address, credentials, options)
            self._stub = gnmi_pb2_grpc.gNMIStub(self._channel)
        return self._stub

    def _subscribe_call(self, request: Any) -> tuple[Any, asyncio.Event]:
        """A call, and what to set once it is over, so that its writing end does not stay behind."""
        self._connected()
        call = self._channel.stream_stream(
            "/gnmi.gNMI/Subscribe",
            request_serializer=gnmi_pb2.SubscribeRequest.SerializeToString,
            response_deserializer=Response.FromString,
        )
        ended = asyncio.Event()
        return call(_until(ended, request)), ended

    async def _request(
        self, paths: Sequence[str], list_mode: Any, mode: Any = gnmi_pb2.SubscriptionMode.TARGET_DEFINED
    ) -> Any:
        offered = await self.capabilities()
        modules = {module.name for module in offered.modules}
        wanted = [steps for path in paths if _offered(steps := parse_path(path), modules)]
        if not wanted:
            raise OperationRejected(
                f"device {self.device}: implements none of the modules of {', '.join(paths) or 'no paths'}"
            )
        request = gnmi_pb2.SubscribeRequest()
        request.subscribe.mode = list_mode
        if self._targets:
            request.subscribe.prefix.target = self._targets
        request.subscribe.encoding = gnmi_pb2.PROTO if "PROTO" in offered.encodings else gnmi_pb2.JSON_IETF
        for steps in wanted:
            entry = request.subscribe.subscription.add(path=encode_path(steps))
            if list_mode != gnmi_pb2.SubscriptionList.STREAM:
                continue
            entry.mode = mode
            if mode != gnmi_pb2.SubscriptionMode.ON_CHANGE:
                entry.sample_interval = int(self._config.sample_interval_s * 1e9)
            if mode != gnmi_pb2.SubscriptionMode.SAMPLE:
                entry.heartbeat_interval = int(self._config.heartbeat_s * 1e9)
        return request

    async def _stream(self, request: Any) -> AsyncIterator[UpdateBatch]:
        call, ended = self._subscribe_call(request)
        watch = _Watch()
        guard = asyncio.create_task(self._guard(call, watch), name=f"gnmi-liveness-{self.device}")
        begun = False
        try:
            while True:
                message = await call.read()
                if message is grpc.aio.EOF:
                    raise SessionLost(f"device {self.device}: {self._config.address} ended the subscription")
                now = time.time_ns()
                watch.heard = time.monotonic()
                if not begun:
                    begun = True
                    yield UpdateBatch(self._source, now, sync=Sync.BEGIN)
                if message.sync_response:
                    yield UpdateBatch(self._source, now, sync=Sync.END)
                    continue
                yield self._decoder.batch(message.update, now)
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if watch.problem is None or (task is not None and task.cancelling()):
                raise  # this task was cancelled, not the call
            raise watch.problem from None
        except grpc.aio.AioRpcError as error:
            if watch.problem is not None:
                raise watch.problem from error
            raise await self._explained(error, established=begun) from error
        finally:
            guard.cancel()
            ended.set()
            call.cancel()
            await asyncio.gather(guard, return_exceptions=True)

    async def _guard(self, call: Any, watch: _Watch) -> None:
        """End the call when the device has been silent for a heartbeat and does not answer within another."""
        heartbeat_s = self._config.heartbeat_s
        stub = self._connected()
        while True:
            silent_s = time.monotonic() - watch.heard
            if silent_s < heartbeat_s:
                await asyncio.sleep(heartbeat_s - silent_s)
                continue
            heard = watch.heard
            try:
                await stub.Capabilities(gnmi_pb2.CapabilityRequest(), timeout=heartbeat_s * 0.9)
            except grpc.aio.AioRpcError as error:
                if watch.heard != heard or error.code() not in _LOST:
                    watch.heard = max(watch.heard, time.monotonic())
                    continue
                watch.problem = SessionLost(
                    f"device {self.device}: {self._config.address} has been silent for"
                    f" {time.monotonic() - watch.heard:.1f} s and does not answer"
                )
                call.cancel()
                return
            watch.heard = time.monotonic()

    async def _explained(self, error: grpc.aio.AioRpcError, *, established: bool = False) -> TwinError:
        code, details = error.code(), error.details()
        where = f"device {self.device}: {self._config.address}"
        if code in _REFUSED:
            return CredentialError(
                f"{where} refuses our credentials ({details}); check what gnmi.certificate may do there"
            )
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return Unreachable(f"{where} did not answer within {self._config.heartbeat_s:g} s")
        if code in _LOST or (details or "").startswith(_BROKEN):
            if established:
                return SessionLost(f"{where}: the session ended ({details})")
            found = await diagnose(self.device, self._config, self._config.heartbeat_s)
            return found or Unreachable(f"{where} cannot be reached ({details})")
        return OperationRejected(f"{where} refuses: {code.name} {details}")


class _Watch:
    """What the reader and the liveness guard of one subscription share."""

    __slots__ = ("heard", "problem")

    def __init__(self) -> None:
        self.heard = time.monotonic()
        self.problem: SessionLost | None = None


def _offered(steps: Sequence[Any], modules: set[str]) -> bool:
    return not modules or not steps or steps[0].module in modules


async def _until(ended: asyncio.Event, request: Any) -> AsyncIterator[Any]:
    """The request, and then an open request stream: closing it ends a STREAM subscription."""
    yield request
    await ended.wait()
