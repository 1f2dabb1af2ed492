"""The live graph: what changes gets in, what cannot be written is made whole later, nothing grows."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyoxigraph as ox
import pytest
from file_limits import full_disk, until
from hypothesis import given, settings
from hypothesis import strategies as st

from domain_twin.datastore.live import LiveStore
from domain_twin.errors import ConfigError
from domain_twin.model import Delete, Delta, ServiceRecords, Update, UpdateBatch
from domain_twin.model.service import Customer, Objective, Service, Slice
from domain_twin.semantic.derive import derived, due, load_rules, shipped_rules
from domain_twin.semantic.devices import DeviceSource
from domain_twin.semantic.inference import Inference
from domain_twin.semantic.live import LiveGraph, Sink
from domain_twin.semantic.names import (
    NDT,
    device_graph,
    inferred_graph,
    point,
    provenance_graph,
    record,
    records_graph,
    topology_graph,
)
from domain_twin.semantic.records import record_quads
from domain_twin.semantic.store import SemanticStore
from domain_twin.semantic.topology import ndt
from domain_twin.semantic.workers import PoolLimits, QueryPool
from domain_twin.semantic.yang_plan import compile_plan
from domain_twin.semantic.yang_quads import quads
from domain_twin.yang.schema import SchemaSet

P = ox.NamedNode(f"{NDT}name")
TOPO = topology_graph("lab")


@pytest.fixture(scope="module")
def schema() -> SchemaSet:
    return SchemaSet.load(["ietf-interfaces"])


def port(device: str, number: int, octets: int | None = None) -> Iterator[Update]:
    base = f"/ietf-interfaces:interfaces/interface[name='eth{number}']"
    now = time.time_ns()
    yield Update(device, f"{base}/name", f"eth{number}", now)
    yield Update(device, f"{base}/enabled", True, now)
    yield Update(device, f"{base}/oper-status", "up", now)
    if octets is not None:
        yield Update(device, f"{base}/statistics/in-octets", octets, now)


class Lab:
    """A live store, and the graph of its devices."""

    def __init__(self, schema: SchemaSet, path: Path | None = None, **options: Any) -> None:
        self.schema = schema
        self.state = LiveStore()
        self.store = SemanticStore(path)
        self.live = LiveGraph(self.store)
        self.source = DeviceSource(
            "lab", schema_of=lambda _: self.schema, snapshot=self.state.snapshot, **options
        )

    def say(self, *updates: Update, deletes: tuple[Delete, ...] = ()) -> Delta | None:
        delta = self.state.apply(UpdateBatch("s", time.time_ns(), updates, deletes))
        if delta is not None:
            self.source.note(delta)
            self.live.note("devices")
        return delta

    def wanted(self, counters: bool = True) -> set[ox.Quad]:
        plan = compile_plan(self.schema)
        anew = SemanticStore()
        for device, leaves in self.state.snapshot().devices.items():
            found = quads(plan, "lab", device, {path: leaf.value for path, leaf in leaves.items()})
            anew.apply([], [q for q in found if counters or not str(q.graph_name).endswith("/kpi>")])
        return set(anew.quads())

    def held(self) -> set[ox.Quad]:
        return {q for q in self.store.quads() if q.graph_name != ox.NamedNode(provenance_graph())}


async def test_changes_of_leaves_get_into_the_graphs_of_their_device(schema: SchemaSet) -> None:
    lab = Lab(schema)
    lab.live.add(lab.source)
    lab.say(*port("r1", 0, 5), *port("r2", 0))
    await lab.live.write(everything=True)
    lab.say(*port("r1", 0, 6))
    lab.say(deletes=(Delete("r2", "/ietf-interfaces:interfaces", time.time_ns()),))
    await lab.live.write(everything=True)

    assert lab.held() == lab.wanted()
    assert device_graph("lab", "r1", "kpi") in lab.store.graphs()
    assert device_graph("lab", "r2", "config") not in lab.store.graphs()
    await lab.live.close()


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("say"), st.sampled_from(["r1", "r2"]), st.integers(0, 2), st.integers(0, 3)),
        st.tuples(st.just("gone"), st.sampled_from(["r1", "r2"]), st.integers(0, 2), st.just(0)),
        st.tuples(st.just("write"), st.just(""), st.just(0), st.just(0)),
    ),
    max_size=14,
)


@settings(max_examples=20, deadline=None)
@given(steps=STEPS, most=st.sampled_from([2, 50_000]))
def test_whatever_comes_in_whatever_order_the_graph_is_that_of_the_state(
    schema: SchemaSet, steps: list[tuple[str, str, int, int]], most: int
) -> None:
    async def play() -> None:
        lab = Lab(schema, max_waiting=most)
        lab.live.add(lab.source)
        for what, device, number, octets in steps:
            if what == "write":
                await lab.live.write(everything=True)
            elif what == "say":
                lab.say(*port(device, number, octets or None))
            else:
                path = f"/ietf-interfaces:interfaces/interface[name='eth{number}']"
                lab.say(deletes=(Delete(device, path, time.time_ns()),))
        await lab.live.write(everything=True)
        assert lab.held() == lab.wanted()
        await lab.live.close()

    asyncio.run(play())


async def test_a_backlog_beyond_the_bound_is_one_name_a_device(schema: SchemaSet) -> None:
    lab = Lab(schema, max_waiting=20)
    lab.live.add(lab.source)
    await lab.live.write(everything=True)

    for number in range(40):
        lab.say(*port("r1", number, 1))
    backlog = lab.source.backlog()
    await lab.live.write(everything=True)

    assert backlog.waiting <= 21
    assert backlog.overflows > 0
    assert lab.held() == lab.wanted()
    await lab.live.close()


async def test_what_an_earlier_run_left_is_made_that_of_now(schema: SchemaSet, tmp_path: Path) -> None:
    before = Lab(schema, tmp_path)
    before.live.add(before.source)
    before.say(*port("r1", 0, 1), *port("gone", 0, 1))
    await before.live.write(everything=True)
    await before.live.close()

    lab = Lab(schema, tmp_path)
    lab.say(*port("r1", 0, 2), *port("r1", 1))
    lab.live.add(lab.source)
    await lab.live.write(everything=True)

    assert lab.held() == lab.wanted()
    await lab.live.close()


async def test_a_device_with_other_modules_is_made_whole(schema: SchemaSet) -> None:
    lab = Lab(schema)
    lab.live.add(lab.source)
    lab.say(*port("r1", 0, 1))
    await lab.live.write(everything=True)

    lab.schema = SchemaSet.load(["ietf-interfaces", "ietf-ip"])
    lab.say(*port("r1", 0, 2))
    await lab.live.write(everything=True)
    await lab.live.write(everything=True)

    assert lab.held() == lab.wanted()
    await lab.live.close()


async def test_counters_stay_out_where_they_are_not_wanted(schema: SchemaSet) -> None:
    lab = Lab(schema, counters=False)
    lab.live.add(lab.source)
    lab.say(*port("r1", 0, 1))
    await lab.live.write(everything=True)
    lab.say(*port("r1", 0, 2), *port("r1", 1, 3))
    await lab.live.write(everything=True)

    assert lab.held() == lab.wanted(counters=False)
    await lab.live.close()


async def test_provenance_names_origin_time_and_version(schema: SchemaSet, tmp_path: Path) -> None:
    lab = Lab(schema, tmp_path)
    lab.live.add(lab.source)
    delta = lab.say(*port("r1", 0, 1))
    assert delta is not None
    await lab.live.close()

    store = SemanticStore(tmp_path)
    graph = ox.NamedNode(device_graph("lab", "r1", "state"))
    said = {
        q.predicate.value.rpartition("#")[2]: q.object for q in store.quads(graph, graph=provenance_graph())
    }
    store.close()

    assert said["version"] == ox.Literal(f"{delta.target.epoch}/{delta.target.sequence}")
    assert set(said) == {"version", "generatedAtTime", "wasDerivedFrom"}


async def test_full_disk_is_told_and_caught_up_with(schema: SchemaSet, tmp_path: Path) -> None:
    lab = Lab(schema, tmp_path)
    lab.live.add(lab.source)
    lab.say(*port("r1", 0, 1))
    await lab.live.write(everything=True)

    with full_disk(150_000):
        for number in range(200):
            lab.say(*port("r1", number, 1))
        await lab.live.write(everything=True)
        broken = lab.live.status()
        lab.say(*port("r2", 0, 1))  # the twin goes on
    await lab.live.write(everything=True)

    assert broken.behind == ("devices",)
    assert str(tmp_path) in broken.problem
    assert lab.live.status().problem == ""
    assert lab.held() == lab.wanted()
    await lab.live.close()


class Faulty:
    """A source that cannot be written until it is mended."""

    name = "faulty"
    interval_s = 0.0
    broken = True

    def take(self, *, whole: bool) -> None:
        """Nothing to note."""

    def write(self, sink: Sink, *, whole: bool) -> None:
        if self.broken:
            raise RuntimeError("a mistake")
        sink.replace(TOPO, [ox.Quad(P, P, P, ox.NamedNode(TOPO))])


async def test_a_source_that_fails_holds_up_no_other(schema: SchemaSet) -> None:
    lab, faulty = Lab(schema), Faulty()
    lab.live.add(faulty)
    lab.live.add(lab.source)
    lab.say(*port("r1", 0, 1))

    await lab.live.write(everything=True)
    broken, held = lab.live.status(), lab.held()
    faulty.broken = False
    await lab.live.write(everything=True)

    assert broken.behind == ("faulty",)
    assert "a mistake" in broken.problem
    assert held == lab.wanted()
    assert lab.live.status().behind == ()
    assert TOPO in lab.store.graphs()
    await lab.live.close()


async def test_it_runs_by_itself_and_measures_how_late_it_is(schema: SchemaSet) -> None:
    lab = Lab(schema)
    lab.live.add(lab.source)
    running = asyncio.create_task(lab.live.run())

    lab.say(*port("r1", 0, 1))
    await until(lambda: device_graph("lab", "r1", "kpi") in lab.store.graphs())
    lab.say(*port("r1", 0, 2))
    await until(lambda: lab.held() == lab.wanted())
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)

    assert lab.live.status().visible_ms_p99 > 0.0
    await lab.live.close()


# --- records


def test_records_say_who_depends_on_what() -> None:
    records = ServiceRecords(
        {"v1": Service("v1", "video", "ran/cell-1", "edge/host-1", Objective(delay_ms=20.0), "c1", "s1")},
        {"s1": Slice("s1", "gold", "1-000001", "c1", ("edge/host-1", "urn:x"))},
        {"c1": Customer("c1", "Acme")},
    )
    found = list(record_quads(records, resolve=lambda name: point(name) if "/" in name else None))
    said = {(str(q.subject), q.predicate): q.object for q in found}
    service, part = f"<{record('service', 'v1')}>", f"<{record('slice', 's1')}>"

    assert said[service, ndt("hasSource")] == ox.NamedNode(point("ran/cell-1"))
    assert said[service, ndt("carriedBy")] == ox.NamedNode(record("slice", "s1"))
    assert said[part, ndt("forCustomer")] == ox.NamedNode(record("customer", "c1"))
    assert said[part, ndt("supportedBy")] == ox.NamedNode(point("edge/host-1"))
    assert ox.Literal(20.0) in {q.object for q in found if q.predicate == ndt("delayMs")}
    assert {q.graph_name for q in found} == {ox.NamedNode(records_graph())}


# --- rules


def triples(*names: tuple[str, str, str], graph: str = TOPO) -> list[ox.Quad]:
    def node(name: str) -> ox.NamedNode:
        return ox.NamedNode(name if ":" in name else NDT + name)

    return [ox.Quad(node(s), node(p), node(o), ox.NamedNode(graph)) for s, p, o in names]


def rule(folder: Path, name: str, text: str, reads: str = "topo") -> None:
    (folder / f"{name}.rq").write_text(f"# derives: a thing\n# reads: {reads}\n{text}\n")


GOOD = f"CONSTRUCT {{ ?o <{NDT}rests> ?s }} WHERE {{ ?s <{NDT}onNode> ?o }}"


def test_each_shipped_rule_follows_those_it_reads() -> None:
    seen: set[str] = set()
    for item in shipped_rules():
        needs = {word.removeprefix("inferred/") for word in item.reads if word.startswith("inferred/")}
        assert needs <= seen
        seen.add(item.name)


@pytest.mark.parametrize(
    ("name", "text", "reads", "said"),
    [
        (
            "asks",
            "CONSTRUCT { ?s ?p ?o } WHERE { SERVICE <http://127.0.0.1:9/> { ?s ?p ?o } }",
            "topo",
            "asks.rq",
        ),
        ("picks", "SELECT ?s WHERE { ?s ?p ?o }", "topo", "one CONSTRUCT"),
        ("broken", "CONSTRUCT { ?s ?p } WHERE", "topo", "broken.rq"),
        ("odd", GOOD, "everything", "accepted are topo"),
        ("lost", GOOD, "inferred/nothing", "no rule nothing"),
        ("ring", GOOD, "inferred/ring", "in a ring"),
        ("Loud", GOOD, "topo", "lower case"),
        ("link-state", GOOD, "topo", "a shipped rule has that name"),
    ],
)
def test_rules_of_an_operators_own_are_checked_when_they_are_read(
    tmp_path: Path, name: str, text: str, reads: str, said: str
) -> None:
    rule(tmp_path, name, text, reads)

    with pytest.raises(ConfigError, match=said):
        load_rules(tmp_path)


def test_a_rule_without_a_header_and_a_folder_that_is_not_there_are_refused(tmp_path: Path) -> None:
    (tmp_path / "bare.rq").write_text(GOOD)
    with pytest.raises(ConfigError, match="# reads:"):
        load_rules(tmp_path)
    with pytest.raises(ConfigError, match="no folder"):
        load_rules(tmp_path / "nowhere")


def test_rules_are_due_when_what_they_read_was_touched() -> None:
    rules = shipped_rules()

    assert "link-state" in {item.name for item in due(rules, "lab", [TOPO])}
    assert due(rules, "lab", [device_graph("lab", "r1", "state"), topology_graph("other")]) == []
    assert {item.name for item in due(rules, "lab", [inferred_graph("peers")])} == {"sole-inter-domain-link"}


def test_a_rule_sees_what_it_reads_and_nothing_else(tmp_path: Path) -> None:
    rule(tmp_path, "rests", GOOD)
    mine = next(item for item in load_rules(tmp_path) if item.name == "rests")
    store = SemanticStore()
    store.apply([], triples(("urn:a", "onNode", "urn:n")))
    store.apply([], triples(("urn:b", "onNode", "urn:n"), graph="https://fedtwin.example/g/view/deal"))

    assert derived(mine, store, "lab") == triples(("urn:n", "rests", "urn:a"), graph=inferred_graph("rests"))


async def test_what_was_derived_goes_when_its_reason_does(tmp_path: Path) -> None:
    rule(tmp_path, "rests", GOOD)
    rule(
        tmp_path,
        "rests-too",
        f"CONSTRUCT {{ ?o <{NDT}x> ?s }} WHERE {{ ?o <{NDT}rests> ?s }}",
        "inferred/rests",
    )
    store = SemanticStore()
    store.apply([], triples(("urn:old", "x", "urn:y"), graph=inferred_graph("of-last-year")))
    live = LiveGraph(store)
    inference = Inference(live, "lab", load_rules(tmp_path))
    source = Faulty()
    source.broken = False
    live.add(source)
    await live.put(TOPO, triples(("urn:a", "onNode", "urn:n")))
    await inference.once()
    first = {name for name in store.graphs() if "inferred" in name}

    await live.put(TOPO, [])
    live.note("faulty")
    await live.write(everything=True)
    await inference.once()

    assert first >= {inferred_graph("rests"), inferred_graph("rests-too")}
    assert inferred_graph("of-last-year") not in first
    assert not [name for name in store.graphs() if "inferred" in name]
    await live.close()


async def test_a_rule_that_makes_blank_nodes_is_a_finding_and_the_others_go_on(tmp_path: Path) -> None:
    rule(tmp_path, "a-blank", f"CONSTRUCT {{ [] <{NDT}x> ?s }} WHERE {{ ?s <{NDT}onNode> ?o }}")
    rule(tmp_path, "rests", GOOD)
    store = SemanticStore()
    live = LiveGraph(store)
    inference = Inference(live, "lab", load_rules(tmp_path))
    await live.put(TOPO, triples(("urn:a", "onNode", "urn:n")))

    await inference.once()

    assert [(f.code, f.element) for f in inference.findings()] == [("rule.failed", "a-blank")]
    assert inferred_graph("rests") in store.graphs()
    await live.close()


ENDLESS = f"""CONSTRUCT {{ <urn:x> <{NDT}count> ?n }} WHERE {{
  {{ SELECT (COUNT(*) AS ?n) {{ ?a ?b ?c . ?d ?e ?f . ?g ?h ?i . ?j ?k ?l . ?m ?o ?p }} }} }}"""


async def test_a_rule_of_an_operators_own_that_never_ends_is_ended_and_rests(tmp_path: Path) -> None:
    rule(tmp_path, "a-endless", ENDLESS)
    rule(tmp_path, "rests", GOOD)
    store = SemanticStore()
    live = LiveGraph(store)
    await live.put(TOPO, triples(*((f"urn:{n}", "onNode", f"urn:n{n}") for n in range(300))))
    async with asyncio.timeout(60), QueryPool(store, PoolLimits(workers=1, timeout_s=0.3)) as pool:
        inference = Inference(live, "lab", load_rules(tmp_path), queries=pool)

        await inference.once()
        ended = pool.replaced
        inference.renew()
        await inference.once()

        assert [f.element for f in inference.findings()] == ["a-endless"]
        assert "the time limit of 0.3 s stopped it" in inference.findings()[0].message
        assert len(list(store.quads(graph=inferred_graph("rests")))) == 300
        assert (ended, pool.replaced) == (1, 1)  # the second time it rested
    await live.close()


async def test_a_rule_that_rested_is_tried_again_and_its_finding_goes(tmp_path: Path) -> None:
    rule(tmp_path, "count", ENDLESS)
    store = SemanticStore()
    live = LiveGraph(store)
    await live.put(TOPO, triples(*((f"urn:{n}", "onNode", f"urn:n{n}") for n in range(300))))
    async with asyncio.timeout(60), QueryPool(store, PoolLimits(workers=1, timeout_s=1.0)) as pool:
        inference = Inference(live, "lab", load_rules(tmp_path), queries=pool, rest_s=0.0)
        await inference.once()
        failed = inference.findings()
        await live.put(TOPO, triples(("urn:a", "onNode", "urn:n")))
        inference.renew()
        await inference.once()

    assert [f.element for f in failed] == ["count"]
    assert inference.findings() == []
    assert [q.object for q in store.quads(graph=inferred_graph("count"))] == [ox.Literal(1)]
    await live.close()


async def test_a_rule_of_an_operators_own_sees_in_its_process_what_it_reads_and_nothing_else(
    tmp_path: Path,
) -> None:
    rule(tmp_path, "rests", GOOD)
    store = SemanticStore()
    live = LiveGraph(store)
    await live.put(TOPO, triples(("urn:a", "onNode", "urn:n")))
    store.apply([], triples(("urn:b", "onNode", "urn:n"), graph="https://fedtwin.example/g/lab/r1/state"))
    async with asyncio.timeout(60), QueryPool(store) as pool:
        await Inference(live, "lab", load_rules(tmp_path), queries=pool).once()

    assert list(store.quads(graph=inferred_graph("rests"))) == triples(
        ("urn:n", "rests", "urn:a"), graph=inferred_graph("rests")
    )
    await live.close()


# --- what cancels itself out within one round


def topology(network: str, node: str, *points: str) -> Iterator[Update]:
    base = f"/ietf-network:networks/network[network-id='{network}']"
    now = time.time_ns()
    yield Update("r1", f"{base}/network-id", network, now)
    yield Update("r1", f"{base}/node[node-id='{node}']/node-id", node, now)
    for name in points:
        inside = f"node[node-id='{node}']/ietf-network-topology:termination-point[tp-id='{name}']/tp-id"
        yield Update("r1", f"{base}/{inside}", name, now)


def begins(network: str, node: str, point: str) -> tuple[Update, Update]:
    link = f"/ietf-network:networks/network[network-id='{network}']/ietf-network-topology:link[link-id='l']"
    now = time.time_ns()
    return (
        Update("r1", f"{link}/source/source-tp", point, now),
        Update("r1", f"{link}/source/source-node", node, now),
    )


async def test_a_link_that_is_half_changed_within_one_round_is_in_no_graph() -> None:
    lab = Lab(SchemaSet.load(["ietf-network-topology"]))
    lab.live.add(lab.source)
    lab.say(*topology("n", "a", "p", "q"), *topology("n", "b", "p", "q"), *begins("n", "a", "p"))
    await lab.live.write(everything=True)
    told: list[ox.Quad] = []
    lab.store.listen(lambda batch: told.extend((*batch.remove, *batch.add)))

    lab.say(*begins("n", "b", "q"))  # after its first half it would begin at a's q
    await lab.live.write(everything=True)

    assert told
    assert lab.held() == lab.wanted()
    await lab.live.close()


async def test_what_goes_and_comes_back_within_one_round_is_no_change(schema: SchemaSet) -> None:
    lab = Lab(schema)
    lab.live.add(lab.source)
    base = "/ietf-interfaces:interfaces/interface[name='eth0']"
    lab.say(Update("r1", f"{base}/enabled", True, time.time_ns()))
    await lab.live.write(everything=True)
    told: list[ox.Quad] = []
    lab.store.listen(lambda batch: told.extend((*batch.remove, *batch.add)))

    now = time.time_ns()
    lab.say(deletes=(Delete("r1", f"{base}/enabled", now),))
    lab.say(Update("r1", f"{base}/oper-status", "up", now))  # the entry is there all the time
    await lab.live.write(everything=True)

    assert lab.held() == lab.wanted()
    assert not [quad for quad in told if quad.predicate.value.endswith("#type")]
    await lab.live.close()
