"""What a domain's reply is worth: arrays, measures, or the word that says why there are none.

Owns the checks on arrival. They are those that an honest domain made before it sent; a dishonest one did not.
"""

from __future__ import annotations

import logging
import math
from collections import Counter
from collections.abc import Mapping

from domain_twin.errors import ContractError
from domain_twin.learning import contribution
from domain_twin.learning.contribution import Absence
from domain_twin.learning.flower import Message, arrays_in
from domain_twin.learning.learner import Arrays
from federation.learning.strategies import Update

__all__ = ["Absent", "alike", "arrays_of", "contributed", "judged"]

_MOST_SAMPLES = 1e12

log = logging.getLogger(__name__)


class Absent(Exception):
    """A reply does not count; `word` says why."""

    def __init__(self, word: Absence) -> None:
        super().__init__(word)
        self.word = word


def contributed(reply: Message, base: Arrays) -> tuple[Update, float | None]:
    """What a domain's training changed of `base`, and its training loss if it says so. Raises Absent."""
    measures = _measures(reply)
    arrays = arrays_of(reply, base)
    samples = measures.get("num-examples", 0.0)
    if samples < 1:
        raise Absent(Absence.MALFORMED)
    changes = contribution.update(arrays, base)
    update = Update(changes, int(min(samples, _MOST_SAMPLES)), contribution.norm(changes))
    return update, measures.get("loss")


def arrays_of(reply: Message, like: Arrays | None) -> Arrays:
    """The arrays of `reply`, finite, of the names and shapes of `like` where that is given. Raises Absent."""
    if reply.has_error():
        raise Absent(_word(reply))
    try:
        (record,) = reply.content.array_records.values()
        arrays = arrays_in(record)
        contribution.check(arrays, arrays if like is None else like)
    except (ValueError, ContractError) as error:
        log.warning("a contribution was refused", extra={"problem": str(error)})
        raise Absent(Absence.MALFORMED) from None
    return arrays


def alike(said: Mapping[str, Arrays]) -> dict[str, Arrays]:
    """Of what domains said, what has the form that most have: one that came first must not decide it."""

    def form(arrays: Arrays) -> frozenset[tuple[str, tuple[int, ...], str]]:
        return frozenset((name, array.shape, array.dtype.name) for name, array in arrays.items())

    forms = Counter(form(said[domain]) for domain in sorted(said))
    usual = forms.most_common(1)[0][0] if forms else None
    return {domain: said[domain] for domain in sorted(said) if form(said[domain]) == usual}


def judged(reply: Message) -> dict[str, float]:
    """What a domain says of a model, `loss` among it. Raises Absent."""
    measures = _measures(reply)
    if "loss" not in measures:
        raise Absent(Absence.MALFORMED)
    return measures


def _measures(reply: Message) -> dict[str, float]:
    if reply.has_error():
        raise Absent(_word(reply))
    if len(reply.content.metric_records) != 1:
        raise Absent(Absence.MALFORMED)
    (record,) = reply.content.metric_records.values()
    said = contribution.measures({key: value for key, value in record.items() if key != "num-examples"})
    samples = record.get("num-examples")
    if isinstance(samples, int | float) and math.isfinite(samples):
        said["num-examples"] = float(samples)
    return said


def _word(reply: Message) -> Absence:
    try:
        return Absence(reply.error.reason or "")
    except ValueError:  # a word that only another version knows, or Flower's own text
        return Absence.FAILED
