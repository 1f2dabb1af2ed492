"""Shapes (SHACL core, a subset) compiled to set-based SPARQL. Owns which constructs are known.

A shape file is the published contract; here each of its constraints becomes one query over all elements at
once, where a validator walks element by element. Whatever this does not know is refused by name: a constraint
that is silently skipped would be a promise not kept. pySHACL is the referee in the tests.

Known: sh:targetClass, targetNode, targetSubjectsOf, targetObjectsOf; property shapes with any path; minCount,
maxCount, datatype, nodeKind, class, in, hasValue, pattern with flags, minLength, maxLength, min/maxInclusive,
min/maxExclusive, equals, disjoint, lessThan, lessThanOrEquals, languageIn; severity, message, deactivated.
Subclasses are those of the ontology; subclass statements among the data count for nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import pyoxigraph as ox

from domain_twin.errors import ConfigError
from domain_twin.model import Severity
from domain_twin.resources import data_folder
from domain_twin.semantic.names import NDT
from domain_twin.semantic.shape_paths import Described, path_text, terms_of
from domain_twin.semantic.store import SemanticStore

__all__ = ["Check", "Result", "check", "compile_shapes", "load_shapes", "subclasses"]

SH = "http://www.w3.org/ns/shacl#"
XSD = "http://www.w3.org/2001/XMLSchema#"
_RDF_TYPE = "http://www.w3.org/1999/02/22-rdf-syntax-ns#type"
_SUBCLASS = "http://www.w3.org/2000/01/rdf-schema#subClassOf"

_TARGETS = ("targetClass", "targetNode", "targetSubjectsOf", "targetObjectsOf")
_ABOUT = (
    "path",
    "property",
    "severity",
    "message",
    "deactivated",
    "name",
    "description",
    "order",
    "group",
    "flags",
)
_NODE_KINDS = {
    "IRI": "isIRI(?v)",
    "Literal": "isLiteral(?v)",
    "BlankNode": "isBlank(?v)",
    "BlankNodeOrIRI": "!isLiteral(?v)",
    "BlankNodeOrLiteral": "!isIRI(?v)",
    "IRIOrLiteral": "!isBlank(?v)",
}
_CASTS = {"integer", "decimal", "double", "float", "boolean", "dateTime"}
_PLAIN = {
    "string",
    "date",
    "time",
    "duration",
    "dayTimeDuration",
    "yearMonthDuration",
    "anyURI",
    "base64Binary",
}
_SEVERITIES = {"Violation": Severity.ERROR, "Warning": Severity.WARNING, "Info": Severity.INFO}


@dataclass(frozen=True, slots=True)
class Check:
    """One constraint of one shape, as a query whose rows (`focus`, perhaps `v`) are what violates it."""

    shape: str
    component: str
    query: str
    message: str
    remedy: str
    severity: Severity
    path: str = ""


@dataclass(frozen=True, slots=True)
class Result:
    """One element that violates one constraint."""

    check: Check
    focus: str
    value: str = ""


def load_shapes(folder: Path | None = None) -> list[Check]:
    """The product's shapes and those of the .ttl files in `folder`, compiled. Raises ConfigError."""
    files = sorted((data_folder("ontology") / "shapes").glob("*.ttl"))
    if folder is not None:
        if not folder.is_dir():
            raise ConfigError(f"[semantic] shapes: there is no folder {folder}")
        files += sorted(folder.glob("*.ttl"))
    found: list[Check] = []
    below = subclasses()
    for path in files:
        try:
            found += compile_shapes(path.read_bytes(), str(path), below)
        except OSError as error:
            raise ConfigError(f"{path}: the shapes cannot be read ({error.strerror})") from error
    seen: dict[str, str] = {}
    for item in found:
        key = f"{item.shape} {item.component} {item.query}"
        if key in seen:
            raise ConfigError(f"the shape {item.shape} is in two files; give one of them another name")
        seen[key] = item.shape
    return found


