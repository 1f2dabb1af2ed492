"""Domains of a handful of nodes, written down link by link."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from hypothesis import strategies as st

from domain_twin.model import (
    CARRIED_RATE,
    CELL_RATE,
    DELAY,
    DELAY_VARIANCE,
    LOSS,
    Cell,
    Host,
    InterDomainEnd,
    Kpi,
    Link,
    Network,
    NetworkFunction,
    Node,
    TerminationPoint,
    Version,
)

NAME = "transport"


def kpis(
    delay: float | None = 1.0,
    *,
    loss: float = 0.0,
    carried: float = 0.0,
    variance: float = 0.01,
    error: float = 0.0,
    rate: float | None = None,
) -> dict[str, Kpi]:
    found = {
        DELAY_VARIANCE: Kpi(DELAY_VARIANCE, variance, "ms2"),
        LOSS: Kpi(LOSS, loss, "1"),
        CARRIED_RATE: Kpi(CARRIED_RATE, carried, "Mbit/s"),
    }
    if delay is not None:
        found[DELAY] = Kpi(DELAY, delay, "ms", error)
    if rate is not None:
        found[CELL_RATE] = Kpi(CELL_RATE, rate, "Mbit/s")
    return found


def node_id(name: str, domain: str = NAME) -> str:
    return f"urn:ndt:{domain}:{name}"


def link_id(source: str, target: str, domain: str = NAME, plane: str = "") -> str:
    return f"{node_id(source, domain)}:to-{target}{plane}:out"


def link(
    source: str,
    target: str,
    *,
    domain: str = NAME,
    metric: int = 1,
    capacity: float = 1000.0,
    up: bool = True,
    figures: Mapping[str, Kpi] | None = None,
    plane: str = "",
) -> Link:
    return Link(
        link_id(source, target, domain, plane),
        source,
        node_id(source, domain),
        f"{node_id(source, domain)}:to-{target}{plane}",
        node_id(target, domain),
        f"{node_id(target, domain)}:to-{source}{plane}",
        metric,
        capacity,
        up,
        kpis() if figures is None else figures,
    )


def both_ways(one: str, other: str, **options: object) -> list[Link]:
    return [link(one, other, **options), link(other, one, **options)]  # type: ignore[arg-type]


def border(
    node: str,
    idl: str,
    peer: str,
    *,
    domain: str = NAME,
    capacity: float = 1000.0,
    metric: int = 1,
    up: bool = True,
    figures: Mapping[str, Kpi] | None = None,
    suffix: str = "",
) -> TerminationPoint:
    return TerminationPoint(
        f"{node_id(node, domain)}:{idl[-4:]}{suffix}",
        node_id(node, domain),
        node,
        enabled=up,
        inter_domain=InterDomainEnd(idl, peer, capacity, metric),
        kpis=kpis(0.5) if figures is None else figures,
    )


def cell(node: str, *, domain: str = NAME, delay: float = 2.0, rate: float = 300.0, up: bool = True) -> Cell:
    identity = f"{node_id(node, domain)}:cell-1"
    return Cell(identity, node_id(node, domain), node, unlocked=up, kpis=kpis(delay, rate=rate))


def function(
    node: str, kind: str, *, domain: str = NAME, delay: float = 0.3, up: bool = True
) -> NetworkFunction:
    return NetworkFunction(
        f"{node_id(node, domain)}:nf", node_id(node, domain), node, kind, unlocked=up, kpis=kpis(delay)
    )


def host(node: str, *, domain: str = NAME, delay: float = 0.4) -> Host:
    return Host(f"{node_id(node, domain)}:host", node_id(node, domain), node, kpis=kpis(delay))


def network(
    links: Iterable[Link],
    *,
    borders: Iterable[TerminationPoint] = (),
    cells: Iterable[Cell] = (),
    functions: Iterable[NetworkFunction] = (),
    hosts: Iterable[Host] = (),
    domain: str = NAME,
    nodes: Iterable[str] = (),
    sequence: int = 1,
) -> Network:
    links, borders, cells = list(links), list(borders), list(cells)
    functions, hosts = list(functions), list(hosts)
    names = {node_id(name, domain) for name in nodes}
    names |= {end for item in links for end in (item.source_node, item.dest_node)}
    names |= {item.node for item in (*borders, *cells, *functions, *hosts)}
    return Network(
        domain,
        Version("device", sequence),
        {name: Node(name, name.rpartition(":")[2]) for name in sorted(names)},
        {item.id: item for item in borders},
        {item.id: item for item in links},
        {item.id: item for item in functions},
        {item.id: item for item in cells},
        {item.id: item for item in hosts},
    )


def with_link(old: Network, identity: str, **changes: object) -> Network:
    """The next version of a network, with one link changed."""
    changed = replace(old.links[identity], **changes)  # type: ignore[arg-type]
    version = replace(old.version, sequence=old.version.sequence + 1)
    return replace(old, links={**old.links, identity: changed}, version=version)


@st.composite
def networks(draw: st.DrawFn, *, most_nodes: int = 6) -> Network:
    """A few nodes, connected or not; few distinct figures, so that ties happen; borders and end points."""
    names = [f"n{i}" for i in range(draw(st.integers(2, most_nodes)))]
    pairs = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    chosen = draw(st.lists(st.sampled_from(pairs), min_size=1, max_size=9, unique=True))
    figures = st.builds(
        kpis,
        st.sampled_from([0.1, 0.25, 0.7, 1.3, 2.0]),
        loss=st.sampled_from([0.0, 0.0, 0.001, 0.02]),
        carried=st.sampled_from([0.0, 33.3, 400.0, 999.0, 2000.0]),
        error=st.sampled_from([0.0, 0.013]),
    )
    links = []
    for a, b in chosen:
        for source, target in ((a, b), (b, a)):
            links.append(
                link(
                    source,
                    target,
                    metric=draw(st.integers(1, 4)),
                    capacity=draw(st.sampled_from([100.0, 1000.0, 2500.0])),
                    up=draw(st.integers(0, 9)) > 0,
                    figures=draw(figures),
                )
            )
    at = st.sampled_from(names)
    borders = [border(draw(at), f"urn:ndt:idl:b{i:03d}", "core", figures=draw(figures)) for i in range(2)]
    cells = [cell(draw(at), delay=draw(st.sampled_from([0.5, 4.0])))]
    functions = [function(draw(at), draw(st.sampled_from(["UPF", "AMF"])), up=draw(st.integers(0, 5)) > 0)]
    return network(links, borders=borders, cells=cells, functions=functions, nodes=names)


def published_of(found: Network) -> dict[str, str]:
    """Aliases for all cells, functions and hosts of a network."""
    listed = [*sorted(found.cells), *sorted(found.functions), *sorted(found.hosts)]
    return {f"ep-{number}": identity for number, identity in enumerate(listed)}
