"""Every gNMI value and every form of path survives decoding: a table, and random notifications."""

from __future__ import annotations

import struct
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pygnmi.spec.v080 import gnmi_pb2 as pb

from domain_twin.southbound.gnmi_decode import Decoder
from domain_twin.southbound.gnmi_wire import JsonValue, Response, decode_value, encode_path
from domain_twin.yang.paths import parse_path
from domain_twin.yang.quarantine import Unreadable
from domain_twin.yang.schema import SchemaSet

NOW = 1_800_000_000_000_000_000
ETH0 = "/ietf-interfaces:interfaces/interface[name='eth0']"


@pytest.fixture(scope="module")
def schema():
    return SchemaSet.load(["ietf-interfaces", "iana-if-type", "fedtwin-ran", "ietf-l3-unicast-topology"])


@pytest.fixture
def decoder(schema):
    return Decoder("warsaw", "warsaw", schema)


def decoded(decoder, notification, now=NOW):
    raw = pb.SubscribeResponse(update=notification).SerializeToString()
    return decoder.batch(Response.FromString(raw).update, now)


def typed_value(**fields):
    return pb.TypedValue(**fields)


LEAFLIST = pb.ScalarArray(element=[pb.TypedValue(uint_val=1), pb.TypedValue(string_val="b")])
VALUES = [
    (pb.TypedValue(string_val="up"), "up"),
    (pb.TypedValue(string_val=""), ""),
    (pb.TypedValue(string_val="ü" * 200), "ü" * 200),
    (pb.TypedValue(int_val=0), 0),
    (pb.TypedValue(int_val=-1), -1),
    (pb.TypedValue(int_val=-(2**63)), -(2**63)),
    (pb.TypedValue(int_val=2**63 - 1), 2**63 - 1),
    (pb.TypedValue(uint_val=0), 0),
    (pb.TypedValue(uint_val=2**64 - 1), 2**64 - 1),
    (pb.TypedValue(bool_val=True), True),
    (pb.TypedValue(bool_val=False), False),
    (pb.TypedValue(bytes_val=b"\x00\xff"), b"\x00\xff"),
    (pb.TypedValue(float_val=0.1), 0.1),
    (pb.TypedValue(double_val=-0.1), -0.1),
    (pb.TypedValue(decimal_val=pb.Decimal64(digits=-12345, precision=3)), Decimal("-12.345")),
    (pb.TypedValue(leaflist_val=LEAFLIST), (1, "b")),
    (pb.TypedValue(leaflist_val=pb.ScalarArray()), ()),
    (pb.TypedValue(json_val=b'"x"'), "x"),
    (pb.TypedValue(json_ietf_val=b'"18446744073709551615"'), "18446744073709551615"),
    (pb.TypedValue(json_ietf_val=b"true"), True),
    (pb.TypedValue(json_ietf_val=b"1.10"), Decimal("1.10")),
    (pb.TypedValue(json_ietf_val=b"null"), None),
    (pb.TypedValue(ascii_val="text"), "text"),
]


@pytest.mark.parametrize(("value", "expected"), VALUES)
def test_value_survives(value, expected):
    found = decode_value(value)

    assert found == expected
    assert type(found) is type(expected)


def test_missing_value_is_none_and_json_trees_stay_trees():
    assert decode_value(pb.TypedValue()) is None
    tree = decode_value(pb.TypedValue(json_ietf_val=b'{"a": [1]}'))
    assert isinstance(tree, JsonValue)
    assert tree.data == {"a": [1]}


@given(
    st.one_of(
        st.integers(0, 2**64 - 1).map(lambda v: (pb.TypedValue(uint_val=v), v)),
        st.integers(-(2**63), 2**63 - 1).map(lambda v: (pb.TypedValue(int_val=v), v)),
        st.text(st.characters(exclude_categories=["Cs"])).map(lambda v: (pb.TypedValue(string_val=v), v)),
        st.floats(allow_nan=False).map(lambda v: (pb.TypedValue(double_val=v), v)),
        st.binary().map(lambda v: (pb.TypedValue(bytes_val=v), v)),
        st.booleans().map(lambda v: (pb.TypedValue(bool_val=v), v)),
    )
)
def test_any_scalar_survives(pair):
    message, value = pair
    assert decode_value(message) == value


def path(text, origin="", target=""):
    made = encode_path(parse_path(text)) if text else pb.Path()
    made.origin, made.target = origin, target
    return made


def test_prefix_target_and_timestamp_are_honoured(decoder):
    note = pb.Notification(timestamp=NOW - 5, prefix=path(ETH0, target="gdansk"))
    note.update.add(path=pb.Path(elem=[pb.PathElem(name="oper-status")]), val=pb.TypedValue(string_val="up"))

    (update,) = decoded(decoder, note).updates

    assert update == ("gdansk", f"{ETH0}/oper-status", "up", NOW - 5, "measured")


