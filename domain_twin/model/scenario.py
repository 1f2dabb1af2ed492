"""The scenario language: what is changed in a candidate of the twin, and what is asked of it.

One scenario is one YAML or JSON document; `docs/scenario.schema.json` is its published schema, and
`domain_twin.simulation.questions.scenario_file` reads one. Elements are named by the ids that the twin shows
(`fedtwin elements`). `config` changes apply to the devices' configuration before it is mapped, the others to
the mapped elements. Owns all checks that need no twin; whether an element exists is the twin's to say.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from domain_twin.model.moments import check_moment

__all__ = [
    "MAX_VARIANTS", "BufferChange", "CapacityChange", "CellLoadChange", "Change", "ConfigChange",
    "DemandChange", "ElementDown", "ElementUp", "FailureSweep", "GridSweep", "MetricChange",
    "MonteCarloSweep", "NewService", "Scenario", "SchedulerChange", "Sweep", "TimeWindow", "WorkersChange",
]  # fmt: skip

MAX_VARIANTS = 100_000
"""Variants of one sweep."""

_Id = Annotated[str, Field(min_length=1, max_length=512)]
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Finite = Annotated[float, Field(allow_inf_nan=False)]
_Leaf = str | int | _Finite | bool


def _kind_is_required(schema: dict[str, Any]) -> None:
    """Have the published schema ask for the word that tells changes apart; Python need not repeat it."""
    if "const" in schema.get("properties", {}).get("kind", {}):
        schema["required"] = ["kind", *schema.get("required", ())]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, json_schema_extra=_kind_is_required)

    def _exactly_one(self, *names: str) -> None:
        given = [name for name in names if getattr(self, name) is not None]
        if len(given) != 1:
            found = f"both {' and '.join(given)} are given" if given else "none is given"
            raise ValueError(f"exactly one of {' and '.join(names)} is needed, and {found}")


class ElementDown(_Strict):
    """An element fails: link, inter-domain link, node, interface, cell, function, host or risk group."""

    kind: Literal["element-down"] = "element-down"
    element: _Id = Field(description="id of the element; of a link, its other direction goes down with it")


class ElementUp(_Strict):
    """An element that is down comes back."""

    kind: Literal["element-up"] = "element-up"
    element: _Id = Field(description="id of the element")


class CapacityChange(_Strict):
    """A link (or cell) gets another capacity; exactly one of `mbps` and `factor`."""

    kind: Literal["capacity"] = "capacity"
    element: _Id = Field(description="id of the link, in one direction, or of the cell")
    mbps: _Positive | None = Field(None, description="its new capacity, Mbit/s")
    factor: _Positive | None = Field(None, description="times what it has")

    @model_validator(mode="after")
    def _one(self) -> Self:
        self._exactly_one("mbps", "factor")
        return self


class MetricChange(_Strict):
    """A link gets another IGP metric."""

    kind: Literal["metric"] = "metric"
    element: _Id = Field(description="id of the link, in one direction")
    value: Annotated[int, Field(ge=1, le=2**32 - 1)] = Field(description="its new metric")


class BufferChange(_Strict):
    """A link's queue gets another length."""

    kind: Literal["buffer"] = "buffer"
    element: _Id = Field(description="id of the link, in one direction")
    packets: Annotated[int, Field(ge=0, le=10_000_000)] = Field(
        description="packets that may wait beside the one being sent"
    )


class SchedulerChange(_Strict):
    """A link serves its classes in another order."""

    kind: Literal["scheduler"] = "scheduler"
    element: _Id = Field(description="id of the link, in one direction")
    discipline: Literal["fifo", "strict-priority", "wfq", "drr"] = Field(description="the new order")


class DemandChange(_Strict):
    """Demand grows or shrinks: all of it, of one class, or of one pair. Exactly one of `factor`, `mbps`."""

    kind: Literal["demand"] = "demand"
    factor: _NotNegative | None = Field(None, description="times what is offered")
    mbps: _NotNegative | None = Field(None, description="new offered rate of the pair, Mbit/s")
    source: _Id | None = Field(None, description="id of the pair's source")
    target: _Id | None = Field(None, description="id of the pair's target")
    traffic_class: _Id | None = Field(None, description="name of a traffic class; left out: all")

    @model_validator(mode="after")
    def _sound(self) -> Self:
        self._exactly_one("factor", "mbps")
        if (self.source is None) != (self.target is None):
            raise ValueError("a pair needs source and target; leave out both for all pairs")
        if self.mbps is not None and self.source is None:
            raise ValueError("mbps is the rate of one pair: add source and target, or write a factor")
        _distinct(self.source, self.target)
        return self


