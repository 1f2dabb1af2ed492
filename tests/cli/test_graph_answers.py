"""Answers of the graph as people see them: rows, impact as a tree, findings of shapes."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from domain_twin.errors import ContractError
from domain_twin.model import Finding, Outcome, Severity
from domain_twin.model.query import Affected, Dependency, GraphCheck, Impact, QueryPart
from domain_twin.semantic import names
from federation.cli.bindings import answer_of_ask, parts_table, remark, rows_table, short
from federation.cli.console import _theme
from federation.cli.graph_check import block
from federation.cli.impact import drawing, summary
from federation.cli.impact_tree import joined, tree

XSD = "http://www.w3.org/2001/XMLSchema#"
LINK = "urn:ndt:transport:poznan:eth2:out"
WAY = "transport/idl-a>transport/idl-b"


def plain(renderable: Any, width: int = 100) -> str:
    stream = io.StringIO()
    console = Console(file=stream, width=width, theme=_theme(), highlight=False, color_system=None)
    console.print(renderable)
    return stream.getvalue()


def literal(value: str, kind: str = "") -> dict[str, str]:
    return {"type": "literal", "value": value} | ({"datatype": XSD + kind} if kind else {})


def results(variables: list[str], *rows: dict[str, Any]) -> bytes:
    return json.dumps({"head": {"vars": variables}, "results": {"bindings": list(rows)}}).encode()


def test_rows_show_names_numbers_and_nothing_where_nothing_is_bound() -> None:
    uri = {"type": "uri", "value": names.point("ran/cell-1")}
    data = results(
        ["point", "delay", "note"],
        {"point": uri, "delay": literal("2.4861234567", "double"), "note": literal("[red]x[/]")},
        {"point": uri, "delay": literal("12", "integer")},
    )

    lines = plain(rows_table(data)).splitlines()

    assert [line.split() for line in lines] == [
        ["point", "delay", "note"],
        ["ran/cell-1", "2.48612", "[red]x[/]"],
        ["ran/cell-1", "12"],
    ]


def test_long_cells_are_folded_and_never_cut() -> None:
    text = "".join(f"{n:04d}" for n in range(100))

    shown = plain(rows_table(results(["x"], {"x": literal(text)})), width=77)

    assert "".join(shown.split()[1:]) == text


@pytest.mark.parametrize("data", [b"", b"[]", b"{}", b'{"head":{"vars":["x"]}}', b"\xff"])
def test_what_is_no_results_document_is_said_so(data: bytes) -> None:
    with pytest.raises(ContractError, match="SPARQL Results JSON"):
        rows_table(data)
    with pytest.raises(ContractError, match="SPARQL Results JSON"):
        answer_of_ask(data)


@pytest.mark.parametrize(
    ("iri", "said"),
    [
        (names.point("ran/cell 1"), "ran/cell 1"),
        (names.segment("ran/cell-1", "ran/idl-x"), "ran/cell-1>ran/idl-x"),
        (names.element("transport", "link", LINK), LINK),
        (names.domain_node("ran"), "ran"),
        (names.record("service", "urn:service:x"), "urn:service:x"),
        (names.yang_term("ietf-interfaces", "enabled"), "ietf-interfaces:enabled"),
        (names.yang_class("ietf-interfaces", "interfaces.interface"), "ietf-interfaces:interfaces.interface"),
        (f"{names.NDT}Link", "ndt:Link"),
        (names.topology_graph("ran"), "graph:ran/topo"),
        ("http://www.w3.org/2000/01/rdf-schema#label", "rdfs:label"),
        ("urn:other", "<urn:other>"),
    ],
)
def test_iris_are_said_in_short(iri: str, said: str) -> None:
    assert short(iri) == said


def test_a_partial_answer_says_whose_part_is_missing() -> None:
    parts = (
        QueryPart("ran", Outcome.OK, requests=1, rows=1200),
        QueryPart("edge", Outcome.UNREACHABLE, "nothing heard for 15 s"),
    )

    assert remark(parts, "") == "partial, without all of edge: unreachable (nothing heard for 15 s)"
    assert remark(parts[:1], "") == ""
    assert remark(parts[:1], "100 rows") == "cut short: 100 rows"
    shown = plain(parts_table(parts))
    assert "1,200" in shown
    assert "nothing heard" in shown


def depends(subject: str, other: str, domain: str = "", relation: str = "dependsOn") -> Dependency:
    return Dependency(subject, relation, other, domain)


def inner() -> Impact:
    quiet = "transport/idl-b>transport/idl-a"
    return Impact(
        LINK,
        (
            Affected("segment", WAY, "", "transport", (depends(WAY, LINK, "transport"),)),
            Affected("segment", quiet, "", "transport", (depends(quiet, LINK, "transport"),)),
        ),
        (QueryPart("transport", Outcome.OK),),
    )


def outer() -> Impact:
    first = depends("urn:service:factory", WAY)
    return Impact(
        WAY,
        (
            Affected("service", "urn:service:factory", "factory-control", "", (first,)),
            Affected(
                "customer",
                "urn:customer:works",
                "Northworks",
                "",
                (first, depends("urn:service:factory", "urn:customer:works", relation="forCustomer")),
            ),
        ),
        (QueryPart("transport", Outcome.OK, requests=1), QueryPart("ran", Outcome.OK)),
    )


def test_the_brokers_chains_go_on_where_the_agents_end() -> None:
    found = joined(inner(), outer())

    assert found.element == LINK
    customer = found.affected[-1]
    assert customer.kind == "customer"
    assert [step.object for step in customer.evidence] == [LINK, WAY, "urn:customer:works"]
    assert [len(each.evidence) for each in found.affected] == sorted(
        len(each.evidence) for each in found.affected
    )
    assert [part.domain for part in found.parts] == ["transport", "ran"]


def test_the_tree_has_each_thing_once_below_what_it_depends_on() -> None:
    root = tree(joined(inner(), outer()))

    (way, quiet) = root.branches
    assert (way.id, quiet.branches) == (WAY, [])
    (service,) = way.branches
    (customer,) = service.branches
    assert service.affected
    assert (service.affected.name, service.forwards) == ("factory-control", False)
    assert (customer.id, customer.relation, customer.forwards) == ("urn:customer:works", "forCustomer", True)
    assert root.count() == 4


def test_a_tree_with_circles_and_shared_ways_ends() -> None:
    round_about = (depends("a", LINK), depends("b", "a"), depends("a", "b"))
    found = Impact(
        LINK,
        (
            Affected("node", "a", "", "", round_about[:1]),
            Affected("node", "b", "", "", round_about),
            Affected("node", "b", "", "", round_about[:2]),
            Affected("node", "alone"),
        ),
    )

    assert tree(found).count() == 3


def test_names_and_iris_of_one_thing_are_one() -> None:
    iri = names.segment("transport/idl-a", "transport/idl-b")
    found = joined(replace(inner(), affected=(replace(inner().affected[0], id=iri),)), outer())

    assert [each.kind for each in found.affected] == ["segment", "service", "customer"]
    assert len(found.affected[-1].evidence) == 3


def test_impact_is_drawn_from_the_element_to_the_customer() -> None:
    found = joined(inner(), outer())

    assert plain(summary(found)) == f"If {LINK} fails, 1 service and 1 customer are affected\n"
    assert plain(drawing(found, full=False, top=20)).splitlines() == [
        LINK,
        f"├── {WAY}  segment",
        "│   └── factory-control  service",
        "│       └── for customer Northworks",
        "└── and 1 that carry no service (--full)",
    ]
    assert "transport/idl-b>transport/idl-a  segment" in plain(drawing(found, full=True, top=20))
    assert "and 1 more (--top)" in plain(drawing(found, full=True, top=1))


def test_a_services_path_is_no_branch_of_its_own() -> None:
    path = "urn:service:factory/path"
    chain = (
        depends(path, WAY, relation="usesSegment"),
        depends("urn:service:factory", path, relation="follows"),
    )
    found = Impact(
        WAY,
        (
            Affected("path", path, "", "", chain[:1]),
            Affected("service", "urn:service:factory", "f", "", chain),
        ),
    )

    assert plain(drawing(found, full=False, top=9)).splitlines() == [WAY, "└── f  service"]


def test_a_slice_of_two_services_stands_below_both() -> None:
    one, two = depends("s1", WAY), depends("s2", WAY)
    slices = (
        one,
        depends("s1", "low", relation="carriedBy"),
        depends("s2", "low", relation="carriedBy"),
    )
    found = Impact(
        WAY,
        (
            Affected("service", "s1", "", "", (one,)),
            Affected("service", "s2", "", "", (two,)),
            Affected("slice", "low", "", "", slices),
        ),
    )

    assert plain(drawing(found, full=False, top=9)).splitlines() == [
        WAY,
        "├── s1  service",
        "│   └── in slice low",
        "└── s2  service",
        "    └── in slice low",
    ]
    assert plain(summary(found)) == f"If {WAY} fails, 2 services and 1 slice are affected\n"


def test_nothing_affected_is_said_so() -> None:
    assert "no service is affected" in plain(summary(Impact(LINK, ())))


def test_findings_of_shapes_stand_worst_first_with_their_remedy() -> None:
    findings = (
        Finding("shape.CellOnNode", Severity.WARNING, "ran", "cell-9", "has no node", "set it", 0),
        Finding(
            "shape.LinkEnds", Severity.ERROR, "ran", names.element("ran", "link", "l-1"), "one end", "", 0
        ),
    )

    shown = plain(block(GraphCheck(findings, 12)))

    assert shown.index("LinkEnds") < shown.index("CellOnNode")
    assert "Remedy: set it" in shown
    assert "1 error, 1 warning, 12 shapes checked" in shown
    assert plain(block(GraphCheck((), 12))) == "Nothing is wrong, 12 shapes checked\n"
