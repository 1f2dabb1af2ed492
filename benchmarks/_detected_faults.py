"""The emulated four-operator network, watched: what is noticed of faults, how soon, and false alarms."""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from benchmarks._emulated import EmulatedNetwork
from domain_twin.emulator.faults import Attack, Fault, HostOverload, LinkDegradation, LinkLoss, RadioFade
from domain_twin.emulator.network import NetworkSpec
from domain_twin.learning.detect import Detection, Watch
from domain_twin.learning.models import detector
from domain_twin.learning.panel import Panel
from domain_twin.learning.task import Feature, Kind, Profile, Task
from domain_twin.model import Network

STEP_S: Final = 5.0
LONG: Final = (600.0, 1800.0)
SHORT: Final = (300.0, 300.0)
"""Simulated seconds of learning and of watching."""
FAULT_S: Final = 60.0
EVERY_S: Final = 150.0
SETTLE_S: Final = 30.0
KPIS: Final[Mapping[str, tuple[str, ...]]] = {
    "link": ("one_way_delay", "delay_variance", "loss_ratio", "utilisation", "carried_rate"),
    "cell": (
        "one_way_delay",
        "delay_variance",
        "loss_ratio",
        "utilisation",
        "mcs",
        "cell_rate",
        "carried_rate",
    ),
    "function": ("one_way_delay", "loss_ratio", "utilisation", "handled_rate"),
    "host": ("one_way_delay", "loss_ratio", "utilisation", "handled_rate"),
}


def emulated(seed: int, *, quick: bool) -> dict[str, Any]:
    """Learn from healthy time, then watch while faults come and go."""
    learn_s, watch_s = SHORT if quick else LONG
    network = EmulatedNetwork(NetworkSpec(seed=seed))
    domain_of = {device.name: device.domain for device in network.topology.devices}
    seen: dict[tuple[str, str], dict[str, list[list[float]]]] = defaultdict(lambda: defaultdict(list))

    def note(now: Network) -> None:
        for kind, elements in _elements(now).items():
            for name, element in elements.items():
                row = [element.kpis[kpi].value if kpi in element.kpis else np.nan for kpi in KPIS[kind]]
                seen[kind, domain_of[element.device]][name].append(row)

    rng = np.random.default_rng(seed)
    network.advance(10.0)
    network.advance(10.0 + learn_s, note)
    windows: list[tuple[float, float, str]] = []
    faults = _faults(network, rng)
    at = 10.0 + learn_s
    while at + EVERY_S <= 10.0 + learn_s + watch_s:
        begin = at + EVERY_S - FAULT_S - SETTLE_S
        network.advance(begin, note)
        fault = faults[len(windows) % len(faults)]
        name = network.plant.inject(fault)
        network.advance(begin + FAULT_S, note)
        network.plant.clear(name)
        windows.append((begin - 10.0, begin - 10.0 + FAULT_S, fault.kind))
        at += EVERY_S
        network.advance(at, note)
    return _judged(seen, windows, learn_s)


def _elements(now: Network) -> dict[str, Mapping[str, Any]]:
    return {
        "link": now.links,
        "cell": now.cells,
        "function": now.functions,
        "host": now.hosts,
    }


def _faults(network: EmulatedNetwork, rng: np.random.Generator) -> list[Fault]:
    """One of each kind, at elements drawn at random; then again at others."""
    topology = network.topology
    lines = [link for link in topology.links if not link.source.device.name.startswith("gnb")]
    found: list[Fault] = []
    for _ in range(3):
        line = lines[int(rng.integers(len(lines)))].source.tp_id
        other = lines[int(rng.integers(len(lines)))].source.tp_id
        cell = topology.cells[int(rng.integers(len(topology.cells)))]
        hosts = topology.of_kind("host")
        host = hosts[int(rng.integers(len(hosts)))].name
        gnb = topology.of_kind("gnb")[int(rng.integers(6))].name
        found += [
            LinkDegradation(link=line, rate_factor=0.4),
            RadioFade(cell=cell.name, mcs_drop=6.0),
            HostOverload(device=host, workers_taken=1, service_factor=1.5),
            LinkLoss(link=other, ratio=0.05),
            Attack(source=gnb, target=host, mbps=800.0),
        ]
    return found


def _judged(
    seen: Mapping[tuple[str, str], Mapping[str, list[list[float]]]],
    windows: list[tuple[float, float, str]],
    learn_s: float,
) -> dict[str, Any]:
    panels = {key: _panel(key[0], series, learn_s) for key, series in seen.items()}
    detections: list[Detection] = []
    for kind in KPIS:
        own = {key: panel for key, panel in panels.items() if key[0] == kind}
        task = _task(kind)
        made = detector.make(task)
        said = [made.statistics(panel) for panel in own.values()]
        arrays = made.standardised(made.initial(np.random.default_rng(0)), said)
        for panel in own.values():
            watch = Watch.of(task, arrays, panel, false_alarms_per_day=1.0 / len(own))
            began, _ = watch.observe(dataclasses.replace(panel, values=panel.values))
            first = panel.holdout_from * panel.step_s * 1e9
            detections += [one for one in began if one.detected_at > first]
    periods, kinds, false = [], defaultdict(list), []
    for begin, end, kind in windows:
        within = [one.detected_at / 1e9 for one in detections if begin < one.detected_at / 1e9 <= end]
        kinds[kind].append(bool(within))
        if within:
            periods.append((min(within) - begin) / STEP_S)
    for one in detections:
        at = one.detected_at / 1e9
        if not any(begin < at <= end + SETTLE_S for begin, end, _ in windows):
            false.append((one.element, round(at), one.onset.value, [e.kpi for e in one.evidence]))
    domains = len({domain for _, domain in seen})
    longest = max(panel.steps * panel.step_s for panel in panels.values())
    quiet_s = longest - learn_s - len(windows) * (FAULT_S + SETTLE_S)
    return {
        "faults": len(windows),
        "noticed": {kind: f"{sum(hits)} of {len(hits)}" for kind, hits in kinds.items()},
        "share_noticed": round(len(periods) / max(1, len(windows)), 3),
        "step_s": STEP_S,
        "periods_to_detect": {
            "median": float(np.median(periods)) if periods else float("inf"),
            "worst": max(periods, default=float("inf")),
        },
        "false_alarms": len(false),
        "watched_quiet_s_per_domain": quiet_s,
        "false_alarms_a_day_and_domain": round(len(false) / domains / (quiet_s / 86_400), 2),
        "examples_of_false_alarms": false[:5],
        "elements": int(sum(len(panel.elements) for panel in panels.values())),
    }


def _panel(kind: str, series: Mapping[str, list[list[float]]], learn_s: float) -> Panel:
    """Means over steps of a network's figures, which come every second."""
    names = tuple(sorted(series))
    per = int(STEP_S)
    length = min(len(rows) for rows in series.values()) // per
    values = np.stack([np.array(series[name][: length * per]).reshape(length, per, -1) for name in names])
    features = tuple(feature.kpi for feature in _task(kind).features)
    return Panel(names, features, values.mean(axis=2), 0, STEP_S, int(learn_s / STEP_S))


def _task(kind: str) -> Task:
    return Task(
        f"faults-{kind}",
        kind=Kind.DETECTOR,
        element_kind=kind,
        features=tuple(Feature(f"ndt:{name}", "1") for name in KPIS[kind]),
        step_s=STEP_S,
        profile=Profile.TRUSTED,
        settings={"smooth": 2.0},
    )
