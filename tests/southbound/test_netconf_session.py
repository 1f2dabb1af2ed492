"""NETCONF sessions against the emulated device's server: real SSH, real subscriptions, killed servers."""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from decimal import Decimal

import asyncssh
import pytest
from device_under_test import CELL, ETH0, ETH1, IN_OCTETS, NODE, POINT, SUBTREES, TOPOLOGY, relay
from hostile_netconf import CAPABILITIES, Hostile, hello, listening
from lxml import etree

from domain_twin.config import NetconfConfig
from domain_twin.emulator.netconf_server import serve_netconf
from domain_twin.errors import CredentialError, OperationRejected, SessionLost, Unreachable
from domain_twin.model import Sync
from domain_twin.southbound.base import Edit, Operation
from domain_twin.southbound.netconf import NetconfSession
from domain_twin.yang.quarantine import Typer
from domain_twin.yang.schema import SchemaSet

LATENCY = f"/fedtwin-performance:performance/link[link-id='{NODE}:eth1:out']/one-way-delay"
SLICES = f"{CELL}/sNSSAIList"


@pytest.fixture
async def server(store):
    key = asyncssh.generate_private_key("ssh-ed25519")
    running = await serve_netconf(
        store, host="127.0.0.1", port=0, host_key=key.export_private_key(), users={"twin": "s3cret"}
    )
    running.host_key = key.export_public_key().decode().strip()
    running.stopped = False
    yield running
    if not running.stopped:
        await running.close()


async def stop(server):
    server.stopped = True
    await server.close()


@pytest.fixture(params=["asyncssh", "ncclient"])
def config(server, tmp_path, request):
    known_hosts = tmp_path / "known_hosts"
    known_hosts.write_text(f"[127.0.0.1]:{server.port} {server.host_key}\n")
    password = tmp_path / "password"
    password.write_text("s3cret\n")
    password.chmod(0o600)
    return NetconfConfig(
        address=f"127.0.0.1:{server.port}",
        known_hosts=known_hosts,
        username="twin",
        password=f"file:{password}",
        client=request.param,
        heartbeat_s=1.0,
        poll_interval_s=0.3,
    )


@asynccontextmanager
async def session(config, schema, **changes):
    push = changes.pop("push", True)
    async with NetconfSession("warsaw", config.model_copy(update=changes), schema, push=push) as opened:
        yield opened


async def until_end(batches):
    """All batches up to and including END."""
    out = []
    async for batch in batches:
        out.append(batch)
        if batch.sync is Sync.END:
            return out
    raise AssertionError("the subscription ended before END")


async def until_change(batches):
    """The next batch that says something."""
    async for batch in batches:
        if batch.updates or batch.deletes:
            return batch
    raise AssertionError("the subscription ended")


async def drain(stream, timeout_s=20.0):
    """Read until the stream raises."""
    async with asyncio.timeout(timeout_s):
        async for _ in stream:
            pass


def leaves(*batches):
    return {update.path: update.value for batch in batches for update in batch.updates}


async def test_capabilities_come_from_hello_and_library(config, schema):
    async with session(config, schema) as opened:
        found = await opened.capabilities()

    assert {"candidate", "confirmed-commit", "validate", "yang-push", "get-schema"} <= found.features
    assert {"ietf-interfaces", "fedtwin-ran"} <= {module.name for module in found.modules}


async def test_get_returns_typed_leaves_of_all_kinds(config, schema):
    async with session(config, schema) as opened:
        raw = await opened.get(SUBTREES)
    batch, bad = Typer(schema).type_batch(raw)

    found = leaves(batch)
    assert bad == ()
    assert found[IN_OCTETS] == 2**64 - 1
    assert found[f"{ETH0}/type"] == "iana-if-type:ethernetCsmacd"
    assert found[f"{ETH0}/enabled"] is True
    assert found[f"{ETH1}/description"] == "<to> 'b'"
    assert found[SLICES] == ("1", "2-00000a")
    assert found[f"{POINT}/fedtwin-inter-domain:inter-domain/capacity"] == Decimal("100.500")
    assert found[LATENCY] == Decimal("12.500")
    assert found[f"{TOPOLOGY}/network-types/ietf-l3-unicast-topology:l3-unicast-topology"] is None


