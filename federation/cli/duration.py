"""Lengths of time as people write them. Owns their syntax."""

from __future__ import annotations

import re
from datetime import UTC, datetime

import click

_UNITS = {"ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9, "d": 86_400 * 10**9}
_PATTERN = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")


def nanoseconds(text: str, option: str) -> int:
    """`90s`, `1.5h`, `10m30s` in nanoseconds. Raises BadParameter naming `option`."""
    compact = text.strip().replace(" ", "")
    parts = _PATTERN.findall(compact)
    if not parts or "".join(number + unit for number, unit in parts) != compact:
        raise click.BadParameter(
            f"{text!r} is not a length of time; write 500ms, 90s, 10m, 2h or 1d", param_hint=option
        )
    return round(sum(float(number) * _UNITS[unit] for number, unit in parts))


def moment(text: str, option: str) -> int:
    """An ISO 8601 time (UTC unless it says otherwise) in nanoseconds. Raises BadParameter naming `option`."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(
            f"{text!r} is not a time; write 2026-11-21 or 2026-11-21T14:00:00Z", param_hint=option
        ) from None
    at = at if at.tzinfo else at.replace(tzinfo=UTC)
    return int(at.timestamp()) * 10**9 + at.microsecond * 1000
