"""A training of a generator under `private`: one sum of noised statistics, and the model of their mean.

Owns that there is one round, which is not tried again: each try would cost the domains their epsilon. What is
told, and its noise, are the domains' (`gan_noised`); how a sum comes about is `sums`'. Nothing is judged: the
domains' losses would bear no noise.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from typing import Final, cast

from domain_twin.learning import contribution
from domain_twin.learning.flower import Grid
from domain_twin.learning.learner import learner
from domain_twin.learning.models.gan_noised import NoisedGenerator
from domain_twin.learning.models.gan_private import RELEASES
from domain_twin.learning.secagg import LEAST_DOMAINS
from domain_twin.learning.task import Privacy, Task
from federation.learning.reports import DomainRound, Outcome, RoundReport
from federation.learning.rounds import OnRound, Plan
from federation.learning.sums import RoundRefused, Summed, sum_round
from federation.learning.under_way import await_domains, traffic_of

__all__ = ["STRATEGY", "train_noised"]

STRATEGY: Final = "secure aggregation, Gaussian mechanism"


def train_noised(
    task: Task,
    grid: Grid,
    *,
    plan: Plan,
    on_round: OnRound | None,
    stop: threading.Event,
    name_of: Callable[[int], str] | None = None,
) -> Outcome:
    """Have every domain of `grid` tell its statistics once, and make the model of their mean. Blocks.

    Raises RoundRefused where no sum came about, ConfigError for settings that a private generator has not.
    """
    model = cast(NoisedGenerator, learner(task))
    named = name_of if name_of is not None else cast("Callable[[int], str]", getattr(grid, "name", str))
    await_domains(grid, LEAST_DOMAINS, within_s=plan.deadline_s, stop=stop)
    if stop.is_set():
        raise RoundRefused("stopped before anything was told")
    started_at, began_s, traffic = time.time_ns(), time.monotonic(), traffic_of(grid)
    try:
        summed = sum_round(
            task,
            grid,
            model.nothing(),
            number=1,
            timeout_s=plan.deadline_s,
            whose=lambda node: plan.operators.get(named(node), named(node)),
            longest=math.inf,
        )
    except RoundRefused as error:
        raise _refused(task, error) from error
    arrays = model.of(summed.changes)
    out, in_ = traffic_of(grid)
    report = RoundReport(
        round=1,
        accepted=True,
        reason="",
        loss=None,
        change=None,
        strategy=STRATEGY,
        domains=_domains(summed, named),
        digest=contribution.fingerprint(arrays),
        started_at=started_at,
        took_s=time.monotonic() - began_s,
        bytes_out=out - traffic[0],
        bytes_in=in_ - traffic[1],
    )
    if on_round is not None:
        on_round(report)
    return Outcome(
        arrays=arrays,
        rounds=(report,),
        contributors=tuple(sorted(named(node) for node in summed.contributors)),
        scores={},
        notes=(_note(model),),
        privacy_spent={named(node): epsilon for node, epsilon in summed.epsilon.items()},
    )


def _note(model: NoisedGenerator) -> str:
    privacy = model.task.privacy or Privacy()
    return (
        f"statistics only, no nets: {RELEASES} sums of each domain, each with Gaussian noise of"
        f" {model.noise:g} times what one step of one element can change; this training cost each domain"
        f" epsilon {model.epsilon:.2f} at delta {privacy.delta:g} for one such step. Nobody judged it: losses"
        " would bear no noise"
    )


def _refused(task: Task, error: RoundRefused) -> RoundRefused:
    """`error`, with what can be done."""
    more = "those that had told theirs have spent its epsilon, and spend it again in the next training"
    if error.spent:
        more = (
            "a training with more noise costs less (privacy: noise_multiplier in a task's file), the version"
            " there is costs nothing, and a domain's own limit is its operator's ([learning] epsilon)"
        )
    found = RoundRefused(f"model {task.model!r}: {error}; {more}")
    found.spent = error.spent
    return found


def _domains(summed: Summed, named: Callable[[int], str]) -> dict[str, DomainRound]:
    told = {named(node): DomainRound("took-part") for node in summed.contributors}
    absent = {
        named(node): DomainRound(why.value)
        for node, (_, why) in summed.absent.items()
        if node not in summed.contributors
    }
    return told | absent
