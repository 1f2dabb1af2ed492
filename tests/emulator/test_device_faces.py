"""One device, two faces: what one does, the other shows at once."""

import asyncio

import asyncssh
import grpc
import pytest
from device_example import ETH0
from lxml import etree
from ncclient import manager
from pygnmi.spec.v080 import gnmi_pb2 as pb
from pygnmi.spec.v080 import gnmi_pb2_grpc as rpc

from domain_twin.emulator.gnmi_target import serve_gnmi
from domain_twin.emulator.netconf_server import serve_netconf

NC = "urn:ietf:params:xml:ns:netconf:base:1.0"
IF = "urn:ietf:params:xml:ns:yang:ietf-interfaces"
ENABLED = pb.Path(
    elem=[
        pb.PathElem(name="ietf-interfaces:interfaces"),
        pb.PathElem(name="interface", key={"name": "eth0"}),
        pb.PathElem(name="enabled"),
    ]
)
call = asyncio.to_thread


@pytest.fixture
async def stub(store, pki):
    server = await serve_gnmi(
        store, host="127.0.0.1", port=0, certificate=pki.device[0], key=pki.device[1], client_roots=pki.roots
    )
    credentials = grpc.ssl_channel_credentials(pki.roots, pki.client[1], pki.client[0])
    async with grpc.aio.secure_channel(f"127.0.0.1:{server.port}", credentials) as channel:
        yield rpc.gNMIStub(channel)
    await server.close()


@pytest.fixture
async def client(store, tmp_path):
    key = asyncssh.generate_private_key("ssh-ed25519")
    server = await serve_netconf(store, host="127.0.0.1", port=0, host_key=key, users={"operator": "s3cret"})
    (tmp_path / "hosts").write_text(
        f"[127.0.0.1]:{server.port} {key.export_public_key().decode()}", encoding="utf-8"
    )
    (tmp_path / "config").write_text(f"Host *\n  UserKnownHostsFile {tmp_path / 'hosts'}\n", encoding="utf-8")
    connected = await call(
        manager.connect,
        host="127.0.0.1",
        port=server.port,
        username="operator",
        password="s3cret",
        hostkey_verify=True,
        ssh_config=str(tmp_path / "config"),
        allow_agent=False,
        look_for_keys=False,
    )
    yield connected
    await call(connected.close_session)
    await server.close()


def config(enabled):
    return (
        f'<config xmlns="{NC}"><interfaces xmlns="{IF}"><interface><name>eth0</name>'
        f"<enabled>{enabled}</enabled></interface></interfaces></config>"
    )


async def test_netconf_commit_and_its_roll_back_reach_a_gnmi_subscriber(stub, client, store):
    store.on_config_change = lambda change: store.put(
        f"{ETH0}/oper-status", "up" if store.get(f"{ETH0}/enabled") else "down"
    )
    interface = pb.Path(elem=[ENABLED.elem[0], ENABLED.elem[1]])
    request = pb.SubscribeRequest(
        subscribe=pb.SubscriptionList(
            subscription=[pb.Subscription(path=interface, mode=pb.ON_CHANGE)],
            encoding=pb.PROTO,
            updates_only=True,
        )
    )

    async def ask():
        yield request
        await asyncio.Event().wait()

    stream = aiter(stub.Subscribe(ask()))
    assert (await anext(stream)).sync_response
    await call(client.edit_config, target="candidate", config=config("false"))
    await call(client.commit, confirmed=True, timeout="1")

    async with asyncio.timeout(10):
        seen = [
            {update.path.elem[-1].name: update.val for update in (await anext(stream)).update.update}
            for _ in range(2)
        ]
    assert [found["enabled"].bool_val for found in seen] == [False, True]
    assert [found["oper-status"].string_val for found in seen] == ["down", "up"]


async def test_gnmi_set_reaches_netconf_push_events_and_reads(stub, client, store):
    await call(client.create_subscription)
    await stub.Set(pb.SetRequest(update=[pb.Update(path=ENABLED, val=pb.TypedValue(bool_val=False))]))

    received = await call(client.take_notification, True, 10)
    root = etree.fromstring(received.notification_xml.encode())
    assert root.findtext(".//{*}target") == "/if:interfaces/if:interface[if:name='eth0']/if:enabled"
    text = (await call(client.get_config, "running")).data_xml
    assert "<enabled>false</enabled>" in text


async def test_netconf_lock_holds_for_gnmi(stub, client, store):
    await call(client.lock, "running")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Set(pb.SetRequest(update=[pb.Update(path=ENABLED, val=pb.TypedValue(bool_val=False))]))
    assert caught.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert f"session {client.session_id}" in caught.value.details()
    assert store.get(f"{ETH0}/enabled") is True
