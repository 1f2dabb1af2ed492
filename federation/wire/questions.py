"""Questions to a twin and the answers made of several parts, in model types: what server and client share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from domain_twin.model import (
    Customer,
    DomainStatus,
    Element,
    Event,
    EventKind,
    Level,
    Nanoseconds,
    PathMode,
    Requirement,
    Sample,
    ServiceStatus,
    Slice,
    Version,
    View,
)
from domain_twin.model.job import Capability, Requirements
from domain_twin.model.query import QueryForm, QueryPart, Require
from domain_twin.model.scenario import Scenario

NO_REQUIREMENT = Requirement()


@dataclass(frozen=True, slots=True)
class ElementQuery:
    """Which elements; empty: all. `at` 0 is now."""

    domain: str = ""
    kind: str = ""
    prefix: str = ""
    at: Nanoseconds = 0


@dataclass(frozen=True, slots=True)
class ElementList:
    """Elements, and the version of each domain they were read at."""

    elements: tuple[Element, ...]
    versions: Mapping[str, Version]
    resolution: Nanoseconds = 0  # figures are as of the last full interval of this length; 0: exact


@dataclass(frozen=True, slots=True)
class ViewQuery:
    """Which views; empty: all domains, None: at the level that the server has."""

    domain: str = ""
    level: Level | None = None


@dataclass(frozen=True, slots=True)
class ViewList:
    """Views, and the standing of each domain they are of."""

    views: tuple[View, ...]
    domains: tuple[DomainStatus, ...]


@dataclass(frozen=True, slots=True)
class PathQuery:
    """Which path between two points, each `domain/name`; at least one alternative."""

    source: str
    target: str
    mode: PathMode = PathMode.CURRENT
    requirement: Requirement = NO_REQUIREMENT
    alternatives: int = 1
    disjoint: bool = False


@dataclass(frozen=True, slots=True)
class ServiceList:
    """Services as they stand, and the records around them."""

    statuses: tuple[ServiceStatus, ...] = ()
    slices: tuple[Slice, ...] = ()
    customers: tuple[Customer, ...] = ()


@dataclass(frozen=True, slots=True)
class HistoryQuery:
    """What was: a leaf's series, or a service's statuses. `end` 0 is now, `step` 0 is every change."""

    device: str = ""
    path: str = ""
    service: str = ""
    start: Nanoseconds = 0
    end: Nanoseconds = 0
    step: Nanoseconds = 0


@dataclass(frozen=True, slots=True)
class HistoryPage:
    """A piece of history, in order."""

    samples: tuple[Sample, ...] = ()
    rolled_before: Nanoseconds = 0  # samples before are means of `resolution` each
    resolution: Nanoseconds = 0
    statuses: tuple[ServiceStatus, ...] = ()
    events: tuple[Event, ...] = ()


@dataclass(frozen=True, slots=True)
class WatchQuery:
    """Which events; empty: all, `after` 0: from now on."""

    kinds: tuple[EventKind, ...] = ()
    domain: str = ""
    after: int = 0


@dataclass(frozen=True, slots=True)
class JobQuestion:
    """A question that is answered as a job. `scope` lists domains; empty: all that are concerned."""

    capability: Capability
    scenario: Scenario
    scope: tuple[str, ...] = ()
    requirements: Requirements = field(default_factory=Requirements)
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class QueryQuestion:
    """A question in SPARQL. Empty or 0: as the twin has it. `view`: an agreement, asked as its peer."""

    query: str
    format: str = ""
    max_rows: int = 0
    timeout_s: float = 0.0
    require: Require = Require.BEST_EFFORT
    explain: bool = False
    view: str = ""


@dataclass(frozen=True, slots=True)
class QueryReply:
    """What came of it, in the format asked for; each domain's part, and what it took."""

    form: QueryForm
    media_type: str
    data: bytes
    rows: int = 0
    stopped_by: str = ""
    """The limit that cut it short, in words; empty: it is complete."""
    parts: tuple[QueryPart, ...] = ()
    plan: str = ""
    """How it is answered, a line a step."""
    requests: int = 0
    transferred_bytes: int = 0
    notes: tuple[str, ...] = ()
    """What whoever asked should know of the question: names that nobody knows, rows that nothing orders."""
