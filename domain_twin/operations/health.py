"""Is a process ready for its work: named checks, each with what it found. Owns their form."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

__all__ = ["Check", "certificate_check", "ready"]


@dataclass(frozen=True, slots=True)
class Check:
    """One condition of readiness. `detail` says what is so, or what is missing and how to mend it."""

    name: str
    ok: bool
    detail: str


def ready(checks: Iterable[Check]) -> bool:
    """Whether every condition holds."""
    return all(check.ok for check in checks)


def certificate_check(not_after: datetime | None, margin_s: float, now: datetime | None = None) -> Check:
    """Whether a certificate lasts longer than `margin_s`; None: it could not be read."""
    if not_after is None:
        return Check("certificate", False, "cannot be read; `fedtwin doctor` on the configuration says why")
    left_s = (not_after - (now or datetime.now(UTC))).total_seconds()
    until = f"{not_after:%Y-%m-%d %H:%M} UTC"
    if left_s <= margin_s:
        word = "ended" if left_s <= 0 else "ends"
        return Check("certificate", False, f"{word} {until}; renew it, the process reads it again by itself")
    return Check("certificate", True, f"valid until {until}")
