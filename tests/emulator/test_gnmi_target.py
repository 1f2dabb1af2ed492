"""The gNMI target as an outsider sees it: pygnmi's own client, raw grpc.aio where that hides too much."""

import asyncio
import contextlib
import json
import threading

import grpc
import pytest
from pygnmi.client import gNMIclient
from pygnmi.client import gNMIException as GnmiFailure
from pygnmi.spec.v080 import gnmi_pb2 as pb
from pygnmi.spec.v080 import gnmi_pb2_grpc as rpc

from domain_twin.emulator.device import ConfigRejected
from domain_twin.emulator.gnmi_target import serve_gnmi
from domain_twin.errors import ConfigError

# pygnmi leaves the files of its certificates open, and its subscription's thread dies of its own close()
pytestmark = [
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),
    pytest.mark.filterwarnings(
        "ignore:Exception ignored in. <_io.FileIO:pytest.PytestUnraisableExceptionWarning"
    ),
    pytest.mark.filterwarnings("ignore:Exception in thread:pytest.PytestUnhandledThreadExceptionWarning"),
]

ETH0 = "/ietf-interfaces:interfaces/interface[name='eth0']"


@pytest.fixture
async def target(store, pki):
    server = await serve_gnmi(
        store, host="127.0.0.1", port=0, certificate=pki.device[0], key=pki.device[1], client_roots=pki.roots
    )
    yield server
    await server.close()


@pytest.fixture
async def stub(target, pki):
    credentials = grpc.ssl_channel_credentials(pki.roots, pki.client[1], pki.client[0])
    async with grpc.aio.secure_channel(f"127.0.0.1:{target.port}", credentials) as channel:
        yield rpc.gNMIStub(channel)


@contextlib.asynccontextmanager
async def pygnmi(target, pki, folder):
    cert, key, root = pki.write(folder)
    client = gNMIclient(
        ("127.0.0.1", target.port), path_cert=cert, path_key=key, path_root=root, gnmi_timeout=10
    )
    await asyncio.to_thread(client.connect)
    try:
        yield client
    finally:
        await asyncio.to_thread(client.close)


def path(text, origin=""):
    """A gNMI path from `a/b[k=v]/c`."""
    result = pb.Path(origin=origin)
    for part in filter(None, text.split("/")):
        name, *keys = part.replace("]", "").split("[")
        element = result.elem.add(name=name)
        for key in keys:
            element.key.update([key.split("=", 1)])
    return result


def subscribe(*entries, mode=pb.SubscriptionList.STREAM, encoding=pb.PROTO, target="", updates_only=False):
    return pb.SubscribeRequest(
        subscribe=pb.SubscriptionList(
            prefix=pb.Path(target=target),
            subscription=entries,
            mode=mode,
            encoding=encoding,
            updates_only=updates_only,
        )
    )


def text(found):
    return "".join(f"/{e.name}" + "".join(f"[{k}='{e.key[k]}']" for k in sorted(e.key)) for e in found.elem)


def value(update):
    kind = update.val.WhichOneof("value")
    held = getattr(update.val, kind)
    if kind == "leaflist_val":
        return [getattr(element, element.WhichOneof("value")) for element in held.element]
    return json.loads(held) if kind.startswith("json") else held


class Stream:
    """A Subscribe call under test."""

    def __init__(self, stub, request):
        self._first = asyncio.Queue()
        self._first.put_nowait(request)
        self.call = stub.Subscribe(self._requests())
        self.responses = aiter(self.call)

    async def _requests(self):
        while (request := await self._first.get()) is not None:
            yield request

    def send(self, request):
        self._first.put_nowait(request)

    async def next(self):
        async with asyncio.timeout(10):
            return await anext(self.responses)

    async def until_sync(self):
        """Path text -> value of everything up to the sync_response."""
        found = {}
        while not (response := await self.next()).sync_response:
            assert len(response.update.update) <= 1000
            found.update({text(u.path): value(u) for u in response.update.update})
        return found

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        self.call.cancel()


