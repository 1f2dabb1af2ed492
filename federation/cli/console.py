"""Where the command line writes: one console, one palette, JSON documents. Owns colours and formats."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from enum import Enum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

MAX_WIDTH = 100
_TIMES = frozenset(
    {
        "at",
        "created_at",
        "raised_at",
        "changed_at",
        "cleared_at",
        "received_at",
        "observed_at",
        "since",
        "answered_at",
        "connected_at",
        "last_heard",
        "start",
        "end",
    }
)
DOMAIN_COLOURS = ("cyan", "yellow", "magenta", "green", "blue", "bright_red")
KNOWN_DOMAINS = {"ran": "cyan", "transport": "yellow", "core": "magenta", "edge": "green"}


@cache
def out() -> Console:
    """The console on stdout, at most 100 columns wide; without a terminal, plain lines of 100 columns."""
    return _console(stderr=False)


@cache
def err() -> Console:
    """The console on stderr: progress and remarks, never results."""
    return _console(stderr=True)


def _console(*, stderr: bool) -> Console:
    from rich.console import Console

    console = Console(stderr=stderr, highlight=False, emoji=False, theme=_theme())
    console.width = min(console.width, MAX_WIDTH) if console.is_terminal else MAX_WIDTH
    return console


def _theme() -> Any:
    from rich.theme import Theme

    return Theme(
        {
            "head": "bold",
            "note": "dim",
            "good": "green",
            "bad": "red",
            "warn": "yellow",
            "number": "bold",
            "command": "bold cyan",
        }
    )


def domain_style(domain: str) -> str:
    """The colour a domain has on every screen; the four of the demo have fixed ones."""
    if domain in KNOWN_DOMAINS:
        return KNOWN_DOMAINS[domain]
    return DOMAIN_COLOURS[sum(domain.encode()) % len(DOMAIN_COLOURS)] if domain else "bright_black"


def emit(document: object) -> None:
    """Print one JSON document on stdout."""
    sys.stdout.write(json.dumps(plain(document), indent=2, ensure_ascii=False) + "\n")


def emit_line(document: object) -> None:
    """Print one JSON document on one line and flush: for streams."""
    sys.stdout.write(json.dumps(plain(document), ensure_ascii=False) + "\n")
    sys.stdout.flush()


def plain(value: object, key: str = "") -> Any:
    """`value` in JSON's types: dataclasses by field, times as ISO 8601 (0 is null), infinity as null."""
    if key in _TIMES and isinstance(value, int) and not isinstance(value, bool):
        return iso(value) if value else None
    if isinstance(value, Enum):
        return value.value
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if is_dataclass(value):
        return {field.name: plain(getattr(value, field.name), field.name) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(name): plain(item, str(name)) for name, item in value.items()}
    if isinstance(value, frozenset | set):
        return sorted(plain(item) for item in value)
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, datetime):
        return value.isoformat()
    return str(value)


def iso(at: int) -> str:
    """Nanoseconds since the epoch as ISO 8601 in UTC, to the microsecond."""
    seconds, rest = divmod(at, 1_000_000_000)
    stamp = datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest // 1000)
    return stamp.isoformat(timespec="microseconds").replace("+00:00", "Z")


def clock(at: int) -> str:
    """The local time of day, to the millisecond."""
    if not at:
        return ""
    local = datetime.fromtimestamp(at / 1e9).astimezone()
    return f"{local:%H:%M:%S}.{at // 1_000_000 % 1000:03d}"


def age(at: int, now: int | None = None) -> str:
    """How long ago, in the largest sensible unit; empty when never."""
    if not at:
        return "never"
    return span((now or time.time_ns()) - at)


def span(nanoseconds: float) -> str:
    """A length of time for people: `12 ms`, `3.4 s`, `5 min`, `2 h`, `3 d`."""
    seconds = max(0.0, nanoseconds / 1e9)
    if seconds < 0.9995:
        return f"{seconds * 1e3:.0f} ms" if seconds >= 0.00995 else f"{seconds * 1e3:.1f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.0f} h" if seconds < 86_400 else f"{seconds / 86_400:.0f} d"


def ms(value: float) -> str:
    """A delay in milliseconds, to the microsecond."""
    return "unknown" if not math.isfinite(value) else f"{value:.3f} ms"


def mbps(value: float) -> str:
    """A bandwidth in Mbit/s; infinite is shown as such."""
    return (
        "any"
        if not math.isfinite(value)
        else f"{value:,.0f} Mbit/s"
        if value >= 10
        else f"{value:.2f} Mbit/s"
    )


def ratio(value: float) -> str:
    """A loss ratio: zero is `0`, else three significant digits."""
    return "0" if value <= 0 else f"{value:.2g}"


def count(number: int, thing: str) -> str:
    """`1 link`, `2 links`, `3 switches`."""
    if number == 1:
        return f"1 {thing}"
    plural = (
        thing[:-1] + "ies" if thing.endswith("y") else thing + ("es" if thing.endswith(("s", "h")) else "s")
    )
    return f"{number} {plural}"


def short_path(path: Path) -> str:
    """`path` relative to the working folder where that is shorter."""
    try:
        relative = path.resolve().relative_to(Path.cwd())
    except ValueError:
        return str(path)
    return str(relative)
