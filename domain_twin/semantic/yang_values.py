"""YANG values as RDF terms, and back. Owns datatypes; knows no paths and no graphs.

Terms are those that the store gives back: it keeps integers of all widths as xsd:integer, decimals without
trailing zeros and moments in canonical form, so nothing else is ever written, and what is compared is equal.
An integer beyond 64 signed bits is an xsd:decimal, the only type by which the store can compare it.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable
from datetime import date
from decimal import Decimal, InvalidOperation
from functools import lru_cache
from typing import Any, Final
from urllib.parse import unquote

from pyoxigraph import Literal, NamedNode

from domain_twin.semantic import names
from domain_twin.yang.codec import Form, LeafCodec
from domain_twin.yang.schema import SchemaNode
from domain_twin.yang.types import IdentityrefType, UnionType

__all__ = [
    "JSON",
    "XSD",
    "Term",
    "Unfit",
    "Writer",
    "canonical_moment",
    "datatype",
    "identity_name",
    "moment",
    "read_json",
    "read_value",
    "writer",
]

Term = NamedNode | Literal
Writer = Callable[[Any], Term]

XSD: Final = "http://www.w3.org/2001/XMLSchema#"
JSON: Final = NamedNode("http://www.w3.org/1999/02/22-rdf-syntax-ns#JSON")
_DECIMAL: Final = NamedNode(f"{XSD}decimal")
_INTEGER: Final = NamedNode(f"{XSD}integer")
_BOOLEAN: Final = NamedNode(f"{XSD}boolean")
_BINARY: Final = NamedNode(f"{XSD}base64Binary")
_MOMENT: Final = NamedNode(f"{XSD}dateTime")
_EMPTY: Final = NamedNode(f"{names.YANG}empty")
_IDENTITIES: Final = names.yang_identity("", "").partition("#")[0]

_NAMES: Final = {
    "int8": "byte",
    "int16": "short",
    "int32": "int",
    "int64": "long",
    "uint8": "unsignedByte",
    "uint16": "unsignedShort",
    "uint32": "unsignedInt",
    "uint64": "unsignedLong",
    "decimal64": "decimal",
    "boolean": "boolean",
    "empty": "boolean",
    "binary": "base64Binary",
}


class Unfit(ValueError):
    """A value is not of its leaf's type; says why, without naming the leaf."""


def datatype(form: Form, *, is_moment: bool = False) -> str:
    """The XSD type that says what values of a YANG type are, "" where they are not literals of one type."""
    if is_moment:
        return f"{XSD}dateTime"
    match form[0]:
        case "union" | "identityref":
            return ""
        case "anydata":
            return JSON.value
        case name:
            return XSD + _NAMES.get(name, "string")


def writer(form: Form, node: SchemaNode, *, is_moment: bool = False) -> Writer:
    """What makes the term of a scalar of this type. It raises Unfit, and ValueError for what is no text."""
    if is_moment:
        return moment
    if form[0] == "union":
        return _union(form, node)
    if form[0].startswith(("int", "uint")):
        return _integer
    return _WRITERS.get(form[0], _string)


# --- writing --------------------------------------------------------------------------------------


def _integer(value: Any) -> Term:
    if type(value) is not int:
        raise Unfit(f"not an integer ({type(value).__name__})")
    return Literal(value) if -(2**63) <= value < 2**63 else Literal(str(value), datatype=_DECIMAL)


def _decimal(value: Any) -> Term:
    if not isinstance(value, Decimal) or not value.is_finite():
        raise Unfit(f"not a decimal number ({type(value).__name__})")
    text = f"{value:f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return Literal("0" if text == "-0" else text, datatype=_DECIMAL)


def _boolean(value: Any) -> Term:
    if type(value) is not bool:
        raise Unfit(f"not a boolean ({type(value).__name__})")
    return Literal(value)


def _string(value: Any) -> Term:
    if type(value) is not str:
        raise Unfit(f"not a string ({type(value).__name__})")
    return Literal(value)


def _binary(value: Any) -> Term:
    if type(value) is not bytes:
        raise Unfit(f"not octets ({type(value).__name__})")
    return Literal(base64.b64encode(value).decode("ascii"), datatype=_BINARY)


def _empty(value: Any) -> Term:
    if value is not None:
        raise Unfit(f"not empty ({type(value).__name__})")
    return Literal(True)


def _identity(value: Any) -> Term:
    if type(value) is not str or ":" not in value:
        raise Unfit("not module:identity")
    return _identity_node(value)


