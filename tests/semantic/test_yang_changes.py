"""Change by change or whole, a device's graph is the same; links and entries go with their leaves."""

from __future__ import annotations

import random
import sys
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any

import pyoxigraph as ox
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from domain_twin.model import Change, Origin
from domain_twin.semantic import names
from domain_twin.semantic.yang_json import read_back
from domain_twin.semantic.yang_plan import Plan, compile_plan
from domain_twin.semantic.yang_quads import LONGEST_IRI, DeviceQuads, Unmapped, quads
from domain_twin.yang.paths import quote
from domain_twin.yang.schema import SchemaSet

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from _yang_instances import Instances, typed
from mapped_modules import LINKS, ZOO

DATA = "https://fedtwin.example/id/north/device/pe1/data/"


@cache
def plan() -> Plan:
    texts = {"zoo": ZOO, "links": LINKS}
    wanted = [*texts, "ietf-interfaces", "iana-if-type", "ietf-network-topology"]
    return compile_plan(SchemaSet.load(wanted, texts=texts))


def change(path: str, value: Any = None, *, deleted: bool = False) -> Change:
    return Change("pe1", path, value, 0, 0, Origin.MEASURED, deleted)


def held(leaves: dict[str, Any] | None = None) -> tuple[DeviceQuads, set[ox.Quad]]:
    device = DeviceQuads(plan(), "north", "pe1")
    return device, set(device.reset(leaves or {}))


def apply(graph: set[ox.Quad], diff: tuple[list[ox.Quad], list[ox.Quad]]) -> None:
    """Strictly: what is removed was there, what is added was not."""
    removed, added = diff
    assert set(removed) <= graph
    assert len(set(removed)) == len(removed)
    graph -= set(removed)
    assert graph.isdisjoint(added)
    assert len(set(added)) == len(added)
    graph |= set(added)


def objects(graph: set[ox.Quad], predicate: str) -> dict[str, str]:
    return {
        quad.subject.value.removeprefix(DATA): quad.object.value.removeprefix(DATA)
        for quad in graph
        if quad.predicate.value == predicate
    }


@given(seed=st.integers(0, 2**32))
@hypothesis_settings(max_examples=40)
def test_changes_one_by_one_give_the_graph_of_the_whole(seed):
    rng = random.Random(seed)
    made = plan()
    tops = ["zoo:types", "zoo:keyed", "zoo:stats", "zoo:mixed", "zoo:motto", "links:top", "links:open"]
    tops += ["ietf-network:networks"]
    # few different values, so that entries and leaves of two trees meet
    draws = [Instances(made.schema, random.Random(rng.choice((1, 2, seed))), fill=0.6) for _ in range(3)]
    states = [typed(made.schema, draw.tree(tops)) for draw in draws]
    device, graph = held(states[0])
    leaves = dict(states[0])
    assert graph == set(quads(made, "north", "pe1", leaves))

    for state in states[1:]:
        paths = list({**leaves, **state})
        rng.shuffle(paths)
        for number, path in enumerate(paths):
            if path in state:
                apply(graph, device.change(change(path, state[path])))
                leaves[path] = state[path]
            else:
                apply(graph, device.change(change(path, leaves.pop(path), deleted=True)))
            if number % 40 == 0:
                assert graph == set(quads(made, "north", "pe1", leaves))
        assert graph == set(quads(made, "north", "pe1", leaves))
        assert leaves == state

    rng.shuffle(paths := list(leaves))
    for path in paths:
        apply(graph, device.change(change(path, leaves[path], deleted=True)))
    assert graph == set()
    assert device.unmapped.count == 0


def test_a_device_that_lost_all_its_leaves_holds_nothing():
    device, graph = held({"/zoo:keyed[a='x'][b='1'][c='true'][d='zoo:cat'][e='1.5'][f='3']/value": "v"})
    assert len(graph) > 5

    apply(graph, device.change(change(next(iter(device._leaves)), deleted=True)))

    assert graph == set()
    assert list(device._nodes) == [""]
    assert device._links.beside == {}


