"""The small federation that the competency questions ask: four domains and what joins them, as Turtle.

Owns the data of `examples/four-domains`; what happens in it by the day (alarms, intents, jobs) is written by
hand in `examples/operations`. Shaped like the product's own graphs: inner elements by domain, then points,
segments and records.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from domain_twin.semantic import names

HEAD = """# {about}
# Made by ontology/build.py from ontology/sample.py.
@prefix ndt: <https://fedtwin.example/ns/ndt#> .
@prefix xsd: <http://www.w3.org/2001/XMLSchema#> .
"""
OPERATORS = {
    "ran": "northern-mobile",
    "transport": "backbone",
    "core": "northern-mobile",
    "edge": "edge-sites",
}
NODES = {
    "ran": ["gnb-1", "gnb-2", "gnb-3"],
    "transport": ["gdansk", "warszawa", "krakow", "poznan", "lublin"],
    "core": ["core-1", "core-2"],
    "edge": ["edge-1", "edge-2", "edge-3"],
}
VENDORS = {
    "ran": ("Ericon", "22.1"),
    "transport": ("Packetworks", "7.4.2"),
    "core": ("Corelabs", "3.0"),
    "edge": ("Edgeware", "1.9"),
}
SOFTWARE = {"lublin": "7.2.9", "edge-3": "1.8"}
STALE = {"lublin"}
LINKS = {  # both directions of each: domain, one node, other node, metric, Mbit/s, utilisation, delay in ms
    "ran": [
        ("gnb-1", "gnb-2", 10, 10000, 0.21, 0.1),
        ("gnb-2", "gnb-3", 10, 10000, 0.18, 0.1),
        ("gnb-3", "gnb-1", 10, 10000, 0.12, 0.1),
    ],
    "transport": [
        ("gdansk", "warszawa", 20, 40000, 0.35, 1.5),
        ("warszawa", "krakow", 20, 40000, 0.42, 1.4),
        ("gdansk", "poznan", 20, 10000, 0.93, 1.3),
        ("poznan", "krakow", 20, 10000, 0.05, 1.8),
        ("krakow", "lublin", 30, 1000, 0.02, 1.1),
    ],
    "core": [("core-1", "core-2", 5, 100000, 0.11, 0.05)],
    "edge": [("edge-1", "edge-2", 5, 25000, 0.31, 0.2), ("edge-2", "edge-3", 5, 1000, 0.66, 0.9)],
}
DUCTS = {"duct-baltic": [("gdansk", "warszawa"), ("gdansk", "poznan")], "duct-south": [("krakow", "lublin")]}
DOWN = {"poznan:krakow"}  # termination points
JOINS = [  # link id, one domain and node, other domain and node, Mbit/s, delay in ms
    ("ran-transport-1", "ran", "gnb-1", "transport", "gdansk", 10000, 0.3),
    ("ran-transport-2", "ran", "gnb-2", "transport", "warszawa", 10000, 0.4),
    ("transport-core-1", "transport", "krakow", "core", "core-1", 40000, 0.2),
    ("transport-edge-1", "transport", "poznan", "edge", "edge-1", 10000, 0.5),
    ("core-edge-1", "core", "core-2", "edge", "edge-2", 10000, 0.6),
]
CELLS = {  # cell: node, S-NSSAIs, active users
    "cell-1": ("gnb-1", ["1-000001", "1-000002"], 12),
    "cell-2": ("gnb-1", ["1-000001"], 3),
    "cell-3": ("gnb-2", ["1-000002"], 40),
    "cell-4": ("gnb-2", ["1-000002"], 55),
    "cell-5": ("gnb-3", ["1-000002"], 0),
    "cell-6": ("gnb-3", [], 7),
}
FUNCTIONS = {  # function: node, role, S-NSSAIs, works
    "amf-1": ("core-1", "amf", [], True),
    "smf-1": ("core-1", "smf", [], True),
    "upf-1": ("core-1", "upf", ["1-000001"], True),
    "upf-2": ("core-2", "upf", ["1-000002"], False),
}
HOSTS = {  # host: node, site, applications
    "host-1": ("edge-1", "site-a", ["control"]),
    "host-2": ("edge-2", "site-a", ["metering", "video"]),
    "host-3": ("edge-3", "site-b", ["video"]),
}
SLICES = {  # slice: name, S-NSSAI, customer, points
    "low-latency": ("low latency", "1-000001", "northworks", ["ran/cell-1", "core/upf-1", "edge/host-1"]),
    "broadband": (
        "broadband",
        "1-000002",
        "cityline",
        ["ran/cell-4", "core/upf-2", "edge/host-2", "edge/host-3"],
    ),
}
SUBNETS = {"low-latency": ["ran", "core", "edge"], "broadband": ["ran", "core", "edge"]}
CUSTOMERS = {"northworks": "Northworks, car bodies", "cityline": "Cityline, trams"}


@dataclass(frozen=True)
class Service:
    """One service: its ends, who it is for, what was promised, and its way as hops over inner nodes."""

    name: str
    source: str
    target: str
    way: list[tuple[str, list[str]]]  # domain and the nodes passed there
    joins: list[str]
    slice: str = ""
    customer: str = ""
    promise: dict[str, float] = field(default_factory=dict)
    verdict: str = "unknown"


SERVICES = [
    Service(
        "factory-control", "ran/cell-1", "edge/host-1",
        [("ran", ["gnb-1"]), ("transport", ["gdansk", "poznan"]), ("edge", ["edge-1"])],
        ["ran-transport-1", "transport-edge-1"],
        "low-latency", "northworks", {"delayMs": 10.0, "availability": 0.9999}, "kept",
    ),
    Service(
        "tram-video", "ran/cell-4", "edge/host-3",
        [("ran", ["gnb-2"]), ("transport", ["warszawa", "krakow"]), ("core", ["core-1", "core-2"]),
         ("edge", ["edge-2", "edge-3"])],
        ["ran-transport-2", "transport-core-1", "core-edge-1"],
        "broadband", "cityline", {"delayMs": 3.5, "lossRatio": 0.001}, "missed",
    ),
    Service(
        "metering", "ran/cell-6", "edge/host-2",
        [("ran", ["gnb-3", "gnb-2"]), ("transport", ["warszawa", "gdansk", "poznan"]),
         ("edge", ["edge-1", "edge-2"])],
        ["ran-transport-2", "transport-edge-1"],
    ),
    Service(
        "ticket-kiosks", "ran/cell-5", "edge/host-2",
        [("ran", ["gnb-3", "gnb-1"]), ("transport", ["gdansk", "poznan"]), ("edge", ["edge-1", "edge-2"])],
        ["ran-transport-1", "transport-edge-1"], "", "cityline", {"lossRatio": 0.01}, "missed",
    ),
]  # fmt: skip
AGREEMENTS = {  # agreement: domain, peer, level, actions, end
    "ran-exchange": ("ran", "exchange", "mesh", ["view", "describe", "query"], ""),
    "transport-exchange": ("transport", "exchange", "mesh", ["view", "describe", "evaluate", "query"], ""),
    "core-exchange": ("core", "exchange", "node", ["view", "describe"], ""),
    "edge-exchange": (
        "edge",
        "exchange",
        "native",
        ["view", "describe", "query", "what-if"],
        "2026-12-31T00:00:00Z",
    ),
}


def files() -> dict[str, str]:
    """The data by file name."""
    made = {
        f"{domain}.ttl": _text(f"The domain {domain}, as its own twin has it.", inner(domain))
        for domain in NODES
    }
    made["exchange.ttl"] = _text(
        "What joins the domains: points, segments, services, agreements.", boundary()
    )
    return made


def _text(about: str, blocks: Iterable[tuple[str, list[tuple[str, str]]]]) -> str:
    lines = [HEAD.format(about=about)]
    for subject, pairs in blocks:
        body = " ;\n".join(f"    {p} {o}" for p, o in pairs)
        lines.append(f"<{subject}>\n{body} .\n")
    return "\n".join(lines)


def _text_of(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f'"{value}"^^xsd:double'
    return str(value) if isinstance(value, int) else f'"{value}"'


def _say(
    kind: str, iris: dict[str, str | list[str]] | None = None, **values: object
) -> list[tuple[str, str]]:
    """Predicates and objects: a class, relations to IRIs, attributes; what is empty is not said."""
    pairs = [("a", f"ndt:{kind}")]
    for name, value in (iris or {}).items():
        many = [value] if isinstance(value, str) else value
        pairs += [(f"ndt:{name}", f"<{one}>") for one in many if one]
    for name, said in values.items():
        several = said if isinstance(said, list) else [said]
        pairs += [(f"ndt:{name}", _text_of(one)) for one in several if one not in ("", None)]
    return pairs


Block = tuple[str, list[tuple[str, str]]]


def _kpi(subject: str, name: str, value: float, unit: str) -> Block:
    said = _say("Kpi", None, name=name, value=value, unit=unit, origin="measured")
    return f"{subject}/kpi/{name}", [*said, ("ndt:observedAt", '"2026-11-21T08:00:00Z"^^xsd:dateTime')]


def inner(domain: str) -> Iterator[Block]:
    """One domain's elements."""
    home = names.domain_node(domain)

    def at(kind: str, name: str) -> str:
        return names.element(domain, kind, name)

    operator = names.element("exchange", "organisation", OPERATORS[domain])
    yield home, _say("Domain", {"operatedBy": operator}, name=domain)
    if domain != "core":
        yield operator, _say("Organisation", None, name=OPERATORS[domain])
    yield at("agent", domain), _say("TwinAgent", {"mirrors": home}, name=f"{domain}-agent")
    vendor, software = VENDORS[domain]
    for node in NODES[domain]:
        role = {"ran": "gnb", "transport": "router", "core": "router", "edge": "router"}[domain]
        yield (
            at("node", node),
            _say(
                "Node",
                {"inDomain": home},
                name=node,
                identifier=f"urn:ndt:{domain}:{node}",
                role=role,
                vendor=vendor,
                softwareVersion=SOFTWARE.get(node, software),
                device=node,
                stale=node in STALE,
            ),
        )
    for one, other, metric, capacity, load, delay in LINKS[domain]:
        ducts = [name for name, inside in DUCTS.items() if (one, other) in inside]
        groups = [names.element(domain, "risk-group", name) for name in ducts]
        for near, far in ((one, other), (other, one)):
            yield from _point(domain, near, far, capacity)
            link = at("link", f"{near}-{far}")
            ends = {
                "hasSource": at("termination-point", f"{near}:{far}"),
                "hasDestination": at("termination-point", f"{far}:{near}"),
            }
            kpis = [f"{link}/kpi/utilisation", f"{link}/kpi/one_way_delay"]
            yield (
                link,
                _say(
                    "Link",
                    {"inDomain": home, **ends, "inRiskGroup": groups, "hasKpi": kpis},
                    name=f"{near}-{far}",
                    identifier=f"urn:ndt:{domain}:{near}:{far}:out",
                    device=near,
                    metric=metric,
                    capacityMbps=float(capacity),
                ),
            )
            yield _kpi(link, "utilisation", load, "1")
            yield _kpi(link, "one_way_delay", delay, "ms")
        for name, group in zip(ducts, groups, strict=True):
            yield group, _say("RiskGroup", None, name=name)
    for link_id, domain_a, node_a, domain_b, node_b, capacity, _ in JOINS:
        for here, node in ((domain_a, node_a), (domain_b, node_b)):
            if here == domain:
                yield from _point(domain, node, link_id, capacity)
    if domain == "ran":
        yield from _radio(home)
    for name, (node, role, snssais, works) in FUNCTIONS.items() if domain == "core" else ():
        yield (
            at("network-function", name),
            _say(
                "NetworkFunction",
                {"inDomain": home, "onNode": at("node", node)},
                name=name,
                role=role,
                snssai=snssais,
                administrativeState="UNLOCKED",
                operationalState="ENABLED" if works else "DISABLED",
                up=works,
            ),
        )
    for name, (node, site, applications) in HOSTS.items() if domain == "edge" else ():
        yield (
            at("host", name),
            _say(
                "Host",
                {"inDomain": home, "onNode": at("node", node), "atSite": at("site", site)},
                name=name,
                role="host",
                administrativeState="UNLOCKED",
                operationalState="ENABLED",
                up=True,
            ),
        )
        yield at("site", site), _say("EdgeSite", {"inDomain": home}, name=site)
        for application in applications:
            runs = at("application", f"{name}/{application}")
            yield (
                runs,
                _say("Application", {"inDomain": home, "hostedOn": at("host", name)}, name=application),
            )


