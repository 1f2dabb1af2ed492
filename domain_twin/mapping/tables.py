"""All tables, and what follows from them: the subtrees to mirror, the modules they need, a table to read."""

from __future__ import annotations

from collections.abc import Iterable

from domain_twin.mapping import alarms, core, edge, ietf, openconfig, performance, ran
from domain_twin.mapping.table import Table

VENDOR: tuple[Table, ...] = (openconfig.TABLE,)
"""Tables of modules that do not ship: they count where the operator or a device provides the modules."""

TABLES: tuple[Table, ...] = (ietf.TABLE, performance.TABLE, ran.TABLE, core.TABLE, edge.TABLE, *VENDOR)
"""What the network model is made of."""

MIRRORED: tuple[Table, ...] = (*TABLES, alarms.TABLE)
"""The same, and what else a twin reads of its devices."""


def mirrored_paths(tables: Iterable[Table] = MIRRORED) -> tuple[str, ...]:
    """The top-level subtrees that hold everything the tables read: what a session subscribes to."""
    return tuple(dict.fromkeys("/" + row.schema_path.split("/")[1] for table in tables for row in table))


def required_modules() -> tuple[str, ...]:
    """The modules without which no agent starts: all that ship, and none of a vendor's."""
    return modules(table for table in MIRRORED if table not in VENDOR)


def modules(tables: Iterable[Table] = MIRRORED) -> tuple[str, ...]:
    """The YANG modules that the tables' paths come from."""
    steps = (step for table in tables for row in table for step in row.schema_path.split("/"))
    return tuple(dict.fromkeys(step.partition(":")[0] for step in steps if ":" in step))


def describe(tables: Iterable[Table] = MIRRORED) -> list[tuple[str, str, str, str]]:
    """The tables as rows of text: YANG path, element, attribute or KPI, unit."""
    return [(row.path, row.kind.value, row.attribute, row.unit) for table in tables for row in table]
