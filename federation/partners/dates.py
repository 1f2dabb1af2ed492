"""Times as TM Forum's documents have them: RFC 3339 in UTC. Pure."""

from __future__ import annotations

from datetime import UTC, datetime

from domain_twin.model import Nanoseconds

__all__ = ["moment", "stamp"]


def stamp(at: Nanoseconds) -> str:
    """A time to the millisecond, such as 2026-11-21T14:00:00.000Z."""
    text = datetime.fromtimestamp(at / 1e9, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def moment(text: object) -> Nanoseconds:
    """The time that a date-time names. Raises ValueError, also where it has no offset."""
    if not isinstance(text, str):
        raise ValueError("is no date-time")
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError("has no offset from UTC")
    return round(at.timestamp() * 1000) * 1_000_000
