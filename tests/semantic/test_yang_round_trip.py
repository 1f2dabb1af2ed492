"""YANG data as quads and back: nothing is lost, and the store gives back what it was given."""

from __future__ import annotations

import random
import sys
from functools import cache
from pathlib import Path

import pyoxigraph as ox
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from domain_twin.errors import SchemaViolation
from domain_twin.semantic.yang_json import read_back
from domain_twin.semantic.yang_plan import Plan, compile_plan
from domain_twin.semantic.yang_quads import Unmapped, quads
from domain_twin.yang.module_set import ModuleSet
from domain_twin.yang.schema import SchemaSet

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from _yang_instances import Instances, settled, typed
from mapped_modules import ACME, DEVIATION, LINKS, ZOO

OWN = {"zoo": ZOO, "links": LINKS}
SETS = ["shipped", "own", "vendor", "deviating"]


@cache
def plan(name: str) -> Plan:
    match name:
        case "shipped":
            schema = SchemaSet.load()
        case "own":
            schema = SchemaSet.load(list(OWN), texts=OWN)
        case "vendor":
            texts = {"acme-ports": ACME}
            schema = SchemaSet.load(["acme-ports", "iana-if-type", "ietf-ip"], texts=texts)
        case _:
            texts = {"acme-ports": ACME, "acme-deviations": DEVIATION}
            chosen = ModuleSet(features={"acme-ports": ()}, deviating=frozenset({"acme-deviations"}))
            schema = SchemaSet.load([*texts, "iana-if-type"], texts=texts, module_set=chosen)
    assert schema.report.failed == {}
    return compile_plan(schema)


@pytest.mark.parametrize("modules", SETS)
@given(seed=st.integers(0, 2**32))
@hypothesis_settings(max_examples=15)
def test_data_come_back_from_the_store_as_they_went_in(modules, seed):
    made = plan(modules)
    tree = Instances(made.schema, random.Random(seed), fill=0.85 if modules != "shipped" else 0.5).tree()
    lost = Unmapped()
    store = ox.Store()

    given_quads = quads(made, "north", "pe 1/x", typed(made.schema, tree), ordered=True, unmapped=lost)
    store.extend(given_quads)
    back = read_back(made, list(store))

    assert lost.count == 0
    assert set(store) == set(given_quads)
    assert len(set(given_quads)) == len(given_quads)
    assert settled(made.schema, back, user_order=True) == settled(made.schema, tree, user_order=True)


def test_every_kind_of_value_is_drawn():
    made = plan("own")
    drawn = Instances(made.schema, random.Random(1), fill=1.0, entries=3)

    tree = drawn.tree()

    paths = {made.schema.node(path).path for path in typed(made.schema, tree)}
    assert {path for path in made.leaves if path.startswith("/zoo:")} - paths == set()


def test_no_term_holds_a_blank_node_or_leaves_the_authority():
    made = plan("own")
    tree = Instances(made.schema, random.Random(2), fill=1.0).tree()

    for quad in quads(made, "n", "d", typed(made.schema, tree)):
        assert isinstance(quad.subject, ox.NamedNode)
        assert quad.subject.value.startswith("https://fedtwin.example/id/n/device/d/data/")
        assert not isinstance(quad.object, ox.BlankNode)


def test_numbers_of_64_bits_compare_by_value():
    made = plan("own")
    store = ox.Store()
    store.extend(quads(made, "n", "d", {"/zoo:types/u64": 2**64 - 1, "/zoo:types/i64": -(2**63)}))

    found = store.query(
        "SELECT ?v { VALUES ?most { 9000000000000000000 } ?s ?p ?v"
        " FILTER(isNumeric(?v) && (?v > ?most || ?v < -?most)) }",
        use_default_graph_as_union=True,
    )

    assert {row["v"].value for row in found} == {str(2**64 - 1), str(-(2**63))}
    back = {"zoo:types": {"u64": str(2**64 - 1), "i64": str(-(2**63))}}
    assert read_back(made, store) == back


def test_quads_of_two_devices_are_not_read_as_one():
    made = plan("own")
    leaves = {"/zoo:types/text": "x"}

    with pytest.raises(SchemaViolation, match="is no node of"):
        read_back(made, quads(made, "n", "a", leaves) + quads(made, "n", "b", leaves))


def test_quads_that_no_module_defines_are_refused():
    made = plan("own")
    subject = ox.NamedNode("https://fedtwin.example/id/n/device/d/data/zoo:nowhere")
    other = quads(made, "n", "d", {"/zoo:types/text": "x"})[-1]

    with pytest.raises(SchemaViolation, match="no loaded module defines /zoo:nowhere"):
        read_back(made, [ox.Quad(subject, other.predicate, other.object)])


def test_a_value_that_is_not_of_its_type_is_refused_on_the_way_back():
    made = plan("own")
    quad = quads(made, "n", "d", {"/zoo:types/u8": 7})[-1]

    with pytest.raises(SchemaViolation, match="/zoo:types/u8"):
        read_back(made, [ox.Quad(quad.subject, quad.predicate, ox.Literal("many"))])


def test_two_values_where_one_belongs_are_refused():
    made = plan("own")

    with pytest.raises(SchemaViolation, match="2 values"):
        read_back(
            made,
            quads(made, "n", "d", {"/zoo:types/u8": 7}) + quads(made, "n", "d", {"/zoo:types/u8": 8}),
        )
