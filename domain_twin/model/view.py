"""What leaves a domain: points and what lies between them, at the level a peer was granted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from domain_twin.model.values import Nanoseconds, Origin, StateKind, Version


class Level(StrEnum):
    """How much of a domain a peer sees, from least to most."""

    NODE = "node"
    MESH = "mesh"
    NATIVE = "native"


class PointKind(StrEnum):
    """What a point of a view stands for."""

    BORDER = "border"  # one end of an inter-domain link
    ENDPOINT = "endpoint"  # a published cell, function or host, under its alias
    NODE = "node"  # an inner node; only in native views


@dataclass(frozen=True, slots=True)
class PathKpis:
    """What a path, or a part of one, does to packets.

    Delay adds; delay variance adds (assuming the parts' delays are independent); loss composes as
    1 - prod(1 - p); bandwidth is the least; metric adds; availability multiplies. `delay_std_error_ms` is the
    standard error of `delay_ms`; squares add. `shared_risks` are opaque tokens: two paths of one domain that
    carry a common token can fail together.
    """

    delay_ms: float
    delay_variance_ms2: float = 0.0
    loss: float = 0.0
    bandwidth_mbps: float = float("inf")
    metric: int = 0
    availability: float = 1.0
    delay_std_error_ms: float = 0.0
    origin: Origin = Origin.MEASURED
    shared_risks: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Point:
    """A point of a view. `id` is `domain/name`; border points also say what they join."""

    id: str
    domain: str
    kind: PointKind
    role: str = ""  # "cell", "upf", "amf", "smf", "host", "router", "gnb" ... ; empty: not disclosed
    up: bool = True
    link_id: str = ""  # border: inter-domain-link-id
    peer_domain: str = ""
    capacity_mbps: float = 0.0
    metric: int = 0  # border: out of this domain
    outbound: PathKpis | None = None  # border: what the inter-domain link does to packets leaving here
    stale: bool = False


ANY_POINT = "*"


@dataclass(frozen=True, slots=True)
class Segment:
    """What lies between two points of one domain, one way.

    `current` is what the devices forward now (least metric), None when nothing joins the points. `options`
    is the Pareto list of what could be provisioned; `truncated` marks an inner approximation (a list cut at
    its cap).
    In a `node` view there is a single segment whose source and target are ANY_POINT: it holds for all pairs.
    """

    source: str
    target: str
    current: PathKpis | None
    options: tuple[PathKpis, ...] = ()
    truncated: bool = False
    stale: bool = False


@dataclass(frozen=True, slots=True)
class View:
    """What one peer may see of one domain, at one version of it."""

    domain: str
    agreement: str
    level: Level
    version: Version
    points: Mapping[str, Point]
    segments: Mapping[tuple[str, str], Segment]
    hidden_nodes: int = 0
    hidden_links: int = 0
    kind: StateKind = StateKind.LIVE
    expires_at: Nanoseconds = 0  # when the agreement ends, and with it the right to keep this; 0: never


@dataclass(frozen=True, slots=True)
class ViewDelta:
    """From one version of a view to the next; `source` None means `target` is complete (a snapshot)."""

    domain: str
    agreement: str
    level: Level
    source: Version | None
    target: Version
    points: tuple[Point, ...] = ()
    segments: tuple[Segment, ...] = ()
    gone_points: tuple[str, ...] = ()
    gone_segments: tuple[tuple[str, str], ...] = ()
    hidden_nodes: int = 0
    hidden_links: int = 0
    expires_at: Nanoseconds = 0