async def refusal(awaitable):
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await awaitable
    return caught.value.code(), caught.value.details()


# ---- pygnmi, unmodified ----------------------------------------------------


async def test_pygnmi_reads_capabilities(target, pki, tmp_path):
    async with pygnmi(target, pki, tmp_path) as client:
        answer = await asyncio.to_thread(client.capabilities)

    models = {model["name"]: model["version"] for model in answer["supported_models"]}
    assert models["ietf-interfaces"] == "2018-02-20"
    assert "fedtwin-ran" in models
    assert {"json_ietf", "proto"} <= set(answer["supported_encodings"])
    assert answer["gnmi_version"] == "0.8.0"


async def test_pygnmi_gets_a_subtree(target, pki, tmp_path):
    async with pygnmi(target, pki, tmp_path) as client:
        answer = await asyncio.to_thread(
            client.get, path=["/ietf-interfaces:interfaces/interface[name=eth0]"], encoding="json_ietf"
        )

    update = answer["notification"][0]["update"][0]
    assert update["val"]["ietf-interfaces:oper-status"] == "up"
    assert update["val"]["ietf-interfaces:statistics"]["in-octets"] == "18446744073709551615"


async def test_pygnmi_sets_in_a_transaction_and_reads_it_back(target, store, pki, tmp_path):
    async with pygnmi(target, pki, tmp_path) as client:
        await asyncio.to_thread(
            client.set,
            update=[
                ("/ietf-interfaces:interfaces/interface[name=eth0]", {"enabled": False, "description": "x"})
            ],
            replace=[("/fedtwin-ran:gnb/NRCellDU[cellLocalId=1]", {"cellLocalId": 1, "nRPCI": 12})],
            delete=["/ietf-interfaces:interfaces/interface[name=eth1]"],
            encoding="json_ietf",
        )
        answer = await asyncio.to_thread(
            client.get, path=["/ietf-interfaces:interfaces"], datatype="config", encoding="json_ietf"
        )

    interfaces = answer["notification"][0]["update"][0]["val"]["ietf-interfaces:interface"]
    assert interfaces == [
        {"name": "eth0", "description": "x", "type": "iana-if-type:ethernetCsmacd", "enabled": False}
    ]
    assert store.get_config("/fedtwin-ran:gnb/NRCellDU[cellLocalId='1']") == {
        "fedtwin-ran:cellLocalId": 1,
        "fedtwin-ran:nRPCI": 12,
    }


async def test_pygnmi_subscribes_on_change(target, store, pki, tmp_path):
    wanted = {
        "subscription": [
            {"path": "/ietf-interfaces:interfaces/interface[name=eth0]/oper-status", "mode": "on_change"}
        ],
        "mode": "stream",
        "encoding": "json_ietf",
    }
    first, seen = threading.Event(), []

    def collect(client):
        updates = client.subscribe2(wanted)
        for update in updates:
            if "update" in update:
                seen.append(update["update"]["update"][0]["val"])
                first.set()
            if "down" in seen:
                break
        updates.close()

    async with pygnmi(target, pki, tmp_path) as client, asyncio.TaskGroup() as tasks:
        tasks.create_task(asyncio.to_thread(collect, client))
        await asyncio.to_thread(first.wait, 10)
        store.put(f"{ETH0}/oper-status", "down")

    assert seen == ["up", "down"]


async def test_pygnmi_hears_why_a_set_is_refused(target, store, pki, tmp_path):
    before = store.running
    async with pygnmi(target, pki, tmp_path) as client:
        with pytest.raises(GnmiFailure) as caught:
            await asyncio.to_thread(
                client.set,
                update=[("/ietf-interfaces:interfaces/interface[name=eth0]", {"enabled": "perhaps"})],
                encoding="json_ietf",
            )

    assert f"{ETH0}/enabled" in str(caught.value)
    assert store.running is before


