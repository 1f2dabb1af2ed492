"""Leaves to trees and back, and whole trees before yangson's eyes."""

from __future__ import annotations

import asyncio
import copy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain_twin.errors import SchemaViolation
from domain_twin.yang.schema import SchemaSet
from domain_twin.yang.tree import build_tree, flatten
from domain_twin.yang.validate import TreeValidator, Validation

TREE = {
    "ietf-interfaces:interfaces": {
        "interface": [
            {
                "name": 'it\'s "0"',
                "type": "iana-if-type:ethernetCsmacd",
                "enabled": True,
                "oper-status": "up",
                "admin-status": "up",
                "if-index": 1,
                "statistics": {"discontinuity-time": "2026-01-01T00:00:00Z", "in-octets": "5"},
            },
        ]
    },
    "ietf-network:networks": {
        "network": [
            {
                "network-id": "urn:n",
                "network-types": {"ietf-l3-unicast-topology:l3-unicast-topology": {}},
                "node": [
                    {
                        "node-id": "urn:n:a",
                        "ietf-network-topology:termination-point": [{"tp-id": "urn:n:a:0"}],
                    }
                ],
            }
        ]
    },
    "fedtwin-ran:gnb": {"gNBId": 1, "NRCellDU": [{"cellLocalId": 3, "sNSSAIList": ["1", "2"]}]},
}


@pytest.fixture(scope="module")
def schema():
    return SchemaSet.load(["ietf-interfaces", "iana-if-type", "ietf-l3-unicast-topology", "fedtwin-ran"])


@pytest.fixture(scope="module")
def validation(schema):
    with Validation(schema) as made:
        yield made


def typed(schema, tree):
    out = {}
    for path, value in flatten(schema, "/", tree):
        node = schema.resolve(path)
        out[path] = node.codec.native(value) if node.is_leaf else None
    return out


def test_tree_flattens_and_builds_again(schema):
    leaves = typed(schema, TREE)

    assert build_tree(schema, leaves) == TREE
    assert leaves["/fedtwin-ran:gnb/NRCellDU[cellLocalId='3']/sNSSAIList"] == ("1", "2")


@given(
    st.lists(
        st.tuples(st.text("abé'\"[]", min_size=1, max_size=4), st.integers(0, 2**32 - 1)),
        unique_by=lambda e: e[0],
    )
)
def test_any_keys_survive(schema, entries):
    tree = {
        "ietf-interfaces:interfaces": {
            "interface": [{"name": n, "statistics": {"in-errors": v}} for n, v in entries]
        }
    }

    assert build_tree(schema, typed(schema, tree)) == (tree if entries else {})


def test_unknown_members_are_kept_for_the_quarantine(schema):
    tree = {
        "ietf-interfaces:interfaces": {"interface": [{"name": "a", "vendor:x": 1}, {"mtu": 5}, "?"]},
        "@note": 1,
    }
    found = list(flatten(schema, "/", tree))

    assert ("/ietf-interfaces:interfaces/interface[name='a']/vendor:x", 1) in found
    assert ("/ietf-interfaces:interfaces/interface", {"mtu": 5}) in found
    assert len(found) == 4


def test_valid_tree_passes(validation):
    validation.check(TREE)


@pytest.mark.parametrize(
    ("where", "value", "reason"),
    [
        (("ietf-interfaces:interfaces", "interface", 0, "admin-status"), "sideways", "admin-status"),
        (("ietf-interfaces:interfaces", "interface", 0, "nope"), 1, "no loaded module defines this member"),
        (("fedtwin-ran:gnb", "NRCellDU"), [{"cellLocalId": 3}, {"cellLocalId": 3}], "NRCellDU"),
        (("ietf-interfaces:interfaces", "interface"), 5, "interface"),
    ],
)
def test_broken_tree_is_refused_with_its_element(validation, where, value, reason):
    tree = copy.deepcopy(TREE)
    at = tree
    for part in where[:-1]:
        at = at[part]
    at[where[-1]] = value

    with pytest.raises(SchemaViolation, match=reason):
        validation.check(tree)


async def test_process_validates_beside_the_event_loop(schema):
    turns = 0

    async def count():
        nonlocal turns
        while True:
            await asyncio.sleep(0.001)
            turns += 1

    async with TreeValidator(schema) as validator:
        task = asyncio.create_task(count())
        await validator.check(TREE)
        with pytest.raises(SchemaViolation, match="no loaded module"):
            await validator.check({"ietf-interfaces:interfaces": {"nope": 1}})
        task.cancel()

    assert turns > 10
