"""Desk of serviceTest (TMF653): a scenario run on a partner's own twin, as a job of the broker.

Owns what a test may be and when it may change: acknowledged, inProgress, then completed, failed or cancelled
for good. Everything that needs no domain is checked before a test is taken in; carrying it out is the
`Runner`'s. Results never change; only name, description and the like stay the partner's to edit.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any
from uuid import uuid4

from domain_twin.errors import ConfigError, Conflict, ContractError, NotFound, NotShared, Unreachable
from domain_twin.model import Nanoseconds
from domain_twin.model.job import Capability, Job, JobState
from federation.jobs import TWIN_LABEL
from federation.partners.admission import TEST_LABEL, Admission
from federation.partners.characteristics import RunAsk, asked_values, read_ask, specified_values
from federation.partners.measures import time_text
from federation.partners.record import Body, Kind, Record, Repository, partner_identity
from federation.partners.runner import Runner
from federation.partners.specifications import ACTIVE, OPEN_STATES
from federation.partners.thresholds import definitions

__all__ = ["Runs"]

CANCELLED = "cancelled"
_MODES = ("ONDEMAND", "PROACTIVE")
_NOTES = ("name", "description", "relatedParty", "validFor", "@baseType", "@schemaLocation")
"""What a partner may edit at any time."""
_MOST_MEASURES = 2000


class Runs:
    """Decides for tests."""

    def __init__(
        self,
        operator: str,
        runner: Runner,
        admission: Admission,
        check: Callable[[Job], None],
        *,
        clock: Callable[[], Nanoseconds] = time.time_ns,
    ) -> None:
        """`check` refuses a question before it becomes a job, by raising a TwinError."""
        self._operator = operator
        self._runner = runner
        self._admission = admission
        self._check = check
        self._clock = clock

    async def create(self, repository: Repository, body: Body) -> Body:
        """Raises ContractError, Conflict, OverCapacity."""
        mode = str(body.get("mode") or _MODES[0]).upper()
        if mode not in _MODES:
            raise ContractError(f"mode: {str(body['mode'])[:80]!r}; there are {' and '.join(_MODES)}")
        if not body.get("name"):
            raise ContractError("name: a test needs one")
        twin = _twin(repository, body)
        specification = _specification(repository, body)
        ask = read_ask(
            asked_values(body.get("characteristic")),
            specified_values(specification.body.get("specCharacteristic")),
        )
        _check_measures(specification, ask)
        if self._admission.sandbox(repository.tenant, twin.id) is None:
            raise Unreachable(
                f"the twin {twin.id} is put together anew since the broker began; ask again in a moment"
            )
        identity = str(uuid4())
        self._check_ask(repository.tenant, twin, identity, ask)
        self._admission.taken_in(repository.tenant, identity)
        now = self._clock()
        return {
            "@type": "ServiceTest",
            **{key: value for key, value in body.items() if key not in ("startDateTime", "endDateTime")},
            "id": identity,
            "mode": mode,
            "state": OPEN_STATES[0],
            "relatedService": {
                **body["relatedService"], "id": twin.id, "name": twin.body.get("name") or twin.id,
            },
            "testSpecification": {
                **body["testSpecification"],
                "id": specification.id,
                "version": specification.body.get("version", ""),
            },
            "startDateTime": time_text(now),
            "characteristic": ask.characteristics(),
            "testMeasure": [],
        }  # fmt: skip

    async def change(self, repository: Repository, record: Record, body: Body) -> Body:
        """Raises ContractError, Conflict."""
        before, state = record.body["state"], body.get("state")
        for name in {**record.body, **body}:
            if name in ("state", *_NOTES) or record.body.get(name) == body.get(name):
                continue
            if before not in OPEN_STATES:
                raise Conflict(f"{name}: the test is {before}, and its results do not change")
            raise ContractError(f"{name}: cannot be changed; cancel this test and ask another one")
        if state == before:
            return body
        if state != CANCELLED:
            raise Conflict(f"state: a test that is {before} does not become {str(state)[:80]} by request")
        if before not in OPEN_STATES:
            raise Conflict(f"state: the test is {before}, which is its end")
        return {**body, "endDateTime": time_text(self._clock())}

    async def remove(self, repository: Repository, record: Record) -> None:
        """Agree; the runner gives up what is still running once the test is gone."""
        if record.body.get("state") in OPEN_STATES:
            self._runner.look_again(repository, record)

    def kept(self, repository: Repository, record: Record) -> None:
        """Carry out what is open; give up what was cancelled."""
        if record.body.get("state") in OPEN_STATES:
            self._admission.opened(repository.tenant, record.id)
            self._runner.begin(repository, record)
        else:
            self._admission.over(repository.tenant, record.id)
            self._runner.give_up(repository, record)

    def not_kept(self, repository: Repository, body: Body) -> None:
        """Its place among the runs is free."""
        self._admission.over(repository.tenant, str(body["id"]))

    async def run(self) -> None:
        """Carry out tests until cancelled."""
        await self._runner.run()

    def _check_ask(self, tenant: str, twin: Record, identity: str, ask: RunAsk) -> None:
        """Ask the jobs whether they would take it. Raises ContractError, OverCapacity."""
        self._admission.check(tenant)
        job = Job(
            id=identity,
            capability=Capability.RISKY_ACTIONS_PREDICTION,
            scope=(),
            scenario=ask.scenario,
            requirements=ask.requirements,
            state=JobState.NOT_STARTED,
            created_at=self._clock(),
            owner=partner_identity(self._operator, tenant),
            labels={TWIN_LABEL: twin.id, TEST_LABEL: identity},
        )
        try:
            self._check(job)
        except (ConfigError, NotFound, NotShared) as error:
            raise ContractError(f"characteristic scenario: {error}") from None


def _twin(repository: Repository, body: Body) -> Record:
    """The twin that a test is about. Raises ContractError, Conflict."""
    identity = _reference(body, "relatedService")
    try:
        found = repository.get(Kind.SERVICE, identity)
    except NotFound:
        raise ContractError(
            f"relatedService.id: no twin {identity[:80]!r} of yours is here; `GET service` lists them"
        ) from None
    state = found.body.get("state")
    if state != "active":
        raise Conflict(f"relatedService.id: the twin is {state}; runs need one that is active")
    return found


def _specification(repository: Repository, body: Body) -> Record:
    """What a test carries out. Raises ContractError, Conflict."""
    identity = _reference(body, "testSpecification")
    try:
        found = repository.get(Kind.SERVICE_TEST_SPECIFICATION, identity)
    except NotFound:
        raise ContractError(
            f"testSpecification.id: no specification {identity[:80]!r} of yours is here;"
            " `GET serviceTestSpecification` lists them"
        ) from None
    wanted, version = body["testSpecification"].get("version"), found.body.get("version")
    if wanted and wanted != version:
        raise ContractError(
            f"testSpecification.version: {str(wanted)[:80]!r} is asked for, and it is {version}"
        )
    state = found.body.get("lifecycleStatus", ACTIVE)
    if state != ACTIVE:
        raise Conflict(f"testSpecification.id: the specification is {state}; runs need one that is {ACTIVE}")
    return found


def _check_measures(specification: Record, ask: RunAsk) -> None:
    """Refuse measures that the scenario cannot have, or too many. Raises ContractError."""
    wanted = definitions(specification.body.get("testMeasureDefinition"))
    for definition in wanted:
        if definition.of_sweep and ask.scenario.sweep is None:
            raise ContractError(
                f"characteristic scenario: has no sweep, and the specification measures {definition.metric},"
                " which is the worst of many variants"
            )
    if len(ask.pairs) * len(wanted) > _MOST_MEASURES:
        raise ContractError(
            f"characteristic endPointPairs: {len(ask.pairs)} pairs with {len(wanted)} metrics each are more"
            f" than {_MOST_MEASURES} measures; name fewer pairs"
        )


def _reference(body: Body, name: str) -> str:
    found: Any = body.get(name)
    if not isinstance(found, Mapping) or not isinstance(found.get("id"), str) or not found["id"]:
        raise ContractError(f"{name}: must be an object with an id")
    return str(found["id"])