def _point(domain: str, node: str, towards: str, capacity: int) -> Iterator[Block]:
    point, on = (
        names.element(domain, "termination-point", f"{node}:{towards}"),
        names.element(domain, "node", node),
    )
    up = f"{node}:{towards}" not in DOWN
    crosses = towards if towards in {join[0] for join in JOINS} else ""
    yield (
        point,
        _say(
            "TerminationPoint",
            {"inDomain": names.domain_node(domain), "onNode": on},
            name=f"{node}:{towards}",
            up=up,
            administrativeState="UNLOCKED",
            operationalState="ENABLED" if up else "DISABLED",
            capacityMbps=float(capacity),
            linkId=crosses,
        ),
    )
    yield on, [("ndt:hasTerminationPoint", f"<{point}>")]


def _radio(home: str) -> Iterator[Block]:
    for node in NODES["ran"]:
        on = names.element("ran", "node", node)
        unit, centre = (
            names.element("ran", "gnb-du", f"{node}-du"),
            names.element("ran", "gnb-cu", f"{node}-cu"),
        )
        yield centre, _say("GnbCu", {"inDomain": home, "onNode": on}, name=f"{node}-cu", up=True)
        yield (
            unit,
            _say("GnbDu", {"inDomain": home, "onNode": on, "servedBy": centre}, name=f"{node}-du", up=True),
        )
    for name, (node, snssais, users) in CELLS.items():
        cell = names.element("ran", "cell", name)
        yield (
            cell,
            _say(
                "Cell",
                {
                    "inDomain": home,
                    "onNode": names.element("ran", "node", node),
                    "partOf": names.element("ran", "gnb-du", f"{node}-du"),
                    "hasKpi": f"{cell}/kpi/active_ues",
                },
                name=name,
                role="cell",
                snssai=snssais,
                administrativeState="LOCKED" if name == "cell-5" else "UNLOCKED",
                operationalState="ENABLED",
                up=name != "cell-5",
            ),
        )
        yield _kpi(cell, "active_ues", float(users), "1")


