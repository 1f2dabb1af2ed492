"""One agent process, one controller, three devices behind it: real TLS, real processes."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from device_under_test import CONFIG, MODULES, STATE

from domain_twin.emulator.device import DeviceDatastore, load_schema
from domain_twin.emulator.gnmi_controller import serve_gnmi_controller
from domain_twin.errors import Unreachable
from domain_twin.model import Connection
from federation.client import TwinClient

ROOT = Path(__file__).resolve().parents[2]
NETWORK = "urn:ndt:transport"
DEVICES = ("warsaw", "berlin", "paris")
AGENT = """
domain = "transport"
operator = "transport.example"
state = "state"

[[controller]]
name = "boss"
devices = ["warsaw", "berlin", "paris", "oslo"]
[controller.gnmi]
address = "127.0.0.1:{port}"
root = "{root}"
certificate = "{certificate}"
key = "{key}"
heartbeat_s = 1.0
"""


def device(name):
    """A device of that name; its topology, which its controller knows, is left out."""
    schema = load_schema(MODULES)
    store = DeviceDatastore(name, schema)
    config, state = (json.loads(json.dumps(tree).replace("warsaw", name)) for tree in (CONFIG, STATE))
    del config["ietf-network:networks"]
    store.load(config, state)
    return store


def boss():
    """The controller's own: the topology of all."""
    store = DeviceDatastore("boss", load_schema(MODULES))
    nodes = []
    for name in DEVICES:
        point = json.loads(json.dumps(CONFIG).replace("warsaw", name))
        (node,) = point["ietf-network:networks"]["network"][0]["node"]
        (port,) = node["ietf-network-topology:termination-point"]
        port["ietf-l3-unicast-topology:l3-termination-point-attributes"] = {"interface-name": "eth0"}
        nodes.append(node)
    network = {
        "network-id": NETWORK,
        "network-types": {"ietf-l3-unicast-topology:l3-unicast-topology": {}},
        "node": nodes,
        "ietf-network-topology:link": [
            {
                "link-id": f"{NETWORK}:warsaw-berlin",
                "source": {"source-node": f"{NETWORK}:warsaw", "source-tp": f"{NETWORK}:warsaw:eth0"},
                "destination": {"dest-node": f"{NETWORK}:berlin", "dest-tp": f"{NETWORK}:berlin:eth0"},
            }
        ],
    }
    store.load({"ietf-network:networks": {"network": [network]}}, {})
    return store


@pytest.fixture
async def serve(authority):
    servers = []
    certificate, key = authority.issue("boss")

    async def start(stores, port=0):
        server = await serve_gnmi_controller(
            "boss",
            stores,
            host="127.0.0.1",
            port=port,
            certificate=certificate.read_bytes(),
            key=key.read_bytes(),
            client_roots=authority.root.read_bytes(),
        )
        servers.append(server)
        return server

    yield start
    for server in servers:
        await server.close()


@pytest.fixture
def agent(tmp_path, authority):
    """Starts an agent with the controller at a port; its client."""
    processes = []

    def start(port):
        certificate, key = authority.issue("collector")
        (tmp_path / "agent.toml").write_text(
            AGENT.format(port=port, root=authority.root, certificate=certificate, key=key)
        )
        with (tmp_path / "agent.log").open("ab") as out:
            processes.append(
                subprocess.Popen(
                    [sys.executable, "-m", "federation.cli", "agent", str(tmp_path / "agent.toml")],
                    cwd=ROOT,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                )
            )
        return tmp_path / "state" / "agent.sock"

    yield start
    for process in processes:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise


async def eventually(socket, question, what):
    """The first answer of the agent that is not false."""
    seen = None
    try:
        async with asyncio.timeout(60):
            while True:
                try:
                    async with TwinClient.connect(socket) as twin:
                        seen = await question(twin)
                        if seen:
                            return seen
                except (Unreachable, LookupError):
                    pass
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(f"never {what}; last {seen}") from None


def connections(wanted):
    async def ask(twin):
        found = {status.name: status.connection for status in await twin.devices()}
        return found if wanted.items() <= found.items() else None

    return ask


async def up(socket):
    """Whether the port of each device is up."""
    async with TwinClient.connect(socket) as twin:
        return await ports(twin)


async def ports(twin):
    found = await twin.elements(kind="termination-point")
    return {point.attributes["device"]: point.attributes["oper-up"] for point in found}


async def same(twin, wanted):
    return await ports(twin) == wanted


async def test_devices_behind_a_controller_are_mirrored_lost_and_found_as_their_own(serve, agent):
    stores = {"boss": boss(), **{name: device(name) for name in (*DEVICES, "intruder")}}
    server = await serve(stores)
    socket = agent(server.port)
    in_step = dict.fromkeys(("boss", *DEVICES), Connection.SYNCHRONISED)

    statuses = await eventually(socket, connections(in_step), "in step")
    assert statuses["oslo"] is Connection.STALE  # the controller says nothing of it
    assert "intruder" not in statuses

    async with TwinClient.connect(socket) as twin:
        nodes = await twin.elements(kind="node")
        links = await twin.elements(kind="link")
        findings = {(f.code, f.element): f.message for f in await twin.findings()}
    assert {node.attributes["device"] for node in nodes} == set(DEVICES)
    assert (await up(socket))["paris"] == "true"  # joined with the interface that the device itself reports
    assert [link.attributes["device"] for link in links] == ["warsaw"]
    assert "boss speaks for intruder" in findings["controller.refused", "intruder"]
    assert ("device.stale", "oslo") in findings

    stores["paris"].put("/ietf-interfaces:interfaces/interface[name='eth0']/oper-status", "down")

    down = {"warsaw": "true", "berlin": "true", "paris": "false"}
    await eventually(socket, lambda twin: same(twin, down), "down at paris alone")

    await server.close()
    lost = dict.fromkeys(("boss", *DEVICES), Connection.STALE)
    await eventually(socket, connections(lost), "stale")
    async with TwinClient.connect(socket) as twin:
        assert all(node.stale for node in await twin.elements(kind="node"))

    del stores["berlin"]
    await serve(stores, server.port)
    await eventually(socket, connections(in_step), "back in step")  # its topology still knows berlin

    gone = {"warsaw": "true", "berlin": "false", "paris": "false"}
    await eventually(socket, lambda twin: same(twin, gone), "without what berlin itself had said")
