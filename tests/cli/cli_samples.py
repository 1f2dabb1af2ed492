"""Model objects as a broker would answer them, for the screens."""

from __future__ import annotations

from dataclasses import replace

from domain_twin.model import (
    BudgetShare,
    ComposedPath,
    Connection,
    DeviceStatus,
    DomainOutcome,
    DomainStatus,
    Event,
    EventKind,
    Finding,
    Hop,
    Level,
    Objective,
    Outcome,
    PathAnswer,
    PathKpis,
    PathMode,
    Point,
    PointKind,
    Requirement,
    Segment,
    Service,
    ServiceStatus,
    Severity,
    Version,
    View,
)

NOW = 1_800_000_000 * 10**9
MS = 10**6
OPERATORS = {
    "ran": "northcell.example",
    "transport": "longhaul.example",
    "core": "corenova.example",
    "edge": "edgeworks.example",
}


def kpis(delay_ms: float, *, metric: int = 10, bandwidth: float = 900.0) -> PathKpis:
    return PathKpis(
        delay_ms,
        delay_variance_ms2=0.01,
        loss=1e-5,
        bandwidth_mbps=bandwidth,
        metric=metric,
        delay_std_error_ms=0.002,
    )


def domains() -> list[DomainStatus]:
    counts = {
        "ran": (24, 414, 6, 12),
        "transport": (8, 56, 12, 36),
        "core": (4, 12, 4, 8),
        "edge": (6, 30, 4, 8),
    }
    return [
        DomainStatus(
            domain,
            operator,
            connected=domain != "edge",
            level=Level.MESH,
            version=Version("a1", 42, NOW),
            received_at=NOW - 120 * MS,
            points=counts[domain][0],
            segments=counts[domain][1],
            hidden_nodes=counts[domain][2],
            hidden_links=counts[domain][3],
            peer=f"spiffe://{operator}/agent/{domain}",
            problem="nothing heard for 15 s" if domain == "edge" else "",
        )
        for domain, operator in OPERATORS.items()
    ]


def path(transport_ms: float = 1.9, metric: int = 3000) -> ComposedPath:
    hops = (
        Hop("ran", "ran/cell-1", "ran/idl-4k2m", kpis(2.2)),
        Hop("", "ran/idl-4k2m", "transport/idl-4k2m", kpis(0.02), "urn:ndt:idl:4k2m"),
        Hop("transport", "transport/idl-4k2m", "transport/idl-p8q1", kpis(transport_ms, metric=metric)),
        Hop("", "transport/idl-p8q1", "core/idl-p8q1", kpis(0.02), "urn:ndt:idl:p8q1"),
        Hop("core", "core/idl-p8q1", "core/idl-77zx", kpis(0.6)),
        Hop("", "core/idl-77zx", "edge/idl-77zx", kpis(0.01), "urn:ndt:idl:77zx"),
        Hop("edge", "edge/idl-77zx", "edge/host-1", kpis(1.1)),
    )
    total = kpis(sum(hop.kpis.delay_ms for hop in hops), metric=sum(hop.kpis.metric for hop in hops))
    return ComposedPath(hops, total)


def service(transport_ms: float = 1.9, *, at: int = NOW, cause: str = "") -> ServiceStatus:
    way = path(transport_ms)
    used = {hop.domain: hop.kpis.delay_ms for hop in way.hops if hop.domain} | {"": 0.05}
    shares = {"ran": 3.7, "transport": 3.2, "core": 1.1, "edge": 1.8, "": 0.2}
    return ServiceStatus(
        service=Service(
            "urn:service:factory-control",
            "factory-control",
            "ran/cell-1",
            "edge/host-1",
            Objective(delay_ms=10.0),
            "urn:customer:northworks",
        ),
        path=way,
        budget=tuple(BudgetShare(domain, shares[domain], used[domain]) for domain in shares),
        domains=tuple(DomainOutcome(domain, Outcome.OK) for domain in OPERATORS),
        met=way.total.delay_ms <= 10,
        at=at,
        cause=cause,
    )


def history() -> list[ServiceStatus]:
    found = []
    for second in range(60):
        delay = 4.9 if 20 <= second < 40 else 1.9
        found.append(service(delay + 0.02 * (second % 3), at=NOW + second * 10**9))
    return found


def events() -> list[Event]:
    return [
        Event(
            1,
            NOW + 20 * 10**9,
            EventKind.SERVICE,
            "transport",
            "factory-control: path changed inside transport, 5.850 ms to 8.850 ms",
            service_status=service(4.9),
            observed_at=NOW + 20 * 10**9 - 30 * MS,
        ),
        Event(2, NOW + 40 * 10**9, EventKind.DOMAIN, "edge", "edge resumed its session"),
    ]


def answer() -> PathAnswer:
    outcomes = (
        DomainOutcome("ran", Outcome.OK),
        DomainOutcome("edge", Outcome.STALE, reason="not connected for 3 s; its last view was used"),
    )
    return PathAnswer(
        "ran/cell-1",
        "edge/host-1",
        PathMode.BEST,
        Requirement(delay_ms=10),
        (path(), path(2.7)),
        outcomes,
        NOW,
    )


def view() -> View:
    border = Point(
        "transport/idl-4k2m",
        "transport",
        PointKind.BORDER,
        link_id="urn:ndt:idl:4k2m",
        peer_domain="ran",
        capacity_mbps=10_000,
    )
    other = replace(
        border, id="transport/idl-p8q1", link_id="urn:ndt:idl:p8q1", peer_domain="core", stale=True
    )
    segment = Segment(border.id, other.id, kpis(1.9), (kpis(1.9), kpis(2.4)), truncated=True)
    back = Segment(other.id, border.id, None)
    return View(
        "transport",
        "transport-exchange",
        Level.MESH,
        Version("a1", 7, NOW),
        {p.id: p for p in (border, other)},
        {(s.source, s.target): s for s in (segment, back)},
        12,
        36,
    )


def findings() -> list[Finding]:
    return [
        Finding(
            "inter-domain-link.capacity-mismatch",
            Severity.WARNING,
            "transport",
            "urn:ndt:idl:4k2m",
            "transport understands 10000 Mbit/s and ran 1000 Mbit/s",
            "agree on one capacity",
            NOW - 90 * 10**9,
        )
    ]


def devices() -> list[DeviceStatus]:
    return [
        DeviceStatus(
            "warsaw", "netconf+gnmi", Connection.SYNCHRONISED, "127.0.0.1:1", NOW - 3 * MS, 212, 10_241
        ),
        DeviceStatus(
            "lodz", "gnmi", Connection.STALE, "127.0.0.1:2", NOW - 9 * 10**9, 198, 9_000, 1, 3, "refused"
        ),
    ]