@lru_cache(maxsize=1)
def subclasses() -> Mapping[str, frozenset[str]]:
    """Each class of the shipped ontology with itself and all below it."""
    direct: dict[str, set[str]] = {}
    with (data_folder("ontology") / "ndt.ttl").open("rb") as file:
        for quad in ox.parse(file, format=ox.RdfFormat.TURTLE):
            if quad.predicate.value == _SUBCLASS and isinstance(quad.object, ox.NamedNode):
                direct.setdefault(quad.object.value, set()).add(str(quad.subject)[1:-1])
    found: dict[str, frozenset[str]] = {}
    for top in direct:
        reached, left = {top}, [top]
        while left:
            for lower in direct.get(left.pop(), set()) - reached:
                reached.add(lower)
                left.append(lower)
        found[top] = frozenset(reached)
    return found


def compile_shapes(
    text: bytes | str, where: str, below: Mapping[str, frozenset[str]] | None = None
) -> list[Check]:
    """The checks of a Turtle document; `below` gives the classes below one. Raises ConfigError."""
    try:
        quads = list(ox.parse(text, format=ox.RdfFormat.TURTLE))
    except (SyntaxError, ValueError) as error:
        raise ConfigError(f"{where}: {error}") from error
    return _Compiler(Described(quads), where, below or {}).checks()


def check(store: SemanticStore, checks: Iterable[Check], graphs: Sequence[str] | None = None) -> list[Result]:
    """What violates the checks in the union of these graphs (None: of all). Raises StoreUnwritable."""
    found: list[Result] = []
    for item in checks:
        rows = store.query(item.query, default=graphs, named=[])
        assert isinstance(rows, ox.QuerySolutions)
        try:
            valued = any(variable.value == "v" for variable in rows.variables)
            for row in rows:
                value = row["v"] if valued else None
                found.append(Result(item, _plain(row["focus"]), "" if value is None else _plain(value)))
        finally:
            del rows  # it may only go in this thread, and an error would carry it out
    return found


def _plain(term: object) -> str:
    return term.value if isinstance(term, (ox.NamedNode, ox.Literal, ox.BlankNode)) else str(term)


