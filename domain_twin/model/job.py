"""Questions asked of a twin as jobs, and their reports (3GPP TS 28.561: NDTFunction, NDTJob, NDTReport).

The one core behind every face: command line, gRPC, and the HTTP faces. A report holds no wall time but in
`answered_at`: the same version, scenario, seed and platform give the same report otherwise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated

from pydantic import BeforeValidator

from domain_twin.model.answer import DomainOutcome
from domain_twin.model.network import Finding
from domain_twin.model.scenario import Scenario
from domain_twin.model.values import Nanoseconds, StateKind, Version

__all__ = [
    "Capability", "ElementForecast", "Figure", "FlowFigures", "FlowForecast", "Job", "JobState", "Number",
    "PathPart", "Report", "Requirements", "SweepRow",
]  # fmt: skip


def _number(value: object) -> object:
    return math.nan if value is None else value


Number = Annotated[float, BeforeValidator(_number)]
"""A figure; NaN (null in JSON) where it cannot be said."""


class Capability(StrEnum):
    """What an NDT job is for (3GPP TS 28.561 6.3)."""

    RISKY_ACTIONS_PREDICTION = "RISKY_ACTIONS_PREDICTION"
    EVENTS_IMPACTS_VERIFICATION = "EVENTS_IMPACTS_VERIFICATION"
    NETWORK_ISSUE_INDUCEMENT = "NETWORK_ISSUE_INDUCEMENT"
    NETWORK_EVENTS_VERIFICATION = "NETWORK_EVENTS_VERIFICATION"
    NETWORK_CONFIGURATIONS_VERIFICATION = "NETWORK_CONFIGURATIONS_VERIFICATION"
    AUTOMATION_CONFIGURATION_VERIFICATION = "AUTOMATION_CONFIGURATION_VERIFICATION"
    ML_TRAINING_DATA_GENERATION = "ML_TRAINING_DATA_GENERATION"
    USER_EXPERIENCE_DATA_GENERATION = "USER_EXPERIENCE_DATA_GENERATION"


class JobState(StrEnum):
    """Where a job is (3GPP TS 28.622 4.3.78: ProcessMonitor.status)."""

    NOT_STARTED = "NOT_STARTED"
    RUNNING = "RUNNING"
    CANCELLING = "CANCELLING"
    FINISHED = "FINISHED"
    FAILED = "FAILED"
    PARTIALLY_FAILED = "PARTIALLY_FAILED"
    CANCELLED = "CANCELLED"

    @property
    def ended(self) -> bool:
        """Whether nothing more will come."""
        return self not in (JobState.NOT_STARTED, JobState.RUNNING, JobState.CANCELLING)


@dataclass(frozen=True, slots=True)
class Requirements:
    """What the asker needs of the answer."""

    deadline_s: float = 60.0  # from the moment it is asked
    at_versions: Mapping[str, Version] = field(default_factory=dict)
    """Refused (STALE_VERSION) where a domain of these is at another version."""
    delay_ms: float | None = None  # of each flow that is reported: more is a finding
    loss: float | None = None


@dataclass(frozen=True, slots=True)
class Figure:
    """A predicted figure with its 90 % interval; NaN where it cannot be said."""

    value: Number
    low: Number
    high: Number


@dataclass(frozen=True, slots=True)
class FlowFigures:
    """What a flow gets. Percentiles are of the one-way delay."""

    delay_ms: Figure
    delay_variance_ms2: Figure
    p90_ms: Figure
    p95_ms: Figure
    p99_ms: Figure
    loss: Figure
    throughput_mbps: Figure


@dataclass(frozen=True, slots=True)
class PathPart:
    """One link of a path inside a domain, or one domain's part of a composed one."""

    domain: str
    element: str  # link id, inter-domain link id, or "" for a whole segment
    source: str
    target: str
    delay_ms: Number


@dataclass(frozen=True, slots=True)
class FlowForecast:
    """One flow before and after; None: it has no path, or did not exist."""

    source: str
    target: str
    traffic_class: str
    before: FlowFigures | None
    after: FlowFigures | None
    path_before: tuple[PathPart, ...] = ()
    path_after: tuple[PathPart, ...] = ()
    service: str = ""  # id of the service that it carries


@dataclass(frozen=True, slots=True)
class ElementForecast:
    """One element's utilisation before and after; NaN: not known."""

    element: str
    kind: str
    domain: str
    utilisation_before: Number
    utilisation_after: Number
    loss_before: Number = 0.0
    loss_after: Number = 0.0


@dataclass(frozen=True, slots=True)
class SweepRow:
    """One variant of a sweep, judged by the flows that are reported."""

    name: str
    worst_delay_ms: Number
    worst_flow: str
    worst_loss: Number
    unreachable: int  # flows without a path
    missed: tuple[str, ...] = ()  # services whose objective is missed
    highest_utilisation: Number = 0.0
    busiest: str = ""


@dataclass(frozen=True, slots=True)
class Report:
    """The answer to a job."""

    job: str
    scenario: Scenario  # with the seed that was used
    kind: StateKind
    versions: Mapping[str, Version]  # by domain
    rung: str
    flows: tuple[FlowForecast, ...] = ()
    elements: tuple[ElementForecast, ...] = ()
    rows: tuple[SweepRow, ...] = ()
    findings: tuple[Finding, ...] = ()
    domains: tuple[DomainOutcome, ...] = ()
    assumptions: tuple[str, ...] = ()  # what was not measured, in sentences
    digest: str = ""  # SHA-256 over all but `job`, `answered_at` and itself
    answered_at: Nanoseconds = 0

    @property
    def partial(self) -> bool:
        """Whether some domain did not answer as asked."""
        return any(outcome.outcome != "ok" for outcome in self.domains)


@dataclass(frozen=True, slots=True)
class Job:
    """A question and how far its answer is. `scope` lists domains; empty: all that are concerned."""

    id: str
    capability: Capability
    scope: tuple[str, ...]
    scenario: Scenario
    requirements: Requirements
    state: JobState
    created_at: Nanoseconds
    ended_at: Nanoseconds = 0
    progress: float = 0.0  # 0 to 1
    step: str = ""  # what it is doing now, in words
    problem: str = ""
    owner: str = ""  # SPIFFE identity of who asked; empty: the local operator
    parent: str = ""  # the broker's job, in a domain
    labels: Mapping[str, str] = field(default_factory=dict)
