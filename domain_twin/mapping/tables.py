"""All tables, and what follows from them: the subtrees to mirror, the modules they need, a table to read."""

from __future__ import annotations

from collections.abc import Iterable

from domain_twin.mapping import core, edge, ietf, performance, ran
from domain_twin.mapping.table import Table

TABLES: tuple[Table, ...] = (ietf.TABLE, performance.TABLE, ran.TABLE, core.TABLE, edge.TABLE)


def mirrored_paths(tables: Iterable[Table] = TABLES) -> tuple[str, ...]:
    """The top-level subtrees that hold everything the tables read: what a session subscribes to."""
    return tuple(dict.fromkeys("/" + row.schema_path.split("/")[1] for table in tables for row in table))


def modules(tables: Iterable[Table] = TABLES) -> tuple[str, ...]:
    """The YANG modules that the tables' paths come from."""
    steps = (step for table in tables for row in table for step in row.schema_path.split("/"))
    return tuple(dict.fromkeys(step.partition(":")[0] for step in steps if ":" in step))


def describe(tables: Iterable[Table] = TABLES) -> list[tuple[str, str, str, str]]:
    """The tables as rows of text: YANG path, element, attribute or KPI, unit."""
    return [(row.path, row.kind.value, row.attribute, row.unit) for table in tables for row in table]
