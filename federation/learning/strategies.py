"""How contributions are joined, by profile: Flower's own strategies behind checks that they lack.

Owns which strategy joins how many contributions, the clipping by the median norm, and the caps on what a
contribution weighs. Between operators, an operator with several domains has one voice. Flower's strategies
get updates (what training changed, float64) and not whole models:
MultiKrum's distances between float32 models drown in rounding. `private` joins sums, elsewhere.

Guarantees: Krum chooses well among n contributions of which f are bad where n >= 2 f + 3 (Blanchard et al.
2017); the median holds while f < n / 2 (Yin et al. 2018). FedAvg holds against none.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from domain_twin.errors import ConfigError
from domain_twin.learning import contribution
from domain_twin.learning.flower import (
    FedAvg,
    FedMedian,
    FedProx,
    Message,
    MetricRecord,
    MultiKrum,
    RecordDict,
    arrays_in,
    record_of,
)
from domain_twin.learning.learner import Arrays
from domain_twin.learning.task import Profile, Task

__all__ = ["Aggregation", "Joined", "Joining", "Update", "joining", "voices"]

_WEIGHT_CAP: Final = 2.0
"""A contribution weighs at most so many times the median: how many samples it has, nobody can check."""
_ALL: Final = "all"
"""The one array that all of a contribution's are joined as."""


class Aggregation(StrEnum):
    """The ways to join contributions; what a profile chooses may be overridden, except by less than it is."""

    ROBUST = "robust"
    """MultiKrum where n >= 2 f + 3, else FedMedian."""
    MEDIAN = "median"
    MULTIKRUM = "multikrum"
    AVERAGE = "average"
    PROX = "prox"


@dataclass(frozen=True, slots=True, eq=False)
class Update:
    """One domain's checked contribution: what its training changed, float64."""

    changes: Arrays
    samples: int
    norm: float


@dataclass(frozen=True, slots=True, eq=False)
class Joined:
    """What became of a round's contributions."""

    changes: Arrays
    strategy: str
    used: tuple[str, ...]
    """Domains whose contributions are in it."""
    clipped: tuple[str, ...]
    limit: float
    """The norm that contributions were clipped to; infinite: none were."""
    notes: tuple[str, ...] = ()