@lru_cache(maxsize=4096)
def _identity_node(value: str) -> NamedNode:
    module, _, name = value.partition(":")
    return NamedNode(names.yang_identity(module, name))


def _any(value: Any) -> Term:
    if type(value) is not str:
        raise Unfit(f"not text ({type(value).__name__})")
    try:
        json.loads(value)
    except ValueError:  # XML that came as it is
        return Literal(value)
    return Literal(value, datatype=JSON)


def moment(value: Any) -> Term:
    """The term of a date-and-time (RFC 6991), in the canonical form of xsd:dateTime."""
    text = canonical_moment(value)
    return Literal(value) if text is None else Literal(text, datatype=_MOMENT)


def canonical_moment(value: Any) -> str | None:
    """The canonical text of a date-and-time, None where xsd:dateTime knows no such moment. Raises Unfit."""
    if type(value) is not str:
        raise Unfit(f"not a string ({type(value).__name__})")
    parts = _MOMENT_TEXT.fullmatch(value)
    if parts is None:
        return None
    year, month, day, clock, fraction, zone = parts.groups()
    try:
        date(int(year), int(month), int(day))
    except ValueError:
        return None
    fraction = (fraction or "").rstrip("0").rstrip(".")
    return f"{year}-{month}-{day}T{clock}{fraction}{'Z' if zone in _UTC else zone}"


_MOMENT_TEXT = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})T((?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9])"
    r"(\.[0-9]{1,18})?(Z|[+-](?:0[0-9]|1[0-3]):[0-5][0-9])"
)
_UTC = {"+00:00", "-00:00"}


_WRITERS: dict[str, Writer] = {
    "decimal64": _decimal,
    "boolean": _boolean,
    "binary": _binary,
    "empty": _empty,
    "identityref": _identity,
    "anydata": _any,
}


def _union(form: Form, node: SchemaNode) -> Writer:
    """By the kind of the typed value; only where identities are among the members, by the member."""
    named = any(member[0] in {"identityref", "union"} for member in form[1])

    def write(value: Any) -> Term:
        if type(value) is str:
            if named and isinstance(_member(node.codec.type, value), IdentityrefType):
                return _identity(value)
            return Literal(value)
        if value is None:
            return Literal("", datatype=_EMPTY)
        found = _BY_KIND.get(type(value))
        if found is None:
            raise Unfit(f"of no member of the union ({type(value).__name__})")
        return found(value)

    return write


def _member(kind: Any, value: Any) -> Any:
    while isinstance(kind, UnionType):
        kind = kind.member(value)
    return kind


_BY_KIND: dict[type, Writer] = {int: _integer, bool: _boolean, Decimal: _decimal, bytes: _binary}


# --- reading --------------------------------------------------------------------------------------


def identity_name(iri: str) -> str | None:
    """`module:name` of an identity's IRI, None for any other."""
    if not iri.startswith(_IDENTITIES):
        return None
    module, _, name = iri[len(_IDENTITIES) :].partition("#")
    return f"{unquote(module)}:{unquote(name)}"


def read_value(term: Any, form: Form) -> Any:
    """The typed value of a scalar's term. Raises Unfit."""
    if isinstance(term, NamedNode):
        found = identity_name(term.value)
        if found is None:
            raise Unfit(f"<{term.value}> is no identity")
        return found
    if not isinstance(term, Literal):
        raise Unfit("neither a literal nor an identity")
    try:
        return _READERS.get(term.datatype.value, str)(term.value) if form[0] != "empty" else None
    except (ValueError, InvalidOperation, binascii.Error) as error:
        raise Unfit(f"{term.value[:80]!r} is no {term.datatype.value}") from error


def read_json(term: Any, form: Form, codec: LeafCodec) -> Any:
    """The RFC 7951 JSON of a scalar's term. Raises ValueError where it is not of the leaf's type."""
    value = read_value(term, form)
    if isinstance(value, Decimal) and (codec.type.name.startswith(("int", "uint")) or abs(value) >= 2**63):
        value = int(value)  # beyond 64 signed bits: no decimal64 is as large
    return codec.type.json(value if form[0] == "union" else codec.type.native(value))


_READERS: dict[str, Callable[[str], Any]] = {
    _INTEGER.value: int,
    _DECIMAL.value: Decimal,
    _BOOLEAN.value: lambda text: text in {"true", "1"},
    _BINARY.value: lambda text: base64.b64decode(text, validate=True),
    _EMPTY.value: lambda text: None,
}
