"""What depends on something: names, chains, directions, circles; over a graph written by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyoxigraph as ox
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain_twin.errors import NotFound, OverCapacity
from domain_twin.resources import data_folder
from domain_twin.semantic import impact, names
from domain_twin.semantic.impact import dependents, find, find_known

LINK = names.element("transport", "link", "urn:ndt:transport:a:out")
WAY = names.segment("transport/idl-1", "transport/idl-2")
OTHER = names.segment("ran/cell-1", "ran/idl-1")
FACTORY, TRAM = names.record("service", "urn:service:factory"), names.record("service", "urn:service:tram")
SLICE, WORKS = names.record("slice", "urn:slice:low"), names.record("customer", "urn:customer:works")
GRAPH = f"""
PREFIX ndt: <{names.NDT}>
INSERT DATA {{
  <{LINK}> a ndt:Link, ndt:CriticalLink ; ndt:identifier "urn:ndt:transport:a:out" ; ndt:name "a:out" .
  <{WAY}> a ndt:Segment ; ndt:usesLink <{LINK}> ; ndt:dependsOn <{LINK}> .
  <{OTHER}> a ndt:Segment .
  <{FACTORY}> a ndt:Service ; ndt:name "factory" ; ndt:usesSegment <{WAY}>, <{OTHER}> ;
    ndt:carriedBy <{SLICE}> ; ndt:forCustomer <{WORKS}> .
  <{TRAM}> a ndt:Service ; ndt:name "tram" ; ndt:usesSegment <{OTHER}> ; ndt:carriedBy <{SLICE}> .
  <{SLICE}> a ndt:Slice ; ndt:name "low latency" ; ndt:forCustomer <{WORKS}> .
  <{WORKS}> a ndt:Customer ; ndt:name "Northworks" .
  <{names.point("ran/cell-1")}> a ndt:EndPoint ; ndt:alias "ran/cell-1" ; ndt:name "twice" .
  <{names.point("ran/cell-2")}> a ndt:EndPoint ; ndt:alias "ran/cell-2" ; ndt:name "twice" .
}}"""


def asking(update: str) -> Callable[[str], Any]:
    store = ox.Store()
    store.update(update)
    return lambda text: store.query(text, use_default_graph_as_union=True)


@pytest.fixture(scope="module")
def ask() -> Callable[[str], Any]:
    return asking(GRAPH)


def test_a_chain_goes_from_the_link_to_the_customer(ask: Callable[[str], Any]) -> None:
    found = {each.id: each for each in dependents(ask, [LINK])}

    assert [(each.kind, each.name) for each in found.values()] == [
        ("segment", ""),
        ("service", "factory"),
        ("slice", "low latency"),
        ("customer", "Northworks"),
    ] or [each.kind for each in found.values()] == ["segment", "service", "customer", "slice"]
    chain = [
        (step.subject, step.relation, step.object, step.domain)
        for step in found["urn:customer:works"].evidence
    ]
    assert chain == [
        ("transport/idl-1>transport/idl-2", "usesLink", "urn:ndt:transport:a:out", "transport"),
        ("urn:service:factory", "usesSegment", "transport/idl-1>transport/idl-2", ""),
        ("urn:service:factory", "forCustomer", "urn:customer:works", ""),
        ("urn:slice:low", "forCustomer", "urn:customer:works", ""),
    ]


def test_who_is_concerned_by_several_services_is_told_with_each(ask: Callable[[str], Any]) -> None:
    found = {each.id: each for each in dependents(ask, [OTHER])}

    steps = [(step.subject, step.relation) for step in found["urn:slice:low"].evidence]
    assert steps == [
        ("urn:service:factory", "usesSegment"),
        ("urn:service:factory", "carriedBy"),
        ("urn:service:tram", "carriedBy"),
    ]


def test_a_slice_that_is_only_concerned_takes_no_other_service_with_it(ask: Callable[[str], Any]) -> None:
    assert "urn:service:tram" not in {each.id for each in dependents(ask, [LINK])}


def test_a_slice_that_fails_takes_all_its_services_with_it(ask: Callable[[str], Any]) -> None:
    assert {each.id for each in dependents(ask, [SLICE])} == {
        "urn:service:factory",
        "urn:service:tram",
        "urn:customer:works",
    }


def test_several_elements_are_followed_together(ask: Callable[[str], Any]) -> None:
    found = {each.id: len(each.evidence) for each in dependents(ask, [WAY, OTHER])}

    assert found["urn:service:tram"] == found["urn:service:factory"] == 1
    assert "transport/idl-1>transport/idl-2" not in found


def test_circles_end(ask: Callable[[str], Any]) -> None:
    ring = asking(
        f"PREFIX n: <{names.NDT}> INSERT DATA {{ <urn:a> n:dependsOn <urn:b> . <urn:b> n:dependsOn <urn:a> }}"
    )

    assert [each.id for each in dependents(ring, ["urn:a"])] == ["urn:b"]


def test_too_much_is_refused_with_what_would_be_less(ask: Callable[[str], Any]) -> None:
    with pytest.raises(OverCapacity, match=r"more than 2 things depend on urn:ndt:transport:a:out.*smaller"):
        dependents(ask, [LINK], most=2)


@pytest.mark.parametrize(
    ("name", "iri"),
    [
        ("urn:ndt:transport:a:out", LINK),
        ("transport/urn:ndt:transport:a:out", LINK),
        ("a:out", LINK),
        (LINK, LINK),
        ("ran/cell-1", names.point("ran/cell-1")),
        ("transport/idl-1>transport/idl-2", WAY),
        ("urn:service:factory", FACTORY),
        ("factory", FACTORY),
        ("Northworks", WORKS),
    ],
)
def test_things_are_found_by_what_people_call_them(ask: Callable[[str], Any], name: str, iri: str) -> None:
    assert find(ask, name, domain="transport") == iri


def test_names_of_several_things_are_asked_back(ask: Callable[[str], Any]) -> None:
    with pytest.raises(NotFound, match=r"'twice' may be any of ran/cell-1, ran/cell-2; name one"):
        find(ask, "twice")


def test_unknown_names_are_refused_with_what_is_near(ask: Callable[[str], Any]) -> None:
    with pytest.raises(NotFound, match="no element 'ran/cell-3' is known here; did you mean ran/cell-"):
        find(ask, "ran/cell-3")


def test_what_is_not_shown_is_left_out_beside_what_is(ask: Callable[[str], Any]) -> None:
    assert find_known(ask, ["transport/hidden", "ran/cell-1", "factory"]) == [
        names.point("ran/cell-1"),
        FACTORY,
    ]
    with pytest.raises(NotFound, match="'transport/hidden'"):
        find_known(ask, ["transport/hidden", "ran/hidden"])


@given(st.text(max_size=30))
def test_no_name_is_ever_part_of_a_query(name: str) -> None:
    asked = asking(GRAPH)

    with pytest.raises(NotFound) as told:
        find(asked, f"no {name}")

    assert repr(f"no {name}") in str(told.value)


@pytest.mark.parametrize(
    "name", ['" } DROP ALL #', "urn:x> } ?s ?p ?o {", "<urn:a>", "a\\", "urn:\n", "a>b", "/>/"]
)
def test_odd_names_are_only_names(ask: Callable[[str], Any], name: str) -> None:
    with pytest.raises(NotFound):
        find(ask, name)


def test_a_failure_travels_as_the_published_rule_says() -> None:
    rule = (data_folder("ontology") / "rules" / "direct-dependence.rq").read_text(encoding="utf-8")
    said = {
        word.removeprefix("ndt:") for word in rule.split("VALUES")[1].split("}")[0].split() if ":" in word
    }

    assert said | {"dependsOn"} == set(impact._DEPENDS)
