"""The emulator as a process of its own, met at its real ports: NETCONF by ncclient, gNMI over mutual TLS."""

import asyncio
import contextlib
import signal
import socket
import stat
import subprocess
import sys
import tomllib
from pathlib import Path

import grpc
import pytest
from ncclient import manager
from pygnmi.spec.v080 import gnmi_pb2, gnmi_pb2_grpc

from domain_twin.emulator.control import EmulatorControl
from domain_twin.errors import ConfigError, NotFound, Unreachable

pytestmark = pytest.mark.e2e
ROOT = Path(__file__).resolve().parents[2]
SMALL = 'state = "run"\ngnbs = 2\ncells_per_gnb = 1\nhosts = 2\nconvergence_ms = 100\ninterval_ms = 500\n'


class Process:
    """An emulator process and what it said."""

    def __init__(self, folder: Path, text: str = SMALL):
        self.state = folder / "run"
        (folder / "network.toml").write_text(text, encoding="utf-8")
        command = [sys.executable, "-m", "domain_twin.emulator", str(folder / "network.toml")]
        self.popen = subprocess.Popen(
            command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.said: list[str] = []

    def wait_ready(self) -> "Process":
        for line in self.popen.stdout:
            self.said.append(line.strip())
            if line.startswith("inventory") and line.strip().endswith("devices.edge.toml"):
                return self
        raise AssertionError(f"it ended: {self.popen.stderr.read()}")

    def end(self, number: int = signal.SIGTERM) -> int:
        if self.popen.poll() is None:
            self.popen.send_signal(number)
        try:
            self.popen.wait(60)
        finally:
            self.popen.kill()
            self.popen.wait()
            self.rest = self.popen.stderr.read()
            self.popen.stdout.close()
            self.popen.stderr.close()
        return self.popen.returncode

    def control(self) -> EmulatorControl:
        return EmulatorControl(self.state / "control.sock")

    def device(self, name: str, domain: str) -> dict:
        text = (self.state / f"devices.{domain}.toml").read_text(encoding="utf-8")
        return next(d for d in tomllib.loads(text)["device"] if d["name"] == name)

    def netconf(self, name: str, domain: str, folder: Path):
        """An ncclient session that trusts nothing but the inventory."""
        reach = self.device(name, domain)["netconf"]
        host, _, port = reach["address"].rpartition(":")
        config = folder / f"ssh-{name}"
        config.write_text(f"Host {host}\n  UserKnownHostsFile {self.state / reach['known_hosts']}\n")
        password = (self.state / reach["password"].removeprefix("file:")).read_text(encoding="utf-8")
        return manager.connect(
            host=host, port=int(port), username=reach["username"], password=password, hostkey_verify=True,
            ssh_config=str(config), allow_agent=False, look_for_keys=False, timeout=20,
        )  # fmt: skip

    @contextlib.asynccontextmanager
    async def gnmi(self, name: str, domain: str, *, certificate: bool = True):
        reach = self.device(name, domain)["gnmi"]
        pem = [(self.state / reach[k]).read_bytes() for k in ("root", "key", "certificate")]
        credentials = grpc.ssl_channel_credentials(pem[0], *(pem[1:] if certificate else (None, None)))
        options = [("grpc.ssl_target_name_override", reach["server_name"])]
        async with grpc.aio.secure_channel(reach["address"], credentials, options) as channel:
            yield gnmi_pb2_grpc.gNMIStub(channel)


@pytest.fixture(scope="module")
def process(tmp_path_factory):
    """One emulator for every test that leaves it as it was."""
    running = Process(tmp_path_factory.mktemp("emulator"))
    try:
        yield running.wait_ready()
    finally:
        running.end()


def interface_of(client, far: str) -> str:
    """Name of the interface whose link goes to a device."""
    reply = client.get(filter=("subtree", "<networks xmlns='urn:ietf:params:xml:ns:yang:ietf-network'/>"))
    namespace = {"t": "urn:ietf:params:xml:ns:yang:ietf-network-topology"}
    for link in reply.data.iterfind(".//t:link", namespace):
        if link.findtext("t:destination/t:dest-node", "", namespace).endswith(f":{far}"):
            return link.findtext("t:source/t:source-tp", "", namespace).rpartition(":")[2]
    raise AssertionError(f"no link to {far}")


def set_enabled(client, interface: str, enabled: bool) -> None:
    client.edit_config(
        target="candidate",
        config=f"""<config xmlns="urn:ietf:params:xml:ns:netconf:base:1.0">
        <interfaces xmlns="urn:ietf:params:xml:ns:yang:ietf-interfaces"><interface><name>{interface}</name>
        <enabled>{str(enabled).lower()}</enabled></interface></interfaces></config>""",
    )
    client.commit()


async def oper_status(stub, interface: str) -> str:
    steps = [("ietf-interfaces:interfaces", {}), ("interface", {"name": interface}), ("oper-status", {})]
    path = gnmi_pb2.Path(elem=[gnmi_pb2.PathElem(name=name, key=key) for name, key in steps])
    request = gnmi_pb2.GetRequest(path=[path], encoding=gnmi_pb2.Encoding.JSON_IETF)
    answer = await stub.Get(request, timeout=20)
    return answer.notification[0].update[0].val.json_ietf_val.decode().strip('"')


async def until(condition) -> None:
    """Wait for something another process does."""
    async with asyncio.timeout(20):
        while not await condition():  # noqa: ASYNC110  # nothing here to be notified by
            await asyncio.sleep(0.05)


async def test_edit_on_a_device_moves_packets(process, tmp_path):
    """A link is disabled by NETCONF: the far end reports it, packets take another way."""
    client = await asyncio.to_thread(process.netconf, "szczecin", "transport", tmp_path)
    interface = await asyncio.to_thread(interface_of, client, "poznan")
    async with process.control() as control, process.gnmi("poznan", "transport") as poznan:
        await asyncio.sleep(1.5)
        before = await control.truth(seconds=1.0)
        reply = client.get(filter=("subtree", "<networks xmlns='urn:ietf:params:xml:ns:yang:ietf-network'/>"))
        assert "urn:ndt:transport:szczecin" in reply.data_xml

        await asyncio.to_thread(set_enabled, client, interface, False)

        cuts = [c for c in await control.changes() if c["command"] == "SetLink" and c.get("up") is False]
        assert {c["link"] for c in cuts} == {"szczecin-poznan", "poznan-szczecin"}
        states = {await oper_status(poznan, f"eth{n}") for n in range(3)}
        assert states == {"up", "down"}
        for _ in range(100):
            await asyncio.sleep(0.1)
            after = await control.truth(since_ns=cuts[0]["at_ns"])
            if after["count"] >= 50:
                break
        assert after["first_delivered_ns"] - cuts[0]["at_ns"] > 0.1e9  # convergence_ms
        assert after["parts_ms"]["transport"] > before["parts_ms"]["transport"] + 1
        await asyncio.to_thread(set_enabled, client, interface, True)
        assert (await control.changes(since_ns=cuts[0]["at_ns"] + 1))[0]["up"] is True
    await asyncio.to_thread(client.close_session)


async def test_control_answers_and_explains(process):
    async with process.control() as control:
        kinds = {kind["kind"] for kind in await control.kinds()}
        assert {"link-cut", "attack", "management-loss"} <= kinds
        devices = await control.devices()
        assert len(devices) == 2 + 12 + 4 + 2
        assert all(d["netconf"] for d in devices if d["domain"] != "edge")
        assert all(d["gnmi"] for d in devices if d["domain"] != "ran")
        fault = await control.inject("link-cut", link="szczecin-poznan", duration_s=0.2)
        assert [f["id"] for f in await control.faults()] == [fault["id"]]

        async def over():
            return not await control.faults()

        await until(over)
        flows = {f["name"]: f for f in await control.flows()}
        assert flows["gnb-1.cell-1:host-1"]["watched"]
        stats = await control.stats()
        assert stats["devices"] == 20
        assert stats["overflow"] == 0
        with pytest.raises(NotFound, match="no link 'a-b'"):
            await control.inject("link-cut", link="a-b")
        with pytest.raises(ConfigError, match="no kind 'quake'; there are link-cut"):
            await control.inject("quake")
        with pytest.raises(NotFound, match="flow 'x' is not watched"):
            await control.truth("x")
        with pytest.raises(NotFound, match="no operation 'dance'; there are kinds"):
            await control.request("dance")


async def test_management_loss_closes_the_servers_and_opens_them_at_the_same_ports(process):
    async with process.control() as control:
        before = {d["name"]: d for d in await control.devices()}["warsaw"]
        fault = await control.inject("management-loss", device="warsaw")
        for port in (before["netconf"], before["gnmi"]):
            with pytest.raises(OSError, match=r"refused|Connect call failed"):
                await asyncio.open_connection("127.0.0.1", port)

        async def delivered():
            return {f["name"]: f["delivered"] for f in await control.flows()}["warsaw:lodz"]

        async def goes_on():
            return await delivered() > sent

        sent = await delivered()
        await until(goes_on)

        await control.clear(fault["id"])

        after = {d["name"]: d for d in await control.devices()}["warsaw"]
        assert after == before
        async with process.gnmi("warsaw", "transport") as stub:
            assert (await stub.Capabilities(gnmi_pb2.CapabilityRequest(), timeout=20)).gNMI_version


async def test_gnmi_refuses_a_client_without_certificate(process):
    async with process.gnmi("warsaw", "transport", certificate=False) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await stub.Capabilities(gnmi_pb2.CapabilityRequest(), timeout=5)

    assert error.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)


