"""Leafrefs as links, terms as a graph of their own, and what a vendor's modules add."""

from __future__ import annotations

import pickle
import sys
from functools import cache
from pathlib import Path

import pyoxigraph as ox
import pytest

from domain_twin.semantic import names
from domain_twin.semantic.yang_links import Leafref, Linker, report
from domain_twin.semantic.yang_plan import Plan, compile_plan
from domain_twin.semantic.yang_quads import quads
from domain_twin.semantic.yang_terms import describe, fingerprint
from domain_twin.yang.module_set import ModuleSet
from domain_twin.yang.schema import NodeKind, Reference, SchemaNode, SchemaSet

sys.path.insert(0, str(Path(__file__).parent))
from mapped_modules import ACME, DEVIATION, LINKS, LOOP, ZOO


@cache
def shipped() -> Plan:
    return compile_plan(SchemaSet.load())


@cache
def own() -> Plan:
    texts = {"zoo": ZOO, "links": LINKS, "acme-ports": ACME}
    return compile_plan(SchemaSet.load([*texts, "iana-if-type"], texts=texts))


def asked(graph: list[ox.Quad], query: str) -> list[tuple[str, ...]]:
    store = ox.Store()
    store.extend(graph)
    prefixes = {"rdfs": "http://www.w3.org/2000/01/rdf-schema#", "yang": names.YANG}
    found = store.query(query, prefixes=prefixes, use_default_graph_as_union=True)
    return sorted(tuple(term.value for term in row) for row in found)


def test_nearly_all_leafrefs_to_list_keys_of_the_shipped_modules_are_links():
    found = report(shipped().leafrefs)

    assert found["leafrefs"] > 100
    assert found["share"] >= 0.99, found["not_linked"]


def test_every_leafref_is_linked_or_reported_with_why():
    rows = {row.leaf: row for row in own().leafrefs}

    assert rows["/links:top/lost"].why == "nothing says which id of /links:top/site is meant"
    assert rows["/links:top/lost"].target == "/links:top/site/room/name"
    for path, node in ((p, leaf.node) for p, leaf in own().leaves.items() if leaf.node.reference):
        assert path in rows or node.name == "name", path  # `thing/name` repeats `config/name`
    assert rows["/links:top/any"].why == "another member of its union takes any text"
    linked = report(own().leafrefs)
    assert linked["leafrefs"] - linked["linked"] == len(linked["not_linked"])


def test_a_report_of_no_leafrefs_is_whole():
    assert report([])["share"] == 1.0
    assert report([Leafref("/a", "/b", "because")])["share"] == 0.0


def test_a_ring_of_leafrefs_ends():
    schema = SchemaSet.load(["zoo"], texts={"zoo": ZOO})
    types = schema.node("/zoo:types")
    ring = [types.children[name] for name in ("i8", "i16", "i32")]
    for node, following in zip(ring, [*ring[1:], ring[0]], strict=True):
        node.reference = Reference(following.path, 1)
    types.children["text"].reference = Reference("/zoo:types/text", 1)

    plan = compile_plan(schema)

    assert [row for row in plan.leafrefs if row.leaf.startswith("/zoo:types")] == []
    assert len(quads(plan, "n", "d", {"/zoo:types/i8": 1, "/zoo:types/text": "x"})) == 3


def test_a_module_whose_leafrefs_run_in_a_circle_is_left_out_by_name():
    schema = SchemaSet.load(["zoo", "loop"], texts={"zoo": ZOO, "loop": LOOP})

    assert "circular" in str(schema.report.failed["loop"])
    assert compile_plan(schema).leaves.keys() >= {"/zoo:types/text"}


def test_a_reference_out_of_the_schema_is_no_link():
    schema = SchemaSet.load(["links"], texts={"links": LINKS})
    schema.node("/links:top/visit/again").reference = Reference("/gone:away/name", -1)

    plan = compile_plan(schema)

    assert plan.leaves["/links:top/visit/again"].link is None


def test_a_list_without_keys_can_not_be_linked_to():
    schema = SchemaSet.load(["links"], texts={"links": LINKS})
    schema.node("/links:top/site").keys = ()

    found = {row.leaf: row.why for row in compile_plan(schema).leafrefs}

    assert found["/links:top/lost"] == "list /links:top/site has no keys"


def test_counters_go_to_kpi_through_any_typedef():
    kpis = {path for path, leaf in own().leaves.items() if leaf.graph == "kpi"}

    assert kpis >= {"/zoo:stats/seen", "/zoo:mixed/port/moved", "/zoo:stats/cell/traffic"}
    assert "/zoo:stats/plain" not in kpis
    assert "/ietf-interfaces:interfaces/interface/statistics/in-octets" in kpis
    assert "/ietf-interfaces:interfaces/interface/acme-ports:port/drops" not in kpis  # uint64, no counter


def test_an_augmenting_modules_terms_have_its_namespace():
    path = "/ietf-interfaces:interfaces/interface[name='eth0']/acme-ports:port"
    found = quads(own(), "n", "d", {f"{path}/optics": "acme-ports:sfp28", f"{path}/backup": "eth1"})

    said = {quad.predicate.value: quad.object.value for quad in found if "port" in quad.subject.value}
    base = names.data_node("n", "d", "ietf-interfaces:interfaces/interface")
    assert said == {
        names.yang_term("acme-ports", "optics"): names.yang_identity("acme-ports", "sfp28"),
        names.yang_term("acme-ports", "backup"): "eth1",
        names.yang_link("acme-ports", "backup"): f"{base}=eth1",
    }
    assert f"{base}=eth0/acme-ports:port" in {quad.subject.value for quad in found}


