"""Trainings over real sessions: asked of a real broker, worked on by real agents' processes.

One federation serves all tests of this module: its agents' processes take a second to start.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from federation_parts import EXCHANGE, OPERATORS, until
from learning_session_parts import END, TASK, LearningDomain, LearningFederation, ended

from domain_twin.config import AccessConfig, BrokerLearningConfig
from domain_twin.disclosure.policy import Action, Agreement
from domain_twin.errors import (
    ConfigError,
    Conflict,
    NotFound,
    NotShared,
    OverCapacity,
)
from domain_twin.learning.arrays import digest_of, encode_arrays, forms_of
from domain_twin.learning.learner import learner
from domain_twin.learning.run import Run, RunState
from domain_twin.learning.task import Card, Task, Window
from domain_twin.model import Outcome
from domain_twin.trust.audit_files import records
from domain_twin.trust.audit_verify import verify
from domain_twin.trust.ca import OperatorCA
from domain_twin.trust.identity import Role, SpiffeId
from domain_twin.trust.roots import TrustBundle
from federation import renewal
from federation.broker import Broker
from federation.learning.desk import LearningDesk
from federation.learning_client import LearningClient
from federation.partners.gate import PartnerGate
from federation.twin import access_check
from federation.v1 import fedtwin_pb2 as pb

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.slow, pytest.mark.timeout(300)]

DOMAINS = ("edge", "ran", "transport")


@dataclass
class Running:
    """The federation of this module, and one who may train."""

    made: LearningFederation
    broker: Broker
    desk: LearningDesk
    client: LearningClient
    messages: list[bytes] = field(default_factory=list)
    """What ran was asked in the first training."""

    def domain(self, name: str) -> LearningDomain:
        return self.made.domains[name]

    def heard(self, domain: str) -> list[bytes]:
        """Messages that a domain was asked since the test began."""
        return [ask.message for ask in self.domain(domain).asked if ask.message]

    @property
    def state(self) -> Path:
        return self.made.made.folder / "broker" / "learning"

    async def trained(self, task: Task = TASK) -> Run:
        """A training as it ended."""
        return await ended(self.client, await self.client.start(task))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def module(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Running]:
    settings = BrokerLearningConfig(explain=False)
    made = LearningFederation(tmp_path_factory.mktemp("learning"), learning=settings)
    desks: list[LearningDesk] = []
    load = LearningDesk.load
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(renewal.Renewal.__init__, "__kwdefaults__", {"roots_grace_s": 3.0})
        patch.setattr(LearningDesk, "load", lambda desk: (desks.append(desk), load(desk)))
        async with made.running() as broker, made.client(broker) as client:
            yield Running(made, broker, *desks, client)


@pytest.fixture
def running(module: Running) -> Running:
    for domain in module.made.domains.values():
        domain.recover()
    return module


def on_round(number: int, act: Callable[[], Awaitable[None]]) -> Callable[[pb.LearnAsk], Awaitable[None]]:
    """Does `act` once, before the message that a domain is asked for the `number`-th time."""
    seen = 0

    async def before(ask: pb.LearnAsk) -> None:
        nonlocal seen
        if ask.step == "message":
            seen += 1
            if seen == number:
                await act()

    return before


def rounds(run: Run) -> list[dict[str, Any]]:
    return [dict(entry) for entry in run.log if "round" in entry]


def refusals(run: Run) -> dict[str, str]:
    return next((dict(entry["refused"]) for entry in run.log if "refused" in entry), {})


async def test_domains_train_a_model_keep_it_and_use_it(running: Running) -> None:
    running.domain("ran").configure(tell_amount=True)
    # Act
    run = await running.trained()
    # Assert
    assert (run.state, run.problem, run.round) == (RunState.DONE, "", 2)
    assert run.domains == DOMAINS
    assert run.owner == f"spiffe://{EXCHANGE}/user/ann"
    assert [entry["round"] for entry in rounds(run)] == [0, 1, 2]
    kept, arrays = await running.client.arrays("demand")
    card = kept.card
    assert (kept.in_service, card.version, card.run, card.contributors) == (
        True,
        run.version,
        run.id,
        DOMAINS,
    )
    assert card.scores["model"]["loss"] < min(
        row["loss"] for name, row in card.scores.items() if name.startswith("naive:")
    )
    assert [form.name for form in card.arrays] == list(arrays)
    for name in DOMAINS:
        own = running.domain(name).learning.store.get("demand")
        assert (own.card, own.in_service) == (card, True)
    assert await running.client.run(run.id[:6]) == run
    assert (await running.client.runs())[0] == replace(run, log=())
    _check_records(running, run)
    # How much data there is leaves only where the domain lets it.
    facts = {name: json.loads(running.domain(name).answers[0].facts) for name in DOMAINS}
    assert facts["edge"] == {"takes_part": True, "newest": 0}
    assert facts["ran"] == {"takes_part": True, "newest": 0, "elements": 4, "steps": 240}
    running.messages = running.heard("ran")


def _check_records(running: Running, run: Run) -> None:
    """Rounds stand in a signed chain at the broker, and every step in the domains' audits."""
    trail = running.state / "rounds"
    entries = [record for record in records(trail) if record.data.get("run") == run.id]
    kinds = ["run", *["round"] * 3, "version", "delivered", "run-ended"]
    assert [record.kind for record in entries] == kinds
    assert Task.from_json(entries[0].data["task"].encode()) == run.task
    assert verify(trail, trust=TrustBundle.load(running.made.made.pki.roots)).whole
    for name in DOMAINS:
        domain = running.domain(name)
        told = [r.data for r in records(domain.folder / "audit") if r.data.get("run") == run.id]
        assert [data["step"] for data in told] == [ask.step for ask in domain.asked]
        assert {data["action"] for data in told} == {"train"}
        assert [data["bytes"] for data in told] == [answer.ByteSize() for answer in domain.answers]
        assert {data["model"] for data in told} == {"demand"}


