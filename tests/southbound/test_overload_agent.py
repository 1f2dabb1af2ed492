"""A device that floods an agent: values are dropped, said, recorded as a gap, and read anew until equal."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import grpc
from pygnmi.spec.v080 import gnmi_pb2 as pb

from domain_twin.datastore.history import History
from domain_twin.errors import Unreachable
from domain_twin.model import Connection
from federation.client import TwinClient

ROOT = Path(__file__).resolve().parents[2]
COUNTERS = ("in-octets", "out-octets", "in-errors", "out-errors")
INTERFACES = 3000
AGENT = """
domain = "transport"
operator = "transport.example"
state = "state"
intake.max_mb = 0.2

[[device]]
name = "warsaw"
paths = ["/ietf-interfaces:interfaces"]
[device.gnmi]
address = "127.0.0.1:{port}"
root = "{root}"
certificate = "{certificate}"
key = "{key}"
"""


class Flooding(grpc.GenericRpcHandler):
    """A gNMI target that, when told to, changes every counter in one notification, once."""

    def __init__(self):
        self.value = 1
        self.subscriptions = 0
        self.flooded = 0
        self.flood = asyncio.Event()

    def service(self, details):
        if details.method == "/gnmi.gNMI/Subscribe":
            return grpc.stream_stream_rpc_method_handler(
                self.subscribe, response_serializer=lambda message: message.SerializeToString()
            )
        return grpc.unary_unary_rpc_method_handler(self.capabilities)

    async def capabilities(self, request, context):
        return pb.CapabilityResponse(
            supported_models=[pb.ModelData(name="ietf-interfaces")], supported_encodings=[pb.PROTO]
        ).SerializeToString()

    def notification(self, interfaces):
        made = pb.Notification(timestamp=time.time_ns())
        for number in interfaces:
            for counter in COUNTERS:
                update = made.update.add()
                update.path.elem.add(name="ietf-interfaces:interfaces")
                update.path.elem.add(name="interface", key={"name": f"eth{number}"})
                update.path.elem.add(name="statistics")
                update.path.elem.add(name=counter)
                update.val.uint_val = self.value
        return pb.SubscribeResponse(update=made)

    async def subscribe(self, requests, context):
        async for _ in requests:
            break
        self.subscriptions += 1
        for first in range(0, INTERFACES, 200):
            yield self.notification(range(first, first + 200))
        yield pb.SubscribeResponse(sync_response=True)
        await self.flood.wait()
        if self.value == 1:
            self.value = 2
            self.flooded = self.subscriptions
            everything = self.notification(range(INTERFACES))
            gone = everything.update.delete.add()  # what comes with a delete is taken in as a whole
            gone.elem.add(name="ietf-interfaces:interfaces")
            gone.elem.add(name="interface", key={"name": "gone"})
            yield everything
        await asyncio.sleep(300)


async def serve(flooding, authority):
    certificate, key = authority.issue("warsaw")
    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((flooding,))
    port = server.add_secure_port(
        "127.0.0.1:0",
        grpc.ssl_server_credentials(
            [(key.read_bytes(), certificate.read_bytes())], authority.root.read_bytes(), True
        ),
    )
    await server.start()
    return server, port


def lost(text):
    """How many values a text says were dropped. A slow machine loses some of the first answers too."""
    found = re.search(r"(\d+) values were dropped", text)
    return int(found[1]) if found else 0


async def eventually(socket, question):
    async with asyncio.timeout(60):
        while True:
            try:
                async with TwinClient.connect(socket) as twin:
                    if found := await question(twin):
                        return found
            except (Unreachable, LookupError):
                pass
            await asyncio.sleep(0.05)


async def test_flood_is_bounded_said_recorded_and_made_good(authority, tmp_path):
    flooding = Flooding()
    server, port = await serve(flooding, authority)
    certificate, key = authority.issue("collector")
    (tmp_path / "agent.toml").write_text(
        AGENT.format(port=port, root=authority.root, certificate=certificate, key=key)
    )
    with (tmp_path / "agent.log").open("ab") as out:
        agent = subprocess.Popen(  # noqa: ASYNC220 - it starts while nothing else runs
            [sys.executable, "-m", "federation.cli", "agent", str(tmp_path / "agent.toml")],
            cwd=ROOT, stdout=out, stderr=subprocess.STDOUT,
        )  # fmt: skip
    socket = tmp_path / "state" / "agent.sock"
    leaves = INTERFACES * len(COUNTERS)
    before = time.time_ns()
    try:

        async def in_step(twin):
            (status,) = await twin.devices()
            return status.connection is Connection.SYNCHRONISED and status.leaves == leaves

        async def made_good(twin):
            findings = [f.message for f in await twin.findings() if f.code == "device.overload"]
            return [text for text in findings if "read anew and is complete" in text and lost(text) >= leaves]

        await eventually(socket, in_step)
        flooding.flood.set()
        (message,) = await eventually(socket, made_good)
        await eventually(socket, in_step)
    finally:
        agent.send_signal(signal.SIGTERM)
        await asyncio.to_thread(agent.wait, 30)
        await server.stop(0)

    assert flooding.subscriptions > flooding.flooded
    history = await History.open(tmp_path / "state" / "history")
    try:
        gaps = await history.gaps(before, time.time_ns(), "warsaw")
        snapshot = await history.state_at(time.time_ns())
    finally:
        await history.close()
    assert lost(message) in [lost(gap.reason) for gap in gaps if "overload" in gap.reason]
    assert {leaf.value for _, _, leaf in snapshot.items()} == {2}