# ---- Get -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("origin", "first"),
    [
        ("", "ietf-interfaces:interfaces"),
        ("rfc7951", "ietf-interfaces:interfaces"),
        ("ietf-interfaces", "interfaces"),
        ("", "interfaces"),
    ],
)
async def test_get_resolves_every_origin(stub, origin, first):
    answer = await stub.Get(
        pb.GetRequest(path=[path(f"{first}/interface[name=eth0]/speed", origin)], encoding=pb.JSON_IETF)
    )

    update = answer.notification[0].update[0]
    assert text(update.path) == f"{ETH0}/speed"
    assert json.loads(update.val.json_ietf_val) == "1000000000"


@pytest.mark.parametrize(
    ("part", "inside", "outside"),
    [
        (pb.GetRequest.CONFIG, "enabled", "oper-status"),
        (pb.GetRequest.STATE, "oper-status", "enabled"),
        (pb.GetRequest.OPERATIONAL, "speed", "type"),
    ],
)
@pytest.mark.parametrize("encoding", [pb.JSON_IETF, pb.PROTO])
async def test_get_type_tells_configuration_from_state(stub, part, inside, outside, encoding):
    answer = await stub.Get(
        pb.GetRequest(path=[path("interfaces/interface[name=eth0]")], type=part, encoding=encoding)
    )

    if encoding == pb.PROTO:
        names = {update.path.elem[-1].name for update in answer.notification[0].update}
    else:
        held = json.loads(answer.notification[0].update[0].val.json_ietf_val)
        names = {name.partition(":")[2] for name in held}
    assert inside in names
    assert outside not in names


async def test_get_proto_keeps_every_kind_of_value(stub):
    answer = await stub.Get(pb.GetRequest(path=[pb.Path()], encoding=pb.PROTO))

    values = {text(u.path): value(u) for u in answer.notification[0].update}
    cell = "/fedtwin-ran:gnb/NRCellDU[cellLocalId='1']"
    link = "/fedtwin-performance:performance/link[link-id='urn:ndt:transport:warsaw:eth1:out']"
    assert values[f"{ETH0}/statistics/in-octets"] == 2**64 - 1
    assert values[f"{ETH0}/enabled"] is True
    assert values[f"{ETH0}/type"] == "iana-if-type:ethernetCsmacd"
    assert values[f"{cell}/sNSSAIList"] == ["1", "2-00000a"]
    assert values[f"{cell}/prb-share"] == 0.75
    assert values[f"{link}/loss-ratio"] == 1e-9


async def test_get_expands_wildcards(stub):
    for wanted in (
        "interfaces/interface[name=*]/oper-status",
        "interfaces/*/oper-status",
        "interfaces/.../oper-status",
    ):
        answer = await stub.Get(pb.GetRequest(path=[path(wanted)], encoding=pb.JSON_IETF))
        found = [text(update.path) for update in answer.notification[0].update]
        assert sorted(found) == [f"{ETH0}/oper-status", f"{ETH0.replace('eth0', 'eth1')}/oper-status"], wanted


async def test_get_echoes_the_target(stub):
    answer = await stub.Get(
        pb.GetRequest(prefix=pb.Path(target="warsaw"), path=[path("interfaces")], encoding=pb.JSON_IETF)
    )
    assert answer.notification[0].prefix.target == "warsaw"


