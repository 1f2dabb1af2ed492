"""The semantic layer on the wire: queries, impact, findings of shapes, each domain's part."""

from __future__ import annotations

from collections.abc import Iterator

from domain_twin.errors import ContractError
from domain_twin.model.query import Affected, Dependency, GraphCheck, Impact, QueryForm, QueryPart, Require
from federation.v1 import fedtwin_pb2 as pb
from federation.wire.answers import decode_outcome
from federation.wire.fields import named
from federation.wire.questions import QueryQuestion, QueryReply
from federation.wire.statuses import decode_finding, encode_finding
from federation.wire.views import decode_version, encode_version

__all__ = [
    "decode_graph_check",
    "decode_impact",
    "decode_query_part",
    "decode_query_question",
    "decode_query_reply",
    "decode_require",
    "encode_graph_check",
    "encode_impact",
    "encode_query_part",
    "encode_query_question",
    "encode_query_reply",
]

QUERY_PIECE = 256 << 10


def decode_require(word: str) -> Require:
    """What an answer is worth when a domain is missing; empty: best-effort. Raises ContractError."""
    if not word:
        return Require.BEST_EFFORT
    try:
        return Require(word)
    except ValueError:
        raise ContractError(f"require: {word!r}; accepted are {', '.join(Require)}") from None


def encode_query_part(part: QueryPart) -> pb.QueryPart:
    """One domain's part in an answer, as a message."""
    return pb.QueryPart(
        domain=part.domain,
        outcome=part.outcome,
        reason=part.reason,
        version=None if part.version is None else encode_version(part.version),
        requests=part.requests,
        rows=part.rows,
    )


def decode_query_part(message: pb.QueryPart) -> QueryPart:
    """One domain's part in an answer. Raises ContractError."""
    outcome, reason = decode_outcome(message.outcome, message.reason)
    return QueryPart(
        domain=named(message, "domain"),
        outcome=outcome,
        reason=reason,
        version=decode_version(message.version) if message.HasField("version") else None,
        requests=message.requests,
        rows=message.rows,
    )


def encode_impact(impact: Impact) -> pb.GetImpactResponse:
    """All that depends on something, as a message."""
    return pb.GetImpactResponse(
        element=impact.element,
        affected=[
            pb.Affected(
                kind=each.kind,
                id=each.id,
                name=each.name,
                domain=each.domain,
                evidence=[
                    pb.Dependency(
                        subject=step.subject, relation=step.relation, object=step.object, domain=step.domain
                    )
                    for step in each.evidence
                ],
            )
            for each in impact.affected
        ],
        parts=[encode_query_part(part) for part in impact.parts],
    )


def decode_impact(message: pb.GetImpactResponse) -> Impact:
    """All that depends on something. Raises ContractError."""
    return Impact(
        element=named(message, "element"),
        affected=tuple(
            Affected(
                kind=each.kind,
                id=named(each, "id"),
                name=each.name,
                domain=each.domain,
                evidence=tuple(
                    Dependency(step.subject, step.relation, step.object, step.domain)
                    for step in each.evidence
                ),
            )
            for each in message.affected
        ),
        parts=tuple(decode_query_part(part) for part in message.parts),
    )


def encode_graph_check(check: GraphCheck) -> pb.CheckGraphResponse:
    """What shapes and rules found, as a message."""
    return pb.CheckGraphResponse(
        findings=[encode_finding(finding) for finding in check.findings],
        shapes=check.shapes,
        parts=[encode_query_part(part) for part in check.parts],
    )


def decode_graph_check(message: pb.CheckGraphResponse) -> GraphCheck:
    """What shapes and rules found. Raises ContractError."""
    return GraphCheck(
        findings=tuple(decode_finding(finding) for finding in message.findings),
        shapes=message.shapes,
        parts=tuple(decode_query_part(part) for part in message.parts),
    )


_MOST_ROWS = (1 << 32) - 1  # as the message has it; no twin gives so many


def encode_query_question(question: QueryQuestion) -> pb.QueryRequest:
    """A question in SPARQL, as a message."""
    return pb.QueryRequest(
        query=question.query,
        format=question.format,
        max_rows=min(question.max_rows, _MOST_ROWS),
        timeout_ms=round(question.timeout_s * 1000),
        require=question.require,
        explain=question.explain,
        view=question.view,
    )


def decode_query_question(message: pb.QueryRequest) -> QueryQuestion:
    """A question in SPARQL. Raises ContractError."""
    if not message.query.strip():
        raise ContractError("QueryRequest.query: empty, a query in SPARQL 1.1 is needed")
    return QueryQuestion(
        query=message.query,
        format=message.format,
        max_rows=message.max_rows,
        timeout_s=message.timeout_ms / 1000,
        require=decode_require(message.require),
        explain=message.explain,
        view=message.view,
    )


def encode_query_reply(reply: QueryReply) -> Iterator[pb.QueryResponse]:
    """What came of a query: its head, its data in pieces, its end."""
    yield pb.QueryResponse(head=pb.QueryHead(form=reply.form, media_type=reply.media_type))
    for start in range(0, len(reply.data), QUERY_PIECE):
        yield pb.QueryResponse(data=reply.data[start : start + QUERY_PIECE])
    yield pb.QueryResponse(
        end=pb.QueryEnd(
            rows=reply.rows,
            stopped_by=reply.stopped_by,
            parts=[encode_query_part(part) for part in reply.parts],
            plan=reply.plan,
            requests=reply.requests,
            bytes=reply.transferred_bytes,
            notes=reply.notes,
        )
    )


def decode_query_reply(head: pb.QueryHead, data: bytes, end: pb.QueryEnd) -> QueryReply:
    """What came of a query. Raises ContractError."""
    try:
        form = QueryForm(head.form)
    except ValueError:
        raise ContractError(f"QueryHead.form: {head.form!r}; known are {', '.join(QueryForm)}") from None
    return QueryReply(
        form=form,
        media_type=head.media_type,
        data=data,
        rows=end.rows,
        stopped_by=end.stopped_by,
        parts=tuple(decode_query_part(part) for part in end.parts),
        plan=end.plan,
        requests=end.requests,
        transferred_bytes=end.bytes,
        notes=tuple(end.notes),
    )
