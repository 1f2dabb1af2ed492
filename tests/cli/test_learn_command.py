"""`fedtwin learn`: trainings, models and forecasts, asked of a real broker and of a domain's real agent.

One federation serves all tests that train; commands are processes, as people run them.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import pytest_asyncio
from twin_with_jobs import Ran, fedtwin

from domain_twin.agent.local import serve_local
from domain_twin.config import BrokerLearningConfig
from domain_twin.learning.arrays import encode_arrays
from domain_twin.learning.marginals import Marginals, packed
from domain_twin.learning.store import digest_of, forms_of
from domain_twin.learning.task import Card, Kind
from domain_twin.trust.identity import Role
from federation.broker import Broker
from federation.learning_client import LearningClient
from federation.wire.event_log import EventLog

sys.path.append(str(Path(__file__).parent.parent / "federation"))

from federation_parts import EXCHANGE, local
from learning_session_parts import TASK, LearningFederation
from what_if_parts import BROKER

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.slow, pytest.mark.timeout(300)]


ONE_PROCESS = """
import contextlib, io, json, sys
from federation.cli import main
done = []
for words in json.load(sys.stdin):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main(words)
        except SystemExit as end:
            status = end.code
    done.append([status or 0, out.getvalue(), err.getvalue()])
json.dump(done, sys.stdout)
"""


@dataclass
class Place:
    """A broker and its agents, and a folder with the profile and the task's file."""

    made: LearningFederation
    broker: Broker
    folder: Path
    socket: Path
    first: Ran = field(default_factory=lambda: Ran(1, "", ""))
    """`start` of the first training."""

    async def run(self, *words: str, **more: Any) -> Ran:
        return await fedtwin("learn", *words, "--at", "client.toml", cwd=self.folder, **more)

    async def all(self, *commands: str) -> list[Ran]:
        """Each command (`ran: ...` at ran's agent) in one process: starting one costs more than it does."""
        asked = [
            ["learn", *shlex.split(text.removeprefix("ran: ")), "--at",
             str(self.socket) if text.startswith("ran: ") else "client.toml"]
            for text in commands
        ]  # fmt: skip
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", ONE_PROCESS, cwd=self.folder, env={**os.environ, "NO_COLOR": "1"},
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        async with asyncio.timeout(200):
            out, _ = await process.communicate(json.dumps(asked).encode())
        return [Ran(*each) for each in json.loads(out)]


class OwnTwin:
    """What the socket of ran's agent needs for learning."""

    domain = "ran"
    operator = "ran.example"

    def __init__(self, learning: Any) -> None:
        self.learning = learning
        self.events = EventLog()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Place]:
    folder = tmp_path_factory.mktemp("learn")
    made = LearningFederation(folder / "made", learning=BrokerLearningConfig(explain=True))
    issued = made.made.pki.identity(EXCHANGE, Role.USER, "ann")
    (folder / "task.json").write_bytes(TASK.to_json())
    (folder / "long.json").write_bytes(replace(TASK, model="long", rounds=200).to_json())
    async with made.running() as broker:
        (folder / "client.toml").write_text(
            f'address = "{local(broker)}"\nidentity = "{BROKER}"\nroot = "{made.made.pki.roots[EXCHANGE]}"\n'
            f'certificate = "{issued.certificate}"\nkey = "{issued.key}"\n'
        )
        socket = folder / "state" / "agent.sock"
        twin: Any = OwnTwin(made.domains["ran"].learning)
        async with serve_local(twin, socket):
            place = Place(made, broker, folder, socket)
            place.first = await place.run("start", "task.json", "--seed", "7")
            assert place.first.status == 0, place.first.err
            yield place


async def test_a_training_tells_of_its_rounds_and_of_what_came_of_it(place: Place) -> None:
    lines = [line for line in place.first.err.splitlines() if line.startswith("round ")]
    assert [line.split()[1] for line in lines] == ["0/2", "1/2", "2/2"]
    assert all(f"{domain} " in lines[1] for domain in ("edge", "ran", "transport"))
    assert "demand: a forecaster of carried_rate of links, steps of 1 min" in place.first.out
    for words in ("done", "demand 1: ran uses it", "Its card: fedtwin learn card demand 1"):
        assert words in place.first.out


async def test_a_card_tells_of_rivals_and_of_who_gained_what(place: Place) -> None:
    card, whole = await place.all("card demand", "card demand --json")

    assert set(json.loads(whole.out)["card"]["gains"]) == {"edge", "ran", "transport"}
    for words in ("demand 1  in service", "naive: ", "gain over learning alone: edge "):
        assert words in card.out


