"""Who brought what to a model, and who gained what by it.

Owns both measures. What a domain brings: how much worse the model would be for the others without it, by
replaying all rounds from the contributions that arrived, without that domain's (Song et al. 2019, "OR"); an
estimate, since the others would have trained on from another model. What a domain gains: how much less it
errs on its own holdout than with a model that it trained alone, from the same beginning and as long.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from domain_twin.learning.learner import Arrays
from federation.learning.strategies import Joining, Update

__all__ = ["Without", "brought", "gains"]


class Without:
    """The models that would have come about without each one of the domains.

    They are followed in a thread of their own, at most a round behind: no round waits for them.
    """

    def __init__(self, start: Arrays, domains: tuple[str, ...]) -> None:
        self._models = {
            domain: {name: array.astype(np.float64) for name, array in start.items()} for domain in domains
        }
        self._dtypes = {name: array.dtype for name, array in start.items()}
        self._best: dict[str, Arrays] = {}
        self._thread = ThreadPoolExecutor(1, "without")
        self._following: Future[None] | None = None

    def follow(self, updates: Mapping[str, Update], joining: Joining, *, best: bool) -> None:
        """Take an accepted round: every model follows what the others contributed. `best`: keep them so."""
        if self._following is not None:
            self._following.result()
        self._following = self._thread.submit(self._follow, dict(updates), joining, best)

    def _follow(self, updates: Mapping[str, Update], joining: Joining, best: bool) -> None:
        for domain, model in self._models.items():
            others = {name: one for name, one in updates.items() if name != domain}
            if not others:
                continue
            changes = joining.join(others, remember=False).changes
            for name, change in changes.items():
                model[name] = model[name] + change
        if best:
            self._best = {
                domain: {name: array.astype(self._dtypes[name]) for name, array in model.items()}
                for domain, model in self._models.items()
            }

    def models(self) -> dict[str, Arrays]:
        """By the domain that is left out, as they were after the last of the best rounds. Waits for them."""
        if self._following is not None:
            self._following.result()
        return self._best


def brought(losses: Mapping[str, float], without: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """By domain, the median over the others of how much more they lose without it, relative to `losses`."""
    result = {}
    for domain, theirs in without.items():
        changes = [
            (theirs[other] - losses[other]) / max(abs(losses[other]), 1e-12)
            for other in theirs
            if other != domain
            and other in losses
            and math.isfinite(theirs[other])
            and math.isfinite(losses[other])
        ]
        if changes := [change for change in changes if math.isfinite(change)]:
            result[domain] = statistics.median(changes)
    return result


def gains(losses: Mapping[str, float], alone: Mapping[str, float]) -> dict[str, float]:
    """By domain, how much less it loses than alone, relative: 0.1 is a tenth less, below 0 is more."""
    return {
        domain: (alone[domain] - losses[domain]) / max(abs(alone[domain]), 1e-12)
        for domain in sorted(losses.keys() & alone.keys())
        if math.isfinite(losses[domain]) and math.isfinite(alone[domain])
    }