class _Compiler:
    """Turns one document into checks."""

    def __init__(self, graph: Described, where: str, below: Mapping[str, frozenset[str]]) -> None:
        self._graph = graph
        self._where = where
        self._below = below

    def checks(self) -> list[Check]:
        made: list[Check] = []
        shapes = self._graph.subjects(_RDF_TYPE, SH + "NodeShape") | self._graph.subjects(
            _RDF_TYPE, SH + "PropertyShape"
        )
        for predicate in _TARGETS:
            shapes |= self._graph.having(SH + predicate)
        owned = {node for node in self._graph.objects(SH + "property")}
        for shape in sorted(shapes, key=str):
            if not self._targets(shape):
                if shape in owned:
                    continue
                if not isinstance(shape, ox.BlankNode):
                    raise self._wrong(
                        shape, "it has no target; give it sh:targetClass, or name it in sh:property"
                    )
                continue
            made += self._shape(shape, self._targets(shape), None)
        return made

    def _shape(
        self, shape: ox.NamedNode | ox.BlankNode, targets: Sequence[str], parent: object
    ) -> list[Check]:
        if self._true(shape, "deactivated"):
            return []
        self._refuse_unknown(shape)
        paths = self._graph.values(shape, SH + "path")
        path = ""
        if paths:
            try:
                path = path_text(self._graph, paths[0])
            except ValueError as error:
                raise self._wrong(shape, str(error)) from error
        made = []
        for target in targets:
            made += self._constraints(shape, target, path, parent)
        for inner in self._graph.values(shape, SH + "property"):
            if path:
                raise self._wrong(
                    shape, "sh:property within a property shape is not known; write the longer sh:path"
                )
            if not isinstance(inner, (ox.NamedNode, ox.BlankNode)) or not self._graph.values(
                inner, SH + "path"
            ):
                raise self._wrong(shape, f"its sh:property {inner} has no sh:path")
            made += self._shape(inner, targets, shape)
        return made

    def _refuse_unknown(self, shape: ox.NamedNode | ox.BlankNode) -> None:
        known = {*_TARGETS, *_ABOUT, *_COMPONENTS}
        for predicate in self._graph.predicates(shape):
            name = predicate.removeprefix(SH)
            if predicate.startswith(SH) and name not in known:
                raise self._wrong(
                    shape, f"sh:{name} is not known here; known are {', '.join(sorted(_COMPONENTS))}"
                )

    def _targets(self, shape: ox.NamedNode | ox.BlankNode) -> list[str]:
        """Patterns that bind ?focus."""
        found = []
        for value in self._graph.values(shape, SH + "targetClass"):
            found.append(f"?focus a ?c . VALUES ?c {{ {self._classes(shape, value)} }}")
        for value in self._graph.values(shape, SH + "targetNode"):
            if isinstance(value, ox.BlankNode):
                raise self._wrong(shape, "sh:targetNode names a blank node, which no data can mean")
            found.append(f"VALUES ?focus {{ {value} }}")
        found += [f"?focus {v} ?any" for v in self._graph.values(shape, SH + "targetSubjectsOf")]
        found += [f"?any {v} ?focus" for v in self._graph.values(shape, SH + "targetObjectsOf")]
        return found

    def _classes(self, shape: object, value: object) -> str:
        if not isinstance(value, ox.NamedNode):
            raise self._wrong(shape, f"{value} is no class")
        return " ".join(f"<{iri}>" for iri in sorted(self._below.get(value.value, {value.value})))

    def _constraints(
        self, shape: ox.NamedNode | ox.BlankNode, target: str, path: str, parent: object
    ) -> list[Check]:
        focus = f"{{ SELECT DISTINCT ?focus {{ {target} }} }}"
        values = f"{focus} ?focus {path} ?v ." if path else f"{focus} BIND(?focus AS ?v)"
        made = []
        for name, make in _COMPONENTS.items():
            for value in self._graph.values(shape, SH + name):
                if not path and name in _PATH_ONLY:
                    raise self._wrong(shape, f"sh:{name} needs a sh:path")
                made.append(
                    Check(
                        shape=self._name(shape, parent),
                        component=name[0].upper() + name[1:] + "ConstraintComponent",
                        query=make(self, shape, value, focus, values, path),
                        message=self._text(shape, parent, SH + "message") or f"it violates sh:{name}",
                        remedy=self._text(shape, parent, NDT + "remedy"),
                        severity=self._severity(shape),
                        path=path,
                    )
                )
        return made

    # --- one query for each kind of constraint; each selects ?focus, and ?v where a value is to blame

    def _min_count(self, shape: object, value: object, focus: str, values: str, path: str) -> str:
        least = self._number(shape, "minCount", value)
        if least == 0:
            return "SELECT ?focus { FILTER(false) }"
        if least == 1:
            return f"SELECT ?focus {{ {focus} FILTER NOT EXISTS {{ ?focus {path} ?v }} }}"
        return (
            f"SELECT ?focus {{ {focus} OPTIONAL {{ ?focus {path} ?v }} }}"
            f" GROUP BY ?focus HAVING (COUNT(DISTINCT ?v) < {least})"
        )

    def _max_count(self, shape: object, value: object, focus: str, values: str, path: str) -> str:
        most = self._number(shape, "maxCount", value)
        return f"SELECT ?focus {{ {values} }} GROUP BY ?focus HAVING (COUNT(DISTINCT ?v) > {most})"

    def _number(self, shape: object, name: str, value: object) -> int:
        if isinstance(value, ox.Literal) and value.value.isdigit():
            return int(value.value)
        raise self._wrong(shape, f"sh:{name} {value} is no whole number from 0 up")

    def _datatype(self, shape: object, value: object, focus: str, values: str, path: str) -> str:
        iri = value.value if isinstance(value, ox.NamedNode) else ""
        name = iri.removeprefix(XSD)
        fits = f"isLiteral(?v) && DATATYPE(?v) = <{iri}>"
        if iri.startswith(XSD) and name in _CASTS:
            # A literal that is not of the form of its type is none of it (SHACL 4.1.2).
            fits += " && BOUND(?cast)"
            return (
                f"SELECT DISTINCT ?focus ?v {{ {values} BIND(<{iri}>(STR(?v)) AS ?cast)"
                f" FILTER(!COALESCE({fits}, false)) }}"
            )
        if iri.startswith(XSD) and name not in _PLAIN:
            raise self._wrong(
                shape,
                f"sh:datatype xsd:{name}: the store keeps whole numbers of every type as xsd:integer;"
                " write that, with sh:minInclusive and sh:maxInclusive",
            )
        return _not(values, fits)

    def _node_kind(self, shape: object, value: object, focus: str, values: str, path: str) -> str:
        name = value.value.removeprefix(SH) if isinstance(value, ox.NamedNode) else ""
        if name not in _NODE_KINDS:
            raise self._wrong(shape, f"sh:nodeKind {value}; accepted are sh:{', sh:'.join(_NODE_KINDS)}")
        return _not(values, _NODE_KINDS[name])

    def _class(self, shape: object, value: object, focus: str, values: str, path: str) -> str:
        classes = self._classes(shape, value)
        return (
            f"SELECT DISTINCT ?focus ?v {{ {values}"
            f" FILTER NOT EXISTS {{ VALUES ?is {{ {classes} }} ?v a ?is }} }}"
        )

    def _in(self, shape: object, value: object, focus: str, values: str, path: str) -> str:
        terms = self._list(shape, "in", value)
        return _not(values, " || ".join(f"sameTerm(?v, {term})" for term in terms) or "false")

    def _has_value(self, shape: object, value: object, focus: str, values: str, path: str) -> str:
        if isinstance(value, ox.BlankNode):
            raise self._wrong(shape, "sh:hasValue names a blank node, which no data can mean")
        if not path:
            return f"SELECT ?focus {{ {focus} FILTER(!sameTerm(?focus, {value})) }}"
        return f"SELECT ?focus {{ {focus} FILTER NOT EXISTS {{ ?focus {path} {value} }} }}"

    def _pattern(self, shape: object, value: object, focus: str, values: str, path: str) -> str:
        assert isinstance(shape, (ox.NamedNode, ox.BlankNode))
        flags = self._graph.values(shape, SH + "flags")
        more = f", {ox.Literal(_plain(flags[0]))}" if flags else ""
        return _not(values, f"!isBlank(?v) && REGEX(STR(?v), {ox.Literal(_plain(value))}{more})")

    def _min_length(self, shape: object, value: object, focus: str, values: str, path: str) -> str:
        return _not(values, f"!isBlank(?v) && STRLEN(STR(?v)) >= {self._number(shape, 'minLength', value)}")

    def _max_length(self, shape: object, value: object, focus: str, values: str, path: str) -> str:
        return _not(values, f"!isBlank(?v) && STRLEN(STR(?v)) <= {self._number(shape, 'maxLength', value)}")

    def _min_inclusive(self, shape: object, value: object, focus: str, values: str, path: str) -> str:
        return _not(values, f"?v >= {value}")

    def _max_inclusive(self, shape: object, value: object, focus: str, values: str, path: str) -> str:
        return _not(values, f"?v <= {value}")

    def _min_exclusive(self, shape: object, value: object, focus: str, values: str, path: str) -> str:
        return _not(values, f"?v > {value}")

    def _max_exclusive(self, shape: object, value: object, focus: str, values: str, path: str) -> str:
        return _not(values, f"?v < {value}")

    def _equals(self, shape: object, value: object, focus: str, values: str, path: str) -> str:
        one = f"{values} FILTER NOT EXISTS {{ ?focus {value} ?v }}"
        has = f"?focus {path} ?v" if path else "FILTER(sameTerm(?focus, ?v))"
        other = f"{focus} ?focus {value} ?v . FILTER NOT EXISTS {{ {has} }}"
        return f"SELECT DISTINCT ?focus ?v {{ {{ {one} }} UNION {{ {other} }} }}"

    def _disjoint(self, shape: object, value: object, focus: str, values: str, path: str) -> str:
        return f"SELECT DISTINCT ?focus ?v {{ {values} ?focus {value} ?v }}"

    def _less_than(self, shape: object, value: object, focus: str, values: str, path: str) -> str:
        return _not(f"{values} ?focus {value} ?other .", "?v < ?other")

    def _less_than_or_equals(self, shape: object, value: object, focus: str, values: str, path: str) -> str:
        return _not(f"{values} ?focus {value} ?other .", "?v <= ?other")

    def _language_in(self, shape: object, value: object, focus: str, values: str, path: str) -> str:
        ranges = [_plain(term) for term in self._list(shape, "languageIn", value)]
        fits = " || ".join(f"LANGMATCHES(LANG(?v), {ox.Literal(tag)})" for tag in ranges) or "false"
        return _not(values, f"isLiteral(?v) && LANG(?v) != '' && ({fits})")

    # --- what a shape says of itself

    def _list(self, shape: object, name: str, value: object) -> list[object]:
        try:
            return list(terms_of(self._graph, value))
        except ValueError as error:
            raise self._wrong(shape, f"sh:{name}: {error}") from error

    def _true(self, shape: ox.NamedNode | ox.BlankNode, name: str) -> bool:
        return any(_plain(value) == "true" for value in self._graph.values(shape, SH + name))

    def _severity(self, shape: ox.NamedNode | ox.BlankNode) -> Severity:
        for value in self._graph.values(shape, SH + "severity"):
            name = _plain(value).removeprefix(SH)
            if name not in _SEVERITIES:
                raise self._wrong(shape, f"sh:severity {value}; accepted are sh:{', sh:'.join(_SEVERITIES)}")
            return _SEVERITIES[name]
        return Severity.ERROR

    def _text(self, shape: ox.NamedNode | ox.BlankNode, parent: object, predicate: str) -> str:
        for node in (shape, parent):
            if isinstance(node, (ox.NamedNode, ox.BlankNode)):
                for value in self._graph.values(node, predicate):
                    return _plain(value)
        return ""

    def _name(self, shape: object, parent: object) -> str:
        if isinstance(shape, ox.NamedNode):
            return shape.value
        return parent.value if isinstance(parent, ox.NamedNode) else str(shape)

    def _wrong(self, shape: object, what: str) -> ConfigError:
        return ConfigError(f"{self._where}: the shape {shape}: {what}")


def _not(values: str, fits: str) -> str:
    """What does not fit, an error in the comparison included."""
    return f"SELECT DISTINCT ?focus ?v {{ {values} FILTER(!COALESCE({fits}, false)) }}"


_COMPONENTS = {
    "minCount": _Compiler._min_count,
    "maxCount": _Compiler._max_count,
    "datatype": _Compiler._datatype,
    "nodeKind": _Compiler._node_kind,
    "class": _Compiler._class,
    "in": _Compiler._in,
    "hasValue": _Compiler._has_value,
    "pattern": _Compiler._pattern,
    "minLength": _Compiler._min_length,
    "maxLength": _Compiler._max_length,
    "minInclusive": _Compiler._min_inclusive,
    "maxInclusive": _Compiler._max_inclusive,
    "minExclusive": _Compiler._min_exclusive,
    "maxExclusive": _Compiler._max_exclusive,
    "equals": _Compiler._equals,
    "disjoint": _Compiler._disjoint,
    "lessThan": _Compiler._less_than,
    "lessThanOrEquals": _Compiler._less_than_or_equals,
    "languageIn": _Compiler._language_in,
}
_PATH_ONLY = {"minCount", "maxCount", "lessThan", "lessThanOrEquals"}