async def test_get_of_one_entry_returns_only_that(config, schema):
    async with session(config, schema) as opened:
        found = leaves(await opened.get([ETH0]))

    assert found
    assert all(path.startswith(ETH0) for path in found)


async def test_push_begins_with_all_and_goes_on_with_changes(config, schema, store):
    async with session(config, schema) as opened, aclosing(opened.subscribe(SUBTREES)) as stream:
        first = await until_end(stream)
        store.put(IN_OCTETS, 17)
        change = await until_change(stream)

    assert first[0].sync is Sync.BEGIN
    assert leaves(*first)[IN_OCTETS] == 2**64 - 1
    assert leaves(change) == {IN_OCTETS: 17}
    assert change.updates[0].observed_at > 10**18


async def test_pushed_deletes_leaf_lists_and_entries_keep_the_state_equal(config, schema, store):
    """What the twin folds from pushes is what a fresh get returns."""
    async with session(config, schema) as opened, aclosing(opened.subscribe(SUBTREES)) as stream:
        state = leaves(*await until_end(stream))
        async with session(config, schema) as other:
            await other.edit(
                [
                    Edit(f"{SLICES}[.='3']"),
                    Edit(f"{SLICES}[.='1']", operation=Operation.DELETE),
                    Edit(f"{ETH1}/description", operation=Operation.DELETE),
                    Edit(
                        "/ietf-interfaces:interfaces/interface[name='eth9']/type",
                        "iana-if-type:ethernetCsmacd",
                    ),
                ]
            )
            store.delete(f"{ETH0}/speed")
            await asyncio.sleep(0.3)
            try:
                async with asyncio.timeout(0.5):
                    async for batch in stream:
                        for delete in batch.deletes:
                            for path in [
                                p for p in state if p == delete.path or p.startswith(delete.path + "/")
                            ]:
                                del state[path]
                        state |= leaves(batch)
            except TimeoutError:
                pass
            fresh = leaves(await other.get(SUBTREES))

    assert state[SLICES] == ("2-00000a", "3")
    assert f"{ETH1}/description" not in state
    assert state == fresh


async def test_resync_has_everything_sent_anew(config, schema, store):
    async with session(config, schema) as opened, aclosing(opened.subscribe(SUBTREES)) as stream:
        first = leaves(*await until_end(stream))
        await opened.resync()
        async with asyncio.timeout(20):
            again = await until_end(stream)

    assert again[-2].sync is Sync.BEGIN
    assert leaves(*again) == first


async def test_resync_without_a_subscription_is_refused(config, schema):
    async with session(config, schema) as opened:
        with pytest.raises(OperationRejected, match="no subscription"):
            await opened.resync()


async def test_subscription_that_others_kill_ends_the_session(config, schema):
    async with (
        session(config, schema) as opened,
        aclosing(opened.subscribe(SUBTREES)) as stream,
        session(config, schema) as other,
    ):
        await until_end(stream)
        kill = etree.fromstring(
            '<kill-subscription xmlns="urn:ietf:params:xml:ns:yang:ietf-subscribed-notifications">'
            f"<id>{opened._subscription}</id></kill-subscription>"
        )
        await other._rpc(kill)
        with pytest.raises(SessionLost, match="subscription-terminated"):
            await drain(stream)


@pytest.mark.parametrize("announced", [True, False])
async def test_get_data_is_asked_where_the_device_has_it(config, schema, announced):
    asked = []

    async def answer(peer, message_id, rpc):
        asked.append(rpc)
        peer.reply(message_id)

    nmda = ("urn:ietf:params:xml:ns:yang:ietf-netconf-nmda?module=ietf-netconf-nmda",)
    async with listening(Hostile(hello=hello(CAPABILITIES + nmda * announced), answer=answer)) as peer:
        config.known_hosts.write_text(f"[127.0.0.1]:{peer.port} {peer.host_key}\n")
        async with session(config, schema, address=f"127.0.0.1:{peer.port}") as opened:
            await opened.get(["/ietf-interfaces:interfaces"])

    assert ("get-data" in asked[0]) is announced


