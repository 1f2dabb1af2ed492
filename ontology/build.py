"""Check the ontology and write what follows from it: `python ontology/build.py [--check] [--diff OLD.ttl]`.

Owns what is generated: term constants, the page of terms, the JSON-LD context. What the files keep is
`checking`'s. It reads a checkout; a wheel carries it along with the data and never runs it.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import sample
from checking import HERE, KINDS, NDT, Sources, constant, header, local, named, parsed, problems
from rdflib import DCTERMS, OWL, RDFS, XSD, Graph, Literal, URIRef
from rdflib.namespace import SH

ROOT = HERE.parent


def generated(sources: Sources) -> dict[Path, str]:
    """The generated files' contents, by their place in the checkout."""
    return {
        ROOT / "domain_twin" / "semantic" / "terms.py": constants(sources),
        HERE / "context" / "ndt.jsonld": context(sources),
        ROOT / "docs" / "ontology.md": page(sources),
        **{HERE / "examples" / "four-domains" / name: text for name, text in sample.files().items()},
    }


def world(graph: Graph) -> Any:
    """The graph as owlready2 sees it; imports owlready2."""
    import owlready2

    made = owlready2.World()
    made.get_ontology(str(NDT)[:-1]).load(fileobj=io.BytesIO(graph.serialize(format="nt", encoding="utf-8")))
    return made


def constants(sources: Sources) -> str:
    """The module of term constants. owlready2 says what is above what."""
    ours = world(sources.terms)
    lines = [
        '"""Terms of the upper ontology as IRIs; made from ontology/ndt.ttl by ontology/build.py."""',
        "",
        "from __future__ import annotations",
        "",
        "from collections.abc import Mapping",
        "from types import MappingProxyType",
        "from typing import Final",
        "",
        f'ONTOLOGY_VERSION: Final = "{sources.version}"',
    ]
    groups = (
        ("Classes", ours.classes()),
        ("Relations", ours.object_properties()),
        ("Attributes", ours.data_properties()),
    )
    above: dict[str, list[str]] = {}
    for title, terms in groups:
        lines += ["", f"# {title}"]
        for term in sorted(terms, key=lambda t: t.name):
            lines.append(f'{constant(term.name)}: Final = "{term.iri}"')
            higher = sorted(
                a.name
                for a in term.ancestors()
                if str(getattr(a, "iri", "")).startswith(NDT) and a is not term
            )
            if higher:
                above[term.name] = higher
    lines += ["", "ABOVE: Final[Mapping[str, frozenset[str]]] = MappingProxyType(", "    {"]
    for name, higher in sorted(above.items()):
        lines.append(f"        {constant(name)}: frozenset({{{', '.join(map(constant, higher))}}}),")
    lines += ["    }", ")", '"""Every class or property that a term is below of, by the term."""']
    kinds = [name for name, higher in sorted(above.items()) if "dependsOn" in higher]
    lines += ["", "DEPENDENCES: Final = ("]
    lines += [f"    {constant(name)}," for name in kinds]
    lines += [")", '"""The relations by which a failure travels: all that are below dependsOn."""', ""]
    return "\n".join(lines)


def context(sources: Sources) -> str:
    """The JSON-LD context: short names for all terms, typed values for attributes."""
    terms: dict[str, Any] = {"@version": 1.1, "ndt": str(NDT), "xsd": str(XSD), "id": "@id", "type": "@type"}
    for kind in KINDS:
        for term in sources.declared(kind):
            name = local(term)
            if kind in (OWL.Class, OWL.NamedIndividual):
                terms[name] = f"ndt:{name}"
                continue
            known = sources.terms.value(term, RDFS.range)
            as_type = "@id" if kind == OWL.ObjectProperty else f"xsd:{local(known)}"
            terms[name] = f"ndt:{name}" if known == XSD.string else {"@id": f"ndt:{name}", "@type": as_type}
    return json.dumps({"@context": terms}, indent=1, ensure_ascii=False) + "\n"