def test_a_link_turns_when_the_leaf_beside_it_does():
    room, to = names.yang_link("links", "room"), "/links:top/visit[site='s1'][number='1']/to"
    device, graph = held({f"{to}/room": "lab"})
    assert objects(graph, room) == {}  # on which floor?

    apply(graph, device.change(change(f"{to}/floor", 2)))
    one = objects(graph, room)
    apply(graph, device.change(change(f"{to}/floor", 3)))
    two = objects(graph, room)
    apply(graph, device.change(change(f"{to}/floor", deleted=True)))

    visit = "links:top/visit=s1,1/to"
    assert one == {visit: "links:top/site=s1/room=2,lab"}
    assert two == {visit: "links:top/site=s1/room=3,lab"}
    assert objects(graph, room) == {}


def test_links_of_an_entrys_keys_come_and_go_with_the_entry():
    site = names.yang_link("links", "site")
    device, graph = held({"/links:top/visit[site='s/1'][number='1']/to/floor": 2})

    assert objects(graph, site) == {"links:top/visit=s%2F1,1": "links:top/site=s%2F1"}
    apply(graph, device.change(change("/links:top/visit[site='s/1'][number='1']/to/floor", deleted=True)))

    assert graph == set()


def test_a_leaf_list_of_leafrefs_links_to_each():
    sees = names.yang_link("links", "sees")
    path = "/links:top/site[id='a']/room[floor='1'][name='x']/sees"
    device, graph = held({path: ("b", "c", "b")})

    apply(graph, device.change(change(path, ("c", "d"))))

    assert {q.object.value for q in graph if q.predicate.value == sees} == {
        DATA + "links:top/site=c",
        DATA + "links:top/site=d",
    }


def test_a_leafref_in_a_union_links_where_the_value_fits_no_other_member():
    either, path = names.yang_link("links", "either"), "/links:top/either"
    device, graph = held({path: "none"})
    assert objects(graph, either) == {}

    apply(graph, device.change(change(path, "s1")))
    assert objects(graph, either) == {"links:top": "links:top/site=s1"}
    apply(graph, device.change(change(path, "none")))

    assert objects(graph, either) == {}


def test_an_instance_identifier_becomes_the_iri_of_what_it_points_to():
    exact, path = names.yang_link("links", "exact"), "/links:top/exact"
    device, graph = held({path: "/links:top/site[id='a/b,c']/room[floor='1'][name='x']"})

    assert objects(graph, exact) == {"links:top": "links:top/site=a%2Fb%2Cc/room=1,x"}
    for other in (
        "/links:top/site[id='a'",
        "/nowhere:top",
        "/links:top/site/room",
        "no path",
        "/links:top/site[name='x']/room",
        "/",
    ):
        apply(graph, device.change(change(path, other)))
        assert objects(graph, exact) == {}


def test_a_reference_to_a_leaf_that_a_key_repeats_is_a_link():
    peer = names.yang_link("links", "peer")
    _, graph = held({"/links:open/thing[name='a']/config/peer": "b"})

    assert objects(graph, peer) == {"links:open/thing=a/config": "links:open/thing=b"}
    assert objects(graph, names.yang_link("links", "name")) == {}  # no entry points to itself


def test_each_triple_stands_in_one_graph():
    _, graph = held(
        {
            "/zoo:mixed/port[id='1']/speed": 10,
            "/zoo:mixed/port[id='1']/moved": 3,
            "/zoo:mixed/reading": 5,
            "/zoo:stats/seen": 7,
            "/zoo:stats/plain": 7,
        }
    )

    where: dict[str, set[str]] = {}
    for quad in graph:
        where.setdefault(quad.predicate.value.rpartition("#")[2], set()).add(quad.graph_name.value)
    graphs = {name: {value.rpartition("/")[2] for value in values} for name, values in where.items()}
    assert graphs["speed"] == graphs["port"] == graphs["id"] == {"config"}
    assert graphs["reading"] == graphs["plain"] == graphs["stats"] == {"state"}
    assert graphs["moved"] == graphs["seen"] == {"kpi"}
    triples = [(q.subject, q.predicate, q.object) for q in graph]
    assert len(set(triples)) == len(triples)


