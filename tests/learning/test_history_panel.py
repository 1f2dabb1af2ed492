"""A domain's recorded history as a panel: which leaf is which KPI, in which unit, on which grid of time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from domain_twin.datastore.history import History
from domain_twin.errors import ConfigError, ContractError, NotFound
from domain_twin.learning.history import check_terms, kpi_of, offered, panel, unit_factor
from domain_twin.learning.task import Feature, Kind, Profile, Task, Window
from domain_twin.mapping.mapper import Mapper
from domain_twin.model import Change, Delta, Network, Origin, Sample, Value, Version

MINUTE = 60_000_000_000
END = 1_790_000_000_000_000_000 // MINUTE * MINUTE
PERFORMANCE = "/fedtwin-performance:performance"
GNB = "/fedtwin-ran:gnb"
CELL = f"{GNB}/NRCellDU[cellLocalId='2']"
FUNCTION = "/fedtwin-core:network-function"
HOST = "/fedtwin-edge:edge-host"
NETWORK = "/ietf-network:networks/network[network-id='n']"
LINK = "urn:l'1"  # a quote, as the path's syntax needs it
LINK_LEAF = f'{PERFORMANCE}/link[link-id="{LINK}"]'

ATTRIBUTES: dict[str, dict[str, Value]] = {
    "r1": {
        f'{NETWORK}/ietf-network-topology:link[link-id="{LINK}"]/link-id': LINK,
        f"{PERFORMANCE}/link[link-id='urn:l2']/link-id": "urn:l2",
        f"{NETWORK}/ietf-network-topology:link[link-id='urn:l2']/link-id": "urn:l2",
        f"{NETWORK}/node[node-id='n1']/ietf-network-topology:termination-point[tp-id='t1']"
        "/fedtwin-inter-domain:inter-domain/inter-domain-link-id": "urn:idl",
    },
    "gnb-1": {f"{CELL}/cell-id": "urn:cell", f"{CELL}/cellLocalId": 2, f"{GNB}/node-id": "n"},
    "upf-1": {f"{FUNCTION}/function-id": "urn:upf"},
    "host-1": {f"{HOST}/host-id": "urn:host"},
}


class Recorder:
    """Records what devices say, a minute apart, in a history and in the network."""

    def __init__(self, history: History) -> None:
        self.history = history
        self._mapper = Mapper("d")
        self._sequence = 0

    @property
    def network(self) -> Network:
        return self._mapper.network()

    def say(self, device: str, path: str, value: Value, at: int, origin: Origin = Origin.MEASURED) -> None:
        self._sequence += 1
        change = Change(device, path, value, at, at, origin)
        delta = Delta(Version("e", self._sequence - 1), Version("e", self._sequence, at), (change,))
        self.history.append(delta)
        self._mapper.apply(delta)

    def figures(self, device: str, path: str, values: Callable[[int], float], steps: int = 60) -> None:
        for step in range(steps):
            self.say(device, path, values(step), END - (steps - step) * MINUTE)


@pytest.fixture
async def recorder(tmp_path: Path) -> AsyncIterator[Recorder]:
    history = await History.open(
        tmp_path, raw_days=36_500.0, retention_days=36_500.0, clock=lambda: END, flush_s=60.0
    )
    made = Recorder(history)
    for device, leaves in ATTRIBUTES.items():
        for path, value in leaves.items():
            made.say(device, path, value, END - 120 * MINUTE)
    yield made
    await history.close()


def task(kind: str = "link", *features: Feature, **more: object) -> Task:
    settings: dict[str, object] = {"lags": 3, "window": Window(length_s=3600.0), **more}
    return Task("m", element_kind=kind, features=features or (UTILISATION,), **settings)  # type: ignore[arg-type]


UTILISATION = Feature("ndt:utilisation", "1")

LEAVES = {
    "link": ("r1", f"{LINK_LEAF}/utilisation", LINK),
    "border": ("r1", f"{PERFORMANCE}/link[link-id='urn:idl']/utilisation", "urn:idl"),
    "cell": ("gnb-1", f"{CELL}/performance/utilisation", "urn:cell"),
    "network-function": ("upf-1", f"{FUNCTION}/performance/utilisation", "urn:upf"),
    "host": ("host-1", f"{HOST}/performance/utilisation", "urn:host"),
}


async def test_the_figures_of_each_kind_of_element_are_found(recorder: Recorder) -> None:
    for place, (device, path, _) in enumerate(LEAVES.values()):
        recorder.figures(device, path, lambda step, place=place: place + step / 100)  # type: ignore[misc]
    for place, (kind, (_, _, element)) in enumerate(LEAVES.items()):
        made = await panel(recorder.history, recorder.network, task(kind), END)

        assert made.elements == (element,)
        assert made.values[0, :, 0] == pytest.approx(place + np.arange(60) / 100)
        assert (made.start, made.step_s, made.holdout_from) == (END - 60 * MINUTE, 60.0, 48)


async def test_figures_come_in_the_units_that_the_task_asks_for(recorder: Recorder) -> None:
    recorder.figures("r1", f"{LINK_LEAF}/one-way-delay", lambda step: 1000.0 + step)  # microseconds
    recorder.figures("r1", f"{LINK_LEAF}/carried-rate", lambda step: 500.0)
    rate = Feature("https://fedtwin.example/ns/ndt#carried_rate", "Gbit/s")
    wanted = (Feature("ndt:one_way_delay", "s"), rate)

    made = await panel(recorder.history, recorder.network, task("link", *wanted), END)

    assert made.features == tuple(feature.kpi for feature in wanted)
    assert made.values[0, :, 0] == pytest.approx((1000.0 + np.arange(60)) * 1e-6)
    assert made.values[0, :, 1] == pytest.approx(0.5)


async def test_means_over_longer_steps_are_of_the_value_in_force(recorder: Recorder) -> None:
    recorder.figures("r1", f"{LINK_LEAF}/utilisation", lambda step: step % 2)

    made = await panel(recorder.history, recorder.network, task("link", step_s=300.0), END)

    assert made.steps in (11, 12)  # the grid lies on multiples of the step
    assert made.start % (300 * 10**9) == 0
    inner = made.values[0, 1:-1, 0]
    assert set(np.round(inner, 6)) <= {0.4, 0.6}


async def test_what_was_not_measured_is_a_gap(recorder: Recorder) -> None:
    path = f"{LINK_LEAF}/utilisation"
    for step in range(60):
        origin = {1: Origin.IMPUTED, 2: Origin.SYNTHETIC}.get(step // 10, Origin.MEASURED)
        recorder.say("r1", path, step / 100, END - (60 - step) * MINUTE, origin)
    recorder.history.gap("r1", END - 20 * MINUTE, END - 15 * MINUTE, "not heard")

    made = await panel(recorder.history, recorder.network, task(), END)

    known = np.isfinite(made.values[0, :, 0])
    assert np.flatnonzero(~known).tolist() == [*range(10, 30), *range(40, 45)]


async def test_elements_and_times_of_which_nothing_is_known_are_left_out(recorder: Recorder) -> None:
    recorder.figures("r1", f"{LINK_LEAF}/utilisation", lambda step: 0.5, steps=30)

    made = await panel(recorder.history, recorder.network, task(), END)

    assert len(recorder.network.links) == 2
    assert made.elements == (LINK,)
    assert (made.steps, made.holdout_from) == (30, 24)  # the holdout is a part of what is known


async def test_noised_statistics_are_of_the_whole_window_whatever_is_known(recorder: Recorder) -> None:
    recorder.figures("r1", f"{LINK_LEAF}/utilisation", lambda step: step / 100)
    noised = replace(task(), kind=Kind.GAN, profile=Profile.PRIVATE, window=Window(7200.0))

    made = await panel(recorder.history, recorder.network, noised, END)

    assert (made.elements, made.steps, made.holdout_from) == (("urn:l'1", "urn:l2"), 120, 120)
    assert np.isfinite(made.values).sum(axis=(1, 2)).tolist() == [60, 0]


async def test_where_there_is_no_data_it_says_what_is_missing(recorder: Recorder) -> None:
    recorder.figures("r1", f"{LINK_LEAF}/utilisation", lambda step: 0.5, steps=4)
    wanted = (UTILISATION, Feature("ndt:loss_ratio", "1"))

    with pytest.raises(NotFound, match="no link has ndt:loss_ratio recorded"):
        await panel(recorder.history, recorder.network, task("link", *wanted), END)
    with pytest.raises(NotFound, match="4 steps of 60 s are recorded, and 5 are the least"):
        await panel(recorder.history, recorder.network, task(), END)
    with pytest.raises(NotFound, match="d has no host to learn from"):
        await panel(recorder.history, replace(recorder.network, hosts={}), task("host"), END)
    long = task(step_s=0.001, window=Window(length_s=86_400.0))
    with pytest.raises(ContractError, match="take a longer step or a shorter window"):
        await panel(recorder.history, recorder.network, long, END)


async def test_a_window_in_the_future_of_this_domains_clock_is_refused(recorder: Recorder) -> None:
    recorder.figures("r1", f"{LINK_LEAF}/utilisation", lambda step: 0.5)
    window = Window(start=END - 60 * MINUTE, end=END)

    with pytest.raises(ContractError, match="600 s after this domain's now; set the clocks"):
        await panel(recorder.history, recorder.network, task(window=window), END - 10 * MINUTE)
    made = await panel(recorder.history, recorder.network, task(window=window), END + 3600 * 10**9)
    assert made.start == window.start


@pytest.mark.parametrize(
    ("feature", "problem"),
    [
        (Feature("ndt:beauty", "1"), "no such KPI"),
        (Feature("utilisation", "1"), "no such KPI; there are ndt:one_way_delay"),
        (Feature("ndt:utilisation", "ms"), "is no unit of it; accepted are 1, %"),
    ],
)
def test_terms_that_mean_nothing_are_named(feature: Feature, problem: str) -> None:
    with pytest.raises(ContractError, match=problem):
        check_terms(task("link", feature))


def test_a_kpi_that_elements_of_this_kind_never_have_is_named() -> None:
    with pytest.raises(ConfigError, match="a link has no such KPI; it has ndt:one_way_delay"):
        check_terms(task("link", Feature("ndt:mcs", "1")))
    with pytest.raises(ContractError, match="nothing is learned from such; there are link"):
        check_terms(task("planet"))


def test_what_is_offered_can_be_asked_for() -> None:
    for kind in LEAVES:
        found = offered(kind)
        assert {kpi_of(feature) for feature in found} >= {"utilisation", "one_way_delay"}
        assert {unit_factor(feature) for feature in found} == {1.0}
        check_terms(task(kind, *found))


class Counted:
    """A history that knows how many samples one question had at most."""

    def __init__(self, history: History) -> None:
        self.most = 0
        self._history = history

    async def series_of(self, *asked: Any) -> dict[tuple[str, str], list[Sample]]:
        found = await self._history.series_of(*asked)
        self.most = max(self.most, sum(map(len, found.values())))
        return found


async def test_a_long_window_is_read_in_parts_and_is_the_same(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, link in enumerate((LINK_LEAF, f"{PERFORMANCE}/link[link-id='urn:l2']")):
        for step in range(0, 60, 7):  # a value is in force until the next one
            recorder.say("r1", f"{link}/utilisation", step / 100 + number, END - (60 - step) * MINUTE)
    recorder.history.gap("r1", END - 30 * MINUTE, END - 25 * MINUTE, "not heard")
    whole = await panel(recorder.history, recorder.network, task(), END)
    for at_once in (9, 60, 120):
        monkeypatch.setattr("domain_twin.learning.history._SAMPLES_AT_ONCE", at_once)
        counted = Counted(recorder.history)

        made = await panel(counted, recorder.network, task(), END)  # type: ignore[arg-type]

        assert made.elements == whole.elements
        np.testing.assert_array_equal(made.values, whole.values)
        assert at_once / 2 < counted.most <= at_once
    assert np.isfinite(whole.values).sum() < whole.values.size