@pytest.mark.parametrize(
    ("request_", "code", "words"),
    [
        (
            pb.GetRequest(path=[path("interfaces/nothing")], encoding=4),
            grpc.StatusCode.NOT_FOUND,
            "/interfaces/nothing",
        ),
        (pb.GetRequest(path=[path("interfaces", "acme")], encoding=4), grpc.StatusCode.NOT_FOUND, "acme"),
        (
            pb.GetRequest(path=[path("interfaces/interface[name=eth9]")], encoding=4),
            grpc.StatusCode.NOT_FOUND,
            "eth9",
        ),
        (
            pb.GetRequest(path=[path("interfaces/interface[index=1]")], encoding=4),
            grpc.StatusCode.INVALID_ARGUMENT,
            "its keys are name",
        ),
        (pb.GetRequest(path=[path("interfaces")], encoding=pb.ASCII), grpc.StatusCode.UNIMPLEMENTED, "ASCII"),
    ],
)
async def test_get_refuses_with_a_reason(stub, request_, code, words):
    got, details = await refusal(stub.Get(request_))
    assert got == code
    assert words in details


# ---- Set -------------------------------------------------------------------


async def test_set_accepts_scalar_values(stub, store):
    await stub.Set(
        pb.SetRequest(
            prefix=path("interfaces/interface[name=eth0]"),
            update=[
                pb.Update(path=path("enabled"), val=pb.TypedValue(bool_val=False)),
                pb.Update(path=path("description"), val=pb.TypedValue(string_val="uplink")),
            ],
        )
    )
    assert store.get(f"{ETH0}/enabled") is False
    assert store.get(f"{ETH0}/description") == "uplink"


@pytest.mark.parametrize(
    ("where", "val", "code", "words"),
    [
        ("interfaces/interface[name=eth0]/enabled", {"int_val": 3}, "INVALID_ARGUMENT", "enabled"),
        ("interfaces/interface[name=eth0]/oper-status", {"string_val": "up"}, "INVALID_ARGUMENT", "state"),
        ("interfaces/interface[name=eth0]/colour", {"string_val": "red"}, "NOT_FOUND", "colour"),
        ("interfaces/interface[name=eth0]", {"json_ietf_val": b"{"}, "INVALID_ARGUMENT", "not JSON"),
        (
            "interfaces/interface[name=eth0]",
            {"json_ietf_val": b'{"name": "eth7"}'},
            "INVALID_ARGUMENT",
            "differs",
        ),
        ("interfaces/interface[name=eth9]", {"json_ietf_val": b"{}"}, "INVALID_ARGUMENT", "mandatory"),
        ("interfaces/interface[name=*]/enabled", {"bool_val": True}, "INVALID_ARGUMENT", "wildcards"),
        ("gnb/NRCellDU[cellLocalId=1]/nRPCI", {"uint_val": 1008}, "INVALID_ARGUMENT", "range"),
    ],
)
async def test_set_refuses_all_or_nothing(stub, store, where, val, code, words):
    before = store.running
    good = pb.Update(path=path("gnb/gNBId"), val=pb.TypedValue(uint_val=8))

    got, details = await refusal(
        stub.Set(pb.SetRequest(update=[good, pb.Update(path=path(where), val=pb.TypedValue(**val))]))
    )

    assert got == grpc.StatusCode[code]
    assert words in details
    assert store.running is before
    assert store.get("/fedtwin-ran:gnb/gNBId") == 7


async def test_set_is_put_before_the_device(stub, store):
    def refuse(change):
        raise ConfigRejected(change.leaves[0].path, "that link carries the management network")

    store.validate_config = refuse
    got, details = await refusal(
        stub.Set(pb.SetRequest(update=[pb.Update(path=path("gnb/gNBId"), val=pb.TypedValue(uint_val=8))]))
    )
    assert got == grpc.StatusCode.INVALID_ARGUMENT
    assert "management network" in details


# ---- Subscribe -------------------------------------------------------------


async def test_once_sends_everything_then_sync_and_ends(stub, store):
    async with Stream(stub, subscribe(pb.Subscription(), mode=pb.SubscriptionList.ONCE)) as stream:
        found = await stream.until_sync()
        with pytest.raises(StopAsyncIteration):
            await stream.next()

    assert set(found) == {leaf.path for leaf in store.all_leaves()}