async def test_inventory_suits_each_domain_and_keeps_secrets_out(process):
    ran, transport, edge = (
        process.device(*names) for names in (("gnb-1", "ran"), ("lodz", "transport"), ("host-1", "edge"))
    )
    assert set(ran) == {"name", "netconf"}
    assert set(transport) == {"name", "gnmi", "netconf"}
    assert set(edge) == {"name", "gnmi"}
    secret = (process.state / "keys/ran/password").read_text(encoding="utf-8")
    for file in process.state.glob("devices.*.toml"):
        assert secret not in file.read_text(encoding="utf-8")
    private = [*process.state.rglob("*.key"), *process.state.rglob("*.ssh"), *process.state.rglob("password")]
    assert len(private) > 20
    for file in [*private, process.state / "control.sock"]:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file


@pytest.mark.parametrize("way", ["SIGINT", "SIGTERM", "shutdown"])
async def test_it_ends_cleanly_and_keeps_its_keys(tmp_path, way):
    first = Process(tmp_path)
    await asyncio.to_thread(first.wait_ready)
    reach = first.device("warsaw", "transport")
    known = (first.state / "keys/transport/known_hosts").read_text(encoding="utf-8").split()[2]
    root = (first.state / "keys/transport/devices.pem").read_bytes()

    if way == "shutdown":
        async with first.control() as control:
            await control.shutdown()
    assert await asyncio.to_thread(first.end, getattr(signal, way, 0)) == 0

    assert first.rest == ""
    assert not (first.state / "control.sock").exists()
    for protocol in ("gnmi", "netconf"):
        host, _, port = reach[protocol]["address"].rpartition(":")
        with pytest.raises(ConnectionRefusedError), socket.create_connection((host, int(port)), 5):
            pass
    if way == "SIGTERM":
        second = Process(tmp_path)
        await asyncio.to_thread(second.wait_ready)
        assert (second.state / "keys/transport/known_hosts").read_text(encoding="utf-8").split()[2] == known
        assert (second.state / "keys/transport/devices.pem").read_bytes() == root
        assert await asyncio.to_thread(second.end) == 0


