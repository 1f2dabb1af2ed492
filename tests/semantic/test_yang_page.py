"""docs/semantic-yang.md does what it says: its module, its data, its triples, its question."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pyoxigraph as ox

from domain_twin.semantic.yang_plan import compile_plan
from domain_twin.semantic.yang_quads import quads
from domain_twin.yang.schema import SchemaSet

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
from _yang_instances import typed

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "semantic-yang.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    found = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)
    assert len(found) == 1, language
    return str(found[0])


def example() -> dict[str, Any]:
    schema = SchemaSet.load(["acme-optics"], texts={"acme-optics": block("yang")})
    assert schema.report.failed == {}
    document = json.loads(block("json"))
    return {
        "schema": schema,
        "document": document,
        "leaves": typed(schema, document),
        "plan": compile_plan(schema),
    }


def test_the_pages_module_and_data_make_the_pages_triples():
    told = example()

    made = quads(told["plan"], "north", "pe1", told["leaves"])

    written = ox.parse(block("turtle"), format=ox.RdfFormat.TURTLE)
    assert {(q.subject, q.predicate, q.object) for q in made} == {
        (q.subject, q.predicate, q.object) for q in written
    }


def test_the_pages_question_has_an_answer():
    told = example()
    store = ox.Store()
    store.extend(quads(told["plan"], "north", "pe1", told["leaves"]))

    rows = [
        [term.value for term in row] for row in store.query(block("sparql"), use_default_graph_as_union=True)
    ]

    base = "https://fedtwin.example/id/north/device/pe1/data/ietf-interfaces:interfaces"
    assert rows == [["eth1/0", "-3.5", f"{base}/interface=eth1%2F1"]]


def test_the_pages_program_runs():
    told = example()

    exec(compile(block("python"), "docs/semantic-yang.md", "exec"), told)
    assert len(told["made"]) == 9
