"""Desk of serviceTestSpecification (TMF653): which scenario is run, what is measured, where thresholds lie.

Owns its life: draft, active, retired. What a run rests on (scenario, measures, thresholds) can be edited in a
draft only, so that results stay comparable; notes for people can be edited always.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from domain_twin.errors import Conflict, ContractError
from domain_twin.model import Nanoseconds
from federation.partners.characteristics import read_ask, specified_values
from federation.partners.measures import time_text
from federation.partners.record import Body, Kind, Record, Repository
from federation.partners.thresholds import definitions

__all__ = ["ACTIVE", "OPEN_STATES", "TestSpecifications"]

DRAFT, ACTIVE, RETIRED = "draft", "active", "retired"
OPEN_STATES = ("acknowledged", "inProgress")
"""States of tests that are not over."""
_MOVES = {DRAFT: (DRAFT, ACTIVE, RETIRED), ACTIVE: (ACTIVE, RETIRED), RETIRED: (RETIRED,)}
_FIXED = ("testMeasureDefinition", "specCharacteristic", "version", "relatedServiceSpecification")


class TestSpecifications:
    """Decides for specifications of tests."""

    __test__ = False  # not for pytest

    def __init__(self, *, clock: Callable[[], Nanoseconds] = time.time_ns) -> None:
        self._clock = clock

    async def create(self, repository: Repository, body: Body) -> Body:
        """Checked, and active unless it says draft. Raises ContractError."""
        _check(body)
        state = _state(body.get("lifecycleStatus") or ACTIVE)
        if state == RETIRED:
            raise ContractError("lifecycleStatus: a specification does not begin retired; draft or active")
        return {
            "@type": "ServiceTestSpecification",
            "isBundle": False,
            **body,
            "version": str(body.get("version") or "1.0"),
            "lifecycleStatus": state,
            "lastUpdate": time_text(self._clock()),
        }

    async def change(self, repository: Repository, record: Record, body: Body) -> Body:
        """Raises ContractError, Conflict."""
        before = str(record.body.get("lifecycleStatus", ACTIVE))
        state = _state(body.get("lifecycleStatus") or before)
        if state not in _MOVES[before]:
            raise Conflict(f"lifecycleStatus: a specification that is {before} does not become {state}")
        if before != DRAFT:
            for name in _FIXED:
                if body.get(name) != record.body.get(name):
                    raise Conflict(
                        f"{name}: cannot be changed while the specification is {before}: runs rest on it;"
                        " make another specification"
                    )
        else:
            _check(body)
        return {**body, "lifecycleStatus": state, "lastUpdate": time_text(self._clock())}

    async def remove(self, repository: Repository, record: Record) -> None:
        """Raises Conflict while a run of it is open."""
        for test in repository.list(Kind.SERVICE_TEST):
            mine = (test.body.get("testSpecification") or {}).get("id") == record.id
            if mine and test.body.get("state") in OPEN_STATES:
                raise Conflict(
                    f"serviceTestSpecification {record.id!r}: the test {test.id!r} of it is"
                    f" {test.body['state']}; cancel it first, or wait"
                )

    def kept(self, repository: Repository, record: Record) -> None:
        """Nothing follows."""

    async def run(self) -> None:
        """Nothing is ever open."""


def _check(body: Body) -> None:
    definitions(body.get("testMeasureDefinition"))
    read_ask({}, specified_values(body.get("specCharacteristic")))


def _state(found: Any) -> str:
    state = str(found).lower()
    if state not in _MOVES:
        raise ContractError(f"lifecycleStatus: {str(found)[:80]!r}; there are {', '.join(_MOVES)}")
    return state