def boundary() -> Iterator[Block]:
    """What domains show and what was agreed."""
    for link_id, domain_a, node_a, domain_b, node_b, capacity, delay in JOINS:
        ends = [names.point(f"{domain_a}/idl-{link_id}"), names.point(f"{domain_b}/idl-{link_id}")]
        yield (
            names.inter_domain_link(link_id),
            _say("InterDomainLink", {"endsAt": ends}, linkId=link_id, delayMs=delay),
        )
        for here, there, node in ((domain_a, domain_b, node_a), (domain_b, domain_a, node_b)):
            yield (
                names.point(f"{here}/idl-{link_id}"),
                _say(
                    "BorderPoint",
                    {
                        "inDomain": names.domain_node(here),
                        "peerDomain": names.domain_node(there),
                        "supportedBy": names.element(here, "termination-point", f"{node}:{link_id}"),
                    },
                    alias=f"{here}/idl-{link_id}",
                    linkId=link_id,
                    capacityMbps=float(capacity),
                    metric=10,
                    up=True,
                    role="router",
                ),
            )
    inside = {**dict.fromkeys(CELLS, ("ran", "cell")), **dict.fromkeys(HOSTS, ("edge", "host"))}
    inside |= {name: ("core", "network-function") for name in FUNCTIONS if name.startswith("upf")}
    for name, (domain, kind) in inside.items():
        yield (
            names.point(f"{domain}/{name}"),
            _say(
                "EndPoint",
                {"inDomain": names.domain_node(domain), "supportedBy": names.element(domain, kind, name)},
                alias=f"{domain}/{name}",
                role={"network-function": "upf"}.get(kind, kind),
                up=name not in ("cell-5", "upf-2"),
            ),
        )
    for name, (title, snssai, customer, points) in SLICES.items():
        subnets = [f"{names.record('slice', name)}/subnet/{domain}" for domain in SUBNETS[name]]
        yield (
            names.record("slice", name),
            _say(
                "Slice",
                {
                    "forCustomer": names.record("customer", customer),
                    "supportedBy": [names.point(p) for p in points],
                    "hasSubnet": subnets,
                },
                name=title,
                snssai=snssai,
            ),
        )
        for domain, subnet in zip(SUBNETS[name], subnets, strict=True):
            yield (
                subnet,
                _say("SliceSubnet", {"inDomain": names.domain_node(domain)}, name=f"{title}, {domain}"),
            )
    for name, title in CUSTOMERS.items():
        yield names.record("customer", name), _say("Customer", None, name=title)
    for service in SERVICES:
        yield from _service(service)
    exchange = names.element("exchange", "organisation", "exchange")
    yield exchange, _say("Organisation", None, name="exchange")
    for name, (domain, _peer, level, actions, end) in AGREEMENTS.items():
        view = f"{names.record('agreement', name)}/view"
        said = _say(
            "Agreement",
            {"givenBy": names.domain_node(domain), "givenTo": exchange, "grants": view},
            name=name,
            level=level,
            action=actions,
        )
        yield (
            names.record("agreement", name),
            said + ([("ndt:expiresAt", f'"{end}"^^xsd:dateTime')] if end else []),
        )
        yield view, _say("DataView", {"inDomain": names.domain_node(domain)}, level=level, version="1/42")


