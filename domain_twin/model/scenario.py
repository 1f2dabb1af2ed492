"""The scenario language: what is changed in a candidate of the twin, and what is asked of it.

One scenario is one YAML or JSON document; `Scenario.model_json_schema()` is its published schema. Elements
are named by the ids that the twin shows (`fedtwin show`). Changes apply in this order: `config` to the
devices' configuration before it is mapped, then the rest to the mapped elements, in the order of the list.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "BufferChange", "CapacityChange", "CellLoadChange", "Change", "ConfigChange", "DemandChange",
    "ElementDown", "ElementUp", "FailureSweep", "GridSweep", "MetricChange", "MonteCarloSweep",
    "NewService", "Scenario", "SchedulerChange", "Sweep", "TimeWindow", "WorkersChange",
]  # fmt: skip

_Id = Annotated[str, Field(min_length=1, max_length=512)]
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ElementDown(_Strict):
    """An element fails: link, inter-domain link, node, interface, cell, function, host or risk group."""

    kind: Literal["element-down"]
    element: _Id


class ElementUp(_Strict):
    """An element that is down comes back."""

    kind: Literal["element-up"]
    element: _Id


class CapacityChange(_Strict):
    """A link (or cell) gets another capacity; exactly one of `mbps` and `factor`."""

    kind: Literal["capacity"]
    element: _Id
    mbps: _Positive | None = None
    factor: _Positive | None = None


class MetricChange(_Strict):
    """A link gets another IGP metric."""

    kind: Literal["metric"]
    element: _Id
    value: Annotated[int, Field(ge=1, le=2**32 - 1)]


class BufferChange(_Strict):
    """A link's queue gets another length."""

    kind: Literal["buffer"]
    element: _Id
    packets: Annotated[int, Field(ge=0, le=10_000_000)]


class SchedulerChange(_Strict):
    """A link serves its classes in another order."""

    kind: Literal["scheduler"]
    element: _Id
    discipline: Literal["fifo", "strict-priority", "wfq", "drr"]


class DemandChange(_Strict):
    """Demand grows or shrinks: all of it, of one class, or of one pair. Exactly one of `factor`, `mbps`."""

    kind: Literal["demand"]
    factor: _NotNegative | None = None
    mbps: _NotNegative | None = None  # needs source and target
    source: _Id | None = None
    target: _Id | None = None
    traffic_class: _Id | None = None


class CellLoadChange(_Strict):
    """The traffic that enters at a cell changes."""

    kind: Literal["cell-load"]
    element: _Id
    factor: _NotNegative


class WorkersChange(_Strict):
    """A network function or host gets another number of workers; exactly one of `count` and `delta`."""

    kind: Literal["workers"]
    element: _Id
    count: Annotated[int, Field(ge=0, le=100_000)] | None = None
    delta: Annotated[int, Field(ge=-100_000, le=100_000)] | None = None


class NewService(_Strict):
    """A service or slice is added, with its traffic and what it is promised."""

    kind: Literal["service"]
    name: _Id
    source: _Id
    target: _Id
    mbps: _Positive
    packet_octets: Annotated[float, Field(ge=64, le=9216)] = 1000.0
    arrivals: Literal["poisson", "on-off", "cbr-on-off", "cbr", "elastic"] = "poisson"
    on_s: _NotNegative = 0.3
    off_s: _NotNegative = 0.3
    priority: Annotated[int, Field(ge=0, le=7)] = 0
    delay_ms: _Positive | None = None
    loss: Annotated[float, Field(ge=0, le=1)] | None = None


class ConfigChange(_Strict):
    """An edit of a device's configuration, before mapping: a leaf's new value, or a deleted node."""

    kind: Literal["config"]
    device: _Id
    path: _Id
    value: str | int | float | bool | None = None
    delete: bool = False


Change = Annotated[
    ElementDown
    | ElementUp
    | CapacityChange
    | MetricChange
    | BufferChange
    | SchedulerChange
    | DemandChange
    | CellLoadChange
    | WorkersChange
    | NewService
    | ConfigChange,
    Field(discriminator="kind"),
]


class FailureSweep(_Strict):
    """One variant for each failure: of every link, node or shared-risk group, or of those named."""

    kind: Literal["failures"]
    of: Literal["links", "nodes", "risk-groups"] = "links"
    elements: tuple[_Id, ...] = ()
    simultaneous: Annotated[int, Field(ge=1, le=3)] = 1


class GridSweep(_Strict):
    """One variant for each combination of demand factors and changes that are made or not."""

    kind: Literal["grid"]
    demand: tuple[_NotNegative, ...] = (1.0,)
    options: tuple[tuple[Change, ...], ...] = ()


class MonteCarloSweep(_Strict):
    """Variants drawn at random: failures by probability, demand log-normal around what is measured."""

    kind: Literal["monte-carlo"]
    draws: Annotated[int, Field(ge=1, le=100_000)]
    link_failure: Annotated[float, Field(ge=0, le=1)] = 0.0
    demand_sigma: Annotated[float, Field(ge=0, le=2)] = 0.0


Sweep = Annotated[FailureSweep | GridSweep | MonteCarloSweep, Field(discriminator="kind")]


class TimeWindow(_Strict):
    """Where demand is read from: the history between two times (RFC 3339), instead of now."""

    start: str
    end: str


class Scenario(_Strict):
    """A question: what if these changes were made?"""

    name: Annotated[str, Field(max_length=200)] = ""
    description: Annotated[str, Field(max_length=2000)] = ""
    at: str = (
        "live"  # "live", a time (RFC 3339: a snapshot), or epoch:sequence (the live state, if it is that)
    )
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None  # None: one is drawn and reported
    window: TimeWindow | None = None
    changes: tuple[Change, ...] = ()
    sweep: Sweep | None = None
    rung: Literal["capacity", "tables", "residual", "packets"] = "tables"
    flows: tuple[tuple[_Id, _Id], ...] = ()  # source, target; empty: services, and the flows that change most
