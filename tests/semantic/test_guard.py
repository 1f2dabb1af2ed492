"""What may be asked in SPARQL: every way around it that was tried, places of errors, odd characters."""

from __future__ import annotations

import threading

import pyoxigraph as ox
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain_twin.errors import ContractError, OverCapacity
from domain_twin.model.query import QueryForm
from domain_twin.semantic.guard import MAX_DEPTH, MAX_PATTERNS, MAX_WORDS, guarded
from domain_twin.semantic.names import NDT

X = "<http://x.example/x>"
HIDDEN = "<https://fedtwin.example/g/ran/topo>"

REFUSED = {
    "SERVICE": f"SELECT * {{ SERVICE {X} {{ ?s ?p ?o }} }}",
    "SERVICE in lower case": f"select * {{ service {X} {{ ?s ?p ?o }} }}",
    "SERVICE SILENT": f"SELECT * {{ SERVICE SILENT {X} {{ ?s ?p ?o }} }}",
    "SERVICE of a variable": "SELECT * { ?s ?p ?g SERVICE ?g { ?s ?p ?o } }",
    "SERVICE behind a comment": f"SELECT * {{ # {{\n SERVICE # }}\n {X} {{ ?s ?p ?o }} }}",
    "SERVICE in EXISTS": f"SELECT * {{ ?s ?p ?o FILTER EXISTS {{ SERVICE {X} {{ ?s ?p ?o }} }} }}",
    "SERVICE in a sub-select": f"SELECT * {{ {{ SELECT ?s {{ SERVICE {X} {{ ?s ?p ?o }} }} }} }}",
    "SERVICE in MINUS": f"SELECT * {{ ?s ?p ?o MINUS {{ SERVICE {X} {{ ?s ?p ?o }} }} }}",
    "FROM": f"SELECT * FROM {HIDDEN} {{ ?s ?p ?o }}",
    "FROM a file": "SELECT * FROM <file:///etc/passwd> { ?s ?p ?o }",
    "FROM NAMED a file": "SELECT * FROM NAMED <file:///etc/passwd> { GRAPH ?g { ?s ?p ?o } }",
    "SERVICE of a file": "SELECT * { SERVICE <file:///etc/passwd> { ?s ?p ?o } }",
    "FROM NAMED": f"SELECT * FROM NAMED {HIDDEN} {{ GRAPH ?g {{ ?s ?p ?o }} }}",
    "GRAPH": "SELECT * { GRAPH ?g { ?s ?p ?o } }",
    "GRAPH by name": f"SELECT * {{ GRAPH {HIDDEN} {{ ?s ?p ?o }} }}",
    "GRAPH in MINUS": "SELECT * { ?s ?p ?o MINUS { GRAPH ?g { ?s ?p ?o } } }",
    "GRAPH in a sub-select": "SELECT * { { SELECT * { GRAPH ?g { ?s ?p ?o } } } }",
    "GRAPH in EXISTS": "ASK { ?s ?p ?o FILTER NOT EXISTS { GRAPH ?g { ?s ?p ?o } } }",
    "GRAPH around a path": f"SELECT * {{ GRAPH ?g {{ ?s (!{X})* ?o }} }}",
    "LOAD": f"LOAD {X}",
    "LOAD a file": "LOAD <file:///etc/passwd>",
    "LOAD after a query": f"SELECT * {{ ?s ?p ?o }} ; LOAD {X}",
    "INSERT": f"INSERT DATA {{ {X} {X} {X} }}",
    "DELETE": "DELETE WHERE { ?s ?p ?o }",
    "CLEAR": "CLEAR ALL",
    "DROP": f"DROP GRAPH {HIDDEN}",
    "DESCRIBE": f"DESCRIBE {X}",
    "RAND": "SELECT (RAND() AS ?r) {}",
    "UUID": "SELECT (UUID() AS ?r) {}",
    "LATERAL": "SELECT * { ?s ?p ?o LATERAL { SELECT * { ?s ?p ?o } LIMIT 1 } }",
    "own function": f"SELECT ({X}(1) AS ?r) {{}}",
    "own function in EXISTS": f"SELECT * {{ ?s ?p ?o FILTER EXISTS {{ ?s ?q ?r FILTER({X}(?s)) }} }}",
    "own function in ORDER BY": f"SELECT * {{ ?s ?p ?o }} ORDER BY {X}(?s)",
    "own function in HAVING": f"SELECT (COUNT(?s) AS ?n) {{ ?s ?p ?o }} HAVING({X}(1))",
    "own aggregate": f"SELECT ({X}(DISTINCT ?s) AS ?n) {{ ?s ?p ?o }}",
    "quoted triple": "SELECT * { << ?s ?p ?o >> ?q ?r }",
    "escaped keyword": "SELECT * { \\u0053ERVICE <http://x.example/> { ?s ?p ?o } }",
    "keyword out of an escaped string": 'SELECT * { ?s ?p "a\\u0022 } SERVICE <urn:x> { ?s ?p "b" } ',
    "two queries": "SELECT * { ?s ?p ?o } SELECT * { ?s ?p ?o }",
    "function of another version": "SELECT (ADJUST(NOW(), 'PT1H') AS ?t) {}",
}


