"""Models in service on what devices say: alarms with evidence, and values that never pass for measured."""

from __future__ import annotations

import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from domain_twin.agent.learning import Learning
from domain_twin.agent.pipeline import Pipeline
from domain_twin.agent.watching import SOURCE, Watching
from domain_twin.alarms.desk import AlarmDesk
from domain_twin.alarms.store import AlarmStore
from domain_twin.config import LearningConfig
from domain_twin.datastore.history import History
from domain_twin.datastore.live import LiveStore
from domain_twin.learning.arrays import digest_of, encode_arrays, forms_of
from domain_twin.learning.learner import learner
from domain_twin.learning.task import Card, Feature, Kind, Task, Window
from domain_twin.mapping.mapper import Mapper
from domain_twin.model import (
    Alarm,
    Connection,
    DeviceStatus,
    Link,
    Network,
    Origin,
    Sync,
    Update,
    UpdateBatch,
    Version,
)
from domain_twin.yang.quarantine import Typer
from domain_twin.yang.schema import SchemaSet

MINUTE = 60_000_000_000
BEGIN = 1_790_000_000_000_000_000 // MINUTE * MINUTE
STEPS = 240
LINKS = {"r1": "urn:l:1", "r2": "urn:l:2"}
LEAVES = ("one-way-delay", "utilisation", "carried-rate")
DETECTOR = Task(
    "faults",
    kind=Kind.DETECTOR,
    features=(
        Feature("ndt:one_way_delay", "ms"),
        Feature("ndt:utilisation", "1"),
        Feature("ndt:carried_rate", "Gbit/s"),
    ),
    lags=8,
    window=Window(length_s=STEPS * 60.0),
    settings={"smooth": 2},
)
VAE = replace(DETECTOR, model="complete", kind=Kind.VAE, settings={"hidden": 4, "latent": 2})


def leaf(device: str, name: str) -> str:
    return f"/fedtwin-performance:performance/link[link-id='{LINKS[device]}']/{name}"


LEARNING = "domain_twin.learning"
HEAVY = (
    "jax",
    "optax",
    f"{LEARNING}.detect",
    f"{LEARNING}.gaps",
    f"{LEARNING}.models.detector",
    f"{LEARNING}.models.vae",
)
"""What runs others' models, and is imported nowhere but in the process that uses them."""


@contextmanager
def not_in_the_agent() -> Iterator[None]:
    """Have each import of these fail here."""
    before = {name: sys.modules.get(name) for name in HEAVY}
    sys.modules.update(dict.fromkeys(HEAVY))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name, module in before.items():
            sys.modules.pop(name)
            if module is not None:
                sys.modules[name] = module


@dataclass
class Domain:
    """A twin's pipeline, history, models and alarms, with a clock of its own."""

    pipeline: Pipeline
    history: History
    learning: Learning
    watching: Watching
    told: list[tuple[Alarm, str]]
    clock: list[int]
    figures: Callable[[str, int], tuple[float, float, float]]

    def live(self, steps: int, *, devices: tuple[str, ...] = ("r1", "r2"), delay: float = 0.0) -> None:
        """Let minutes pass in which these devices report; `delay` more on r1."""
        for _ in range(steps):
            self.clock[0] += MINUTE
            now = self.clock[0]
            for device in devices:
                values = list(self.figures(device, now))
                values[0] += delay if device == "r1" else 0.0
                updates = tuple(
                    Update(device, leaf(device, name), f"{value:.3f}", now)
                    for name, value in zip(LEAVES, values, strict=True)
                )
                self.pipeline.ingest(UpdateBatch(device, now, updates))

    async def look(self, task: Task) -> None:
        self.watching._due.clear()
        with not_in_the_agent():
            await self.watching.look(self.learning.store.get(task.model).card)
        self.watching._report()

    async def serve(self, task: Task) -> None:
        """Put a model in service that is made of what this domain's history says."""
        model = learner(task)
        arrays = model.initial(np.random.default_rng(0))
        panel = await self.learning.newest(task)
        arrays = model.standardised(arrays, [model.statistics(panel)])  # type: ignore[attr-defined]
        data = encode_arrays(arrays)
        card = Card(task.model, 1, task, forms_of(arrays), 1, "run", 1, ("ran",), digest=digest_of(data))
        self.learning.store.put(card, data)
        self.learning.store.serve(task.model, 1, "better here")

    def values(self, device: str) -> dict[str, tuple[float, Origin]]:
        return {
            name: (float(found.value), found.origin)  # type: ignore[arg-type]
            for name in LEAVES
            for found in self.pipeline.store.get(leaf(device, name), device).values()
        }


