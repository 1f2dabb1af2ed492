"""The broker's models: every version with its card, which one is in service, and the log of rounds.

The log is a hash-chained, signed trail (`domain_twin.trust.audit_log`): `fedtwin audit verify` reads it. What
a file loses is found when it is read, set aside, and the last good version goes into service. For one event
loop; disk is blocked on in threads.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from domain_twin.config import AuditConfig
from domain_twin.errors import OverCapacity
from domain_twin.learning.arrays import digest_of, encode_arrays, forms_of
from domain_twin.learning.learner import Arrays
from domain_twin.learning.store import REFUSED, Kept, ModelStore
from domain_twin.learning.task import Card, Task
from domain_twin.model import Finding, Nanoseconds
from domain_twin.trust.audit_log import AuditLog
from domain_twin.trust.credentials import Identity

__all__ = ["Made", "ModelRegistry"]

_MOST_AHEAD: Final = 10_000
"""How far a domain may say that its versions are ahead of this broker's, which lost some."""


@dataclass(frozen=True, slots=True)
class Made:
    """What came of a training, as a card tells it."""

    arrays: Arrays
    rounds: int
    contributors: Sequence[str]
    scores: Mapping[str, Mapping[str, float]]
    gains: Mapping[str, float]
    notes: Sequence[str] = ()
    privacy_spent: Mapping[str, float] | None = None


class ModelRegistry:
    """`state/learning` of a broker: `models/` and `rounds/`."""

    def __init__(
        self,
        folder: Path,
        *,
        who: str,
        identity: Callable[[], Identity | None],
        max_bytes: int,
        kept: int,
        clock: Callable[[], Nanoseconds] = time.time_ns,
    ) -> None:
        """Take over what the folder holds; blocks. Raises ConfigError: another process writes there."""
        self.store = ModelStore(folder / "models", owner="", max_bytes=max_bytes, kept=kept)
        self.log = AuditLog(folder / "rounds", who=who, config=AuditConfig(), identity=identity, clock=clock)
        self._clock = clock
        self._writing = asyncio.Lock()

    def findings(self) -> list[Finding]:
        """What the broker's operator should see."""
        return self.store.findings()

    def record(self, kind: str, **data: Any) -> None:
        """Enter one thing into the log; numbers that are not whole are written as text."""
        self.log.note(kind, **{key: _plain(value) for key, value in data.items()})

    async def add(self, task: Task, run: str, made: Made, *, above: int = 0) -> tuple[Card, bytes]:
        """Keep a new version, not in service; its card and its arrays as they are kept.

        Its number is above all that were ever used here, and (by so much as may be believed) above `above`.
        Raises OverCapacity where it cannot be written, ContractError.
        """
        async with self._writing:
            data = await asyncio.to_thread(encode_arrays, made.arrays)
            highest = await asyncio.to_thread(self.store.highest, task.model)
            version = max(highest, min(above, highest + _MOST_AHEAD)) + 1
            spent = made.privacy_spent or {}
            unsaid = sorted(domain for domain, said in spent.items() if not math.isfinite(said))
            card = Card(
                model=task.model,
                version=version,
                task=task,
                arrays=forms_of(made.arrays),
                created_at=self._clock(),
                run=run,
                rounds=made.rounds,
                contributors=tuple(made.contributors),
                scores=_finite(made.scores),
                gains={domain: gain for domain, gain in made.gains.items() if math.isfinite(gain)},
                privacy_spent={domain: said for domain, said in spent.items() if math.isfinite(said)},
                digest=digest_of(data),
                notes=(*made.notes, *(f"{domain} does not say what it spent" for domain in unsaid)),
            )
            await self._written(self.store.put, card, data)
        self.record(
            "version",
            model=card.model,
            version=card.version,
            run=run,
            contributors=list(card.contributors),
            arrays_sha256=card.digest,
            scores=card.scores,
            **_privacy(card),
        )
        return card, data

    async def serve(self, model: str, version: int, reason: str, *, by: str) -> Kept:
        """Put a version into service. Raises NotFound, OverCapacity."""
        async with self._writing:
            await self._written(self.store.serve, model, version, reason)
        self.record("in-service", model=model, version=version, reason=reason, by=by)
        return self.store.get(model, version)

    async def refuse(self, model: str, version: int, reason: str) -> Kept:
        """Note why a version is not put into service. Raises NotFound, OverCapacity."""
        async with self._writing:
            await self._written(self.store.note, model, version, REFUSED + reason)
        self.record("refused", model=model, version=version, reason=reason)
        return self.store.get(model, version)

    async def data(self, model: str, version: int = 0) -> tuple[Card, bytes]:
        """A version's card and arrays; 0: the one in service, or the last good one. Raises NotFound."""
        return await asyncio.to_thread(self.store.whole, model, version)

    def close(self) -> None:
        """Sign the log's end."""
        self.log.close("the broker ended")

    @staticmethod
    async def _written(write: Callable[..., None], *content: Any) -> None:
        try:
            await asyncio.to_thread(write, *content)
        except OSError as error:
            raise OverCapacity(f"the broker cannot keep the model now ({error.strerror})") from error


def _privacy(card: Card) -> dict[str, Any]:
    """Of a version under `private`: what each domain says it has spent, and how it is protected."""
    if card.task.privacy is None or not card.privacy_spent:
        return {}
    return {
        "epsilon": card.privacy_spent,
        "delta": card.task.privacy.delta,
        "noise_multiplier": card.task.privacy.noise_multiplier,
        "notes": list(card.notes),
    }


def _finite(scores: Mapping[str, Mapping[str, float]]) -> dict[str, dict[str, float]]:
    return {
        row: {name: float(value) for name, value in cells.items() if math.isfinite(value)}
        for row, cells in scores.items()
    }


def _plain(value: Any) -> Any:
    """For the log, which holds text and whole numbers only."""
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
