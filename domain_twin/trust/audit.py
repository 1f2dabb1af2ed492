"""The audit's records and their chain: what a line looks like, how lines hold together. Pure, no files.

A record is one line of canonical JSON (after RFC 8785: sorted keys, no spaces, UTF-8; no floats are used, and
times are text, so that no reader rounds them). `prev` is the SHA-256 of the record before, `sha256` that of
the record itself without that field. So no line can be changed, left out, moved or put in between without
all that follow being made anew; a signed head says up to where that would show.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, TypeAlias

from domain_twin.errors import ContractError

__all__ = [
    "GENESIS",
    "HEAD_KIND",
    "Head",
    "Record",
    "canonical",
    "decode",
    "encode",
    "instant",
    "nanoseconds",
]

GENESIS = "0" * 64
"""`prev` of a trail's first record."""
HEAD_KIND = "fedtwin-audit-head"
"""`typ` of the signature over a head: no other statement is taken for one."""
LONGEST_LINE = 1 << 20
_LONGEST_TEXT = 4096
_KEYS = {"at", "data", "kind", "prev", "seq", "sha256"}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Plain: TypeAlias = "str | int | bool | list[Plain] | dict[str, Plain] | None"


@dataclass(frozen=True, slots=True)
class Record:
    """One line of the audit. `at` is nanoseconds since the Unix epoch, UTC."""

    seq: int
    at: int
    kind: str
    data: dict[str, Any]
    prev: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Head:
    """How far a trail reaches: the last record's number and hash."""

    trail: str
    seq: int
    sha256: str

    def statement(self) -> bytes:
        """The bytes that are signed."""
        return canonical({"seq": self.seq, "sha256": self.sha256, "trail": self.trail})


def encode(seq: int, at: int, kind: str, data: dict[str, Any], prev: str) -> tuple[Record, bytes]:
    """A record and its line, with the newline at its end."""
    body = canonical({"at": instant(at), "data": data, "kind": kind, "prev": prev, "seq": seq})
    digest = hashlib.sha256(body).hexdigest()
    # "sha256" sorts after the other keys: the line is the canonical form with it.
    line = b'%b,"sha256":"%b"}\n' % (body[:-1], digest.encode())
    return Record(seq, at, kind, data, prev, digest), line


def decode(line: bytes) -> Record:
    """The record that a line (without its newline) holds. Raises ContractError where it is not one."""
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise ContractError(f"it is not JSON ({error})") from None
    if not isinstance(fields, dict) or fields.keys() != _KEYS:
        raise ContractError(f"it has not exactly the fields {', '.join(sorted(_KEYS))}")
    try:
        at, seq = nanoseconds(fields["at"]), fields["seq"]
        if type(seq) is not int or not isinstance(fields["data"], dict):
            raise ValueError("seq is no number or data no object")
        record, again = encode(seq, at, str(fields["kind"]), fields["data"], str(fields["prev"]))
    except (ValueError, TypeError) as error:
        raise ContractError(f"a field has no form of an audit record ({error})") from None
    if record.sha256 != fields["sha256"]:
        raise ContractError("its content does not have the SHA-256 that it states: it was changed")
    if again != line + b"\n":
        raise ContractError("it is not in canonical form: it was written again by something else")
    return record


def canonical(value: Any) -> bytes:
    """Canonical JSON of what holds text, whole numbers, truth values, lists and objects. Raises TypeError."""
    return json.dumps(
        _plain(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode("utf-8", "replace")


def _plain(value: Any) -> Plain:
    kind = type(value)
    if kind is str:
        return value if len(value) <= _LONGEST_TEXT else f"{value[:_LONGEST_TEXT]}… ({len(value)} characters)"
    if kind is int or kind is bool or value is None:
        return value  # type: ignore[no-any-return]
    if kind is dict:
        return {str(key): _plain(item) for key, item in value.items()}
    if kind is list or kind is tuple:
        return [_plain(item) for item in value]
    if isinstance(value, str):  # an enumeration's word
        return str(value)
    raise TypeError(f"{kind.__name__}: an audit record holds text and whole numbers only")


def instant(at: int) -> str:
    """Nanoseconds since the Unix epoch as RFC 3339 text with nine decimals."""
    seconds, rest = divmod(at, 1_000_000_000)
    return f"{_whole(seconds)}.{rest:09d}Z"


@lru_cache(maxsize=8)
def _whole(seconds: int) -> str:
    return f"{_EPOCH + timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%S}"


def nanoseconds(text: Any) -> int:
    """The same back. Raises ValueError."""
    if not isinstance(text, str) or len(text) != 30 or text[19] != "." or text[29] != "Z":
        raise ValueError(f"{text!r} is no time such as 2026-01-31T12:00:00.000000000Z")
    whole = datetime.strptime(text[:19], "%Y-%m-%dT%H:%M:%S").replace(tzinfo=UTC)
    return int((whole - _EPOCH).total_seconds()) * 1_000_000_000 + int(text[20:29])
