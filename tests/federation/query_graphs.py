"""Small graphs of three domains that hypothesis draws, queries over them, and domains that answer at once."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence

import pyoxigraph as ox
from hypothesis import strategies as st

from domain_twin.agent.queries import card_of
from domain_twin.errors import Unreachable
from domain_twin.semantic.guard import guarded
from domain_twin.semantic.names import AUTHORITY, domain_node
from federation.query.asking import Answered, Desk, Part
from federation.query.boundary import Facts, SeenBoundary
from federation.query.cards import Card, decode_card
from federation.query.execute import Execution
from federation.query.gathered import Gathered, Triple, Value
from federation.query.reading import read
from federation.query.sources import RDF_TYPE, Sources

DOMAINS = ("a", "b", "c")
NS = "https://x.example/"
_PREDICATES = ("p", "q", "r", "v")
_XSD = "http://www.w3.org/2001/XMLSchema#"


def name(domain: str, number: int) -> ox.NamedNode:
    """An element of a domain, or (without one) a thing that belongs to nobody."""
    return ox.NamedNode(f"{domain_node(domain)}/e/{number}" if domain else f"{AUTHORITY}/record/r/{number}")


def term(word: str) -> ox.NamedNode:
    return ox.NamedNode(NS + word)


def _triples(domain: str) -> st.SearchStrategy[Triple]:
    own = st.integers(0, 3).map(lambda number: name(domain, number))
    nobody = st.integers(0, 1).map(lambda number: name("", number))
    subject = st.one_of(own, own, nobody)
    anything = st.builds(name, st.sampled_from(["", *DOMAINS]), st.integers(0, 3))
    literal = st.sampled_from(
        [
            ox.Literal("one"),
            ox.Literal("1", datatype=ox.NamedNode(_XSD + "integer")),
            ox.Literal("01", datatype=ox.NamedNode(_XSD + "integer")),
            ox.Literal("1.0", datatype=ox.NamedNode(_XSD + "decimal")),
            ox.Literal("one", language="en"),
        ]
    )
    return st.one_of(
        st.tuples(subject, st.just(term("p")), anything),
        st.tuples(own, st.just(term("q")), own),  # a property that stays inside the domain
        st.tuples(own, st.just(term("r")), anything),
        st.tuples(subject, st.just(term("v")), literal),
        st.tuples(subject, st.just(RDF_TYPE), st.sampled_from([term("C"), term("D")])),
    )


graphs = st.fixed_dictionaries({domain: st.lists(_triples(domain), max_size=10) for domain in DOMAINS})
owned = st.lists(
    st.tuples(
        st.integers(0, 2).map(lambda number: name("", number)),
        st.sampled_from([term("p"), term("w"), RDF_TYPE]),
        st.builds(name, st.sampled_from(["", *DOMAINS]), st.integers(0, 3)),
    ),
    max_size=4,
)
copied = st.sets(st.sampled_from(["p", "q", "r", "v", "type"]))

_VARIABLES = st.sampled_from(["?x", "?y", "?z"])
_NODES = st.one_of(
    _VARIABLES,
    _VARIABLES,
    st.builds(lambda d, n: str(name(d, n)), st.sampled_from(["", *DOMAINS]), st.integers(0, 2)),
)


@st.composite
def _paths(draw: st.DrawFn) -> str:
    simple = [str(term(word)) for word in _PREDICATES]
    one, other = draw(st.sampled_from(simple)), draw(st.sampled_from(simple))
    return draw(
        st.sampled_from(
            [f"{one}+", f"{one}*", f"({one}|{other})+", f"{one}/{other}", f"^{one}", f"({one}/^{other})+",
             f"{one}?", f"!({one}|^{other})", f"({one}|^{other})*", f"{one}|{other}", f"^({one}+)/{other}"]
        )
    )  # fmt: skip


@st.composite
def _patterns(draw: st.DrawFn) -> str:
    subject, obj = draw(_NODES), draw(_NODES)
    match draw(st.integers(0, 9)):
        case 0 | 1:
            return f"{subject} a {draw(st.sampled_from([str(term('C')), str(term('D')), '?t']))} ."
        case 2 | 3:
            return f"{subject} {draw(_paths())} {obj} ."
        case 4:
            return f"{subject} ?k {obj} ."
        case 5:
            literal = draw(st.sampled_from(["1", '"one"', "1.0", '"one"@en', "01"]))
            return f"{subject} {term('v')} {literal} ."
        case 6:
            return f"{subject} {term('p')} [ {term('r')} {obj} ] ."
        case _:
            word = draw(st.sampled_from([*_PREDICATES, "w"]))
            return f"{subject} {term(word)} {obj} ."


CONDITIONS = (
    "{0} = 1", "{0} != 1", "{0} < 1.5", "{0} >= 1", "{0} = 'one'", "{0} IN (1, 'one')", "{0} NOT IN (1, {1})",
    "{0} = {1}", "{0} != {1}", "STRSTARTS(STR({0}), 'https://fedtwin.example/id/a')", "REGEX({0}, '^O', 'i')",
    "CONTAINS({0}, 'n')", "STRLEN(STR({0})) > 3", "isIRI({0})", "!isLITERAL({0})", "BOUND({0})",
    "!BOUND({0})", "LANG({0}) = 'en'", "DATATYPE({0}) = xsd:integer", "{0} = -1", "isIRI({0}) && {1} != 1",
    "{0} = 1 || !BOUND({1})", "!({0} = 'one' || {1} = 1)", "isNUMERIC({0})", "UCASE(STR({0})) = 'ONE'",
)  # fmt: skip


@st.composite
def _filters(draw: st.DrawFn) -> str:
    """A condition on one or two variables, bound by the group or not."""
    names = st.sampled_from(["?x", "?y", "?z"])
    return f"FILTER({draw(st.sampled_from(CONDITIONS)).format(draw(names), draw(names))})"


@st.composite
def _groups(draw: st.DrawFn, depth: int = 2) -> str:
    parts = draw(st.lists(_patterns(), min_size=1, max_size=3))
    for turn in range(draw(st.integers(0, 2)) if depth else 0):
        inner = draw(_groups(depth=depth - 1))
        parts.append(
            draw(
                st.sampled_from(
                    [f"OPTIONAL {{ {inner} }}", f"MINUS {{ {inner} }}", f"FILTER NOT EXISTS {{ {inner} }}",
                     f"FILTER EXISTS {{ {inner} }}", f"{{ {inner} }}", f"{{ {inner} }} UNION {{ ?x ?m ?y }}",
                     f"{{ SELECT ?x (COUNT(*) AS ?n) {{ {inner} }} GROUP BY ?x }}",
                     f"{{ SELECT DISTINCT ?x {{ {inner} }} }}", f"GRAPH <{domain_node('a')}> {{ {inner} }}",
                     f"GRAPH ?g {{ {inner} }}", f"SERVICE <{domain_node('b')}> {{ {inner} }}",
                     f"OPTIONAL {{ {inner} FILTER (?x != ?y) }}", f"{{ {inner} {draw(_filters())} }}",
                     f"BIND (?x AS ?b{depth}{turn})", f"VALUES ?x {{ {name('a', 0)} {name('b', 1)} }}",
                     "FILTER (isIRI(?x))",
                     f"VALUES (?x ?y) {{ ({name('a', 0)} UNDEF) (UNDEF {name('b', 1)}) }}"]
                )
            )
        )  # fmt: skip
    if draw(st.booleans()):
        parts.append(draw(_filters()))
    order = draw(st.permutations(parts))
    return " ".join(order)


@st.composite
def queries(draw: st.DrawFn) -> str:
    body = draw(_groups())
    head = draw(
        st.sampled_from(
            ["SELECT *", "SELECT DISTINCT ?x ?y", "SELECT (COUNT(DISTINCT ?x) AS ?n) (COUNT(*) AS ?m)", "ASK"]
        )
    )
    return f"{head} {{ {body} }}"


class Stores:
    """Domains that answer from stores, at once, as agents do: the text is guarded, values are joined."""

    def __init__(self, graphs: Mapping[str, Iterable[Triple]]) -> None:
        self.graphs = {domain: tuple(dict.fromkeys(triples)) for domain, triples in graphs.items()}
        self.stores: dict[str, ox.Store] = {}
        for domain, triples in self.graphs.items():
            self.stores[domain] = ox.Store()
            self.stores[domain].extend(ox.Quad(*triple) for triple in triples)
        self.asked: list[tuple[str, str, int]] = []
        self.down: set[str] = set()
        self.delay_s = 0.0

    def cards(self) -> dict[str, Card]:
        return {
            domain: decode_card(domain, card_of(domain, [ox.Quad(*triple) for triple in triples]))
            for domain, triples in self.graphs.items()
        }

    async def card(self, domain: str, asker: str) -> Card:
        self._check(domain)
        return self.cards()[domain]

    async def ask(
        self, domain: str, text: str, variable: str, values: Sequence[Value], *, asker: str, timeout_s: float
    ) -> Answered:
        self._check(domain)
        self.asked.append((domain, text, len(values)))
        bound = guarded(text).bound([variable] if values else [], [(str(value),) for value in values])
        if self.delay_s:
            await asyncio.sleep(self.delay_s)
        return Answered(answer_of(self.stores[domain], bound))

    def _check(self, domain: str) -> None:
        if domain in self.down:
            raise Unreachable(f"{domain}: it is not connected now")


async def gathered_answer(
    text: str, domains: Stores, own: Sequence[Triple] = (), copies: Iterable[str] = ()
) -> tuple[bytes, Execution]:
    """The query's answer over what was gathered for it; `copies`: predicates that the broker has of all."""
    reading = read(text, DOMAINS)
    cards = domains.cards()
    kept = {RDF_TYPE if word == "type" else term(word) for word in copies}
    parts = {
        domain: Facts([t for t in said if t[1] in kept], domain) for domain, said in domains.graphs.items()
    }
    seen = SeenBoundary(Facts(own), parts, cards)
    gathered = Gathered(frozenset(DOMAINS))
    deadline = asyncio.get_running_loop().time() + 60.0
    desk = Desk(domains, {domain: Part(domain) for domain in DOMAINS}, asker="", deadline=deadline)
    execution = Execution(reading.needs, Sources(cards, seen.card, seen.covers), desk, seen, gathered)
    await execution.run()
    for part in desk.parts.values():
        assert part.error is None, part.error
    store = ox.Store()
    store.load(gathered.n_quads(graphs=reading.graphs), format=ox.RdfFormat.N_QUADS)
    return answer_of(store, reading.guarded.text), execution


def merged_answer(text: str, domains: Stores, own: Sequence[Triple] = ()) -> bytes:
    """The query's answer over one store that holds everything."""
    gathered = Gathered(frozenset(DOMAINS))
    gathered.add("", own)
    for domain, triples in domains.graphs.items():
        gathered.add(domain, triples)
    store = ox.Store()
    store.load(gathered.n_quads(graphs=True), format=ox.RdfFormat.N_QUADS)
    return answer_of(store, read(text, DOMAINS).guarded.text)


def answer_of(store: ox.Store, text: str) -> bytes:
    return store.query(text).serialize(format=ox.QueryResultsFormat.JSON) or b""  # type: ignore[arg-type]