@pytest.mark.parametrize("text", REFUSED.values(), ids=REFUSED.keys())
def test_what_could_reach_beyond_the_view_is_refused(text: str) -> None:
    with pytest.raises(ContractError, match=r"^query[:,]"):
        guarded(text)


@pytest.mark.parametrize(
    ("text", "name", "at"),
    [
        ("SELECT * {\n  SERVICE <http://x/> { ?s ?p ?o } }", "SERVICE", "line 2, column 3"),
        ("SELECT *\nFROM <http://x/>\n{ ?s ?p ?o }", "FROM", "line 2, column 1"),
        ("LOAD <http://x/>", "LOAD", "line 1, column 1"),
        ("SELECT * { GRAPH ?g { ?s ?p ?o } }", "GRAPH", "line 1, column 12"),
    ],
)
def test_a_refusal_names_what_where_and_why(text: str, name: str, at: str) -> None:
    with pytest.raises(ContractError, match=f"^query, {at}: {name} is refused: .{{20}}"):
        guarded(text)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", r"line 1, column 1: the end cannot stand here; expected ASK, CONSTRUCT or SELECT"),
        (
            "SELECT ?s {\n ?s ?p }",
            r"line 2, column 8: '}' cannot stand here; expected a literal, an IRI, a var",
        ),
        ("SELECT ?s { ?s ?p ?o", r"line 1, column 11: '{' is never closed"),
        ("SELECT ?s { ?s ?p ?o ) }", r"line 1, column 22: '\)' closes nothing; '{' of line 1, column 11 is"),
        ("SELECT ?s { ?s ?p 'abc }", r"line 1, column 19: the string that begins with ' here has no end"),
        ("SELECT ?s { ?s nrm:cell ?o }", r"line 1, column 16: prefix 'nrm:' is not declared.*Known: ndt:"),
        ("SELECT ?s { ?s ?p ?o } LIMIT ten", r"line 1, column 30: unknown word 'ten'"),
        ("SELECT ?s { ?s ?p ?o } LIMIT", r"column 29: the end cannot stand here; expected a whole number"),
        ("SELCT ?s { ?s ?p ?o }", r"line 1, column 1: unknown word 'SELCT'; did you mean SELECT\?"),
        ("SELECT ?s { ?s ?p ?o FILTER(?o >) }", r"column 33: '\)' cannot stand here; expected an expression"),
        ("SELECT ?s { ?s <a{b> ?o }", r"line 1, column 16: an IRI cannot hold '{'; write it percent-enc"),
        ("SELECT ?s { ?s ?p ?o ` }", r"line 1, column 22: '`' begins nothing in SPARQL 1.1"),
        ("PREFIX ndt <x> SELECT * {}", r"line 1, column 8: expected a prefix and a colon after PREFIX"),
        ("SELECT * { ?s ?p '\\q' }", r"line 1, column 18: strings have no escape"),
    ],
)
def test_an_error_says_where_it_is_and_what_was_expected(text: str, sentence: str) -> None:
    with pytest.raises(ContractError, match=sentence):
        guarded(text)


