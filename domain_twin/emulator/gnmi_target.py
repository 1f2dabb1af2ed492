"""The gNMI face of one emulated device: Capabilities, Get, Set and Subscribe (gNMI 0.8.0) over mutual TLS.

A view of the device's datastore; owns no data. Refuses clients without a certificate of the given roots.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import grpc
from pygnmi.spec.v080 import gnmi_pb2, gnmi_pb2_grpc

from domain_twin.emulator import data_tree
from domain_twin.emulator.data_tree import ConfigRejected
from domain_twin.emulator.device import Actor, Change, DeviceDatastore, Leaf, PathPattern
from domain_twin.emulator.gnmi_paths import (
    GnmiStatus,
    add_update,
    concrete_path,
    json_of,
    patterns,
    set_json,
    wire_path,
)
from domain_twin.emulator.gnmi_subscribe import ENCODINGS, Subscriber, check_encoding, serve_first
from domain_twin.emulator.json_tree import json_tree
from domain_twin.errors import ConfigError

GNMI_VERSION = "0.8.0"
_MAXIMUM_REQUEST = 4 * 1024 * 1024
_BUSY = ("in-use", "lock-denied")
_T = TypeVar("_T")


class GnmiServer:
    """A running gNMI target."""

    def __init__(self, server: Any, port: int, target: Any):
        self._server = server
        self._target = target
        self.port = port

    @property
    def sessions(self) -> int:
        """How many subscriptions are open."""
        count: int = self._target.subscribers
        return count

    async def close(self) -> None:
        """Stop listening and end every RPC."""
        await self._server.stop(0.1)


async def serve_gnmi(
    store: DeviceDatastore,
    *,
    host: str,
    port: int,
    certificate: bytes,
    key: bytes,
    client_roots: bytes | None,
) -> GnmiServer:
    """Serve `store` on `host`:`port` (0: any free one); PEM in, certificates of `client_roots` required.

    `client_roots` None accepts any client over TLS. Raises ConfigError where the address is taken.
    """
    return await listen(
        GnmiTarget(store),
        store.name,
        host=host,
        port=port,
        certificate=certificate,
        key=key,
        client_roots=client_roots,
    )


async def listen(
    target: Any,
    name: str,
    *,
    host: str,
    port: int,
    certificate: bytes,
    key: bytes,
    client_roots: bytes | None,
) -> GnmiServer:
    """Serve the gNMI of `name` over TLS: a servicer that counts its `subscribers`. Raises ConfigError."""
    server = grpc.aio.server(
        options=[
            ("grpc.so_reuseport", 0),  # else a second emulator shares the port without a word
            ("grpc.max_receive_message_length", _MAXIMUM_REQUEST),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.min_ping_interval_without_data_ms", 500),
            ("grpc.http2.max_ping_strikes", 0),
        ]
    )
    gnmi_pb2_grpc.add_gNMIServicer_to_server(target, server)
    credentials = grpc.ssl_server_credentials(
        [(key, certificate)], root_certificates=client_roots, require_client_auth=client_roots is not None
    )
    try:
        bound = server.add_secure_port(f"{host}:{port}", credentials)
    except RuntimeError as cause:
        raise ConfigError(
            f"device {name}: gNMI cannot listen on {host}:{port} ({cause}): free the port or choose another"
        ) from cause
    await server.start()
    return GnmiServer(server, bound, target)


class GnmiTarget(gnmi_pb2_grpc.gNMIServicer):  # type: ignore[misc]
    """The four RPCs of gNMI on one datastore."""

    def __init__(self, store: DeviceDatastore):
        self.subscribers = 0
        self._store = store

    async def Capabilities(self, request: Any, context: Any) -> Any:
        """Version, encodings, and the modules the device implements."""
        return gnmi_pb2.CapabilityResponse(
            gNMI_version=GNMI_VERSION,
            supported_encodings=ENCODINGS,
            supported_models=[
                gnmi_pb2.ModelData(
                    name=module.name, organization=module.organization, version=module.revision
                )
                for module in self._store.schema.modules.values()
                if module.implemented
            ],
        )

    async def Get(self, request: Any, context: Any) -> Any:
        """One Notification a path: a JSON subtree, or one update a leaf in PROTO."""
        return await _answer(context, lambda: self._get(request))

    async def Set(self, request: Any, context: Any) -> Any:
        """Deletes, then replaces, then updates, in one transaction."""
        return await _answer(context, lambda: self._set(request))

    async def Subscribe(self, request_iterator: Any, context: Any) -> None:
        """Serve one subscriber; see `gnmi_subscribe`."""
        self.subscribers += 1
        try:
            await serve_first(
                request_iterator,
                context,
                lambda first: Subscriber(self._store, first).run(request_iterator, context),
            )
        finally:
            self.subscribers -= 1

    def _get(self, request: Any) -> Any:
        encoding = check_encoding(request.encoding)
        response = gnmi_pb2.GetResponse()
        for path in request.path or [gnmi_pb2.Path()]:
            found = patterns(self._store.schema, request.prefix, path)
            notification = response.notification.add(timestamp=self._store.clock())
            if request.prefix.target:
                notification.prefix.target = request.prefix.target
            if encoding == gnmi_pb2.PROTO:
                present = self._add_leaves(notification, found, request.type)
            else:
                present = self._add_subtrees(notification, found, request.type, encoding)
            if not present:
                raise GnmiStatus(
                    grpc.StatusCode.NOT_FOUND, f"{found[0].text}: no such data on {self._store.name}"
                )
        return response

    def _add_leaves(self, notification: Any, found: Sequence[PathPattern], part: int) -> bool:
        present = False
        for pattern in found:
            for leaf in self._store.select(pattern):
                present = True
                if _is_part(leaf, part):
                    add_update(notification, leaf, gnmi_pb2.PROTO)
        return present or not found[0].elements

    def _add_subtrees(
        self, notification: Any, found: Sequence[PathPattern], part: int, encoding: int
    ) -> bool:
        present = False
        for pattern in found:
            for steps, held in self._store.instances(pattern):
                present = True
                if isinstance(held, Leaf):
                    if _is_part(held, part):
                        add_update(notification, held, encoding)
                    continue
                node = steps[-1][0] if steps else None
                tree = held
                if part == gnmi_pb2.GetRequest.CONFIG:
                    tree = data_tree.descend(self._store.running, steps)
                    if tree is None:
                        continue
                state_only = part in (gnmi_pb2.GetRequest.STATE, gnmi_pb2.GetRequest.OPERATIONAL)
                data = json_tree(tree, node, state_only=state_only, qualify=True)
                update = notification.update.add(path=wire_path(steps))
                set_json(update.val, data, encoding)
        return present

    def _set(self, request: Any) -> Any:
        schema = self._store.schema
        response = gnmi_pb2.SetResponse(prefix=request.prefix)
        changes: list[Change] = []
        for path in request.delete:
            changes.append(Change("remove", concrete_path(schema, request.prefix, path)))
            response.response.add(path=path, op=gnmi_pb2.UpdateResult.DELETE)
        for updates, operation, result in (
            (request.replace, "replace", gnmi_pb2.UpdateResult.REPLACE),
            (request.update, "merge", gnmi_pb2.UpdateResult.UPDATE),
        ):
            for update in updates:
                path = concrete_path(schema, request.prefix, update.path)
                changes.append(Change(operation, path, json_of(update.val, path)))  # type: ignore[arg-type]
                response.response.add(path=update.path, op=result)
        try:
            self._store.edit(changes, Actor("gnmi"))
        except ConfigRejected as rejection:
            code = grpc.StatusCode.INVALID_ARGUMENT
            if rejection.tag in _BUSY:
                code = grpc.StatusCode.FAILED_PRECONDITION
            raise GnmiStatus(code, str(rejection)) from None
        response.timestamp = self._store.clock()
        return response


async def _answer(context: Any, work: Callable[[], _T]) -> _T:
    try:
        return work()
    except GnmiStatus as status:
        abort: Awaitable[None] = context.abort(status.code, status.message)
        await abort
        raise


def _is_part(leaf: Leaf, part: int) -> bool:
    if part == gnmi_pb2.GetRequest.ALL:
        return True
    if part == gnmi_pb2.GetRequest.CONFIG:
        return leaf.configured
    return not leaf.node.config
