"""What a real gNMI target may send: every value type, and every kind of rubbish, beside values that are good.

Each row is sent over TLS to a session, typed against YANG, and stored; whatever becomes of it, the rest of
its notification goes on, and so does the session.
"""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import aclosing, asynccontextmanager
from decimal import Decimal

import grpc
import pytest
from google.protobuf import any_pb2
from pygnmi.spec.v080 import gnmi_pb2 as pb

from domain_twin.datastore.live import LiveStore
from domain_twin.model import Sync
from domain_twin.southbound.gnmi import GnmiSession
from domain_twin.southbound.gnmi_wire import encode_path
from domain_twin.yang.paths import parse_path
from domain_twin.yang.quarantine import LONGEST_VALUE, Typer
from domain_twin.yang.schema import SchemaSet

MODULE = """
module zoo {
  yang-version 1.1; namespace "urn:zoo"; prefix z;
  identity animal; identity bear { base animal; }
  container all {
    leaf i8 { type int8; } leaf i64 { type int64; } leaf u64 { type uint64; }
    leaf d { type decimal64 { fraction-digits 3; } }
    leaf b { type boolean; } leaf s { type string; } leaf o { type binary; } leaf e { type empty; }
    leaf id { type identityref { base animal; } } leaf en { type enumeration { enum up; enum down; } }
    leaf bi { type bits { bit x; bit y; } }
    leaf un { type union { type uint8; type enumeration { enum none; } } }
    leaf-list ll { type uint32; } leaf-list ls { type string; }
    list row { key "a b"; leaf a { type string; } leaf b { type uint8; } leaf v { type int32; } }
    container p { presence "there"; leaf in { type string; } }
    anydata any;
    leaf good { type uint32; }
  }
}
"""
TOP = "/zoo:all"
GOOD = f"{TOP}/good"
V = pb.TypedValue
Array = pb.ScalarArray


def js(value):
    return V(json_ietf_val=value if isinstance(value, bytes) else json.dumps(value).encode())


def array(*items):
    return V(leaflist_val=Array(element=items))


KEPT = [
    ("i8", V(int_val=-128), -128),
    ("i8", js(-5), -5),
    ("i64", V(int_val=-(2**63)), -(2**63)),
    ("i64", js(str(-(2**63))), -(2**63)),
    ("u64", V(uint_val=2**64 - 1), 2**64 - 1),
    ("u64", V(uint_val=0), 0),
    ("u64", js(str(2**64 - 1)), 2**64 - 1),
    ("d", V(decimal_val=pb.Decimal64(digits=-1500, precision=3)), Decimal("-1.500")),
    ("d", V(float_val=0.1), Decimal("0.100")),
    ("d", V(double_val=2.5), Decimal("2.500")),
    ("d", js("1.125"), Decimal("1.125")),
    ("d", js(b"1.125"), Decimal("1.125")),
    ("b", V(bool_val=False), False),
    ("b", js(True), True),
    ("s", V(string_val=""), ""),
    ("s", V(ascii_val="plain"), "plain"),
    ("s", V(string_val="žluťoučký\n🐻"), "žluťoučký\n🐻"),
    ("s", V(json_val=b'"json"'), "json"),
    ("s", V(string_val="x" * LONGEST_VALUE), "x" * LONGEST_VALUE),
    ("o", V(bytes_val=b"\x00\xff"), b"\x00\xff"),
    ("o", js("AP8="), b"\x00\xff"),
    ("e", js([None]), None),
    ("e", V(bool_val=True), None),
    ("id", V(string_val="zoo:bear"), "zoo:bear"),
    ("id", js("bear"), "zoo:bear"),
    ("en", V(string_val="up"), "up"),
    ("bi", V(string_val="x y"), "x y"),
    ("un", V(uint_val=7), 7),
    ("un", V(string_val="none"), "none"),
    ("ll", array(V(uint_val=1), V(uint_val=2)), (1, 2)),
    ("ll", js([3, 4]), (3, 4)),
    ("ll", V(leaflist_val=Array()), ()),
    ("ls", array(V(string_val="b"), V(string_val="")), ("b", "")),
    ("row[a='1'][b='2']/v", V(int_val=3), 3),
    ("p", js({}), None),
]
REFUSED = [
    ("i8", V(int_val=128), "outside"),
    ("i8", V(bool_val=True), "not an integer"),
    ("u64", V(int_val=-1), "outside"),
    ("u64", js(str(2**64)), "outside"),
    ("u64", js("many"), "not an integer"),
    ("u64", V(double_val=1.5), "not an integer"),
    ("u64", js(b"1e999999999"), "not an integer"),
    ("u64", js(b"9" * 100_000), ""),
    ("d", V(double_val=float("nan")), ""),
    ("d", V(double_val=float("inf")), ""),
    ("d", js(b"NaN"), ""),
    ("d", V(decimal_val=pb.Decimal64(digits=1, precision=4_000_000_000)), "18 at most"),
    ("b", V(string_val="maybe"), ""),
    ("s", V(uint_val=5), "not a string"),
    ("s", V(string_val="x" * (LONGEST_VALUE + 1)), "too long"),
    ("o", V(bytes_val=b"x" * (LONGEST_VALUE + 1)), "too long"),
    ("ls", array(*(V(string_val="x" * 600_000) for _ in range(2))), "too long"),
    ("s", V(any_val=any_pb2.Any(type_url="type.x/acme.Secret", value=b"x")), "acme.Secret"),
    ("o", V(proto_bytes=b"\x08\x01"), "vendor's own"),
    ("o", js("no base64!"), ""),
    ("e", V(string_val="full"), "not empty"),
    ("id", V(string_val="zoo:cat"), ""),
    ("en", V(string_val="sideways"), "up, down"),
    ("bi", V(string_val="z"), ""),
    ("un", V(uint_val=300), ""),
    ("ll", V(uint_val=1), "not a leaf-list"),
    ("ll", array(V(string_val="a")), "not an integer"),
    ("ll", array(V(uint_val=1), V(uint_val=1)), "twice"),
    ("s", V(), ""),
    ("s", js(b"{"), "not readable"),
    ("s", js(b'{"s": 1, "s": 2}'), "twice"),
    ("any", js(b"[" * 100_000 + b"]" * 100_000), "not readable"),
    ("any", js(b'{"a":' * 5_000 + b"1" + b"}" * 5_000), "not readable"),
    ("row[a='1'][b='300']/v", V(int_val=3), ""),
    ("row[a='1']/v", V(int_val=3), ""),
    ("row/v", V(int_val=3), ""),
    ("row", V(int_val=3), "list"),
    ("nowhere/at/all", V(int_val=3), "no such node"),
    ("s/below", V(int_val=3), "no such node"),
]


