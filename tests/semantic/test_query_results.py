"""Answers as the engine writes them: counted, cut and closed as a reader of JSON would, and turned over."""

from __future__ import annotations

import json

import pyoxigraph as ox
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain_twin.errors import ContractError
from domain_twin.model.query import QueryForm
from domain_twin.semantic.results import FORMATS, convert, format_of, whole

HOSTILE = st.sampled_from(['},{"', '"},{"a":{', "},{}", "[{}", ",{}", '\\"},{\\"', "]}}", "\n", "é\u2028"])
TEXT = st.one_of(
    HOSTILE, st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x00"), max_size=12)
)
ROW = st.tuples(st.none() | TEXT, st.none() | st.integers())


def written(rows: list[tuple[str | None, int | None]]) -> bytes:
    """These rows as the engine writes them."""
    values = " ".join(
        f"( {'UNDEF' if text is None else ox.Literal(text)} {'UNDEF' if number is None else number} )"
        for text, number in rows
    )
    solutions = ox.Store().query(f"SELECT ?a ?b {{ VALUES ( ?a ?b ) {{ {values} }} }}")
    assert isinstance(solutions, ox.QuerySolutions)
    return solutions.serialize(format=ox.QueryResultsFormat.JSON) or b""


@given(st.lists(ROW, max_size=8), st.integers(1, 9))
def test_rows_are_counted_and_cut_as_a_reader_of_json_would(
    rows: list[tuple[str | None, int | None]], most: int
) -> None:
    raw = written(rows)
    truth = json.loads(raw)["results"]["bindings"]

    data, found, more = whole(raw, QueryForm.BINDINGS, most, cut=False)

    assert json.loads(data)["results"]["bindings"] == truth[:most]
    assert (found, more) == (min(len(truth), most), len(truth) > most)


@given(st.lists(ROW, max_size=6), st.data())
def test_what_is_cut_anywhere_is_closed_after_a_whole_row(
    rows: list[tuple[str | None, int | None]], data: st.DataObject
) -> None:
    raw = written(rows)
    truth = json.loads(raw)["results"]["bindings"]
    end = data.draw(st.integers(0, len(raw)))

    closed, found, _ = whole(raw[:end], QueryForm.BINDINGS, 100, cut=True, variables=("a", "b"))

    document = json.loads(closed)
    assert document["head"]["vars"] == ["a", "b"]
    assert document["results"]["bindings"] == truth[:found]
    assert found <= len(truth)


@given(st.lists(TEXT, max_size=6, unique=True), st.integers(1, 7), st.integers(0, 400))
def test_triples_are_cut_at_a_line(texts: list[str], most: int, end: int) -> None:
    triples = [ox.Triple(ox.NamedNode("urn:s"), ox.NamedNode("urn:p"), ox.Literal(text)) for text in texts]
    raw = ox.serialize(triples, format=ox.RdfFormat.N_TRIPLES) or b""

    data, found, _ = whole(raw[:end], QueryForm.TRIPLES, most, cut=True)

    assert [quad.triple for quad in ox.parse(data, format=ox.RdfFormat.N_TRIPLES)] == triples[:found]
    assert found <= most


@pytest.mark.parametrize("name", ["json", "xml", "csv", "tsv"])
def test_rows_in_each_form_say_the_same(name: str) -> None:
    raw = written([('a,b\n"c"', 1), ("é <&>", None)])

    data = convert(raw, QueryForm.BINDINGS, format_of(name, QueryForm.BINDINGS))

    if name == "csv":
        assert data.decode().splitlines()[0] == "a,b"
        assert data.count(b"\n") == 4  # one of them in a value
        return
    formats = {
        "json": ox.QueryResultsFormat.JSON,
        "xml": ox.QueryResultsFormat.XML,
        "tsv": ox.QueryResultsFormat.TSV,
    }
    found = ox.parse_query_results(data, format=formats[name])
    assert isinstance(found, ox.QuerySolutions)
    assert [(row["a"], row["b"]) for row in found] == [
        (ox.Literal('a,b\n"c"'), ox.Literal(1)),
        (ox.Literal("é <&>"), None),
    ]


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("turtle", ox.RdfFormat.TURTLE),
        ("n-triples", ox.RdfFormat.N_TRIPLES),
        ("json-ld", ox.RdfFormat.JSON_LD),
    ],
)
def test_triples_in_each_form_say_the_same(name: str, kind: ox.RdfFormat) -> None:
    triples = {
        ox.Triple(ox.NamedNode(f"urn:s{number % 2}"), ox.NamedNode("urn:p"), ox.Literal(number))
        for number in range(4)
    }
    raw = ox.serialize(triples, format=ox.RdfFormat.N_TRIPLES) or b""

    data = convert(raw, QueryForm.TRIPLES, format_of(name, QueryForm.TRIPLES))

    assert {quad.triple for quad in ox.parse(data, format=kind)} == triples


def test_a_form_that_does_not_fit_is_refused_with_those_that_do() -> None:
    with pytest.raises(
        ContractError, match=r"'csv' is none for CONSTRUCT; there are turtle, n-triples, json-ld"
    ):
        format_of("csv", QueryForm.TRIPLES)
    with pytest.raises(ContractError, match=r"'csv' is none for ASK; there are json, xml"):
        format_of("csv", QueryForm.BOOLEAN)
    assert format_of("", QueryForm.BINDINGS) is FORMATS[0]
    assert format_of("text/turtle", QueryForm.TRIPLES).name == "turtle"
