"""Leaf types: what a device may say, in three notations, as one Python value. Owns checks; knows no modules.

Every type takes a value as gNMI or RFC 7951 JSON carries it (`native`) or as the text of an XML element
(`text`), and spells it again for RFC 7951 JSON (`json`) and for XML (`lexical`). Typed: int, bool, str,
Decimal (with exactly its type's fraction digits), bytes; None for `empty`. What does not fit raises
TypeMismatch with the reason.
"""
# ruff: noqa: D102 - overrides; YangType documents its methods

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping, Sequence
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from typing import Any

from domain_twin.yang.paths import Step, format_path, parse_path

__all__ = [
    "AnyType",
    "BinaryType",
    "BitsType",
    "BooleanType",
    "DecimalType",
    "EmptyType",
    "EnumerationType",
    "IdentityrefType",
    "InstanceIdentifierType",
    "IntegerType",
    "StringType",
    "TypeMismatch",
    "UnionType",
    "YangType",
]

Ranges = tuple[tuple[Any, Any], ...]
Prefixes = Mapping[str | None, str]
"""XML prefix (None: the default namespace) to module name."""


class TypeMismatch(ValueError):
    """A value is not of a type; says why, without naming the leaf."""


class YangType:
    """A leaf's type. Subclasses decide what `native` and `text` accept."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def native(self, value: Any) -> Any:
        """The typed value of a gNMI or JSON value. Raises TypeMismatch."""
        raise NotImplementedError

    def text(self, text: str, prefixes: Prefixes) -> Any:
        """The typed value of an XML element's text. Raises TypeMismatch."""
        return self.native(text)

    def json(self, value: Any) -> Any:
        """The typed value in RFC 7951 JSON."""
        return value

    def lexical(self, value: Any) -> str:
        """The typed value as canonical text (RFC 7950 section 9), as list keys carry it."""
        return str(value)


class IntegerType(YangType):
    """int8 to uint64 (RFC 7950 9.2); 64-bit ones travel as strings in JSON (RFC 7951 6.1)."""

    __slots__ = ("high", "low", "parts", "wide")

    def __init__(self, name: str, parts: Ranges, *, wide: bool) -> None:
        super().__init__(name)
        self.parts = parts if len(parts) > 1 else ()
        self.low: int = parts[0][0]
        self.high: int = parts[-1][1]
        self.wide = wide

    def native(self, value: Any) -> Any:
        if type(value) is int and self.low <= value <= self.high and not self.parts:
            return value
        if isinstance(value, str) and self.wide:
            return self.text(value, {})
        if isinstance(value, float | Decimal) and _is_whole(value):
            value = int(value)  # 1e3 is an integer in JSON too
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeMismatch(f"not an integer ({type(value).__name__})")
        return self._ranged(value)

    def text(self, text: str, prefixes: Prefixes) -> Any:
        if not _INTEGER.fullmatch(text):
            raise TypeMismatch("not an integer")
        return self._ranged(int(text))

    def json(self, value: Any) -> Any:
        return str(value) if self.wide else value

    def _ranged(self, value: int) -> int:
        if any(low <= value <= high for low, high in self.parts or ((self.low, self.high),)):
            return value
        raise TypeMismatch(f"outside {_spell_ranges(self.parts or ((self.low, self.high),))}")


def _is_whole(value: float | Decimal) -> bool:
    if isinstance(value, float):
        return value.is_integer()
    return value.is_finite() and value.adjusted() < 20 and value == value.to_integral_value()


_INTEGER = re.compile(r"[+-]?[0-9]{1,20}")
_DECIMAL = re.compile(r"[+-]?[0-9]{1,19}(\.[0-9]{1,18})?")


