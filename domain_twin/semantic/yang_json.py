"""Quads of a device as RFC 7951 JSON again. Owns nothing: every name is the plan's.

Entries of a list come in the order of their positions where they have such, else in that of their keys; keys
are read from the entry's IRI. Quads of anything but this plan's data are an error, not a guess.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote

from pyoxigraph import Quad

from domain_twin.errors import SchemaViolation
from domain_twin.semantic.yang_plan import LeafPlan, NodePlan, Plan
from domain_twin.semantic.yang_quads import POSITION_OF
from domain_twin.semantic.yang_values import read_json, read_value
from domain_twin.yang.schema import NodeKind

__all__ = ["read_back"]


@dataclass(slots=True, eq=False)
class _Object:
    """A container, or an entry of a list, as it is put together."""

    plan: NodePlan | None
    keys: tuple[str, ...] = ()
    position: int = 0
    members: dict[str, Any] = field(default_factory=dict)
    below: dict[str, list[_Object]] = field(default_factory=dict)
    values: dict[str, _Held] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class _Held:
    """What the graph holds of one leaf."""

    leaf: LeafPlan
    terms: list[Any] = field(default_factory=list)
    sent: str | None = None


def read_back(plan: Plan, quads: Iterable[Quad]) -> dict[str, Any]:
    """The RFC 7951 tree of one device's quads, of any of its graphs. Raises SchemaViolation."""
    reader = _Reader(plan)
    for quad in quads:
        reader.take(quad)
    return _tree(reader.root)


class _Reader:
    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.root = _Object(None)
        self.base = ""
        self.objects: dict[str, _Object] = {"": self.root}
        self.tops = {
            iri: leaf for leaf in plan.tops.values() for iri in (leaf.predicate.value, leaf.sent.value)
        }

    def take(self, quad: Quad) -> None:
        """Put what one quad says where it belongs."""
        item = self._object(_text(quad.subject))
        predicate = quad.predicate.value
        leaf = (item.plan.leaves if item.plan else self.tops).get(predicate)
        if leaf is None:
            if predicate == POSITION_OF.value:
                item.position = int(_text(quad.object))
            return  # what ties nodes together is in their IRIs
        if leaf.is_key:
            return
        held = item.values.get(leaf.node.path)
        if held is None:
            held = item.values[leaf.node.path] = _Held(leaf)
        if predicate == leaf.sent.value:
            held.sent = _text(quad.object)
        else:
            held.terms.append(quad.object)

    def _object(self, iri: str) -> _Object:
        if not self.base:
            self.base = iri[: iri.find(_DATA) + len(_DATA)] if _DATA in iri else ""
        if not self.base or not iri.startswith(self.base):
            raise SchemaViolation(f"<{iri}> is no node of {self.base or 'a device'}'s data")
        found = self.objects.get(iri[len(self.base) :])
        return found if found is not None else self._made(iri[len(self.base) :])

    def _made(self, path: str) -> _Object:
        above = self.root
        at = made = ""
        for number, part in enumerate(path.split("/")):
            made = f"{made}/{part}" if number else part
            step, stated, text = part.partition("=")
            at += f"/{step}"
            found = self.objects.get(made)
            if found is None:
                plan = self.plan.nodes.get(at)
                if plan is None:
                    raise SchemaViolation(f"no loaded module defines {at}")
                keys = tuple(unquote(key) for key in text.split(",")) if stated else ()
                if len(keys) != (len(plan.node.keys) or plan.unkeyed):
                    raise SchemaViolation(f"{made}: not the keys of {at}")
                found = self.objects[made] = _Object(plan, keys)
                above.below.setdefault(plan.step, []).append(found)
            above = found
        return above


_DATA = "/data/"


def _text(term: Any) -> str:
    return str(getattr(term, "value", term))


def _tree(item: _Object) -> dict[str, Any]:
    out: dict[str, Any] = {}
    plan = item.plan
    if plan is not None and plan.node.kind is NodeKind.LIST:
        for leaf, text in zip(plan.keys, item.keys, strict=False):
            codec = leaf.node.codec
            out[leaf.node.name] = codec.json(codec.text(text))
    above = plan.node if plan is not None else None
    for held in item.values.values():
        out[held.leaf.node.step(above)] = _value(held)
    for step, objects in item.below.items():
        made = objects[0].plan
        assert made is not None  # only the root has none
        if made.node.kind is NodeKind.LIST:
            out[step] = [_tree(entry) for entry in sorted(objects, key=_rank)]
        else:
            out[step] = _tree(objects[0])
    return out


def _rank(item: _Object) -> tuple[Any, ...]:
    assert item.plan is not None  # only the root has none
    if item.plan.unkeyed and item.keys[0].isdigit():
        return (0, int(item.keys[0]), ())
    return (0 if item.position else 1, item.position, item.keys)


def _value(held: _Held) -> Any:
    """The JSON of a leaf: as it was sent, where that is told, else of its terms. Raises SchemaViolation."""
    leaf = held.leaf
    codec = leaf.node.codec
    if held.sent is not None:
        try:
            return json.loads(held.sent)
        except ValueError as error:
            raise SchemaViolation(f"{held.sent[:80]!r} is no JSON") from error
    try:
        if leaf.is_bits:
            names = " ".join([str(read_value(term, leaf.form)) for term in held.terms])
            return codec.type.json(codec.type.native(names))
        found = [read_json(term, leaf.form, codec) for term in held.terms]
    except ValueError as error:
        raise SchemaViolation(f"{leaf.node.path}: {error}") from error
    if leaf.is_list:
        return found
    if len(found) != 1:
        raise SchemaViolation(f"{leaf.node.path} has {len(found)} values in one place")
    return found[0]
