"""gNMI sessions against the emulated device's target: real TLS, real streams, killed servers."""

from __future__ import annotations

import asyncio
from contextlib import aclosing, asynccontextmanager
from decimal import Decimal

import pytest
from device_under_test import CELL, ETH0, IN_OCTETS, NODE, POINT, SUBTREES, TOPOLOGY, relay

from domain_twin.emulator.gnmi_target import serve_gnmi
from domain_twin.errors import CredentialError, IdentityMismatch, OperationRejected, SessionLost, Unreachable
from domain_twin.model import Sync
from domain_twin.southbound.base import Edit, Operation
from domain_twin.southbound.gnmi import GnmiSession
from domain_twin.yang.quarantine import Typer

LATENCY = f"/fedtwin-performance:performance/link[link-id='{NODE}:eth1:out']/one-way-delay"


@pytest.fixture
async def serve(store, authority):
    """Starts the device's gNMI server; what it starts is stopped at the end."""
    servers = []

    async def start(name="warsaw", *, days=1.0, roots=None, port=0):
        cert, key = authority.issue(name, days=days)
        server = await serve_gnmi(
            store,
            host="127.0.0.1",
            port=port,
            certificate=cert.read_bytes(),
            key=key.read_bytes(),
            client_roots=(roots or authority.root).read_bytes(),
        )
        servers.append(server)
        return server

    yield start
    for server in servers:
        await server.close()


@asynccontextmanager
async def session(config, schema, server, **changes):
    config = config.model_copy(update={"address": f"127.0.0.1:{server.port}", **changes})
    async with GnmiSession("warsaw", config, schema) as opened:
        yield opened


async def until_end(batches):
    """All batches up to and including END."""
    out = []
    async for batch in batches:
        out.append(batch)
        if batch.sync is Sync.END:
            return out
    raise AssertionError("the subscription ended before END")


async def drain(stream, timeout_s=20.0):
    """Read until the stream raises."""
    async with asyncio.timeout(timeout_s):
        async for _ in stream:
            pass


def leaves(*batches):
    return {update.path: update.value for batch in batches for update in batch.updates}


async def test_capabilities_are_what_the_device_says(serve, gnmi_config, schema):
    async with session(gnmi_config, schema, await serve()) as opened:
        found = await opened.capabilities()

    assert found.protocol == "gnmi"
    assert "PROTO" in found.encodings
    assert {"ietf-interfaces", "fedtwin-ran"} <= {module.name for module in found.modules}


async def test_get_returns_typed_leaves_of_all_kinds(serve, gnmi_config, schema):
    async with session(gnmi_config, schema, await serve()) as opened:
        batch, bad = Typer(schema).type_batch(await opened.get(SUBTREES))

    found = leaves(batch)
    assert bad == ()
    assert batch.sync is Sync.END
    assert found[IN_OCTETS] == 2**64 - 1
    assert found[f"{ETH0}/type"] == "iana-if-type:ethernetCsmacd"
    assert found[f"{ETH0}/enabled"] is True
    assert found[f"{CELL}/sNSSAIList"] == ("1", "2-00000a")
    assert found[f"{POINT}/fedtwin-inter-domain:inter-domain/capacity"] == Decimal("100.500")
    assert found[LATENCY] == Decimal("12.500")
    assert f"{TOPOLOGY}/network-types/ietf-l3-unicast-topology:l3-unicast-topology" in found


async def test_closed_session_keeps_no_connection(serve, gnmi_config, schema, connections_to):
    server = await serve()
    async with session(gnmi_config, schema, server) as opened:
        await opened.get(SUBTREES)
        async with aclosing(opened.subscribe(SUBTREES)) as stream:
            await until_end(stream)
        assert connections_to(server.port) == 1

    async with asyncio.timeout(10):
        while connections_to(server.port):  # noqa: ASYNC110 - seen from outside only
            await asyncio.sleep(0.05)


async def test_subscription_begins_with_all_and_goes_on_with_changes(serve, gnmi_config, schema, store):
    async with (
        session(gnmi_config, schema, await serve()) as opened,
        aclosing(opened.subscribe(SUBTREES)) as stream,
    ):
        first = await until_end(stream)
        store.put(IN_OCTETS, 17)
        change = await anext(stream)

    assert first[0].sync is Sync.BEGIN
    assert [batch.sync for batch in first].count(Sync.END) == 1
    assert leaves(*first)[IN_OCTETS] == 2**64 - 1
    assert leaves(change) == {IN_OCTETS: 17}
    assert change.updates[0].device == "warsaw"
    assert change.updates[0].observed_at > 0


async def test_deletion_arrives_as_a_delete(serve, gnmi_config, schema, store):
    async with (
        session(gnmi_config, schema, await serve()) as opened,
        aclosing(opened.subscribe(SUBTREES)) as stream,
    ):
        await until_end(stream)
        store.delete(f"{ETH0}/speed")
        change = await anext(stream)

    assert [delete.path for delete in change.deletes] == [f"{ETH0}/speed"]


async def test_set_changes_configuration(serve, gnmi_config, schema):
    path = f"{ETH0}/enabled"
    async with session(gnmi_config, schema, await serve()) as opened:
        await opened.edit([Edit(path, False), Edit(f"{CELL}/prb-share", Decimal("0.5"), Operation.REPLACE)])
        after = leaves(await opened.get(SUBTREES))

    assert after[path] is False
    assert after[f"{CELL}/prb-share"] == 0.5


