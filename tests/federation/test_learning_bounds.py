"""What a domain refuses to a broker that asks too much of its data or of its processor, without a session."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from learning_session_parts import END, STEPS, TASK, LearningDomain
from what_if_parts import networks

from domain_twin.agent.learning import NO_DATA, Learned, Learning, Step
from domain_twin.agent.learning_runs import HeldRun, Runs
from domain_twin.config import LearningConfig
from domain_twin.errors import ContractError, NotFound, NotShared, OverCapacity, TwinError
from domain_twin.learning.arrays import digest_of, encode_arrays, forms_of
from domain_twin.learning.contribution import norm, update
from domain_twin.learning.flower import (
    ConfigRecord,
    Message,
    RecordDict,
    arrays_in,
    decode,
    encode,
    record_of,
)
from domain_twin.learning.learner import learner
from domain_twin.learning.panel import Panel
from domain_twin.learning.task import Card, Task, Window
from federation.learning.delivery import _numbers
from federation.wire.refusals import decode_refusal, encode_refusal

MINUTE_S = 60.0
PEER = "spiffe://exchange.example/broker/main"


async def restarted(of: LearningDomain, **settings: Any) -> None:
    """A new agent over the same state."""
    before = of.learning
    await before.aclose()
    of.learning = of.jobs.learning = Learning(
        LearningConfig(**settings),
        of.folder / "learning",
        domain=of.network.domain,
        network=lambda: of.network,
        history=before._history,
        clock=lambda: of.now,
    )


@asynccontextmanager
async def domain(folder: Path, **settings: Any) -> AsyncIterator[LearningDomain]:
    made = LearningDomain(networks()["ran"], folder, 1)
    async with made.working():
        made.configure(**settings)
        yield made


def window(steps: float) -> Task:
    return replace(TASK, model=f"window-{steps:g}", window=Window(length_s=steps * MINUTE_S))


async def take(of: LearningDomain, step: str, task: Task = TASK, run: str = "run", **more: bytes) -> Learned:
    return await of.learning.take(Step(run, step, task=task.to_json(), **more), PEER)


def message(run: str, *, message_id: str = "", kind: str = "evaluate") -> bytes:
    arrays = learner(TASK).initial(np.random.default_rng(TASK.seed))
    config = ConfigRecord({"task": TASK.to_json(), "server-round": 0})
    content = RecordDict({"arrays": record_of(arrays), "config": config})
    return encode(Message(content, dst_node_id=7, message_type=kind), run=run, message_id=message_id)


async def test_no_window_is_so_short_that_it_tells_what_is_in_it(tmp_path: Path) -> None:
    async with domain(tmp_path) as ran:
        links = len(ran.network.links)
        for task in (
            window(TASK.lags + 2),
            window(90 // links),
            replace(window(STEPS), model="judged", holdout=1e-6 + 1 / STEPS),
            replace(window(STEPS), model="trained", holdout=0.97),
        ):
            with pytest.raises(NotFound, match=NO_DATA):
                await take(ran, "offer", task)
        assert (await take(ran, "offer")).facts["takes_part"]
        # Nor by delivering a model, which is judged on the domain's holdout.
        data = encode_arrays(arrays := learner(TASK).initial(np.random.default_rng(0)))
        task = replace(window(TASK.lags + 2), model="given")
        card = Card("given", 1, task, forms_of(arrays), END, "run", 1, ("ran",), digest=digest_of(data))
        given = await take(ran, "deliver", run="given", card=card.to_json(), arrays=data)
        assert given.facts == {"in_service": False, "reason": f"it cannot be judged here: {NO_DATA}"}
        task = replace(window(STEPS), model="few", horizons=(STEPS // 5 - 1,))  # two windows of each link
        card = replace(card, model="few", task=task)
        given = await take(ran, "deliver", run="few", card=card.to_json(), arrays=data)
        assert given.facts["reason"] == f"it cannot be judged here: {NO_DATA}"
        ran.configure(least_elements=links + 1, tell_amount=True)
        with pytest.raises(NotFound, match=f"{links} elements to learn from, {links + 1} at least"):
            await take(ran, "offer", run="many")


async def test_a_run_has_as_many_messages_as_its_rounds_need(tmp_path: Path) -> None:
    most = 4 * TASK.rounds + 100
    async with domain(tmp_path) as ran:
        await take(ran, "offer")
        for number in range(most):
            with pytest.raises(TwinError, match="are no message of Flower's"):
                await take(ran, "message", message=b"rubbish %d" % number)
        with pytest.raises(
            OverCapacity, match=f"{most} messages were answered, which its rounds do not need"
        ):
            await take(ran, "message", message=message("run"))


async def let_go(of: LearningDomain) -> None:
    async with asyncio.timeout(30):
        while of.learning._runs.get("run"):  # noqa: ASYNC110 - seen from outside only
            await asyncio.sleep(0.02)


async def test_a_run_is_answered_once_whatever_happens_meanwhile(tmp_path: Path) -> None:
    async with domain(tmp_path) as ran:
        await restarted(ran, run_idle_s=0.2)
        await take(ran, "offer")
        held = ran.learning._runs.get("run")
        assert held
        with pytest.raises(ContractError, match="are no message of Flower's"):
            await take(ran, "message", message=b"rubbish")
        # Nothing is heard of it for a while: its data goes, here and in the process.
        await let_go(ran)
        assert list(ran.learning.process._forgotten) == ["run"]
        assert await ran.learning.process.ask("message", "run", b"x") is None
        # The broker that goes on offers it anew: the same window, and no message twice.
        await restarted(ran, min_interval_s=1000.0)
        ran.now += 60_000_000_000
        with pytest.raises(NotFound, match="was not offered here"):
            await take(ran, "message", message=b"rubbish")
        await take(ran, "offer")
        again = ran.learning._runs.get("run")
        assert again
        assert (again.panel.start, again.panel.steps) == (held.panel.start, held.panel.steps)
        with pytest.raises(ContractError, match="this message came before"):
            await take(ran, "message", message=b"rubbish")
        # The broker is gone: its data, too.
        ran.learning._runs._lost_s = 0.1
        ran.jobs.session_lost()
        await let_go(ran)
        # At its end it is over for good, also after a restart.
        await take(ran, "offer")
        ran.jobs.job_end("run")
        await restarted(ran, min_interval_s=1000.0)
        for task in (TASK, replace(TASK, rounds=1)):
            with pytest.raises(ContractError, match="run run: it is"):
                await take(ran, "offer", task)
        with pytest.raises(NotFound, match="was not offered here"):
            await take(ran, "message", message=message("run"))
        # Nor is its model trained over and over, whatever the time of day is set to.
        for ran.now in (END, END + 2_000_000_000_000):
            with pytest.raises(OverCapacity, match=r"ran trained 'demand' lately and does so again") as error:
                await take(ran, "offer", run="another")
            assert 900 < error.value.retry_after_s <= 1000


async def test_the_data_of_many_runs_is_not_held_at_once() -> None:
    dropped: list[str] = []
    runs = Runs(idle_s=60.0, lost_s=60.0, on_dropped=dropped.append)
    for run, steps in (
        ("large", 15_000_000),
        ("larger", 20_000_000),
        ("most", 45_000_000),
        ("a", 9),
        ("b", 9),
    ):
        values = np.broadcast_to(np.zeros(()), (1, steps, 1))
        runs.add(run, HeldRun(TASK, PEER, Panel(("x",), ("k",), values, 0, 60.0, 1)))
        assert runs.get(run)
    assert dropped == ["large", "larger", "most"]
    for run in ("c", "d", "e"):
        runs.add(run, HeldRun(TASK, PEER, Panel((), (), np.zeros((0, 0, 0)), 0, 60.0, 0)))
    assert dropped[3:] == ["a"]
    runs.clear()
    assert dropped[4:] == ["b", "c", "d", "e"]


async def test_messages_of_another_run_are_not_answered_and_no_update_is_longer_than_wanted(
    tmp_path: Path,
) -> None:
    async with domain(tmp_path) as ran:
        await restarted(ran, max_update_norm=0.01)
        await take(ran, "offer")
        own = await take(ran, "message", message=message("run"))
        other = await take(ran, "message", message=message("another"))
        trained = await take(ran, "message", message=message("run", message_id="2", kind="train"))

    assert decode(own.message).content.metric_records
    assert decode(other.message).error.reason == "replayed"
    (record,) = decode(trained.message).content.array_records.values()
    before = learner(TASK).initial(np.random.default_rng(TASK.seed))
    assert norm(update(arrays_in(record), before)) == pytest.approx(0.01, rel=1e-3)


async def test_a_domain_works_so_long_a_day_for_others(tmp_path: Path) -> None:
    async with domain(tmp_path, work_s_per_day=1e-3) as ran:
        await take(ran, "offer")  # which starts the process, and that takes longer
        for step in ("offer", "message", "deliver"):
            with pytest.raises(OverCapacity, match=r"ran has trained for 0\.001 s today") as error:
                await take(ran, step, message=b"x")
        assert 86_000 < error.value.retry_after_s <= 86_400
        ran.learning._day = (ran.learning._day[0] - 86_400, 0.0)  # a day later
        assert (await take(ran, "offer")).facts["takes_part"]


async def test_what_a_domain_refused_is_not_put_back_by_others(tmp_path: Path) -> None:
    async with domain(tmp_path) as ran:
        data = encode_arrays(arrays := learner(TASK).initial(np.random.default_rng(0)))
        about = (forms_of(arrays), END, "run", 1, ("ran",))
        card = Card("demand", 1, TASK, *about, digest=digest_of(data))
        given = await take(ran, "deliver", card=card.to_json(), arrays=data)
        assert not given.facts["in_service"]

        with pytest.raises(NotShared, match="only its own operator can, on the agent's socket"):
            await take(ran, "withdraw", card=card.to_json())
        (ran.learning.store.folder / "demand" / "1" / "note.txt").unlink()  # killed before that was written
        await restarted(ran)
        with pytest.raises(NotShared, match="it was never judged"):
            await take(ran, "withdraw", card=card.to_json())
        assert ran.learning.store.in_service("demand") == 0
        assert (await ran.learning.put_back("demand", 1)).in_service
        ran.configure(models=("other",))
        with pytest.raises(NotShared, match="ran does not train model 'demand' with others"):
            await take(ran, "withdraw", card=card.to_json())


def test_what_a_domain_says_of_a_model_is_numbers_that_a_log_holds() -> None:
    said = {"loss": 0.5, "nan": float("nan"), "inf": float("inf"), "huge": 10**400, "text": "x", "whole": 2}

    assert _numbers(said) == {"loss": 0.5, "whole": 2.0}
    assert _numbers([1, 2]) == {}


def test_what_a_domain_refuses_with_writes_nothing_onto_a_terminal() -> None:
    refusal = encode_refusal(NotShared("no\x1b[2J\r\nDONE \u202e" + "x" * 5_000))

    said = str(decode_refusal(refusal, "edge"))

    assert said.startswith("edge: no [2J  DONE  x")
    assert len(said) == 2_006
