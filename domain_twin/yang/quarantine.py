"""The stage between southbound and datastore: leaves get their YANG types; what breaks its type is set aside.

Owns the quarantine of single leaves. Never drops a batch for one bad leaf, and never guesses a value.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

from domain_twin.errors import SchemaViolation
from domain_twin.model import Update, UpdateBatch
from domain_twin.yang.schema import SchemaSet
from domain_twin.yang.types import TypeMismatch

__all__ = ["Quarantined", "Typer"]

_CACHED_PATHS = 1_000_000
"""Codecs kept by instance path; beyond this a device is inventing paths, and the cache starts anew."""


class Quarantined(NamedTuple):
    """A leaf that was set aside, and why."""

    device: str
    path: str
    value: Any
    reason: str


class Typer:
    """Types batches against one SchemaSet. `counts` is how many leaves of each device were set aside."""

    def __init__(self, schema: SchemaSet) -> None:
        self.schema = schema
        self.counts: Counter[str] = Counter()
        self._checks: dict[str, Callable[[Any], Any]] = {}

    def type_batch(self, batch: UpdateBatch) -> tuple[UpdateBatch, tuple[Quarantined, ...]]:
        """The batch with typed values, and the leaves left out of it. Deletes and order stay as they are."""
        checks = self._checks
        out: list[Update] = []
        bad: list[Quarantined] = []
        changed = False
        for update in batch.updates:
            device, path, value, observed_at, origin = update
            check = checks.get(path)
            if check is None:
                check = self._learn(path)
            try:
                typed = check(value)
            except TypeMismatch as error:
                bad.append(Quarantined(device, path, value, str(error)))
                continue
            if typed is value:
                out.append(update)
            else:
                changed = True
                out.append(Update(device, path, typed, observed_at, origin))
        for item in bad:
            self.counts[item.device] += 1
        if not changed and not bad:
            return batch, ()
        return replace(batch, updates=tuple(out)), tuple(bad)

    def _learn(self, path: str) -> Callable[[Any], Any]:
        if len(self._checks) >= _CACHED_PATHS:
            self._checks.clear()
        check = self._check_of(path)
        self._checks[path] = check
        return check

    def _check_of(self, path: str) -> Callable[[Any], Any]:
        try:
            node = self.schema.resolve(path)
        except SchemaViolation as error:
            return _refusing(str(error))
        if node.is_leaf:
            check = node.codec.check
            prefix = f"not of type {node.codec.type_name}: "

            def named(value: Any) -> Any:
                try:
                    return check(value)
                except TypeMismatch as error:
                    raise TypeMismatch(prefix + str(error)) from error

            return check if node.codec.type_name == node.codec.type.name else named
        if node.presence:
            return _presence
        return _refusing(f"{node.path} is a {node.kind}, which carries no value")


def _presence(value: Any) -> Any:
    """A presence container exists (RFC 7950 7.5.1): None, or an empty object."""
    if value is None or value == {}:
        return None
    raise TypeMismatch("a presence container has no value")


def _refusing(reason: str) -> Callable[[Any], Any]:
    def refuse(value: Any) -> Any:
        raise TypeMismatch(reason)

    return refuse