async def test_polling_reports_only_what_changed(config, schema, store):
    async with session(config, schema, push=False) as opened, aclosing(opened.subscribe(SUBTREES)) as stream:
        await until_end(stream)
        store.put(IN_OCTETS, 17)
        change = await until_change(stream)
        store.delete(f"{ETH0}/speed")
        gone = await until_change(stream)

    assert leaves(change) == {IN_OCTETS: 17}
    assert [delete.path for delete in gone.deletes] == [f"{ETH0}/speed"]


async def test_configuration_change_is_read_before_the_next_poll(config, schema):
    async with (
        session(config, schema, push=False, poll_interval_s=60.0) as opened,
        aclosing(opened.subscribe(SUBTREES)) as stream,
        session(config, schema) as other,
    ):
        await until_end(stream)
        await other.edit([Edit(f"{ETH0}/enabled", False)])
        async with asyncio.timeout(20):
            change = await until_change(stream)

    assert leaves(change)[f"{ETH0}/enabled"] is False


async def test_confirmed_edit_stays(config, schema):
    async with session(config, schema) as opened:
        await opened.edit([Edit(f"{ETH0}/enabled", False)], confirm_timeout_s=30)
        await opened.confirm()
        after = leaves(await opened.get([ETH0]))

    assert after[f"{ETH0}/enabled"] is False


async def test_cancelled_edit_is_rolled_back(config, schema):
    async with session(config, schema) as opened:
        await opened.edit([Edit(f"{ETH0}/enabled", False)], confirm_timeout_s=30)
        during = leaves(await opened.get([ETH0]))
        await opened.cancel()
        after = leaves(await opened.get([ETH0]))

    assert during[f"{ETH0}/enabled"] is False
    assert after[f"{ETH0}/enabled"] is True


async def test_unconfirmed_edit_rolls_back_by_itself(config, schema):
    async with session(config, schema) as opened, aclosing(opened.subscribe([ETH0])) as stream:
        await until_end(stream)
        await opened.edit([Edit(f"{ETH0}/enabled", False)], confirm_timeout_s=1)
        seen = []
        async with asyncio.timeout(20):
            while len(seen) < 2:
                seen += [v for p, v in leaves(await until_change(stream)).items() if p == f"{ETH0}/enabled"]

    assert seen == [False, True]


async def test_refused_edit_leaves_nothing_behind(config, schema):
    async with session(config, schema) as opened:
        with pytest.raises(OperationRejected, match=r"warsaw refuses edit-config"):
            await opened.edit([Edit(f"{ETH0}/enabled", False), Edit(f"{ETH0}/oper-status", "down")])
        after = leaves(await opened.get([ETH0]))
        await opened.edit([Edit(f"{ETH0}/description", "next")])

    assert after[f"{ETH0}/enabled"] is True


async def test_nothing_to_confirm_is_said(config, schema):
    async with session(config, schema) as opened:
        with pytest.raises(OperationRejected, match="no edit of this session"):
            await opened.confirm()


async def test_modules_from_the_device_make_its_leaves_known(config):
    poor = SchemaSet.load(["ietf-interfaces"])
    async with session(config, poor) as opened:
        texts = await opened.schemas(["fedtwin-ran", "no-such-module"])
    richer = SchemaSet.load(["ietf-interfaces"], texts=texts)

    assert set(texts) == {"fedtwin-ran"}
    assert richer.modules["fedtwin-ran"].source.startswith("device:")
    assert richer.node("/fedtwin-ran:gnb/NRCellDU/prb-share") is not None