@pytest.fixture(scope="module")
def zoo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("yang")
    (folder / "zoo.yang").write_text(MODULE)
    return SchemaSet.load(["zoo"], [folder])


@asynccontextmanager
async def target(authority, notifications):
    """A gNMI target that sends these and then is quiet; its port."""
    certificate, key = authority.issue("warsaw")

    class Target(grpc.GenericRpcHandler):
        def service(self, details):
            if details.method == "/gnmi.gNMI/Subscribe":
                return grpc.stream_stream_rpc_method_handler(
                    self.subscribe, response_serializer=lambda message: message.SerializeToString()
                )
            return grpc.unary_unary_rpc_method_handler(self.capabilities)

        async def capabilities(self, request, context):
            return pb.CapabilityResponse(
                supported_models=[pb.ModelData(name="zoo")], supported_encodings=[pb.PROTO]
            ).SerializeToString()

        async def subscribe(self, requests, context):
            async for _ in requests:
                break
            for notification in notifications:
                yield pb.SubscribeResponse(update=notification)
            yield pb.SubscribeResponse(sync_response=True)
            await asyncio.sleep(60)

    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((Target(),))
    port = server.add_secure_port(
        "127.0.0.1:0",
        grpc.ssl_server_credentials(
            [(key.read_bytes(), certificate.read_bytes())], authority.root.read_bytes(), True
        ),
    )
    await server.start()
    try:
        yield port
    finally:
        await server.stop(0)


async def received(config, zoo, port):
    """The store and what was quarantined, once the target's state is complete."""
    typer, store, bad = Typer(zoo), LiveStore(), []
    config = config.model_copy(update={"address": f"127.0.0.1:{port}"})
    async with (
        asyncio.timeout(30),
        GnmiSession("warsaw", config, zoo) as session,
        aclosing(session.subscribe([TOP])) as stream,
    ):
        async for batch in stream:
            typed, quarantined = typer.type_batch(batch)
            store.apply(typed)
            bad += quarantined
            if batch.sync is Sync.END:
                return store, bad
    raise AssertionError("the stream ended before END")


def wire(path):
    """A gNMI path of loose spelling: keys that a list does not have are sent as they stand."""
    return encode_path(parse_path(f"{TOP}/{path}"))


def note(*updates, timestamp=None, **fields):
    made = pb.Notification(timestamp=time.time_ns() if timestamp is None else timestamp, **fields)
    for path, value in updates:
        made.update.add(path=wire(path), val=value)
    return made


