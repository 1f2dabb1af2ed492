"""`fedtwin twin`: a partner's own twins. Owns the tables of what is in one; the api has the twins."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeAlias

import click
import typer

from federation.cli.options import Api, Json
from federation.cli.order import SECTION, STYLES, Domains, Freshness, Life, Points, Timeout, Wait
from federation.cli.register import command, subgroup

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from twin_api.client import Order, PartnerClient, Resource, Twin

Identity: TypeAlias = Annotated[
    str,
    typer.Argument(
        metavar="TWIN", help="Id of the twin, the beginning of it, or its name.", show_default=False
    ),
]
_ORDER = {"endPoint": 0, "borderPoint": 1, "node": 2, "interDomainLink": 3, "segment": 4}


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    group = subgroup(app, "twin", section=SECTION, help_text="See, look inside, rescope, retire one's twins.")
    for name, function, example in (
        ("list", list_twins, ("fedtwin twin list", "fedtwin twin list --all --json")),
        ("show", show, ("fedtwin twin show 'our lines'",)),
        ("inside", inside, ("fedtwin twin inside 'our lines'", "fedtwin twin inside 4f1c --json")),
        ("suspend", suspend, ("fedtwin twin suspend 'our lines'",)),
        ("resume", resume, ("fedtwin twin resume 'our lines'",)),
        ("rescope", rescope, ("fedtwin twin rescope 'our lines' --point ran/cell-2 --point edge/host-1",)),
        ("retire", retire, ("fedtwin twin retire 'our lines'",)),
    ):
        command(group, name, section=SECTION, group="twin", example=example)(function)


def list_twins(
    *,
    everything: Annotated[bool, typer.Option("--all", help="Also those that are retired.")] = False,
    top: Annotated[int, typer.Option("--top", min=1, help="So many at most, the newest.")] = 50,
    api: Api = "",
    as_json: Json = False,
) -> None:
    """List one's twins, newest first."""
    from federation.cli.asking_api import ask_api, collected
    from federation.cli.console import emit, out

    filters = {} if everything else {"state.ne": "terminated"}
    found = ask_api(api, lambda partner: collected(partner.twins(**filters), top), "asking for the twins")
    if as_json:
        emit({"twins": [twin.body for twin in found]})
    elif found:
        out().print(twins_table(found))
    else:
        out().print("There is no twin of yours: `fedtwin order create --help`")


def show(*, identity: Identity, api: Api = "", as_json: Json = False) -> None:
    """Show one twin: its scope, each domain's part and level, how fresh it is, what is left of the quota."""
    from federation.cli.asking_api import ask_api
    from federation.cli.console import emit

    twin = ask_api(api, lambda partner: find(partner, identity), "asking for the twin")
    if as_json:
        emit(twin.body)
    else:
        _show(twin)


def inside(
    *,
    identity: Identity,
    kind: Annotated[
        str, typer.Option("--kind", metavar="KIND", help="Only resources of this kind, as in the table.")
    ] = "",
    api: Api = "",
    as_json: Json = False,
) -> None:
    """Show what a twin holds, at the level that each domain grants.

    What a domain hides is not there: neither here nor under its id.
    """
    from federation.cli.asking_api import ask_api, collected
    from federation.cli.console import count, emit, out

    async def looked(partner: PartnerClient) -> list[Resource]:
        twin = await find(partner, identity)
        return await collected(partner.inside(twin.id))

    found = [each for each in ask_api(api, looked, "looking inside") if kind in ("", each.kind)]
    if as_json:
        emit({"resources": [each.body for each in found]})
        return
    out().print(resources_table(found))
    out().print()
    out().print(count(len(found), "resource"), style="note")


def suspend(*, identity: Identity, api: Api = "", as_json: Json = False) -> None:
    """Have a twin rest: it is not refreshed, and nothing runs in it."""
    _change(identity, api, lambda partner, twin: partner.suspend(twin.id), as_json=as_json)


def resume(*, identity: Identity, api: Api = "", as_json: Json = False) -> None:
    """Have a suspended twin go on."""
    _change(identity, api, lambda partner, twin: partner.resume(twin.id), as_json=as_json)


def rescope(
    *,
    identity: Identity,
    domain: Domains = None,
    point: Points = None,
    freshness: Freshness = "",
    life: Life = "",
    wait: Wait = True,
    timeout: Timeout = "2m",
    api: Api = "",
    as_json: Json = False,
) -> None:
    """Order that a twin covers something else from now on; what is not said stays.

    It keeps its id, its scenarios and its runs.
    """
    from federation.cli.asking_api import ask_api
    from federation.cli.order import moment_after, seconds, tell

    if not (domain or point or freshness or life):
        raise click.UsageError("say what changes: --domain, --point, --freshness or --for")
    freshness_s = seconds(freshness, "--freshness") if freshness else None
    until = moment_after(life) if life else ""

    async def placed(partner: PartnerClient) -> Order:
        twin = await find(partner, identity)
        return await partner.rescope(
            twin.id, domains=domain, end_points=point, freshness_s=freshness_s, until=until
        )

    tell(ask_api(api, placed, "ordering"), api, wait=wait, timeout=timeout, as_json=as_json)


