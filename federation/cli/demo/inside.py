"""What an operator's own agent tells its own people. Owns the questions; the broker is never asked these."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from domain_twin.errors import NotFound

if TYPE_CHECKING:
    from domain_twin.model import ServiceStatus
    from federation.client import TwinClient


@dataclass(frozen=True, slots=True)
class Inside:
    """A domain as its own operator sees it."""

    domain: str
    devices: int
    leaves: int
    protocols: Mapping[str, int]
    nodes: int
    links: int
    cells: int
    functions: int
    hosts: int

    @classmethod
    async def ask(cls, own: TwinClient, domain: str) -> Inside:
        """Ask the domain's own agent."""
        devices = await own.devices()
        kinds = Counter(element.kind for element in await own.elements(domain))
        return cls(
            domain=domain,
            devices=len(devices),
            leaves=sum(device.leaves for device in devices),
            protocols=Counter(device.protocol for device in devices),
            nodes=kinds["node"],
            links=kinds["link"],
            cells=kinds["cell"],
            functions=kinds["network-function"],
            hosts=kinds["host"],
        )


@dataclass(frozen=True, slots=True)
class Stretch:
    """One link of a route inside a domain, in the direction of the traffic."""

    device: str
    interface: str
    neighbour: str
    link: str = ""  # its id


async def route_of(own: TwinClient, status: ServiceStatus, domain: str = "transport") -> list[Stretch]:
    """The links that carry a service inside `domain`, asked of that domain's own agent. Raises NotFound."""
    hop = next((h for h in status.path.hops if h.domain == domain), None) if status.path else None
    if hop is None:
        raise NotFound(f"{status.service.name} does not cross {domain}; see `fedtwin services`")
    answer = await own.path(hop.source, hop.target)
    if not answer.paths:
        raise NotFound(f"the agent of {domain} knows no path from {hop.source} to {hop.target}; see its log")
    nodes = {f"{domain}/{e.attributes['device']}": e for e in await own.elements(domain, kind="node")}
    points = {e.id: e for e in await own.elements(domain, kind="termination-point")}
    links = [e for e in await own.elements(domain, kind="link") if e.up]
    route = []
    for step in answer.paths[0].hops:
        if step.source not in nodes or step.target not in nodes:
            continue  # from the border point into its router, or out again
        source, target = nodes[step.source], nodes[step.target]
        for link in sorted(links, key=lambda e: (int(e.attributes["metric"]), e.id)):
            ends = (link.attributes["source-node"], link.attributes["dest-node"])
            if ends == (source.id, target.id):
                interface = points[link.attributes["source-tp"]].attributes["interface"]
                ends_at = target.attributes["device"]
                route.append(Stretch(source.attributes["device"], interface, ends_at, link.id))
                break
    if not route:
        raise NotFound(f"{status.service.name} crosses no link of {domain}: nothing to cut")
    return route