async def test_poll_sends_the_present_state_each_time(stub, store):
    entry = pb.Subscription(path=path("interfaces/interface[name=eth0]/oper-status"))
    async with Stream(stub, subscribe(entry, mode=pb.SubscriptionList.POLL)) as stream:
        assert await stream.until_sync() == {f"{ETH0}/oper-status": "up"}
        store.put(f"{ETH0}/oper-status", "down")
        stream.send(pb.SubscribeRequest(poll=pb.Poll()))
        assert await stream.until_sync() == {f"{ETH0}/oper-status": "down"}


async def test_on_change_sends_changes_together_and_nothing_else(stub, store):
    entry = pb.Subscription(path=path("interfaces"), mode=pb.ON_CHANGE)
    async with Stream(stub, subscribe(entry, target="warsaw")) as stream:
        await stream.until_sync()
        store.put("/fedtwin-performance:performance/interval", 500)
        store.put(f"{ETH0}/oper-status", "up")  # as it was
        store.put(f"{ETH0}/oper-status", "down")
        store.put(f"{ETH0}/statistics/in-errors", 4)
        store.put(f"{ETH0}/statistics/in-errors", 5)
        notification = (await stream.next()).update

    assert {text(u.path): value(u) for u in notification.update} == {
        f"{ETH0}/oper-status": "down",
        f"{ETH0}/statistics/in-errors": 5,
    }
    assert notification.prefix.target == "warsaw"
    assert notification.timestamp > 0


async def test_on_change_reports_deletions_and_new_entries(stub, store):
    entry = pb.Subscription(path=path("interfaces"), mode=pb.TARGET_DEFINED)
    async with Stream(stub, subscribe(entry)) as stream:
        await stream.until_sync()
        await stub.Set(
            pb.SetRequest(
                delete=[path("interfaces/interface[name=eth1]")],
                update=[
                    pb.Update(
                        path=path("interfaces/interface[name=eth2]"),
                        val=pb.TypedValue(json_ietf_val=b'{"type": "iana-if-type:ethernetCsmacd"}'),
                    )
                ],
            )
        )
        notification = (await stream.next()).update

    gone = {text(found) for found in notification.delete}
    assert {f"{ETH0.replace('eth0', 'eth1')}/{leaf}" for leaf in ("name", "type", "oper-status")} <= gone
    assert {u.path.elem[-1].name for u in notification.update} == {"name", "type"}


async def test_updates_only_skips_what_is_known(stub, store):
    entry = pb.Subscription(path=path("interfaces"), mode=pb.ON_CHANGE)
    async with Stream(stub, subscribe(entry, updates_only=True)) as stream:
        assert await stream.until_sync() == {}
        store.put(f"{ETH0}/oper-status", "testing")
        assert value((await stream.next()).update.update[0]) == "testing"


async def test_sample_repeats_and_suppresses_what_is_redundant(stub, store):
    leaf = "interfaces/interface[name=eth0]/statistics/in-errors"
    every = pb.Subscription(path=path(leaf), mode=pb.SAMPLE, sample_interval=100_000_000)
    async with Stream(stub, subscribe(every)) as stream:
        await stream.until_sync()
        assert [value((await stream.next()).update.update[0]) for _ in range(2)] == [3, 3]

    suppressed = pb.Subscription(
        path=path("interfaces"), mode=pb.SAMPLE, sample_interval=100_000_000, suppress_redundant=True
    )
    async with Stream(stub, subscribe(suppressed)) as stream:
        await stream.until_sync()
        store.put(f"{ETH0}/statistics/in-errors", 9)
        (update,) = (await stream.next()).update.update
        assert value(update) == 9


async def test_heartbeat_repeats_what_did_not_change(stub):
    entry = pb.Subscription(
        path=path("interfaces/interface[name=eth0]/oper-status"),
        mode=pb.ON_CHANGE,
        heartbeat_interval=100_000_000,
    )
    async with Stream(stub, subscribe(entry)) as stream:
        await stream.until_sync()
        assert [value((await stream.next()).update.update[0]) for _ in range(2)] == ["up", "up"]


