"""Values as columns and as canonical bytes. Owns exactness: what goes in comes out, of the same type.

A value is three columns: its kind, a double (for arithmetic in SQL; exact for most numbers) and a text where
the double cannot carry the value. `state_hash` is what two equal states have in common.
"""

from __future__ import annotations

import hashlib
import json
from base64 import b64decode, b64encode
from collections.abc import Iterable
from decimal import Decimal
from enum import IntEnum

from domain_twin.model import Origin, Scalar, Value

EXACT_INTEGERS = 2**53  # integers up to here are doubles without loss


class ValueKind(IntEnum):
    """The type of a stored value. From GAP on a row is no value: GAP is a hole in what is known."""

    EMPTY = 0
    BOOLEAN = 1
    INTEGER = 2
    DECIMAL = 3
    FLOAT = 4
    TEXT = 5
    BYTES = 6
    LIST = 7
    GAP = 100
    MARK = 101  # the version that rolled-up figures led to


ORIGINS: tuple[Origin, ...] = (Origin.MEASURED, Origin.MODELLED, Origin.IMPUTED, Origin.SYNTHETIC)
ORIGIN_CODE = {origin: code for code, origin in enumerate(ORIGINS)}


def encode(value: Value) -> tuple[int, float | None, str | None]:
    """The columns (kind, number, text) of a value. `number` is NULL for what is not a number."""
    if isinstance(value, str):
        return ValueKind.TEXT, None, value
    if value is None:
        return ValueKind.EMPTY, None, None
    if isinstance(value, bool):
        return ValueKind.BOOLEAN, float(value), None
    if isinstance(value, int):
        exact = -EXACT_INTEGERS <= value <= EXACT_INTEGERS
        number = float(value) if abs(value).bit_length() < 1024 else None
        return ValueKind.INTEGER, number, None if exact else str(value)
    if isinstance(value, Decimal):
        number = float(value)
        exact = value.is_finite() and Decimal(repr(number)) == value
        return ValueKind.DECIMAL, number, None if exact else str(value)
    if isinstance(value, float):
        return ValueKind.FLOAT, value, None
    if isinstance(value, bytes):
        return ValueKind.BYTES, None, b64encode(value).decode()
    return ValueKind.LIST, None, json.dumps([[_kind(item), lexical(item)] for item in value])


def decode(kind: int, number: float | None, text: str | None) -> Value:
    """The value behind the columns that `encode` made."""
    if kind == ValueKind.TEXT:
        return text or ""
    if kind == ValueKind.DECIMAL:
        return Decimal(text) if text is not None else Decimal(repr(number))
    if kind == ValueKind.INTEGER:
        return int(text) if text is not None else int(number or 0)
    if kind == ValueKind.BOOLEAN:
        return bool(number)
    if kind == ValueKind.FLOAT:
        return number if number is not None else float("nan")
    if kind == ValueKind.LIST:
        return tuple(_scalar(item_kind, item) for item_kind, item in json.loads(text or "[]"))
    if kind == ValueKind.BYTES:
        return b64decode(text or "")
    return None


def lexical(value: Scalar) -> str:
    """The canonical text of a scalar: equal values of one type have equal texts."""
    if isinstance(value, Decimal):
        text = format(value, "f")
        text = text.rstrip("0").rstrip(".") if "." in text else text
        return "0" if text == "-0" else text
    if isinstance(value, float):
        return repr(value + 0.0)  # -0.0 equals 0.0
    if isinstance(value, bytes):
        return b64encode(value).decode()
    return "" if value is None else str(value)


def same(old: Value, new: Value) -> bool:
    """Whether two values are equal and of one type (in Python 1 == True == Decimal(1))."""
    if old is new:
        return True
    if type(old) is not type(new):
        return False
    if isinstance(old, tuple) and isinstance(new, tuple):
        return len(old) == len(new) and all(same(a, b) for a, b in zip(old, new, strict=True))
    return bool(old == new) or (isinstance(old, float) and repr(old) == repr(new))  # NaN is NaN


def state_hash(leaves: Iterable[tuple[str, str, Value, Origin]]) -> str:
    """SHA-256 over the canonical bytes of (device, path, value, origin), whatever order they come in."""
    digest = hashlib.sha256()
    for device, path, value, origin in sorted(leaves, key=lambda leaf: leaf[:2]):
        items = value if isinstance(value, tuple) else (value,)
        shape = "list" if isinstance(value, tuple) else "leaf"
        fields = [device, path, origin.value, shape]
        for item in items:
            fields += (_kind(item).name, lexical(item))
        # Length before content: no two lists of fields have the same bytes.
        digest.update(
            "".join(f"{len(text)}:{text}" for text in (str(len(fields)), *fields)).encode(
                errors="surrogatepass"
            )
        )
    return digest.hexdigest()


def _kind(value: Scalar) -> ValueKind:
    return ValueKind(encode(value)[0])


def _scalar(kind: int, text: str) -> Scalar:
    if kind == ValueKind.TEXT:
        return text
    if kind == ValueKind.EMPTY:
        return None
    if kind == ValueKind.BOOLEAN:
        return text == "True"
    if kind == ValueKind.INTEGER:
        return int(text)
    if kind == ValueKind.DECIMAL:
        return Decimal(text)
    if kind == ValueKind.FLOAT:
        return float(text)
    return b64decode(text)
