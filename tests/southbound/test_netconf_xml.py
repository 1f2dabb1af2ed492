"""YANG data in XML: namespaces, keys, leaf-lists, identities; edits and yang-patch."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from lxml import etree

from domain_twin.errors import SchemaViolation
from domain_twin.southbound.base import Edit, Operation
from domain_twin.southbound.netconf_messages import BASE, parse_xml
from domain_twin.southbound.netconf_push import PushReader
from domain_twin.southbound.netconf_xml import XmlReader, config_element, event_time, filter_element
from domain_twin.yang.schema import SchemaSet

IF = "urn:ietf:params:xml:ns:yang:ietf-interfaces"
IANA = "urn:ietf:params:xml:ns:yang:iana-if-type"
ETH0 = "/ietf-interfaces:interfaces/interface[name='eth0']"
CELL = "/fedtwin-ran:gnb/NRCellDU[cellLocalId='1']"


@pytest.fixture(scope="module")
def schema():
    return SchemaSet.load(["ietf-interfaces", "iana-if-type", "fedtwin-ran", "ietf-l3-unicast-topology"])


@pytest.fixture
def reader(schema):
    return XmlReader(schema)


def read(reader, text):
    return reader.leaves(parse_xml(f"<data>{text}</data>"))


def test_data_becomes_leaves(reader):
    found = read(
        reader,
        f"""<x:interfaces xmlns:x="{IF}"><x:interface><x:name>eth0</x:name>
        <x:type xmlns:t="{IANA}"> t:ethernetCsmacd </x:type>
        <x:statistics><x:in-octets>5</x:in-octets></x:statistics>
        </x:interface></x:interfaces>
        <gnb xmlns="urn:fedtwin:yang:fedtwin-ran"><NRCellDU>
        <sNSSAIList>1</sNSSAIList><cellLocalId>1</cellLocalId>
        <sNSSAIList>2</sNSSAIList></NRCellDU></gnb>""",
    )

    assert found == {
        f"{ETH0}/name": "eth0",
        f"{ETH0}/type": "iana-if-type:ethernetCsmacd",
        f"{ETH0}/statistics/in-octets": 5,
        f"{CELL}/sNSSAIList": ("1", "2"),
        f"{CELL}/cellLocalId": 1,
    }


def test_what_is_not_of_its_type_stays_text(reader):
    found = read(
        reader,
        f'<interfaces xmlns="{IF}"><interface><name>eth0</name><enabled>perhaps</enabled><colour>red</colour>'
        "</interface></interfaces>",
    )

    assert found[f"{ETH0}/enabled"] == "perhaps"
    assert found[f"{ETH0}/ietf-interfaces:colour"] == "red"


@pytest.mark.parametrize(
    "text", ['<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>', "<a>&undefined;</a>", "<a>", "", "<a/><b/>"]
)
def test_hostile_or_broken_xml_is_refused(text):
    with pytest.raises(ValueError, match=r"."):
        parse_xml(text)


@pytest.mark.parametrize(
    ("text", "nsmap"),
    [
        ("/i:interfaces/i:interface[i:name='eth0']", {"i": IF}),
        ("/ietf-interfaces:interfaces/interface[name='eth0']", {}),
        ("/ietf-interfaces:interfaces/ietf-interfaces:interface[ietf-interfaces:name='eth0']", {}),
        ("/ietf-interfaces:interfaces/interface=eth0", {}),
    ],
)
def test_spellings_of_a_target_lead_to_one_path(reader, text, nsmap):
    assert reader.path(text, nsmap) == ETH0


def test_resource_identifiers_are_unescaped(reader):
    assert reader.path("/ietf-interfaces:interfaces/interface=a%2Fb%27/mtu".replace("mtu", "enabled")) == (
        '/ietf-interfaces:interfaces/interface[name="a/b\'"]/enabled'
    )
    assert reader.path("/fedtwin-ran:gnb/NRCellDU=1/sNSSAIList=2") == f"{CELL}/sNSSAIList[.='2']"


def test_unknown_target_is_refused(reader):
    with pytest.raises(SchemaViolation):
        reader.path("/ietf-interfaces:interfaces/colour")


def test_config_holds_all_edits(schema):
    config = config_element(
        schema,
        [
            Edit(f"{ETH0}/type", "iana-if-type:ethernetCsmacd"),
            Edit(f"{ETH0}/enabled", False, Operation.REPLACE),
            Edit(f"{CELL}/prb-share", Decimal("0.5")),
            Edit(f"{CELL}/sNSSAIList", ("1", "2")),
            Edit(f"{CELL}/sNSSAIList[.='3']", operation=Operation.DELETE),
            Edit("/ietf-interfaces:interfaces/interface[name='gone']", operation=Operation.DELETE),
        ],
    )
    assert len(config) == 2
    again = XmlReader(schema).leaves(config)

    assert again[f"{ETH0}/type"] == "iana-if-type:ethernetCsmacd"
    assert again[f"{ETH0}/enabled"] is False
    assert again[f"{CELL}/prb-share"] == Decimal("0.5")
    assert again[f"{CELL}/sNSSAIList"] == ("1", "2", "3")
    marked = {
        etree.QName(e).localname: e.get(f"{{{BASE}}}operation")
        for e in config.iter()
        if e.get(f"{{{BASE}}}operation")
    }
    assert marked == {"enabled": "replace", "sNSSAIList": "delete", "interface": "delete"}


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (Edit(f"{ETH0}/enabled", "no"), "not a boolean"),
        (Edit(f"{ETH0}/colour", "red"), "no such node"),
        (Edit(ETH0, 5), "give its leaves their values"),
        (Edit(f"{CELL}/sNSSAIList", ("1",), Operation.REPLACE), "leaf-list as a whole"),
    ],
)
def test_edit_that_no_module_allows_is_refused_here(schema, edit, reason):
    with pytest.raises(SchemaViolation, match=reason):
        config_element(schema, [edit])


def test_filter_selects_entries_by_their_keys(schema):
    chosen = filter_element(schema, [f"{ETH0}/statistics", "/fedtwin-ran:gnb"])

    assert [etree.QName(child).localname for child in chosen] == ["interfaces", "gnb"]
    entry = chosen[0][0]
    assert [(etree.QName(e).localname, e.text) for e in entry] == [("name", "eth0"), ("statistics", None)]
    assert filter_element(schema, ["/"]) is None


@given(
    st.text(
        st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"),
        min_size=1,
        max_size=8,
    )
)
def test_any_key_survives_xml(schema, name):
    path = f"/ietf-interfaces:interfaces/interface[name={quoted(name)}]/description"
    config = config_element(schema, [Edit(path, name)])
    found = XmlReader(schema).leaves(parse_xml(etree.tostring(config, encoding="unicode")))

    assert found[schema.canonical(steps(path))] == name


def quoted(text):
    from domain_twin.yang.paths import quote

    return quote(text)


def steps(path):
    from domain_twin.yang.paths import parse_path

    return parse_path(path)


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("1970-01-01T00:00:01Z", 10**9),
        ("2026-11-21T01:02:03.123456+02:00", 1795215723123456000),
        ("", 0),
        ("yesterday", 0),
        (None, 0),
    ],
)
def test_event_times(text, nanoseconds):
    assert event_time(text) == nanoseconds


def patch(*edits):
    body = "".join(
        f"<edit><edit-id>{n}</edit-id><operation>{op}</operation><target>{target}</target>"
        + (f"<value>{value}</value>" if value else "")
        + "</edit>"
        for n, (op, target, value) in enumerate(edits)
    )
    return parse_xml(
        '<notification xmlns="urn:ietf:params:xml:ns:netconf:notification:1.0">'
        "<eventTime>1970-01-01T00:00:01Z</eventTime>"
        '<push-change-update xmlns="urn:ietf:params:xml:ns:yang:ietf-yang-push"><id>1</id><datastore-changes>'
        f"<yang-patch><patch-id>1</patch-id>{body}</yang-patch></datastore-changes></push-change-update>"
        "</notification>"
    )


def test_patch_is_read_in_order(reader):
    entry = f'<interface xmlns="{IF}"><name>eth0</name><enabled>true</enabled></interface>'
    pushed = PushReader(reader).read(
        patch(
            ("replace", f"{ETH0}/description", f'<description xmlns="{IF}">x</description>'),
            ("delete", ETH0, ""),
            ("create", ETH0, entry),
            ("replace", f"{ETH0}/enabled", f'<enabled xmlns="{IF}">false</enabled>'),
        )
    )

    assert pushed.observed_at == 10**9
    assert pushed.deletes == [ETH0, ETH0]
    assert pushed.updates == {f"{ETH0}/name": "eth0", f"{ETH0}/enabled": False}


def test_leaf_lists_change_entry_by_entry(reader):
    pushes = PushReader(reader)
    leaf = f"{CELL}/sNSSAIList"

    def element(value):
        return f'<sNSSAIList xmlns="urn:fedtwin:yang:fedtwin-ran">{value}</sNSSAIList>'

    first = pushes.read(
        patch(("create", f"{leaf}[.='1']", element(1)), ("create", f"{leaf}[.='2']", element(2)))
    )
    second = pushes.read(patch(("delete", f"{leaf}[.='1']", "")))
    third = pushes.read(patch(("delete", f"{leaf}[.='2']", "")))

    assert first.updates == {leaf: ("1", "2")}
    assert second.updates == {leaf: ("2",)}
    assert third.deletes == [leaf]
