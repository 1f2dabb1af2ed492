"""What is known of a round while it is under way, and its report when it has ended. Decides nothing."""

from __future__ import annotations

import math
import statistics
import threading
import time
from collections.abc import Mapping
from typing import Final

from domain_twin.learning import contribution
from domain_twin.learning.contribution import Absence
from domain_twin.learning.flower import Grid
from domain_twin.learning.learner import Arrays
from federation.learning.gate import Verdict
from federation.learning.reports import DomainRound, RoundReport
from federation.learning.strategies import Joined, Update

__all__ = ["Round", "await_domains", "own_losses", "traffic_of"]

_POLL_S: Final = 0.1


class Round:
    """What is known of the round under way."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.started_at = time.time_ns()
        self.began = time.monotonic()
        self.traffic = (0, 0)
        """Of the Grid when it began: bytes out, bytes in."""
        self.updates: dict[str, Update] = {}
        self.train_loss: dict[str, float | None] = {}
        self.absent: dict[str, Absence] = {}
        self.joined: Joined | None = None
        self.candidate: Arrays | None = None
        self.said: dict[str, dict[str, float]] = {}
        self.reason = ""

    def told(self) -> dict[str, Arrays]:
        """The sums that domains told."""
        return {domain: update.changes for domain, update in self.updates.items()}

    def report(self, verdict: Verdict, traffic: tuple[int, int]) -> RoundReport:
        """The round as it ended; `traffic` is the Grid's, bytes out and in so far."""
        losses = own_losses(self.said).values()
        return RoundReport(
            round=self.number,
            accepted=verdict.accepted,
            reason=verdict.reason,
            loss=statistics.median(losses) if losses else None,
            change=verdict.change if math.isfinite(verdict.change) else None,
            strategy=self.joined.strategy if self.joined else "",
            domains=self._by_domain(),
            digest=contribution.fingerprint(self.candidate) if self.candidate is not None else "",
            started_at=self.started_at,
            took_s=time.monotonic() - self.began,
            bytes_out=traffic[0] - self.traffic[0],
            bytes_in=traffic[1] - self.traffic[1],
            notes=self.joined.notes if self.joined else (),
        )

    def _by_domain(self) -> dict[str, DomainRound]:
        rows, losses = {}, own_losses(self.said)
        for domain in sorted(self.updates.keys() | self.absent.keys() | self.said.keys()):
            update = self.updates.get(domain)
            rows[domain] = DomainRound(
                state=self._state(domain),
                samples=update.samples if update else 0,
                train_loss=self.train_loss.get(domain),
                loss=losses.get(domain),
                norm=update.norm if update else None,
            )
        return rows

    def _state(self, domain: str) -> str:
        if domain in self.absent:
            return self.absent[domain].value
        if domain not in self.updates:
            return "judged" if domain in self.said else Absence.UNREACHABLE.value
        if self.joined is None:
            return "took-part"
        if domain not in self.joined.used:
            return "not-chosen"
        return "clipped" if domain in self.joined.clipped else "took-part"


def own_losses(said: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """By domain, the loss of the model itself, where a domain makes up for some of it when it uses one."""
    return {domain: one.get("raw", one["loss"]) for domain, one in said.items()}


def traffic_of(grid: Grid) -> tuple[int, int]:
    """Bytes out and in so far; zeros where `grid` counts none."""
    out, in_ = getattr(grid, "traffic", (0, 0))
    return int(out), int(in_)


def await_domains(grid: Grid, least: int, *, within_s: float, stop: threading.Event) -> int:
    """How many domains are there, once they are `least` or `within_s` is over: some may be on their way."""
    deadline = time.monotonic() + within_s
    while (there := len(list(grid.get_node_ids()))) < least and time.monotonic() < deadline:
        if stop.wait(_POLL_S):
            break
    return there