@pytest.mark.parametrize(
    ("path", "value", "why"),
    [
        ("/nowhere:top/leaf", 1, "no loaded module defines it"),
        ("/zoo:types/nope", 1, "no loaded module defines it"),
        ("/zoo:types", None, "a container, which carries no value"),
        ("/zoo:types/numbers[.='1']", 1, "one entry of a leaf-list"),
        ("/zoo:types/u8", "abc", "not an integer"),
        ("/zoo:types/u8", None, "not an integer"),
        ("/zoo:types/d1", 1.5, "not a decimal"),
        ("/zoo:types/d1", Decimal("NaN"), "not a decimal"),
        ("/zoo:types/numbers", 7, "not a leaf-list"),
        ("/zoo:types/text", "\ud800", ""),
        ("/zoo:types/text", b"x", "not a string"),
        ("/zoo:types/octets", "x", "not octets"),
        ("/zoo:types/nothing", True, "not empty"),
        ("/zoo:types/bits", 3, "not a set of bits"),
        ("/zoo:types/kind", "unqualified", "not module:identity"),
        ("/zoo:types/at", 5, "not a string"),
        ("/zoo:types/any-of", 1.5, "of no member"),
        ("/zoo:rule/action", "x", "not the keys of /zoo:rule"),
        ("/zoo:rule[nme='x']/action", "x", "not the keys of /zoo:rule"),
        ("/zoo:stats/sample/value", Decimal(1), "without its position"),
        ("/zoo:stats/cell[id='many']/traffic", 1, "not of type"),
        ("/zoo:rule[name='\ud800']/action", "x", ""),
        ("not a path", "x", ""),
        ("", "x", ""),
        ("/", "x", ""),
        ("/zoo:rule[name='x'/action", "x", ""),
    ],
)
def test_what_is_not_in_the_schema_or_not_of_its_type_is_counted_and_breaks_nothing(path, value, why):
    leaves = {"/zoo:types/i8": 1, "/zoo:rule[name='y']/action": "z"}
    device, graph = held(leaves)
    before = set(graph)

    apply(graph, device.change(change(path, value)))

    assert device.unmapped.count == 1
    assert why in next(iter(device.unmapped.examples.values()))
    assert graph == before
    apply(graph, device.change(change(path, value, deleted=True)))
    apply(graph, device.change(change("/zoo:types/i8", 2)))
    assert graph == set(quads(plan(), "north", "pe1", leaves | {"/zoo:types/i8": 2}))


def test_a_value_gone_bad_takes_the_old_one_with_it():
    device, graph = held({"/zoo:types/u8": 7, "/zoo:types/text": "x"})

    apply(graph, device.change(change("/zoo:types/u8", "many")))

    assert graph == set(quads(plan(), "north", "pe1", {"/zoo:types/text": "x"}))
    assert device.unmapped.examples == {"/zoo:types/u8": "not an integer (str)"}


def test_an_enormous_key_is_left_out():
    device, graph = held()

    apply(graph, device.change(change(f"/zoo:rule[name='{'x' * LONGEST_IRI}']/action", "x")))

    assert graph == set()
    assert "more than 8192 characters" in next(iter(device.unmapped.examples.values()))
    assert len(next(iter(device.unmapped.examples))) <= 200
    assert list(device._nodes) == [""]


def test_examples_of_what_is_left_out_are_bounded():
    lost = Unmapped()

    quads(plan(), "north", "pe1", {f"/zoo:none-{n}": 1 for n in range(5000)}, unmapped=lost)

    assert lost.count == 5000
    assert len(lost.examples) <= 100


INJECTION = "> <http://evil.example/p> <http://evil.example/o> . <http://evil.example/s"


@given(key=st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
@hypothesis_settings(max_examples=200)
def test_no_key_gets_out_of_its_iri(key):
    path = f"/zoo:rule[name={quote(key)}]"
    store = ox.Store()

    store.extend(quads(plan(), "north", "pe1", {f"{path}/action": "permit"}))

    assert {quad.subject.value for quad in store} <= {DATA} | {
        quad.object.value for quad in store if quad.predicate.value.endswith("#rule")
    }
    assert read_back(plan(), store) == {"zoo:rule": [{"name": key, "action": "permit"}]}
    again = ox.Store()
    again.load(store.dump(format=ox.RdfFormat.N_QUADS), format=ox.RdfFormat.N_QUADS)
    assert set(again) == set(store)


def test_an_iri_written_as_a_key_stays_a_key():
    _, graph = held({f"/zoo:rule[name='{INJECTION}']/action": "x"})

    text = ox.serialize(sorted(graph, key=str), format=ox.RdfFormat.N_QUADS).decode()

    assert all(line.startswith(f"<{DATA}") for line in text.splitlines())
    assert "<http://evil" not in text.replace(f'"{INJECTION}"', "")
