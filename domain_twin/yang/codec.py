"""Leaf codecs: a type with its leaf, so that a refusal names both. Makes types of their plain forms.

A form is a type as nested tuples, which `compile` makes of modules and `cache` keeps on disk:
`("uint8", ((0, 100),))`, `("union", (form, …))`. Patterns are compiled when a leaf is first used.
"""

from __future__ import annotations

import logging
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from domain_twin.errors import SchemaError, SchemaViolation
from domain_twin.model import Value
from domain_twin.yang.patterns import compile_pattern
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
    StringType,
    TypeMismatch,
    UnionType,
    YangType,
)

if TYPE_CHECKING:
    from domain_twin.yang.schema import SchemaNode

log = logging.getLogger(__name__)

__all__ = ["Form", "LeafCodec", "LeafType", "build_codec"]

_NO_PREFIXES: Prefixes = {}

Form = tuple[Any, ...]
"""A type as nested tuples of its name and what restricts it."""


class LeafType:
    """A type that many leaves may share: its form, and the type once somebody asks for it."""

    __slots__ = ("_built", "form")

    def __init__(self, form: Form) -> None:
        self.form = form
        self._built: YangType | None = None

    def built(self, leaf: str) -> YangType:
        """The type. `leaf` is named where one of its patterns cannot be checked."""
        if self._built is None:
            self._built = _build(self.form, leaf)
        return self._built


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
    if not node.is_leaf or node.leaf_type is None:
        raise SchemaError(f"{node.path} is a {node.kind} and has no value")
    is_list = node.kind == "leaf-list"
    built = node.leaf_type.built(node.path)
    return LeafCodec(node.path, built, node.type_name, is_list=is_list, unique=is_list and node.config)


def _build(form: Form, leaf: str) -> YangType:
    name, *parts = form
    match name:
        case "anydata":
            return AnyType()
        case "boolean":
            return BooleanType()
        case "string":
            return StringType("string", parts[0], _patterns(parts[1], leaf))
        case "leafref":
            return StringType("leafref")
        case "decimal64":
            bounds = tuple((Decimal(low), Decimal(high)) for low, high in parts[1])
            return DecimalType(parts[0], bounds)
        case "enumeration":
            return EnumerationType(parts[0])
        case "bits":
            return BitsType(dict(parts[0]))
        case "binary":
            return BinaryType(parts[0])
        case "empty":
            return EmptyType()
        case "identityref":
            return IdentityrefType(parts[0], parts[1])
        case "instance-identifier":
            return InstanceIdentifierType()
        case "union":
            return UnionType([_build(member, leaf) for member in parts[0]])
        case _:
            return IntegerType(name, parts[0], wide=name.endswith("64"))


def _patterns(patterns: Any, leaf: str) -> list[tuple[Any, bool]]:
    out = []
    for pattern, wanted in patterns:
        try:
            out.append((compile_pattern(pattern), wanted))
        except SchemaError as error:  # the leaf is still checked for all else
            log.warning("a pattern is not checked", extra={"leaf": leaf, "reason": str(error)})
    return out
