"""What the process in which models in service are used does: it fits, scores, completes and foretells.

Owns the fits of models to this domain, which are lost with the process: `None` says that one is not here.
What others delivered is run here and nowhere else, within the process's limits. Raises no alarms and changes
no state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from domain_twin.learning.detect import Watch
    from domain_twin.learning.detection import Detection, Standing
    from domain_twin.learning.gaps import Filler
    from domain_twin.learning.panel import Panel

__all__ = ["Serving"]


class Serving:
    """The operations; their names are what the agent asks. A model has one fit at most."""

    def __init__(self, max_bytes: int) -> None:
        """No model's arrays have more bytes than `max_bytes`."""
        self._max_bytes = max_bytes
        self._watches: dict[str, Watch] = {}
        self._fillers: dict[str, Filler] = {}

    def watch_fit(
        self, model: str, version: tuple[bytes, bytes], panel: Panel, per_day: float, stood: Standing
    ) -> None:
        """Fit what watches (task and arrays) to the training part of `panel`, and go on from `stood`."""
        from domain_twin.learning.detect import Watch

        task, arrays = self._read(*version)
        made = Watch.of(task, arrays, panel, false_alarms_per_day=per_day)
        self._watches[model] = made.following(stood)

    def watch(self, model: str, panel: Panel) -> tuple[list[Detection], Standing] | None:
        """What began to deviate in the newest steps, and how all stands."""
        if (held := self._watches.get(model)) is None:
            return None
        began, _ = held.observe(panel)
        return began, held.state()

    def fill_fit(self, model: str, version: tuple[bytes, bytes], panel: Panel) -> None:
        """Choose by the training part of `panel` how far a model (task and arrays) is followed."""
        from domain_twin.learning.gaps import Filler

        task, arrays = self._read(*version)
        self._fillers[model] = Filler.of(task, arrays, panel)

    def fill(self, model: str, panel: Panel) -> tuple[Any, Any] | None:
        """The last step's values [E, F] and where they are imputed."""
        if (held := self._fillers.get(model)) is None:
            return None
        made = held.fill(panel)
        return made.values[:, -1].copy(), made.imputed[:, -1].copy()

    def forget(self, model: str) -> None:
        """Let go of a model's fit."""
        self._watches.pop(model, None)
        self._fillers.pop(model, None)

    def forecast(self, task: bytes, arrays: bytes, panel: Panel) -> Any:
        """What follows the end of `panel`. Raises ContractError."""
        from domain_twin.learning.models.forecaster import forecast

        told, decoded = self._read(task, arrays)
        return forecast(decoded, told, panel)

    def hindsight(self, task: bytes, arrays: bytes, panel: Panel, only: tuple[str, ...]) -> Any:
        """What was foretold over the holdout of `panel`, and came true. Raises ContractError."""
        from domain_twin.learning.hindsight import hindsight

        told, decoded = self._read(task, arrays)
        return hindsight(decoded, told, panel, only)

    def own(self, task: bytes, arrays: bytes, panel: Panel) -> bytes:
        """A generator's arrays with the statistics of the training part of `panel`. Raises ContractError."""
        from domain_twin.learning.arrays import encode_arrays
        from domain_twin.learning.models.gan_start import own
        from domain_twin.learning.synthetic import check, sizes

        told, decoded = self._read(task, arrays)
        check(decoded, told, None)
        rng = np.random.default_rng(told.seed)
        return encode_arrays(own(decoded, panel, sizes(told)[1], rng).arrays)

    def _read(self, task: bytes, arrays: bytes) -> tuple[Any, Any]:
        from domain_twin.learning.arrays import decode_arrays
        from domain_twin.learning.task import Task

        return Task.from_json(task), decode_arrays(arrays, self._max_bytes)