async def test_a_detached_training_is_followed_listed_and_stopped(place: Place) -> None:
    (begun,) = await place.all("start long.json --detach")
    identity = begun.out.split()[1]
    shown, stopped, followed, newest, listed, documents = await place.all(
        f"status {identity[:6]} --json",
        f"stop {identity}",
        f"status {identity} --follow",
        "status",
        "history",
        "history --json",
    )

    assert f"fedtwin learn status {identity[:8]} --follow" in begun.out
    run = json.loads(shown.out)
    assert (run["id"], run["state"] in {"waiting", "running"}) == (identity, True)
    assert (stopped.status, f"{identity[:8]}  stopped" in followed.out) == (0, True)
    assert followed.out == newest.out
    assert "long" in listed.out.splitlines()[1]
    assert {each["task"]["model"] for each in json.loads(documents.out)["runs"]} >= {"demand", "long"}


async def test_ctrl_c_stops_the_training_that_a_command_began(place: Place) -> None:
    begun = asyncio.Event()

    async def sees(client: LearningClient) -> None:
        while not begun.is_set():
            await asyncio.sleep(0.2)
            if any(run.round >= 1 and run.task.model == "cut" for run in await client.runs()):
                begun.set()

    async with place.made.client(place.broker) as client, asyncio.TaskGroup() as tasks:
        tasks.create_task(sees(client))
        ran = await place.run("start", "long.json", "--model", "cut", interrupt=begun)
    (status,) = await place.all("status --follow --json")

    assert ran.status == 130
    assert "round 1/200" in ran.err
    assert "stopped" in ran.err
    document = json.loads(status.out)
    assert (document["task"]["model"], document["state"], document["version"]) == ("cut", "stopped", 0)


async def test_models_are_listed_and_put_back(place: Place) -> None:
    again, card, listed, documents, own, rolled, document, version = await place.all(
        "start task.json --seed 8 --no-gains --domains 'ran, edge' --json",
        "card demand 2 --json",
        "models demand",
        "models --json",
        "ran: models demand --json",
        "rollback demand 1",
        "rollback demand 1 --json",
        "rollback demand 9",
    )
    (nothing,) = await place.all("models nothing")

    run = json.loads(again.out)
    assert (run["state"], set(run["domains"]), run["version"]) == ("done", {"edge", "ran"}, 2)
    assert run["created_at"].endswith("Z")
    assert (run["task"]["seed"], run["task"]["explain"]) == (8, False)
    assert json.loads(card.out)["card"]["gains"] == {}
    rows = [line.split()[:2] for line in listed.out.splitlines() if line.startswith("demand ")]
    assert rows[:2] == [["demand", "2"], ["demand", "1"]]
    assert all(row[1].endswith(":") for row in rows[2:])  # why each is in service, or not
    assert {each["card"]["model"] for each in json.loads(documents.out)["models"]} >= {"demand"}
    assert {each["card"]["version"] for each in json.loads(own.out)["models"]} == {1, 2}
    assert rolled.out.splitlines()[0] == "demand 1 is in service"
    assert "  ran: ok" in rolled.out
    told = json.loads(document.out)
    assert (told["in_service"], {each["outcome"] for each in told["outcomes"]}) == (True, {"ok"})
    assert (nothing.status, "no model 'nothing' is kept here" in nothing.err) == (1, True)
    assert version.err == "error: no version 9 of model 'demand' is kept; there are 1, 2\n"


async def test_only_an_agent_foretells(place: Place) -> None:
    at_broker, shown, whole, nobody = await place.all(
        "forecast demand",
        "ran: forecast demand",
        "ran: forecast demand --json",
        "ran: forecast demand --element nobody",
    )

    assert (at_broker.status, "ask the domain's agent, on its socket" in at_broker.err) == (1, True)
    document = json.loads(whole.out)
    element = document["forecasts"][0]["element"]
    assert element in shown.out
    assert "Mbit/s" in shown.out
    assert len(document["forecasts"]) == 4
    assert all(rows == sorted(rows) for each in document["forecasts"] for rows in each["values"])
    assert nobody.err.startswith("error: ran: nothing is known of 'nobody'")


