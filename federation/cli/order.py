"""`fedtwin order`: a partner's orders. Owns their options and tables; the api has the orders."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypeAlias

import click
import typer

from federation.cli.options import Api, Json
from federation.cli.register import command, subgroup

if TYPE_CHECKING:
    from rich.table import Table

    from twin_api.client import Order, PartnerClient

SECTION = "Order twins as a partner"
Identity: TypeAlias = Annotated[
    str, typer.Argument(metavar="ORDER", help="Id of the order, or the beginning of it.", show_default=False)
]
Domains: TypeAlias = Annotated[
    list[str] | None, typer.Option("--domain", metavar="NAME", help="A domain that it covers; repeatable.")
]
Points: TypeAlias = Annotated[
    list[str] | None,
    typer.Option("--point", metavar="DOMAIN/NAME", help="A published end point that it shows; repeatable."),
]
Freshness: TypeAlias = Annotated[
    str, typer.Option("--freshness", metavar="DURATION", help="It is never older than this: 2s, 1m.")
]
Life: TypeAlias = Annotated[
    str, typer.Option("--for", metavar="DURATION", help="It ends by itself after so long: 8h, 30d.")
]
Wait: TypeAlias = Annotated[
    bool, typer.Option("--wait/--no-wait", help="Wait until the order has ended, or return at once.")
]
Timeout: TypeAlias = Annotated[
    str, typer.Option("--timeout", metavar="DURATION", help="Wait at most so long: 30s, 5m.")
]
STYLES = {
    "completed": "good", "active": "good", "failed": "bad", "rejected": "bad", "partial": "warn",
    "cancelled": "dim", "terminated": "dim", "suspended": "warn", "inactive": "warn",
}  # fmt: skip


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    group = subgroup(app, "order", section=SECTION, help_text="Order a twin; see what became of orders.")
    for name, function, example in (
        (
            "create",
            create,
            (
                "fedtwin order create 'our lines' --point ran/cell-1 --point edge/host-1 --for 8h",
                "fedtwin order create everything --json",
            ),
        ),
        ("list", list_orders, ("fedtwin order list", "fedtwin order list --state partial,failed")),
        ("show", show, ("fedtwin order show 4f1c",)),
        ("cancel", cancel, ("fedtwin order cancel 4f1c --reason 'not needed'",)),
        ("watch", watch, ("fedtwin order watch 4f1c",)),
    ):
        command(group, name, section=SECTION, group="order", example=example)(function)


def create(
    *,
    name: Annotated[str, typer.Argument(metavar="NAME", help="What to call the twin.", show_default=False)],
    domain: Domains = None,
    point: Points = None,
    freshness: Freshness = "",
    life: Life = "",
    external: Annotated[
        str,
        typer.Option("--external-id", metavar="ID", help="Your own number: the same one orders once."),
    ] = "",
    wait: Wait = True,
    timeout: Timeout = "2m",
    api: Api = "",
    as_json: Json = False,
) -> None:
    """Order a twin: a view of the domains of one's own, and a place to run scenarios in.

    Each domain decides whether this partner gets its part, and how much of it shows. Without --domain and
    --point it covers all domains. Exit status 1 where the order did not complete.
    """
    from federation.cli.asking_api import ask_api

    freshness_s = seconds(freshness, "--freshness") if freshness else None
    until = moment_after(life) if life else ""

    async def placed(partner: PartnerClient) -> Order:
        return await partner.order_twin(
            name,
            domains=domain or (),
            end_points=point or (),
            freshness_s=freshness_s,
            until=until,
            external_id=external,
        )

    order = ask_api(api, placed, "ordering")
    tell(order, api, wait=wait, timeout=timeout, as_json=as_json)


def list_orders(
    *,
    state: Annotated[
        str, typer.Option("--state", metavar="STATES", help="Only these: inProgress, completed,partial, …")
    ] = "",
    top: Annotated[int, typer.Option("--top", min=1, help="So many at most, the newest.")] = 20,
    api: Api = "",
    as_json: Json = False,
) -> None:
    """List orders, newest first."""
    from federation.cli.asking_api import ask_api, collected
    from federation.cli.console import emit, out

    filters = {"state": state} if state else {}
    found = ask_api(api, lambda partner: collected(partner.orders(**filters), top), "asking for the orders")
    if as_json:
        emit({"orders": [order.body for order in found]})
    elif found:
        out().print(orders_table(found))
    else:
        out().print("Nothing was ordered yet: `fedtwin order create --help`")


def show(*, identity: Identity, api: Api = "", as_json: Json = False) -> None:
    """Show one order: what it does, how far it is, what was refused and why."""
    from federation.cli.asking_api import ask_api
    from federation.cli.console import emit

    order = ask_api(api, lambda partner: find(partner, identity), "asking for the order")
    if as_json:
        emit(order.body)
    else:
        show_order(order)


def cancel(
    *,
    identity: Identity,
    reason: Annotated[str, typer.Option("--reason", help="Why; the operator reads it.")] = "",
    api: Api = "",
    as_json: Json = False,
) -> None:
    """Ask for an order to be cancelled; one that has ended stays as it is."""
    from federation.cli.asking_api import ask_api
    from federation.cli.console import emit, out

    async def asked(partner: PartnerClient) -> Order:
        order = await find(partner, identity)
        await partner.cancel_order(order.id, reason=reason)
        return await partner.order(order.id)

    order = ask_api(api, asked, "cancelling")
    if as_json:
        emit(order.body)
    else:
        out().print(f"{order.id}: {words(order.state)}", markup=False)


def watch(*, identity: Identity, timeout: Timeout = "10m", api: Api = "", as_json: Json = False) -> None:
    """Follow an order to its end, each change on a line. Exit status 1 where it does not complete."""
    import asyncio

    from federation.cli.console import emit_line, out

    told: set[str] = set()

    def changed(order: Order) -> None:
        if as_json:
            emit_line(order.body)
            return
        for line in (f"{words(order.state)}", *order.milestones, *order.problems):
            if line not in told:
                told.add(line)
                out().print(line, markup=False)

    async def followed() -> Order:
        from twin_api.client import PartnerClient

        async with PartnerClient.connect(api) as partner:
            order = await find(partner, identity)
            return await partner.settled(order, timeout_s=seconds(timeout, "--timeout"), told=changed)

    with overdue(f"order {identity}"):
        order = asyncio.run(followed())
    raise typer.Exit(0 if order.state == "completed" else 1)


def tell(order: Order, api: str, *, wait: bool, timeout: str, as_json: bool) -> None:
    """Wait for an order where asked to, and show it. Exit status 1 where it ended and did not complete."""
    from federation.cli.console import emit

    if wait:
        order = settled(order, api, timeout)
    if as_json:
        emit(order.body)
    else:
        show_order(order)
    if order.ended and order.state != "completed":
        raise typer.Exit(1)


def settled(order: Order, api: str, timeout: str) -> Order:
    """The order once it has ended, its state on the screen meanwhile."""
    import asyncio

    from federation.cli.asking_api import waiting

    async def followed() -> Order:
        from twin_api.client import PartnerClient

        async with PartnerClient.connect(api) as partner:
            with waiting(f"order {order.id}: {words(order.state)}") as say:
                return await partner.settled(
                    order,
                    timeout_s=seconds(timeout, "--timeout"),
                    told=lambda now: say(f"order {now.id}: {_progress(now)}"),
                )

    with overdue(f"order {order.id}"):
        return asyncio.run(followed())


def overdue(what: str) -> Overdue:
    """Says in one sentence that something took longer than was to be waited for."""
    return Overdue(what)


class Overdue:
    """Turns a TimeoutError into a sentence with a remedy."""

    def __init__(self, what: str) -> None:
        self._what = what

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        from domain_twin.errors import OperationRejected

        if isinstance(error, TimeoutError):
            raise OperationRejected(f"{self._what} is {error}; look again later, or wait --timeout longer")


async def find(partner: PartnerClient, identity: str) -> Order:
    """The order with this id or beginning of one. Raises ApiError, NotFound."""
    from federation.cli.asking_api import resolve

    return await resolve(identity, partner.order, partner.orders, "order")


def show_order(order: Order) -> None:
    """An order on the screen, with what to do next."""
    from rich.text import Text

    from federation.cli.asking_api import gone_by
    from federation.cli.console import out
    from federation.cli.tables import attributes_table

    rows = {
        "order": order.id,
        "state": words(order.state),
        "does": ", ".join(order.actions),
        "twin": ", ".join(order.twins),
        "ordered": f"{gone_by(order.ordered_at)} ago" if order.ordered_at else "",
        "reached": ", ".join(order.milestones),
    }
    out().print(attributes_table({name: value for name, value in rows.items() if value}))
    for problem in order.problems:
        out().print(Text(problem, "bad" if order.state in ("failed", "rejected") else "warn"))
    if order.state in ("completed", "partial") and "add" in order.actions and order.twins:
        out().print(f"\nLook inside: fedtwin twin inside {order.twins[0]}", style="note", markup=False)


def orders_table(orders: list[Order]) -> Table:
    """Orders, one a row."""
    from rich.text import Text

    from federation.cli.asking_api import gone_by
    from federation.cli.tables import grid

    table = grid("order", "state", "does", "twin", "ordered", "remark", right=("ordered",), wraps="remark")
    for each in orders:
        table.add_row(
            each.id[:13],
            Text(words(each.state), STYLES.get(each.state, "")),
            ", ".join(each.actions),
            ", ".join(twin[:13] for twin in each.twins),
            gone_by(each.ordered_at),
            "; ".join(each.problems) or each.description,
        )
    return table


def words(state: str) -> str:
    """A state as people write it: `inProgress` is `in progress`."""
    return "".join(f" {sign.lower()}" if sign.isupper() else sign for sign in state).strip() or "unknown"


def seconds(text: str, option: str) -> float:
    """A length of time in seconds. Raises BadParameter."""
    from federation.cli.duration import nanoseconds

    return nanoseconds(text, option) / 1e9


def moment_after(life: str) -> str:
    """The time in ISO 8601 when so long has passed from now. Raises BadParameter."""
    from datetime import UTC, datetime, timedelta

    span = seconds(life, "--for")
    if span <= 0:
        raise click.BadParameter("a twin lives longer than nothing", param_hint="--for")
    return (datetime.now(UTC) + timedelta(seconds=span)).isoformat(timespec="seconds").replace("+00:00", "Z")


def _progress(order: Order) -> str:
    return ", ".join((words(order.state), *order.milestones[-1:]))
