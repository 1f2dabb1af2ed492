"""pyang's statements to schema nodes that are plain data. Owns what is taken over from a module.

The nodes refer to nothing of pyang, whose trees of hundreds of modules take a gigabyte; types become forms
(`codec`), each shared by all leaves that have it.
"""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from sys import intern
from typing import Any

from pyang import statements, types, util

from domain_twin.yang.codec import Form, LeafType
from domain_twin.yang.schema import DEREF, NodeKind, Reference, SchemaNode

__all__ = ["Compiler"]

_KINDS = {
    "container": NodeKind.CONTAINER,
    "list": NodeKind.LIST,
    "leaf": NodeKind.LEAF,
    "leaf-list": NodeKind.LEAF_LIST,
    "anydata": NodeKind.ANYDATA,
    "anyxml": NodeKind.ANYDATA,
}
_DEEPEST_LEAFREF = 16
_DEEPEST_TYPEDEF = 64
_ANYDATA: Form = ("anydata",)
_LEAFREF: Form = ("leafref",)


class Compiler:
    """Makes nodes of one pyang context's modules."""

    def __init__(self, context: Any) -> None:
        self._types: dict[Form, LeafType] = {}
        self._forms: dict[tuple[int, str], Form] = {}  # by type statement and module of the leaf
        self._derived: dict[frozenset[int], tuple[str, ...]] = {}
        self._typedefs: dict[tuple[str, ...], tuple[str, ...]] = {}
        self._identities = [
            identity
            for module in context.modules.values()
            if module is not None
            for identity in getattr(module, "i_identities", {}).values()
            if not getattr(identity, "i_not_implemented", False)
        ]

    def tops(self, module: Any) -> list[SchemaNode]:
        """The top-level data nodes of a module, with all below them."""
        return [self._node(statement, None) for statement in _data_children(module)]

    def _node(self, statement: Any, above: SchemaNode | None) -> SchemaNode:
        key = statement.search_one("key") if statement.keyword == "list" else None
        node = SchemaNode(
            kind=_KINDS[statement.keyword],
            name=intern(statement.arg),
            module=intern(statement.main_module().arg),
            path="",
            keys=tuple(intern(name.rpartition(":")[2]) for name in key.arg.split()) if key else (),
            config=getattr(statement, "i_config", True) is not False,
            presence=statement.keyword == "container" and statement.search_one("presence") is not None,
            user_ordered=_word(statement, "ordered-by") == "user",
        )
        node.path = intern(f"{above.path if above else ''}/{node.step(above)}")
        if node.is_leaf:
            self._describe(node, statement)
        for child in _data_children(statement):
            node.add(self._node(child, node), above=node)
        return node

    def _describe(self, node: SchemaNode, statement: Any) -> None:
        kind = statement.search_one("type")
        form = _ANYDATA if kind is None else self._form(kind, statement, node.module)
        node.leaf_type = self._types.get(form) or self._types.setdefault(form, LeafType(form))
        node.type_name = intern("anydata" if kind is None else kind.arg)
        if kind is not None:
            names = _typedefs(kind)
            node.typedefs = self._typedefs.setdefault(names, names)
            node.reference = _reference(kind.i_type_spec, statement)
        default, units = statement.search_one("default"), statement.search_one("units")
        node.default = default.arg if default is not None else ""
        node.units = intern(units.arg) if units is not None else ""

    def _form(self, statement: Any, leaf: Any, module: str, depth: int = 0) -> Form:
        known = self._forms.get((id(statement), module))
        if known is not None:
            return known
        form, portable = self._formed(statement, leaf, module, depth)
        if portable:
            self._forms[id(statement), module] = form
        return form

    def _formed(self, statement: Any, leaf: Any, module: str, depth: int) -> tuple[Form, bool]:
        """The form of a type, and whether it is the same wherever in this module a leaf has it."""
        spec = statement.i_type_spec
        base = spec
        while getattr(base, "base", None) is not None:
            base = base.base
        match base.name:
            case "boolean" | "empty" | "instance-identifier":
                return (base.name,), True
            case "string":
                return ("string", _lengths(spec), _patterns(spec)), True
            case "decimal64":
                return ("decimal64", base.fraction_digits, _decimal_ranges(spec)), True
            case "enumeration":
                return (
                    "enumeration",
                    tuple(
                        name
                        for name, _ in _layer(spec, types.EnumTypeSpec).enums
                        if name not in _absent(statement, "enum")
                    ),
                ), True
            case "bits":
                bits, absent = _layer(spec, types.BitTypeSpec).bits, _absent(statement, "bit")
                return ("bits", tuple(tuple(bit) for bit in bits if bit[0] not in absent)), True
            case "binary":
                return ("binary", _lengths(spec)), True
            case "identityref":
                return ("identityref", self._identities_of(base.idbases), module), True
            case "union":
                members = _layer(spec, types.UnionTypeSpec).types
                formed = tuple(self._form(member, leaf, module, depth + 1) for member in members)
                return ("union", formed), not _has_leafref(members)
            case "leafref":
                return self._leafref(spec, leaf, depth), False
            case name if isinstance(base, types.IntTypeSpec):
                return (name, _integer_ranges(spec, base)), True
        raise TypeError(f"type {statement.arg} is not known")

    def _identities_of(self, bases: Any) -> tuple[str, ...]:
        wanted = frozenset(id(base.i_identity) for base in bases)
        known = self._derived.get(wanted)
        if known is None:
            known = self._derived[wanted] = tuple(
                sorted(
                    {
                        f"{identity.main_module().arg}:{identity.arg}"
                        for identity in self._identities
                        if all(types.is_derived_from(identity, base.i_identity) for base in bases)
                    }
                )
            )
        return known

    def _leafref(self, spec: Any, leaf: Any, depth: int) -> Form:
        target = _target(spec, leaf)
        if target is None or depth > _DEEPEST_LEAFREF:
            return _LEAFREF
        # The target's identities and nested leafrefs resolve from where the target stands.
        return self._form(target.search_one("type"), target, intern(target.main_module().arg), depth + 1)


