"""What is gathered from several domains answers as one store that holds everything: for any query."""

from __future__ import annotations

import asyncio
import functools
import re

import pyoxigraph as ox
import pytest
from hypothesis import HealthCheck, given, settings
from query_graphs import (
    CONDITIONS,
    Stores,
    copied,
    gathered_answer,
    graphs,
    merged_answer,
    name,
    owned,
    queries,
    term,
)
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


@pytest.mark.parametrize("condition", CONDITIONS)
def test_every_condition_means_the_same_in_a_domain_as_at_the_end(condition: str) -> None:
    literals = [ox.Literal("one", language="en"), *map(ox.Literal, ("one", "One", 1, 2, -1, 1.5, True))]
    said = {
        domain: [
            *((name(domain, number), term("v"), value) for number, value in enumerate(literals)),
            *((name(domain, number), term("p"), name(other, 1)) for number in range(3) for other in "abc"),
            *((name(domain, number), term("q"), name(domain, number)) for number in range(2)),
        ]
        for domain in "ab"
    }
    domains = Stores({**said, "c": []})

    for text in ("?x {v} ?y ; {q} ?z", "?x {q} ?y OPTIONAL {{ ?x {v} ?y }}", "?x {p} ?y . ?y {v} ?z"):
        for one, other in (("?y", "?x"), ("?z", "?y")):
            body = text.format(**{word: term(word) for word in "pqv"})
            query = f"SELECT * {{ {body} FILTER({condition.format(one, other)}) }}"
            answer, _ = asyncio.run(gathered_answer(query, domains))
            assert same(answer, merged_answer(query, domains)), query


def test_filter_is_told_to_the_domain_whose_rows_it_makes_fewer() -> None:
    node = functools.partial(name, "a")
    said = [(node(number), term("v"), ox.Literal(number)) for number in range(4)]
    domains = Stores({"a": [*said, (node(0), term("q"), node(1))], "b": [], "c": []})
    text = f"SELECT * {{ ?x {term('v')} ?n FILTER(?n > 1.5 && STRENDS(STR(?x), '2') && ?n + 1 < 9) }}"

    answer, execution = asyncio.run(gathered_answer(text, domains))

    assert same(answer, merged_answer(text, domains))
    ((_, asked, _),) = domains.asked
    assert re.search(r"FILTER \( \?v\w+ > 1\.5 \) FILTER \( STRENDS", asked)
    assert "+" not in asked
    assert [step.rows for step in execution.steps] == [1]


@pytest.mark.parametrize(
    "condition",
    [
        # A group that does not bind ?y itself: its filter is true, whatever ?y is outside.
        "?x {p} ?y {{ ?x {q} ?z FILTER(!BOUND(?y)) }}",
        "?x {p} ?y OPTIONAL {{ ?x {q} ?z FILTER(?y = ?z) }}",
        "?x {p} ?y FILTER NOT EXISTS {{ ?x {q} ?z FILTER(?y != ?z) }}",
        "{{ ?x {p} ?y }} UNION {{ ?x {q} ?y FILTER(?y = <urn:none>) }}",
        "?x {p} ?y {{ SELECT ?x (COUNT(?z) AS ?y) {{ ?x {q} ?z }} GROUP BY ?x HAVING(?x != <urn:none>) }}",
        "?x {p} ?y OPTIONAL {{ ?x {q} ?z }} FILTER(!BOUND(?z) || ?z != ?y)",
    ],
)
def test_filter_goes_nowhere_but_to_its_own_group(condition: str) -> None:
    node = functools.partial(name, "a")
    domains = Stores(
        {"a": [(node(0), term("p"), node(1)), (node(0), term("q"), node(2)), (node(3), term("p"), node(3))]}
        | {"b": [], "c": []}
    )
    text = f"SELECT * {{ {condition.format(p=term('p'), q=term('q'))} }}"

    answer, _ = asyncio.run(gathered_answer(text, domains))

    assert same(answer, merged_answer(text, domains))
