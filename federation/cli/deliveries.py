"""`fedtwin deliveries`: events on their way to partners, for the broker's operator. Owns the tables of it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, TypeAlias, TypeVar

import click
import typer

from federation.cli.options import At, Json
from federation.cli.register import command, subgroup

if TYPE_CHECKING:
    from rich.table import Table

    from federation.deliveries_client import DeadLetter, DeliveriesClient, Subscription

SECTION = "Operate"
T = TypeVar("T")

Identity: TypeAlias = Annotated[
    str,
    typer.Argument(metavar="ID", help="Id of the subscription, or the beginning of it.", show_default=False),
]
_STYLES = {"active": "good", "retrying": "warn", "impaired": "warn", "suspended": "bad"}


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    group = subgroup(
        app, "deliveries", section=SECTION, help_text="See events that partners do not get; try them again."
    )
    for name, function, example in (
        (
            "list",
            list_subscriptions,
            ("fedtwin deliveries list", "fedtwin deliveries list --troubled --json"),
        ),
        ("letters", letters, ("fedtwin deliveries letters 4f1c",)),
        ("retry", retry, ("fedtwin deliveries retry 4f1c", "fedtwin deliveries retry --all --tenant acme")),
    ):
        command(group, name, section=SECTION, group="deliveries", example=example)(function)


Tenant: TypeAlias = Annotated[
    str, typer.Option("--tenant", metavar="NAME", help="Only subscriptions of this partner.")
]


def list_subscriptions(
    *,
    tenant: Tenant = "",
    troubled: Annotated[
        bool, typer.Option("--troubled", help="Only those that are suspended or have dead letters.")
    ] = False,
    at: At = "",
    as_json: Json = False,
) -> None:
    """List partners' subscriptions to events, and how they get there.

    For whoever operates the broker: `operate = true` under [[access]].
    """
    from federation.cli.console import emit, out

    found = _ask(at, lambda broker: broker.subscriptions(tenant), "asking for the subscriptions")
    shown = [each for each in found if each.troubled or not troubled]
    if as_json:
        emit({"subscriptions": shown})
        return
    if not shown:
        out().print("Every event gets to its partner." if found else "No partner has a subscription.")
        return
    out().print(_table(shown))


def letters(
    *,
    identity: Identity,
    most: Annotated[int, typer.Option("-n", "--most", min=1, max=1000, help="So many, the newest.")] = 50,
    at: At = "",
    as_json: Json = False,
) -> None:
    """List the dead letters of a subscription: events that its callback did not take."""
    from federation.cli.console import emit, out

    async def question(broker: DeliveriesClient) -> tuple[Subscription, list[DeadLetter]]:
        one = _named(identity, await broker.subscriptions())
        return one, await broker.dead_letters(one.tenant, one.id, limit=most)

    subscription, found = _ask(at, question, "asking for the dead letters")
    if as_json:
        emit({"subscription": subscription, "letters": found})
        return
    from federation.cli.console import iso
    from federation.cli.tables import grid

    if not found:
        out().print(f"{subscription.id}: every event got there, or waits to.")
        return
    table = grid("time", "event", "of", "tries", "why", wraps="why")
    for each in found:
        table.add_row(iso(each.at), each.event_type, each.resource_id, str(each.attempts), each.reason)
    out().print(table)
    if (rest := subscription.dead - len(found)) > 0:
        out().print(f"{rest} older ones are kept; --most {min(1000, subscription.dead)} shows more")


def retry(
    *,
    identity: Annotated[
        str,
        typer.Argument(
            metavar="[ID]", help="Id of the subscription, or the beginning of it.", show_default=False
        ),
    ] = "",
    everything: Annotated[
        bool, typer.Option("--all", help="All that are suspended or have dead letters.")
    ] = False,
    tenant: Tenant = "",
    at: At = "",
    as_json: Json = False,
) -> None:
    """Have dead letters tried again, in their old order.

    A subscription that is suspended goes on. The partner could do the same by setting its state to active.
    """
    from federation.cli.console import count, emit, out

    if bool(identity) == everything:
        raise click.UsageError("say which: the id of a subscription, or --all")

    async def question(broker: DeliveriesClient) -> list[tuple[Subscription, int]]:
        known = await broker.subscriptions(tenant)
        wanted = [each for each in known if each.troubled] if everything else [_named(identity, known)]
        return [await broker.retry(each.tenant, each.id) for each in wanted]

    done = _ask(at, question, "having them tried again")
    if as_json:
        emit({"retried": [{"subscription": each, "letters": number} for each, number in done]})
        return
    for each, number in done:
        out().print(f"{each.tenant} {each.id}: {count(number, 'dead letter')} tried again")
    if not done:
        out().print("There is nothing to try again.")


def _ask(at: str, question: Callable[[DeliveriesClient], Awaitable[T]], doing: str) -> T:
    import asyncio

    from federation.cli.asking import patiently

    async def session() -> T:
        from federation.deliveries_client import DeliveriesClient

        async with DeliveriesClient.connect(at) as broker:
            return await question(broker)

    return asyncio.run(patiently(session(), doing))


def _named(identity: str, known: list[Subscription]) -> Subscription:
    """The one whose id begins so. Raises NotFound."""
    from domain_twin.errors import NotFound

    found = [each for each in known if each.id == identity] or [
        each for each in known if each.id.startswith(identity)
    ]
    if len(found) != 1:
        how = "several subscriptions begin" if found else "no subscription begins"
        raise NotFound(f"{how} with {identity!r}; `fedtwin deliveries list` has their ids")
    return found[0]


def _table(shown: list[Subscription]) -> Table:
    from rich.text import Text

    from federation.cli.tables import grid

    table = grid(
        "partner", "id", "events of", "callback", "state", "waiting", "dead", "last error", wraps="last error"
    )
    for each in shown:
        table.add_row(
            Text(each.tenant, "bold"),
            each.id[:8],
            each.api,
            each.callback,
            Text(each.state, _STYLES.get(each.state, "")),
            str(each.waiting),
            str(each.dead),
            each.last_error,
        )
    return table