class CellLoadChange(_Strict):
    """The traffic that enters at a cell changes."""

    kind: Literal["cell-load"] = "cell-load"
    element: _Id = Field(description="id of the cell")
    factor: _NotNegative = Field(description="times what enters there")


class WorkersChange(_Strict):
    """A network function or host gets another number of workers; exactly one of `count` and `delta`."""

    kind: Literal["workers"] = "workers"
    element: _Id = Field(description="id of the network function or host")
    count: Annotated[int, Field(ge=0, le=100_000)] | None = Field(
        None, description="workers that it has then; 0 is the same as down"
    )
    delta: Annotated[int, Field(ge=-100_000, le=100_000)] | None = Field(
        None, description="workers more, or (negative) fewer"
    )

    @model_validator(mode="after")
    def _one(self) -> Self:
        self._exactly_one("count", "delta")
        return self


class NewService(_Strict):
    """A service or slice is added, with its traffic and what it is promised."""

    kind: Literal["service"] = "service"
    name: _Id = Field(description="its name, which no traffic class has yet")
    source: _Id = Field(description="id of the element where its traffic enters")
    target: _Id = Field(description="id of the element where it ends")
    mbps: _Positive = Field(description="offered rate, Mbit/s")
    packet_octets: Annotated[float, Field(ge=64, le=9216)] = Field(1000.0, description="packet size, octets")
    arrivals: Literal["poisson", "on-off", "cbr-on-off", "cbr", "elastic"] = Field(
        "poisson", description="how its packets come"
    )
    on_s: _NotNegative = Field(0.3, description="mean length of an on period, seconds")
    off_s: _NotNegative = Field(0.3, description="mean length of an off period, seconds")
    priority: Annotated[int, Field(ge=0, le=7)] = Field(0, description="0 is served first")
    delay_ms: _Positive | None = Field(None, description="promised one-way delay, ms")
    loss: Annotated[float, Field(ge=0, le=1)] | None = Field(None, description="promised loss ratio")

    @model_validator(mode="after")
    def _sound(self) -> Self:
        _distinct(self.source, self.target)
        if self.arrivals in ("on-off", "cbr-on-off") and not self.on_s > 0:
            raise ValueError(f"arrivals {self.arrivals!r} need on_s above 0")
        return self


class ConfigChange(_Strict):
    """An edit of a device's configuration, before mapping: a leaf's new value, or a deleted node."""

    kind: Literal["config"] = "config"
    device: _Id = Field(description="name of the device")
    path: Annotated[str, Field(min_length=1, max_length=4096)] = Field(
        description="instance identifier (RFC 7951 6.11) of the leaf, or of the subtree that is deleted"
    )
    value: _Leaf | tuple[_Leaf, ...] | None = Field(
        None, description="the leaf's new value as RFC 7951 JSON has it; of a leaf-list, all its values"
    )
    delete: bool = Field(False, description="delete the node, and what is below it")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if self.delete == (self.value is not None):
            found = "both are given" if self.delete else "none is given"
            raise ValueError(f"exactly one of value and delete is needed, and {found}")
        return self


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

    kind: Literal["failures"] = "failures"
    of: Literal["links", "nodes", "risk-groups"] = Field("links", description="what fails, one by one")
    elements: tuple[_Id, ...] = Field((), description="ids of those that fail instead")
    simultaneous: Annotated[int, Field(ge=1, le=3)] = Field(1, description="so many fail together")

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.elements and self.of != "links":
            raise ValueError("either `of` says what fails or `elements` names it; leave one out")
        if 0 < len(self.elements) < self.simultaneous:
            raise ValueError(
                f"{self.simultaneous} cannot fail together where {len(self.elements)} are named; name more"
            )
        if twice := _first_twice(self.elements):
            raise ValueError(f"elements names {twice!r} twice; name it once")
        return self


