"""Questions to the graph and their answers travel whole; what is malformed is refused."""

from __future__ import annotations

import model_strategies as model
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain_twin.errors import ContractError
from domain_twin.model import Outcome
from domain_twin.model.query import (
    Affected,
    Dependency,
    GraphCheck,
    Impact,
    QueryForm,
    QueryPart,
    Require,
)
from federation.v1 import fedtwin_pb2 as pb
from federation.wire import semantic
from federation.wire.questions import QueryQuestion, QueryReply

parts = st.builds(
    QueryPart,
    domain=model.names,
    outcome=st.sampled_from(Outcome),
    reason=model.texts,
    version=st.none() | model.versions,
    requests=model.counts,
    rows=model.large,
)
some_parts = st.lists(parts, max_size=3).map(tuple)
dependencies = st.builds(
    Dependency, subject=model.names, relation=model.names, object=model.names, domain=model.texts
)
affected = st.builds(
    Affected,
    kind=model.names,
    id=model.names,
    name=model.texts,
    domain=model.texts,
    evidence=st.lists(dependencies, max_size=3).map(tuple),
)
impacts = st.builds(
    Impact, element=model.names, affected=st.lists(affected, max_size=3).map(tuple), parts=some_parts
)
checks = st.builds(
    GraphCheck,
    findings=st.lists(model.findings, max_size=3).map(tuple),
    shapes=model.counts,
    parts=some_parts,
)
questions = st.builds(
    QueryQuestion,
    query=st.text(min_size=1).filter(str.strip),
    format=model.texts,
    max_rows=model.counts,
    timeout_s=st.integers(0, 2**32 - 1).map(lambda ms: ms / 1000),
    require=st.sampled_from(Require),
    explain=st.booleans(),
    view=model.texts,
)
replies = st.builds(
    QueryReply,
    form=st.sampled_from(QueryForm),
    media_type=model.texts,
    data=st.binary(max_size=8).map(lambda piece: piece * 100_000),
    rows=model.large,
    stopped_by=model.texts,
    parts=some_parts,
    plan=model.texts,
    requests=model.large,
    transferred_bytes=model.large,
    notes=st.lists(model.texts, max_size=3).map(tuple),
)


@settings(max_examples=40)
@given(impact=impacts, check=checks, question=questions)
def test_round_trip_through_bytes_loses_nothing(
    impact: Impact, check: GraphCheck, question: QueryQuestion
) -> None:
    sent = semantic.encode_impact(impact).SerializeToString()
    assert semantic.decode_impact(pb.GetImpactResponse.FromString(sent)) == impact
    sent = semantic.encode_graph_check(check).SerializeToString()
    assert semantic.decode_graph_check(pb.CheckGraphResponse.FromString(sent)) == check
    sent = semantic.encode_query_question(question).SerializeToString()
    assert semantic.decode_query_question(pb.QueryRequest.FromString(sent)) == question


@settings(max_examples=25)
@given(reply=replies)
def test_a_reply_comes_whole_out_of_its_pieces(reply: QueryReply) -> None:
    sent = [piece.SerializeToString() for piece in semantic.encode_query_reply(reply)]

    first, *pieces, last = (pb.QueryResponse.FromString(piece) for piece in sent)

    assert all(0 < len(piece.data) <= semantic.QUERY_PIECE for piece in pieces)
    data = b"".join(piece.data for piece in pieces)
    assert semantic.decode_query_reply(first.head, data, last.end) == reply


@pytest.mark.parametrize(
    ("message", "why"),
    [
        (pb.QueryRequest(query=" "), "empty"),
        (pb.QueryRequest(query="ASK {}", require="most"), "accepted are all, best-effort"),
    ],
)
def test_a_malformed_question_is_refused(message: pb.QueryRequest, why: str) -> None:
    with pytest.raises(ContractError, match=why):
        semantic.decode_query_question(message)


def test_a_malformed_answer_is_refused() -> None:
    with pytest.raises(ContractError, match="known are bindings"):
        semantic.decode_query_reply(pb.QueryHead(form="table"), b"", pb.QueryEnd())
    with pytest.raises(ContractError):
        semantic.decode_impact(pb.GetImpactResponse(element="x", parts=[pb.QueryPart(outcome="ok")]))
