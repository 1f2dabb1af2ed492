"""A query as typed: files, quotes, standard input; prefixes that go without saying; the caret at an error."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rdflib.plugins.sparql import prepareQuery

from domain_twin.errors import ConfigError
from federation.cli import sparql_text
from federation.cli.app import run
from federation.cli.sparql_text import PREFIXES, caret, everything, read

LINKS = "SELECT ?link WHERE { ?link a ndt:Link }"


def test_a_query_comes_from_quotes_a_file_or_standard_input(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "select-links.rq"
    file.write_text("\ufeff" + LINKS, encoding="utf-8")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(LINKS.encode())))

    texts = [read(LINKS), read(str(file)), read("-")]

    assert [text.typed for text in texts] == [LINKS] * 3
    assert [text.name for text in texts] == ["the query", str(file), "standard input"]
    assert {text.prologue for text in texts} == {f"PREFIX ndt: <{PREFIXES['ndt']}>\n"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty; write a query"),
        (b" \n\t", "empty; write a query"),
        (b"SELECT \xff", "is not text in UTF-8 (octet 7)"),
        (b"#" * ((1 << 20) + 1), "larger than 1 MiB"),
    ],
)
def test_a_file_that_is_no_query_is_said_so(tmp_path: Path, content: bytes, message: str) -> None:
    file = tmp_path / "q.rq"
    file.write_bytes(content)

    with pytest.raises(ConfigError) as told:
        read(str(file))

    assert str(told.value).startswith(f"{file}: {message}")


@pytest.mark.parametrize("source", ["none.rq", "select-links.rq", "SELECT ?x", "x" * 5000, "a\0b", "."])
def test_what_is_neither_file_nor_query_is_said_so(source: str) -> None:
    with pytest.raises(ConfigError, match="it is no query"):
        read(source)


@pytest.mark.parametrize(
    ("query", "known"),
    [
        ("SELECT * { ?a a ndt:Link ; rdfs:label ?b }", ["ndt", "rdfs"]),
        ("PREFIX ndt: <urn:x#> SELECT * { ?a a ndt:Link }", []),
        ("prefix  ndt: <urn:x#> select * { ?a a ndt:Link }", []),
        ("SELECT * { ?a ietf-interfaces:enabled true }", ["ietf-interfaces"]),
        ("SELECT * { ?a foo:bar true }", []),
        ("SELECT * { ?a ?b 'ndt:Link' } # rdfs:label", []),
        ('SELECT * { ?a ?b """x\nndt:Link" rdf:x""" }', []),
        ("SELECT * { <http://ndt:1/#rdf:x> ?b _:owl }", []),
        ("SELECT * { ?a (^ndt:partOf|owl:sameAs)+/skos:broader ?b }", ["ndt", "owl", "skos"]),
    ],
)
def test_prefixes_are_added_where_they_are_used_and_not_declared(query: str, known: list[str]) -> None:
    added = read(query).prologue

    assert [line.split()[1].rstrip(":") for line in added.splitlines()] == known


@settings(max_examples=20)
@given(st.lists(st.sampled_from(sorted(PREFIXES)), max_size=6))
def test_with_prefixes_added_a_query_parses_and_is_still_the_same(prefixes: list[str]) -> None:
    body = " . ".join(f"?a {prefix}:p{n} ?b{n}" for n, prefix in enumerate(prefixes))
    text = read(f"SELECT * WHERE {{ {body} }}")

    prepareQuery(text.sent)

    assert text.sent.endswith(text.typed)
    assert text.prologue.count("\n") == len(set(prefixes))


@pytest.mark.parametrize(
    ("query", "triples"),
    [
        (LINKS, False),
        ("# CONSTRUCT\nSELECT ?x { ?x ndt:select ?construct }", False),
        ("PREFIX construct: <urn:construct> ASK { ?x construct:y ?z }", False),
        ("CONSTRUCT WHERE { ?a ndt:ask ?b }", True),
        ("PREFIX ask: <urn:x>\nconstruct { ?a ask:b ?c } WHERE { SELECT * { ?a ask:b ?c } }", True),
    ],
)
def test_what_a_query_answers_with_is_seen_in_its_first_word(query: str, triples: bool) -> None:
    assert read(query).constructs is triples


def test_everything_is_a_query_for_all_triples() -> None:
    prepareQuery(everything().sent)

    assert everything().constructs


def test_an_error_is_shown_at_its_place_as_typed() -> None:
    text = read("# services\nSELECT ?service WHERE {\n\t?service a ndt:Service ;; }\n")

    shown = caret(text, "query, line 4, column 27: expected a verb")

    assert shown.splitlines() == [
        "the query, line 3, column 27: expected a verb",
        "  1 | # services",
        "  2 | SELECT ?service WHERE {",
        "  3 |  ?service a ndt:Service ;; }",
        "                                ^",
    ]


def test_an_error_at_the_end_is_shown_behind_the_last_line() -> None:
    shown = caret(read("SELECT ?x {\n?x a ndt:Link"), "query, line 9, column 1: the query ends too early")

    assert shown.splitlines()[0] == "the query, line 2, column 14: the query ends too early"
    assert shown.splitlines()[-1] == " " * (6 + 13) + "^"


def test_an_error_without_a_place_stays_as_it_is() -> None:
    text = read(LINKS)

    assert caret(text, "broker: no answer") == "broker: no answer"
    assert caret(text, "line 1, column 3: in what was added") == "line 1, column 3: in what was added"


@given(st.text(alphabet="abc: <>\"'#{}\n?\\PREFIXndt", max_size=60))
def test_any_text_is_scanned(query: str) -> None:
    text = sparql_text.QueryText(query, "q", sparql_text.prologue(query))

    assert isinstance(text.constructs, bool)
    assert caret(text, "line 2, column 1: x")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "say what to ask"),
        ((LINKS, "--all"), "say what to ask"),
        ((LINKS, "--csv", "--json"), "give one"),
        ((LINKS, "--format", "png"), "'png' is no form"),
        ((LINKS, "--require", "some"), "'some' is neither all nor best-effort"),
        ((LINKS, "--timeout", "5"), "'5' is not a length of time"),
        ((LINKS, "--explain", "--csv"), "--explain has no rows"),
        ((LINKS, "--limit", "-1"), "-1"),
    ],
)
def test_options_that_say_nothing_together(
    words: Sequence[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["query", *words]) == 2
    assert message in capsys.readouterr().err


def test_impact_of_no_name_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["impact", "a\nb"]) == 2
    assert "no control characters" in capsys.readouterr().err
