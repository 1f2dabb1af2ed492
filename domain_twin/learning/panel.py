"""What a domain learns from: series of elements' KPIs on one grid of time. Owns no history and no scaling."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from domain_twin.errors import ContractError
from domain_twin.model import Nanoseconds

__all__ = ["Panel"]


@dataclass(frozen=True, slots=True, weakref_slot=True, eq=False)
class Panel:
    """Series of one kind of element, all on the same grid; nothing of it ever leaves the domain.

    `values` is [E, T, F] float64 in the features' units: elements, steps, features of the task in its order;
    NaN where nothing was known. Row t stands for [start + t * step_s, start + (t + 1) * step_s).
    `holdout_from` is the first step that is judged on and not trained on. `known` are figures of the domain
    itself that a model may need, such as what calibration found packets to look like.
    """

    elements: tuple[str, ...]
    features: tuple[str, ...]
    values: NDArray[np.float64]
    start: Nanoseconds
    step_s: float
    holdout_from: int
    known: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises ContractError where shapes do not fit."""
        wanted = (len(self.elements), len(self.features))
        if self.values.ndim != 3 or (self.values.shape[0], self.values.shape[2]) != wanted:
            raise ContractError(
                f"a panel of {wanted[0]} elements and {wanted[1]} features has values of shape"
                f" [{wanted[0]}, T, {wanted[1]}], not {list(self.values.shape)}"
            )
        if not 0 <= self.holdout_from <= self.values.shape[1]:
            raise ContractError(
                f"holdout_from is {self.holdout_from}, the panel has {self.values.shape[1]} steps"
            )

    @property
    def steps(self) -> int:
        """T."""
        return int(self.values.shape[1])

    def training(self) -> NDArray[np.float64]:
        """[E, holdout_from, F]: what may be trained on."""
        return self.values[:, : self.holdout_from]