async def test_who_may_only_read_sees_trainings_and_begins_none(running: Running) -> None:
    async with running.made.client(running.broker, operator=OPERATORS["ran"], name="bob") as reader:
        assert (await reader.runs())[0].state is RunState.DONE
        assert (await reader.card("demand")).in_service
        for refused in (
            reader.start(TASK),
            reader.stop("x"),
            reader.roll_back("demand", 1),
            reader.arrays("demand"),
        ):
            with pytest.raises(NotShared, match="have the broker's operator set learn = true"):
                await refused
        with pytest.raises(NotShared, match="ask the domain's agent"):
            await reader.forecast("demand")
    agent = running.made.client(running.broker, operator=OPERATORS["ran"], role=Role.AGENT, name="ran")
    async with agent as client:
        with pytest.raises(NotShared, match="agents show their domain here"):
            await client.runs()
    stranger = running.made.client(running.broker, operator=OPERATORS["edge"], name="eve")
    async with stranger as client:
        with pytest.raises(NotShared, match="may not read this twin"):
            await client.runs()


@pytest.mark.parametrize("rpc", ["StartRun", "StopRun", "RollBack", "ListRuns", "WatchRun", "GetModel"])
async def test_nothing_of_learning_is_answered_for_partners(running: Running, rpc: str) -> None:
    speaker = SpiffeId.parse(f"spiffe://{EXCHANGE}/api/main")
    access = AccessConfig(subject=str(speaker), partners=True, learn=True)
    config = running.made.made.broker_config().model_copy(update={"access": (access,)})
    with pytest.raises(NotShared, match=f"{rpc} is not answered for partners"):
        PartnerGate(config).check(f"/fedtwin.v1.Learning/{rpc}", speaker, ["acme"])
    if rpc in ("StartRun", "StopRun", "RollBack"):  # nor may who speaks for them train for itself
        with pytest.raises(NotShared, match="may see trainings and not begin"):
            access_check(config)(f"/fedtwin.v1.Learning/{rpc}", speaker)


