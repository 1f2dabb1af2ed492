"""The datastore of an emulated device on its own: values, transactions, change queues, forms."""

import json
from decimal import Decimal

import pytest
from device_example import CONFIG, ETH0, ETH1, MODULES, NODE, STATE
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from lxml import etree

from domain_twin.emulator import data_tree
from domain_twin.emulator.device import (
    Actor,
    Change,
    ConfigRejected,
    DeviceDatastore,
    load_schema,
    pattern_of,
)
from domain_twin.emulator.json_tree import json_tree, requests_from_json
from domain_twin.emulator.netconf_framing import Decoder, FramingError, MessageTooBig, encode
from domain_twin.emulator.rpc_error import NETCONF
from domain_twin.emulator.xml_tree import requests_from_xml, xml_tree
from domain_twin.errors import NotFound, SchemaError, SchemaViolation
from domain_twin.resources import data_folder, standard_yang_folders

LINK = f"/fedtwin-performance:performance/link[link-id='{NODE}:eth1:out']"
ACTOR = Actor("test")


# ---- schema ----------------------------------------------------------------


def test_schema_is_shared_and_reads_our_modules():
    schema = load_schema(MODULES)
    assert load_schema(MODULES) is schema
    border = (
        f"/ietf-network:networks/network[network-id='urn:ndt:transport']/node[node-id='{NODE}']"
        f"/ietf-network-topology:termination-point[tp-id='{NODE}:eth0']/fedtwin-inter-domain:inter-domain/metric"
    )
    assert schema.parse(border)[-1][0].leaf_type.base == "uint32"


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/ietf-interfaces:interfaces/interface/enabled", "needs its keys name"),
        ("/ietf-interfaces:interfaces/interface[index='1']", "keys of 'interface' are name"),
        ("/ietf-interfaces:interfaces/nothing", "no module of the device defines 'nothing'"),
        ("interfaces", "no instance identifier"),
        ("/ietf-interfaces:interfaces[name='x']", "is a container and has no keys"),
    ],
)
def test_bad_path_names_the_element(path, words):
    with pytest.raises(SchemaViolation, match=words):
        load_schema(MODULES).parse(path)


def test_missing_module_is_named(tmp_path):
    with pytest.raises(SchemaError, match="acme"):
        load_schema(("acme",))
    broken = (
        "module bad { nonsense",
        "module bad { nonsense; }",
        "module bad { namespace 'x'; prefix b; import absent { prefix a; } leaf l { type a:b; } }",
    )
    for text in broken:
        (tmp_path / "bad.yang").write_text(text)
        with pytest.raises(SchemaError, match=r"bad\.yang"):
            load_schema(("bad",), (tmp_path, *standard_yang_folders(), data_folder("yang")))


# ---- state -----------------------------------------------------------------


def test_load_reads_both_trees_and_shows_them_as_json(store):
    data = store.get_json()
    eth0 = data["ietf-interfaces:interfaces"]["interface"][0]
    assert eth0["statistics"]["in-octets"] == "18446744073709551615"
    assert data["fedtwin-performance:performance"]["link"][0]["loss-ratio"] == "0.000000001"
    assert store.get_config() == CONFIG


def test_load_replaces_what_was_there(store):
    store.put(f"{ETH0}/last-change", "2026-01-01T00:00:00Z")
    store.load({}, STATE)
    assert store.get_config() == {}
    assert store.leaf(f"{ETH0}/last-change") is None
    assert store.leaf(f"{ETH0}/name").configured is False


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (
            {"ietf-interfaces:interfaces": {"interface": [{"type": "iana-if-type:l2vlan"}]}},
            "key missing: name",
        ),
        ({"ietf-interfaces:interfaces": {"interface": [{"name": "x"}]}}, "type: is mandatory"),
        ({"acme:x": 1}, "acme:x"),
        ({"fedtwin-ran:gnb": {"gNBId": "7"}}, "not an integer"),
        ({"fedtwin-performance:performance": {"interval": 5}}, "is state"),
    ],
)
def test_load_refuses_what_the_schema_forbids(store, config, words):
    with pytest.raises(ConfigRejected, match=words):
        store.load(config, {})


def test_put_tells_only_of_changes(store):
    queue = store.watch([pattern_of(store.schema, "/ietf-interfaces:interfaces")])
    store.put(f"{ETH0}/oper-status", "up")
    store.put(f"{LINK}/samples", 4)
    assert len(queue) == 0
    store.put(f"{ETH0}/oper-status", "down")
    store.put(f"{ETH0}/oper-status", "up")
    assert [(leaf.path, leaf.value) for leaf in queue.drain(10)] == [(f"{ETH0}/oper-status", "up")]


