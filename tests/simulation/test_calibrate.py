"""What is fitted from history: against packets whose laws are known, from a real history, and its file."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from twin_networks import kpis, link, network, small

from domain_twin.agent.expected import expected_loads
from domain_twin.datastore.history import History
from domain_twin.emulator.assemble import assemble, dimension
from domain_twin.emulator.binding import Binding
from domain_twin.emulator.device import pattern_of
from domain_twin.emulator.network import NetworkSpec
from domain_twin.emulator.plant import Plant
from domain_twin.emulator.topology import build_topology
from domain_twin.emulator.traffic import plan_flows
from domain_twin.errors import ConfigError, NotFound
from domain_twin.mapping.mapper import Mapper
from domain_twin.model import Change, Counters, Delta, Network, Origin, TerminationPoint, Version
from domain_twin.simulation.solve import Engine
from domain_twin.simulation.twin.calibrate import calibrate, fit
from domain_twin.simulation.twin.calibration import Calibration, ElementFit, Traffic, load, save
from domain_twin.simulation.twin.compile import compile_network
from domain_twin.simulation.twin.observed import Observations, Recorder, Series, observe
from domain_twin.simulation.twin.packet_size import packet_octets
from domain_twin.simulation.twin.traffic import Loads, loads_between, loads_over
from domain_twin.simulation.twin.uncertainty import flow_intervals

SECOND = 1_000_000_000
START = 1_800_000_000 * SECOND


# ---- a known queue -------------------------------------------------------------------------------------


def line(name: str, load: float, *, fixed_s: float, intervals: int = 200, **other: Any) -> Series:
    """A link of 1,000 Mbit/s as an M/M/1 queue of trains of 20 packets of 1,000 octets, with 1 % of noise."""
    rng = np.random.default_rng(sum(map(ord, name)))
    service = 20 * 1000 * 8 / 1e9
    loads = np.clip(load * (1 + 0.03 * rng.standard_normal(intervals)), 0.01, 0.95)
    noise = 1 + 0.01 * rng.standard_normal(intervals)
    columns: dict[str, Any] = {
        "at": np.arange(intervals, dtype=float),
        "delay_s": fixed_s + service / (1 - loads) * noise,
        "variance_s2": (service / (1 - loads)) ** 2 * noise,
        "loss": np.zeros(intervals),
        "utilisation": loads,
        "queue_octets": np.zeros(intervals),
        "rate": loads * 1000,
        "capacity_mbps": np.full(intervals, 1000.0),
        "servers": np.ones(intervals),
    }
    return Series(name, "link", **(columns | other))


def seen(*series: Series) -> Observations:
    return Observations("lab", START, START + 200 * SECOND, {item.element: item for item in series})


def test_variance_tells_the_train_and_the_mean_the_fixed_delay() -> None:
    calibration = fit(
        seen(*(line(f"l{n}", load, fixed_s=n / 1e3) for n, load in enumerate((0.15, 0.3, 0.45, 0.6))))
    )

    assert calibration.traffic.packets_per_train == pytest.approx(20, rel=0.03)
    assert calibration.traffic.size_scv == pytest.approx(1.0, abs=0.05)
    for n in range(4):
        assert calibration.elements[f"l{n}"].fixed_s == pytest.approx(n / 1e3, abs=5e-5)
        assert calibration.elements[f"l{n}"].mape < 2
        assert calibration.elements[f"l{n}"].variance_ratio == pytest.approx(1.0, abs=0.1)


def test_too_little_history_keeps_a_default_and_says_so() -> None:
    calibration = fit(seen(line("long", 0.3, fixed_s=0.001), line("short", 0.3, fixed_s=0.001, intervals=25)))

    assert calibration.elements["long"].note == ""
    assert "too few" in calibration.elements["short"].note
    assert math.isnan(calibration.elements["short"].fixed_s)
    assert any("short" in sentence for sentence in calibration.assumptions)


def test_a_history_that_is_too_short_for_every_element_is_refused() -> None:
    with pytest.raises(NotFound, match=r"holds 9 figures .* calibrate over 13 s or more"):
        fit(seen(line("l1", 0.3, fixed_s=0.001, intervals=9)))


def test_a_short_history_is_fitted_by_shorter_points_and_says_so() -> None:
    calibration = fit(seen(*(line(f"l{n}", 0.15 * n, fixed_s=n / 1e3, intervals=15) for n in (1, 2, 3))))

    assert calibration.traffic.packets_per_train == pytest.approx(20, rel=0.05)
    assert calibration.elements["l2"].fixed_s == pytest.approx(0.002, abs=1e-4)
    assert (calibration.elements["l2"].points, calibration.stretch_s) == (5, 3.0)
    assert any("the history is short: points are means of 3" in said for said in calibration.assumptions)
    assert all(len(errors) == 5 for errors in calibration.residuals.values())


def test_a_history_without_delays_is_refused() -> None:
    silent = line("l1", 0.3, fixed_s=0.0)

    with pytest.raises(NotFound, match="no delay of any element; calibrate over a time"):
        fit(seen(replace(silent, delay_s=np.full(200, math.nan))))


def test_intervals_without_figures_are_left_out() -> None:
    whole = line("l1", 0.3, fixed_s=0.001)
    holes = whole.delay_s.copy()
    holes[40:60] = math.nan

    calibration = fit(seen(replace(whole, delay_s=holes)))

    assert calibration.elements["l1"].points == 18
    assert calibration.elements["l1"].fixed_s == pytest.approx(0.001, abs=5e-5)
    assert sum(map(math.isnan, calibration.residuals["l1"])) == 2


def test_losses_while_quiet_are_errors_and_losses_while_full_show_the_buffer() -> None:
    busy = np.concatenate([np.full(100, 0.3), np.full(100, 0.97)])
    queue = np.concatenate([np.full(100, 1e4), np.full(100, 9e5)])
    loss = np.concatenate([np.full(100, 0.001), np.full(100, 0.05)])
    dirty = line("dirty", 0.3, fixed_s=0.0, loss=loss, queue_octets=queue, utilisation=busy, rate=busy * 1e3)

    fitted = fit(seen(dirty, line("clean", 0.3, fixed_s=0.0))).elements

    assert fitted["dirty"].loss == pytest.approx(0.001)
    assert fitted["dirty"].buffer_octets == 9e5
    assert (fitted["clean"].loss, math.isnan(fitted["clean"].buffer_octets)) == (0.0, True)


def test_rates_that_vary_more_than_poisson_are_said() -> None:
    rng = np.random.default_rng(1)
    wild = line("wild", 0.3, fixed_s=0.0, rate=np.clip(300 + 60 * rng.standard_normal(200), 10, None))

    calibration = fit(seen(wild))

    assert calibration.elements["wild"].dispersion > 3
    assert any("times as much as those of Poisson" in sentence for sentence in calibration.assumptions)


def test_interfaces_that_count_say_the_packet_size() -> None:
    def point(name: str, counters: Counters | None) -> TerminationPoint:
        return TerminationPoint(name, "n", "d", counters=counters)

    counted = point("a", Counters(out_octets=700_000, out_pkts=1000)), point("b", None)
    twin = network(["r1"], borders=counted)
    later = network(["r1"], borders=[point("a", Counters(out_octets=1_000_000, out_pkts=1200))])

    assert packet_octets(twin) == 700
    assert packet_octets(later, twin) == 1500
    assert packet_octets(twin, later) == 700, "counters that went back were reset"
    assert math.isnan(packet_octets(twin, twin))
    assert math.isnan(packet_octets(small()))
    assert fit(
        seen(line("l1", 0.3, fixed_s=0)), packet_octets=500
    ).traffic.packets_per_train == pytest.approx(40, rel=0.03)


def test_a_figure_is_recorded_once() -> None:
    recorder = Recorder("lab")
    twin = network(["r1", "r2"], links=[link("r1", "r2")])
    later = {name: replace(kpi, observed_at=2) for name, kpi in kpis(one_way_delay=2.0).items()}

    recorder.record(twin)
    recorder.record(twin)
    recorder.record(network(["r1", "r2"], links=[link("r1", "r2", kpis=later)]))

    (series,) = recorder.observations().series.values()
    assert list(series.delay_s) == [0.001, 0.002]


def test_elements_that_are_down_or_stale_are_not_recorded() -> None:
    recorder = Recorder("lab")

    recorder.record(network(["r1", "r2"], links=[link("r1", "r2", up=False), link("r2", "r1", stale=True)]))

    assert not recorder.observations().series


# ---- packets, a history, the twin ----------------------------------------------------------------------


@dataclasses.dataclass
class Emulated:
    """The edge domain of an emulated network, and all that it reported."""

    network: Network
    observations: Observations
    deltas: list[Delta]
    truth: dict[str, float]  # service time by host, s


def _at(change: Change, at: int) -> Change:
    return Change(change.device, change.path, change.value, at, at, change.origin, change.deleted)


@pytest.fixture(scope="module")
def emulated() -> Emulated:
    """Two minutes of packets, as the devices of one domain report them."""
    spec = NetworkSpec.model_validate(
        {"seed": 9, "domains": ["edge"], "gnbs": 2, "cells_per_gnb": 1, "hosts": 3}
    )
    topology = build_topology(spec)
    flows = plan_flows(spec, topology)
    dimension(spec, topology, flows)
    packets = assemble(spec, topology, flows)
    binding = Binding(spec, topology, Plant(spec, topology, packets.apply))
    queues = {name: store.watch([pattern_of(store.schema, "/")]) for name, store in binding.stores.items()}
    mapper, recorder = Mapper("edge"), Recorder("edge")
    deltas: list[Delta] = []

    def report(at: int, drained: Callable[[str], Iterator[Any]]) -> None:
        changes = tuple(
            Change(name, leaf.path, leaf.value, at, at, Origin.MEASURED, leaf.deleted)
            for name in binding.stores
            for leaf in drained(name)
        )
        count = len(deltas)
        deltas.append(Delta(Version("e", count), Version("e", count + 1, at), changes))
        mapper.apply(deltas[-1])
        recorder.record(mapper.network())

    report(START, lambda name: iter(list(binding.stores[name].all_leaves())))
    for second in range(1, 121):
        for measurement in packets.advance(float(second)):
            binding.report(measurement)
        report(START + second * SECOND, lambda name: iter(queues[name].drain(1 << 30)))
    truth = {device.node_id: device.service_ms / 1e3 for device in topology.of_kind("host")}
    return Emulated(mapper.network(), recorder.observations(), deltas, truth)


def test_stations_of_the_emulated_network_are_found_as_they_are(emulated: Emulated) -> None:
    calibration = fit(emulated.observations)

    assert calibration.traffic.packets_per_train == pytest.approx(100, rel=0.04)
    for host, service_s in emulated.truth.items():
        assert calibration.elements[host].service_s == pytest.approx(service_s, rel=0.05)
    assert calibration.mape < 4


def test_a_prediction_at_the_load_of_the_history_is_what_was_measured(emulated: Emulated) -> None:
    calibration = fit(emulated.observations)
    compiled = compile_network(
        emulated.network, loads=loads_over(emulated.observations), calibration=calibration
    )

    solution = Engine(compiled.graph, compiled.demand).solve()

    for name, series in emulated.observations.series.items():
        (edge, *_) = compiled.edges_of[name]
        measured = float(np.average(series.delay_s, weights=np.maximum(series.rate, 1e-9)))
        assert solution.edges.delay[edge, 0] == pytest.approx(measured, rel=0.06), name


def test_intervals_come_from_held_out_history_and_hold_the_prediction(emulated: Emulated) -> None:
    calibration = fit(emulated.observations)
    compiled = compile_network(emulated.network, calibration=calibration)
    base = Engine(compiled.graph, compiled.demand).solve()

    intervals = flow_intervals(base, calibration)

    assert intervals is not None
    low, high = intervals.around("delay_ms", 5.0, 0.3)
    assert 0 < low < 5.0 < high < 6.0
    wider = intervals.around("delay_ms", 5.0, 0.3, noise=3.0)
    assert wider[0] < low
    assert math.isnan(intervals.around("loss", 0.1, 0.3)[0])
    assert flow_intervals(base, None) is None


@pytest.mark.parametrize("jitter_ms", [0, 40, 300])
async def test_figures_that_come_every_second_with_jitter_are_all_taken(
    tmp_path: Path, jitter_ms: int
) -> None:
    """A step as long as the measuring interval took every second one: each taking moved the next one on."""
    rng = np.random.default_rng(jitter_ms)
    heard = [
        START + second * SECOND + round(float(rng.uniform(-jitter_ms, jitter_ms)) * 1e6)
        for second in range(1, 61)
    ]
    history = await History.open(tmp_path, clock=lambda: START + 100 * SECOND)
    try:
        changes: list[tuple[int, str, Any]] = [(START, "host-id", "urn:h"), (START, "node-id", "urn:h")]
        changes += [(at, "performance/handled-rate", Decimal(100 + n)) for n, at in enumerate(heard)]
        for n, (at, place, value) in enumerate(changes):
            change = Change("h", f"/fedtwin-edge:edge-host/{place}", value, at, at, Origin.MEASURED, False)
            history.append(Delta(Version("e", n), Version("e", n + 1, at), (change,)))

        observations = await observe(history, "edge", START, START + 62 * SECOND)
    finally:
        await history.close()

    assert list(observations.series["urn:h"].rate) == [100.0 + n for n in range(60)]
    assert not observations.thinned


async def test_the_recorded_history_gives_the_same_fit(emulated: Emulated, tmp_path: Path) -> None:
    history = await History.open(tmp_path, clock=lambda: START + 121 * SECOND)
    try:
        for delta in emulated.deltas:
            history.append(delta)
        window = (START, START + 120 * SECOND)

        calibration = await calibrate(history, emulated.network, window)
        observations = await observe(history, "edge", *window)
        loads = await loads_between(history, "edge", *window)

        assert calibration.traffic.octets_counted
        assert calibration.traffic.packet_octets == pytest.approx(1000, rel=0.02)
        expected = fit(emulated.observations)
        assert calibration.traffic == pytest.approx(expected.traffic) or (
            calibration.traffic.packets_per_train
            == pytest.approx(expected.traffic.packets_per_train, rel=0.01)
        )
        assert set(calibration.elements) == set(expected.elements)
        for name, series in observations.series.items():
            assert len(series) >= 110
            measured = float(emulated.observations.series[name].rate.mean())
            assert (loads.mbps | loads.handled_pps)[name] == pytest.approx(measured, rel=0.05)
        with pytest.raises(NotFound, match="no load of edge is recorded"):
            await loads_between(history, "edge", START + 200 * SECOND, START + 210 * SECOND)
    finally:
        await history.close()


DAY = 86_400 * SECOND


async def test_a_time_to_come_is_as_recorded_days_were_with_what_never_changed(
    emulated: Emulated, tmp_path: Path
) -> None:
    first, *rest = emulated.deltas
    early = replace(first, changes=tuple(_at(change, START - 400 * SECOND) for change in first.changes))
    links = emulated.network.links
    still = min(links)
    gone = next(name for name in sorted(links) if links[name].device != links[still].device)
    said = {name: f"/fedtwin-performance:performance/link[link-id='{name}']" for name in (still, gone)}
    at = START - 300 * SECOND
    told = tuple(  # these two said one rate, once
        Change(links[name].device, f"{path}/carried-rate", Decimal("7.5"), at, at, Origin.MEASURED, False)
        for name, path in said.items()
    )
    history = await History.open(tmp_path, clock=lambda: START + DAY)
    try:
        history.append(early)
        history.append(Delta(early.target, Version("e", 1, START), told))
        history.gap(links[gone].device, START - 100 * SECOND, START - 50 * SECOND, "the session was lost")
        for delta in rest:
            heard = (one for one in delta.changes if not one.path.startswith(tuple(said.values())))
            history.append(replace(delta, changes=tuple(heard)))

        loads = await expected_loads(
            START + DAY + 60 * SECOND,
            now=START + DAY,
            network=emulated.network,
            loads=Loads({}, {}),
            learned=None,
            between=partial(loads_between, history, "edge"),
        )
    finally:
        await history.close()

    found = loads.mbps | loads.handled_pps
    assert found.keys() == emulated.observations.series.keys() - {gone}
    for name in found:
        rate = float(emulated.observations.series[name].rate.mean())
        assert found[name] == pytest.approx(rate if name != still else 7.5, rel=0.05)
    assert "is the mean of what was carried at that time of day on 1 of the last days" in loads.assumptions[0]


@pytest.mark.slow
async def test_loads_of_a_few_minutes_are_found_where_figures_are_kept_by_the_hour(tmp_path: Path) -> None:
    hour, now = 3600 * SECOND, START // DAY * DAY + 3 * DAY
    history = await History.open(tmp_path, raw_days=0.5, minute_days=1.0, clock=lambda: now)
    try:
        said: list[tuple[int, str, Any]] = [
            (now - 3 * DAY, "host-id", "urn:h"),
            (now - 3 * DAY, "node-id", "urn:h"),
        ]
        said += [
            (now - 3 * DAY + n * hour + SECOND, "performance/handled-rate", Decimal(100 + n))
            for n in range(3 * 24)
        ]
        for n, (at, place, value) in enumerate(said):
            change = Change("h", f"/fedtwin-edge:edge-host/{place}", value, at, at, Origin.MEASURED, False)
            history.append(Delta(Version("e", n), Version("e", n + 1, at), (change,)))
        await history.flush()
        await history.maintain()
        middle = now - 2 * DAY + 30 * 60 * SECOND

        loads = await loads_between(history, "edge", middle - 150 * SECOND, middle + 150 * SECOND)
    finally:
        await history.close()

    assert loads.handled_pps["urn:h"] == pytest.approx(124, abs=1)


# ---- the file ------------------------------------------------------------------------------------------

SOME = Calibration(
    "lab", 1, 2, 3, Traffic(900.0, 12.5, 0.8),
    {"h": ElementFit("h", "host", note="too few"), "l1": ElementFit("l1", "link", fixed_s=0.001, points=7)},
    {"l1": (0.01, math.nan, -0.02)}, 10.0, ("a sentence",),
)  # fmt: skip


def test_a_calibration_comes_back_from_its_file(tmp_path: Path) -> None:
    file = tmp_path / "state" / "calibration.json"

    save(SOME, file)
    back = load(file)

    assert back is not None
    assert repr(back) == repr(SOME)
    assert file.stat().st_mode & 0o077 == 0
    assert load(tmp_path / "none.json") is None


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (lambda raw: {**raw, "format": 99}, "format 99, this release reads 2; run fedtwin calibrate again"),
        (lambda raw: {**raw, "surplus": 1}, "not a calibration .*; delete it and run fedtwin calibrate"),
        (lambda raw: {**raw, "elements": {"l1": {"fixed": 1}}}, "not a calibration"),
        (lambda raw: {**raw, "residuals": {"l1": ["x"]}}, "not a calibration"),
        (lambda raw: {**raw, "traffic": {**raw["traffic"], "packets_per_train": 0}}, "packets_per_train"),
        (lambda raw: {**raw, "traffic": {**raw["traffic"], "packet_octets": "1"}}, "packet_octets"),
        (
            lambda raw: {**raw, "elements": {"l1": {"element": "l1", "kind": "link", "fixed_s": -1}}},
            "fixed_s",
        ),
        (lambda raw: [raw], "not a calibration"),
    ],
)
def test_a_file_that_is_no_calibration_is_refused(
    tmp_path: Path, broken: Callable[[Any], Any], words: str
) -> None:
    file = tmp_path / "calibration.json"
    save(SOME, file)
    file.write_text(json.dumps(broken(json.loads(file.read_text()))))

    with pytest.raises(ConfigError, match=words):
        load(file)
