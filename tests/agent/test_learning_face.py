"""What an agent tells its own operator of learning, on its real socket: models, forecasts, and no trainings.

And the process that trains: its limits, its end, and that what goes wrong in it stays in it.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest

from domain_twin.agent.learner_child import ChildSettings
from domain_twin.agent.learner_process import LearnerProcess
from domain_twin.agent.learning import Learning
from domain_twin.agent.local import serve_local
from domain_twin.config import LearningConfig
from domain_twin.datastore.history import History
from domain_twin.errors import ContractError, NotFound, TwinError, Unreachable
from domain_twin.learning.arrays import digest_of, encode_arrays, forms_of
from domain_twin.learning.learner import learner
from domain_twin.learning.panel import Panel
from domain_twin.learning.task import Card, Feature, Kind, Task, Window
from domain_twin.model import Change, Delta, Link, Network, Origin, Version
from federation.learning_client import LearningClient
from federation.wire.event_log import EventLog

MINUTE = 60_000_000_000
END = 1_790_000_000_000_000_000 // MINUTE * MINUTE
STEPS = 60
LINKS = ("urn:l:1", "urn:l:2")
TASK = Task(
    "demand",
    features=(Feature("ndt:carried_rate", "Gbit/s"),),
    lags=6,
    horizons=(1, 5),
    window=Window(length_s=STEPS * 60.0),
    settings={"hidden": 4},
)


def network() -> Network:
    links = {name: Link(name, "r1", "n1", "t1", "n2", "t2") for name in LINKS}
    return Network("ran", Version("e", 1), {}, {}, links, {}, {}, {})


async def recorded(folder: Path) -> History:
    history = await History.open(folder, raw_days=36_500.0, retention_days=36_500.0, clock=lambda: END)
    for step in range(STEPS):
        at = END - (STEPS - step) * MINUTE
        changes = tuple(
            Change(
                "r1",
                f"/fedtwin-performance:performance/link[link-id='{name}']/carried-rate",
                500.0 + 10 * np.sin(step / 5),
                at,
                at,
                Origin.MEASURED,
            )
            for name in LINKS
        )
        history.append(Delta(Version("e", step), Version("e", step + 1, at), changes))
    return history


def version(number: int, task: Task = TASK) -> tuple[Card, bytes]:
    arrays = learner(TASK).initial(np.random.default_rng(number))
    data = encode_arrays(arrays)
    card = Card(
        task.model, number, task, forms_of(arrays), number, "run", 1, ("ran",), digest=digest_of(data)
    )
    return card, data


@dataclass
class Twin:
    """As much of an agent as its socket needs for this."""

    learning: Learning | None
    domain: str = "ran"
    events: EventLog = field(default_factory=EventLog)


@asynccontextmanager
async def served(folder: Path, learning: Learning | None) -> AsyncIterator[LearningClient]:
    socket = folder / "agent.sock"
    async with serve_local(Twin(learning), socket), LearningClient.connect(socket) as client:  # type: ignore[arg-type]
        yield client


@asynccontextmanager
async def learning(folder: Path, history: History | None = None) -> AsyncIterator[Learning]:
    made = Learning(
        LearningConfig(),
        folder / "learning",
        domain="ran",
        network=network,
        history=history,
        clock=lambda: END + MINUTE // 2,
    )
    try:
        yield made
    finally:
        await made.aclose()


async def test_the_operator_sees_models_and_what_the_one_in_service_foretells(tmp_path: Path) -> None:
    history = await recorded(tmp_path / "history")
    async with learning(tmp_path, history) as made, served(tmp_path, made) as client:
        for number in (1, 2):
            made.store.put(*version(number))
        made.store.serve("demand", 2, "better than persistence here")
        # Act
        models = await client.models()
        kept, arrays = await client.arrays("demand", 1)
        forecasts, number = await client.forecast("demand", [LINKS[1]])
        back = await client.roll_back("demand", 1)
        # Assert
        assert [(one.card.version, one.in_service, one.reason) for one in models] == [
            (2, True, "better than persistence here"),
            (1, False, ""),
        ]
        assert (kept.card, forms_of(arrays)) == (version(1)[0], version(1)[0].arrays)
        (forecast,) = forecasts
        assert (forecast.element, forecast.kpi, forecast.unit) == (LINKS[1], "ndt:carried_rate", "Gbit/s")
        assert (number, forecast.at) == (2, END)
        assert forecast.times == (END + MINUTE, END + 5 * MINUTE)
        assert forecast.quantiles == (0.05, 0.5, 0.95)
        assert all(0.4 < row[1] < 0.6 for row in forecast.values)
        assert all(list(row) == sorted(row) for row in forecast.values)
        assert (back.model.card.version, back.model.in_service, back.outcomes) == (1, True, ())
        assert len((await client.forecast("demand"))[0]) == 2
        with pytest.raises(NotFound, match="nothing is known of 'urn:x'"):
            await client.forecast("demand", ["urn:x"])
        with pytest.raises(NotFound, match="no model 'other' is kept here; `fedtwin learn models`"):
            await client.forecast("other")
        made.store.put(*version(1, replace(TASK, model="gaps", kind=Kind.VAE)))
        made.store.serve("gaps", 1)
        with pytest.raises(ContractError, match="model 'gaps' is a vae and foretells nothing"):
            await client.forecast("gaps")
    await history.close()


async def test_trainings_are_the_brokers(tmp_path: Path) -> None:
    async with learning(tmp_path) as made, served(tmp_path, made) as client:
        for refused in (client.start(TASK), client.run("x"), client.stop("x"), anext(client.watch("x"))):
            with pytest.raises(NotFound, match="begun and seen at the broker"):
                await refused
        with pytest.raises(NotFound, match="at the broker; name its client profile with --at"):
            await client.runs()
        made.store.put(*version(1))
        made.store.serve("demand", 1)
        with pytest.raises(NotFound, match="ran keeps no history"):
            await client.forecast("demand")
    async with served(tmp_path, None) as client:
        with pytest.raises(NotFound, match="learns nothing with others; it needs a"):
            await client.models()


@asynccontextmanager
async def process(tmp_path: Path, **more: float) -> AsyncIterator[LearnerProcess]:
    settings = ChildSettings(
        "ran",
        str(tmp_path),
        int(more.get("memory_bytes", 1 << 30)),
        1 << 20,
        serves=bool(more.get("serves")),
    )
    made = LearnerProcess(settings, step_s=more.get("step_s", 60.0), idle_s=more.get("idle_s", 60.0))
    try:
        yield made
    finally:
        await made.close()


async def gone(pid: int | None) -> bool:
    """Wait until no such process is there."""
    assert pid
    async with asyncio.timeout(30):
        while True:
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                return True
            await asyncio.sleep(0.02)


async def test_the_process_starts_when_asked_and_ends_when_it_is_of_no_use(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    async with process(tmp_path, idle_s=0.2) as made:
        assert made.pid is None
        with pytest.raises(ContractError, match="task: model: Field required"):
            await made.ask("check", b"{}")
        pid = made.pid
        with pytest.raises(TwinError) as error:
            await made.ask("evaluate", TASK.to_json(), version(1)[1], "a secret")  # which is no panel
        assert str(error.value) == "learning failed in the domain; its log says why"
        assert made.pid == pid  # an error costs nothing
        async with asyncio.timeout(30):
            while made.pid:  # noqa: ASYNC110 - seen from outside only
                await asyncio.sleep(0.05)
        assert await gone(pid)
        # An asker who gives up leaves neither an answer to the next one nor a process at work behind.
        giving_up = asyncio.create_task(made.ask("check", TASK.to_json()))
        await asyncio.sleep(0.05)
        giving_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await giving_up
        assert await made.ask("message", "run", b"x") is None
        pid = made.pid
        with pytest.raises(Unreachable, match=r"was stopped after 0\.01 s; see"):
            await made.ask("check", replace(TASK, kind=Kind.VAE).to_json(), within_s=0.01)
        assert await gone(pid)
    assert "learning failed" in capfd.readouterr().err


async def test_more_memory_than_granted_ends_the_step_and_not_the_agent(tmp_path: Path) -> None:
    wide = replace(TASK, lags=100)
    data = encode_arrays(learner(wide).initial(np.random.default_rng(0)))
    values = np.zeros((10, 100_000, 1))  # 8 MB; what is made of it is more than is granted
    panel = Panel(tuple(map(str, range(10))), ("ndt:carried_rate",), values, 0, 60.0, 80_000)
    async with process(tmp_path, memory_bytes=200 << 20) as made:
        with pytest.raises(TwinError, match="memory_mb"):
            await made.ask("evaluate", wide.to_json(), data, panel)
        assert await made.ask("message", "run", b"x") is None
    vae = replace(wide, kind=Kind.VAE, settings={"hidden": 4, "latent": 2})
    data = encode_arrays(learner(vae).initial(np.random.default_rng(0)))
    async with process(tmp_path, memory_bytes=200 << 20, serves=True) as made:  # what was delivered, too
        with pytest.raises(TwinError, match="memory_mb"):
            await made.ask("fill_fit", "complete", (vae.to_json(), data), panel)
        assert await made.ask("fill", "complete", panel) is None