def _data_children(statement: Any) -> list[Any]:
    """Data nodes below a statement; choices and cases are not part of the data tree (RFC 7950 7.9)."""
    out: list[Any] = []
    for child in getattr(statement, "i_children", ()):
        if getattr(child, "i_not_implemented", False):
            continue  # its if-feature is false
        if child.keyword in {"choice", "case"}:
            out += _data_children(child)
        elif child.keyword in _KINDS:
            out.append(child)
    return out


def _target(spec: Any, leaf: Any) -> Any:
    """The statement that a leafref of `leaf` points to, or None."""
    own = getattr(leaf, "i_leafref", None) is spec
    if own and leaf.i_leafref_ptr:
        return leaf.i_leafref_ptr[0]
    # a member of a union: pyang resolves only a leaf's own leafref
    found = statements.validate_leafref_path(
        leaf.i_module.i_ctx, leaf, spec.path_spec, spec.path_, accept_non_config_target=True
    )
    return found[0] if found else None


def _reference(spec: Any, leaf: Any) -> Reference | None:
    """Where a leaf points that is a leafref, or may be one; None for others, and where there is no target."""
    if spec.name == "union":
        members = [member.i_type_spec for member in _layer(spec, types.UnionTypeSpec).types]
        found = [number for number, member in enumerate(members) if isinstance(member, types.PathTypeSpec)]
        one = _reference(members[found[0]], leaf) if len(found) == 1 else None
        return None if one is None else replace(one, member=found[0])
    if not isinstance(spec, types.PathTypeSpec) or spec.path_spec is None:
        return None
    target = _target(spec, leaf)
    if target is None:
        return None
    chain = _data_chain(target)
    up, down, _, of_deref = spec.path_spec
    if of_deref is not None:
        return Reference(_path(chain), DEREF)
    names = [step for step in down if not _is_predicate(step)]
    depth = len(chain) - len(names)
    predicates = []
    for step in down:
        if not _is_predicate(step):
            depth += 1
        elif depth > 0:
            _, key, key_up, key_down = step
            way = tuple(_qualified(name, spec.path_, leaf) for name in key_down)
            predicates.append((depth, _qualified(key, spec.path_, leaf).rpartition(":")[2], key_up, way))
    return Reference(_path(chain), up, tuple(predicates))


