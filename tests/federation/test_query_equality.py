"""What is gathered from several domains answers as one store that holds everything: for any query."""

from __future__ import annotations

import asyncio

from hypothesis import HealthCheck, given, settings
from query_graphs import Stores, copied, gathered_answer, graphs, merged_answer, owned, queries
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