async def test_slow_subscriber_gets_the_last_value_of_each_path(stub, store):
    entry = pb.Subscription(path=path("interfaces"), mode=pb.ON_CHANGE)
    async with Stream(stub, subscribe(entry)) as stream:
        await stream.until_sync()
        for count in range(20_000):
            store.put(f"{ETH0}/statistics/out-octets", count)
            if count % 1000 == 0:
                await asyncio.sleep(0)
        store.put(f"{ETH0}/statistics/out-octets", 4_242)
        seen = []
        while not seen or seen[-1] != 4_242:
            seen.extend(value(update) for update in (await stream.next()).update.update)

    assert len(seen) < 100


async def test_large_state_goes_out_in_thousands(stub, store):
    for index in range(1_500):
        store.put(f"/fedtwin-performance:performance/probe[name='p{index}']/samples", index)
    request = subscribe(pb.Subscription(path=path("performance")), mode=pb.SubscriptionList.ONCE)
    async with Stream(stub, request) as stream:
        sizes = []
        while not (response := await stream.next()).sync_response:
            sizes.append(len(response.update.update))

    assert max(sizes) == 1_000
    assert sum(sizes) == 3_000 + 4


@pytest.mark.parametrize(
    ("request_", "code"),
    [
        (pb.SubscribeRequest(poll=pb.Poll()), grpc.StatusCode.INVALID_ARGUMENT),
        (subscribe(), grpc.StatusCode.INVALID_ARGUMENT),
        (subscribe(pb.Subscription(path=path("nonsense"))), grpc.StatusCode.NOT_FOUND),
        (subscribe(pb.Subscription(), encoding=pb.BYTES), grpc.StatusCode.UNIMPLEMENTED),
        (
            subscribe(pb.Subscription(path=path("interfaces"), mode=pb.SAMPLE, sample_interval=5)),
            grpc.StatusCode.INVALID_ARGUMENT,
        ),
    ],
)
async def test_subscribe_refuses_with_a_reason(stub, request_, code):
    async with Stream(stub, request_) as stream:
        got, _ = await refusal(stream.next())
    assert got == code


async def test_stream_takes_no_second_list(stub):
    request = subscribe(pb.Subscription(path=path("interfaces"), mode=pb.ON_CHANGE))
    async with Stream(stub, request) as stream:
        await stream.until_sync()
        stream.send(request)
        got, _ = await refusal(stream.next())
    assert got == grpc.StatusCode.INVALID_ARGUMENT


async def test_leaving_subscriber_is_forgotten(stub, store):
    async with Stream(stub, subscribe(pb.Subscription(path=path("interfaces"), mode=pb.ON_CHANGE))) as stream:
        await stream.until_sync()
        assert len(store._queues) == 1
    async with asyncio.timeout(10):
        while store._queues:  # noqa: ASYNC110 (waits for the server's side)
            await asyncio.sleep(0.01)


# ---- doors -----------------------------------------------------------------


async def test_client_of_an_unknown_authority_is_refused(target, pki):
    credentials = grpc.ssl_channel_credentials(pki.roots, pki.stranger[1], pki.stranger[0])
    async with grpc.aio.secure_channel(f"127.0.0.1:{target.port}", credentials) as channel:
        code, _ = await refusal(rpc.gNMIStub(channel).Capabilities(pb.CapabilityRequest()))
    assert code == grpc.StatusCode.UNAVAILABLE


async def test_port_in_use_names_device_and_address(target, store, pki):
    with pytest.raises(ConfigError, match=rf"warsaw.*127\.0\.0\.1:{target.port}"):
        await serve_gnmi(
            store,
            host="127.0.0.1",
            port=target.port,
            certificate=pki.device[0],
            key=pki.device[1],
            client_roots=pki.roots,
        )
