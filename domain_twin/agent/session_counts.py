"""What an agent's sessions with its broker did so far, over all of them. Owns plain counters."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class SessionCounts:
    """Counters since the process started; they only grow."""

    sessions: int = 0
    asks: Counter[tuple[str, str]] = field(default_factory=Counter)
    """By action and outcome: `ok`, `timeout`, `failed`, or the word of the refusal."""
    view_deltas: int = 0
    view_octets: int = 0

    def asked(self, action: str | None, outcome: str) -> None:
        """Count one ask by how it ended."""
        self.asks[action or "unknown", outcome] += 1

    def sent(self, octets: int) -> None:
        """Count one step of a view that was handed to the stream."""
        self.view_deltas += 1
        self.view_octets += octets