class GridSweep(_Strict):
    """One variant for each combination of demand factors and changes that are made or not."""

    kind: Literal["grid"] = "grid"
    demand: tuple[_NotNegative, ...] = Field((1.0,), description="factors of all demand", min_length=1)
    options: tuple[tuple[Change, ...], ...] = Field(
        (), description="sets of changes, each made in half of the variants"
    )

    @model_validator(mode="after")
    def _sound(self) -> Self:
        count = len(self.demand) * 2 ** min(len(self.options), 40)
        if count > MAX_VARIANTS:
            raise ValueError(f"this grid has {count} variants, {MAX_VARIANTS} at most; leave options out")
        if count < 2:
            raise ValueError("a grid of one variant; add demand factors or options")
        for number, option in enumerate(self.options):
            if not option:
                raise ValueError(f"options[{number}] holds no change; leave it out or add one")
            for change in option:
                if isinstance(change, ConfigChange | NewService):
                    raise ValueError(
                        f"options[{number}]: a {change.kind} change cannot be made or not within a grid;"
                        " put it under the scenario's changes, and ask once more without it"
                    )
            _contradictions([(f"options[{number}][{place}]", change) for place, change in enumerate(option)])
        return self


class MonteCarloSweep(_Strict):
    """Variants drawn at random: failures by probability, demand log-normal around what is measured."""

    kind: Literal["monte-carlo"] = "monte-carlo"
    draws: Annotated[int, Field(ge=1, le=MAX_VARIANTS)] = Field(description="how many variants")
    link_failure: Annotated[float, Field(ge=0, le=1)] = Field(
        0.0, description="probability that a link is down, both directions together"
    )
    demand_sigma: Annotated[float, Field(ge=0, le=2)] = Field(
        0.0, description="standard deviation of the logarithm of each pair's demand factor, whose mean is 1"
    )

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if not self.link_failure and not self.demand_sigma:
            raise ValueError("nothing is drawn; give link_failure or demand_sigma a value above 0")
        return self


Sweep = Annotated[FailureSweep | GridSweep | MonteCarloSweep, Field(discriminator="kind")]


class TimeWindow(_Strict):
    """Where demand is read from: the history between two times (RFC 3339), instead of now."""

    start: str = Field(description="RFC 3339, such as 2026-03-01T08:00:00Z")
    end: str = Field(description="RFC 3339, later than start")

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if _time(self.start) >= _time(self.end):
            raise ValueError(f"start {self.start} is not before end {self.end}")
        return self


class Scenario(_Strict):
    """A question: what if these changes were made?"""

    name: Annotated[str, Field(max_length=200)] = Field("", description="what to call it in reports")
    description: Annotated[str, Field(max_length=2000)] = Field("", description="why it is asked")
    at: Annotated[str, Field(min_length=1, max_length=200)] = Field(
        "live",
        description="the state that is changed: live; a time (RFC 3339): a snapshot; or epoch:sequence: the"
        " live state, if it is that one still",
    )
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = Field(
        None, description="of all randomness; left out: one is drawn, and the report says it"
    )
    window: TimeWindow | None = Field(None, description="measure demand over this time instead of now")
    when: Annotated[str, Field(min_length=1, max_length=64)] | None = Field(
        None,
        description="the candidate's demand is what is expected at this time to come: +15m, tomorrow 18:00,"
        " or RFC 3339",
    )
    changes: Annotated[tuple[Change, ...], Field(max_length=1000)] = Field(
        (), description="what is changed; together with a sweep: in every variant"
    )
    sweep: Sweep | None = Field(None, description="ask many variants at once")
    rung: Literal["capacity", "tables", "residual", "packets"] = Field(
        "tables", description="fidelity of the answer, cheapest first"
    )
    residual: bool | None = Field(
        None,
        description="false: without the correction of links' delays that domains learned together, which is"
        " used at the rung tables wherever one is in service",
    )
    flows: Annotated[tuple[tuple[_Id, _Id], ...], Field(max_length=1000)] = Field(
        (), description="[source, target] to report; left out: services, and the flows that change most"
    )

    @property
    def empty(self) -> bool:
        """Whether nothing is asked: neither changes, nor a time to come, nor a sweep."""
        return not self.changes and self.sweep is None and self.when is None

    @field_validator("at")
    @classmethod
    def _known_state(cls, value: str) -> str:
        epoch, colon, sequence = value.rpartition(":")
        if value == "live" or (colon and epoch and sequence.isdecimal() and "T" not in value):
            return value
        try:
            _time(value)
        except ValueError:
            raise ValueError(
                f"{value!r} names no state; accepted are live, a time such as 2026-03-01T08:00:00Z, and"
                " epoch:sequence as answers show it"
            ) from None
        return value

    @field_validator("when")
    @classmethod
    def _time_to_come(cls, value: str | None) -> str | None:
        if value is not None:
            check_moment(value)
        return value

    @model_validator(mode="after")
    def _sound(self) -> Self:
        if self.when is not None and (self.window is not None or "T" in self.at):
            raise ValueError(
                f"when is a time to come and {'window' if self.window else 'at'} one of the past; keep one"
            )
        if self.when is not None and self.sweep is not None:
            raise ValueError("when: a sweep has the demand of one time; ask its worst variant with `when`")
        _contradictions([(f"changes[{place}]", change) for place, change in enumerate(self.changes)])
        if self.sweep is not None and self.rung == "packets":
            raise ValueError(
                "rung: a sweep is not simulated packet by packet; sweep at the rung tables, then ask for its"
                " worst variant at packets"
            )
        if isinstance(self.sweep, GridSweep):
            for number, option in enumerate(self.sweep.options):
                _contradictions(
                    [(f"changes[{place}]", change) for place, change in enumerate(self.changes)]
                    + [(f"sweep.options[{number}][{place}]", change) for place, change in enumerate(option)]
                )
        for number, (source, target) in enumerate(self.flows):
            if source == target:
                raise ValueError(f"flows[{number}]: source and target are both {source!r}; name two elements")
            if (first := self.flows.index((source, target))) != number:
                raise ValueError(f"flows[{first}] and flows[{number}] are the same pair; name it once")
        return self


