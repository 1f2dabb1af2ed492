"""What every model is to a round of training: named arrays that begin, are trained and are judged.

Owns the protocol and where the models are found; each is imported when it is asked for, since some need the
extra `ai`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from domain_twin.errors import ConfigError
from domain_twin.learning.panel import Panel
from domain_twin.learning.task import Kind, Task

__all__ = ["Arrays", "Learner", "Trained", "learner"]

Arrays = dict[str, NDArray[Any]]
"""A model: named arrays, float32 or float64."""

_MODULES: Final[Mapping[Kind, str]] = {
    Kind.FORECASTER: "domain_twin.learning.models.forecaster",
    Kind.VAE: "domain_twin.learning.models.vae",
    Kind.GAN: "domain_twin.learning.models.gan",
    Kind.DETECTOR: "domain_twin.learning.models.detector",
    Kind.RESIDUAL: "domain_twin.learning.models.residual",
}
_NOISED: Final = "domain_twin.learning.models.gan_noised"


@dataclass(frozen=True, slots=True)
class Trained:
    """What one domain made of a model in one round."""

    arrays: Arrays
    samples: int
    """Windows that it was trained on: the weight of the contribution."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """`loss` (training), and what else the model says of itself; no data, no names of elements."""


class Learner(Protocol):
    """One kind of model. Made by `learner`; keeps nothing between calls."""

    def initial(self, rng: np.random.Generator) -> Arrays:
        """The arrays that training begins with: the same on every machine for the same state of `rng`."""

    def train(self, arrays: Arrays, panel: Panel, rng: np.random.Generator) -> Trained:
        """Train `arrays` on the training part of `panel`. Raises ContractError where that is too little."""

    def evaluate(self, arrays: Arrays, panel: Panel) -> dict[str, float]:
        """Measures on the holdout: `loss` (lower is better), then others; naive rivals' as `naive:NAME`."""


def learner(task: Task) -> Learner:
    """The model that `task` names. Raises ConfigError for unknown settings, and where `ai` is missing."""
    try:
        module = import_module(_NOISED if task.tells_noised else _MODULES[task.kind])
    except KeyError:
        raise ConfigError(f"model {task.model!r}: nothing trains a {task.kind.value} in rounds") from None
    except ModuleNotFoundError as error:
        if error.name and error.name.split(".")[0] in {"jax", "jaxlib", "optax"}:
            raise ConfigError(
                f"model {task.model!r}: a {task.kind.value} needs the extra `ai`: pip install 'fedtwin[ai]'"
            ) from None
        raise
    made: Learner = module.make(task)
    return made
