"""The ontology's competency questions: asked of their data on two engines, which answer as the files say."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import pyoxigraph as ox
import pytest
import yaml
from rdflib import Graph, Literal

from domain_twin.resources import data_folder

ONTOLOGY = data_folder("ontology")
QUESTIONS = sorted((ONTOLOGY / "cq").glob("*.yaml"))
XSD = "http://www.w3.org/2001/XMLSchema#"
NUMBERS = {XSD + name for name in ("double", "decimal", "integer", "float")}


Triples = set[tuple[str, str, str]]


def rules() -> dict[str, str]:
    """The rules' texts, each after those it reads."""
    paths = sorted((ONTOLOGY / "rules").glob("*.rq"))
    texts = {path.stem: path.read_text(encoding="utf-8") for path in paths}
    reads = {name: sorted(re.findall(r"inferred/([\w-]+)", text)) for name, text in texts.items()}
    return {name: texts[name] for name in TopologicalSorter(reads).static_order()}


def files(case: str) -> list[Path]:
    found = sorted((ONTOLOGY / "examples" / case).glob("*.ttl"))
    assert found, f"no data in {case}"
    return found


@functools.cache
def in_rdflib(cases: tuple[str, ...]) -> tuple[Graph, dict[str, Triples]]:
    """The data with what rules derive, and that by rule."""
    graph, made = Graph(), {}
    for path in (path for case in cases for path in files(case)):
        graph.parse(path)
    for name, rule in rules().items():
        derived = graph.query(rule).graph or Graph()
        made[name] = {(str(s), str(p), str(o)) for s, p, o in derived}
        graph += derived
    return graph, made


@functools.cache
def in_oxigraph(cases: tuple[str, ...]) -> tuple[ox.Store, dict[str, Triples]]:
    store, made = ox.Store(), {}
    for path in (path for case in cases for path in files(case)):
        store.load(path.read_bytes(), format=ox.RdfFormat.TURTLE)
    for name, rule in rules().items():
        answer = store.query(rule)
        assert isinstance(answer, ox.QueryTriples)
        derived = list(answer)
        made[name] = {(t.subject.value, t.predicate.value, t.object.value) for t in derived}  # type: ignore[union-attr]
        store.extend([ox.Quad(t.subject, t.predicate, t.object) for t in derived])
    return store, made


def plain(text: str, datatype: str | None) -> Any:
    if datatype in NUMBERS:
        return round(float(text), 9)
    if datatype == XSD + "boolean":
        return text == "true"
    return text.replace("+00:00", "Z") if datatype == XSD + "dateTime" else text


def ask_rdflib(question: dict[str, Any]) -> Any:
    answer = in_rdflib(tuple(question["data"]))[0].query(question["query"])
    if answer.type == "ASK":
        return answer.askAnswer
    names = [str(name) for name in answer.vars or ()]
    return [
        {
            name: plain(
                str(value), str(value.datatype) if isinstance(value, Literal) and value.datatype else None
            )
            for name, value in zip(names, row, strict=True)
            if value is not None
        }
        for row in answer
    ]


def ask_oxigraph(question: dict[str, Any]) -> Any:
    answer = in_oxigraph(tuple(question["data"]))[0].query(question["query"])
    if isinstance(answer, ox.QueryBoolean):
        return bool(answer)
    assert isinstance(answer, ox.QuerySolutions)
    names = [variable.value for variable in answer.variables]
    return [dict(_bindings(names, row)) for row in answer]


def _bindings(names: list[str], row: ox.QuerySolution) -> Iterator[tuple[str, Any]]:
    for name in names:
        value = row[name]
        if value is not None:
            yield name, plain(value.value, value.datatype.value if isinstance(value, ox.Literal) else None)


def sorted_rows(rows: Any, ordered: bool) -> Any:
    if isinstance(rows, bool) or ordered:
        return rows
    return sorted(rows, key=lambda row: sorted((name, str(value)) for name, value in row.items()))


def test_there_are_enough_questions() -> None:
    assert len(QUESTIONS) >= 40


@pytest.mark.parametrize("path", QUESTIONS, ids=lambda path: path.stem)
def test_question_is_answered(path: Path) -> None:
    question = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert set(question) - {"ordered"} == {"question", "asked_by", "data", "query", "expected"}
    ordered = question.get("ordered", False)
    expected = sorted_rows(question["expected"], ordered)

    answers = {
        "oxigraph": sorted_rows(ask_oxigraph(question), ordered),
        "rdflib": sorted_rows(ask_rdflib(question), ordered),
    }

    assert answers == {"oxigraph": expected, "rdflib": expected}


def test_every_example_serves_a_question() -> None:
    asked = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in QUESTIONS]

    assert {case for question in asked for case in question["data"]} == {
        "four-domains",
        "operations",
        "contradiction",
    }
    assert len({question["question"] for question in asked}) == len(asked)


@pytest.mark.parametrize("rule", rules())
def test_each_rule_derives_something_and_the_same_on_both_engines(rule: str) -> None:
    cases = ("contradiction",) if rule in ABOUT_CONTRADICTIONS else ("four-domains", "operations")

    there, here = in_rdflib(cases)[1][rule], in_oxigraph(cases)[1][rule]

    assert here
    assert here == there


ABOUT_CONTRADICTIONS = {"inter-domain-one-sided", "inter-domain-contradiction", "inter-domain-claims"}


def test_a_sound_federation_has_no_contradictions() -> None:
    derived = in_oxigraph(("four-domains",))[1]

    assert {rule: derived[rule] for rule in ABOUT_CONTRADICTIONS} == {
        rule: set() for rule in ABOUT_CONTRADICTIONS
    }


@pytest.mark.parametrize("cases", [("four-domains", "operations"), ("contradiction",)])
def test_every_finding_says_what_where_and_what_to_do(cases: tuple[str, ...]) -> None:
    query = """PREFIX ndt: <https://fedtwin.example/ns/ndt#>
        SELECT ?finding (COUNT(?value) AS ?values) {
          ?finding a ndt:Finding .
          VALUES ?part { ndt:concerns ndt:code ndt:severity ndt:message ndt:remedy }
          OPTIONAL { ?finding ?part ?value }
        } GROUP BY ?finding"""

    answer = in_oxigraph(cases)[0].query(query)

    assert isinstance(answer, ox.QuerySolutions)
    counts = {str(row["finding"]): plain(row["values"].value, XSD + "integer") for row in answer}  # type: ignore[union-attr]
    assert counts
    assert set(counts.values()) == {5}