def _service(service: Service) -> Iterator[Block]:
    record = names.record("service", service.name)
    ends = {"hasSource": names.point(service.source), "hasDestination": names.point(service.target)}
    segments = []
    for number, (domain, nodes) in enumerate(service.way):
        source = service.source if number == 0 else f"{domain}/idl-{service.joins[number - 1]}"
        last = number == len(service.way) - 1
        target = service.target if last else f"{domain}/idl-{service.joins[number]}"
        segment = names.segment(source, target)
        segments.append(segment)
        hops = list(pairwise(nodes))
        costs = {(a, b): row for a, b, *row in LINKS[domain]}
        rows = [costs.get((a, b)) or costs[b, a] for a, b in hops]
        yield (
            segment,
            _say(
                "Segment",
                {
                    "inDomain": names.domain_node(domain),
                    "hasSource": names.point(source),
                    "hasDestination": names.point(target),
                    "usesLink": [names.element(domain, "link", f"{a}-{b}") for a, b in hops],
                },
                delayMs=round(0.1 + sum(row[3] for row in rows), 3),
                lossRatio=0.0,
                metric=sum(row[0] for row in rows),
                bandwidthMbps=round(min([25000.0, *(row[1] * (1 - row[2]) for row in rows)]), 3),
            ),
        )
    path = f"{record}/path"
    crossed = [names.inter_domain_link(link_id) for link_id in service.joins]
    yield path, _say("Path", {**ends, "usesSegment": segments, "usesLink": crossed})
    promise = f"{record}/objective" if service.promise else ""
    yield (
        record,
        _say(
            "Service",
            {
                **ends,
                "follows": path,
                "promises": promise,
                "carriedBy": names.record("slice", service.slice) if service.slice else "",
                "forCustomer": names.record("customer", service.customer) if service.customer else "",
            },
            name=service.name,
            verdict=service.verdict,
        ),
    )
    if promise:
        yield promise, _say("Objective", None, **service.promise)