async def test_every_value_that_yang_allows_is_stored_as_it_is(authority, gnmi_config, zoo):
    for path, value, expected in KEPT:
        notes = [note((path, value), ("good", V(uint_val=1)))]
        async with target(authority, notes) as port:
            store, bad = await received(gnmi_config, zoo, port)

        found = {leaf_path: leaf.value for (_, leaf_path), leaf in store.get("/").items()}
        assert bad == [], (path, value)
        assert found == {f"{TOP}/{path}": expected, GOOD: 1}, (path, value)
        assert type(found[f"{TOP}/{path}"]) is type(expected), (path, value)


async def test_every_value_that_yang_forbids_is_set_aside_alone_and_says_why(authority, gnmi_config, zoo):
    notes = [
        note((path, value), ("good", V(uint_val=number))) for number, (path, value, _) in enumerate(REFUSED)
    ]
    async with target(authority, notes) as port:
        store, bad = await received(gnmi_config, zoo, port)

    found = {path: leaf.value for (_, path), leaf in store.get("/").items()}
    assert found == {GOOD: len(REFUSED) - 1}
    assert len(bad) == len(REFUSED)
    for item, (path, _, reason) in zip(bad, REFUSED, strict=True):
        assert reason in item.reason, (path, item)
        assert len(repr(item)) < 2_000


async def test_old_value_does_not_outlive_a_bad_one(authority, gnmi_config, zoo):
    notes = [
        note(("en", V(string_val="up")), ("i8", V(int_val=1)), ("u64", V(uint_val=1))),
        note(("en", V(string_val="sideways"))),  # alone
        note(("i8", V(int_val=2)), ("i8", V(int_val=999))),  # after a good one in one notification
        note(("u64", V(string_val="?")), ("u64", V(uint_val=3))),  # before a good one
    ]
    async with target(authority, notes) as port:
        store, bad = await received(gnmi_config, zoo, port)

    assert len(bad) == 3
    assert {path: leaf.value for (_, path), leaf in store.get("/").items()} == {f"{TOP}/u64": 3}


async def test_deletes_atomic_prefixes_targets_and_duplicates(authority, gnmi_config, zoo):
    row = parse_path(f"{TOP}/row[a='1'][b='2']")
    prefix = encode_path(row)
    prefix.target = "berlin"
    atomic = pb.Notification(timestamp=time.time_ns(), prefix=prefix, atomic=True)
    atomic.update.add(path=pb.Path(elem=[pb.PathElem(name="v")]), val=V(int_val=5))
    origin = pb.Notification(timestamp=time.time_ns(), prefix=pb.Path(origin="zoo", target="berlin"))
    origin.update.add(
        path=pb.Path(elem=[pb.PathElem(name="all"), pb.PathElem(name="s")]), val=V(string_val="x")
    )
    swapped = pb.Notification(timestamp=time.time_ns(), prefix=pb.Path(target="berlin"))
    step = pb.PathElem(name="row", key={"b": "9", "a": "8"})
    swapped.update.add(
        path=pb.Path(elem=[pb.PathElem(name="all"), step, pb.PathElem(name="v")]), val=V(int_val=1)
    )
    gone = note(timestamp=time.time_ns())
    gone.delete.append(wire("i8"))
    notes = [
        note(("i8", V(int_val=1)), ("u64", V(uint_val=1)), ("u64", V(uint_val=2))),
        gone, atomic, origin, swapped,
    ]  # fmt: skip
    async with target(authority, notes) as port:
        store, bad = await received(gnmi_config, zoo, port)

    assert bad == []
    assert {key: leaf.value for key, leaf in store.get("/").items()} == {
        ("warsaw", f"{TOP}/u64"): 2,
        ("berlin", f"{TOP}/row[a='1'][b='2']/v"): 5,
        ("berlin", f"{TOP}/row[a='8'][b='9']/v"): 1,
        ("berlin", f"{TOP}/s"): "x",
    }


@pytest.mark.parametrize(
    ("timestamp", "faults"),
    [(0, 0), (1, 1), (-5, 1), (86_400 * 10**9, 1), (2**62, 1), (2**63 - 1, 1)],
)
async def test_times_that_cannot_be_meant_are_replaced_and_counted(
    authority, gnmi_config, zoo, timestamp, faults
):
    before = time.time_ns()
    async with target(authority, [note(("i8", V(int_val=1)), timestamp=timestamp)]) as port:
        store, _ = await received(gnmi_config, zoo, port)

    leaf = store.get("/")["warsaw", f"{TOP}/i8"]
    assert before <= leaf.observed_at == leaf.received_at <= time.time_ns()
    assert store.freshness("warsaw").clock_faults == faults