def retire(
    *, identity: Identity, wait: Wait = True, timeout: Timeout = "2m", api: Api = "", as_json: Json = False
) -> None:
    """Order that a twin ends: every domain forgets its part; runs and their verdicts stay."""
    from federation.cli.asking_api import ask_api
    from federation.cli.order import tell

    async def placed(partner: PartnerClient) -> Order:
        twin = await find(partner, identity)
        return await partner.retire(twin.id)

    tell(ask_api(api, placed, "ordering"), api, wait=wait, timeout=timeout, as_json=as_json)


async def find(partner: PartnerClient, identity: str) -> Twin:
    """The twin with this id, beginning of one, or name. Raises ApiError, NotFound."""
    from federation.cli.asking_api import resolve

    return await resolve(identity, partner.twin, partner.twins, "twin")


def twins_table(twins: list[Twin]) -> Table:
    """Twins, one a row."""
    from federation.cli.tables import grid

    table = grid("twin", "name", "state", "domains", "freshness", right=("freshness",))
    for each in twins:
        fresh = each.characteristics.get("freshness")
        table.add_row(
            each.id[:13],
            each.name,
            _state(each),
            ", ".join(part.domain for part in each.parts),
            f"{fresh:g} s" if isinstance(fresh, int | float) else "",
        )
    return table


def resources_table(resources: list[Resource]) -> Table:
    """What is in a twin, with its figures."""
    from rich.text import Text

    from federation.cli.console import mbps, ms, ratio
    from federation.cli.tables import grid

    right = ("delay", "bandwidth", "loss")
    table = grid("resource", "kind", "state", *right, "remark", right=right)
    for each in sorted(resources, key=lambda item: (_ORDER.get(item.kind, 9), item.name or item.id)):
        own = each.characteristics
        figures = [
            show(own[name]) if isinstance(own.get(name), int | float) else ""
            for name, show in (("delayMs", ms), ("bandwidthMbps", mbps), ("loss", ratio))
        ]
        style = {"alarm": "bad", "available": "good", "unknown": "warn"}.get(each.state, "")
        name = each.name.replace(" to ", " > ") or each.id
        table.add_row(name, each.kind, Text(each.state, style), *figures, _remark(own))
    return table


def _remark(own: dict[str, Any]) -> str:
    """What a point is, or where it leads."""
    if peer := own.get("peerDomain"):
        return f"to {peer}: {own.get('linkId', '')}"
    return str(own.get("role") or own.get("linkId") or "")


def figure(value: Any) -> str:
    """A value of a characteristic for people."""
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return " ".join(f"{name} {figure(item)}" for name, item in value.items())
    if isinstance(value, list):
        return ", ".join(figure(item) for item in value)
    return str(value)


def _change(
    identity: str, api: str, act: Callable[[PartnerClient, Twin], Awaitable[Twin]], *, as_json: bool
) -> None:
    from federation.cli.asking_api import ask_api
    from federation.cli.console import emit, out

    async def done(partner: PartnerClient) -> Twin:
        return await act(partner, await find(partner, identity))

    twin = ask_api(api, done, "asking")
    if as_json:
        emit(twin.body)
    else:
        out().print(f"{twin.name or twin.id}: {_state(twin)}", markup=False)


def _state(twin: Twin) -> Text:
    from rich.text import Text

    from federation.cli.order import words

    word = "suspended" if twin.suspended and twin.state == "inactive" else twin.state
    return Text(words(word), STYLES.get(word, ""))


def _show(twin: Twin) -> None:
    from rich.text import Text

    from federation.cli.asking_api import gone_by
    from federation.cli.console import out
    from federation.cli.order import words
    from federation.cli.tables import attributes_table, grid, name_of

    rows = {"twin": twin.id, "name": twin.name, "state": _state(twin).plain, "does": twin.operating}
    told = ("observedAt", "fidelity", "scope", "domains")  # in the table below, or said twice
    rows |= {name: figure(value) for name, value in twin.characteristics.items() if name not in told}
    out().print(attributes_table({name: value for name, value in rows.items() if value}))
    if not twin.parts:
        return
    out().print()
    table = grid("domain", "state", "does", "level", "seen", "remark", right=("seen",), wraps="remark")
    for part in twin.parts:
        state = Text(words(part.state), STYLES.get(part.state, ""))
        table.add_row(
            name_of(part.domain), state, part.operating, part.level, gone_by(part.observed_at), part.problem
        )
    out().print(table)