class DecimalType(YangType):
    """decimal64 (RFC 7950 9.3). A binary float is rounded to the fraction digits; text must fit exactly."""

    __slots__ = ("digits", "exponent", "high", "low", "parts")

    def __init__(self, digits: int, parts: Ranges = ()) -> None:
        super().__init__("decimal64")
        self.digits = digits
        self.exponent = Decimal(1).scaleb(-digits)
        limits = (Decimal(-(2**63)).scaleb(-digits), Decimal(2**63 - 1).scaleb(-digits))
        parts = parts or (limits,)
        self.low: Decimal = parts[0][0]
        self.high: Decimal = parts[-1][1]
        self.parts = parts if len(parts) > 1 else ()

    def native(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.text(value, {})
        if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
            raise TypeMismatch(f"not a decimal number ({type(value).__name__})")
        exact = not isinstance(value, float)
        return self._ranged(Decimal(repr(value)) if isinstance(value, float) else Decimal(value), exact=exact)

    def text(self, text: str, prefixes: Prefixes) -> Any:
        if not _DECIMAL.fullmatch(text):
            raise TypeMismatch("not a decimal number")
        return self._ranged(Decimal(text), exact=True)

    def json(self, value: Any) -> Any:
        return self.lexical(value)

    def lexical(self, value: Any) -> str:
        text = f"{value:f}".rstrip("0") if self.digits and "." in f"{value:f}" else f"{value:f}.0"
        return text + "0" if text.endswith(".") else text

    def _ranged(self, value: Decimal, *, exact: bool) -> Decimal:
        if not value.is_finite():
            raise TypeMismatch("not a decimal64 number")
        try:
            rounded = value.quantize(self.exponent, ROUND_HALF_EVEN)
        except InvalidOperation as error:
            raise TypeMismatch("not a decimal64 number") from error
        if exact and rounded != value:
            raise TypeMismatch(f"more than {self.digits} fraction digits")
        if rounded.is_zero():
            rounded = abs(rounded)  # there is no -0 in YANG
        if any(low <= rounded <= high for low, high in self.parts or ((self.low, self.high),)):
            return rounded
        raise TypeMismatch(f"outside {_spell_ranges(self.parts or ((self.low, self.high),))}")


class BooleanType(YangType):
    """true or false (RFC 7950 9.5)."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__("boolean")

    def native(self, value: Any) -> Any:
        if value is True or value is False:
            return value
        raise TypeMismatch(f"not a boolean ({type(value).__name__})")

    def text(self, text: str, prefixes: Prefixes) -> Any:
        if text in {"true", "false"}:
            return text == "true"
        raise TypeMismatch("not a boolean: true or false")

    def lexical(self, value: Any) -> str:
        return "true" if value else "false"


class StringType(YangType):
    """string with lengths and patterns (RFC 7950 9.4); a pattern is (expression, whether it must match)."""

    __slots__ = ("lengths", "patterns")

    def __init__(
        self,
        name: str = "string",
        lengths: Ranges = (),
        patterns: Sequence[tuple[re.Pattern[str], bool]] = (),
    ) -> None:
        super().__init__(name)
        self.lengths = lengths
        self.patterns = tuple(patterns)

    def native(self, value: Any) -> Any:
        if type(value) is not str:
            raise TypeMismatch(f"not a string ({type(value).__name__})")
        if self.lengths:
            _check_length(len(value), self.lengths)
        for pattern, wanted in self.patterns:
            if (pattern.fullmatch(value) is not None) is not wanted:
                raise TypeMismatch(f"{'does not match' if wanted else 'matches'} pattern {pattern.pattern!r}")
        return value


class EnumerationType(YangType):
    """One of a set of names (RFC 7950 9.6)."""

    __slots__ = ("names",)

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__("enumeration")
        self.names = {name: name for name in names}

    def native(self, value: Any) -> Any:
        known = self.names.get(value) if type(value) is str else None
        if known is None:
            raise TypeMismatch(f"not one of {_some(self.names)}")
        return known


class BitsType(YangType):
    """A set of named bits (RFC 7950 9.7), typed as their names in order of position."""

    __slots__ = ("positions",)

    def __init__(self, positions: Mapping[str, int]) -> None:
        super().__init__("bits")
        self.positions = dict(positions)

    def native(self, value: Any) -> Any:
        if type(value) is not str:
            raise TypeMismatch(f"not a set of bits ({type(value).__name__})")
        names = value.split()
        if unknown := [name for name in names if name not in self.positions]:
            raise TypeMismatch(f"unknown bit {unknown[0]!r}; known are {_some(self.positions)}")
        if len(set(names)) != len(names):
            raise TypeMismatch("a bit is named twice")
        return " ".join(sorted(names, key=self.positions.__getitem__))


class BinaryType(YangType):
    """Octets (RFC 7950 9.8); base64 in JSON and XML."""

    __slots__ = ("lengths",)

    def __init__(self, lengths: Ranges = ()) -> None:
        super().__init__("binary")
        self.lengths = lengths

    def native(self, value: Any) -> Any:
        if isinstance(value, str):
            try:
                value = base64.b64decode("".join(value.split()), validate=True)
            except (binascii.Error, ValueError) as error:
                raise TypeMismatch("not base64") from error
        if type(value) is not bytes:
            raise TypeMismatch(f"not octets ({type(value).__name__})")
        if self.lengths:
            _check_length(len(value), self.lengths)
        return value

    def json(self, value: Any) -> Any:
        return self.lexical(value)

    def lexical(self, value: Any) -> str:
        return base64.b64encode(value).decode("ascii")


class EmptyType(YangType):
    """Present without a value (RFC 7950 9.11): None here, [null] in JSON, true in gNMI's PROTO encoding."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__("empty")

    def native(self, value: Any) -> Any:
        if value is None or value is True or value in ([None], (None,)):
            return None
        raise TypeMismatch("not empty")

    def text(self, text: str, prefixes: Prefixes) -> Any:
        if text:
            raise TypeMismatch("not empty")

    def json(self, value: Any) -> Any:
        return [None]

    def lexical(self, value: Any) -> str:
        return ""


class IdentityrefType(YangType):
    """`module:name` of an identity derived from all bases (RFC 7950 9.10, RFC 7951 6.8).

    Without a module the name is one of the leaf's own module; failing that, one that only one module has.
    """

    __slots__ = ("by_name", "identities", "module")

    def __init__(self, identities: Sequence[str], module: str) -> None:
        super().__init__("identityref")
        self.identities = {name: name for name in identities}
        self.module = module
        self.by_name: dict[str, list[str]] = {}
        for identity in self.identities:
            self.by_name.setdefault(identity.partition(":")[2], []).append(identity)

    def native(self, value: Any) -> Any:
        known = self.identities.get(value) if type(value) is str else None
        if known is not None:
            return known
        if type(value) is str and ":" not in value:
            if (own := self.identities.get(f"{self.module}:{value}")) is not None:
                return own
            if len(found := self.by_name.get(value, [])) == 1:
                return found[0]
        raise TypeMismatch(f"not one of the identities {_some(self.identities)}")

    def text(self, text: str, prefixes: Prefixes) -> Any:
        prefix, colon, name = text.partition(":")
        module = prefixes.get(prefix if colon else None)
        return self.native(f"{module}:{name if colon else text}" if module else text)


class InstanceIdentifierType(YangType):
    """A path to another node (RFC 7950 9.13), typed as its canonical string."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__("instance-identifier")

    def native(self, value: Any) -> Any:
        if type(value) is not str:
            raise TypeMismatch(f"not an instance-identifier ({type(value).__name__})")
        return self._canonical(value, {})

    def text(self, text: str, prefixes: Prefixes) -> Any:
        return self._canonical(text, prefixes)

    @staticmethod
    def _canonical(value: str, prefixes: Prefixes) -> str:
        try:
            steps = parse_path(value)
        except ValueError as error:
            raise TypeMismatch(str(error)) from error
        out: list[Step] = []
        current = ""
        for step in steps:
            module = prefixes.get(step.module, step.module)
            out.append(Step("" if module == current else module, step.name, step.keys))
            current = module or current
        return format_path(out)


class UnionType(YangType):
    """The first member that accepts the value wins (RFC 7950 9.12, RFC 7951 6.10)."""

    __slots__ = ("members",)

    def __init__(self, members: Sequence[YangType]) -> None:
        super().__init__("union")
        self.members = tuple(members)

    def native(self, value: Any) -> Any:
        return self._first(lambda member: member.native(value))

    def text(self, text: str, prefixes: Prefixes) -> Any:
        return self._first(lambda member: member.text(text, prefixes))

    def json(self, value: Any) -> Any:
        return self.member(value).json(value)

    def lexical(self, value: Any) -> str:
        return self.member(value).lexical(value)

    def member(self, value: Any) -> YangType:
        """The member that a typed value belongs to."""
        for member in self.members:
            try:
                typed = member.native(value)
            except TypeMismatch:
                continue
            if typed == value and type(typed) is type(value):
                return member
        return self.members[0]

    def _first(self, take: Callable[[YangType], Any]) -> Any:
        reasons = []
        for member in self.members:
            try:
                return take(member)
            except TypeMismatch as error:
                reasons.append(f"{member.name}: {error}")
        raise TypeMismatch("no member of the union accepts it (" + "; ".join(reasons) + ")")


class AnyType(YangType):
    """anydata and anyxml: kept as the JSON or XML text that came."""

    __slots__ = ()

    def __init__(self) -> None:
        super().__init__("anydata")

    def native(self, value: Any) -> Any:
        return value if isinstance(value, str) else json.dumps(value, default=str, sort_keys=True)

    def json(self, value: Any) -> Any:
        try:
            return json.loads(value)
        except ValueError:
            return value


def _check_length(length: int, lengths: Ranges) -> None:
    if not any(low <= length <= high for low, high in lengths):
        raise TypeMismatch(f"length {length} is outside {_spell_ranges(lengths)}")


def _spell_ranges(parts: Ranges) -> str:
    return " | ".join(
        _bound(low) if low == high else f"{_bound(low)} .. {_bound(high)}" for low, high in parts
    )


def _bound(bound: Any) -> str:
    return f"{bound.normalize():f}" if isinstance(bound, Decimal) else str(bound)


def _some(names: Mapping[str, Any]) -> str:
    shown = list(names)[:8]
    return ", ".join(shown) + (f" and {len(names) - 8} more" if len(names) > 8 else "") if shown else "(none)"
