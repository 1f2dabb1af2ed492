"""Hypothesis strategies for everything of the model that travels."""

from __future__ import annotations

from hypothesis import strategies as st

from domain_twin.model import (
    Alarm,
    AlarmKey,
    BudgetShare,
    ComposedPath,
    Connection,
    Customer,
    DeviceStatus,
    DomainOutcome,
    DomainStatus,
    Element,
    Event,
    EventKind,
    Finding,
    Hop,
    Kpi,
    Level,
    Objective,
    OperatorState,
    Origin,
    Outcome,
    PathAnswer,
    PathKpis,
    PathMode,
    PerceivedSeverity,
    Point,
    PointKind,
    Requirement,
    Sample,
    Segment,
    Service,
    ServiceStatus,
    Severity,
    Slice,
    StatusChange,
    Version,
    View,
    ViewDelta,
)
from domain_twin.model.job import Capability, Job, JobState, Requirements
from domain_twin.model.scenario import CapacityChange, ElementDown, FailureSweep, Scenario

texts = st.text(max_size=8)
names = st.text(min_size=1, max_size=8)
times = st.integers(0, 2**63 - 1)
counts = st.integers(0, 2**32 - 1)
large = st.integers(0, 2**64 - 1)
numbers = st.floats(allow_nan=False)
positive = st.floats(min_value=0.0, allow_nan=False).map(abs)  # abs: -0.0 equals 0.0 and is not the same
ratios = st.floats(0.0, 1.0).map(abs)
bounds = st.none() | positive


def few(strategy: st.SearchStrategy, size: int = 3) -> st.SearchStrategy:
    return st.lists(strategy, max_size=size).map(tuple)


