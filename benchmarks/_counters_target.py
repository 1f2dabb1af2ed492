"""A gNMI target over mTLS whose stream of counters a benchmark makes: capabilities and Subscribe, no more."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import grpc
from pygnmi.spec.v080 import gnmi_pb2 as pb

SYNC: bytes = pb.SubscribeResponse(sync_response=True).SerializeToString()


def add_counter(note: Any, interface: str, counter: str, value: int) -> None:
    """Add one counter of an interface (RFC 8343) to a notification."""
    update = note.update.add()
    update.path.elem.add(name="ietf-interfaces:interfaces")
    update.path.elem.add(name="interface", key={"name": interface})
    update.path.elem.add(name="statistics")
    update.path.elem.add(name=counter)
    update.val.uint_val = value


async def serve_counters(files: Mapping[str, Path], stream: Callable[[], AsyncIterator[bytes]]) -> int:
    """Serve `stream` to each subscriber on a free port of loopback, as long as the loop lives; the port."""

    class Target(grpc.GenericRpcHandler):  # type: ignore[misc]
        def service(self, details: Any) -> Any:
            if details.method == "/gnmi.gNMI/Subscribe":
                return grpc.stream_stream_rpc_method_handler(self.subscribe)
            return grpc.unary_unary_rpc_method_handler(self.capabilities)

        async def capabilities(self, request: bytes, context: Any) -> Any:
            return pb.CapabilityResponse(
                supported_models=[pb.ModelData(name="ietf-interfaces")],
                supported_encodings=[pb.PROTO, pb.JSON_IETF],
                gNMI_version="0.8.0",
            ).SerializeToString()

        async def subscribe(self, requests: Any, context: Any) -> Any:
            async for _ in requests:
                break
            async for message in stream():
                yield message

    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((Target(),))
    port: int = server.add_secure_port(
        "127.0.0.1:0",
        grpc.ssl_server_credentials(
            [(files["server_key"].read_bytes(), files["server"].read_bytes())],
            root_certificates=files["root"].read_bytes(),
            require_client_auth=True,
        ),
    )
    await server.start()
    _serving.append(server)
    return port


_serving: list[Any] = []  # a server that nobody holds ends