def test_second_emulator_on_the_same_state_is_refused_and_the_first_goes_on(process, tmp_path):
    second = Process(tmp_path, SMALL.replace('"run"', f'"{process.state}"'))

    assert second.end(0) == 2

    assert "an emulator runs with this state folder already; stop it or choose another" in second.rest
    assert len(second.rest.strip().splitlines()) == 1
    assert (process.state / "control.sock").exists()


def test_port_in_use_is_named(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        base = taken.getsockname()[1]
        refused = Process(tmp_path, SMALL + f"[servers]\nport_base_netconf = {base}\n")

        assert refused.end(0) == 2

    assert f"gnb-1: NETCONF cannot listen on 127.0.0.1:{base}" in refused.rest
    assert len(refused.rest.strip().splitlines()) == 1
    assert not (refused.state / "control.sock").exists()


def test_wrong_file_is_one_clear_line(tmp_path):
    refused = Process(tmp_path, "gnb = 2\n")

    assert refused.end(0) == 2

    assert "network.toml: unknown key gnb. Did you mean gnbs?" in refused.rest
    assert len(refused.rest.strip().splitlines()) == 1


async def test_client_says_where_no_emulator_answers(tmp_path):
    with pytest.raises(Unreachable, match=r"no emulator answers .* fedtwin emulate network\.toml"):
        async with EmulatorControl(tmp_path / "control.sock"):
            pass