def test_timestamp_zero_is_the_time_of_reception(decoder):
    note = pb.Notification()
    note.update.add(path=path(f"{ETH0}/enabled"), val=pb.TypedValue(bool_val=True))

    batch = decoded(decoder, note)

    assert batch.updates[0].observed_at == batch.received_at == NOW


@pytest.mark.parametrize("origin", ["", "rfc7951", "ietf-interfaces"])
@pytest.mark.parametrize(
    "names",
    [
        ("interfaces", "interface", "enabled"),
        ("ietf-interfaces:interfaces", "ietf-interfaces:interface", "enabled"),
    ],
)
def test_origins_and_prefixes_lead_to_one_path(decoder, origin, names):
    wire = pb.Path(origin=origin, elem=[pb.PathElem(name=name) for name in names])
    wire.elem[1].key["name"] = "eth0"
    note = pb.Notification()
    note.update.add(path=wire, val=pb.TypedValue(bool_val=True))

    assert decoded(decoder, note).updates[0].path == f"{ETH0}/enabled"


def test_deletes_and_atomic_come_as_deletes(decoder):
    note = pb.Notification(timestamp=7, prefix=path(ETH0), atomic=True)
    note.delete.append(pb.Path(elem=[pb.PathElem(name="statistics")]))
    note.update.add(path=pb.Path(elem=[pb.PathElem(name="enabled")]), val=pb.TypedValue(bool_val=True))

    batch = decoded(decoder, note)

    assert [delete.path for delete in batch.deletes] == [ETH0, f"{ETH0}/statistics"]
    assert [update.path for update in batch.updates] == [f"{ETH0}/enabled"]


def test_json_subtree_is_spread_over_its_leaves(decoder):
    note = pb.Notification(timestamp=7)
    note.update.add(
        path=path("/fedtwin-ran:gnb"),
        val=pb.TypedValue(
            json_ietf_val=b'{"gNBId": 7, "NRCellDU": [{"cellLocalId": 1, "sNSSAIList": ["1"]}]}'
        ),
    )

    found = {update.path: update.value for update in decoded(decoder, note).updates}

    assert found == {
        "/fedtwin-ran:gnb/gNBId": 7,
        "/fedtwin-ran:gnb/NRCellDU[cellLocalId='1']/cellLocalId": 1,
        "/fedtwin-ran:gnb/NRCellDU[cellLocalId='1']/sNSSAIList": ("1",),
    }


def test_unknown_paths_keep_their_spelling(decoder):
    note = pb.Notification()
    wire = pb.Path(
        origin="vendor", elem=[pb.PathElem(name="x", key={"b": "2", "a": "1"}), pb.PathElem(name="y")]
    )
    note.update.add(path=wire, val=pb.TypedValue(json_val=b'{"z": 1}'))

    (update,) = decoded(decoder, note).updates

    assert update.path == "/vendor:x[a='1'][b='2']/y"
    assert update.value == '{"z": 1}'


def test_old_paths_and_values_are_read(decoder):
    note = pb.Notification()
    note.update.add(
        path=pb.Path(element=["interfaces"]),
        value=pb.Value(value=b'{"interface": [{"name": "a", "enabled": true}]}'),
    )

    found = {update.path: update.value for update in decoded(decoder, note).updates}

    assert found["/ietf-interfaces:interfaces/interface[name='a']/enabled"] is True


def test_one_undecodable_value_does_not_lose_the_others(decoder):
    note = pb.Notification()
    note.update.add(path=path(f"{ETH0}/enabled"), val=pb.TypedValue(json_ietf_val=b"{"))
    note.update.add(path=path(f"{ETH0}/oper-status"), val=pb.TypedValue(string_val="up"))

    updates = decoded(decoder, note).updates

    assert [update.path for update in updates] == [f"{ETH0}/enabled", f"{ETH0}/oper-status"]
    assert type(updates[0].value) is Unreadable


def test_duplicate_updates_arrive_in_order(decoder):
    note = pb.Notification()
    for value in (1, 2):
        note.update.add(path=path(f"{ETH0}/if-index"), val=pb.TypedValue(int_val=value))

    assert [update.value for update in decoded(decoder, note).updates] == [1, 2]


@given(
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8),
    st.floats(allow_nan=False, width=32),
)
def test_keys_and_floats_survive(schema, name, number):
    decoder = Decoder("warsaw", "warsaw", schema)
    wire = pb.Path(
        elem=[
            pb.PathElem(name="interfaces"),
            pb.PathElem(name="interface", key={"name": name}),
            pb.PathElem(name="enabled"),
        ]
    )
    note = pb.Notification()
    note.update.add(path=wire, val=pb.TypedValue(float_val=number))

    (update,) = decoded(decoder, note).updates

    assert parse_path(update.path)[1].keys == (("name", name),)
    assert (
        struct.pack("f", update.value) == struct.pack("f", number)
        or abs(update.value - number) <= abs(number) * 1e-6
    )