versions = st.builds(Version, epoch=texts, sequence=large, observed_at=times)
path_kpis = st.builds(
    PathKpis,
    delay_ms=positive,
    delay_variance_ms2=positive,
    loss=ratios,
    bandwidth_mbps=positive,
    metric=large,
    availability=ratios,
    delay_std_error_ms=positive,
    origin=st.sampled_from(Origin),
    shared_risks=st.frozensets(texts, max_size=3),
)
points = st.builds(
    Point,
    id=names,
    domain=texts,
    kind=st.sampled_from(PointKind),
    role=texts,
    up=st.booleans(),
    link_id=texts,
    peer_domain=texts,
    capacity_mbps=positive,
    metric=counts,
    outbound=st.none() | path_kpis,
    stale=st.booleans(),
)
segments = st.builds(
    Segment,
    source=names,
    target=names,
    current=st.none() | path_kpis,
    options=few(path_kpis),
    truncated=st.booleans(),
    stale=st.booleans(),
)
view_deltas = st.builds(
    ViewDelta,
    domain=names,
    agreement=texts,
    level=st.sampled_from(Level),
    source=st.none() | versions,
    target=versions,
    points=few(points),
    segments=few(segments),
    gone_points=few(texts),
    gone_segments=few(st.tuples(texts, texts)),
    hidden_nodes=counts,
    hidden_links=counts,
    expires_at=counts,
)
views = st.builds(
    View,
    domain=names,
    agreement=texts,
    level=st.sampled_from(Level),
    version=versions,
    points=few(points).map(lambda items: {p.id: p for p in items}),
    segments=few(segments).map(lambda items: {(s.source, s.target): s for s in items}),
    hidden_nodes=counts,
    hidden_links=counts,
    expires_at=counts,
)
requirements = st.builds(Requirement, delay_ms=bounds, bandwidth_mbps=bounds, loss=bounds)
hops = st.builds(
    Hop, domain=texts, source=texts, target=texts, kpis=path_kpis, link_id=texts, stale=st.booleans()
)
composed_paths = st.builds(ComposedPath, hops=few(hops), total=path_kpis)
domain_outcomes = st.builds(
    DomainOutcome,
    domain=texts,
    outcome=st.sampled_from(Outcome),
    version=st.none() | versions,
    reason=texts,
)
path_answers = st.builds(
    PathAnswer,
    source=texts,
    target=texts,
    mode=st.sampled_from(PathMode),
    requirement=requirements,
    paths=few(composed_paths, 2),
    domains=few(domain_outcomes),
    answered_at=times,
    inner_approximation=st.booleans(),
)
objectives = st.builds(Objective, delay_ms=bounds, loss=bounds, availability=bounds, bandwidth_mbps=bounds)
services = st.builds(
    Service,
    id=names,
    name=texts,
    source=texts,
    target=texts,
    objective=objectives,
    customer=texts,
    slice=texts,
)
slices = st.builds(Slice, id=names, name=texts, snssai=texts, customer=texts, elements=few(texts))
customers = st.builds(Customer, id=names, name=texts)
budget_shares = st.builds(
    BudgetShare, domain=texts, share_ms=numbers, used_ms=numbers, outcome=st.sampled_from(Outcome)
)
service_statuses = st.builds(
    ServiceStatus,
    service=services,
    path=st.none() | composed_paths,
    budget=few(budget_shares),
    domains=few(domain_outcomes),
    met=st.none() | st.booleans(),
    at=times,
    cause=texts,
)
domain_statuses = st.builds(
    DomainStatus,
    domain=names,
    operator=texts,
    connected=st.booleans(),
    level=st.none() | st.sampled_from(Level),
    version=st.none() | versions,
    received_at=times,
    points=counts,
    segments=counts,
    hidden_nodes=counts,
    hidden_links=counts,
    peer=texts,
    problem=texts,
)
device_statuses = st.builds(
    DeviceStatus,
    name=names,
    protocol=texts,
    connection=st.sampled_from(Connection),
    address=texts,
    received_at=times,
    leaves=large,
    updates=large,
    quarantined=large,
    reconnects=large,
    problem=texts,
)
findings = st.builds(
    Finding,
    code=texts,
    severity=st.sampled_from(Severity),
    domain=texts,
    element=texts,
    message=texts,
    remedy=texts,
    since=times,
)
kpis = st.builds(
    Kpi,
    name=names,
    value=numbers,
    unit=texts,
    std_error=positive,
    origin=st.sampled_from(Origin),
    observed_at=times,
    received_at=times,
)
elements = st.builds(
    Element,
    id=names,
    kind=texts,
    domain=texts,
    name=texts,
    up=st.booleans(),
    stale=st.booleans(),
    attributes=st.dictionaries(texts, texts, max_size=3),
    kpis=few(kpis),
)
samples = st.builds(Sample, at=times, value=numbers, origin=st.sampled_from(Origin))
alarms = st.builds(
    Alarm,
    key=st.builds(AlarmKey, texts, texts, names, names, texts),
    source=texts,
    severity=st.sampled_from(PerceivedSeverity),
    text=texts,
    is_cleared=st.booleans(),
    created_at=times,
    raised_at=times,
    changed_at=times,
    cleared_at=times,
    element=texts,
    remedy=texts,
    occurrences=counts,
    stale=st.booleans(),
    operator_state=st.sampled_from(OperatorState),
    operator=texts,
    note=texts,
    changes=few(st.builds(StatusChange, times, st.none() | st.sampled_from(PerceivedSeverity), texts)),
)
events = st.builds(
    Event,
    id=large,
    at=times,
    kind=st.sampled_from(EventKind),
    domain=texts,
    text=texts,
    domain_status=st.none() | domain_statuses,
    service_status=st.none() | service_statuses,
    finding=st.none() | findings,
    device_status=st.none() | device_statuses,
    alarm=st.none() | alarms,
    observed_at=times,
)
requirements_of_jobs = st.builds(
    Requirements,
    deadline_s=st.floats(0.001, 1e6),
    at_versions=st.dictionaries(names, versions, max_size=3),
    delay_ms=bounds,
    loss=st.none() | ratios,
)
changes = st.builds(ElementDown, element=names) | st.builds(
    CapacityChange, element=names, factor=st.floats(0.01, 100.0)
)
scenarios = st.builds(
    Scenario,
    name=texts,
    seed=st.none() | st.integers(0, 2**63 - 1),
    changes=st.tuples(changes),
    sweep=st.none() | st.builds(FailureSweep),
)
jobs = st.builds(
    Job,
    id=names,
    capability=st.sampled_from(Capability),
    scope=few(names),
    scenario=scenarios,
    requirements=requirements_of_jobs,
    state=st.sampled_from(JobState),
    created_at=times,
    ended_at=times,
    progress=ratios,
    step=texts,
    problem=texts,
    owner=texts,
    parent=texts,
    labels=st.dictionaries(names, texts, max_size=3),
)