@pytest.fixture
async def domain(tmp_path: Path) -> AsyncIterator[Domain]:
    clock = [BEGIN]
    history = await History.open(
        tmp_path / "history", raw_days=36_500.0, retention_days=36_500.0, clock=lambda: clock[0]
    )
    links = {name: Link(name, device, "n1", "t1", "n2", "t2") for device, name in LINKS.items()}
    network = Network("ran", Version("e", 1), {}, {}, links, {}, {}, {})
    pipeline = Pipeline(
        devices=list(LINKS),
        typer=Typer(SchemaSet.load(["fedtwin-performance"])),
        store=LiveStore(),
        mapper=Mapper("ran"),
        history=history,
        on_change=lambda *_: None,
    )
    config = LearningConfig()
    learning = Learning(
        config,
        tmp_path / "learning",
        domain="ran",
        network=lambda: network,
        history=history,
        clock=lambda: clock[0],
    )
    told: list[tuple[Alarm, str]] = []
    desk = AlarmDesk(AlarmStore(tmp_path / "alarms.sqlite"), [], lambda *news: told.append(news))
    watching = Watching(
        config,
        domain="ran",
        learning=learning,
        network=lambda: network,
        pipe=pipeline,
        alarms=desk,
        clock=lambda: clock[0],
    )
    rng = np.random.default_rng(0)

    def figures(device: str, now: int) -> tuple[float, float, float]:
        load = 0.5 + 0.2 * np.sin(now / MINUTE / 11) + rng.normal(0, 0.02)
        return 4 + rng.normal(0, 0.1), float(load), 1000 * float(load) + rng.normal(0, 3)

    made = Domain(pipeline, history, learning, watching, told, clock, figures)
    made.live(STEPS)
    yield made
    await learning.aclose()
    await history.close()


def lose(domain: Domain, device: str) -> None:
    for connection in (Connection.SYNCHRONISED, Connection.STALE):
        domain.pipeline.set_status(DeviceStatus(device, "netconf", connection))


async def test_deviation_becomes_an_alarm_that_outlives_fits_and_processes(domain: Domain) -> None:
    await domain.serve(DETECTOR)
    await domain.look(DETECTOR)
    before = domain.watching.alarms.alarms()
    # Act
    domain.live(6, delay=3.0)
    await domain.look(DETECTOR)
    # Assert
    (alarm,) = [one for one in domain.watching.alarms.alarms() if one not in before]
    assert (alarm.source, alarm.element, alarm.key.qualifier) == (
        SOURCE,
        "urn:l:1",
        "learning.deviates:faults",
    )
    assert "urn:l:1 deviates suddenly since" in alarm.text
    assert "ndt:one_way_delay is " in alarm.text
    assert " ms would be usual" in alarm.text
    assert abs(alarm.raised_at - domain.clock[0]) <= 8 * MINUTE
    assert any(one.id == alarm.id and text.startswith("alarm m") for one, text in domain.told)
    # Act: it is fitted anew.
    used = domain.watching._used["faults"]
    stood = [one for one in used.standing.detections if one.element == "urn:l:1"]
    used.at -= 10 * domain.watching.config.refit_s
    await domain.look(DETECTOR)
    # Assert
    fresh = domain.watching._used["faults"]
    assert fresh is not used
    assert stood
    assert [one for one in fresh.standing.detections if one.element == "urn:l:1"] == stood
    # Act: a process of its own, which ends, goes on from what stood.
    learning = domain.learning
    detections = learning.detections
    learning.serving._kill()
    domain.live(1, delay=3.0)
    await domain.look(DETECTOR)
    # Assert
    assert (learning.serving.started, learning.process.started) == (2, 0)
    again = domain.watching._used["faults"]
    assert again is not fresh
    assert [one for one in again.standing.detections if one.element == "urn:l:1"] == stood
    assert learning.detections == detections
    assert not domain.watching.findings()
    assert again.standing.seen > fresh.standing.seen
    assert learning.serving.stay_s == 0
    await domain.watching.look_all()
    assert learning.serving.stay_s == 120  # from step to step
    # Act: all is well again.
    domain.live(25)
    await domain.look(DETECTOR)
    # Assert
    assert alarm.id not in [one.id for one in domain.watching.alarms.alarms()]
    # Act: it is taken out of service.
    learning.store._service["faults"] = 0
    await domain.watching.look_all()
    # Assert
    assert not domain.watching._used
    assert list(learning.serving._forgotten) == ["faults"]
    assert learning.serving.stay_s == 0


