"""One training from its first to its last message, by the profile of its task. Blocks: a thread runs it.

Owns which of the trainers a profile has, and that what they report is the same to a log and a card. Imports
Flower when it is called, and not before.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from domain_twin.learning.task import Profile, Task
from federation.learning.registry import Made

if TYPE_CHECKING:
    from federation.learning.grid import Carrier

__all__ = ["Conducted", "conduct"]

OnRound = Callable[[Mapping[str, Any]], None]


@dataclass(frozen=True, slots=True)
class Conducted:
    """What came of a training. `made` None: no round was accepted; `problem` says why it ended early."""

    made: Made | None
    problem: str = ""
    brought: Mapping[str, float] | None = None


def conduct(
    task: Task,
    carrier: Carrier,
    run: str,
    *,
    round_s: float,
    explain: bool,
    operators: Mapping[str, str],
    stop: threading.Event,
    on_round: OnRound,
) -> Conducted:
    """Train `task` over `carrier`; `operators` says whose each domain is.

    `on_round` is called in this thread. Raises TwinError.
    """
    from federation.learning.grid import CarriedGrid
    from federation.learning.rounds import Plan, train

    if task.profile is Profile.PRIVATE:
        from federation.learning.private import train_private as train

    outcome = train(
        task,
        CarriedGrid(carrier, run, domains=carrier.domains(), stop=stop),
        plan=Plan(deadline_s=round_s, explain=explain, operators=operators),
        on_round=lambda report: on_round(report.as_record()),
        stop=stop,
    )
    made = Made(
        arrays=outcome.arrays,
        rounds=outcome.accepted,
        contributors=outcome.contributors,
        scores=outcome.scores,
        gains=outcome.gains,
        notes=(*outcome.notes, *([outcome.problem] if outcome.problem else [])),
        privacy_spent=getattr(outcome, "privacy_spent", {}),
    )
    return Conducted(made if outcome.accepted else None, outcome.problem, outcome.brought)
