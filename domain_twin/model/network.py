"""A domain's network at one version, independent of vendor and protocol (RFC 8345, 3GPP TS 28.541)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from domain_twin.model.values import Kpi, Nanoseconds, StateKind, Version, no_kpis


@dataclass(frozen=True, slots=True)
class Node:
    """A node of the domain's topology (RFC 8345 4.1), with what its device says of its make."""

    id: str
    device: str
    name: str = ""
    vendor: str = ""
    part: str = ""  # part number of the chassis
    hardware: str = ""  # version
    software: str = ""  # version
    serial: str = ""  # serial number of the chassis
    stale: bool = False


@dataclass(frozen=True, slots=True)
class InterDomainEnd:
    """This side of an inter-domain link (fedtwin-inter-domain)."""

    link_id: str
    peer_domain: str
    capacity_mbps: float
    metric: int = 1


@dataclass(frozen=True, slots=True)
class Counters:
    """What an interface has counted since it was reset; None where it says nothing."""

    in_octets: int | None = None
    out_octets: int | None = None
    in_pkts: int | None = None
    out_pkts: int | None = None
    in_errors: int | None = None
    out_errors: int | None = None
    in_discards: int | None = None
    out_discards: int | None = None


@dataclass(frozen=True, slots=True)
class TerminationPoint:
    """A termination point of a node (RFC 8345 4.2), joined with its interface (RFC 8343)."""

    id: str
    node: str
    device: str
    interface: str = ""
    enabled: bool = True
    oper_up: bool = True
    speed_mbps: float = 0.0
    inter_domain: InterDomainEnd | None = None
    kpis: Mapping[str, Kpi] = field(default_factory=no_kpis)  # of the inter-domain link, outbound
    counters: Counters | None = None
    stale: bool = False

    @property
    def up(self) -> bool:
        """Whether the point is permitted and able to carry traffic."""
        return self.enabled and self.oper_up


@dataclass(frozen=True, slots=True)
class Link:
    """A directed link inside the domain (RFC 8345 4.2: a link has one source and one destination)."""

    id: str
    device: str
    source_node: str
    source_tp: str
    dest_node: str
    dest_tp: str
    metric: int = 1
    capacity_mbps: float = 0.0  # speed of the slower end
    up: bool = True  # both ends permitted and able
    kpis: Mapping[str, Kpi] = field(default_factory=no_kpis)
    stale: bool = False


@dataclass(frozen=True, slots=True)
class NetworkFunction:
    """A 5G core network function (3GPP TS 28.541 5.3)."""

    id: str
    node: str
    device: str
    type: str = ""
    unlocked: bool = True
    operational: bool = True
    workers: int = 1
    snssais: tuple[str, ...] = ()
    kpis: Mapping[str, Kpi] = field(default_factory=no_kpis)
    stale: bool = False

    @property
    def up(self) -> bool:
        """Whether the function carries traffic."""
        return self.unlocked and self.operational


@dataclass(frozen=True, slots=True)
class Cell:
    """An NR cell (3GPP TS 28.541 4.3: NRCellDU). Its KPIs are those of the air interface, uplink."""

    id: str
    node: str
    device: str
    local_id: int = 0
    unlocked: bool = True
    operational: bool = True
    bandwidth_mhz: int = 0
    prb_share: float = 1.0
    snssais: tuple[str, ...] = ()
    kpis: Mapping[str, Kpi] = field(default_factory=no_kpis)
    stale: bool = False

    @property
    def up(self) -> bool:
        """Whether the cell carries traffic."""
        return self.unlocked and self.operational


@dataclass(frozen=True, slots=True)
class Host:
    """An edge host (ETSI GS MEC 003). Its KPIs are those of requests that end on it."""

    id: str
    node: str
    device: str
    site: str = ""
    unlocked: bool = True
    operational: bool = True
    cpu_cores: int = 0
    workers: int = 1
    applications: tuple[str, ...] = ()
    kpis: Mapping[str, Kpi] = field(default_factory=no_kpis)
    stale: bool = False

    @property
    def up(self) -> bool:
        """Whether the host serves."""
        return self.unlocked and self.operational


class Severity(StrEnum):
    """How much a finding matters."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class Finding:
    """Something a person should see: never a silent guess. `remedy` says what would make it go away."""

    code: str  # e.g. "inter-domain-link.capacity-mismatch"
    severity: Severity
    domain: str
    element: str
    message: str
    remedy: str = ""
    since: Nanoseconds = 0


@dataclass(frozen=True, slots=True)
class Network:
    """A domain's network at one version, by element id."""

    domain: str
    version: Version
    nodes: Mapping[str, Node]
    termination_points: Mapping[str, TerminationPoint]
    links: Mapping[str, Link]
    functions: Mapping[str, NetworkFunction]
    cells: Mapping[str, Cell]
    hosts: Mapping[str, Host]
    findings: tuple[Finding, ...] = ()
    kind: StateKind = StateKind.LIVE
