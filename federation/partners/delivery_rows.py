"""The rows of deliveries: which event waits for which subscription, and which could not be delivered.

Every function takes the connection of a transaction and is one: what is given away with it is whole or not.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import sqlalchemy as sa

from domain_twin.model import Nanoseconds
from federation.partners import schema
from federation.partners.draft import decode
from federation.partners.outbox import OutboxRow
from federation.partners.record import Kind

__all__ = [
    "DEAD",
    "WAITING",
    "HubName",
    "Letter",
    "NewRow",
    "Start",
    "begin",
    "bury_all",
    "dead_letters",
    "forget_hub",
    "forget_old",
    "forget_oldest",
    "put",
    "settle",
    "try_again",
    "waiting",
]

WAITING, DEAD = "waiting", "dead"
_READER = "deliveries"
_MAX_ERROR = 500

HubName = tuple[str, str]
"""Tenant and id."""

_rows = schema.delivery


@dataclass(frozen=True, slots=True)
class Letter:
    """One event for one subscription."""

    event: OutboxRow
    attempts: int
    next_at: Nanoseconds
    error: str


@dataclass(frozen=True, slots=True)
class NewRow:
    """A delivery that is to be made, or one that is dead from its beginning: `error` says why."""

    hub: HubName
    sequence: int
    error: str = ""


@dataclass(frozen=True, slots=True)
class Start:
    """Where deliveries begin."""

    store: str  # the id of the store, as long as it lives
    cursor: int
    counts: Mapping[HubName, Mapping[str, int]]


def begin(connection: sa.Connection, tenants: Iterable[str], hubs: Iterable[HubName]) -> Start:
    """What an earlier run left, without the rows of subscriptions that are gone."""
    known = set(hubs)
    counted = sa.select(_rows.c.tenant, _rows.c.hub_id, _rows.c.state, sa.func.count()).group_by(
        _rows.c.tenant, _rows.c.hub_id, _rows.c.state
    )
    served = set(tenants)
    counts: dict[HubName, dict[str, int]] = {}
    for tenant, hub_id, state, number in connection.execute(counted).all():
        if (tenant, hub_id) in known:
            counts.setdefault((tenant, hub_id), {})[state] = number
        elif tenant in served:
            forget_hub(connection, (tenant, hub_id))
    progress = schema.progress
    cursor = connection.execute(
        sa.select(progress.c.sequence).where(progress.c.name == _READER)
    ).scalar_one_or_none()
    if cursor is None:
        connection.execute(sa.insert(progress).values(name=_READER, sequence=0))
    return Start(connection.execute(sa.select(schema.store.c.id)).scalar_one(), cursor or 0, counts)


def put(connection: sa.Connection, cursor: int, rows: Sequence[NewRow]) -> None:
    """Give the events up to `cursor` to the subscriptions they are for."""
    if rows:
        connection.execute(
            sa.insert(_rows),
            [
                {
                    "outbox_sequence": row.sequence,
                    "hub_id": row.hub[1],
                    "tenant": row.hub[0],
                    "attempts": 0,
                    "next_at": 0,
                    "state": DEAD if row.error else WAITING,
                    "last_error": row.error[:_MAX_ERROR],
                }
                for row in rows
            ],
        )
    progress = schema.progress
    connection.execute(sa.update(progress).where(progress.c.name == _READER).values(sequence=cursor))


def waiting(connection: sa.Connection, hub: HubName, limit: int) -> list[Letter]:
    """The oldest events that wait for a subscription."""
    return _letters(connection, hub, WAITING, _rows.c.outbox_sequence, limit)


def dead_letters(connection: sa.Connection, hub: HubName, limit: int) -> list[Letter]:
    """The newest events that could not be delivered."""
    return _letters(connection, hub, DEAD, _rows.c.outbox_sequence.desc(), limit)


def settle(
    connection: sa.Connection,
    hub: HubName,
    delivered: Sequence[int],
    failed: Letter | None = None,
    *,
    dead: bool = False,
) -> None:
    """Forget what was delivered, and note the one that was not."""
    if delivered:
        connection.execute(sa.delete(_rows).where(_of(hub), _rows.c.outbox_sequence.in_(delivered)))
    if failed:
        connection.execute(
            sa.update(_rows)
            .where(_of(hub), _rows.c.outbox_sequence == failed.event.sequence)
            .values(
                attempts=failed.attempts,
                next_at=failed.next_at,
                state=DEAD if dead else WAITING,
                last_error=failed.error[:_MAX_ERROR],
            )
        )


def bury_all(connection: sa.Connection, hub: HubName, error: str) -> int:
    """Nothing waits for a subscription any more; how many did."""
    return connection.execute(
        sa.update(_rows)
        .where(_of(hub), _rows.c.state == WAITING)
        .values(state=DEAD, last_error=error[:_MAX_ERROR])
    ).rowcount


def try_again(connection: sa.Connection, hub: HubName) -> int:
    """All that was not delivered waits anew, in its old order; how much that is."""
    return connection.execute(
        sa.update(_rows).where(_of(hub)).values(state=WAITING, attempts=0, next_at=0)
    ).rowcount


def forget_oldest(connection: sa.Connection, hub: HubName, keep: int) -> int:
    """Keep only the newest dead letters; how many were forgotten."""
    dead = sa.and_(_of(hub), _rows.c.state == DEAD)
    last = connection.execute(
        sa.select(_rows.c.outbox_sequence)
        .where(dead)
        .order_by(_rows.c.outbox_sequence.desc())
        .offset(keep)
        .limit(1)
    ).scalar_one_or_none()
    if last is None:
        return 0
    return connection.execute(sa.delete(_rows).where(dead, _rows.c.outbox_sequence <= last)).rowcount


def forget_old(connection: sa.Connection, before: Nanoseconds) -> dict[HubName, int]:
    """Forget dead letters of events before a moment; how many, by subscription."""
    events = sa.select(schema.outbox.c.sequence).where(schema.outbox.c.at < before)
    old = sa.and_(_rows.c.state == DEAD, _rows.c.outbox_sequence.in_(events))
    counted = (
        sa.select(_rows.c.tenant, _rows.c.hub_id, sa.func.count())
        .where(old)
        .group_by(_rows.c.tenant, _rows.c.hub_id)
    )
    found = {(tenant, hub_id): number for tenant, hub_id, number in connection.execute(counted).all()}
    if found:
        connection.execute(sa.delete(_rows).where(old))
    return found


def forget_hub(connection: sa.Connection, hub: HubName) -> None:
    """Forget all that a subscription was to get."""
    connection.execute(sa.delete(_rows).where(_of(hub)))


def _of(hub: HubName) -> sa.ColumnElement[bool]:
    return sa.and_(_rows.c.tenant == hub[0], _rows.c.hub_id == hub[1])


def _letters(
    connection: sa.Connection, hub: HubName, state: str, order: sa.ColumnElement[int], limit: int
) -> list[Letter]:
    events = schema.outbox
    query = (
        sa.select(events, _rows.c.attempts, _rows.c.next_at, _rows.c.last_error)
        .join(events, events.c.sequence == _rows.c.outbox_sequence)
        .where(_of(hub), _rows.c.state == state)
        .order_by(order)
        .limit(limit)
    )
    return [
        Letter(
            OutboxRow(
                row.sequence, row.tenant, Kind(row.kind), row.id, row.event_type, row.at, decode(row.body)
            ),
            row.attempts,
            row.next_at,
            row.last_error,
        )
        for row in connection.execute(query)
    ]