async def test_what_cannot_be_trained_is_refused_at_once(running: Running) -> None:
    start = running.client.start
    with pytest.raises(NotFound, match="no domain 'moon' in this federation; there are edge, ran, transport"):
        await start(TASK, ["ran", "moon"])
    with pytest.raises(ConfigError, match="ran alone learns nothing from others"):
        await start(TASK, ["ran"])
    with pytest.raises(NotFound, match="no training 'nope' is kept here"):
        await running.client.run("nope")


@contextmanager
def configured(running: Running, **settings: Any) -> Iterator[None]:
    """The broker with other limits."""
    desk = running.desk
    before = desk._config
    desk._config = before.model_copy(update=settings)
    try:
        yield
    finally:
        desk._config = before


@asynccontextmanager
async def _held(running: Running, model: str) -> AsyncIterator[tuple[Run, asyncio.Event]]:
    """A training that stands still in its first message to edge, until the event is set."""
    reached, go_on = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        reached.set()
        await go_on.wait()

    running.domain("edge").before = on_round(1, hold)
    run = await running.client.start(replace(TASK, model=model))
    async with asyncio.timeout(60):
        await reached.wait()
    yield run, go_on
    go_on.set()


async def test_a_training_can_be_stopped_and_leaves_no_model(running: Running) -> None:
    async with _held(running, "stopped") as (run, _):
        with pytest.raises(Conflict, match="model 'stopped' is being trained already"):
            await running.client.start(replace(TASK, model="stopped"))
        full = pytest.raises(OverCapacity, match=rf"1 trainings of {EXCHANGE} run or wait")
        with configured(running, each_operator=1), full:
            await running.client.start(replace(TASK, model="one-more"))
        # Act
        await running.client.stop(run.id)
        last = await ended(running.client, run)
    # Assert
    assert (last.state, last.version) == (RunState.STOPPED, 0)
    assert last.problem == f"stopped by spiffe://{EXCHANGE}/user/ann"
    assert await running.client.models("stopped") == []


async def test_a_model_that_is_being_delivered_cannot_be_stopped(running: Running) -> None:
    said: list[str] = []

    async def stop(ask: pb.LearnAsk) -> None:
        if ask.step == "deliver":
            with pytest.raises(Conflict) as refused:
                await running.client.stop(ask.run)
            said.append(str(refused.value))

    running.domain("edge").before = stop
    run = await running.trained(replace(TASK, model="under-way", rounds=1))

    assert (run.state, run.version, run.problem) == (RunState.DONE, 1, "")
    assert len(said) == 1
    assert "a version was made and is being given to the domains, which cannot be stopped" in said[0]
    assert "`fedtwin learn rollback under-way VERSION`" in said[0]


async def test_a_training_whose_time_is_up_leaves_its_best_model(running: Running) -> None:
    async def time_is_up() -> None:
        (entry,) = (one for one in running.desk._entries.values() if one.run.task.model == "endless")
        running.desk._time_is_up(entry)  # as its timer does
        await asyncio.sleep(3600)

    running.domain("edge").before = on_round(4, time_is_up)  # in the second round's training
    run = await running.trained(replace(TASK, model="endless", rounds=100))
    running.domain("edge").before = on_round(1, lambda: asyncio.sleep(3600))
    with configured(running, run_s=0.1):
        failed = await running.trained(replace(TASK, model="hopeless"))

    limit = "as long as a training may here ([learning] run_s)"
    assert (run.state, run.version) == (RunState.DONE, 1)
    assert run.problem == f"it took 14400 s, {limit}; stopped before round 3"
    assert (await running.client.card("endless")).card.rounds == 1
    assert failed.state is RunState.FAILED
    assert failed.problem.startswith(f"it took 0.1 s, {limit}; ")


