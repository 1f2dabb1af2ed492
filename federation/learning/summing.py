"""A round of sums: models that are fitted in one exchange, from sums over each domain's rows that add up.

Owns whose sums are added (an operator's domains count as one, where operators do not trust each other), and
what the fit would be without each. What sums are, and which of them no rows can have, is the model's.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence

import numpy as np

from domain_twin.errors import ContractError
from domain_twin.learning.client import Summed
from domain_twin.learning.contribution import Absence
from domain_twin.learning.learner import Arrays
from federation.learning.replies import Absent
from federation.learning.strategies import Joined, voices

__all__ = ["Summing"]

log = logging.getLogger(__name__)


class Summing:
    """Fits a model to what domains tell. `operators`: whose each domain is, where that matters."""

    def __init__(self, model: Summed, *, robust: bool, operators: Mapping[str, str]) -> None:
        self._model = model
        self._robust = robust
        self._operators = operators if robust else {}

    def rows(self, told: Arrays) -> int:
        """How many rows sums are over. Raises Absent for what no rows can add up to."""
        try:
            return self._model.check_sums(told)
        except ContractError as error:
            log.warning("sums were refused", extra={"problem": str(error)})
            raise Absent(Absence.MALFORMED) from None

    def fitted(self, told: Mapping[str, Arrays]) -> tuple[Arrays, Joined]:
        """The model of all sums, and whose are in it."""
        members = voices(told, self._operators)
        arrays, chosen = self._model.summed(
            [_added([told[domain] for domain in domains]) for domains in members.values()],
            robust=self._robust,
        )
        named = list(members.values())
        used = sorted(domain for place in chosen for domain in named[place])
        notes: tuple[str, ...] = ()
        if self._robust and len(members) < 3:
            notes = (f"sums of {len(members)} are added as they are: none is left out below 3",)
        return arrays, Joined({}, "Sums", tuple(used), (), math.inf, notes)

    def without(self, told: Mapping[str, Arrays]) -> dict[str, Arrays]:
        """By domain, the model of all others' sums."""
        if len(told) < 3:
            return {}
        return {
            domain: self.fitted({name: one for name, one in told.items() if name != domain})[0]
            for domain in told
        }


def _added(told: Sequence[Arrays]) -> Arrays:
    return {name: np.asarray(sum(one[name] for one in told)) for name in told[0]}
