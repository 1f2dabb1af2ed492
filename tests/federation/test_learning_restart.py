"""What a broker finds of trainings and models when it starts again, and what it leaves when it ends."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path

import numpy as np
from federation_parts import until
from learning_session_parts import TASK, LearningFederation

from domain_twin.learning.arrays import digest_of, encode_arrays, forms_of
from domain_twin.learning.run import Run, RunState
from domain_twin.learning.run_store import RunStore
from domain_twin.learning.store import ModelStore
from domain_twin.learning.task import Card
from domain_twin.trust.audit_verify import verify
from federation.v1 import fedtwin_pb2 as pb


def keep_models(folder: Path, *, versions: int) -> None:
    store = ModelStore(folder, owner="", max_bytes=1 << 20)
    for version in range(1, versions + 1):
        arrays = {"w": np.full(3, version, np.float32)}
        data = encode_arrays(arrays)
        store.put(
            Card(
                "demand", version, TASK, forms_of(arrays), version, "r", 1, ("ran",), digest=digest_of(data)
            ),
            data,
        )
        store.serve("demand", version)


async def test_a_broker_that_was_killed_fails_what_ran_and_serves_the_last_good_model(tmp_path: Path) -> None:
    federation = LearningFederation(tmp_path)
    state = tmp_path / "broker" / "learning"
    runs = RunStore(state / "runs", kept=10)
    for number, word in enumerate(("done", "running", "waiting")):
        runs.save(Run(f"{number}" * 16, TASK, ("ran", "edge"), RunState(word), created_at=number + 1))
    (state / "runs" / f"{'3' * 16}.run.json").write_bytes(b'{"id": "3333')  # cut in half
    keep_models(state / "models", versions=3)
    (state / "models" / "demand" / "3" / "card.json").write_bytes(b'{"model": "dem')
    # Act
    async with federation.made.broker() as broker, federation.client(broker) as client:
        found = await client.runs()
        models = await client.models()
        async with federation.made.client(broker) as twin:

            async def findings() -> list[str]:
                return [f.message for f in await twin.findings() if f.code == "learning.damaged"]

            (finding,) = await until(findings)
    # Assert
    assert [(run.id[0], run.state, run.problem) for run in found] == [
        ("2", RunState.FAILED, "the broker ended; start the training anew"),
        ("1", RunState.FAILED, "the broker ended; start the training anew"),
        ("0", RunState.DONE, ""),
    ]
    assert [(kept.card.version, kept.in_service) for kept in models] == [(2, True), (1, False)]
    assert finding.startswith("demand/3 is damaged and was set aside")
    assert [path.name for path in (state / "runs").glob("*damaged*")]
    assert RunStore(state / "runs", kept=10).load()[1].problem == "the broker ended; start the training anew"


async def test_a_broker_that_ends_says_so_of_what_it_trains(tmp_path: Path) -> None:
    federation = LearningFederation(tmp_path)
    offered = asyncio.Event()

    async def hold(_: pb.LearnAsk) -> None:
        offered.set()
        await asyncio.sleep(3600)

    async with AsyncExitStack() as stack:
        for name in ("ran", "edge"):
            federation.domains[name].before = hold
            await stack.enter_async_context(federation.domains[name].working())
        async with federation.made.broker() as broker, federation.client(broker) as client:
            for name in ("ran", "edge"):
                await stack.enter_async_context(federation.made.agent(name, broker))
            async with asyncio.timeout(30):
                while len(broker.sessions) < 2:  # noqa: ASYNC110 - seen from outside only
                    await asyncio.sleep(0.01)
            run = await client.start(TASK)
            async with asyncio.timeout(30):
                await offered.wait()
            # Act: the broker ends here
    (kept,) = RunStore(tmp_path / "broker" / "learning" / "runs", kept=10).load()
    # Assert
    assert (kept.id, kept.state) == (run.id, RunState.FAILED)
    assert kept.problem == "the broker ended; start the training anew"
    assert verify(tmp_path / "broker" / "learning" / "rounds").whole
