"""A controller: one gNMI target that speaks for several emulated devices (gNMI 2.2.2.1, path target).

Capabilities, and Subscribe for the targets that the prefix names: one device, or `*` for all. Each of its
notifications carries its device as target. Owns no data, and refuses Get and Set: they belong to the devices.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import grpc
from pygnmi.spec.v080 import gnmi_pb2, gnmi_pb2_grpc

from domain_twin.emulator.device import DeviceDatastore
from domain_twin.emulator.gnmi_paths import GnmiStatus
from domain_twin.emulator.gnmi_subscribe import Subscriber, serve_first
from domain_twin.emulator.gnmi_target import GnmiServer, GnmiTarget, listen

ALL = "*"

__all__ = ["serve_gnmi_controller"]


async def serve_gnmi_controller(
    name: str,
    stores: Mapping[str, DeviceDatastore],
    *,
    host: str,
    port: int,
    certificate: bytes,
    key: bytes,
    client_roots: bytes | None,
) -> GnmiServer:
    """Serve `stores` by target on `host`:`port` (0: any free one). Raises ConfigError: that is taken."""
    return await listen(
        GnmiController(stores),
        name,
        host=host,
        port=port,
        certificate=certificate,
        key=key,
        client_roots=client_roots,
    )


class GnmiController(gnmi_pb2_grpc.gNMIServicer):  # type: ignore[misc]
    """Capabilities and Subscribe for many devices."""

    def __init__(self, stores: Mapping[str, DeviceDatastore]) -> None:
        self.subscribers = 0
        self._stores = stores

    async def Capabilities(self, request: Any, context: Any) -> Any:
        """What any of the devices implements."""
        merged = gnmi_pb2.CapabilityResponse()
        models: dict[str, Any] = {}
        for store in self._stores.values():
            reply = await GnmiTarget(store).Capabilities(request, context)
            models |= {model.name: model for model in reply.supported_models}
            merged.gNMI_version = reply.gNMI_version
            del merged.supported_encodings[:]
            merged.supported_encodings.extend(reply.supported_encodings)
        merged.supported_models.extend(models.values())
        return merged

    async def Subscribe(self, request_iterator: Any, context: Any) -> None:
        """Serve one subscriber with the targets that it names."""
        self.subscribers += 1
        try:
            await serve_first(request_iterator, context, lambda first: self._serve(first, context))
        finally:
            self.subscribers -= 1

    async def _serve(self, first: Any, context: Any) -> None:
        target = first.subscribe.prefix.target
        chosen = list(self._stores) if target in ("", ALL) else [target]
        if unknown := [name for name in chosen if name not in self._stores]:
            raise GnmiStatus(
                grpc.StatusCode.NOT_FOUND,
                f"target {unknown[0]!r}: {', '.join(self._stores)} are here, and {ALL}",
            )
        joined = _Joined(context, len(chosen))
        once = first.subscribe.mode != gnmi_pb2.SubscriptionList.STREAM
        async with asyncio.TaskGroup() as tasks:
            for name in chosen:
                request = gnmi_pb2.SubscribeRequest()
                request.CopyFrom(first)
                request.subscribe.prefix.target = name
                served = _offered(self._stores[name], request)
                if served.subscribe.subscription:
                    subscriber = Subscriber(self._stores[name], served)
                    tasks.create_task(subscriber.run(_open(once), joined))
                else:
                    await joined.write(gnmi_pb2.SubscribeResponse(sync_response=True))


class _Joined:
    """The one stream that many devices' subscribers write to; in sync once all of them are."""

    def __init__(self, context: Any, count: int) -> None:
        self._context = context
        self._outstanding = count
        self._turn = asyncio.Lock()

    async def write(self, response: Any) -> None:
        """Pass a response on; of the sync responses only the last."""
        async with self._turn:
            if response.sync_response:
                self._outstanding -= 1
                if self._outstanding:
                    return
            await self._context.write(response)


def _offered(store: DeviceDatastore, request: Any) -> Any:
    """The request without paths of modules that this device lacks and another has."""
    wanted = list(request.subscribe.subscription)
    del request.subscribe.subscription[:]
    for entry in wanted:
        module, colon, _ = (entry.path.elem[0].name if entry.path.elem else "").partition(":")
        if not colon or module in store.schema.modules:
            request.subscribe.subscription.append(entry)
    return request


async def _open(once: bool) -> AsyncIterator[Any]:
    """A request stream that says nothing more."""
    if not once:
        await asyncio.get_running_loop().create_future()
    return
    yield