async def test_forecasts_are_looked_back_on(place: Place) -> None:
    element = sorted(place.made.domains["ran"].network.links)[0]
    shown, whole, nobody = await place.all(
        f"ran: forecast demand --hindsight --element {element}",
        "ran: forecast demand --hindsight --json",
        "ran: forecast demand --hindsight --element nobody",
    )

    documents = json.loads(whole.out)["forecasts"]
    assert len(documents) == 4
    first = next(each for each in documents if each["element"] == element)
    assert len(first["times"]) == len(first["truth"]) == len(first["values"]) == 48
    pairs = zip(first["values"], first["truth"], strict=True)
    inside = np.mean([row[0] <= true <= row[-1] for row, true in pairs])
    assert first["judged"]["inside"] == pytest.approx(inside)
    assert first["judged"]["expected"] == pytest.approx(0.9)
    assert f"{inside:.0%}" in shown.out
    assert "90% should lie inside the band" in " ".join(shown.out.split())
    assert "┌────" in shown.out
    assert nobody.err.startswith("error: ran: nothing is known of 'nobody'")


async def test_models_are_exported(place: Place) -> None:
    keep_generator(place)
    done, again, made, own, no_generator, no_rows, broker, unowned = await place.all(
        "export demand 1 --out model",
        "export demand --out model",
        "ran: export telemetry --synthetic 30 --elements 2 --seed 3 --recording --out synthetic --json",
        "ran: export telemetry --synthetic 300 --own --out own",
        "export demand --synthetic 30 --out none",
        "export demand --recording --out none",
        "export demand --synthetic 30 --own --out none",
        "export demand --own --out none",
    )

    assert done.out == "model: demand 1, card.json and arrays.npz\n"
    card = json.loads((place.folder / "model" / "card.json").read_text())
    with np.load(place.folder / "model" / "arrays.npz") as arrays:
        assert {each["name"] for each in card["arrays"]} == set(arrays)
    assert (again.status, again.err) == (1, "error: model: exists already; name a new folder\n")
    assert made.status == 0, made.err
    assert json.loads(made.out)["rows"] == 60
    rows = (place.folder / "synthetic" / "data.csv").read_text().splitlines()
    assert (len(rows), all(",synthetic," in row for row in rows[1:])) == (61, True)
    assert (place.folder / "synthetic" / "recording.jsonl.gz").exists()
    assert own.status == 0, own.err
    assert statistics(place, "synthetic") == ("mean over the contributors", True)
    assert statistics(place, "own") == ("of the exporting domain", False)
    assert "model 'demand' is a forecaster: only a gan makes synthetic series" in no_generator.err
    assert (no_rows.status, "add --synthetic ROWS" in no_rows.err) == (2, True)
    assert "the broker has no history of its own" in broker.err
    assert (unowned.status, "add --synthetic ROWS" in unowned.err) == (2, True)
    assert not (place.folder / "none").exists()


def statistics(place: Place, folder: str) -> tuple[str, bool]:
    """Whose the card says that they are, and whether values are as large as in the delivered model only."""
    card = json.loads((place.folder / folder / "card.json").read_text())
    rows = (place.folder / folder / "data.csv").read_text().splitlines()[1:]
    return card["statistics"], min(float(row.rpartition(",")[2]) for row in rows) > 5e5


def keep_generator(place: Place) -> None:
    """Give ran a generator, as a delivery would: without hidden units, and so without training."""
    task = replace(
        TASK, model="telemetry", kind=Kind.GAN, settings={"scales": 3, "clock": "none", "regimes": 1}
    )
    rng = np.random.default_rng(1)
    arrays = {
        "generator.direct": rng.normal(0, 1, (1, 3, 1)),
        "regimes.centres": np.zeros((1, 1)),
        "holding": np.zeros(1),
        "regimes.transitions": np.ones((1, 1)),
        "generator.in": np.zeros((4, 4)),
        "generator.in_bias": np.zeros(4),
        "generator.mid": np.zeros((4, 4)),
        "generator.mid_bias": np.zeros(4),
        "generator.out": np.zeros((4, 1)),
        "generator.out_bias": np.zeros(1),
    }
    arrays = {name: array.astype(np.float32) for name, array in arrays.items()}
    arrays |= packed([Marginals.fit(rng.uniform(1e6, 2e6, (1, 400, 1)))])
    data = encode_arrays(arrays)
    store = place.made.domains["ran"].learning.store
    store.put(Card("telemetry", 1, task, forms_of(arrays), 1, "r", 1, ("ran",), digest=digest_of(data)), data)
    store.serve("telemetry", 1)


async def test_what_is_not_there_is_one_clear_message(place: Place) -> None:
    unknown, run, agent = await place.all("card nothing", "status beef", "ran: start task.json")

    assert [ran.status for ran in (unknown, run, agent)] == [1] * 3
    assert unknown.err == (
        "error: no model 'nothing' is kept here; `fedtwin learn models` lists those that are\n"
    )
    assert "'beef'" in run.err
    assert "`fedtwin learn history`" in run.err
    assert "trainings are begun and seen at the broker; name its client profile with --at" in agent.err
