"""Times to come as people write them: `+15m`, `tomorrow 18:00`, or RFC 3339. Owns their syntax."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final

from domain_twin.model.values import Nanoseconds

__all__ = ["FORMS", "check_moment", "moment"]

FORMS: Final = "+15m, tomorrow 18:00, 18:00, or a time such as 2026-03-01T18:00:00Z (RFC 3339)"
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_LATER: Final = re.compile(r"\+((?:\d{1,7}[smhd])+)")
_PART: Final = re.compile(r"(\d+)([smhd])")
_CLOCK: Final = re.compile(r"(?:(today|tomorrow)\s+)?([01]?\d|2[0-3]):([0-5]\d)")


def check_moment(text: str) -> None:
    """Raises ValueError where `text` is no time in any of `FORMS`."""
    moment(text, 0, UTC)


def moment(text: str, now: Nanoseconds, zone: tzinfo | None = None) -> Nanoseconds:
    """The time that `text` means when it is `now`.

    `18:00` is the next one; a time of day is one in `zone`, by default this machine's. Raises ValueError.
    """
    text = text.strip()
    if later := _LATER.fullmatch(text):
        seconds = sum(int(number) * _UNITS[unit] for number, unit in _PART.findall(later[1]))
        return now + seconds * 10**9
    if clock := _CLOCK.fullmatch(text.lower()):
        day, hour, minute = clock.groups()
        here = datetime.fromtimestamp(now // 10**9, UTC).astimezone(zone)
        # Naive arithmetic, so that 18:00 is 18:00 on a day when clocks change.
        then = here.replace(tzinfo=None, hour=int(hour), minute=int(minute), second=0)
        if day == "tomorrow" or (day is None and then <= here.replace(tzinfo=None)):
            then += timedelta(days=1)
        return _nanoseconds(then.replace(tzinfo=zone) if zone else then.astimezone())
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is no time to come; write {FORMS}") from None
    if time.tzinfo is None:
        raise ValueError(f"{text!r} names no time zone; write it as {text}Z or with an offset (RFC 3339)")
    return _nanoseconds(time)


def _nanoseconds(time: datetime) -> Nanoseconds:
    return int(time.timestamp()) * 10**9 + time.microsecond * 1000
