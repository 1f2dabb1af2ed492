"""What the one who serves a twin answers: paths, budgets, statuses, events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from domain_twin.model.alarm import Alarm
from domain_twin.model.network import Finding
from domain_twin.model.observation import DeviceStatus
from domain_twin.model.service import Service
from domain_twin.model.values import Kpi, Nanoseconds, Origin, Version
from domain_twin.model.view import Level, PathKpis


class Outcome(StrEnum):
    """How one domain answered one question. Everything but OK is a refusal, and a refusal is data."""

    OK = "ok"
    STALE = "stale"  # answered from a view of a domain that is not connected now
    NOT_SHARED = "not shared"
    NO_PATH = "no path"
    NO_DATA = "no data"
    OVER_CAPACITY = "over capacity"
    STALE_VERSION = "stale version"
    UNREACHABLE = "unreachable"


@dataclass(frozen=True, slots=True)
class DomainOutcome:
    """One domain's part in an answer."""

    domain: str
    outcome: Outcome
    version: Version | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Requirement:
    """What a path must meet; None: no bound."""

    delay_ms: float | None = None
    bandwidth_mbps: float | None = None
    loss: float | None = None


@dataclass(frozen=True, slots=True)
class Hop:
    """One domain's segment, or one inter-domain link (`domain` empty, `link_id` set), of a composed path."""

    domain: str
    source: str
    target: str
    kpis: PathKpis
    link_id: str = ""
    stale: bool = False


@dataclass(frozen=True, slots=True)
class ComposedPath:
    """A path across domains with the sum of its parts."""

    hops: tuple[Hop, ...]
    total: PathKpis


class PathMode(StrEnum):
    """Which question a path search answers."""

    CURRENT = "current"  # what the devices forward now
    BEST = "best"  # what could be provisioned


@dataclass(frozen=True, slots=True)
class PathAnswer:
    """The answer to a path question: alternatives in order, and each domain's part in it."""

    source: str
    target: str
    mode: PathMode
    requirement: Requirement
    paths: tuple[ComposedPath, ...]
    domains: tuple[DomainOutcome, ...]
    answered_at: Nanoseconds
    inner_approximation: bool = False


@dataclass(frozen=True, slots=True)
class BudgetShare:
    """One domain's part of an end-to-end delay objective. `domain` empty: the inter-domain links."""

    domain: str
    share_ms: float
    used_ms: float
    outcome: Outcome = Outcome.OK

    @property
    def slack_ms(self) -> float:
        """What is left of the share; negative when it is missed."""
        return self.share_ms - self.used_ms


@dataclass(frozen=True, slots=True)
class ServiceStatus:
    """A service with what it gets now, and how its delay objective is split."""

    service: Service
    path: ComposedPath | None
    budget: tuple[BudgetShare, ...]
    domains: tuple[DomainOutcome, ...]
    met: bool | None  # None: nothing was promised, or no domain could say
    at: Nanoseconds
    cause: str = ""  # what changed since the status before, in words; empty at first

    def crosses(self, domain: str) -> bool:
        """Whether it tells figures of a domain: by its path, or by its share of the budget."""
        on_path = self.path is not None and any(hop.domain == domain for hop in self.path.hops)
        return on_path or any(share.domain == domain for share in self.budget)


@dataclass(frozen=True, slots=True)
class DomainStatus:
    """A domain as the one who serves the twin sees it."""

    domain: str
    operator: str
    connected: bool
    level: Level | None
    version: Version | None
    received_at: Nanoseconds
    points: int = 0
    segments: int = 0
    hidden_nodes: int = 0
    hidden_links: int = 0
    peer: str = ""  # SPIFFE identity
    problem: str = ""


class EventKind(StrEnum):
    """What an event on the twin's stream is about."""

    DOMAIN = "domain"  # joined, lost, refused, resumed
    VIEW = "view"  # a view reached a new version
    SERVICE = "service"  # a service's path, KPIs or verdict changed
    FINDING = "finding"  # raised or cleared
    DEVICE = "device"  # an agent's own: session to a device changed
    ALARM = "alarm"  # raised, changed, cleared, or an operator said something of it
    CHANGE = "change"  # an agent's own: leaves changed
    GAP = "gap"  # this watcher missed events: it was too slow, or asked for ones that are no longer kept


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened, for those who watch. Exactly one of the payloads is set, by kind."""

    id: int
    at: Nanoseconds
    kind: EventKind
    domain: str
    text: str
    domain_status: DomainStatus | None = None
    service_status: ServiceStatus | None = None
    finding: Finding | None = None
    device_status: DeviceStatus | None = None
    observed_at: Nanoseconds = 0  # device time of the change behind it, 0 when there is none
    alarm: Alarm | None = None

    def tells_of(self, domain: str) -> bool:
        """Whether it is about a domain, or about a service with figures of that domain."""
        return self.domain == domain or (
            self.service_status is not None and self.service_status.crosses(domain)
        )


@dataclass(frozen=True, slots=True)
class Sample:
    """One point of a time series."""

    at: Nanoseconds
    value: float
    origin: Origin = Origin.MEASURED


@dataclass(frozen=True, slots=True)
class Element:
    """One element of a twin in general form, for lists and searches. `kind` is the word of its type."""

    id: str
    kind: str  # "node", "termination-point", "link", "network-function", "cell", "host", "point", "segment"
    domain: str
    name: str = ""
    up: bool = True
    stale: bool = False
    attributes: Mapping[str, str] = field(default_factory=dict)
    kpis: tuple[Kpi, ...] = ()
