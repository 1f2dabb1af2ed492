"""Queries of one shape are read once: what is made of the second is what reading it would have made."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rdflib.paths import Path
from rdflib.plugins.sparql.parserutils import CompValue
from rdflib.term import BNode

from domain_twin.errors import ContractError
from domain_twin.semantic import guard
from domain_twin.semantic.guard import guarded
from domain_twin.semantic.guard_shapes import shape_of, with_names
from domain_twin.semantic.tokens import tokens

ID = "https://fedtwin.example/id"
TEXTS = (
    "SELECT * {{ {0} ndt:usesLink ?l . ?l ndt:alias {2} FILTER(?l != {1}) }}",
    "SELECT ?x {{ ?x ndt:inDomain {0} OPTIONAL {{ ?x ndt:name {2} }} MINUS {{ ?x a {1} }} }}",
    "SELECT ?x {{ ?x ?p ?o FILTER NOT EXISTS {{ ?x ndt:hostedOn {0} FILTER(STRSTARTS(?o, {2})) }} }}",
    "SELECT (EXISTS {{ {0} ?p ?o }} AS ?e) {{ ?s ?q {1} }} ORDER BY (?s = {0})",
    "SELECT * {{ VALUES (?x ?n) {{ ({0} {2}) (UNDEF {2}) ({1} UNDEF) }} ?x (ndt:usesLink|^{0})+ ?y }}",
    "SELECT * {{ ?x !({0}|^{1}) ?y ; {0}/{1}* ?z . GRAPH {0} {{ ?x ?p {2} }} }}",
    'SELECT (GROUP_CONCAT(?n; SEPARATOR="-") AS ?all) {{ {0} ndt:name ?n . ?n ?p "t"^^xsd:token, "t"@en }}'
    " GROUP BY ?x HAVING(COUNT(?x) > 1 && ?n IN ({0}, {2}))",
    "CONSTRUCT {{ {0} ndt:name {2} }} WHERE {{ {1} ndt:name {2} . {{ SELECT ?a {{ ?a ?b {0} }} LIMIT 1 }} }}",
    "ASK {{ {0} {1} {2} BIND(CONCAT({2}, STR({0})) AS ?c) FILTER(REGEX(?c, {2})) }}",
)
_element = st.sampled_from([f"<{ID}/{path}>" for path in ("a/point/x", "b/link/1%2F2", "c", "a/point/ü")])
_string = st.sampled_from(
    ["'one'", '"o\\"ne"', "'\\\\n'", '"""a\nb"""', "''", "'http://x'", "'{0}'", "'\\t'"]
)


def told(node: Any) -> Any:
    """An algebra as plain data, whatever order triples and sets have in it."""
    if isinstance(node, CompValue):
        more = {key: value for key, value in vars(node).items() if key not in ("ctx", "_evalfn", "name")}
        items = {key: told(value) for key, value in (*node.items(), *more.items())}
        if node.name == "BGP":
            items["triples"].sort(key=str)
        return node.name, items
    if isinstance(node, Path):
        return type(node).__name__, {key: told(value) for key, value in vars(node).items()}
    if isinstance(node, dict):
        return [(told(key), told(value)) for key, value in node.items()]
    if isinstance(node, set | frozenset):
        return sorted((told(each) for each in node), key=str)
    if isinstance(node, list | tuple):
        return [told(each) for each in node]
    return "a blank node" if isinstance(node, BNode) else repr(node)


@settings(max_examples=60)
@given(st.sampled_from(TEXTS), st.tuples(_element, _element, _string))
def test_algebra_of_a_known_shape_is_that_of_the_query_itself(text: str, names: tuple[str, ...]) -> None:
    words = tokens(text.format(*names))
    shape = shape_of(words)
    assert shape is not None
    read = guard.meaning_of(shape.words, guard.MAX_PATTERNS, frozenset())

    put = with_names(read.algebra, shape.names)

    own = guard.meaning_of(words, guard.MAX_PATTERNS, frozenset())
    assert told(put) == told(own.algebra)
    assert (read.patterns, read.form, read.variables) == (own.patterns, own.form, own.variables)


def test_second_query_of_a_shape_is_not_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    text = f"SELECT ?l ?shape {{ ?l ndt:inRiskGroup <{ID}/t/duct/%d> ; ndt:name 'n%d' }}"
    first = guarded(text % (1, 1))
    monkeypatch.setattr(guard, "meaning_of", None)

    second = guarded(text % (2, 22))

    assert "duct/2>" in second.text
    assert '"n22"' in second.text
    assert "x-fedtwin" not in second.text + str(second.algebra)
    assert "duct/1" in str(first.algebra)
    assert "duct/1" not in str(second.algebra)
    bound = second.bound(["l"], [[f"<{ID}/t/link/1>"]])
    assert bound.startswith("SELECT ?l ?shape { VALUES ( ?l )")


@pytest.mark.parametrize("name", [f"<{ID}/x>", "<urn:y>"])
def test_what_is_refused_is_refused_in_its_own_words(name: str) -> None:
    for number in (1, 2):
        with pytest.raises(ContractError, match=re.escape(name)) as error:
            guarded(f"SELECT ({name}(?x) AS ?y) {{ ?x ?p <{ID}/{number}> }}")
        assert "x-fedtwin" not in str(error.value)


def test_nobody_writes_what_stands_for_a_name() -> None:
    words = tokens(f"SELECT * {{ <{ID}/a> ?p <urn:x-fedtwin-name:0> }}")

    assert shape_of(words) is None
