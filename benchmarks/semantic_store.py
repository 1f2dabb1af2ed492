"""The twin as a graph: how fast it follows, how fast it answers while it does. Prints JSON with the aims.

- updates: changes of leaves (ietf-interfaces, --devices devices) from the datastore's deltas into the store
  on disk, as the agent writes them: the most per second while they never stop, and from a change's arrival
  until a query sees it at 5,000 a second. Aims: 5,000 a second; 250 ms at p99. Beside it rdflib in memory,
  by one SPARQL update a leaf and by its API. (NDT-LD publishes 248 records a second by gNMI, 6 by NETCONF.)
- snapshot: the first state of a device with 48 interfaces into the store on disk. Aim: 20 ms.
- queries: seven questions to a copy in memory while 2,000 values a second are written to it. Aims: 5 ms at
  p95 of 100,000 triples, 100 ms of 1,000,000. Beside it rdflib with the same triples and queries, nothing
  being written; with the million only if --rival-million is given (it loads for minutes).

    python benchmarks/semantic_store.py [--devices 20] [--seconds 10] [--quick] [--rival-million]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyoxigraph as ox
import rdflib

from domain_twin.datastore.live import LiveStore
from domain_twin.model import (
    Cell,
    Customer,
    Delta,
    Host,
    InterDomainEnd,
    Kpi,
    Link,
    Network,
    Node,
    Service,
    ServiceRecords,
    Slice,
    TerminationPoint,
    Update,
    UpdateBatch,
    Version,
)
from domain_twin.semantic.derive import shipped_rules
from domain_twin.semantic.devices import DeviceSource
from domain_twin.semantic.live import LiveGraph
from domain_twin.semantic.names import NDT, element, figures_graph, inferred_graph, point, topology_graph
from domain_twin.semantic.records import record_quads
from domain_twin.semantic.store import SemanticStore
from domain_twin.semantic.topology import Topology, double, ndt
from domain_twin.yang.schema import SchemaSet

SECOND = 1_000_000_000
INTERFACES = 48
COUNTERS = ("in-octets", "out-octets", "in-unicast-pkts", "out-unicast-pkts")
DOMAINS = ("ran", "transport", "core", "edge")


def milliseconds(values: list[float], share: float) -> float:
    """The quantile of seconds, in ms."""
    ordered = sorted(values)
    return round(1e3 * ordered[min(len(ordered) - 1, int(len(ordered) * share))], 3)


# --- leaves


def interface(name: str) -> str:
    return f"/ietf-interfaces:interfaces/interface[name='{name}']"


def first_state(device: str, interfaces: int, at: int) -> Iterator[Update]:
    for number in range(interfaces):
        base = interface(f"eth{number}")
        yield Update(device, f"{base}/name", f"eth{number}", at)
        yield Update(device, f"{base}/enabled", True, at)
        yield Update(device, f"{base}/oper-status", "up", at)
        yield Update(device, f"{base}/if-index", number + 1, at)
        yield Update(device, f"{base}/phys-address", "00:11:22:33:44:55", at)
        yield Update(device, f"{base}/speed", 10_000_000_000, at)
        for counter in COUNTERS:
            yield Update(device, f"{base}/statistics/{counter}", 0, at)


class Twin:
    """A live store whose deltas go into a graph on disk."""

    def __init__(self, folder: Path, devices: int) -> None:
        schema = SchemaSet.load(["ietf-interfaces"])
        self.state = LiveStore()
        self.devices = [f"r{number}" for number in range(devices)]
        self.store = SemanticStore(folder)
        self.live = LiveGraph(self.store)
        self.source = DeviceSource("lab", schema_of=lambda _: schema, snapshot=self.state.snapshot)
        self.live.add(self.source)
        self.round = 0

    def change(self, count: int) -> Delta:
        """The next so many leaves change: counters, device after device, all at once as they are sampled."""
        now = time.time_ns()
        updates = []
        leaves = INTERFACES * len(COUNTERS)
        for _ in range(count):
            place = self.round % (leaves * len(self.devices))
            device, leaf = divmod(place, leaves)
            number, counter = divmod(leaf, len(COUNTERS))
            path = f"{interface(f'eth{number}')}/statistics/{COUNTERS[counter]}"
            self.round += 1
            updates.append(Update(self.devices[device], path, self.round, now))
        delta = self.state.apply(UpdateBatch("bench", now, tuple(updates)))
        assert delta is not None
        return delta

    def begin(self) -> None:
        now = time.time_ns()
        for device in self.devices:
            self.state.apply(UpdateBatch(device, now, tuple(first_state(device, INTERFACES, now))))


async def drained(twin: Twin) -> None:
    """Return when all that was noted is in the store."""
    while twin.source.backlog().waiting:  # noqa: ASYNC110 - nobody tells of it
        await asyncio.sleep(0.01)
    await twin.live.write(everything=True)


async def measure_updates(folder: Path, devices: int, seconds: float) -> dict[str, Any]:
    twin = Twin(folder, devices)
    twin.begin()
    await twin.live.write(everything=True)
    writer = asyncio.create_task(twin.live.run())
    # As fast as it goes: never more than a round's worth waits, nothing is conflated away.
    written, began, cpu = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - began < seconds:
        if twin.source.backlog().waiting < 3000:
            delta = twin.change(500)
            twin.source.note(delta)
            twin.live.note("devices")
            written += len(delta.changes)
        await asyncio.sleep(0.001)
    await drained(twin)
    took, spent = time.perf_counter() - began, time.process_time() - cpu
    # At a steady rate: how late is what is seen, and how late the event loop.
    twin.live.status()
    twin.live._ages.clear()
    late: list[float] = []
    began, sent = time.perf_counter(), 0
    while (passed := time.perf_counter() - began) < seconds:
        due = int(passed * 5000) - sent
        if due >= 100:
            twin.source.note(twin.change(due))
            twin.live.note("devices")
            sent += due
        before = time.perf_counter()
        await asyncio.sleep(0.002)
        late.append(time.perf_counter() - before - 0.002)
    await drained(twin)
    status = twin.live.status()
    assert not status.behind
    held = sum(1 for _ in twin.store.quads(graph="https://fedtwin.example/g/lab/r0/kpi"))
    assert held == INTERFACES * len(COUNTERS), held
    writer.cancel()
    await asyncio.gather(writer, return_exceptions=True)
    await twin.live.close()
    return {
        "updates_per_s": round(written / took),
        "updates_per_cpu_s": round(written / spent),
        "steady_rate_per_s": round(sent / seconds),
        "visible_ms_p50": round(status.visible_ms_p50, 1),
        "visible_ms_p99": round(status.visible_ms_p99, 1),
        "event_loop_late_ms_p50": milliseconds(late, 0.5),
        "event_loop_late_ms_p99": milliseconds(late, 0.99),
        "aim": {"updates_per_s": 5000, "visible_ms_p99": 250},
    }


def rdflib_updates(count: int) -> dict[str, Any]:
    """The same change of a leaf in rdflib, in memory, among 20,000 triples."""
    graph = rdflib.Graph()
    p = rdflib.URIRef(NDT + "value")
    subjects = [rdflib.URIRef(f"https://fedtwin.example/id/lab/x/{i}") for i in range(20_000)]
    for subject in subjects:
        graph.add((subject, p, rdflib.Literal(0)))
    began = time.perf_counter()
    for number in range(count):
        subject = subjects[number]
        graph.update(f"DELETE WHERE {{ <{subject}> <{p}> ?v }} ; INSERT DATA {{ <{subject}> <{p}> 1 }}")
    by_sparql = time.perf_counter() - began
    began = time.perf_counter()
    for number in range(count * 20):
        graph.set((subjects[number], p, rdflib.Literal(2)))
    return {
        "sparql_updates_per_s": round(count / by_sparql),
        "api_updates_per_s": round(count * 20 / (time.perf_counter() - began)),
        "on_disk": False,
    }


async def measure_snapshot(folder: Path, times: int) -> dict[str, Any]:
    twin = Twin(folder, 1)
    twin.begin()
    await twin.live.write(everything=True)
    took = []
    for number in range(times):
        now = time.time_ns()
        name = f"switch{number}"
        delta = twin.state.apply(UpdateBatch(name, now, tuple(first_state(name, INTERFACES, now))))
        assert delta is not None
        twin.source.note(delta)
        began = time.perf_counter()
        twin.live.note("devices")
        await twin.live.write(everything=True)
        took.append(time.perf_counter() - began)
    quads = sum(1 for _ in twin.store.quads()) / (times + 1)
    await twin.live.close()
    return {
        "interfaces": INTERFACES,
        "leaves": len(delta.changes),
        "quads": round(quads),
        "ms_p50": milliseconds(took, 0.5),
        "ms_max": milliseconds(took, 1.0),
        "aim": {"ms_p50": 20},
    }


# --- questions


def network(domain: str, nodes: int, rng: random.Random) -> Network:
    """A ring with chords; every node has a host or cell now and then, borders to the next domain."""

    def named(number: int) -> str:
        return f"urn:ndt:{domain}:n{number}"

    points: dict[str, TerminationPoint] = {}
    links: dict[str, Link] = {}
    pairs = [(i, (i + 1) % nodes) for i in range(nodes)] + [
        (rng.randrange(nodes), rng.randrange(nodes)) for _ in range(nodes // 2)
    ]
    for a, b in pairs:
        for one, other in ((a, b), (b, a)):
            identity = f"{named(one)}:to-{other}"
            point_ = TerminationPoint(identity, named(one), f"n{one}", "eth", speed_mbps=10_000.0)
            points[identity] = point_
        for one, other in ((a, b), (b, a)):
            identity = f"{named(one)}:to-{other}:out"
            kpis = {
                name: Kpi(name, rng.random(), unit, observed_at=SECOND)
                for name, unit in (("utilisation", "1"), ("one_way_delay", "ms"))
            }
            links[identity] = Link(
                identity,
                f"n{one}",
                named(one),
                f"{named(one)}:to-{other}",
                named(other),
                f"{named(other)}:to-{one}",
                capacity_mbps=10_000.0,
                kpis=kpis,
            )
    for number in range(max(2, nodes // 50)):
        identity = f"{named(number)}:border"
        place = DOMAINS.index(domain)
        peer = DOMAINS[(place + 1) % 4] if number % 2 else DOMAINS[place - 1]
        link_id = f"urn:ndt:idl:{'-'.join(sorted((domain, peer)))}-{number // 2}"
        end = InterDomainEnd(link_id, peer, 1000.0)
        points[identity] = TerminationPoint(identity, named(number), f"n{number}", inter_domain=end)
    cells = {
        f"{named(i)}:cell": Cell(f"{named(i)}:cell", named(i), f"n{i}", snssais=("1-1",), unlocked=i % 7 > 0)
        for i in range(0, nodes if domain == "ran" else 0, 2)
    }
    hosts = {
        f"{named(i)}:host": Host(f"{named(i)}:host", named(i), f"n{i}", site=f"site-{i % 9}")
        for i in range(0, nodes if domain == "edge" else 0, 2)
    }
    return Network(
        domain,
        Version("bench", 1),
        {named(i): Node(named(i), f"n{i}") for i in range(nodes)},
        points,
        links,
        {},
        cells,
        hosts,
    )


def federation(nodes: int) -> SemanticStore:
    """Four domains with services across them, as triples in memory; what depends on what is derived."""
    rng = random.Random(7)
    store = SemanticStore()
    customers = {f"c{i}": Customer(f"c{i}", f"customer {i}") for i in range(10)}
    slices = {f"s{i}": Slice(f"s{i}", snssai=f"1-{i}", customer=f"c{i % 10}") for i in range(20)}
    services = {
        f"v{i}": Service(
            f"v{i}",
            f"service {i}",
            f"ran/ep-{i * 2}",
            f"edge/ep-{i * 2}",
            customer=f"c{i % 10}",
            slice=f"s{i % 20}",
        )
        for i in range(nodes // 4)
    }
    store.apply([], list(record_quads(ServiceRecords(services, slices, customers))))
    for domain in DOMAINS:
        found = network(domain, nodes, rng)
        topology = Topology(domain)
        store.apply([], topology.update(found)[1])
        store.apply([], topology.update_figures(found)[1])
        kind, items = ("cell", found.cells) if domain == "ran" else ("host", found.hosts)
        if domain not in {"ran", "edge"}:
            continue
        graph = ox.NamedNode(topology_graph(domain))
        ends = []
        for number, identity in enumerate(items):
            subject = ox.NamedNode(point(f"{domain}/ep-{number * 2}"))
            ends += [
                ox.Quad(
                    subject,
                    ox.NamedNode("http://www.w3.org/1999/02/22-rdf-syntax-ns#type"),
                    ndt("EndPoint"),
                    graph,
                ),
                ox.Quad(subject, ndt("role"), ox.Literal(kind), graph),
                ox.Quad(subject, ndt("supportedBy"), ox.NamedNode(element(domain, kind, identity)), graph),
            ]
        store.apply([], ends)
    rule = next(rule for rule in shipped_rules() if rule.name == "direct-dependence")
    graph = ox.NamedNode(inferred_graph(rule.name))
    answer = store.query(rule.text)
    assert isinstance(answer, ox.QueryTriples)
    store.apply([], [ox.Quad(t.subject, t.predicate, t.object, graph) for t in answer])  # type: ignore[arg-type]
    return store


def questions(nodes: int) -> dict[str, Callable[[random.Random], str]]:
    """The seven, each about an element drawn for every time it is asked."""
    prefix = f"PREFIX ndt: <{NDT}> "

    def node(rng: random.Random, domain: str = "") -> str:
        domain = domain or rng.choice(DOMAINS)
        return f"<{element(domain, 'node', f'urn:ndt:{domain}:n{rng.randrange(nodes)}')}>"

    return {
        "neighbours": lambda rng: (
            f"{prefix} SELECT ?m {{ ?p ndt:onNode {node(rng)} . ?l ndt:hasSource ?p ; ndt:hasDestination ?q ."
            " ?q ndt:onNode ?m }"
        ),
        "dependents": lambda rng: f"{prefix} SELECT ?x {{ ?x ndt:dependsOn+ {node(rng)} }}",
        "utilisation": lambda rng: (
            f"{prefix} SELECT ?d (AVG(?v) AS ?mean) (MAX(?v) AS ?most) {{ ?l a ndt:Link ; ndt:inDomain ?d ;"
            ' ndt:hasKpi ?k . ?k ndt:name "utilisation" ; ndt:value ?v } GROUP BY ?d'
        ),
        "inter-domain join": lambda rng: (
            f"{prefix} SELECT ?a ?b {{ ?a ndt:linkId ?id ; ndt:inDomain ?one . ?b ndt:linkId ?id ;"
            " ndt:inDomain ?two . FILTER(?one != ?two) }"
        ),
        "locked functions": lambda rng: (
            f"{prefix} SELECT ?x {{ VALUES ?c {{ ndt:Cell ndt:NetworkFunction ndt:GnbDu ndt:GnbCu }}"
            ' ?x ndt:administrativeState "LOCKED" ; a ?c }'
        ),
        "view": lambda rng: (
            f"{prefix} CONSTRUCT {{ ?p a ndt:EndPoint ; ndt:role ?r }} {{ ?p a ndt:EndPoint ; ndt:role ?r }}"
        ),
        "fault impact": lambda rng: (
            f"{prefix} SELECT ?s ?c {{ ?s ndt:dependsOn+ {node(rng, rng.choice(('ran', 'edge')))} ;"
            " a ndt:Service ; ndt:forCustomer ?c }"
        ),
    }


class Writer(threading.Thread):
    """Writes 2,000 values a second into a store, 200 at a time."""

    def __init__(self, store: SemanticStore) -> None:
        super().__init__(daemon=True)
        self._store = store
        self._ended = threading.Event()
        self.written = 0
        some = [q for d in DOMAINS for q in store.quads(predicate=ndt("value"), graph=figures_graph(d))]
        random.Random(3).shuffle(some)
        self._held = some[:20_000]

    def run(self) -> None:
        began, place = time.perf_counter(), 0
        while not self._ended.is_set():
            old = [self._held[(place + i) % len(self._held)] for i in range(200)]
            new = [ox.Quad(q.subject, q.predicate, double(random.random()), q.graph_name) for q in old]
            self._store.apply(old, new)
            for i, quad in enumerate(new):
                self._held[(place + i) % len(self._held)] = quad
            place += 200
            self.written += 200
            self._ended.wait(max(0.0, self.written / 2000 - (time.perf_counter() - began)))

    def end(self) -> None:
        self._ended.set()
        self.join()


def measure_queries(nodes: int, times: int, rival: bool, rival_times: int) -> dict[str, Any]:
    store = federation(nodes)
    size = len(store)
    asked = questions(nodes)
    rng = random.Random(11)
    _, text = store.copy()
    writer = Writer(store)
    writer.start()
    began = time.perf_counter()
    found: dict[str, Any] = {}
    all_times: list[float] = []
    for name, make in asked.items():
        took, rows = [], 0
        for _ in range(times):
            query = make(rng)
            before = time.perf_counter()
            rows = sum(1 for _ in store.query(query))  # type: ignore[arg-type, union-attr]
            took.append(time.perf_counter() - before)
        found[name] = {"rows": rows, "ms_p50": milliseconds(took, 0.5), "ms_p95": milliseconds(took, 0.95)}
        all_times += took
    passed = time.perf_counter() - began
    writer.end()
    report: dict[str, Any] = {
        "triples": size,
        "writes_per_s": round(writer.written / passed),
        "questions": found,
        "all_ms_p95": milliseconds(all_times, 0.95),
        "worst_ms_p95": max(item["ms_p95"] for item in found.values()),
        "aim": {"worst_ms_p95": 5 if size < 500_000 else 100},
    }
    if rival:
        graph = rdflib.Graph()
        began = time.perf_counter()
        lines = (
            f"{q.subject} {q.predicate} {q.object} ." for q in ox.parse(text, format=ox.RdfFormat.N_QUADS)
        )
        graph.parse(data="\n".join(lines), format="nt")
        told: dict[str, Any] = {"load_s": round(time.perf_counter() - began, 2)}
        for name, make in asked.items():
            took = []
            for _ in range(rival_times):
                query = make(rng)
                before = time.perf_counter()
                len(list(graph.query(query)))
                took.append(time.perf_counter() - before)
                if sum(took) > 5:
                    break
            told[name] = {
                "ms_p50": round(1e3 * statistics.median(took), 2),
                "times_ours": round(1e3 * statistics.median(took) / found[name]["ms_p50"], 1),
            }
        report["rdflib"] = told
    return report


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--devices", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--only", choices=("updates", "snapshot", "queries"))
    parser.add_argument("--quick", action="store_true", help="3 s of updates; 100,000 triples only")
    parser.add_argument("--rival-million", action="store_true", help="load the million into rdflib as well")
    options = parser.parse_args()
    seconds = 3.0 if options.quick else options.seconds
    times = 50 if options.quick else 200
    report: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        if options.only in (None, "updates"):
            report["updates"] = asyncio.run(measure_updates(place / "updates", options.devices, seconds))
            report["updates"]["rdflib"] = rdflib_updates(200)
        if options.only in (None, "snapshot"):
            report["snapshot"] = asyncio.run(measure_snapshot(place / "snapshot", 20))
        if options.only in (None, "queries"):
            report["queries_100k"] = measure_queries(190, times, True, 3)
            if not options.quick:
                report["queries_1m"] = measure_queries(1900, times // 4, options.rival_million, 1)
    json.dump(report, sys.stdout, indent=2)
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