class Joining:
    """Joins the contributions of one round after the other."""

    def __init__(
        self,
        aggregation: Aggregation,
        *,
        robust: bool,
        malicious: int | None,
        mu: float = 0.0,
        operators: Mapping[str, str] | None = None,
    ) -> None:
        """`operators`: whose each domain is; one that is not named is an operator's of its own."""
        self._aggregation = aggregation
        self._operators = operators or {}
        self._robust = robust
        self._malicious = malicious
        self._mu = mu
        self.limit = math.inf
        """The norm that domains are told to keep to in the next round."""

    def join(self, updates: Mapping[str, Update], *, remember: bool = True) -> Joined:
        """The joined change. Raises ValueError without any update."""
        if not updates:
            raise ValueError("nothing to join")
        members = voices(updates, self._operators) if self._robust else {name: (name,) for name in updates}
        updates = {
            voice: updates[domains[0]] if len(domains) == 1 else _together([updates[one] for one in domains])
            for voice, domains in members.items()
        }
        limit = math.inf
        if self._robust:
            limit = statistics.median(one.norm for one in updates.values())
            if remember:
                self.limit = limit
        clipped = [voice for voice, one in updates.items() if one.norm > limit * (1 + 1e-6)]
        replies, order = self._replies(updates, limit)
        strategy, notes = self._strategy(len(replies))
        used: list[int] = []

        def chosen(contents: list[RecordDict], _: str) -> MetricRecord:
            used.extend(int(next(iter(one.metric_records.values()))["place"]) for one in contents)  # type: ignore[arg-type]
            return MetricRecord()

        strategy.train_metrics_aggr_fn = chosen
        record, _ = strategy.aggregate_train(1, replies)
        if record is None:
            raise ValueError("nothing came of joining")
        joined = arrays_in(record)[_ALL]
        return Joined(
            changes=_cut(joined, next(iter(updates.values())).changes),
            strategy=type(strategy).__name__,
            used=tuple(sorted(domain for place in used for domain in members[order[place]])),
            clipped=tuple(sorted(domain for voice in clipped for domain in members[voice])),
            limit=limit,
            notes=notes,
        )

    def _replies(self, updates: Mapping[str, Update], limit: float) -> tuple[list[Message], list[str]]:
        """The updates as Flower's strategies take them, in an order that no arrival decides."""
        order = sorted(updates)
        cap = math.inf
        if self._robust:
            cap = _WEIGHT_CAP * statistics.median(one.samples for one in updates.values())
        replies = []
        for place, domain in enumerate(order):
            one = updates[domain]
            changes = contribution.clipped(one.changes, limit) if math.isfinite(limit) else one.changes
            # As one vector: Flower takes arrays one by one, and parses each one's header anew.
            vector = np.concatenate([changes[name].ravel() for name in sorted(changes)])
            metrics = MetricRecord({"num-examples": max(1.0, min(one.samples, cap)), "place": place})
            content = RecordDict({"arrays": record_of({_ALL: vector}), "metrics": metrics})
            replies.append(Message(content, dst_node_id=1, message_type="train"))
        return replies, order

    def _strategy(self, n: int) -> tuple[FedAvg, tuple[str, ...]]:
        """Flower's strategy for `n` contributions, and what a reader must know of it."""
        settings: dict[str, Any] = {"min_train_nodes": 1, "min_evaluate_nodes": 1, "min_available_nodes": 1}
        if self._aggregation is Aggregation.AVERAGE:
            return FedAvg(**settings), ()
        if self._aggregation is Aggregation.PROX:
            return FedProx(proximal_mu=self._mu, **settings), ()
        f = max(1, n // 4) if self._malicious is None else self._malicious
        proven = n >= 2 * f + 3
        if self._aggregation is Aggregation.MEDIAN or (
            self._aggregation is Aggregation.ROBUST and not proven
        ):
            return FedMedian(**settings), _of_median(n, f)
        notes = (
            ()
            if proven
            else (f"MultiKrum with {n} contributions is outside its guarantee (n >= 2 f + 3, f = {f})",)
        )
        chosen = min(n, max(2, n - f - 1))  # one alone would be that domain's model, and no joined one
        return MultiKrum(num_malicious_nodes=f, num_nodes_to_select=chosen, **settings), notes


def voices(domains: Iterable[str], operators: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    """Who speaks: operators, each with its domains. Where all are one operator's, each speaks for itself."""
    found: dict[str, tuple[str, ...]] = {}
    for domain in sorted(domains):
        voice = f"operator {operators[domain]}" if domain in operators else domain
        found[voice] = (*found.get(voice, ()), domain)
    return found if len(found) > 1 else {domain: (domain,) for domain in sorted(domains)}


def _cut(vector: NDArray[Any], like: Arrays) -> Arrays:
    """The arrays of names and shapes of `like` that `vector` holds in the order of their names."""
    names = sorted(like)
    ends = np.cumsum([like[name].size for name in names])
    parts = np.split(vector, ends[:-1])
    return {name: part.reshape(like[name].shape) for name, part in zip(names, parts, strict=True)}


def _together(updates: Sequence[Update]) -> Update:
    """What the domains of one operator changed, on average; no longer than the median of them."""
    limit = statistics.median(one.norm for one in updates)
    short = [contribution.clipped(one.changes, limit) for one in updates]
    changes = {name: np.mean([one[name] for one in short], axis=0) for name in short[0]}
    return Update(changes, sum(one.samples for one in updates), contribution.norm(changes))


def _of_median(n: int, f: int) -> tuple[str, ...]:
    if 2 * f < n:
        return ()
    return (f"the median of {n} contributions is outside its guarantee (f < n / 2, f = {f})",)


def joining(
    task: Task,
    aggregation: Aggregation | None = None,
    *,
    malicious: int | None = None,
    operators: Mapping[str, str] | None = None,
) -> Joining:
    """How contributions to `task` are joined by its profile. Raises ConfigError where the two do not fit."""
    if task.profile is Profile.PRIVATE:
        raise ConfigError(f"model {task.model!r}: the profile private joins sums only")
    if task.profile is Profile.TRUSTED:
        mu = float(task.settings.get("proximal_mu", 0.0))
        chosen = aggregation or (Aggregation.PROX if mu > 0 else Aggregation.AVERAGE)
        return Joining(chosen, robust=False, malicious=malicious, mu=mu)
    if aggregation in {Aggregation.AVERAGE, Aggregation.PROX}:
        raise ConfigError(
            f"model {task.model!r}: {aggregation} holds against no bad contribution; between operators"
            " `robust`, `median` or `multikrum`; the profile `trusted` where all domains are one operator's"
        )
    chosen = aggregation or Aggregation.ROBUST
    return Joining(chosen, robust=True, malicious=malicious, operators=operators)
