"""What things are called in the graph: IRIs of devices' data, of elements, of vocabularies, and of graphs.

A name never depends on what is stored, so that any process makes the same one. Names of what leaves a domain
(`point`, `segment`, records) hold aliases only, never inner names.
"""

from __future__ import annotations

from urllib.parse import quote, unquote

__all__ = [
    "AUTHORITY",
    "NDT",
    "YANG",
    "boundary_graph",
    "data_node",
    "device_graph",
    "domain_node",
    "element",
    "figures_graph",
    "inferred_graph",
    "inter_domain_link",
    "owner",
    "plain_name",
    "point",
    "points_graph",
    "provenance_graph",
    "record",
    "records_graph",
    "run_graph",
    "segment",
    "topology_graph",
    "view_graph",
    "yang_class",
    "yang_graph",
    "yang_identity",
    "yang_link",
    "yang_sent",
    "yang_term",
]

AUTHORITY = "https://fedtwin.example"
NDT = f"{AUTHORITY}/ns/ndt#"
"""The upper ontology (ontology/ndt.ttl)."""


YANG = f"{AUTHORITY}/ns/yang#"
"""What is said of YANG terms: `isState`, `position`, `Unkeyed` and the like (docs/semantic-yang.md)."""


def yang_term(module: str, name: str) -> str:
    """The property of a YANG data node: to a leaf's value, or from a node to the one below it."""
    return f"{AUTHORITY}/ns/yang/{_part(module)}#{_part(name)}"


def yang_link(module: str, name: str) -> str:
    """The property from a node to what its leafref or instance-identifier `name` points to.

    In a namespace of its own, where it cannot meet another leaf's name.
    """
    return f"{AUTHORITY}/ns/yang-link/{_part(module)}#{_part(name)}"


def yang_sent(module: str, name: str) -> str:
    """The property to a leaf's RFC 7951 JSON, where its values alone do not tell what was sent."""
    return f"{AUTHORITY}/ns/yang-sent/{_part(module)}#{_part(name)}"


def yang_class(module: str, path: str) -> str:
    """The class of a YANG list's entries, or of a presence container; `path` is dotted, from the top."""
    return f"{AUTHORITY}/ns/yang-class/{_part(module)}#{_part(path)}"


def yang_identity(module: str, name: str) -> str:
    """A YANG identity."""
    return f"{AUTHORITY}/ns/yang-identity/{_part(module)}#{_part(name)}"


def domain_node(domain: str) -> str:
    """A domain."""
    return f"{AUTHORITY}/id/{_part(domain)}"


def data_node(domain: str, device: str, path: str) -> str:
    """A node of a device's data tree; `path` is its resource identifier after `/data/` (RFC 8040 3.5.3)."""
    return f"{AUTHORITY}/id/{_part(domain)}/device/{_part(device)}/data/{path}"


def element(domain: str, kind: str, name: str) -> str:
    """An element of a domain's network model; `kind` is its word there (`link`, `cell`, ...)."""
    return f"{AUTHORITY}/id/{_part(domain)}/{kind}/{_part(name)}"


def point(name: str) -> str:
    """A published or border point, named `domain/alias` as in views."""
    domain, _, alias = name.partition("/")
    return f"{AUTHORITY}/id/{_part(domain)}/point/{_part(alias)}"


def inter_domain_link(link_id: str) -> str:
    """An inter-domain link, the same for both of its sides, by the identifier that both declare."""
    return f"{AUTHORITY}/link/{_part(link_id)}"


def segment(source: str, target: str) -> str:
    """What lies between two points of one domain, one way; both named as in views."""
    domain, _, alias = source.partition("/")
    return f"{AUTHORITY}/id/{_part(domain)}/segment/{_part(alias)}/{_part(target.partition('/')[2])}"


def record(kind: str, name: str) -> str:
    """A service, slice or customer: records that domains share, by their agreed names."""
    return f"{AUTHORITY}/record/{kind}/{_part(name)}"


def device_graph(domain: str, device: str, kind: str) -> str:
    """What one device says; `kind` is `config`, `state` or `kpi` (latest values of subscribed counters)."""
    return f"{AUTHORITY}/g/{_part(domain)}/{_part(device)}/{kind}"


def topology_graph(domain: str) -> str:
    """The domain's network in terms of the upper ontology."""
    return f"{AUTHORITY}/g/{_part(domain)}/topo"


def figures_graph(domain: str) -> str:
    """The figures of the domain's elements as they are now (their counters are in the devices' graphs)."""
    return f"{AUTHORITY}/g/{_part(domain)}/figures"


def points_graph(domain: str) -> str:
    """The domain's points and segments with what they rest on inside: for the owner alone."""
    return f"{AUTHORITY}/g/{_part(domain)}/points"


def inferred_graph(rule: str) -> str:
    """What one rule derived."""
    return f"{AUTHORITY}/g/inferred/{_part(rule)}"


def view_graph(agreement: str) -> str:
    """What a peer may see: redacted when it is built."""
    return f"{AUTHORITY}/g/view/{_part(agreement)}"


def records_graph() -> str:
    """Services, slices and customers, as this domain's or broker's records say."""
    return f"{AUTHORITY}/g/records"


def boundary_graph() -> str:
    """At the broker: points, inter-domain links and services, always at hand."""
    return f"{AUTHORITY}/g/boundary"


def provenance_graph() -> str:
    """Where each graph comes from, and of when."""
    return f"{AUTHORITY}/g/prov"


def yang_graph(modules: str) -> str:
    """What is said of the terms of one set of modules; `modules` is its fingerprint."""
    return f"{AUTHORITY}/g/yang/{_part(modules)}"


def run_graph(run: str) -> str:
    """What a simulation says, dropped as a whole."""
    return f"{AUTHORITY}/g/sim/{_part(run)}"


def plain_name(iri: str) -> str:
    """What people call the thing that an IRI of ours names; empty for any other IRI.

    `ran/cell-1` is a point, `ran/cell-1>ran/idl-x` a segment; an element, record or inter-domain link has
    its own identifier, which commands and records know.
    """
    for place in ("record/", "link/"):
        if iri.startswith(base := f"{AUTHORITY}/{place}"):
            return unquote(iri[len(base) :].partition("/")[2] if place == "record/" else iri[len(base) :])
    if not iri.startswith(base := f"{AUTHORITY}/id/"):
        return ""
    match [unquote(part) for part in iri[len(base) :].split("/")]:
        case [domain, "point", alias]:
            return f"{domain}/{alias}"
        case [domain, "segment", source, target]:
            return f"{domain}/{source}>{domain}/{target}"
        case [_, _, name] if name.startswith("urn:"):
            return name
        case parts:
            return "/".join(parts)


def owner(iri: str) -> str:
    """The domain that an IRI of ours belongs to; empty: to nobody, as records and inter-domain links."""
    base = f"{AUTHORITY}/id/"
    return unquote(iri[len(base) :].partition("/")[0]) if iri.startswith(base) else ""


def _part(text: str) -> str:
    return quote(text, safe="-._~:")
