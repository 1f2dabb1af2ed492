"""What a field on the wire may hold; anything else is a ContractError that names message and field."""

from __future__ import annotations

import math
from enum import StrEnum
from typing import Any, TypeVar

from google.protobuf.message import DecodeError, Message

from domain_twin.errors import ContractError

W = TypeVar("W", bound=StrEnum)
M = TypeVar("M", bound=Message)


def parse(kind: type[M], data: bytes) -> M:
    """The message of type `kind` that `data` holds. Raises ContractError where it holds none."""
    message: M = kind()
    try:
        message.ParseFromString(data)
    except DecodeError as error:
        name = kind.DESCRIPTOR.name
        raise ContractError(f"{name}: {len(data)} bytes are not a {name} message: {error}") from error
    return message


def where(message: Message, field: str) -> str:
    """The name of a field, as errors give it: `Message.field`."""
    return f"{message.DESCRIPTOR.name}.{field}"


def number(message: Any, field: str) -> float:
    """A number of any sign. Raises ContractError for NaN."""
    value: float = getattr(message, field)
    if math.isnan(value):
        raise ContractError(f"{where(message, field)}: not a number; leave out what is not known")
    return value


def at_least_zero(message: Any, field: str) -> float:
    """A number of 0 or more. Raises ContractError."""
    value: float = getattr(message, field)
    if not value >= 0.0:  # also NaN
        raise ContractError(f"{where(message, field)}: {value} found, 0 or more is accepted")
    return value


def ratio(message: Any, field: str) -> float:
    """A number of 0 to 1. Raises ContractError."""
    value: float = getattr(message, field)
    if not 0.0 <= value <= 1.0:
        raise ContractError(f"{where(message, field)}: {value} found, 0 to 1 is accepted")
    return value


def optional(message: Any, field: str) -> float | None:
    """A bound of 0 or more, None where the field is left out. Raises ContractError."""
    return at_least_zero(message, field) if message.HasField(field) else None


def named(message: Any, field: str) -> str:
    """A text that is not empty. Raises ContractError."""
    value: str = getattr(message, field)
    if not value:
        raise ContractError(f"{where(message, field)}: empty, a name is needed")
    return value


def part(message: Any, field: str) -> Any:
    """A message within the message. Raises ContractError where it is missing."""
    if not message.HasField(field):
        raise ContractError(f"{where(message, field)}: missing")
    return getattr(message, field)


def word(message: Any, field: str, words: type[W]) -> W:
    """A word that this version knows. Raises ContractError with the accepted ones."""
    value: str = getattr(message, field)
    try:
        return words(value)
    except ValueError:
        accepted = ", ".join(words)
        raise ContractError(
            f"{where(message, field)}: {value!r} is not known here; accepted are {accepted}"
        ) from None