async def test_set_is_refused_whole_with_the_device_s_words(serve, gnmi_config, schema):
    async with session(gnmi_config, schema, await serve()) as opened:
        with pytest.raises(OperationRejected, match=r"warsaw.*oper-status"):
            await opened.edit([Edit(f"{ETH0}/enabled", False), Edit(f"{ETH0}/oper-status", "down")])
        after = leaves(await opened.get(SUBTREES))

    assert after[f"{ETH0}/enabled"] is True


async def test_confirmed_commit_is_refused(serve, gnmi_config, schema):
    async with session(gnmi_config, schema, await serve()) as opened:
        with pytest.raises(OperationRejected, match="no confirmed commit"):
            await opened.edit([Edit(f"{ETH0}/enabled", False)], confirm_timeout_s=5)
        with pytest.raises(OperationRejected, match="no confirmed commit"):
            await opened.cancel()


async def test_paths_of_modules_the_device_lacks_are_left_out(serve, gnmi_config, schema):
    async with session(gnmi_config, schema, await serve()) as opened:
        with pytest.raises(OperationRejected, match="implements none"):
            await opened.get(["/fedtwin-core:network-function"])


async def test_stopped_server_ends_the_subscription(serve, gnmi_config, schema):
    server = await serve()
    async with session(gnmi_config, schema, server) as opened, aclosing(opened.subscribe(SUBTREES)) as stream:
        await until_end(stream)
        await server.close()
        with pytest.raises(Unreachable):
            await drain(stream)


async def test_nobody_listening_is_unreachable(serve, gnmi_config, schema):
    server = await serve()
    await server.close()
    async with session(gnmi_config, schema, server) as opened:
        with pytest.raises(Unreachable, match="warsaw"):
            await opened.capabilities()


async def test_silent_loss_is_noticed(serve, gnmi_config, schema):
    device = await serve()
    async with relay(device.port) as (gate, port):
        config = gnmi_config.model_copy(update={"address": f"127.0.0.1:{port}", "heartbeat_s": 0.5})
        async with (
            GnmiSession("warsaw", config, schema) as opened,
            aclosing(opened.subscribe(SUBTREES)) as stream,
        ):
            await until_end(stream)
            gate.clear()
            with pytest.raises(SessionLost, match="silent"):
                await drain(stream)
            gate.set()


async def test_octets_damaged_on_the_way_are_a_loss_and_no_refusal(serve, gnmi_config, schema, store):
    """A refusal is retried slowly, as a person must act; a broken connection mends itself."""
    device, damage = await serve(), asyncio.Event()
    async with relay(device.port, damage) as (_, port):
        config = gnmi_config.model_copy(update={"address": f"127.0.0.1:{port}"})
        async with GnmiSession("warsaw", config, schema) as opened, aclosing(opened.subscribe(SUBTREES)) as s:
            await until_end(s)
            damage.set()
            store.put(IN_OCTETS, 4711)
            with pytest.raises(SessionLost):
                await asyncio.wait_for(anext(s), 30)
        async with GnmiSession("warsaw", config, schema) as again:
            with pytest.raises(Unreachable):
                await again.capabilities()


async def test_quiet_but_living_device_is_not_lost(serve, gnmi_config, schema, store):
    async with (
        session(gnmi_config, schema, await serve(), heartbeat_s=0.2) as opened,
        aclosing(opened.subscribe([f"{ETH0}/description"])) as stream,
    ):
        await until_end(stream)
        asyncio.get_running_loop().call_later(1.5, store.put, IN_OCTETS, 5)
        with pytest.raises(TimeoutError):
            await drain(stream, 1.5)


async def test_cancelling_the_reader_is_no_loss(serve, gnmi_config, schema):
    async with session(gnmi_config, schema, await serve()) as opened:

        async def read():
            async with aclosing(opened.subscribe(SUBTREES)) as stream:
                async for _ in stream:
                    pass

        task = asyncio.create_task(read())
        await asyncio.sleep(0.3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_wrong_ca_is_named(serve, gnmi_config, schema, stranger):
    async with session(gnmi_config, schema, await serve(), root=stranger.root) as opened:
        with pytest.raises(CredentialError, match=r"warsaw.*not signed by gnmi.root.*stranger"):
            await opened.capabilities()


async def test_expired_certificate_is_named(serve, gnmi_config, schema):
    async with session(gnmi_config, schema, await serve(days=-1)) as opened:
        with pytest.raises(CredentialError, match=r"warsaw.*has expired"):
            await opened.capabilities()


async def test_wrong_server_name_is_named(serve, gnmi_config, schema):
    async with session(gnmi_config, schema, await serve("elsewhere")) as opened:
        with pytest.raises(IdentityMismatch, match=r"not for 'warsaw'; set gnmi\.server_name"):
            await opened.capabilities()


async def test_unknown_client_certificate_is_named(serve, gnmi_config, schema, stranger):
    cert, key = stranger.issue("collector")
    async with session(gnmi_config, schema, await serve(), certificate=cert, key=key) as opened:
        with pytest.raises(CredentialError, match="our certificate"):
            await opened.capabilities()


async def test_missing_client_certificate_is_named(serve, gnmi_config, schema):
    async with session(gnmi_config, schema, await serve(), certificate=None, key=None) as opened:
        with pytest.raises(CredentialError, match=r"gnmi\.certificate"):
            await opened.capabilities()


async def test_unreadable_root_is_named(serve, gnmi_config, schema, tmp_path):
    async with session(gnmi_config, schema, await serve(), root=tmp_path / "none.pem") as opened:
        with pytest.raises(CredentialError, match=r"gnmi\.root .*none\.pem cannot be read"):
            await opened.capabilities()
