"""What a leaf's value says: the terms of its triples, and its texts as keys of what it points to."""

from __future__ import annotations

import json
from typing import Any

from domain_twin.semantic.yang_plan import LeafPlan
from domain_twin.semantic.yang_values import Term, Unfit, canonical_moment
from domain_twin.yang.types import TypeMismatch, UnionType, YangType

__all__ = ["terms", "texts"]


def terms(plan: LeafPlan, value: Any) -> tuple[list[Term], str | None]:
    """The terms of a leaf's value, and its JSON where they do not tell what was sent. Raises Unfit."""
    if plan.scalar:
        return [plan.write(value)], None
    if plan.is_list:
        if not isinstance(value, tuple):
            raise Unfit(f"not a leaf-list ({type(value).__name__})")
        found = list(dict.fromkeys([plan.write(item) for item in value]))
        whole = len(value) == 1 and not (plan.is_moment and canonical_moment(value[0]) != value[0])
        return found, None if whole else _json(plan, value)
    if plan.is_bits:
        if type(value) is not str:
            raise Unfit(f"not a set of bits ({type(value).__name__})")
        return [plan.write(bit) for bit in value.split()], None if value.split() else '""'
    term = plan.write(value)
    if plan.is_moment and canonical_moment(value) not in {None, value}:
        return [term], _json(plan, value)
    return [term], None


def _json(plan: LeafPlan, value: Any) -> str:
    return json.dumps(plan.node.codec.json(value), ensure_ascii=False, separators=(",", ":"))


def texts(plan: LeafPlan, value: Any) -> tuple[str, ...]:
    """What a leaf's values are as keys; of a union, those that its leafref alone takes."""
    lexical, link = plan.node.codec.lexical, plan.link
    values = value if plan.is_list else (value,)
    if link is not None and link.member >= 0:
        union = plan.node.codec.type
        members = union.members if isinstance(union, UnionType) else ()
        others = [member for number, member in enumerate(members) if number != link.member]
        values = [item for item in values if not any(_takes(member, item) for member in others)]
    return tuple(map(lexical, values))


def _takes(kind: YangType, value: Any) -> bool:
    try:
        kind.native(value)
    except TypeMismatch:
        return False
    return True