def test_put_rounds_decimals_to_their_fraction_digits(store):
    queue = store.watch([pattern_of(store.schema, LINK)])
    store.put(f"{LINK}/one-way-delay", 13.00049)
    store.put(f"{LINK}/one-way-delay", 13.0004)
    assert len(queue.drain(10)) == 1
    assert store.get_json(f"{LINK}/one-way-delay") == "13.0"
    store.put(f"{LINK}/loss-ratio", 1e-9)
    assert store.get_json(f"{LINK}/loss-ratio") == "0.000000001"


def test_put_makes_entries_with_their_keys_and_delete_takes_them(store):
    path = "/fedtwin-performance:performance/probe[name='p']"
    queue = store.watch([pattern_of(store.schema, "/fedtwin-performance:performance")])
    store.put(f"{path}/samples", 4)
    assert [leaf.path for leaf in queue.drain(10)] == [f"{path}/name", f"{path}/samples"]
    store.delete(path)
    assert [(leaf.path, leaf.deleted) for leaf in queue.drain(10)] == [
        (f"{path}/name", True),
        (f"{path}/samples", True),
    ]
    with pytest.raises(NotFound):
        store.get_json(path)
    store.delete(path)


def test_put_refuses_unknown_paths_and_inner_nodes(store):
    for path in ("/ietf-interfaces:interfaces", ETH0, f"{ETH0}/colour"):
        with pytest.raises(SchemaViolation):
            store.put(path, 1)


def test_drain_takes_at_most_what_is_asked(store):
    queue = store.watch([pattern_of(store.schema, "/")])
    store.put_many((f"{name}/statistics/in-errors", 77) for name in (ETH0, ETH1))
    assert len(queue.drain(1)) == 1
    assert len(queue.drain(10)) == 1
    assert len(queue) == 0


def test_unwatched_queue_hears_nothing_more(store):
    queue = store.watch([pattern_of(store.schema, "/")])
    store.unwatch(queue)
    store.put(f"{ETH0}/oper-status", "down")
    assert len(queue) == 0


# ---- transactions ----------------------------------------------------------


def test_edit_is_all_or_nothing(store):
    before = store.running
    with pytest.raises(ConfigRejected):
        store.edit(
            [Change("merge", f"{ETH0}/enabled", False), Change("merge", f"{ETH0}/enabled", "x")], ACTOR
        )
    assert store.running is before
    assert store.get(f"{ETH0}/enabled") is True


def test_edit_reports_leaves_and_calls_the_hooks_in_order(store):
    calls = []
    store.validate_config = lambda change: calls.append(("validate", store.get(f"{ETH0}/enabled")))
    store.on_config_change = lambda change: calls.append(("applied", store.get(f"{ETH0}/enabled")))

    change = store.edit([Change("merge", f"{ETH0}/enabled", False), Change("delete", ETH1)], ACTOR)

    assert calls == [("validate", True), ("applied", False)]
    assert [(leaf.path, leaf.old, leaf.new) for leaf in change.leaves] == [
        (f"{ETH0}/enabled", True, False),
        (f"{ETH1}/name", "eth1", None),
        (f"{ETH1}/type", "iana-if-type:ethernetCsmacd", None),
        (f"{ETH1}/enabled", True, None),
        (f"{ETH1}/description", "<to> 'b'", None),
    ]
    assert [edit.operation for edit in change.edits] == ["replace", "delete"]


def test_edit_without_effect_calls_nobody(store):
    store.on_config_change = pytest.fail
    assert store.edit([Change("merge", f"{ETH0}/enabled", True)], ACTOR).edits == ()


def test_deleted_entry_takes_its_state_along(store):
    store.edit([Change("remove", ETH1)], ACTOR)
    assert store.leaf(f"{ETH1}/oper-status") is None
    entries = store.get_json("/ietf-interfaces:interfaces/interface")
    assert [entry["ietf-interfaces:name"] for entry in entries] == ["eth0"]


def test_root_replace_swaps_the_whole_configuration(store):
    only = {"fedtwin-ran:gnb": {"gNBId": 9}}
    store.edit([Change("replace", "/", only)], ACTOR)
    assert store.get_config() == only


def test_presence_container_is_configuration_of_its_own(store):
    path = (
        "/ietf-network:networks/network[network-id='urn:ndt:transport']/network-types"
        "/ietf-l3-unicast-topology:l3-unicast-topology"
    )
    change = store.edit([Change("delete", path)], ACTOR)
    assert [(leaf.path, leaf.old, leaf.new) for leaf in change.leaves] == [(path, {}, None)]
    assert store.leaf(path) is None
    store.edit([Change("create", path, {})], ACTOR)
    assert store.leaf(path).value == {}