def _is_predicate(step: Any) -> bool:
    return isinstance(step, tuple) and step[0] == "predicate" and len(step) == 4


def _qualified(name: Any, path: Any, leaf: Any) -> str:
    """An identifier of a leafref's path as `module:name`."""
    if isinstance(name, str):
        return f"{leaf.main_module().arg}:{name}"
    prefix, local = name
    module = util.prefix_to_module(path.i_module, prefix, path.pos, [])
    return local if module is None else f"{module.i_modulename}:{local}"


def _data_chain(statement: Any) -> list[Any]:
    """The data nodes from the top down to a statement."""
    chain: list[Any] = []
    at = statement
    while at is not None and at.keyword not in {"module", "submodule"}:
        if at.keyword in _KINDS:
            chain.append(at)
        at = at.parent
    return chain[::-1]


def _path(chain: list[Any]) -> str:
    """The schema path of the last of a chain of data nodes, as `SchemaNode.path` has it."""
    out, above = "", ""
    for statement in chain:
        module = statement.main_module().arg
        out += f"/{statement.arg}" if module == above else f"/{module}:{statement.arg}"
        above = module
    return intern(out)


def _typedefs(kind: Any) -> tuple[str, ...]:
    names: list[str] = []
    while (typedef := getattr(kind, "i_typedef", None)) is not None and len(names) < _DEEPEST_TYPEDEF:
        names.append(intern(f"{typedef.main_module().arg}:{typedef.arg}"))
        kind = typedef.search_one("type")
    return tuple(names)


def _word(statement: Any, keyword: str) -> str:
    found = statement.search_one(keyword)
    return "" if found is None else str(found.arg)


def _absent(statement: Any, keyword: str) -> set[str]:
    """Enums or bits whose if-feature is false, found where the type is defined."""
    while not statement.search(keyword) and getattr(statement, "i_typedef", None) is not None:
        statement = statement.i_typedef.search_one("type")
    return {s.arg for s in statement.search(keyword) if getattr(s, "i_not_implemented", False)}


def _has_leafref(members: Any) -> bool:
    for member in members:
        spec = member.i_type_spec
        while getattr(spec, "base", None) is not None:
            spec = spec.base
        if spec.name == "leafref" or (
            spec.name == "union" and _has_leafref(_layer(member.i_type_spec, types.UnionTypeSpec).types)
        ):
            return True
    return False


def _patterns(spec: Any) -> tuple[tuple[str, bool], ...]:
    out: list[tuple[str, bool]] = []
    while spec is not None:
        if isinstance(spec, types.PatternTypeSpec):
            out += [(pattern.spec, not pattern.invert_match) for pattern in spec.res]
        spec = spec.base
    return tuple(out)


def _layer(spec: Any, kind: type) -> Any:
    while not isinstance(spec, kind):
        spec = spec.base
    return spec


def _lengths(spec: Any) -> Form:
    while spec is not None and not isinstance(spec, types.LengthTypeSpec):
        spec = spec.base
    return _bounds(spec.lengths, spec.min, spec.max, int) if spec is not None and spec.lengths else ()


def _integer_ranges(spec: Any, base: Any) -> Form:
    while not isinstance(spec, types.RangeTypeSpec):
        if spec is base:
            return ((base.min, base.max),)
        spec = spec.base
    return _bounds(spec.ranges, spec.min, spec.max, int) if spec.ranges else ((base.min, base.max),)


def _decimal_ranges(spec: Any) -> Form:
    while spec is not None and not isinstance(spec, types.RangeTypeSpec):
        spec = spec.base
    if spec is None or not spec.ranges:
        return ()
    digits = spec.fraction_digits
    return _bounds(spec.ranges, spec.min, spec.max, lambda bound: str(Decimal(bound.value).scaleb(-digits)))


def _bounds(parts: Any, lowest: Any, highest: Any, convert: Any) -> Form:
    named = {"min": lowest, "max": highest}
    pairs = ((low, low if high is None else high) for low, high in parts)
    return tuple(
        (
            convert(named.get(low, low) if isinstance(low, str) else low),
            convert(named.get(high, high) if isinstance(high, str) else high),
        )
        for low, high in pairs
    )
