"""Networks of several domains as one: inter-domain ends that name the same link become links.

For who owns all of them: benchmarks, laboratories, and the reference that federated answers are judged by.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from domain_twin.model import Link, Network, TerminationPoint, Version

__all__ = ["join"]


def join(networks: Iterable[Network], *, domain: str = "") -> Network:
    """One network of all elements. The link that leaves at a border is called as the link of its point.

    Ends whose other end is in none of the networks stay inter-domain ends.
    """
    parts = list(networks)
    points = {point.id: point for part in parts for point in part.termination_points.values()}
    ends: dict[str, list[TerminationPoint]] = {}
    for point in points.values():
        if point.inter_domain is not None:
            ends.setdefault(point.inter_domain.link_id, []).append(point)
    links = {link.id: link for part in parts for link in part.links.values()}
    for pair in ends.values():
        if len(pair) != 2:
            continue
        for near, far in (pair, pair[::-1]):
            link = _crossing(near, far)
            links[link.id] = link
            points[near.id] = replace(near, inter_domain=None)
    return Network(
        domain=domain or "+".join(part.domain for part in parts),
        version=Version("joined", 0, max((part.version.observed_at for part in parts), default=0)),
        nodes={k: v for part in parts for k, v in part.nodes.items()},
        termination_points=points,
        links=links,
        functions={k: v for part in parts for k, v in part.functions.items()},
        cells={k: v for part in parts for k, v in part.cells.items()},
        hosts={k: v for part in parts for k, v in part.hosts.items()},
        findings=tuple(finding for part in parts for finding in part.findings),
    )


def _crossing(near: TerminationPoint, far: TerminationPoint) -> Link:
    """The inter-domain link out of `near`, with the metric and figures that its own domain gives it."""
    assert near.inter_domain is not None
    assert far.inter_domain is not None
    capacities = [near.inter_domain.capacity_mbps, far.inter_domain.capacity_mbps]
    return Link(
        id=f"{near.id}:out",
        device=near.device,
        source_node=near.node,
        source_tp=near.id,
        dest_node=far.node,
        dest_tp=far.id,
        metric=near.inter_domain.metric,
        capacity_mbps=min((c for c in capacities if c > 0), default=0.0),
        up=near.up and far.up,
        kpis=near.kpis,
        stale=near.stale or far.stale,
    )
