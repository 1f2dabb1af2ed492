"""Value spaces of an emulated device's leaves as text, JSON (RFC 7951) and Python; checked by pyang.

Knows types only; which leaf has which type is `device_schema`'s.

Python values: int, bool, str, `Decimal` (decimal64; a float is accepted from the device itself), `EMPTY`
(type empty). Identities are always `module:name`; bits and binary keep their lexical form.
"""

import base64
import binascii
import re
from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, TypeAlias

from pyang import error
from pyang.types import is_derived_from

Value: TypeAlias = "bool | int | float | str | Decimal | tuple[Value, ...] | tuple[None] | None"

EMPTY: tuple[None] = (None,)
"""The one value of type empty, `[null]` in JSON (RFC 7951 6.9)."""

_INTEGER = re.compile(r"[+-]?[0-9]+\Z")
_WIDE = frozenset({"int64", "uint64"})
_INTEGERS = frozenset({"int8", "int16", "int32", "uint8", "uint16", "uint32"}) | _WIDE


class LeafTypeError(ValueError):
    """A value outside its leaf's type; the text says what is accepted."""


class LeafType:
    """The type of one leaf or leaf-list: parses and renders values of it."""

    __slots__ = ("_bases", "_position", "_spec", "_statement", "base", "digits", "members", "module")

    def __init__(self, statement: Any, module: str):
        spec = statement.i_type_spec
        self._statement = statement
        self._spec = spec
        self._position = statement.pos
        self.module = module
        self.base: str = spec.name
        self.digits: int | None = getattr(spec, "fraction_digits", None)
        self.members: tuple[LeafType, ...] = ()
        self._bases: tuple[Any, ...] = ()
        if self.base == "union":
            self.members = tuple(LeafType(member, module) for member in spec.types)
        elif self.base == "identityref":
            self._bases = tuple(base.i_identity for base in spec.idbases)

    @property
    def is_status(self) -> bool:
        """Whether a change of such a leaf is worth an event of its own: a state, not a counter."""
        return self.base in ("enumeration", "boolean", "identityref")

    def from_text(self, text: str, namespaces: Mapping[str | None, str] | None = None) -> Value:
        """The value that XML text stands for; `namespaces` maps the prefixes in scope to module names.

        Raises LeafTypeError.
        """
        base = self.base
        if base == "string":
            return self._checked(text, text)
        text = text.strip()
        if base in _INTEGERS:
            if not _INTEGER.match(text):
                raise LeafTypeError(f"{text!r} is not an integer ({base})")
            return self._integer(int(text))
        if base == "decimal64":
            return self._decimal(text)
        if base == "boolean":
            if text not in ("true", "false"):
                raise LeafTypeError(f"{text!r} is not a boolean: true or false")
            return text == "true"
        if base == "identityref":
            prefix, _, name = text.rpartition(":")
            module = self.module if namespaces is None and not prefix else prefix
            if namespaces is not None:
                module = namespaces.get(prefix or None, self.module if not prefix else "")
            return self._identity(module, name, text)
        if base == "union":
            return self._first_member(text, lambda member: member.from_text(text, namespaces))
        if base == "empty":
            if text:
                raise LeafTypeError(f"{text!r} given to a leaf of type empty, which holds nothing")
            return EMPTY
        return self._other(text)

    def from_json(self, raw: Any) -> Value:
        """The value that a JSON value stands for; 64-bit integers and decimals also as numbers.

        Raises LeafTypeError.
        """
        base = self.base
        if base in _INTEGERS:
            if isinstance(raw, bool) or not isinstance(raw, (int, str)):
                raise LeafTypeError(f"{raw!r} is not an integer ({base})")
            if isinstance(raw, str):
                if base not in _WIDE or not _INTEGER.match(raw):
                    raise LeafTypeError(f"{raw!r} is not an integer ({base})")
                raw = int(raw)
            return self._integer(raw)
        if base == "decimal64":
            if isinstance(raw, bool) or not isinstance(raw, (int, str, float, Decimal)):
                raise LeafTypeError(f"{raw!r} is not a decimal number")
            if isinstance(raw, float) and self.digits is not None:
                raw = format(raw, f".{self.digits}f")
            return self._decimal(str(raw))
        if base == "boolean":
            if not isinstance(raw, bool):
                raise LeafTypeError(f"{raw!r} is not a boolean: true or false")
            return raw
        if base == "empty":
            if raw not in ([None], EMPTY):
                raise LeafTypeError(f"{raw!r} given to a leaf of type empty, which is [null]")
            return EMPTY
        if base == "union":
            return self._first_member(raw, lambda member: member.from_json(raw))
        if not isinstance(raw, str):
            raise LeafTypeError(f"{raw!r} is not a string ({base})")
        if base == "identityref":
            prefix, _, name = raw.rpartition(":")
            return self._identity(prefix or self.module, name, raw)
        return self._checked(raw, raw) if base == "string" else self._other(raw)

    def to_text(self, value: Any) -> str:
        """The canonical lexical form of `value` (identities as `module:name`)."""
        if value is True:
            return "true"
        if value is False:
            return "false"
        if self.digits is not None:
            return decimal_text(value, self.digits)
        if value is EMPTY or value == EMPTY:
            return ""
        return str(value)

    def to_json(self, value: Any) -> Any:
        """The RFC 7951 form of `value`: 64-bit integers and decimals are strings."""
        base = self.base
        if base in _WIDE:
            return str(value)
        if self.digits is not None:
            return decimal_text(value, self.digits)
        if base == "empty":
            return [None]
        if base == "union":
            return self.member_of(value).to_json(value)
        return value

    def member_of(self, value: Any) -> "LeafType":
        """The member type of a union that `value` belongs to; the type itself where it is no union."""
        for member in self.members:
            try:
                member.from_json(value)
            except LeafTypeError:
                continue
            return member.member_of(value)
        return self

    def _integer(self, value: int) -> int:
        self._validate(value, str(value))
        return value

    def _decimal(self, text: str) -> Decimal:
        try:
            number = Decimal(text)
        except InvalidOperation:
            raise LeafTypeError(f"{text!r} is not a decimal number") from None
        if not number.is_finite():
            raise LeafTypeError(f"{text!r} is not a decimal number")
        plain = format(number, "f")
        if "." in plain:
            plain = plain.rstrip("0").rstrip(".")
        self._validate(self._parse(plain), plain)
        return number

    def _identity(self, module: str, name: str, text: str) -> str:
        context = self._statement.i_module.i_ctx
        statement = context.get_module(module) if module else None
        identity = statement.i_identities.get(name) if statement is not None else None
        if identity is None or not all(is_derived_from(identity, base) for base in self._bases):
            wanted = " and ".join(base.arg for base in self._bases)
            raise LeafTypeError(f"{text!r} is not an identity derived from {wanted}")
        return f"{module}:{name}"

    def _first_member(self, raw: Any, parse: Callable[["LeafType"], Value]) -> Value:
        for member in self.members:
            try:
                return parse(member)
            except LeafTypeError:
                continue
        names = ", ".join(member.base for member in self.members)
        raise LeafTypeError(f"{raw!r} fits no member of the union ({names})")

    def _other(self, text: str) -> str:
        if self.base == "binary":
            try:
                octets = base64.b64decode(text, validate=True)
            except (binascii.Error, ValueError):
                raise LeafTypeError(f"{text!r} is not base64") from None
            self._validate(octets, text)
            return text
        if self.base == "bits":
            names = text.split()
            self._validate(names, text)
            return " ".join(names)
        return self._checked(text, text)

    def _checked(self, value: str, text: str) -> str:
        self._validate(value, text)
        return value

    def _parse(self, text: str) -> Any:
        problems: list[Any] = []
        parsed = self._spec.str_to_val(problems, self._position, text, self._statement.i_module)
        if problems or parsed is None:
            raise LeafTypeError(_first_problem(problems, text))
        return parsed

    def _validate(self, value: Any, text: str) -> None:
        problems: list[Any] = []
        try:
            fits = self._spec.validate(problems, self._position, value, self._statement.i_module)
        except ValueError as cause:  # characters that XML, and so pyang's pattern check, cannot hold
            raise LeafTypeError(f"{text!r}: {cause}") from None
        if problems or fits is False:
            raise LeafTypeError(_first_problem(problems, text))


def decimal_text(value: Any, digits: int) -> str:
    """The canonical form of a decimal64 (RFC 7950 9.3.2): at least one digit on each side of the point."""
    text = format(value, f".{digits}f").rstrip("0")
    return text + "0" if text.endswith(".") else text


def _first_problem(problems: list[Any], text: str) -> str:
    for _, tag, arguments in problems:
        message = error.err_to_str(tag, arguments)
        return re.sub(r" for (range|length|pattern) defined at \S+", "", str(message)).replace("  ", " ")
    return f"{text!r} is outside its type"
