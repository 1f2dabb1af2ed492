"""`fedtwin query`: a question in SPARQL and its answer. Owns the forms that an answer takes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import click
import typer

from federation.cli.options import At, Json
from federation.cli.register import command

if TYPE_CHECKING:
    from domain_twin.model.query import QueryPart, Require
    from federation.cli.sparql_text import QueryText
    from federation.client import QueryReply

SECTION = "Ask the graph"
ROWS = ("json", "csv", "tsv", "xml")
TRIPLES = ("turtle", "json-ld", "n-triples")

RequireOption = Annotated[
    str,
    typer.Option(
        "--require",
        metavar="all|best-effort",
        help="What to do without a domain's part: no answer, or one that says whose part is missing"
        " (the default).",
    ),
]


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    command(
        app,
        "query",
        section=SECTION,
        example=(
            "fedtwin query 'SELECT ?service ?customer { ?service ndt:forCustomer ?customer }'",
            "fedtwin query examples/queries/delay-budget.rq --explain",
            "fedtwin query links.rq --csv -o links.csv --at .fedtwin/demo/transport/state/agent.sock",
            "fedtwin query --all --format turtle -o twin.ttl",
        ),
    )(query)


def query(
    *,
    source: Annotated[
        str,
        typer.Argument(
            metavar="[QUERY]", help="A file, a query in quotes, or - for standard input.", show_default=False
        ),
    ] = "",
    everything: Annotated[
        bool, typer.Option("--all", help="Export all that you may see, and ask no query.")
    ] = False,
    form: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="FORM",
            help="Of SELECT and ASK: json, csv, tsv or xml. Of CONSTRUCT: turtle, json-ld or n-triples.",
        ),
    ] = "",
    as_csv: Annotated[bool, typer.Option("--csv", help="The same as --format csv.")] = False,
    as_json: Json = False,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Where the answer goes.")
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say how it would be answered, and ask nothing.")
    ] = False,
    require: RequireOption = "",
    limit: Annotated[
        int,
        typer.Option("--limit", metavar="ROWS", min=0, help="So many rows at most; 0: as the twin has it."),
    ] = 0,
    timeout: Annotated[
        str,
        typer.Option("--timeout", metavar="DURATION", help="Give up after 500ms, 10s; default: the twin's."),
    ] = "",
    view: Annotated[
        str,
        typer.Option("--as", metavar="AGREEMENT", help="At an agent: see what that agreement's peer sees."),
    ] = "",
    at: At = "",
) -> None:
    """Ask the graph in SPARQL 1.1: SELECT, ASK or CONSTRUCT.

    An agent answers from its own domain; a broker from all domains, each of which answers only from what
    it shows. `fedtwin ontology` has the words. These prefixes need no declaration: ndt, id, record, graph,
    rdf, rdfs, owl, xsd, skos, prov, dcterms, sosa, and names of YANG modules that have a hyphen, as in
    ietf-interfaces:enabled. Exit status 1 where ASK answers no.
    """
    if bool(source) == everything:
        raise click.UsageError("say what to ask: a file, a query in quotes, - or --all")
    if explain and (form or as_csv or output):
        raise click.UsageError("--explain has no rows; of the forms it knows only --json")
    required = requirement(require)
    wanted = _form(form, as_csv=as_csv, as_json=as_json)
    from federation.cli import sparql_text

    text = sparql_text.everything() if everything else sparql_text.read(source)
    if wanted == "json" and text.constructs:
        wanted = "json-ld"
    seconds = 0.0
    if timeout:
        from federation.cli.duration import nanoseconds

        seconds = nanoseconds(timeout, "--timeout") / 1e9
    if explain:
        _explain(at, text, view, as_json=as_json)
        return
    reply = _ask(at, text, wanted, limit=limit, timeout_s=seconds, require=required, view=view)
    if not everything:
        _hint(reply, text.typed, rows_known=not wanted)
    _tell(reply, wanted, output, text.typed)


def requirement(word: str) -> Require:
    """What --require says. Raises BadParameter."""
    from domain_twin.model.query import Require

    try:
        return Require(word or Require.BEST_EFFORT)
    except ValueError:
        raise click.BadParameter(
            f"{word!r} is neither {' nor '.join(Require)}", param_hint="--require"
        ) from None


def _form(form: str, *, as_csv: bool, as_json: bool) -> str:
    """The form that programs read; empty: a person does."""
    chosen = [word for word, given in ((form, form), ("csv", as_csv), ("json", as_json)) if given]
    if len(chosen) > 1:
        raise click.UsageError("--format, --csv and --json each say the form; give one")
    word = chosen[0] if chosen else ""
    if word and word not in (*ROWS, *TRIPLES):
        raise click.BadParameter(
            f"{word!r} is no form; choose {', '.join((*ROWS, *TRIPLES))}", param_hint="--format"
        )
    return word


def _ask(
    at: str, text: QueryText, form: str, *, limit: int, timeout_s: float, require: Require, view: str
) -> QueryReply:
    from domain_twin.errors import ContractError
    from federation.cli.asking import ask
    from federation.cli.sparql_text import caret

    try:
        return ask(
            at,
            lambda twin: twin.query(
                text.sent, format=form, max_rows=limit, timeout_s=timeout_s, require=require, view=view
            ),
            "asking the graph",
        )
    except ContractError as error:
        raise ContractError(caret(text, str(error))) from error


def _explain(at: str, text: QueryText, view: str, *, as_json: bool) -> None:
    from domain_twin.errors import ContractError
    from federation.cli.asking import ask
    from federation.cli.console import emit, out
    from federation.cli.sparql_text import caret

    try:
        plan = ask(at, lambda twin: twin.explain(text.sent, view=view), "planning the query")
    except ContractError as error:
        raise ContractError(caret(text, str(error))) from error
    if as_json:
        emit({"plan": plan.splitlines()})
    else:
        out().print(plan.rstrip("\n"), markup=False, soft_wrap=True)


def _hint(reply: QueryReply, query: str, *, rows_known: bool) -> None:
    from federation.cli.console import err
    from federation.cli.query_hints import hints

    select = reply.form.value == "bindings"
    results = reply.data if select and rows_known else b""
    nothing = select and not reply.rows and not reply.stopped_by
    for hint in hints(
        query, rows=0 if nothing else 1, asked=len(reply.parts), results=results, said=reply.notes
    ):
        err().print(f"note: {hint}", style="warn", markup=False, soft_wrap=True)


def _tell(reply: QueryReply, form: str, output: Path | None, query: str) -> None:
    from federation.cli.bindings import answer_of_ask, remark
    from federation.cli.console import err, short_path

    asked = reply.form.value == "boolean"
    for note in reply.notes:
        err().print(f"note: {note}", style="note", markup=False, soft_wrap=True)
    if form or reply.form.value == "triples" or output:
        from federation.cli.output import write

        write(reply.data, output)
        if output:
            err().print(f"written: {short_path(output)}, {_rows(reply)}", style="note", markup=False)
        if short := remark(reply.parts, reply.stopped_by):
            err().print(short, style="warn", markup=False)
    else:
        _show(reply, query)
    if asked and form in ("", "json") and not answer_of_ask(reply.data):
        raise typer.Exit(1)


def _show(reply: QueryReply, query: str) -> None:
    from federation.cli.bindings import answer_of_ask, rows_table
    from federation.cli.console import out

    if reply.form.value == "boolean":
        out().print("yes" if answer_of_ask(reply.data) else "no")
    else:
        out().print(rows_table(reply.data, query))
        out().print()
        out().print(_rows(reply), style="note")
    if reply.stopped_by:
        out().print(f"cut short: {reply.stopped_by}", style="warn", markup=False)
    show_parts(reply.parts)


def show_parts(parts: tuple[QueryPart, ...]) -> None:
    """Each domain's part below an answer: on one line where all is well, else with the reasons."""
    from rich.text import Text

    from federation.cli.bindings import parts_table
    from federation.cli.console import out
    from federation.cli.tables import name_of

    if not parts:
        return
    if any(part.outcome.value != "ok" for part in parts):
        out().print()
        out().print(parts_table(parts))
        return
    line = Text("answered by ", "dim")
    for number, part in enumerate(parts):
        line.append(", " if number else "", "dim").append_text(name_of(part.domain))
    out().print(line)


def _rows(reply: QueryReply) -> str:
    from federation.cli.console import count

    return count(reply.rows, "triple" if reply.form.value == "triples" else "row")