@pytest.mark.parametrize(
    ("policy", "said"),
    [
        ({"enabled": False}, "edge trains nothing with others"),
        ({"models": ("other-*",)}, "edge does not train model 'policy' with others"),
        ({"kinds": ("vae",)}, "edge does not train kind 'forecaster'"),
        ({"kpis": ("ndt:utilisation",)}, "edge does not train these KPIs"),
        ({"profiles": ("private",)}, "edge does not train profile 'mistrustful'"),
        ({"max_rounds": 1}, "edge does not train more than 1 rounds"),
    ],
)
async def test_a_domain_takes_part_in_what_its_policy_allows(
    running: Running, policy: dict[str, Any], said: str
) -> None:
    running.domain("edge").configure(**policy)
    session = running.broker.sessions["edge"]
    task = replace(TASK, model="policy")
    with pytest.raises(NotShared, match=said):
        await session.ask(pb.LearnAsk(run="policy", step="offer", task=task.to_json()), timeout_s=30.0)
    ask = pb.LearnAsk(run="policy", step="message", message=b"x")
    with pytest.raises((NotShared, NotFound)):
        await session.ask(ask, timeout_s=30.0)


async def test_no_agreement_no_training(running: Running) -> None:
    jobs = running.domain("edge").jobs
    before = jobs._agreements
    jobs._agreements = (Agreement("exchange", before[0].subject, actions=before[0].actions - {Action.TRAIN}),)
    try:
        run = await running.trained(replace(TASK, model="denied"))
    finally:
        jobs._agreements = before
    assert (run.state, run.domains) == (RunState.DONE, ("ran", "transport"))
    assert "does not grant 'train'" in refusals(run)["edge"]


async def test_too_few_domains_end_it_in_everybodys_words(running: Running) -> None:
    running.domain("edge").configure(models=("other",))
    running.domain("ran").now = END - 86_400 * 10**9  # its clock is a day behind
    task = replace(TASK, model="few", window=Window(start=END - 7200 * 10**9, end=END))

    run = await running.trained(task)

    assert run.state is RunState.FAILED
    assert run.problem.startswith("1 domains take part, 2 must: edge: edge does not train model 'few'")
    assert "its window ends 86400 s after this domain's now; set the clocks of both sides" in run.problem


async def test_a_message_is_not_answered_twice(running: Running) -> None:
    if not running.messages:  # where this test runs without those before
        await running.trained()
        running.messages = running.heard("ran")
    session = running.broker.sessions["ran"]
    again = pb.LearnAsk(run="again", step="message", message=running.messages[0])

    with pytest.raises(NotFound, match="run again was not offered here"):
        await session.ask(again, timeout_s=30.0)
    await session.ask(pb.LearnAsk(run="again", step="offer", task=TASK.to_json()), timeout_s=60.0)
    assert (await session.ask(again, timeout_s=60.0)).message
    with pytest.raises(NotFound, match="this message came before"):
        await session.ask(again, timeout_s=30.0)
    other = replace(TASK, rounds=9).to_json()
    with pytest.raises(NotFound, match="it is under way with another task"):
        await session.ask(pb.LearnAsk(run="again", step="offer", task=other), timeout_s=30.0)


