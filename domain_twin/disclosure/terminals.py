"""The points of a domain that a peer may name: border points and published end points, and where they lie."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from domain_twin.model import (
    Cell,
    Finding,
    Host,
    Network,
    NetworkFunction,
    Node,
    Severity,
    TerminationPoint,
)

__all__ = ["Terminal", "border_name", "node_roles", "opaque_nodes", "terminals", "upfs_by_node"]

_IDL_PREFIX = "urn:ndt:idl:"
_UPF = "UPF"


@dataclass(frozen=True, slots=True)
class Terminal:
    """A disclosed point and what packets meet at it: rows are ids of cells, functions and hosts.

    `starts` is what a path that starts here meets before its first link, `ends` what one that ends here meets
    after its last link besides the UPF that it entered with that link.
    """

    id: str
    node: str
    role: str
    up: bool
    stale: bool
    starts: tuple[str, ...]
    ends: tuple[str, ...]
    border: TerminationPoint | None = None


def border_name(link_id: str) -> str:
    """Name of the border point at an inter-domain link: made from the link's id alone."""
    short = "idl-" + link_id.removeprefix(_IDL_PREFIX) if link_id.startswith(_IDL_PREFIX) else link_id
    return re.sub(r"[^A-Za-z0-9._-]", "-", short)


def upfs_by_node(network: Network) -> dict[str, list[NetworkFunction]]:
    """The user plane functions at each node: packets that cross the node cross them."""
    found: dict[str, list[NetworkFunction]] = {}
    for identity in sorted(network.functions):
        function = network.functions[identity]
        if function.type.upper() == _UPF:
            found.setdefault(function.node, []).append(function)
    return found


def opaque_nodes(network: Network) -> frozenset[str]:
    """Nodes that packets cannot cross now: those with a user plane function that is locked or down."""
    return frozenset(
        node for node, functions in upfs_by_node(network).items() if not all(f.up for f in functions)
    )


def node_roles(network: Network) -> dict[str, str]:
    """What each node is, for views that show nodes: gnb, host, the function's type, or router."""
    roles = dict.fromkeys(network.nodes, "router")
    roles.update((cell.node, "gnb") for cell in network.cells.values())
    roles.update((host.node, "host") for host in network.hosts.values())
    roles.update((function.node, function.type.lower()) for function in network.functions.values())
    return roles


def terminals(network: Network, published: Mapping[str, str]) -> tuple[tuple[Terminal, ...], list[Finding]]:
    """Border points and published end points in order of id, with what is wrong about them."""
    findings: list[Finding] = []
    upfs = {node: tuple(f.id for f in functions) for node, functions in upfs_by_node(network).items()}
    found = {point.id: point for point in _borders(network, upfs, findings)}
    for alias, identity in sorted(published.items()):
        element = (
            network.cells.get(identity) or network.functions.get(identity) or network.hosts.get(identity)
        )
        name = f"{network.domain}/{alias}"
        if element is None or element.node not in network.nodes:
            findings.append(
                Finding(
                    "published.unknown",
                    Severity.WARNING,
                    network.domain,
                    alias,
                    f"the published end point {alias!r} stands for {identity}, which is not there now",
                    "correct the element in [[publish]], or bring the device back",
                )
            )
        elif name in found:
            findings.append(
                Finding(
                    "published.name-taken",
                    Severity.WARNING,
                    network.domain,
                    alias,
                    f"the alias {alias!r} is the name of a border point too; the border point keeps it",
                    "choose another alias in [[publish]]",
                )
            )
        else:
            found[name] = _end_point(name, element, network.nodes[element.node], upfs)
    return tuple(found[name] for name in sorted(found)), findings


def _borders(
    network: Network, upfs: Mapping[str, tuple[str, ...]], findings: list[Finding]
) -> Iterable[Terminal]:
    opaque = opaque_nodes(network)
    names: dict[str, int] = {}
    borders = [point for point in network.termination_points.values() if point.inter_domain]
    for point in sorted(borders, key=lambda point: point.id):
        assert point.inter_domain is not None
        link_id = point.inter_domain.link_id
        name = f"{network.domain}/{border_name(link_id)}"
        names[name] = count = names.get(name, 0) + 1
        if count > 1:
            name = f"{name}-{count}"
            findings.append(
                Finding(
                    "inter-domain-link.claimed-twice",
                    Severity.ERROR,
                    network.domain,
                    link_id,
                    f"two termination points claim the inter-domain link {link_id}; the second is {point.id}",
                    "leave the inter-domain-link-id on the one that ends the link, and delete the other",
                )
            )
        node = network.nodes.get(point.node)
        yield Terminal(
            id=name,
            node=point.node,
            role="",
            up=point.up and node is not None and point.node not in opaque,
            stale=point.stale or node is None or node.stale,
            starts=upfs.get(point.node, ()),
            ends=(),
            border=point,
        )


def _end_point(
    name: str, element: Cell | NetworkFunction | Host, node: Node, upfs: Mapping[str, tuple[str, ...]]
) -> Terminal:
    crossed = tuple(upf for upf in upfs.get(element.node, ()) if upf != element.id)
    starts: tuple[str, ...]
    ends: tuple[str, ...]
    if isinstance(element, Cell):
        role, starts, ends = "cell", (element.id, *crossed), (element.id,)
    elif isinstance(element, Host):
        role, starts, ends = "host", crossed, (element.id,)
    elif element.type.upper() == _UPF:
        role, starts, ends = "upf", crossed, ()
    else:
        role, starts, ends = element.type.lower(), crossed, (element.id,)
    return Terminal(
        id=name,
        node=element.node,
        role=role,
        up=element.up,
        stale=element.stale or node.stale,
        starts=starts,
        ends=ends,
    )