def test_decimals_of_the_configuration_stay_exact(store):
    cell = "/fedtwin-ran:gnb/NRCellDU[cellLocalId='1']"
    store.edit([Change("merge", f"{cell}/prb-share", "0.123456789")], ACTOR)
    assert store.get(f"{cell}/prb-share") == Decimal("0.123456789")
    with pytest.raises(ConfigRejected, match="fraction digits"):
        store.edit([Change("merge", f"{cell}/prb-share", "0.1234567891")], ACTOR)
    with pytest.raises(ConfigRejected, match="range"):
        store.edit([Change("merge", f"{cell}/prb-share", "1.5")], ACTOR)


# ---- algebra and codecs ----------------------------------------------------

names = st.sampled_from(["a", "b", "c'd", "e/f[g]"])
descriptions = st.text(st.characters(min_codepoint=32, max_codepoint=0x2FF), max_size=8)
interfaces = st.dictionaries(
    names,
    st.fixed_dictionaries(
        {"type": st.sampled_from(["iana-if-type:ethernetCsmacd", "iana-if-type:l2vlan"])},
        optional={"enabled": st.booleans(), "description": descriptions},
    ),
    max_size=4,
)
cells = st.dictionaries(
    st.integers(0, 16383),
    st.fixed_dictionaries(
        {},
        optional={
            "prb-share": st.integers(0, 10**9).map(lambda n: str((Decimal(n) / 10**9).normalize() + 0)),
            "sNSSAIList": st.lists(st.integers(0, 99).map(str), min_size=1, max_size=3, unique=True),
            "nRPCI": st.integers(0, 1007),
        },
    ),
    max_size=3,
)


def tree(schema, some_interfaces, some_cells):
    data = {
        "ietf-interfaces:interfaces": {"interface": [{"name": k, **v} for k, v in some_interfaces.items()]},
        "fedtwin-ran:gnb": {"NRCellDU": [{"cellLocalId": k, **v} for k, v in some_cells.items()]},
    }
    return data_tree.apply({}, requests_from_json(schema, None, data), "merge")


trees = st.builds(lambda i, c: tree(load_schema(MODULES), i, c), interfaces, cells)
slow = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@slow
@given(trees)
def test_json_form_round_trips(config):
    schema = load_schema(MODULES)
    text = json.dumps(json_tree(config, None))
    again = data_tree.apply({}, requests_from_json(schema, None, json.loads(text)), "merge")
    assert list(data_tree.difference(config, again)) == []


@slow
@given(trees)
def test_xml_form_round_trips(config):
    schema = load_schema(MODULES)
    element = etree.fromstring(f'<config xmlns="{NETCONF}">{xml_tree(schema, config)}</config>')
    again = data_tree.apply({}, requests_from_xml(schema, None, element), "merge")
    assert list(data_tree.difference(config, again)) == []


@slow
@given(trees, trees)
def test_transaction_leaves_the_store_as_a_fresh_one(before, after):
    """Whatever came before, running, leaves and changes told agree with the configuration committed last."""
    schema = load_schema(MODULES)
    device = DeviceDatastore("any", schema)
    device.commit(before, ACTOR)
    told = {leaf.path: leaf.value for leaf in device.all_leaves()}
    change = device.commit(after, ACTOR)
    for leaf in change.leaves:
        if leaf.new is None:
            assert told.pop(leaf.path) == leaf.old
        else:
            told[leaf.path] = leaf.new

    fresh = DeviceDatastore("other", schema)
    fresh.commit(after, ACTOR)
    assert {leaf.path: leaf.value for leaf in device.all_leaves()} == told
    assert {leaf.path: leaf.value for leaf in fresh.all_leaves()} == told
    assert list(data_tree.difference(device.running, fresh.running)) == []


@slow
@given(st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=5), st.integers(1, 7), st.booleans())
def test_framing_gives_back_what_went_in_however_it_is_cut(messages, size, chunked):
    messages = [message.replace(b"]", b"x") for message in messages]
    wire = b"".join(encode(message, chunked) for message in messages)
    decoder = Decoder()
    decoder.chunked = chunked
    received = []
    for start in range(0, len(wire), size):
        decoder.feed(wire[start : start + size])
        while (message := decoder.next_message()) is not None:
            received.append(message)
    assert received == messages


@pytest.mark.parametrize(
    "wire", [b"\n#0\nx\n##\n", b"garbage", b"\n#x", b"\n#3\nabcd\n##\n", b"\n##\n", b"#1\na"]
)
def test_broken_chunks_are_noticed(wire):
    decoder = Decoder()
    decoder.chunked = True
    decoder.feed(wire)
    with pytest.raises(FramingError):
        decoder.next_message()


@pytest.mark.parametrize("chunked", [True, False])
def test_message_above_the_limit_is_noticed_before_its_end(chunked):
    decoder = Decoder(100)
    decoder.chunked = chunked
    decoder.feed(b"\n#150\n" + b"x" * 120)
    with pytest.raises(MessageTooBig):
        decoder.next_message()
