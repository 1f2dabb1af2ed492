"""`fedtwin impact`: what depends on an element. Owns whom to ask, and how the tree looks."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import click
import typer

from federation.cli.options import At, Json
from federation.cli.query import RequireOption
from federation.cli.register import command

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.text import Text
    from rich.tree import Tree

    from domain_twin.model.query import Impact, Require
    from federation.cli.impact_tree import Branch
    from federation.client import TwinClient

SECTION = "Ask the graph"
ENDS = ("service", "slice", "customer")
"""What people ask for; all else in an answer lies in between."""


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    command(
        app,
        "impact",
        section=SECTION,
        example=(
            "fedtwin impact core/upf-1",
            "fedtwin impact urn:ndt:transport:poznan --at .fedtwin/demo/transport/state/agent.sock",
        ),
    )(impact)


def impact(
    *,
    elements: Annotated[
        list[str],
        typer.Argument(
            metavar="ELEMENT...",
            help="A point, inter-domain link, segment or service; at an agent any element of its own."
            " Several: what depends on any of them.",
            show_default=False,
        ),
    ],
    broker: Annotated[
        str,
        typer.Option(
            "--broker",
            metavar="PROFILE",
            help="At an agent: whom to ask what depends on that beyond the domain. Default: the demo's"
            " broker, where it runs here; none: nobody.",
        ),
    ] = "",
    full: Annotated[bool, typer.Option("--full", help="Show also what carries no service.")] = False,
    top: Annotated[
        int, typer.Option("--top", metavar="N", min=1, help="Show so many at most below each.")
    ] = 20,
    require: RequireOption = "",
    at: At = "",
    as_json: Json = False,
) -> None:
    """Show which services and customers depend on an element.

    Slices as well: nearest first, each with its chain of dependency. An agent knows the chain inside its
    own domain, and passes on only the points and segments at which it comes out; the broker knows what runs
    over those.
    """
    from domain_twin.errors import NotFound
    from federation.cli.asking import ask
    from federation.cli.query import requirement

    required = requirement(require)
    outer = _broker(at, broker)

    if any(not name.isprintable() or not name for name in elements):
        raise click.BadParameter("an element's name is not empty and holds no control characters")

    async def question(twin: TwinClient) -> Impact:
        return await asked(twin, elements, outer, required)

    try:
        found = ask(at, question, "following what depends on it")
    except NotFound as error:
        if _is_socket(_place(at)):
            raise
        raise NotFound(
            f"{error}\nA domain's routers, links and devices are its own agent's to know: ask that with --at"
        ) from error
    if as_json:
        from federation.cli.console import emit

        emit(found)
        return
    show(found, full=full, top=top)


def _broker(at: str, given: str) -> Path | None:
    """The profile of the broker that an agent's answer goes on at; None: the twin itself is asked alone."""
    from federation.client import DEFAULT_PROFILE

    if given == "none" or not _is_socket(_place(at)):
        return None
    if given:
        return Path(given)
    return DEFAULT_PROFILE if DEFAULT_PROFILE.exists() else None


def _place(at: str) -> Path:
    import os

    from federation.client import ENVIRONMENT

    return Path(at or os.environ.get(ENVIRONMENT, ""))


def _is_socket(place: Path) -> bool:
    return place.exists() and stat.S_ISSOCK(place.stat().st_mode)


async def asked(
    twin: TwinClient, elements: Sequence[str], broker: Path | None, require: Require | None = None
) -> Impact:
    """What depends on any of `elements`: asked of one twin, and of a broker where one is named.

    The broker is told only of points, segments and inter-domain links: names that it knows.
    Raises NotFound, NotShared, Unreachable.
    """
    from federation.cli.impact_tree import joined, key
    from federation.client import TwinClient

    inner = await twin.impact(elements[0], also=elements[1:], require=require)
    if broker is None:
        return inner
    known = [each.id for each in inner.affected if each.kind in ("point", "segment", "inter-domain-link")]
    if not known:
        return inner
    async with TwinClient.connect(broker) as outside:
        outer = await outside.impact(key(known[0]), also=[key(name) for name in known[1:]], require=require)
    return joined(inner, outer)