def test_features_and_deviations_shape_the_plan():
    texts = {"acme-ports": ACME, "acme-deviations": DEVIATION}
    chosen = ModuleSet(features={"acme-ports": ()}, deviating=frozenset({"acme-deviations"}))
    one = compile_plan(SchemaSet.load([*texts, "iana-if-type"], texts=texts))
    two = compile_plan(SchemaSet.load([*texts, "iana-if-type"], texts=texts, module_set=chosen))
    interface = "/ietf-interfaces:interfaces/interface"

    assert one.leaves.keys() - two.leaves.keys() == {
        f"{interface}/description",
        f"{interface}/acme-ports:port/fan-speed",
    }
    assert fingerprint(one) != fingerprint(two)


def test_the_cache_keeps_what_links_need(tmp_path):
    texts = {"links": LINKS, "zoo": ZOO}
    plans = [compile_plan(SchemaSet.load(list(texts), texts=texts, cache=tmp_path)) for _ in range(2)]

    assert list(tmp_path.glob("*.schema"))
    assert plans[0].leafrefs == plans[1].leafrefs
    assert describe(plans[0]) == describe(plans[1])
    for path, leaf in plans[0].leaves.items():
        other = plans[1].leaves[path].node
        assert (leaf.node.reference, leaf.node.typedefs) == (other.reference, other.typedefs)
        assert leaf.node.user_ordered == other.user_ordered
    assert plans[1].nodes["/zoo:rule"].node.user_ordered


def test_terms_say_what_is_state_of_which_type_and_unit():
    graph = describe(own())

    state = asked(
        graph, "SELECT ?p { ?p yang:isState true ; rdfs:range ?r . FILTER(STRENDS(STR(?p), '#seen')) }"
    )
    units = asked(
        graph, "SELECT ?p ?u ?r { ?p yang:units ?u ; rdfs:range ?r . FILTER(CONTAINS(STR(?p), 'acme')) }"
    )
    assert state == [(names.yang_term("zoo", "seen"),)]
    assert units == [
        (names.yang_term("acme-ports", "speed"), "Gbit/s", "http://www.w3.org/2001/XMLSchema#decimal")
    ]


def test_terms_say_which_identities_derive_from_one():
    found = asked(
        describe(own()),
        f"SELECT ?i {{ ?i rdfs:subClassOf+ <{names.yang_identity('zoo', 'animal')}> }}",
    )

    assert found == [(names.yang_identity("zoo", name),) for name in ("cat", "lynx", "text")]


def test_terms_say_where_a_link_leads_and_which_lists_have_no_keys():
    graph = describe(own())

    link = asked(graph, f"SELECT ?c {{ <{names.yang_link('links', 'room')}> rdfs:range ?c }}")
    unkeyed = asked(graph, "SELECT ?c { ?c rdfs:subClassOf yang:Unkeyed }")
    assert link == [(names.yang_class("links", "top.site.room"),)]
    assert {row[0] for row in unkeyed} >= {
        names.yang_class("zoo", "stats.sample"),
        names.yang_class("zoo", "stats.sample.part"),
    }


def test_names_of_terms_do_not_meet():
    """Identities, classes, links and properties of one name are four things; dots in names stay names."""
    iris = {quad.subject.value for quad in describe(own())}

    assert names.yang_identity("zoo", "text") in iris
    assert names.yang_term("zoo", "text") in iris
    node = SchemaNode(NodeKind.LIST, "b.c", "m", "/m:a/b.c")
    other = SchemaNode(NodeKind.LIST, "c", "m", "/m:a.b/c")
    from domain_twin.semantic.yang_plan import class_of

    assert class_of(node) != class_of(other)
    assert all(ox.NamedNode(class_of(item)) for item in (node, other))


def test_hundreds_of_modules_compile_and_a_plans_terms_travel(tmp_path):
    for number in range(300):
        leaves = " ".join(f"leaf l{n} {{ type uint32; }}" for n in range(30))
        (tmp_path / f"many-{number}.yang").write_text(
            f"module many-{number} {{ namespace 'urn:m{number}'; prefix m; container c {{"
            f" list e {{ key l0; {leaves} }} }} }}"
        )
    schema = SchemaSet.load([f"many-{n}" for n in range(300)], [tmp_path])

    plan = compile_plan(schema)

    assert len(plan.leaves) == 9000
    leaf = plan.leaves["/many-7:c/e/l3"]
    assert pickle.loads(pickle.dumps(leaf.predicate)) == leaf.predicate


@pytest.mark.parametrize("kind", ["instance-identifier"])
def test_a_leaf_that_may_point_anywhere_has_a_link_without_pieces(kind):
    linker = Linker(own().schema)

    link = linker.link(own().schema.node("/zoo:types/where"))

    assert link is not None
    assert link.parts == ()
    assert own().leaves["/zoo:types/where"].form[0] == kind
