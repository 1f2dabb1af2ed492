"""Nothing is lost on the wire, and nothing malformed gets past it."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import model_strategies as model
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain_twin.errors import ContractError
from domain_twin.model import Connection, EventKind, Origin, Outcome, PathMode, PointKind, Severity, View
from domain_twin.model.job import JobState
from federation.v1 import fedtwin_pb2 as pb
from federation.wire import convert

TRAVELLERS = {
    "version": (model.versions, pb.Version),
    "path_kpis": (model.path_kpis, pb.PathKpis),
    "point": (model.points, pb.Point),
    "segment": (model.segments, pb.Segment),
    "view_delta": (model.view_deltas, pb.ViewDelta),
    "view": (model.views, pb.ViewDelta),
    "requirement": (model.requirements, pb.Requirement),
    "hop": (model.hops, pb.Hop),
    "composed_path": (model.composed_paths, pb.ComposedPath),
    "domain_outcome": (model.domain_outcomes, pb.DomainOutcome),
    "path_answer": (model.path_answers, pb.PathAnswer),
    "objective": (model.objectives, pb.Objective),
    "service": (model.services, pb.Service),
    "slice": (model.slices, pb.Slice),
    "customer": (model.customers, pb.Customer),
    "budget_share": (model.budget_shares, pb.BudgetShare),
    "service_status": (model.service_statuses, pb.ServiceStatus),
    "domain_status": (model.domain_statuses, pb.DomainStatus),
    "device_status": (model.device_statuses, pb.DeviceStatus),
    "finding": (model.findings, pb.Finding),
    "kpi": (model.kpis, pb.Kpi),
    "element": (model.elements, pb.Element),
    "sample": (model.samples, pb.Sample),
    "event": (model.events, pb.Event),
    "alarm": (model.alarms, pb.Alarm),
    "requirements": (model.requirements_of_jobs, pb.JobRequirements),
    "job": (model.jobs, pb.Job),
}
MADE_OF_OTHERS = {"VersionOf", "SegmentKey", "AlarmStatusChange"}
OF_THE_GRAPH = {  # test_wire_semantic
    "QueryHead", "QueryEnd", "QueryPart", "QueryAnswer", "CardAnswer", "CardCount", "Affected", "Dependency",
}  # fmt: skip


@pytest.mark.parametrize("name", TRAVELLERS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_round_trip_through_bytes_loses_nothing(name: str, data: st.DataObject) -> None:
    strategy, kind = TRAVELLERS[name]
    value = data.draw(strategy)
    sent = getattr(convert, f"encode_{name}")(value).SerializeToString()
    assert getattr(convert, f"decode_{name}")(convert.parse(kind, sent)) == value


def test_every_message_of_the_model_travels() -> None:
    # Arrange: the contract's third part, in its own words
    messages = set(pb.DESCRIPTOR.message_types_by_name)
    session = {
        name
        for name in messages
        if any(part in name for part in ("Ask", "Request", "Response", "Message", "Welcome", "Simulate"))
    }
    other = {
        "Body", "Transfer", "Chunk", "Credit", "Signed", "Hello", "OnBehalfOf", "ViewUpdate", "ViewRejected",
        "EvaluateAnswer", "SegmentAnswer", "DescribeAnswer", "BudgetAnswer", "Answer", "Refusal", "Cancel",
        "JobEnd", "Heartbeat", "Ping", "Reattach", "Goodbye", "AuditHead", "SandboxAnswer",
        "Record", "Subscription", "DeadLetter",  # of partners: federation.partners.wire
        "LearnAnswer", "LearningRun", "LearnedModel", "Forecast",  # federation.wire.learning
    }  # fmt: skip
    # Act
    travels = {kind.DESCRIPTOR.name for _, kind in TRAVELLERS.values()}
    # Assert
    assert messages - session - other - MADE_OF_OTHERS - OF_THE_GRAPH == travels


@settings(max_examples=200, deadline=None)
@given(data=st.binary(max_size=60), kind=st.sampled_from(sorted(TRAVELLERS)))
def test_rubbish_is_a_contract_error_or_a_value(data: bytes, kind: str) -> None:
    with contextlib.suppress(ContractError):  # and nothing else
        getattr(convert, f"decode_{kind}")(convert.parse(TRAVELLERS[kind][1], data))


def kpis(**fields: Any) -> pb.PathKpis:
    return pb.PathKpis(**({"delay_ms": 1.0, "availability": 1.0, "origin": "measured"} | fields))


@pytest.mark.parametrize(
    ("message", "decode", "names"),
    [
        (kpis(delay_ms=math.nan), convert.decode_path_kpis, "PathKpis.delay_ms"),
        (kpis(delay_ms=-1.0), convert.decode_path_kpis, "PathKpis.delay_ms"),
        (kpis(loss=1.5), convert.decode_path_kpis, "PathKpis.loss"),
        (kpis(bandwidth_mbps=-math.inf), convert.decode_path_kpis, "PathKpis.bandwidth_mbps"),
        (pb.Point(domain="ran"), convert.decode_point, "Point.id"),
        (pb.Point(id="ran/a", outbound=kpis(loss=-0.1)), convert.decode_point, "PathKpis.loss"),
        (pb.Segment(source="ran/a"), convert.decode_segment, "Segment.target"),
        (pb.ViewDelta(level="mesh"), convert.decode_view_delta, "ViewDelta.domain"),
        (pb.ViewDelta(domain="ran", level="mesh"), convert.decode_view_delta, "ViewDelta.target"),
        (pb.ViewDelta(domain="ran", level="x-ray"), convert.decode_view_delta, "ViewDelta.level"),
        (
            pb.ViewDelta(domain="ran", level="mesh", source=pb.Version(), target=pb.Version()),
            convert.decode_view,
            "ViewDelta.source",
        ),
        (pb.Hop(domain="ran"), convert.decode_hop, "Hop.kpis"),
        (pb.ServiceStatus(), convert.decode_service_status, "ServiceStatus.service"),
        (pb.PathAnswer(mode="fastest"), convert.decode_path_answer, "PathAnswer.mode"),
        (pb.Requirement(delay_ms=math.nan), convert.decode_requirement, "Requirement.delay_ms"),
        (pb.Sample(value=math.nan), convert.decode_sample, "Sample.value"),
    ],
)
def test_what_cannot_be_is_refused_by_message_and_field(message: Any, decode: Any, names: str) -> None:
    with pytest.raises(ContractError, match=rf"^{names}: "):
        decode(message)


def test_bytes_that_are_no_message_name_the_message() -> None:
    with pytest.raises(ContractError, match="ViewDelta"):
        convert.parse(pb.ViewDelta, b"\xff\xff\xff")


def test_words_of_a_newer_peer_are_read_with_care() -> None:
    assert convert.decode_path_kpis(kpis(origin="dreamt")).origin is Origin.SYNTHETIC
    assert convert.decode_point(pb.Point(id="ran/a", kind="portal")).kind is PointKind.NODE
    assert convert.decode_finding(pb.Finding(severity="fatal")).severity is Severity.WARNING
    outcome = convert.decode_domain_outcome(pb.DomainOutcome(outcome="asleep", reason="at night"))
    assert (outcome.outcome, outcome.reason) == (Outcome.NO_DATA, "asleep: at night")
    device = convert.decode_device_status(pb.DeviceStatus(name="r1", connection="dozing"))
    assert (device.connection, device.problem) == (Connection.STALE, "dozing")
    event = convert.decode_event(pb.Event(kind="weather", text="rain"))
    assert (event.kind, event.text) == (EventKind.CHANGE, "weather: rain")
    assert convert.decode_domain_status(pb.DomainStatus(domain="ran", level="x-ray")).level is None
    job = pb.Job(id="7", capability="RISKY_ACTIONS_PREDICTION", state="PONDERING", problem="at night")
    job.scenario = b'{"changes": [{"kind": "element-down", "element": "a"}]}'
    read = convert.decode_job(job)
    assert (read.state, read.problem) == (JobState.FAILED, "PONDERING: at night")


def test_a_path_request_without_a_mode_asks_for_the_current_path() -> None:
    assert convert.decode_path_mode(pb.FindPathRequest()) is PathMode.CURRENT
    with pytest.raises(ContractError, match=r"FindPathRequest.mode: 'fastest'.*current, best"):
        convert.decode_path_mode(pb.FindPathRequest(mode="fastest"))


@given(model.views)
def test_a_view_travels_as_a_complete_step(view: View) -> None:
    assert not convert.encode_view(view).HasField("source")
