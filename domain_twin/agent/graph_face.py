"""Questions in SPARQL from the agent's own operator: the whole graph, or a view as its peer sees it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from domain_twin.errors import NotFound, Unreachable
from federation.wire.questions import QueryQuestion, QueryReply

if TYPE_CHECKING:
    from domain_twin.agent.semantics import Semantics

__all__ = ["answer_operator"]

_SMALL = 64 << 10


async def answer_operator(semantics: Semantics, domain: str, question: QueryQuestion) -> QueryReply:
    """What the graph answers its operator. Raises ContractError, NotFound, OverCapacity, Unreachable."""
    from domain_twin.model import Outcome
    from domain_twin.model.query import QueryPart
    from domain_twin.semantic import results
    from domain_twin.semantic.guard import guarded
    from domain_twin.semantic.names import view_graph
    from domain_twin.semantic.workers import OPERATOR

    live, pool = semantics.live, semantics.queries
    if live is None or pool is None:
        raise Unreachable(f"the graph of {domain} is not open now; ask again in a moment")
    asked = await asyncio.to_thread(guarded, question.query, named_graphs=not question.view)
    wanted = results.format_of(question.format, asked.form)
    dataset = OPERATOR
    if question.view:
        dataset = view_graph(question.view)
        graphs = await asyncio.to_thread(live.store.graphs)
        if dataset not in graphs:
            prefix = view_graph("")
            known = ", ".join(name.removeprefix(prefix) for name in graphs if name.startswith(prefix))
            raise NotFound(f"no view of an agreement {question.view!r} is open; open are: {known or 'none'}")
    if question.explain:
        seen = f"the view of {question.view}" if question.view else f"the graph of {domain}, all of it"
        plan = (
            f"1. {seen}: {asked.patterns} patterns, in one process\n"
            f"   at most {question.max_rows or pool.limits.max_rows} rows"
            f" and {question.timeout_s or pool.limits.timeout_s:g} s\n"
            f"   {asked.text}"
        )
        return QueryReply(asked.form, "", b"", plan=plan)
    answer = await pool.query(dataset, asked, max_rows=question.max_rows, timeout_s=question.timeout_s)
    if len(answer.results) < _SMALL:
        data = results.convert(answer.results, answer.form, wanted)
    else:
        data = await asyncio.to_thread(results.convert, answer.results, answer.form, wanted)
    status = semantics.status()
    behind = status.problem if status else ""
    part = QueryPart(domain, Outcome.STALE if behind else Outcome.OK, behind, rows=answer.rows)
    return QueryReply(
        form=answer.form,
        media_type=results.media_type_of(wanted),
        data=data,
        rows=answer.rows,
        stopped_by=answer.stopped_by,
        parts=(part,),
    )
