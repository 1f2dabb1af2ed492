"""Leaf codecs: a type with its leaf, so that a refusal names both. Builds types from pyang's statements."""

from __future__ import annotations

import logging
from decimal import Decimal
from typing import Any

from pyang import statements, types

from domain_twin.errors import SchemaError, SchemaViolation
from domain_twin.model import Value
from domain_twin.yang.patterns import compile_pattern
from domain_twin.yang.schema import NodeKind, SchemaNode
from domain_twin.yang.types import (
    AnyType,
    BinaryType,
    BitsType,
    BooleanType,
    DecimalType,
    EmptyType,
    EnumerationType,
    IdentityrefType,
    InstanceIdentifierType,
    IntegerType,
    Prefixes,
    Ranges,
    StringType,
    TypeMismatch,
    UnionType,
    YangType,
)

log = logging.getLogger(__name__)

__all__ = ["LeafCodec", "build_codec"]

_NO_PREFIXES: Prefixes = {}


class LeafCodec:
    """Turns what a device says about one leaf or leaf-list into its typed value, and back.

    `check` is the hot path: a value as gNMI or RFC 7951 JSON carries it, typed; raises TypeMismatch.
    """

    __slots__ = ("check", "is_list", "path", "type", "type_name", "unique")

    def __init__(
        self, path: str, yang_type: YangType, type_name: str, *, is_list: bool, unique: bool
    ) -> None:
        self.path = path
        self.type = yang_type
        self.type_name = type_name
        self.is_list = is_list
        self.unique = unique  # RFC 7950 7.7: values of a configured leaf-list are unique
        self.check = self._check_list if is_list else yang_type.native

    def native(self, value: Any) -> Value:
        """Typed value of a gNMI or JSON value. Raises SchemaViolation."""
        try:
            typed: Value = self.check(value)
        except TypeMismatch as error:
            raise self._violation(value, error) from error
        return typed

    def text(self, text: str, prefixes: Prefixes = _NO_PREFIXES) -> Value:
        """Typed value of an XML element's text (one entry of a leaf-list). Raises SchemaViolation."""
        try:
            typed: Value = self.type.text(text, prefixes)
        except TypeMismatch as error:
            raise self._violation(text, error) from error
        return typed

    def key(self, text: str) -> str:
        """A list key's text in canonical form. Raises SchemaViolation."""
        return self.type.lexical(self.text(text))

    def json(self, value: Value) -> Any:
        """The typed value in RFC 7951 JSON."""
        if isinstance(value, tuple):
            return [self.type.json(item) for item in value]
        return self.type.json(value)

    def lexical(self, value: Value) -> str:
        """The typed scalar as canonical text."""
        return self.type.lexical(value)

    def _check_list(self, value: Any) -> Any:
        if not isinstance(value, list | tuple):
            raise TypeMismatch(f"not a leaf-list ({type(value).__name__})")
        take = self.type.native
        typed = tuple([take(item) for item in value])
        if self.unique and len(set(typed)) != len(typed):
            raise TypeMismatch("a value occurs twice")
        return typed

    def _violation(self, value: Any, error: TypeMismatch) -> SchemaViolation:
        return SchemaViolation(f"{self.path}: {_shorten(value)} is not of type {self.type_name}: {error}")


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def build_codec(node: SchemaNode) -> LeafCodec:
    """The codec of a leaf, leaf-list or anydata node. Raises SchemaError for other nodes."""
    is_list = node.kind is NodeKind.LEAF_LIST
    if node.kind is NodeKind.ANYDATA:
        return LeafCodec(node.path, AnyType(), "anydata", is_list=False, unique=False)
    if not node.is_leaf:
        raise SchemaError(f"{node.path} is a {node.kind} and has no value")
    statement = node.statement.search_one("type")
    yang_type = _Builder(node).build(statement)
    return LeafCodec(node.path, yang_type, statement.arg, is_list=is_list, unique=is_list and node.config)