@pytest.mark.parametrize(
    ("ask", "error", "said"),
    [
        (pb.LearnAsk(run="odd", step="dance"), NotFound, "none of offer, message, deliver, withdraw"),
        (pb.LearnAsk(run="", step="offer"), NotFound, "an id has 1 to 64 printable characters"),
        (pb.LearnAsk(run="odd", step="offer", task=b"{"), NotFound, "task: the document"),
        (pb.LearnAsk(run="odd", step="deliver", card=b"{}"), NotFound, "card: model: Field required"),
        (pb.LearnAsk(run="odd", step="message", message=b"x" * 15_000_001), OverCapacity, "15000000 at most"),
    ],
)
async def test_rubbish_is_refused_in_words(
    running: Running, ask: pb.LearnAsk, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        await running.broker.sessions["ran"].ask(ask, timeout_s=60.0)


async def test_rubbish_in_a_round_is_no_message(running: Running) -> None:
    session = running.broker.sessions["ran"]
    task = replace(TASK, model="rubbish").to_json()
    await session.ask(pb.LearnAsk(run="rubbish", step="offer", task=task), timeout_s=60.0)
    with pytest.raises(NotFound, match="are no message of Flower's"):
        await session.ask(pb.LearnAsk(run="rubbish", step="message", message=b"rubbish"), timeout_s=60.0)


async def test_a_domain_that_takes_no_large_messages_is_left_out(running: Running) -> None:
    running.domain("edge").configure(max_mb=0.0005)

    run = await running.trained(replace(TASK, model="oversize"))

    assert run.state is RunState.DONE
    assert [entry["domains"].get("edge", {}).get("state") for entry in rounds(run)][1:] == ["unreachable"] * 2
    assert (await running.client.card("oversize")).card.contributors == ("ran", "transport")


async def test_a_domain_that_was_started_anew_rejoins_in_mid_round(running: Running) -> None:
    edge, ran = running.domain("edge"), running.domain("ran")

    async def restart() -> None:
        edge.restart()
        edge.learning.process._kill()

    async def kill() -> None:
        ran.learning.process._kill()  # the process that trains alone: the agent hands its data over again

    edge.before, ran.before = on_round(2, restart), on_round(3, kill)
    run = await running.trained(replace(TASK, model="rejoined"))

    assert run.state is RunState.DONE
    assert [ask.step for ask in edge.asked].count("offer") == 2
    assert [ask.step for ask in ran.asked].count("offer") == 1
    took_part = ("judged", "took-part", "clipped", "not-chosen")
    for entry in rounds(run):
        assert {name: domain["state"] in took_part for name, domain in entry["domains"].items()} == (
            dict.fromkeys(DOMAINS, True)
        )


async def test_a_worse_version_is_kept_and_not_used(running: Running) -> None:
    bad = await running.trained(replace(TASK, learning_rate=1e-6, rounds=1, epochs=1))

    assert (bad.state, bad.version) == (RunState.DONE, 2)
    newest, first = await running.client.models("demand")
    assert (newest.in_service, first.in_service) == (False, True)
    assert newest.reason.startswith("refused: no domain uses it (edge: it is worse here than ")
    for name in DOMAINS:
        assert running.domain(name).learning.store.in_service("demand") == 1


async def test_a_domain_judges_what_is_delivered_by_its_own_data(running: Running) -> None:
    session, store = running.broker.sessions["ran"], running.domain("ran").learning.store
    task = replace(TASK, model="untrained")
    arrays = learner(task).initial(np.random.default_rng(0))
    data = encode_arrays(arrays)
    card = Card("untrained", 1, task, forms_of(arrays), 1, "run", 1, ("edge",), digest=digest_of(data))

    async def deliver(card: Card, data: bytes) -> dict[str, Any]:
        ask = pb.LearnAsk(run="run", step="deliver", card=card.to_json(), arrays=data)
        return dict(json.loads((await session.ask(ask, timeout_s=60.0)).facts))

    with pytest.raises(NotFound, match="do not have the SHA-256 of their card"):
        await deliver(card, data + b"x")
    first = next(iter(arrays.values()))
    broken = data.replace(first.tobytes(), np.full_like(first, np.nan).tobytes())
    with pytest.raises(NotFound, match=r"damaged|not as they were written|not finite"):
        await deliver(replace(card, digest=digest_of(broken)), broken)
    with pytest.raises(NotFound, match="other names or shapes than its card"):
        await deliver(replace(card, arrays=card.arrays[1:]), data)
    said = await deliver(card, data)  # whole, and no better than what needs no model

    assert (said["in_service"], store.in_service("untrained")) == (False, 0)
    assert said["reason"].startswith("it is worse here than ")
    assert store.get("untrained", 1).reason == f"refused: {said['reason']}"
    ask = pb.LearnAsk(run="run", step="withdraw", card=replace(card, version=2).to_json())
    with pytest.raises(NotFound, match="no version 2 of model 'untrained' is kept"):
        await session.ask(ask, timeout_s=30.0)


async def test_an_earlier_version_is_put_back_everywhere(running: Running) -> None:
    for domain in running.made.domains.values():
        domain.configure(worse_by=10.0)
    run = await running.trained(replace(TASK, learning_rate=2e-2))
    assert [kept.in_service for kept in await running.client.models("demand")] == [True, False, False]
    # Act
    done = await running.client.roll_back("demand", 1)
    # Assert
    assert (done.model.card.version, done.model.in_service) == (1, True)
    assert {outcome.domain: outcome.outcome for outcome in done.outcomes} == dict.fromkeys(
        DOMAINS, Outcome.OK
    )
    assert [kept.in_service for kept in await running.client.models("demand")] == [False, False, True]
    for name in DOMAINS:
        assert running.domain(name).learning.store.in_service("demand") == 1
    with pytest.raises(NotFound, match="no version 9 of model 'demand' is kept; there are 1, 2, 3"):
        await running.client.roll_back("demand", 9)
    assert run.version == 3


async def test_a_model_cut_in_half_under_the_broker_is_set_aside_and_found(running: Running) -> None:
    await running.client.roll_back("demand", 3)
    path = running.state / "models" / "demand" / "3" / "arrays.npz"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    # Act
    kept, _ = await running.client.arrays("demand")
    # Assert
    assert (kept.card.version, kept.in_service) == (1, True)
    async with running.made.made.client(running.broker) as twin:

        async def found() -> list[str]:
            return [f.message for f in await twin.findings() if f.code == "learning.damaged"]

        (message,) = await until(found)
    assert message.startswith("demand/3 is damaged and was set aside")


async def test_a_domain_that_drops_out_is_left_behind(running: Running) -> None:
    edge = running.domain("edge")

    async def leave() -> None:
        assert edge.session
        running.broker.sessions["edge"].end("the test cut it")
        await asyncio.sleep(3600)  # with its session this question ends

    edge.before = on_round(2, leave)
    run = await running.trained(replace(TASK, model="dropped"))

    assert run.state is RunState.DONE
    assert rounds(run)[1]["domains"]["edge"]["state"] == "unreachable"
    assert rounds(run)[1]["accepted"]
    await until(lambda: _connected(running, "edge"))


async def test_a_domain_whose_operator_is_no_longer_trusted_is_left_out(running: Running) -> None:
    edge, pki = running.domain("edge"), running.made.made.pki

    async def revoke() -> None:
        other = OperatorCA.create(OPERATORS["edge"], running.made.made.folder / "other")
        pki.roots[OPERATORS["edge"]].write_bytes(other.root.read_bytes())
        await asyncio.sleep(3600)

    edge.before = on_round(2, revoke)
    run = await running.trained(replace(TASK, model="revoked"))

    assert run.state is RunState.DONE
    assert rounds(run)[1]["domains"]["edge"]["state"] == "unreachable"
    assert "edge" not in rounds(run)[2]["domains"]
    assert edge.session
    await edge.session.close("it would dial for ever")
    assert (await running.client.card("revoked")).card.contributors == ("ran", "transport")


async def test_a_domain_whose_certificate_has_expired_takes_no_part(running: Running) -> None:
    ran, pki = running.domain("ran"), running.made.made.pki
    assert ran.session
    await ran.session.close("it begins anew, with a certificate that ends soon")
    await until(lambda: _connected(running, "ran", False))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pki, "identity", partial(pki.identity, life=timedelta(seconds=8)))
        async with running.made.made.agent("ran", running.broker):
            await until(lambda: _connected(running, "ran"))
            await until(lambda: _connected(running, "ran", False))

            asked = await running.client.start(replace(TASK, model="expired"), ["ran", "transport"])
            run = await ended(running.client, asked)

    assert run.state is RunState.FAILED
    assert run.problem == "1 domains take part, 2 must: ran: not connected"


async def _connected(running: Running, domain: str, there: bool = True) -> bool:
    return (domain in running.broker.sessions) is there