async def test_stopped_server_ends_the_subscription(config, schema, server):
    async with session(config, schema) as opened, aclosing(opened.subscribe(SUBTREES)) as stream:
        await until_end(stream)
        await stop(server)
        with pytest.raises(SessionLost, match="warsaw"):
            await drain(stream)


@pytest.mark.parametrize("push", [True, False])
async def test_silent_loss_is_noticed(config, schema, server, push):
    async with relay(server.port) as (gate, port):
        config.known_hosts.write_text(f"[127.0.0.1]:{port} {server.host_key}\n")
        async with (
            session(config, schema, push=push, address=f"127.0.0.1:{port}", heartbeat_s=0.5) as opened,
            aclosing(opened.subscribe(SUBTREES)) as stream,
        ):
            await until_end(stream)
            gate.clear()
            with pytest.raises(SessionLost, match="silent"):
                await drain(stream)
            gate.set()


async def test_nobody_listening_is_unreachable(config, schema, server):
    await stop(server)
    async with session(config, schema) as opened:
        with pytest.raises(Unreachable, match="warsaw"):
            await opened.capabilities()


async def test_wrong_host_key_is_named_before_the_password_is_sent(config, schema, server):
    other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode().strip()
    config.known_hosts.write_text(f"[127.0.0.1]:{server.port} {other}\n")
    async with session(config, schema) as opened:
        with pytest.raises(CredentialError, match=r"warsaw.*host key.*known_hosts.*compare"):
            await opened.capabilities()


async def test_unknown_host_key_is_named(config, schema):
    config.known_hosts.write_text("")
    async with session(config, schema) as opened:
        with pytest.raises(CredentialError, match=r"warsaw.*known_hosts.*has no host key"):
            await opened.capabilities()


async def test_missing_known_hosts_file_is_named(config, schema):
    config.known_hosts.unlink()
    async with session(config, schema) as opened:
        with pytest.raises(CredentialError, match=r"warsaw.*known_hosts.*cannot be read.*check the path"):
            await opened.capabilities()


async def test_only_ncclient_takes_threads(config, schema):
    before = threading.active_count()
    async with AsyncExitStack() as stack:
        for _ in range(12):
            opened = await stack.enter_async_context(session(config, schema))
            await opened.capabilities()
        more = threading.active_count() - before

    if config.uses_ncclient:
        assert more >= 24
    else:
        assert more <= 8  # the default executor's, whatever the number of sessions


async def test_small_messages_do_not_wait_for_each_other(config, schema):
    """TCP_NODELAY: Nagle's algorithm and delayed acknowledgements would cost 40 ms an rpc."""
    async with session(config, schema) as opened:
        await opened.capabilities()
        transport = opened._transport
        sock = (
            transport._session.transport.sock
            if config.uses_ncclient
            else transport._channel._connection.get_extra_info("socket")
        )
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


async def test_key_of_another_type_is_refused(config, schema, server):
    other = asyncssh.generate_private_key("ecdsa-sha2-nistp256").export_public_key().decode().strip()
    config.known_hosts.write_text(f"[127.0.0.1]:{server.port} {other}\n")
    async with session(config, schema) as opened:
        with pytest.raises(CredentialError, match=r"warsaw.*host key"):
            await opened.capabilities()


async def test_wrong_password_is_named(config, schema, tmp_path):
    (tmp_path / "password").write_text("wrong")
    async with session(config, schema) as opened:
        with pytest.raises(CredentialError, match=r"refuses user 'twin'.*netconf\.password"):
            await opened.capabilities()


async def test_closing_leaves_no_thread(config, schema):
    before = set(threading.enumerate())
    for _ in range(3):
        async with session(config, schema) as opened, aclosing(opened.subscribe(SUBTREES)) as stream:
            await until_end(stream)

    # asyncio's own pool stays, and a thread of it that joined itself would raise
    left = [t for t in threading.enumerate() if t not in before and not t.name.startswith("asyncio_")]
    for thread in left:
        await asyncio.to_thread(thread.join, 5.0)
    assert [thread for thread in left if thread.is_alive()] == []