@pytest.mark.parametrize(
    ("text", "form", "variables", "patterns"),
    [
        ("SELECT * { ?s a ndt:Cell ; ndt:name ?n }", QueryForm.BINDINGS, ("n", "s"), 2),
        ("ASK { ?s ndt:dependsOn+/^ndt:partOf* ?o }", QueryForm.BOOLEAN, (), 1),
        ("CONSTRUCT WHERE { ?s ?p ?o }", QueryForm.TRIPLES, (), 1),
        ("CONSTRUCT { ?s a ndt:Node } WHERE { ?s ?p ?o }", QueryForm.TRIPLES, (), 1),
        (
            "SELECT ?d (AVG(?v) AS ?m) { ?c ndt:inDomain ?d ; ndt:value ?v } GROUP BY ?d HAVING(?m > 2)"
            " ORDER BY DESC(?m) LIMIT 5",
            QueryForm.BINDINGS,
            ("d", "m"),
            2,
        ),
        (
            "SELECT * { ?s ?p ?o MINUS { ?s ?p ?x } FILTER NOT EXISTS { ?s ?q ?y } BIND(1 AS ?k)"
            " OPTIONAL { ?s ?r ?z } { SELECT ?w { ?w ?u ?v } } VALUES ?n { 1 } }",
            QueryForm.BINDINGS,
            ("k", "n", "o", "p", "r", "s", "w", "z"),
            5,
        ),
        ("SELECT * { { ?s ?p 1 } UNION { ?s ?q -2.5e3 } }", QueryForm.BINDINGS, ("p", "q", "s"), 2),
        (
            "SELECT ?x { ?x ndt:value ?v FILTER(xsd:integer(?v) > 3-1 && NOW() > ?v) }",
            QueryForm.BINDINGS,
            ("x",),
            1,
        ),
        (
            "SELECT (BNODE() AS ?b) (IF(BOUND(?x), 'a'@en, 'b'^^xsd:string) AS ?c) {}",
            QueryForm.BINDINGS,
            ("b", "c"),
            0,
        ),
    ],
)
def test_what_is_of_the_allowed_part_passes(
    text: str, form: QueryForm, variables: tuple[str, ...], patterns: int
) -> None:
    found = guarded(text)

    assert (found.form, found.variables, found.patterns) == (form, variables, patterns)
    ox.Store().query(found.text)  # the engine's own parser agrees


def test_the_normal_form_has_no_prefixes_comments_or_relative_iris() -> None:
    one = guarded("PREFIX n: <https://fedtwin.example/ns/ndt#>\nSELECT ?s{?s a n:Cell;n:at <id/ran> # }\n}")
    other = guarded(f"select ?s {{ $s a <{NDT}Cell> ; ndt:at <https://fedtwin.example/id/ran> . }}")

    assert one.text == f"SELECT ?s {{ ?s a <{NDT}Cell> ; <{NDT}at> <https://fedtwin.example/id/ran> }}"
    assert other.variables == one.variables


def test_named_graphs_are_for_those_who_may_name_them() -> None:
    found = guarded("SELECT * { GRAPH ?g { ?s ?p ?o } }", named_graphs=True)

    assert found.named_graphs
    assert found.variables == ("g", "o", "p", "s")


def test_services_of_the_federation_are_planned() -> None:
    ran, far = "https://fedtwin.example/id/ran", "https://fedtwin.example/id/far"
    text = (
        "SELECT * { SERVICE <id/ran> { ?s ndt:name ?n FILTER(?n = 'a')"
        " OPTIONAL { SERVICE SILENT <id/far> { ?s ndt:alias ?a } } } }"
    )

    found = guarded(text, services=(ran, far))

    assert found.services == (ran, far)
    outer = found.algebra.p.p
    assert (outer.name, str(outer.term), outer.silent) == ("ServiceGraphPattern", ran, False)
    assert found.variables == ("a", "n", "s")
    with pytest.raises(ContractError, match=r"SERVICE <http://x/> is refused: it is no domain of this fed"):
        guarded("SELECT * { SERVICE <http://x/> { ?s ?p ?o } }", services=(ran,))
    with pytest.raises(ContractError, match=r"SERVICE \?x is refused: name the domain"):
        guarded("SELECT * { SERVICE ?x { ?s ?p ?o } }", services=(ran,))


def test_what_is_too_large_is_refused_before_it_is_parsed() -> None:
    deep = "{" * (MAX_DEPTH + 1) + "}" * (MAX_DEPTH + 1)
    with pytest.raises(
        OverCapacity, match=f"{MAX_DEPTH + 1} brackets within each other, {MAX_DEPTH} at most"
    ):
        guarded(f"SELECT * {deep}")
    with pytest.raises(OverCapacity, match=f"{MAX_PATTERNS + 1} triple patterns, {MAX_PATTERNS} at most"):
        guarded(f"SELECT * {{ {' . '.join(f'?s ?p ?o{n}' for n in range(MAX_PATTERNS + 1))} }}")
    with pytest.raises(OverCapacity, match=rf"words, {MAX_WORDS} at most"):
        guarded(f"SELECT * {{ VALUES ?x {{ {'1 ' * MAX_WORDS} }} }}")
    with pytest.raises(OverCapacity, match=r"characters, 65536 at most"):
        guarded("SELECT * {} #" + "x" * 65_536)


