"""Small networks as a twin shows them, with figures, to be compiled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from domain_twin.model import (
    UNITS,
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

DOMAIN = "lab"


def node_id(name: str) -> str:
    return f"urn:ndt:lab:{name}"


def link_id(source: str, target: str) -> str:
    return f"{node_id(source)}:{target}:out"


def kpis(**values: float) -> dict[str, Kpi]:
    return {name: Kpi(name, value, UNITS[name], observed_at=1) for name, value in values.items()}


def link(source: str, target: str, mbps: float = 100.0, **other: Any) -> Link:
    """A link of 1,000 Mbit/s that carries `mbps`."""
    said: dict[str, Any] = {
        "capacity_mbps": 1000.0,
        "kpis": kpis(carried_rate=mbps, utilisation=mbps / 1000, one_way_delay=1.0, delay_variance=0.01),
    }
    return Link(
        id=link_id(source, target),
        device=source,
        source_node=node_id(source),
        source_tp=f"{node_id(source)}:{target}",
        dest_node=node_id(target),
        dest_tp=f"{node_id(target)}:{source}",
        **(said | other),
    )


def cell(name: str, gnb: str, mbps: float = 50.0, **other: Any) -> Cell:
    said: dict[str, Any] = {"kpis": kpis(cell_rate=500.0, carried_rate=mbps, one_way_delay=2.0)}
    return Cell(id=f"{node_id(gnb)}:{name}", node=node_id(gnb), device=gnb, **(said | other))


def upf(name: str, **other: Any) -> NetworkFunction:
    """One packet takes 8 us of a worker: 2 workers, 10,000 packets/s, busy by 4 %."""
    said: dict[str, Any] = {
        "type": "UPF",
        "workers": 2,
        "kpis": kpis(handled_rate=10_000.0, utilisation=0.04, one_way_delay=0.02),
    }
    return NetworkFunction(id=node_id(name), node=node_id(name), device=name, **(said | other))


def host(name: str, pps: float = 5_000.0, **other: Any) -> Host:
    said: dict[str, Any] = {
        "workers": 3,
        "kpis": kpis(handled_rate=pps, utilisation=0.1, one_way_delay=0.1),
    }
    return Host(id=node_id(name), node=node_id(name), device=name, **(said | other))


def border(name: str, link: str, **other: Any) -> TerminationPoint:
    end = {"peer_domain": "core", "capacity_mbps": 1000.0, "metric": 5, **other.pop("end", {})}
    said: dict[str, Any] = {
        "inter_domain": InterDomainEnd(link, **end),
        "kpis": kpis(carried_rate=40.0, utilisation=0.04, one_way_delay=0.5),
    }
    return TerminationPoint(id=f"{node_id(name)}:{link}", node=node_id(name), device=name, **(said | other))


def both(source: str, target: str, mbps: float = 100.0, **other: Any) -> list[Link]:
    return [link(source, target, mbps, **other), link(target, source, mbps, **other)]


def network(
    nodes: Iterable[str],
    *,
    links: Iterable[Link] = (),
    cells: Iterable[Cell] = (),
    functions: Iterable[NetworkFunction] = (),
    hosts: Iterable[Host] = (),
    borders: Iterable[TerminationPoint] = (),
    domain: str = DOMAIN,
) -> Network:
    def by_id(items: Iterable[Any]) -> Mapping[str, Any]:
        return {item.id: item for item in items}

    return Network(
        domain,
        Version("e", 1, 1),
        nodes=by_id(Node(node_id(name), name) for name in nodes),
        termination_points=by_id(borders),
        links=by_id(links),
        functions=by_id(functions),
        cells=by_id(cells),
        hosts=by_id(hosts),
    )


def small() -> Network:
    """cell - gnb - r1 - upf - edge (a host), and r1 - r2 - upf at a higher metric."""
    return network(
        ["gnb", "r1", "r2", "upf", "edge"],
        links=[
            *both("gnb", "r1", 40.0),
            *both("r1", "upf", 40.0, metric=10),
            *both("r1", "r2", 0.0, metric=10),
            *both("r2", "upf", 0.0, metric=10),
            *both("upf", "edge", 40.0),
        ],
        cells=[cell("c1", "gnb", 40.0)],
        functions=[upf("upf")],
        hosts=[host("edge", 5_000.0)],
    )
