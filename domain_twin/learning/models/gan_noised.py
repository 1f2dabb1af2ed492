"""The generator of the profile `private`: what domains tell bears noise, and nothing is trained.

Owns which of a domain's figures leave it, as numbers within -1 and 1 that can be summed, and the model that
their mean makes: marginals and the mixing of noise of one regime (`gan_private`), and no nets. What is told
once costs epsilon once: there is one round, and nothing is judged for others, since a loss bears no noise.
Needs no jax; counting epsilon needs the extra `ai`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

import numpy as np

from domain_twin.errors import ConfigError, ContractError
from domain_twin.learning.learner import Arrays, Trained
from domain_twin.learning.ledger import Plan, Spent, epsilon_of, noise_for
from domain_twin.learning.marginals import Marginals, packed
from domain_twin.learning.models.gan_private import RELEASES, enough, statistics
from domain_twin.learning.panel import Panel
from domain_twin.learning.synthetic import sizes
from domain_twin.learning.task import Privacy, Task

__all__ = ["PLAN", "NoisedGenerator", "make"]

PLAN: Final = Plan(records=1, batch=1, steps=RELEASES)
"""How the ledger counts it: every record is in every sum."""
_MIXED: Final = 2.0
"""Weights of noise and of the time of day beyond are cut."""
_KNOWN: Final = ("clock", "regimes", "scales")


def make(task: Task) -> NoisedGenerator:
    """The generator of `task`. Settings: scales, and clock: `day` or `none`.

    Raises ConfigError for others, for more than one regime or round, and where the noise does not do for the
    task's own budget; ContractError for scales and clocks that cannot be.
    """
    name = f"model {task.model!r}: a gan under `private`"
    if unknown := sorted(set(task.settings) - set(_KNOWN)):
        raise ConfigError(
            f"{name} tells statistics and has no nets: it does not know the setting {unknown[0]!r}, only"
            f" {', '.join(_KNOWN)}; leave it out, or train under mistrustful"
        )
    if task.settings.get("regimes", 1) != 1:
        raise ConfigError(
            f"{name} has one regime, not {task.settings['regimes']}: leave it out, or train under mistrustful"
        )
    if task.rounds != 1:
        raise ConfigError(
            f"{name} has one round, not {task.rounds}: statistics that are told again cost their epsilon"
            " again, and say no more; set rounds to 1"
        )
    sizes(task)
    made = NoisedGenerator(task)
    privacy = task.privacy or Privacy()
    if made.epsilon > privacy.epsilon:
        least = noise_for(PLAN, 1, epsilon=privacy.epsilon, delta=privacy.delta)
        raise ConfigError(
            f"{name} spends epsilon {made.epsilon:.2f} at noise_multiplier {privacy.noise_multiplier:g}, and"
            f" the task's budget is {privacy.epsilon:g}: set noise_multiplier to {least:.2f} or more"
        )
    return made


class NoisedGenerator:
    """See `Learner`; nothing of it is trained."""

    def __init__(self, task: Task) -> None:
        privacy = task.privacy or Privacy()
        self.task = task
        self.noise = privacy.noise_multiplier
        self.epsilon = epsilon_of([Spent("", "", 0, self.noise, PLAN.rate, PLAN.steps)], privacy.delta)
        """What telling it once costs, at the task's delta."""
        self._scales, self._clock = sizes(task)
        self._features = len(task.features)

    def nothing(self) -> Arrays:
        """The form of what a domain tells: zeros."""
        levels = packed([Marginals.none(self._features)])["marginals.levels"][0]
        mixing = np.zeros((self._scales * self._features + self._clock, self._features))
        return {"levels": levels.astype(np.float64), "mixing": mixing}

    def enough(self, panel: Panel) -> None:
        """Raise ContractError where the window is too short, whatever is known in it."""
        enough(replace(panel, holdout_from=panel.steps))

    def told(self, panel: Panel, rng: np.random.Generator) -> Arrays:
        """What leaves a domain, in the form of `nothing`, each number within -1 and 1.

        It costs `epsilon` each time: ask the ledger before. Raises ContractError: see `enough`.
        """
        whole = replace(panel, holdout_from=panel.steps)  # nothing is judged, and nothing held out for it
        marginals, mixing = statistics(whole, self._clock, self._scales, self.noise, rng)
        levels = packed([marginals])["marginals.levels"][0].astype(np.float64)
        return {"levels": np.clip(levels, -1, 1), "mixing": np.clip(mixing / _MIXED, -1, 1)}

    def of(self, told: Arrays) -> Arrays:
        """The model that the mean of what domains told makes."""
        return {
            **self.initial(np.random.default_rng(0)),
            "marginals.levels": told["levels"][None].astype(np.float32),
            "generator.direct": (told["mixing"] * _MIXED)[None].astype(np.float32),
        }

    def initial(self, rng: np.random.Generator) -> Arrays:
        """A model that knows nothing: what a generator has, with nets of one unit that say nothing."""
        wide = self._scales * self._features + self._clock
        shapes: dict[str, tuple[int, ...]] = {
            "generator.direct": (1, wide, self._features),
            "regimes.centres": (1, self._features),
            "holding": (self._features,),
            "generator.in": (wide + 1, 1),
            "generator.in_bias": (1,),
            "generator.mid": (1, 1),
            "generator.mid_bias": (1,),
            "generator.out": (1, self._features),
            "generator.out_bias": (self._features,),
        }
        return {
            **{name: np.zeros(shape, np.float32) for name, shape in shapes.items()},
            "regimes.transitions": np.ones((1, 1), np.float32),
            **packed([Marginals.none(self._features)]),
        }

    def train(self, arrays: Arrays, panel: Panel, rng: np.random.Generator) -> Trained:
        """Refused: raises ContractError."""
        raise ContractError(f"model {self.task.model!r}: nothing of a gan is trained under `private`")

    def evaluate(self, arrays: Arrays, panel: Panel) -> dict[str, float]:
        """Refused: raises ContractError."""
        raise ContractError(
            f"model {self.task.model!r}: a gan under `private` is not judged: nothing is held out"
        )
