"""The stage between southbound and datastore: leaves get their YANG types; what breaks its type is set aside.

Owns the quarantine of single leaves. Never drops a batch for one bad leaf, never guesses a value, and never
lets a value stand that the device has since replaced by one that makes no sense.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from operator import call
from typing import Any, NamedTuple

from domain_twin.errors import SchemaViolation
from domain_twin.model import Delete, Update, UpdateBatch
from domain_twin.yang.schema import SchemaSet
from domain_twin.yang.types import IntegerType, TypeMismatch

__all__ = ["LONGEST_VALUE", "Quarantined", "Typer", "Unreadable"]

_CACHED_PATHS = 1_000_000
"""Codecs kept by instance path; beyond this a device is inventing paths, and the cache starts anew."""


LONGEST_VALUE = 1024 * 1024
"""Characters or octets of one value; a longer one is set aside, as it would be kept for ever."""

_ONLY_INTEGERS = {int}
_NOTHING: Callable[[object], bool] = frozenset[object]().__contains__


class Unreadable(str):
    """Why an adapter could not read a leaf's value; stands in its place, and is always set aside."""

    __slots__ = ()


class Quarantined(NamedTuple):
    """A leaf that was set aside, and why. Of a long value, its beginning."""

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
        self._ranges = _Ranges(self)
        self._own: dict[str, Typer] = {}  # devices with a schema of their own

    def use(self, device: str, schema: SchemaSet) -> None:
        """Type what a device says by its own schema from now on."""
        if schema is self.schema:
            self._own.pop(device, None)
            return
        for typer in self._own.values():
            if typer.schema is schema:
                self._own[device] = typer
                return
        typer = self._own[device] = Typer(schema)
        typer.counts = self.counts

    def type_batch(self, batch: UpdateBatch) -> tuple[UpdateBatch, tuple[Quarantined, ...]]:
        """The batch with typed values, and the leaves left out of it.

        Where the last that a batch says of a leaf is bad, the leaf is deleted: its old value is not true any
        more, and the new one is not known. Deletes and order stay as they are otherwise.
        """
        if self._own:
            devices = {update[0] for update in batch.updates}
            if not self._own.keys().isdisjoint(devices):
                return self._each_by_its_own(batch, devices)
        return self._type(batch)

    def _each_by_its_own(
        self, batch: UpdateBatch, devices: set[str]
    ) -> tuple[UpdateBatch, tuple[Quarantined, ...]]:
        if len(devices) == 1:
            return self._own[devices.pop()]._type(batch)
        by_typer: dict[int, tuple[Typer, list[Update]]] = {}
        for update in batch.updates:
            typer = self._own.get(update[0], self)
            by_typer.setdefault(id(typer), (typer, []))[1].append(update)
        updates: list[Update] = []
        deletes = list(batch.deletes)
        bad: list[Quarantined] = []
        for typer, own in by_typer.values():
            typed, refused = typer._type(replace(batch, updates=tuple(own), deletes=()))
            updates += typed.updates
            deletes += typed.deletes
            bad += refused
        return replace(batch, updates=tuple(updates), deletes=tuple(deletes)), tuple(bad)

    def _type(self, batch: UpdateBatch) -> tuple[UpdateBatch, tuple[Quarantined, ...]]:
        updates = batch.updates
        values = [update[2] for update in updates]
        if set(map(type, values)) == _ONLY_INTEGERS and all(
            map(call, map(self._ranges.__getitem__, [update[1] for update in updates]), values)
        ):
            return batch, ()  # counters, as most batches are: checked without a line of Python for each
        checks = self._checks
        out: list[Update] = []
        bad: list[Quarantined] = []
        broken: dict[tuple[str, str], int] = {}
        changed = False
        for update in updates:
            device, path, value, observed_at, origin = update
            check = checks.get(path)
            if check is None:
                check = self._learn(path)
            try:
                if type(value) is not int and type(value) is not bool:
                    _check_size(value)
                typed = check(value)
            except TypeMismatch as error:
                bad.append(Quarantined(device, path, _excerpt(value), str(error)))
                broken[device, path] = observed_at
                continue
            if broken:
                broken.pop((device, path), None)
            if typed is value:
                out.append(update)
            else:
                changed = True
                out.append(Update(device, path, typed, observed_at, origin))
        if not changed and not bad:
            return batch, ()
        deletes = batch.deletes
        if broken:
            out = [update for update in out if update[:2] not in broken]
            deletes += tuple(Delete(*leaf, at) for leaf, at in broken.items() if self._is_leaf(leaf[1]))
        self.counts.update(item.device for item in bad)
        return replace(batch, updates=tuple(out), deletes=deletes), tuple(bad)

    def _is_leaf(self, path: str) -> bool:
        node = self.schema.node(path)
        return node is not None and node.is_leaf

    def _learn(self, path: str) -> Callable[[Any], Any]:
        if len(self._checks) >= _CACHED_PATHS:
            self._checks.clear()
            self._ranges.clear()
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


class _Ranges(dict[str, Callable[[object], bool]]):
    """For each path whether an integer is of its type; never, where more has to be looked at."""

    def __init__(self, typer: Typer) -> None:
        super().__init__()
        self._typer = typer

    def __missing__(self, path: str) -> Callable[[object], bool]:
        if len(self) >= _CACHED_PATHS:
            self.clear()
        found = self[path] = self._look(path)
        return found

    def _look(self, path: str) -> Callable[[object], bool]:
        try:
            node = self._typer.schema.resolve(path)
        except SchemaViolation:
            return _NOTHING
        if not node.is_leaf or node.codec.is_list:
            return _NOTHING
        kind = node.codec.type
        if type(kind) is not IntegerType or kind.parts:
            return _NOTHING
        return range(kind.low, kind.high + 1).__contains__


def _check_size(value: Any) -> None:
    """Refuse what could not be read, and what is too long to be kept."""
    if type(value) is Unreadable:
        raise TypeMismatch(str(value))
    size = _size(value)
    if size > LONGEST_VALUE:
        raise TypeMismatch(f"{size} octets are too long: {LONGEST_VALUE} at most")


def _size(value: Any) -> int:
    if isinstance(value, str | bytes):
        return len(value)
    return sum(map(_size, value)) if isinstance(value, tuple | list) else 0


def _excerpt(value: Any) -> Any:
    if isinstance(value, str | bytes):
        return value[:200]
    if isinstance(value, tuple | list):
        return repr(value[:20])[:200]
    return value


def _presence(value: Any) -> Any:
    """A presence container exists (RFC 7950 7.5.1): None, or an empty object."""
    if value is None or value == {}:
        return None
    raise TypeMismatch("a presence container has no value")


def _refusing(reason: str) -> Callable[[Any], Any]:
    def refuse(value: Any) -> Any:
        raise TypeMismatch(reason)

    return refuse
