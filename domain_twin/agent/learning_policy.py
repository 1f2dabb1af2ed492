"""What a domain's operator lets be trained, and on how much at least. Owns no data and no trainings."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from domain_twin.config import LearningConfig
from domain_twin.errors import NotFound, NotShared
from domain_twin.learning.task import Profile, Task

if TYPE_CHECKING:
    from domain_twin.learning.panel import Panel

__all__ = ["check_amount", "check_policy"]


def check_policy(config: LearningConfig, domain: str, task: Task) -> None:
    """Raises NotShared where the operator does not want to take part in such a training."""
    kpis = [feature.kpi for feature in task.features]
    reasons = (
        (task.kind.value not in config.kinds, f"kind {task.kind.value!r}"),
        (
            bool(config.models) and not any(fnmatchcase(task.model, name) for name in config.models),
            f"model {task.model!r}",
        ),
        (task.profile.value not in config.profiles, f"profile {task.profile.value!r}"),
        (bool(config.kpis) and not set(kpis) <= set(config.kpis), "these KPIs"),
        (task.rounds > config.max_rounds, f"more than {config.max_rounds} rounds"),
    )
    for refused, what in reasons:
        if refused:
            raise NotShared(f"{domain} does not train {what} with others")
    if task.profile is Profile.PRIVATE and task.privacy is None:
        raise NotShared(f"{domain} trains under the profile 'private' only with a budget")


def check_amount(config: LearningConfig, domain: str, made: Panel, *, judges: bool = True) -> None:
    """Raises NotFound where a contribution, or a measure, would rest on so little that it tells it.

    `judges`: whether there are measures.
    """
    import numpy as np

    parts = (
        ("train on", made.training(), config.least_values),
        ("judge on", made.values[:, made.holdout_from :], config.least_judged),
    )
    if len(made.elements) < config.least_elements:
        raise NotFound(
            f"{domain}: {len(made.elements)} elements to learn from, {config.least_elements}"
            " at least; see [learning] least_elements"
        )
    for what, values, least in parts if judges else parts[:1]:
        known = int(np.isfinite(values).sum(axis=(0, 1)).min())
        if known < least:
            raise NotFound(
                f"{domain}: {known} values of a KPI to {what}, {least} at least; ask for a longer window"
            )
