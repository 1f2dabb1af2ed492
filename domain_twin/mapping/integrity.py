"""References inside a domain that lead nowhere. Owns the checks that YANG validation leaves out.

RFC 8345 declares its references with `require-instance false`: every validator accepts a link to a node that
is not there, so the twin looks itself.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

from domain_twin.model import Finding, Network, Severity


def check(
    network: Network, *, claims: Mapping[str, Sequence[str]], interfaces: Collection[tuple[str, str]]
) -> Iterator[Finding]:
    """The findings of one network. `claims`: devices by the node they claim; `interfaces`: (device, name)."""

    def finding(code: str, severity: Severity, element: str, message: str, remedy: str) -> Finding:
        return Finding(code, severity, network.domain, element, message, remedy)

    for node, devices in sorted(claims.items()):
        if len(set(devices)) > 1:
            yield finding(
                "node.claimed-twice",
                Severity.ERROR,
                node,
                f"{' and '.join(sorted(set(devices)))} both say that they are the node {node}",
                "give each device a node-id of its own; the first one heard is shown",
            )
    for point in network.termination_points.values():
        if point.node not in network.nodes:
            yield finding(
                "termination-point.no-node",
                Severity.ERROR,
                point.id,
                f"{point.id} sits on {point.node}, which no device claims to be",
                f"mirror that node's device, or correct the topology that {point.device} reports",
            )
        if (point.device, point.interface) not in interfaces:
            yield finding(
                "termination-point.no-interface",
                Severity.WARNING,
                point.id,
                f"{point.id} names the interface {point.interface!r}, which {point.device} does not have;"
                " it counts as down",
                "correct interface-name under l3-termination-point-attributes",
            )
    for link in network.links.values():
        for end, what in ((link.source_tp, "source"), (link.dest_tp, "destination")):
            if end not in network.termination_points:
                yield finding(
                    "link.dangling",
                    Severity.ERROR,
                    link.id,
                    f"the {what} of {link.id} is {end or 'not given'}, which nobody reports;"
                    " it counts as down",
                    f"mirror the device behind it, or correct the topology that {link.device} reports",
                )
    for collection, word in (
        (network.cells, "cell"),
        (network.functions, "function"),
        (network.hosts, "host"),
    ):
        for element in collection.values():
            if element.node not in network.nodes:
                yield finding(
                    f"{word}.no-node",
                    Severity.ERROR,
                    element.id,
                    f"{element.id} sits on {element.node or 'no node'}, which no device claims to be",
                    f"correct the node-id that {element.device} reports",
                )