@pytest.mark.parametrize(
    "deep",
    [
        "FILTER EXISTS {{ {} }}",
        "OPTIONAL {{ {} }}",
        "{{ SELECT * {{ {} }} }}",
        "FILTER(({} = 1))",
        "?s (ndt:a|({})) ?o",
    ],
)
def test_the_deepest_that_is_allowed_is_read(deep: str) -> None:
    inner = {"F": "1", "?": "ndt:b"}.get(deep[0] if "EXISTS" not in deep else "", "?a ?b ?c")
    if "SELECT" in deep:
        text = inner
        for _ in range(MAX_DEPTH // 2 - 1):
            text = deep.format(text)
    elif "= 1" in deep or "|" in deep:
        text = deep.format("(" * (MAX_DEPTH - 4) + inner + ")" * (MAX_DEPTH - 4))
    else:
        text = inner
        for _ in range(MAX_DEPTH - 2):
            text = deep.format(text)

    assert guarded(f"SELECT * {{ {text} }}").text


def test_texts_are_read_once_and_from_any_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "SELECT ?once { ?once ndt:name 'read' }"
    found = []
    threads = [threading.Thread(target=lambda: found.append(guarded(text))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)

    assert len(found) == 8
    assert guarded(text) is guarded(text)


characters = st.characters(exclude_categories=("Cs",), exclude_characters="\x00")


@given(st.text(characters, max_size=40), st.sampled_from(["plain", "unicode", "long"]))
def test_no_literal_gets_out_of_its_quotes(value: str, spelling: str) -> None:
    match spelling:
        case "plain":
            written = "".join({'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r"}.get(c, c) for c in value)
            quoted = f'"{written}"'
        case "unicode":
            quoted = f"'{''.join(f'{chr(92)}U{ord(c):08X}' for c in value)}'"
        case _:
            quoted = '"""' + value.replace("\\", "\\\\").replace('"', '\\"') + '"""'

    found = guarded(f"SELECT ({quoted} AS ?x) {{}}")

    solutions = ox.Store().query(found.text)
    assert isinstance(solutions, ox.QuerySolutions)
    assert [str(each["x"].value) for each in solutions] == [value]  # type: ignore[union-attr]
    assert found.variables == ("x",)


@given(st.text(characters, max_size=40))
@settings(max_examples=200)
def test_no_bound_literal_gets_out_of_its_block(value: str) -> None:
    asked = guarded("SELECT ?x { ?s ndt:name ?x }")

    text = asked.bound(["x"], [[str(ox.Literal(value))]])

    store = ox.Store()
    store.add(ox.Quad(ox.NamedNode("urn:s"), ox.NamedNode(f"{NDT}name"), ox.Literal(value)))
    solutions = store.query(text)
    assert isinstance(solutions, ox.QuerySolutions)
    assert [each["x"] for each in solutions] == [ox.Literal(value)]


@pytest.mark.parametrize(
    "term",
    [
        "<http://x/> . <urn:a> <urn:b> <urn:c>",
        '"a" } SERVICE <http://x/> { ?s ?p ?o',
        "<http://x/\\u003E \\u007B>",
        "?x",
        "_:b",
        "UNDEF",
        '"a"@en "b"',
        "<relative>",
        '"unclosed',
        "<< <urn:a> <urn:b> <urn:c> >>",
    ],
)
def test_what_is_no_term_is_not_bound(term: str) -> None:
    with pytest.raises(ContractError, match=r"^bindings: "):
        guarded("SELECT ?x { ?s ?p ?x }").bound(["x"], [[term]])


def test_bindings_that_do_not_fit_are_refused() -> None:
    asked = guarded("SELECT ?x { ?s ?p ?x }")
    with pytest.raises(ContractError, match=r"'x\) \}' is no name of a variable"):
        asked.bound(["x) }"], [["<urn:a>"]])
    with pytest.raises(ContractError, match=r"named twice in x, x"):
        asked.bound(["x", "x"], [["<urn:a>", "<urn:b>"]])
    with pytest.raises(ContractError, match=r"a row has 1 values for 2 variables"):
        asked.bound(["x", "s"], [["<urn:a>"]])
    with pytest.raises(OverCapacity, match=r"10001 rows, 10000 at most"):
        asked.bound(["x"], [["<urn:a>"]] * 10_001)


@pytest.mark.parametrize(
    "text",
    [
        "SELECT ?s ?o { ?s ndt:p ?o OPTIONAL { ?o ndt:q ?z } }",
        "SELECT ?s (COUNT(?o) AS ?n) { ?s ndt:p ?o } GROUP BY ?s",
        "CONSTRUCT { ?s ndt:r ?o } WHERE { ?s ndt:p ?o }",
        "CONSTRUCT WHERE { ?s ndt:p ?o }",
        "SELECT ?s { { ?s ndt:p ?o } UNION { ?s ndt:q ?o } } ORDER BY ?s LIMIT 50",
        "SELECT (EXISTS { ?s ndt:q ?x } AS ?has) ?s { ?s ndt:p ?o } VALUES ?o { 1 2 3 }",
    ],
)
def test_a_block_of_bindings_joins_wherever_it_is_put(text: str) -> None:
    store = ox.Store()
    nodes = [ox.NamedNode(f"urn:s{n}") for n in range(4)]
    for number, node in enumerate(nodes):
        for name in ("p", "q")[: 1 + number % 2]:
            store.add(ox.Quad(node, ox.NamedNode(NDT + name), ox.Literal(number)))
    asked = guarded(text)

    bound = store.query(asked.bound(["s", "unseen"], [[str(nodes[1]), ""], [str(nodes[3]), ""]]))

    everything = store.query(asked.text)
    if isinstance(bound, ox.QueryTriples):
        assert isinstance(everything, ox.QueryTriples)
        assert set(bound) == {each for each in everything if each.subject in (nodes[1], nodes[3])}
    else:
        assert isinstance(bound, ox.QuerySolutions)
        assert isinstance(everything, ox.QuerySolutions)
        wanted = [str(each) for each in everything if each["s"] in (nodes[1], nodes[3])]
        assert sorted(map(str, bound)) == sorted(wanted)


def test_bindings_do_not_mix_with_values_after_aggregates() -> None:
    asked = guarded("SELECT ?s (COUNT(?o) AS ?n) { ?s ?p ?o } GROUP BY ?s VALUES ?s { <urn:a> }")
    with pytest.raises(ContractError, match=r"a VALUES at its end takes no others"):
        asked.bound(["s"], [["<urn:a>"]])


UNIONS = {
    "{ ?x <urn:p> ?y } UNION { ?x <urn:q> ?z }": 2,
    "{ ?x <urn:p> ?y } UNION { SELECT ?x { ?x <urn:q> ?z } } UNION { BIND(1 AS ?k) }": 3,
    "{ ?x <urn:p> ?y } UNION { ?x <urn:q> ?z } ?x <urn:p> ?w": 1,
    "{ ?x <urn:p> ?y } UNION { ?x <urn:q> ?z } FILTER EXISTS { ?x <urn:p> ?w }": 1,
    "{ ?x <urn:p> ?y } MINUS { ?x <urn:q> ?z }": 1,
    "{ { ?x <urn:p> ?y } UNION { ?x <urn:q> ?z } }": 1,
    "{ ?x <urn:p> ?y } { ?x <urn:q> ?z }": 1,
}


@pytest.mark.parametrize("form", ["SELECT *", "SELECT DISTINCT ?x", "CONSTRUCT { ?x <urn:r> ?y } WHERE"])
@pytest.mark.parametrize("body", UNIONS)
def test_bindings_join_every_side_of_a_union(body: str, form: str) -> None:
    store = ox.Store()
    for number in range(6):
        for name in ("p", "q") if number % 2 else ("p",):
            store.add(ox.Quad(ox.NamedNode(f"urn:{number}"), ox.NamedNode(f"urn:{name}"), ox.Literal(number)))
    query = guarded(f"{form} {{ {body} }}")

    bound = query.bound(["x"], [["<urn:1>"], ["<urn:4>"], ["<urn:9>"], ["<urn:1>"]])

    whole = f"{form} {{ VALUES ?x {{ <urn:1> <urn:4> <urn:9> <urn:1> }} {{ {body} }} }}"
    assert sorted(map(str, store.query(bound))) == sorted(map(str, store.query(whole)))  # type: ignore[arg-type]
    assert bound.count("VALUES") == UNIONS[body]
