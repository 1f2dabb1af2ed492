"""Export to OMNeT++: a network as NED, its figures and traffic as INI. `omnet_results` reads what comes out.

No INET: its stack would add headers and queues that the engine does not have. Three simple modules carry all:
`FedtwinSource` (a flow), `FedtwinEdge` (a queue and its server) and `FedtwinNode` (forwards by the packet's
route); the NED file says what each of them has to do. Names may hold any character, so they stand in
parameters, and modules are numbered as the engine's arrays are: `node[i]`, `edge[i]`, `flow[i]`.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path

from domain_twin.errors import ConfigError
from domain_twin.simulation.flows import Flows, check_flows
from domain_twin.simulation.graph import Arrivals, Demand, Law, SimGraph, TrafficClass
from domain_twin.simulation.routed import routed

__all__ = ["export", "ini", "ned"]

NETWORK = "FedtwinNetwork"
_DISCIPLINES = ("fifo", "strict-priority", "wfq", "drr")
_CONTRACT = """\
// A flow: sends packets of `octets` to the node that it is joined to, each with this flow's index and route.
// Poisson and equal spacing are in `gap`. Where `onPeriod` is above 0, gaps are counted in on periods only.
// Records `sent` (count), and by the node where its packets end `received` (count), `delay` (statistics, in
// seconds from sending to the end of the last edge) and the vector of delays.
simple FedtwinSource
{
    parameters:
        string source;
        string target;
        string trafficClass;
        int priority;
        double weight;
        string route;  // indices of edges, in order, separated by blanks
        volatile int octets @unit(B);
        volatile double gap @unit(s);
        volatile double onPeriod @unit(s) = default(0s);
        volatile double offPeriod @unit(s) = default(0s);
        @signal[sent](type=long);
        @signal[received](type=long);
        @signal[delay](type=simtime_t);
        @statistic[sent](record=count);
        @statistic[received](record=count);
        @statistic[delay](unit=s; record=stats,histogram,vector?);
    gates:
        output out;
}

// A place that packets pass: hands each to the next edge of its route, or at the end to its flow's figures.
simple FedtwinNode
{
    parameters:
        string id;
    gates:
        input in[];
        output out[];
}

// What delays packets. law "link": one server of `rate`, `buffer` places beside the packet in service (-1: no
// bound), served by `scheduler`. law "cell": `rate` shared by all packets present, at most buffer + 1. law
// "station": `servers` servers of service time `service`. law "fixed": nothing but `delay`. After service
// each packet is lost with probability `loss`, and leaves `delay` later.
simple FedtwinEdge
{
    parameters:
        string id;
        string law;
        string scheduler = default("fifo");
        double rate @unit(bps) = default(0bps);
        double delay @unit(s) = default(0s);
        int buffer = default(-1);
        int servers = default(1);
        volatile double service @unit(s) = default(0s);
        double loss = default(0);
        @signal[dropped](type=long);
        @statistic[dropped](record=count);
    gates:
        input in;
        output out;
}
"""


def export(graph: SimGraph, traffic: Demand | Flows, file: Path) -> tuple[Path, Path]:
    """Write `file` (.ned) and the .ini beside it; both paths. Raises ConfigError, NoPath."""
    flows = traffic if isinstance(traffic, Flows) else routed(graph, traffic)
    check_flows(graph, flows)
    beside = file.with_suffix(".ini")
    try:
        file.write_text(ned(graph, flows), encoding="utf-8")
        beside.write_text(ini(graph, flows), encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{file}: cannot be written ({error.strerror})") from error
    return file, beside


def ned(graph: SimGraph, flows: Flows) -> str:
    """The modules' contract, and a network that joins nodes and edges as the graph does."""
    nodes, edges = len(graph.nodes), len(graph.edges)
    lines = [
        _CONTRACT,
        f"network {NETWORK}",
        "{",
        "    submodules:",
        f"        node[{nodes}]: FedtwinNode;",
        f"        edge[{edges}]: FedtwinEdge;",
        f"        flow[{flows.count}]: FedtwinSource;",
        "    connections:",
    ]
    for e in range(edges):
        lines.append(f"        node[{graph.tail[e]}].out++ --> edge[{e}].in;")
        lines.append(f"        edge[{e}].out --> node[{graph.head[e]}].in++;")
    lines += [f"        flow[{i}].out --> node[{flows.source[i]}].in++;" for i in range(flows.count)]
    return "\n".join([*lines, "}", ""])


