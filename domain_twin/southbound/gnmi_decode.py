"""gNMI notifications to UpdateBatches. Owns the cache from raw path bytes to canonical paths."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

from domain_twin.errors import SchemaViolation
from domain_twin.model import Delete, Nanoseconds, Origin, Update, UpdateBatch
from domain_twin.southbound.gnmi_wire import JsonValue, decode_steps, decode_value, read_json, spell_steps
from domain_twin.yang.paths import parse_path
from domain_twin.yang.quarantine import Unreadable
from domain_twin.yang.schema import SchemaNode, SchemaSet
from domain_twin.yang.tree import flatten

__all__ = ["Decoder"]

EARLIEST: Nanoseconds = 946_684_800_000_000_000
"""2000-01-01: a device that says it is earlier has not set its clock."""

_CACHED_PATHS = 1_000_000
"""Paths kept for one device; one that names more is inventing them, and the cache starts anew."""

_update: Callable[..., Update] = partial(tuple.__new__, Update)  # half the cost of Update(...)


class _Place:
    """What a path's bytes stand for."""

    __slots__ = ("device", "node", "path")

    def __init__(self, device: str, path: str, node: SchemaNode | None) -> None:
        self.device = device
        self.path = path
        self.node = node


class Decoder:
    """Decodes the notifications of one session. Paths no module knows keep their wire spelling."""

    def __init__(self, device: str, source: str, schema: SchemaSet) -> None:
        self.device = device
        self.source = source
        self.schema = schema
        self._places: dict[bytes, dict[bytes, _Place]] = {}
        self._cached = 0

    def batch(self, notification: Any, received_at: Nanoseconds) -> UpdateBatch:
        """The batch of one Notification. No timestamp becomes `received_at`, one before EARLIEST 0: a fault.

        `atomic` becomes a delete of the prefix, as all below it that is not repeated is gone (gNMI 2.1.1).
        """
        observed_at: int = notification.timestamp
        if observed_at < EARLIEST:
            observed_at = 0 if observed_at else received_at  # none was given, or none that could be meant
        prefix: bytes = notification.prefix
        places = self._places.get(prefix)
        if places is None:
            places = self._places[prefix] = {}
        updates: list[Update] = []
        measured = Origin.MEASURED
        for item in notification.update:
            place = places.get(item.path)
            if place is None:
                place = self._learn(places, prefix, item.path)
            held = item.val
            value: Any = held.uint_val  # counters are most of what there is; 0 is also "not a uint"
            if not value:
                value = self._value(item, held, place)
            if type(value) is JsonValue:
                self._spread(updates, place, value.data, observed_at)
            else:
                updates.append(_update((place.device, place.path, value, observed_at, measured)))
        deletes: list[Delete] = []
        if notification.atomic:
            place = places.get(b"") or self._learn(places, prefix, b"")
            deletes.append(Delete(place.device, place.path, observed_at))
        for path in notification.delete:
            place = places.get(path) or self._learn(places, prefix, path)
            deletes.append(Delete(place.device, place.path, observed_at))
        return UpdateBatch(self.source, received_at, tuple(updates), tuple(deletes))

    def _value(self, item: Any, held: Any, place: _Place) -> Any:
        try:
            if item.value and not item.HasField("val"):
                return _old_value(item.value)
            return decode_value(held)
        except (ValueError, ArithmeticError, RecursionError) as error:
            return Unreadable(f"not readable: {error}")

    def _spread(self, updates: list[Update], place: _Place, data: Any, observed_at: Nanoseconds) -> None:
        """Add the leaves of a JSON value, or one that says why it cannot be read."""
        before = len(updates)
        try:
            if place.node is None and place.path != "/":
                leaves = iter([(place.path, json.dumps(data, default=str))])
            elif place.node is not None and place.node.is_leaf:
                leaves = iter([(place.path, data)])
            else:
                leaves = flatten(self.schema, place.path, data)
            for path, value in leaves:
                updates.append(_update((place.device, path, _plain(value), observed_at, Origin.MEASURED)))
        except RecursionError:
            del updates[before:]
            value = Unreadable("not readable: nested too deeply")
            updates.append(_update((place.device, place.path, value, observed_at, Origin.MEASURED)))

    def _learn(self, places: dict[bytes, _Place], prefix: bytes, path: bytes) -> _Place:
        if self._cached >= _CACHED_PATHS:
            self._places.clear()
            places.clear()
            self._places[prefix] = places
            self._cached = 0
        device = self.device
        try:
            steps, origin, target = decode_steps(prefix, path)
        except ValueError as error:
            place = _Place(device, f"/undecodable ({error})", None)
        else:
            device = target or device
            try:
                canonical = self.schema.canonical(steps, origin)
                place = _Place(device, canonical, self.schema.node(canonical))
            except SchemaViolation:
                place = _Place(device, _unknown(steps, origin), None)
        self._cached += 1
        places[path] = place
        return place


def _unknown(steps: tuple[Any, ...], origin: str) -> str:
    spelt = spell_steps(steps)
    try:
        parse_path(spelt)
    except SchemaViolation:
        return spelt
    if origin and steps and not steps[0].module:
        return f"/{origin}:{spelt[1:]}"
    return spelt


def _plain(value: Any) -> Any:
    """JSON's arrays as tuples, so that a batch never holds what can change; objects as JSON text."""
    if isinstance(value, list):
        return tuple(_plain(item) for item in value)
    return json.dumps(value, default=str) if isinstance(value, dict) else value


def _old_value(raw: bytes) -> Any:
    """The value of gNMI before 0.4: a message with the JSON text in its first field."""
    from pygnmi.spec.v080 import gnmi_pb2

    data = read_json(gnmi_pb2.Value.FromString(raw).value)
    return JsonValue(data) if isinstance(data, list | dict) else data