def _distinct(source: str | None, target: str | None) -> None:
    if source is not None and source == target:
        raise ValueError(f"source and target are both {source!r}; name two elements")


def _first_twice(names: tuple[str, ...]) -> str:
    return next((name for place, name in enumerate(names) if name in names[:place]), "")


def _time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is no time; write it as 2026-03-01T08:00:00Z (RFC 3339)") from None
    if time.tzinfo is None:
        raise ValueError(f"{text!r} names no time zone; write it as {text}Z or with an offset (RFC 3339)")
    return time


def _contradictions(changes: list[tuple[str, Change]]) -> None:
    """Raise ValueError naming the places of two changes that cannot both be made."""
    seen: dict[tuple[str, ...], tuple[str, Change]] = {}
    for place, change in changes:
        for subject in _subjects(change):
            if subject in seen:
                first, earlier = seen[subject]
                raise ValueError(f"{first} and {place} contradict each other: {_why(earlier, change)}")
            seen[subject] = (place, change)
    downs = {c.element: place for place, c in changes if isinstance(c, ElementDown)}
    for place, change in changes:
        element = getattr(change, "element", None)
        if element in downs and not isinstance(change, ElementDown | ElementUp):
            raise ValueError(
                f"{downs[element]} and {place} contradict each other: {element!r} goes down, and its"
                f" {change.kind} changes; keep one of the two"
            )
    edits = [(place, change) for place, change in changes if isinstance(change, ConfigChange)]
    for place, gone in edits:
        for other, edit in edits:
            below = edit.path.startswith((f"{gone.path}/", f"{gone.path}["))
            if gone.delete and edit.device == gone.device and below:
                raise ValueError(
                    f"{place} and {other} contradict each other: {edit.path!r} lies in what {gone.path!r}"
                    " deletes; keep one of the two"
                )


def _subjects(change: Change) -> Iterator[tuple[str, ...]]:
    """What a change decides; two changes that decide the same contradict each other."""
    if isinstance(change, ElementDown | ElementUp):
        yield "state", change.element
    elif isinstance(change, DemandChange):
        yield "demand", change.source or "", change.target or "", change.traffic_class or ""
    elif isinstance(change, NewService):
        yield "service", change.name
    elif isinstance(change, ConfigChange):
        yield "config", change.device, change.path
    else:
        yield change.kind, change.element


def _why(earlier: Change, later: Change) -> str:
    if isinstance(earlier, ElementDown | ElementUp) and earlier.kind != later.kind:
        return f"one takes {earlier.element!r} down and one brings it up; keep one of the two"
    if isinstance(earlier, DemandChange):
        pair = f"from {earlier.source!r} to {earlier.target!r}" if earlier.source else "of all pairs"
        return f"both set the demand {pair}; keep one of the two"
    if isinstance(earlier, NewService):
        return f"both add a service called {earlier.name!r}; rename one"
    if isinstance(earlier, ConfigChange):
        return f"both edit {earlier.path!r} of {earlier.device!r}; keep one of the two"
    return f"both change the {earlier.kind} of {earlier.element!r}; keep one of the two"