def ini(graph: SimGraph, flows: Flows) -> str:
    """All parameters of the modules. Raises ConfigError for elastic classes."""
    lines = ["[General]", f"network = {NETWORK}", "sim-time-limit = 100s", "warmup-period = 10s", ""]
    lines += [f"**.node[{n}].id = {_text(name)}" for n, name in enumerate(graph.nodes)]
    for e in range(len(graph.edges)):
        lines += ["", *(f"**.edge[{e}].{line}" for line in _edge(graph, e))]
    for i in range(flows.count):
        lines += ["", *(f"**.flow[{i}].{line}" for line in _flow(graph, flows, i))]
    return "\n".join([*lines, ""])


def _text(value: str) -> str:
    """A string constant of NED: C's escapes, no others (control characters become blanks)."""
    return json.dumps(re.sub(r"[\x00-\x1f\x7f]", " ", value), ensure_ascii=False)


def _edge(graph: SimGraph, e: int) -> Iterator[str]:
    law = Law(int(graph.law[e]))
    yield f"id = {_text(graph.edges[e])}"
    yield f'law = "{law.name.lower()}"'
    if law in (Law.LINK, Law.CELL):
        yield f"rate = {float(graph.capacity_bps[e])!r}bps"
    if law is Law.LINK:
        yield f'scheduler = "{_DISCIPLINES[int(graph.scheduler[e])]}"'
    if law is Law.STATION:
        yield f"servers = {int(graph.servers[e])}"
        yield f"service = {_gamma(float(graph.service_s[e]), float(graph.service_scv[e]))}"
    if law is not Law.FIXED:
        yield f"buffer = {int(graph.buffer[e]) if math.isfinite(graph.buffer[e]) else -1}"
    yield f"delay = {float(graph.fixed_s[e])!r}s"
    yield f"loss = {float(graph.loss[e])!r}"


def _gamma(mean_s: float, scv: float) -> str:
    """A service time: OMNeT++'s gamma_d has shape and scale."""
    return f"{mean_s!r}s" if scv <= 0 else f"gamma_d({1 / scv!r}, {mean_s * scv!r}s)"


def _flow(graph: SimGraph, flows: Flows, i: int) -> Iterator[str]:
    each = graph.classes[flows.traffic_class[i]]
    route = flows.edges[flows.offsets[i] : flows.offsets[i + 1]]
    yield f"source = {_text(graph.nodes[flows.source[i]])}"
    yield f"target = {_text(graph.nodes[flows.target[i]])}"
    yield f"trafficClass = {_text(each.name)}"
    yield f"priority = {each.priority}"
    yield f"weight = {float(each.weight)!r}"
    yield f'route = "{" ".join(map(str, route))}"'
    yield f"octets = {_octets(each)}"
    yield from _arrivals(each, float(flows.rate_pps[i]))


def _octets(each: TrafficClass) -> str:
    """A volatile expression: sizes by their probabilities, by one draw from 0 to 1 after another."""
    if each.exponential:
        return f"max(1B, int(exponential({each.mean_octets!r}))*1B)"
    sizes = [f"{round(size)}B" for size in each.sizes]
    left, text = 1.0, ""
    for size, probability in zip(sizes[:-1], each.probabilities[:-1], strict=True):
        share = min(1.0, probability / left) if left > 0 else 1.0
        text += f"(uniform(0, 1) < {share!r}) ? {size} : "
        left -= probability
    return text + sizes[-1]


def _arrivals(each: TrafficClass, rate: float) -> Iterator[str]:
    if each.arrivals is Arrivals.ELASTIC:
        raise ConfigError(
            f"class {each.name} is elastic: OMNeT++ gets packets at given rates; "
            "solve it first, and give the class the rates that it gets"
        )
    bursty = each.arrivals in (Arrivals.ON_OFF, Arrivals.CBR_ON_OFF)
    gap = 1 / (rate * (each.on_s + each.off_s) / each.on_s) if bursty else 1 / rate
    spaced = each.arrivals in (Arrivals.CBR, Arrivals.CBR_ON_OFF)
    yield f"gap = {gap!r}s" if spaced else f"gap = exponential({gap!r}s)"
    if bursty:
        yield f"onPeriod = exponential({each.on_s!r}s)"
        yield f"offPeriod = exponential({each.off_s!r}s)"
