"""References inside a domain that lead nowhere, and elements that two devices claim. Owns these checks.

RFC 8345 declares its references with `require-instance false`: every validator accepts a link to a node that
is not there, so the twin looks itself.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from domain_twin.model import Finding, Network, Severity

Found = tuple[str, Severity, str, str, str]
"""Code, severity, element, message, remedy."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """What the network model does not show, and the checks need."""

    interfaces: Collection[tuple[str, str]]  # (device, name)
    claims: Mapping[tuple[str, str], Collection[str]]  # (kind of element, id) -> devices, where several
    nameless: Mapping[tuple[str, str], int]  # (kind of element, device) -> elements without an id
    incomplete_borders: Collection[str]  # termination points with half an inter-domain container
    homeless_figures: Collection[tuple[str, str]]  # (device, link-id) of figures that belong to no link
    unmeasured: Collection[str]  # links and border points up for a while without any figure
    refused: Mapping[tuple[str, str], str]  # (device, path) -> why its value cannot be used
    neighbours: Collection[Found] = ()  # what is wrong with those that devices hear


def check(network: Network, evidence: Evidence) -> tuple[Finding, ...]:
    """All findings of one network, by code and element."""
    found = [
        Finding(code, severity, network.domain, element, message, remedy)
        for source in (
            _claims(evidence),
            _points(network, evidence),
            _links(network),
            _placed(network),
            evidence.neighbours,
        )
        for code, severity, element, message, remedy in source
    ]
    found += [
        Finding(code, Severity.WARNING, network.domain, element, message, remedy)
        for code, element, message, remedy in _data(evidence)
    ]
    return tuple(sorted(found, key=lambda finding: (finding.code, finding.element)))


_Found = Iterator[Found]


def _claims(evidence: Evidence) -> _Found:
    for (kind, element), devices in evidence.claims.items():
        first, *others = sorted(devices)
        yield (
            f"{kind}.claimed-twice",
            Severity.ERROR,
            element,
            f"{' and '.join([first, *others])} both report the {kind} {element}; {first}'s word is taken",
            f"give each device's {kind} an id of its own, or mirror it through one device only",
        )


def _points(network: Network, evidence: Evidence) -> _Found:
    for point in network.termination_points.values():
        if (point.device, point.interface) not in evidence.interfaces:
            named = f"names the interface {point.interface!r}" if point.interface else "names no interface"
            missing = f", which {point.device} does not have" if point.interface else ""
            yield (
                "termination-point.no-interface",
                Severity.WARNING,
                point.id,
                f"{point.id} {named}{missing}; it counts as down",
                "correct interface-name under l3-termination-point-attributes",
            )
    for point_id in evidence.incomplete_borders:
        yield (
            "termination-point.incomplete-border",
            Severity.ERROR,
            point_id,
            f"{point_id} declares an inter-domain link without its id, peer domain or capacity",
            "set inter-domain-link-id, peer-domain and capacity in its inter-domain container",
        )


def _links(network: Network) -> _Found:
    points = network.termination_points
    for link in network.links.values():
        ends = ((link.source_node, link.source_tp, "source"), (link.dest_node, link.dest_tp, "destination"))
        for node, tp, what in ends:
            point = points.get(tp)
            if point is None:
                yield (
                    "link.dangling",
                    Severity.ERROR,
                    link.id,
                    f"the {what} of {link.id} is {tp or 'not given'}, which nobody reports;"
                    " the link counts as down",
                    f"mirror the device behind it, or correct the topology that {link.device} reports",
                )
            elif point.node != node:
                yield (
                    "link.wrong-node",
                    Severity.ERROR,
                    link.id,
                    f"the {what} of {link.id} is {tp} on {node or 'no node'}; that point is on {point.node}",
                    f"correct the {what} that {link.device} reports",
                )
        speeds = [points[tp].speed_mbps for _, tp, _ in ends if tp in points]
        if len(speeds) == 2 and all(speeds) and speeds[0] != speeds[1]:
            yield (
                "link.speed-mismatch",
                Severity.WARNING,
                link.id,
                f"{link.id} has {speeds[0]:g} Mbit/s at its source and {speeds[1]:g} at its destination;"
                f" it counts as {link.capacity_mbps:g}",
                "set both interfaces to one speed",
            )


def _placed(network: Network) -> _Found:
    for kind, elements in (
        ("cell", network.cells),
        ("network-function", network.functions),
        ("host", network.hosts),
    ):
        for element in elements.values():
            if element.node not in network.nodes:
                yield (
                    f"{kind}.no-node",
                    Severity.ERROR,
                    element.id,
                    f"{element.id} sits on {element.node or 'no node'}, which no device claims to be",
                    f"correct the node-id that {element.device} reports",
                )


def _data(evidence: Evidence) -> Iterator[tuple[str, str, str, str]]:
    for (kind, device), count in evidence.nameless.items():
        yield (
            f"{kind}.no-id",
            device,
            f"{device} reports a {kind} without an id ({count} in all), which the twin leaves out",
            f"have {device} report the id of each {kind}: `fedtwin mapping {kind}` shows which leaf it is",
        )
    for device, link_id in evidence.homeless_figures:
        yield (
            "figures.no-link",
            link_id,
            f"{device} measures {link_id}, which is no link of its own",
            f"correct link-id under the performance data of {device}, or its topology",
        )
    for element in evidence.unmeasured:
        yield (
            "link.no-figures",
            element,
            f"nobody has measured {element} since it came up; delay and loss through it are unknown",
            "have its device report performance for it, or mirror the subtree that holds it",
        )
    for (device, path), why in evidence.refused.items():
        yield (
            "leaf.not-usable",
            f"{device} {path}",
            f"{path} of {device} has a value that the mapping cannot use: {why}; it counts as not reported",
            "compare the table's conversion with the leaf's YANG type",
        )
