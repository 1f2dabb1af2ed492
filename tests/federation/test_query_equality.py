"""What is gathered from several domains answers as one store that holds everything: for any query."""

from __future__ import annotations

import asyncio

from hypothesis import HealthCheck, given, settings
from query_graphs import Stores, copied, gathered_answer, graphs, merged_answer, name, owned, queries, term
from query_parts import same

from federation.query.gathered import Triple


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(text=queries(), graph=graphs, own=owned, copies=copied)
def test_federated_answer_equals_that_of_one_merged_store(
    text: str, graph: dict[str, list[Triple]], own: list[Triple], copies: set[str]
) -> None:
    domains = Stores(graph)

    answer, _ = asyncio.run(gathered_answer(text, domains, own, copies))

    assert same(answer, merged_answer(text, domains, own))


def test_optional_is_not_restricted_by_what_is_only_joined_later() -> None:
    a, b = (lambda number: name("a", number)), (lambda number: name("b", number))
    domains = Stores(
        {"a": [(a(0), term("p"), a(1)), (a(0), term("q"), a(2))], "b": [(b(0), term("r"), b(1))], "c": []}
    )
    text = f"SELECT * {{ ?x {term('p')} ?y OPTIONAL {{ ?x {term('q')} ?z }} ?w {term('r')} ?z }}"

    answer, _ = asyncio.run(gathered_answer(text, domains, copies={"p", "r"}))

    assert same(answer, merged_answer(text, domains))
    assert b'"bindings":[]' in answer
