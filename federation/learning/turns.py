"""How many trainings are taken in, and whose turn is next: one operator holds up no other.

Owns both rules. Holds no training.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from domain_twin.config import BrokerLearningConfig
from domain_twin.errors import CredentialError, OverCapacity
from domain_twin.learning.run import Run, RunState
from domain_twin.trust.identity import SpiffeId

__all__ = ["check_share", "next_of"]


def check_share(config: BrokerLearningConfig, unended: Sequence[Run], owner: str) -> None:
    """Pass when `owner` may have one more beside those `unended`. Raises OverCapacity: it names the limit."""
    operator = _operator(owner)
    theirs = sum(_operator(run.owner) == operator for run in unended)
    if theirs >= config.each_operator:
        raise OverCapacity(
            f"{theirs} trainings of {operator} run or wait, as many as this broker takes of one operator"
            " ([learning] each_operator); wait for one of them, or stop it"
        )
    if len(unended) >= config.runs + config.waiting:
        raise OverCapacity(
            f"{len(unended)} trainings run or wait, as many as this broker takes ([learning] runs and"
            " waiting); try again later"
        )


def next_of(waiting: Sequence[Run], unended: Sequence[Run]) -> Run:
    """Of those `waiting`, oldest first, the oldest of the operator with the fewest under way."""
    busy = Counter(_operator(run.owner) for run in unended if run.state is RunState.RUNNING)
    return min(waiting, key=lambda run: busy[_operator(run.owner)])


def _operator(owner: str) -> str:
    """Whose user `owner` is; itself where it is no identity of this federation's."""
    try:
        return SpiffeId.parse(owner).operator
    except CredentialError:
        return owner