def page(sources: Sources) -> str:
    """The page of all terms, rules and shapes."""
    graph = sources.terms
    counts = [len(sources.declared(kind)) for kind in KINDS]
    lines = [
        "# The ontology",
        "",
        "Made from `ontology/` by `./dev docs`; a test fails when it is out of date. How it is built,",
        "extended and released: [ontology/README.md](../ontology/README.md); what is asked of it:",
        "`ontology/cq/`.",
        "",
        f"Version {sources.version}: {counts[0]} classes, {counts[1]} relations, {counts[2]} attributes and",
        f"{counts[3]} definitions of figures, in",
        f"the namespace `{NDT}` (prefix `ndt:`).",
    ]
    for title, kind in (
        ("Classes", OWL.Class),
        ("Relations", OWL.ObjectProperty),
        ("Attributes", OWL.DatatypeProperty),
        ("Definitions of figures", OWL.NamedIndividual),
    ):
        about = {OWL.Class: "below", OWL.NamedIndividual: "unit"}.get(kind, "of, to")
        lines += ["", f"## {title}", "", f"| term | {about} | meaning | source |", "|---|---|---|---|"]
        for term in sources.declared(kind):
            place = _places(graph, term, kind)
            meaning, source = graph.value(term, RDFS.comment), graph.value(term, DCTERMS.source)
            lines.append(f"| `{local(term)}` | {place} | {meaning} | {source} |")
    lines += ["", "## Rules", "", "Derived facts, each in a graph of its own, `…/g/inferred/RULE`.", ""]
    lines += ["| rule | derives | reads |", "|---|---|---|"]
    for name, text in sources.rules.items():
        lines.append(f"| `{name}` | {header(text, 'derives')} | {header(text, 'reads')} |")
    lines += [
        "",
        "## Shapes",
        "",
        "What data has to keep (SHACL core); `fedtwin check` tells where it does not.",
        "",
    ]
    lines += ["| of | shape | what is wrong | remedy |", "|---|---|---|---|"]
    lines += sorted(_shape_rows(sources))
    lines += ["", "## Deprecated terms", "", "| term | since | instead |", "|---|---|---|"]
    past = sources.deprecations
    for term in sorted(named(past.subjects(OWL.deprecated))):
        since = past.value(term, NDT.deprecatedInVersion)
        lines.append(f"| `{local(term)}` | {since} | {past.value(term, RDFS.comment)} |")
    return "\n".join(lines) + "\n"


def _places(graph: Graph, term: URIRef, kind: URIRef) -> str:
    if kind == OWL.NamedIndividual:
        return str(graph.value(term, NDT.unit))
    above = RDFS.subClassOf if kind == OWL.Class else RDFS.subPropertyOf
    higher = ", ".join(f"`{local(a)}`" for a in sorted(named(graph.objects(term, above))))
    if kind == OWL.Class:
        return higher
    ends = [
        f"`{local(v)}`" if v else "any"
        for v in (graph.value(term, RDFS.domain), graph.value(term, RDFS.range))
    ]
    return " → ".join(ends) + (f"; below {higher}" if higher else "")


def _shape_rows(sources: Sources) -> Iterator[str]:
    for place, graph in sources.parts.items():
        if place.startswith("shapes/"):
            for owner, shape in sorted(graph.subject_objects(SH.property), key=str):
                target = local(graph.value(owner, SH.targetClass))
                message, remedy = graph.value(shape, SH.message), graph.value(shape, NDT.remedy)
                yield f"| `{target}` | `{local(shape)}` | {message} | {remedy} |"


def changes(old: Graph, new: Graph) -> list[str]:
    """The terms that were added, removed, or mean something else, between two versions."""
    before, after = (
        {s: {(p, o) for p, o in g.predicate_objects(s) if not isinstance(o, Literal) or p != RDFS.label}
         for s in set(g.subjects()) if isinstance(s, URIRef) and s in NDT}
        for g in (old, new)
    )  # fmt: skip
    lines = [f"added {local(t)}" for t in sorted(after.keys() - before.keys())]
    lines += [f"removed {local(t)}" for t in sorted(before.keys() - after.keys())]
    for term in sorted(before.keys() & after.keys()):
        parts = sorted({local(p) for p, o in before[term] ^ after[term] if isinstance(o, URIRef | Literal)})
        if parts:
            lines.append(f"changed {local(term)}: {', '.join(parts)}")
    return lines


def main(arguments: Iterable[str]) -> int:
    """Run the script; returns its exit status."""
    parser = argparse.ArgumentParser(description="Check the ontology and write what follows from it.")
    parser.add_argument("--check", action="store_true", help="write nothing; say what is out of date")
    parser.add_argument(
        "--diff", type=Path, metavar="OLD.ttl", help="only list what changed since that version"
    )
    options = parser.parse_args(list(arguments))
    sources = Sources.of()
    if options.diff:
        print("\n".join(changes(parsed(options.diff), sources.terms)))
        return 0
    wrong = problems(sources)
    if not wrong:
        for path, text in generated(sources).items():
            if path.exists() and path.read_text(encoding="utf-8") == text:
                continue
            if options.check:
                wrong.append(f"{path.relative_to(ROOT)}: is out of date; run python ontology/build.py")
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text, encoding="utf-8")
    print("\n".join(wrong), file=sys.stderr, end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