def show(found: Impact, *, full: bool = False, top: int = 20) -> None:
    """Print what is affected, the tree that shows why, and each domain's part."""
    from federation.cli.console import out
    from federation.cli.query import show_parts

    out().print(summary(found))
    if found.affected:
        out().print()
        out().print(drawing(found, full=full, top=top))
        out().print()
    show_parts(found.parts)


def summary(found: Impact) -> Text:
    """How many of what people ask for depend on it, in a sentence."""
    from rich.text import Text

    from federation.cli.console import count
    from federation.cli.impact_tree import key, outcome

    line = Text.assemble(("If ", "dim"), (key(found.element), "bold"), (" fails, ", "dim"))
    numbers = [count(len(some), kind) for kind in ENDS if (some := outcome(found, kind))]
    if not numbers:
        return line.append("no service is affected, as far as this twin sees", "dim")
    words = ", ".join(numbers[:-1]) + (" and " if numbers[1:] else "") + numbers[-1]
    one = len(numbers) == 1 and words.startswith("1 ")
    return line.append(words, "bold").append(" is affected" if one else " are affected", "dim")


def drawing(found: Impact, *, full: bool, top: int) -> Tree:
    """The chains of dependency as a tree."""
    from rich.text import Text
    from rich.tree import Tree

    from federation.cli.impact_tree import tree

    root = tree(found)
    drawn = Tree(Text(_name(root), "bold"), guide_style="dim")

    def grow(place: Tree, branch: Branch) -> None:
        wanted = [each for each in branch.branches if full or _matters(each)]
        for each in wanted[:top]:
            grow(place.add(_label(each)), each)
        if len(wanted) > top:
            place.add(Text(f"and {len(wanted) - top} more (--top)", "dim"))
        if quiet := len(branch.branches) - len(wanted):
            place.add(Text(f"and {quiet} that carry no service (--full)", "dim"))

    grow(drawn, root)
    return drawn


def _matters(branch: Branch) -> bool:
    kind = branch.affected.kind if branch.affected else ""
    return kind in ENDS or any(_matters(each) for each in branch.branches)


def _name(branch: Branch) -> str:
    from federation.cli.impact_tree import key

    return (branch.affected.name if branch.affected else "") or key(branch.id)


_BACK = {
    "dependsOn": "",
    "follows": "",
    "atSite": "stands there",
    "carriedBy": "is carried by it",
    "endsAt": "ends at it",
    "hasDestination": "ends at it",
    "hasSource": "begins at it",
    "hasSubnet": "has it as a part",
    "hostedOn": "runs on it",
    "inRiskGroup": "fails with it",
    "onNode": "is on it",
    "partOf": "is part of it",
    "servedBy": "is served by it",
    "supportedBy": "rests on it",
    "usesLink": "uses it",
    "usesSegment": "crosses it",
}
"""How what depends stands to what is above it in the tree."""
_ALONG = {"carriedBy": "in slice", "forCustomer": "for customer"}


def _label(branch: Branch) -> Text:
    from rich.text import Text

    from federation.cli.console import domain_style

    kind = branch.affected.kind if branch.affected else ""
    domain = branch.affected.domain if branch.affected else ""
    line = Text()
    if branch.forwards:
        line.append(f"{_ALONG.get(branch.relation, branch.relation)} ", "dim")
    style = "bold" if kind == "service" else domain_style(domain) if domain else ""
    line.append(_name(branch), style)
    if branch.forwards:
        return line
    how = _BACK.get(branch.relation, branch.relation)
    return line.append("  " + ", ".join(word for word in (kind, how) if word), "dim")
