"""What is expected at a time to come: by the forecaster in service, else as on past days, else a refusal."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from learning_session_parts import END, MINUTE, TASK, LearningDomain, waves
from what_if_parts import networks

from domain_twin.agent.expected import expected_loads
from domain_twin.errors import ConfigError, NotFound
from domain_twin.learning.arrays import digest_of, encode_arrays, forms_of
from domain_twin.learning.models.forecaster import make
from domain_twin.learning.task import Card, Feature, Task, Window
from domain_twin.simulation.twin.traffic import Loads

NETWORK = networks()["ran"]
LINKS = sorted(NETWORK.links)
AHEAD = replace(TASK, horizons=(3, 1))
NOW = Loads(dict.fromkeys([*LINKS, "cell"], 50.0), {"upf": 1000.0}, assumptions=("as reported",))

Ask = Callable[[int], Awaitable[Loads]]


def keep(domain: LearningDomain, task: Task, *, created_at: int) -> None:
    """Give the domain an untrained forecaster, in service."""
    arrays = make(task).initial(np.random.default_rng(0))
    data = encode_arrays(arrays)
    card = Card(task.model, 1, task, forms_of(arrays), created_at, "r", 1, ("ran",), digest=digest_of(data))
    domain.learning.store.put(card, data)
    domain.learning.store.serve(task.model, 1)


@asynccontextmanager
async def asking(
    folder: Path, task: Task | None, steps: int = 240
) -> AsyncIterator[tuple[Ask, LearningDomain]]:
    """`ask(at)` in a domain whose history ends now and which has an untrained forecaster of `task`."""
    domain = LearningDomain(NETWORK, folder, 0)
    domain.steps = steps
    async with domain.working():
        if task is not None:
            keep(domain, task, created_at=1)
        yield (
            partial(
                expected_loads,
                now=END,
                network=NETWORK,
                loads=NOW,
                learned=domain.learning,
                between=partial(carried, steps),
            ),
            domain,
        )


async def carried(steps: int, start: int, end: int) -> Loads:
    """What the links carried between two times, as the domain's history has it."""
    first, last = (steps - (END - at) / MINUTE for at in (start, end))
    if first < 0 or last > steps:
        raise NotFound("no load is recorded then")
    means = waves(0, len(LINKS), steps)[:, int(first) : int(last)].mean(axis=1)
    return Loads(dict(zip(LINKS, map(float, means), strict=True)), {})


async def test_loads_are_those_that_the_forecaster_expects(tmp_path: Path) -> None:
    async with asking(tmp_path, AHEAD) as (ask, domain):
        forecast, _ = await domain.learning.forecast("demand")
        soon, between = await ask(END + MINUTE // 2), await ask(END + 2 * MINUTE)

    later, first = forecast.mean[:, 0, 0], forecast.mean[:, 0, 1]
    assert forecast.elements == tuple(LINKS)
    # Before the first horizon what it says, and between two on a straight line.
    np.testing.assert_allclose([soon.mbps[name] for name in LINKS], first)
    np.testing.assert_allclose([between.mbps[name] for name in LINKS], (first + later) / 2)
    assert (between.start, between.end) == (END + 2 * MINUTE, END + 2 * MINUTE)
    # What it says nothing of goes with the rest, so that all of it can be true at once.
    factor = sum(first) / (50.0 * len(LINKS))
    assert soon.mbps["cell"] == pytest.approx(50 * factor)
    assert soon.handled_pps == pytest.approx({"upf": 1000 * factor})
    assert soon.assumptions == (
        "as reported",
        "demand is what demand 1 expects for 2026-09-21T14:13:30Z of 4 elements, made from data up to"
        " 2026-09-21T14:13:00Z",
        f"2 elements of which it foretells nothing are taken to change as the others do on the whole:"
        f" x{factor:.3g}",
    )


async def test_of_several_models_the_newest_speaks_and_others_fill_in(tmp_path: Path) -> None:
    async with asking(tmp_path, replace(AHEAD, model="older")) as (ask, domain):
        keep(domain, replace(AHEAD, model="newer", lags=3), created_at=2)
        forecast, _ = await domain.learning.forecast("newer")
        loads = await ask(END + MINUTE)

    np.testing.assert_allclose([loads.mbps[name] for name in LINKS], forecast.mean[:, 0, 1])
    assert [said.partition(" expects")[0] for said in loads.assumptions[1:2]] == ["demand is what newer 1"]
    assert not any("older" in said for said in loads.assumptions)


async def test_units_and_utilisation_are_read_as_rates(tmp_path: Path) -> None:
    task = replace(AHEAD, features=(Feature("ndt:carried_rate", "Gbit/s"),))
    async with asking(tmp_path, task) as (ask, domain):
        forecast, _ = await domain.learning.forecast("demand")
        loads = await ask(END + MINUTE)

    assert loads.mbps[LINKS[0]] == pytest.approx(1000 * forecast.mean[0, 0, 1])
    assert 30 < loads.mbps[LINKS[0]] < 300


async def test_beyond_its_reach_it_is_as_on_past_days_and_says_so(tmp_path: Path) -> None:
    at, steps = END + 60 * MINUTE, 24 * 60
    then = await carried(steps, at - 1440 * MINUTE - MINUTE * 5 // 2, at - 1440 * MINUTE + MINUTE * 5 // 2)
    async with asking(tmp_path, replace(AHEAD, window=Window(7200.0)), steps) as (ask, _):
        loads = await ask(at)

    assert loads.mbps == then.mbps
    assert loads.assumptions[1] == (
        "demand at 2026-09-21T15:13:00Z is the mean of what was carried at that time of day on 1 of the last"
        " days: demand 1 reaches 2026-09-21T14:16:00Z"
    )


@pytest.mark.parametrize(
    ("task", "why"),
    [(AHEAD, r"demand 1 reaches 2026-\S+Z"), (None, "no forecaster of carried rates is in service here")],
)
async def test_what_nothing_reaches_is_refused_with_what_does(
    tmp_path: Path, task: Task | None, why: str
) -> None:
    async with asking(tmp_path, task) as (ask, _):
        with pytest.raises(NotFound, match=rf"cannot be foretold: {why}, and the history holds no day"):
            await ask(END + 60 * MINUTE)
        with pytest.raises(ConfigError, match="is not to come; for a time of the past use `at` or `window`"):
            await ask(END)
