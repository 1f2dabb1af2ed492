"""`fedtwin ontology`: the words of the graph. Owns what is shown of a term; `terms` reads them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import click
import typer

from federation.cli.options import Json
from federation.cli.register import command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from federation.cli.terms import Ontology, Term

SECTION = "Ask the graph"
FORMS = ("turtle", "json-ld", "n-triples")
_KINDS = ("class", "relation", "attribute", "annotation")
_TITLES = {
    "class": "Classes",
    "relation": "Relations",
    "attribute": "Attributes",
    "annotation": "Annotations",
}


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    command(
        app,
        "ontology",
        section=SECTION,
        example=(
            "fedtwin ontology",
            "fedtwin ontology Slice",
            "fedtwin ontology --search 'termination point'",
            "fedtwin ontology --export json-ld -o ndt.jsonld",
        ),
    )(ontology)


def ontology(
    *,
    term: Annotated[
        str, typer.Argument(help="One term, as Link or ndt:Link; default: all.", show_default=False)
    ] = "",
    search: Annotated[
        str, typer.Option("--search", metavar="WORDS", help="Only terms with all these words.")
    ] = "",
    kind: Annotated[
        str, typer.Option("--kind", metavar="KIND", help="Only class, relation, attribute or annotation.")
    ] = "",
    export: Annotated[
        str,
        typer.Option(
            "--export",
            metavar="FORM",
            help="The whole ontology as turtle, json-ld or n-triples, and no table.",
        ),
    ] = "",
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="Where --export writes; default: stdout."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Browse the terms that queries are written in.

    What each means, the clause of the standard it rests on, which properties it has, what it is like in
    other vocabularies, and which rules, shapes and competency questions use it. Asks no twin.
    """
    if export and (term or search or kind or as_json):
        raise click.UsageError("--export writes the whole ontology; leave the other options out")
    if output and not export:
        raise click.UsageError("-o writes what --export makes; give both, or redirect the output")
    if term and (search or kind):
        raise click.UsageError("name one term, or search; not both")
    _one_of(export, FORMS, "--export")
    _one_of(kind, _KINDS, "--kind")
    from federation.cli.console import emit, out
    from federation.cli.terms import document, load, serialised

    found = load()
    if export:
        from federation.cli.output import write

        write(serialised(found, export), output)
        return
    if term:
        one = found.term(term)
        if as_json:
            emit(document([one])[0])
        else:
            out().print(term_block(one))
        return
    terms = found.search(search) if search else list(found.terms.values())
    terms = [each for each in terms if kind in ("", each.kind)]
    if as_json:
        emit({"version": found.version, "terms": document(terms)})
    elif not terms:
        out().print(f"No term has all of: {search or kind}.", markup=False)
    else:
        out().print(terms_block(found, terms))


def _one_of(word: str, known: Sequence[str], option: str) -> None:
    if word and word not in known:
        raise click.BadParameter(f"{word!r} is none of {', '.join(known)}", param_hint=option)


def terms_block(ontology: Ontology, terms: Sequence[Term]) -> RenderableType:
    """Terms by kind, each with the first sentence of its definition."""
    from rich.console import Group
    from rich.text import Text

    from federation.cli.tables import grid

    parts: list[RenderableType] = []
    for kind, title in _TITLES.items():
        some = [term for term in terms if term.kind == kind]
        if not some:
            continue
        table = grid("term", "from", "to", "definition", wraps="definition")
        if kind in ("class", "annotation"):
            table = grid("term", "definition", wraps="definition")
        for term in some:
            name = Text(term.name, "dim strike" if term.deprecated else "bold")
            ends = () if kind in ("class", "annotation") else (_ends(term.domain), _ends(term.range))
            table.add_row(name, *ends, first_sentence(term.definition))
        parts += [Text(f"{title}, {len(some)}", "bold"), table, Text()]
    parts.append(Text(f"ndt {ontology.version}; one of them: fedtwin ontology NAME", "dim"))
    return Group(*parts)


def _ends(names: Sequence[str]) -> str:
    short = [name.removeprefix("ndt:") for name in names]
    return short[0] + (f" +{len(short) - 1}" if len(short) > 1 else "") if short else ""


def first_sentence(text: str) -> str:
    """Up to the first full stop that ends a sentence."""
    head, stop, _ = text.partition(". ")
    return head + "." if stop else text


def term_block(term: Term) -> RenderableType:
    """All that is known of one term."""
    from rich.console import Group
    from rich.text import Text

    from federation.cli.tables import attributes_table

    head = Text.assemble((term.name, "bold"), f"  {term.kind}")
    if term.traits:
        head.append(f", {', '.join(term.traits)}")
    if term.deprecated:
        instead = f", use {', '.join(term.replaced_by)}" if term.replaced_by else ""
        head.append(f"  deprecated{instead}", "warn")
    rows = {
        "definition": term.definition,
        "source": term.source,
        "is a": ", ".join(term.broader),
        "kinds of it": ", ".join(term.narrower),
        "from": " or ".join(term.domain),
        "to": " or ".join(term.range),
        "inverse": ", ".join(term.inverse),
        "properties": ", ".join(term.properties),
        "elsewhere": "\n".join(f"{how} {what}" for how, what in term.alignments),
        "used in": "\n".join(term.used_in),
        "IRI": term.iri,
    }
    return Group(head, attributes_table({name: text for name, text in rows.items() if text}))