async def test_imputed_values_stand_in_marked_until_the_device_is_heard(domain: Domain) -> None:
    await domain.serve(VAE)
    domain.live(1)
    lose(domain, "r2")
    held = domain.values("r2")
    # Act
    domain.live(4, devices=("r1",))
    await domain.look(VAE)
    # Assert
    imputed = domain.values("r2")
    assert {origin for _, origin in imputed.values()} == {Origin.IMPUTED}
    assert domain.learning.imputed >= len(imputed)
    assert {origin for _, origin in domain.values("r1").values()} == {Origin.MEASURED}
    assert imputed["utilisation"][0] != held["utilisation"][0]
    assert 0.2 < imputed["utilisation"][0] < 0.8
    assert "r2" in domain.pipeline.store.stale_devices()
    freshness = domain.pipeline.store.freshness("r2")
    assert freshness is not None
    assert freshness.received_at < domain.clock[0] - 3 * MINUTE
    # Act: what the device says next is of an earlier time than what was imputed.
    now = domain.clock[0] + 1
    update = Update("r2", leaf("r2", "utilisation"), "0.9", now - MINUTE // 4)
    domain.pipeline.ingest(UpdateBatch("r2", now, (update,)))
    # Assert
    assert domain.values("r2")["utilisation"] == (0.9, Origin.MEASURED)
    # Act: it repeats no more than that.
    domain.pipeline.ingest(UpdateBatch("r2", now, sync=Sync.BEGIN))
    said = Update("r2", leaf("r2", "one-way-delay"), "4.0", now)
    domain.pipeline.ingest(UpdateBatch("r2", now, (said,)))
    domain.pipeline.ingest(UpdateBatch("r2", now, sync=Sync.END))
    # Assert: what was imputed goes with its leaf.
    assert domain.values("r2") == {"one-way-delay": (4.0, Origin.MEASURED)}


async def test_imputed_values_are_in_history_as_such_and_are_never_learned_from(domain: Domain) -> None:
    await domain.serve(VAE)
    domain.live(1)
    lose(domain, "r2")
    lost_at = domain.clock[0]
    for _ in range(3):
        domain.live(1, devices=("r1",))
        await domain.look(VAE)
    domain.live(1, devices=("r1",))
    domain.history.gap("r2", lost_at, domain.clock[0], "the device was not heard")
    # Act
    path = leaf("r2", "utilisation")
    samples = await domain.history.series("r2", path, lost_at, domain.clock[0], MINUTE)
    changes = [one async for one in domain.history.changes(lost_at, domain.clock[0], path, "r2")]
    panel = await domain.learning.newest(DETECTOR)
    # Assert
    assert samples
    assert {sample.origin for sample in samples} == {Origin.IMPUTED}
    assert {change.origin for change in changes} == {Origin.IMPUTED}
    place = (lost_at - panel.start) // MINUTE
    assert np.isnan(panel.values[panel.elements.index("urn:l:2"), place + 1 :]).all()
    assert np.isfinite(panel.values[panel.elements.index("urn:l:1"), place + 1 :]).any()


async def test_nothing_is_imputed_where_the_operator_does_not_want_it(domain: Domain) -> None:
    domain.watching.config = LearningConfig(impute=False)
    await domain.serve(VAE)
    lose(domain, "r2")
    domain.live(3, devices=("r1",))
    # Act
    await domain.look(VAE)
    # Assert
    assert {origin for _, origin in domain.values("r2").values()} == {Origin.MEASURED}


async def test_model_that_cannot_be_used_is_said_once_and_ends_nothing(domain: Domain) -> None:
    await domain.serve(DETECTOR)
    (folder,) = (domain.learning.store.folder / "faults").glob("1")
    (folder / "arrays.npz").write_bytes(b"cut in half")
    # Act
    card = domain.learning.store.get("faults").card
    await domain.watching.look(card)
    domain.watching._report()
    # Assert
    (finding,) = domain.watching.findings()
    assert finding.code == "learning.unused"
    assert "damaged" in finding.message
    assert [one.key.qualifier for one in domain.watching.alarms.alarms()] == ["learning.unused"]
    due = domain.watching._due["faults"]
    assert due[1] > time.monotonic() + 30
    await domain.watching.look(card)  # nor is it tried again at once
    assert domain.watching._due["faults"] == due
    await domain.watching.look_all()  # nothing is in service now
    assert not domain.watching.findings()
    assert not domain.watching.alarms.alarms()