class _Builder:
    def __init__(self, node: SchemaNode) -> None:
        self.node = node

    def build(self, statement: Any, depth: int = 0) -> YangType:
        spec = statement.i_type_spec
        base = spec
        while getattr(base, "base", None) is not None:
            base = base.base
        match base.name:
            case "boolean":
                return BooleanType()
            case "string":
                return StringType("string", _lengths(spec), self._patterns(spec))
            case "decimal64":
                return DecimalType(base.fraction_digits, _decimal_ranges(spec))
            case "enumeration":
                return EnumerationType([name for name, _ in _layer(spec, types.EnumTypeSpec).enums])
            case "bits":
                return BitsType(dict(_layer(spec, types.BitTypeSpec).bits))
            case "binary":
                return BinaryType(_lengths(spec))
            case "empty":
                return EmptyType()
            case "identityref":
                return IdentityrefType(self._identities(base.idbases), self.node.module)
            case "instance-identifier":
                return InstanceIdentifierType()
            case "union":
                return UnionType(
                    [self.build(member, depth + 1) for member in _layer(spec, types.UnionTypeSpec).types]
                )
            case "leafref":
                return self._leafref(spec, depth)
            case name if isinstance(base, types.IntTypeSpec):
                return IntegerType(name, _integer_ranges(spec, base), wide=name.endswith("64"))
        raise SchemaError(f"{self.node.path}: type {statement.arg} is not known")

    def _patterns(self, spec: Any) -> list[tuple[Any, bool]]:
        out = []
        while spec is not None:
            if isinstance(spec, types.PatternTypeSpec):
                for pattern in spec.res:
                    try:
                        out.append((compile_pattern(pattern.spec), not pattern.invert_match))
                    except SchemaError as error:  # the leaf is still checked for all else
                        log.warning(
                            "a pattern is not checked", extra={"leaf": self.node.path, "reason": str(error)}
                        )
            spec = spec.base
        return out

    def _identities(self, bases: Any) -> list[str]:
        context = self.node.statement.i_module.i_ctx
        out = []
        for module in context.modules.values():
            if module is None:
                continue
            for identity in getattr(module, "i_identities", {}).values():
                if all(types.is_derived_from(identity, base.i_identity) for base in bases):
                    out.append(f"{identity.main_module().arg}:{identity.arg}")
        return sorted(set(out))

    def _leafref(self, spec: Any, depth: int) -> YangType:
        own = getattr(self.node.statement, "i_leafref", None) is spec
        target = self.node.statement.i_leafref_ptr[0] if own and self.node.statement.i_leafref_ptr else None
        if target is None:  # a member of a union: pyang resolves only a leaf's own leafref
            found = statements.validate_leafref_path(
                self.node.statement.i_module.i_ctx,
                self.node.statement,
                spec.path_spec,
                spec.path_,
                accept_non_config_target=True,
            )
            target = found[0] if found else None
        if target is None or depth > 16:
            return StringType("leafref")
        # The target's identities and nested leafrefs resolve from where the target stands.
        below = SchemaNode(
            self.node.kind, self.node.name, target.main_module().arg, self.node.path, statement=target
        )
        return _Builder(below).build(target.search_one("type"), depth + 1)


def _layer(spec: Any, kind: type) -> Any:
    while not isinstance(spec, kind):
        spec = spec.base
    return spec


def _lengths(spec: Any) -> Ranges:
    while spec is not None and not isinstance(spec, types.LengthTypeSpec):
        spec = spec.base
    return _bounds(spec.lengths, spec.min, spec.max, int) if spec is not None and spec.lengths else ()


def _integer_ranges(spec: Any, base: Any) -> Ranges:
    while not isinstance(spec, types.RangeTypeSpec):
        if spec is base:
            return ((base.min, base.max),)
        spec = spec.base
    return _bounds(spec.ranges, spec.min, spec.max, int) if spec.ranges else ((base.min, base.max),)


def _decimal_ranges(spec: Any) -> Ranges:
    while spec is not None and not isinstance(spec, types.RangeTypeSpec):
        spec = spec.base
    if spec is None or not spec.ranges:
        return ()
    digits = spec.fraction_digits
    return _bounds(spec.ranges, spec.min, spec.max, lambda bound: Decimal(bound.value).scaleb(-digits))


def _bounds(parts: Any, lowest: Any, highest: Any, convert: Any) -> Ranges:
    named = {"min": lowest, "max": highest}
    pairs = ((low, low if high is None else high) for low, high in parts)
    return tuple(
        (
            convert(named.get(low, low) if isinstance(low, str) else low),
            convert(named.get(high, high) if isinstance(high, str) else high),
        )
        for low, high in pairs
    )
