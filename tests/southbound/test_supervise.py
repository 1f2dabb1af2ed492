"""A device that goes and comes back: its status, its resync, and the pace of retries."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from random import Random

import pytest
from device_under_test import IN_OCTETS, SUBTREES

from domain_twin.config import DeviceConfig, NetconfConfig, ReplayConfig
from domain_twin.emulator.gnmi_target import serve_gnmi
from domain_twin.errors import ConfigError, Unreachable
from domain_twin.model import Connection, DeviceStatus, Sync, Update, UpdateBatch
from domain_twin.southbound.devices import change_session, mirror_choice
from domain_twin.southbound.gnmi import GnmiSession
from domain_twin.southbound.replay import Recorder, ReplaySession
from domain_twin.southbound.supervise import BackOff, supervise


@pytest.fixture
async def serve(store, authority):
    servers = []
    cert, key = authority.issue("warsaw")

    async def start(port=0):
        server = await serve_gnmi(
            store,
            host="127.0.0.1",
            port=port,
            certificate=cert.read_bytes(),
            key=key.read_bytes(),
            client_roots=authority.root.read_bytes(),
        )
        servers.append(server)
        return server

    yield start
    for server in servers:
        await server.close()


class Quick:
    """Waits no time, and remembers what it was asked for."""

    def __init__(self):
        self.waits = []

    async def __call__(self, seconds):
        self.waits.append(seconds)
        await asyncio.sleep(0.01)


def mirrored(config, schema, port, wait):
    config = config.model_copy(update={"address": f"127.0.0.1:{port}"})
    return supervise(
        "warsaw",
        lambda: GnmiSession("warsaw", config, schema),
        SUBTREES,
        protocol="gnmi",
        address=config.address,
        back_off=BackOff(Random(1)),
        wait=wait,
    )


async def until(stream, connection):
    """Everything up to the status with `connection`."""
    seen = []
    async with asyncio.timeout(30):
        async for item in stream:
            seen.append(item)
            if isinstance(item, DeviceStatus) and item.connection is connection:
                return seen
    raise AssertionError(f"never {connection}")


async def test_status_follows_the_session(serve, gnmi_config, schema):
    server = await serve()
    async with aclosing(mirrored(gnmi_config, schema, server.port, Quick())) as stream:
        seen = await until(stream, Connection.SYNCHRONISED)

    statuses = [item.connection for item in seen if isinstance(item, DeviceStatus)]
    assert statuses == [Connection.CONNECTING, Connection.SYNCHRONISING, Connection.SYNCHRONISED]
    assert seen[-1].updates > 10
    assert seen[-1].problem == ""


async def test_lost_device_is_stale_at_once_and_resynchronised_on_return(serve, gnmi_config, schema, store):
    server = await serve()
    async with aclosing(mirrored(gnmi_config, schema, server.port, Quick())) as stream:
        await until(stream, Connection.SYNCHRONISED)
        await server.close()
        stale = (await until(stream, Connection.STALE))[-1]
        store.put(IN_OCTETS, 4711)
        await serve(server.port)
        back = await until(stream, Connection.SYNCHRONISED)

    assert "warsaw" in stale.problem
    assert back[-1].reconnects >= 1
    values = {u.path: u.value for b in back if isinstance(b, UpdateBatch) for u in b.updates}
    assert values[IN_OCTETS] == 4711


async def test_refused_credentials_are_said_and_retried_slowly(serve, gnmi_config, schema, stranger):
    server = await serve()
    quick = Quick()
    config = gnmi_config.model_copy(update={"root": stranger.root})
    async with aclosing(mirrored(config, schema, server.port, quick)) as stream:
        stale = (await until(stream, Connection.STALE))[-1]
        await until(stream, Connection.STALE)

    assert "not signed by gnmi.root" in stale.problem
    assert quick.waits[0] >= 7.5


async def test_credentials_that_just_did_are_tried_again_soon(serve, gnmi_config, schema, stranger):
    """What hangs up after a handshake looks like a refusal, also where octets are damaged on the way."""
    server, quick = await serve(), Quick()
    config = gnmi_config.model_copy(update={"address": f"127.0.0.1:{server.port}"})
    roots = iter([gnmi_config.root, stranger.root, stranger.root])

    def opened():
        return GnmiSession("warsaw", config.model_copy(update={"root": next(roots)}), schema)

    items = supervise("warsaw", opened, SUBTREES, protocol="gnmi", back_off=BackOff(Random(1)), wait=quick)
    async with aclosing(items) as stream:
        await until(stream, Connection.SYNCHRONISED)
        await server.close()
        await serve(server.port)
        await until(stream, Connection.STALE)
        refused = (await until(stream, Connection.STALE))[-1]
        await until(stream, Connection.CONNECTING)

    assert "not signed by gnmi.root" in refused.problem
    assert max(quick.waits) <= 0.4


async def test_bug_in_a_session_does_not_end_the_mirror():
    class Broken:
        async def subscribe(self, paths):
            yield UpdateBatch("a", 1, sync=Sync.BEGIN)
            raise ZeroDivisionError("bug")

        async def close(self):
            raise OSError("worse")

    async with aclosing(supervise("a", Broken, ["/"], protocol="x", wait=Quick())) as stream:
        first = (await until(stream, Connection.STALE))[-1]
        again = (await until(stream, Connection.STALE))[-1]

    assert "ZeroDivisionError" in first.problem
    assert again.reconnects == 1


@pytest.mark.parametrize(("steady_s", "shortest"), [(0.0, True), (60.0, False)])
async def test_only_a_session_that_lasted_starts_the_waits_anew(steady_s, shortest):
    attempts = 0

    class Flapping:
        async def subscribe(self, paths):
            nonlocal attempts
            attempts += 1
            if attempts == 6:
                yield UpdateBatch("a", 1, sync=Sync.BEGIN)
                yield UpdateBatch("a", 1, sync=Sync.END)
            raise Unreachable("gone")

        async def close(self):
            pass

    quick = Quick()
    back_off = BackOff(Random(3))
    async with aclosing(
        supervise("a", Flapping, ["/"], protocol="x", back_off=back_off, steady_s=steady_s, wait=quick)
    ) as stream:
        for _ in range(7):
            await until(stream, Connection.STALE)

    assert quick.waits[4] > 1.0
    assert (quick.waits[5] <= 0.2) is shortest


async def test_replay_ends_its_mirror(tmp_path):
    with Recorder(tmp_path / "r.jsonl") as recorder:
        recorder.append(UpdateBatch("a", 1, sync=Sync.BEGIN))
        recorder.append(UpdateBatch("a", 2, (Update("a", "/m:x", 1, 2),), sync=Sync.END))
    config = ReplayConfig(file=tmp_path / "r.jsonl")

    seen = [
        item async for item in supervise("a", lambda: ReplaySession("a", config), ["/"], protocol="replay")
    ]

    assert [item.connection for item in seen if isinstance(item, DeviceStatus)][-1] is Connection.SYNCHRONISED
    assert seen[-1].received_at == 2


def test_waits_grow_to_a_limit_with_jitter_and_start_anew():
    back_off = BackOff(Random(7))
    waits = [back_off.wait_s(transient=True) for _ in range(12)]
    back_off.reset()

    for attempt, wait in enumerate(waits):
        limit = min(10.0, 0.2 * 2**attempt)
        assert limit / 2 <= wait <= limit
    assert back_off.wait_s(transient=True) <= 0.2
    assert back_off.wait_s(transient=False) >= 7.5


def test_choice_of_sessions(gnmi_config, schema, tmp_path):
    netconf = NetconfConfig(address="127.0.0.1:830", known_hosts=tmp_path / "k", username="twin")
    both = DeviceConfig(name="a", gnmi=gnmi_config, netconf=netconf)

    assert mirror_choice(both, schema).protocol == "netconf+gnmi"
    assert type(change_session(both, schema)).__name__ == "NetconfSession"
    assert mirror_choice(DeviceConfig(name="a", netconf=netconf), schema).protocol == "netconf"
    assert type(change_session(DeviceConfig(name="a", gnmi=gnmi_config), schema)).__name__ == "GnmiSession"
    with pytest.raises(ConfigError, match="'a'"):
        mirror_choice(DeviceConfig(name="a"), schema)
