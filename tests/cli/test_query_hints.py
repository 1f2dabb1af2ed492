"""What is said about a query that is answered with nothing, or with less than was meant."""

from __future__ import annotations

import json

import pytest

from federation.cli.query_hints import hints, in_order, known_terms


def results(*names: str) -> bytes:
    return json.dumps({"head": {"vars": names}, "results": {"bindings": []}}).encode()


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("SELECT ?x { ?x a ndt:Cel }", ["ndt:Cel is no term of the ontology; did you mean ndt:Cell"]),
        ("SELECT ?x { ?x ndt:dependson+ ?y }", ["did you mean ndt:dependsOn?"]),
        ("ASK { ?x a ndt:Zzzzzzz }", ["ndt:Zzzzzzz is no term of the ontology"]),
        ("SELECT ?x { ?x a ndt:Cell ; ndt:name 'ndt:Cel' } # ndt:Cel", []),
        ("PREFIX ndt: <https://operator.example/words#> SELECT ?x { ?x a ndt:Cel }", []),
        ("PREFIX ndt: <https://fedtwin.example/ns/ndt#> ASK { ?x a ndt:Cel }", ["ndt:Cel is no term"]),
    ],
)
def test_terms_that_nobody_knows_are_named_with_what_is_near(query: str, said: list[str]) -> None:
    found = hints(query, rows=1, asked=1)

    assert len(found) == len(said)
    assert all(word in hint for word, hint in zip(said, found, strict=True))


@pytest.mark.parametrize(
    ("query", "names", "unbound"),
    [
        ("SELECT ?y { ?x a ndt:Cell }", ["y"], ["y"]),
        ("SELECT $x ?y { ?x a ndt:Cell }", ["x", "y"], ["y"]),
        ("SELECT (COUNT(*) AS ?n) { ?x a ndt:Cell }", ["n"], []),
        ("SELECT ?n { { SELECT (COUNT(*) AS ?n) { ?x a ndt:Cell } } }", ["n"], []),
        ("SELECT * { ?x a ndt:Cell }", ["x"], []),
        ("SELECT ?n { ?x ndt:name ?name # ?n\n }", ["n"], ["n"]),
    ],
)
def test_variables_that_stand_nowhere_in_the_pattern_are_named(
    query: str, names: list[str], unbound: list[str]
) -> None:
    found = hints(query, rows=1, asked=1, results=results(*names))

    assert found == [f"?{name} is asked for, and stands nowhere in the pattern" for name in unbound]


def test_where_nobody_was_asked_it_says_whom_to_ask() -> None:
    assert "ask its agent with --at" in hints("SELECT ?c { ?c a ndt:Cell }", rows=0, asked=0)[0]
    assert hints("SELECT ?c { ?c a ndt:Cell }", rows=0, asked=1) == []


def test_columns_of_everything_stand_as_in_the_query() -> None:
    assert in_order("SELECT DISTINCT * { ?s ?p ?o }", ["o", "p", "s"]) == ["s", "p", "o"]
    assert in_order("SELECT ?o ?s { ?s ?p ?o }", ["o", "s"]) == ["o", "s"]


def test_all_terms_of_the_ontology_are_known() -> None:
    assert {"Cell", "dependsOn", "delayMs", "series"} <= known_terms()
