"""The packet-level rung: finding and compiling ns-3, running it, and its figures beside closed formulas.

Where ns-3 is not installed, the tests that need it are one test of the message that says so.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from packet_networks import both_ways, demand, network

from domain_twin.errors import ConfigError, ContractError, NoPath, OperationRejected, OverCapacity, TwinError
from domain_twin.simulation.flows import Flows
from domain_twin.simulation.graph import Arrivals, Law, Scheduler, TrafficClass
from domain_twin.simulation.outside.ns3 import PacketRun, Window, find_ns3, runner, simulate
from domain_twin.simulation.outside.ns3.result import QUANTILES


def _present() -> bool:
    try:
        find_ns3()
    except ConfigError:
        return False
    return True


PRESENT = _present()
FIXED_SIZE = TrafficClass("fixed", (1000.0,))
SHORT = Window(warmup_s=1.0, duration_s=5.0)
TABLE = """fedtwin-ns3-table 1
run 6.5 3300 2000 0
flow 0 1000 990 0.004 1e-5 4e-6 1e-7 0.01 3e-3 0.002 1e-5 1e-3 0.02 0.003 1e-5 0.006 2e-5 7e-3 3e-5 0.01 5e-5
edge 0 1000 10 0 0.5 0.004 4e-06
end
"""


def program(folder: Path, script: str) -> Path:
    """A stand-in for the compiled runner: what it says is a recording or a fault."""
    file = folder / "runner"
    file.write_text(f"#!{sys.executable}\n{script}\n", encoding="utf-8")
    file.chmod(0o700)
    return file


async def replayed(
    folder: Path, script: str, *, limit_s: float = 60.0, heard: list[float] | None = None
) -> PacketRun:
    graph = network(2, [(0, 1)])
    return await simulate(
        graph,
        demand(graph, (0, 0, 1, 200.0)),
        seed=1,
        window=SHORT,
        program=program(folder, script),
        limit_s=limit_s,
        progress=heard.append if heard is not None else None,
    )


def test_without_ns3_the_message_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FEDTWIN_NS3", raising=False)
    monkeypatch.setattr(sys, "path", [])
    monkeypatch.delitem(sys.modules, "ns3", raising=False)

    with pytest.raises(ConfigError, match=r"pip install fedtwin\[ns3\]"):
        find_ns3()


def test_installed_ns3_is_found_without_importing_it(tmp_path: Path) -> None:
    site, other = tmp_path / "site", tmp_path / "other"
    sham_ns3(site / "ns3")
    (site / "ns3-3.99.dist-info").mkdir()
    (site / "ns3-3.99.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\nName: ns3\nVersion: 3.99\n")
    (site / "ns3" / "__init__.py").write_text("raise SystemExit('imported')")
    other.mkdir()
    (other / "ns3.py").write_text("raise SystemExit('a module of this name, as benchmarks has one')")
    where = "domain_twin.simulation.outside.ns3.build"
    code = f"from {where} import find_ns3; n = find_ns3(); print(n.release, n.include)"
    root = Path(__file__).resolve().parent.parent.parent
    path = os.pathsep.join(map(str, (root, other, site)))

    found = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path, "FEDTWIN_NS3": ""},
        capture_output=True,
        text=True,
        check=True,
        timeout=110,
    )

    assert found.stdout.split() == ["3.99", str(site / "ns3" / "include")]


def test_folder_without_ns3_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FEDTWIN_NS3", str(tmp_path))

    with pytest.raises(ConfigError, match=rf"{tmp_path}: no ns-3 there"):
        find_ns3()


def test_headers_without_libraries_are_refused(tmp_path: Path) -> None:
    (tmp_path / "include" / "ns3").mkdir(parents=True)
    (tmp_path / "include" / "ns3" / "core-module.h").touch()

    with pytest.raises(ConfigError, match="without its libraries"):
        find_ns3(tmp_path)


def sham_ns3(folder: Path, header: str = "") -> Path:
    (folder / "include" / "ns3").mkdir(parents=True)
    (folder / "lib").mkdir()
    for module in ("core", "network", "point-to-point"):
        (folder / "include" / "ns3" / f"{module}-module.h").write_text(header)
        (folder / "lib" / f"libns3.99-{module}.so").touch()
    return folder


def test_no_compiler_names_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ns3 = find_ns3(sham_ns3(tmp_path))
    monkeypatch.setenv("PATH", "")

    with pytest.raises(ConfigError, match=r"apt install g\+\+"):
        runner(ns3=ns3, cache=tmp_path / "cache")


@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no g++ here (apt-get install g++)")
def test_what_the_compiler_says_is_told_and_nothing_half_done_stays(tmp_path: Path) -> None:
    ns3 = find_ns3(sham_ns3(tmp_path, "#error these are other headers\n"))

    with pytest.raises(ConfigError, match="these are other headers"):
        runner(ns3=ns3, cache=tmp_path / "cache")
    assert [path.name for path in (tmp_path / "cache").iterdir()] == ["ns3-runner.lock"]


def test_cache_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")

    with pytest.raises(ConfigError, match="XDG_CACHE_HOME"):
        runner(ns3=find_ns3(sham_ns3(tmp_path)), cache=tmp_path / "cache", compiler=sys.executable)


async def test_table_becomes_figures_with_their_errors(tmp_path: Path) -> None:
    heard: list[float] = []
    told = "import sys; sys.stdin.read(); sys.stderr.write('progress 50\\nprogress 100\\n')"
    script = f"{told}; print({TABLE!r}, end='')"

    result = await replayed(tmp_path, script, heard=heard)

    assert heard == [0.5, 1.0]
    assert (result.delay_s[0], result.delay_error_s[0]) == (0.004, 1e-5)
    assert (result.loss[0], result.jitter_s[0]) == (0.01, 0.002)
    assert result.percentile_s[0].tolist() == [0.003, 0.006, 0.007, 0.01]
    assert (result.edge_dropped[0], result.edge_utilisation[0]) == (10, 0.5)
    assert result.matrix(result.delay_s, classes=1, nodes=2)[0, 1, 0] == 0.004
    assert np.isnan(result.matrix(result.delay_s, classes=1, nodes=2)[0, 0, 1])


@pytest.mark.parametrize(
    ("script", "error", "words"),
    [
        ("import time; time.sleep(600)", OverCapacity, "did not end within 1 s"),
        ("import sys; sys.exit('scenario: no rate')", OperationRejected, "scenario: no rate"),
        ("import os; os.abort()", OperationRejected, "signal 6"),
        ("print('fedtwin-ns3-table 1')", ContractError, "wrote 1 lines"),
        (f"print({TABLE.replace('end', 'dne')!r}, end='')", ContractError, "not its table"),
        (f"print({TABLE.replace('flow 0', 'flow 1')!r}, end='')", ContractError, "row 0 of flows"),
        (f"print({TABLE.replace(' 5e-5', '')!r}, end='')", ContractError, "row 0 of flows"),
    ],
)
async def test_a_runner_that_fails_is_an_error(tmp_path: Path, script: str, error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        await replayed(tmp_path, script, limit_s=1.0 if "sleep" in script else 60.0)


def _content(file: Path) -> str:
    """Waits for a file with something in it."""
    for _ in range(6000):
        if file.exists() and (text := file.read_text()):
            return text
        time.sleep(0.01)
    raise AssertionError(f"{file} was never written")


async def test_cancelled_run_leaves_no_process(tmp_path: Path) -> None:
    trace = tmp_path / "pid"
    script = f"import os, time; open({str(trace)!r}, 'w').write(str(os.getpid())); time.sleep(600)"
    task = asyncio.create_task(replayed(tmp_path, script))
    started = await asyncio.to_thread(_content, trace)

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    with pytest.raises(ProcessLookupError):
        os.kill(int(started), 0)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"rates": []}, OperationRejected, "no demand"),
        ({"rates": [(0, 0, 1, np.nan)]}, ConfigError, "from n0 to n1 is nan"),
        ({"capacity_bps": 0.0}, ConfigError, "n0>n1: capacity_bps 0"),
        ({"rates": [(0, 1, 0, 5.0)]}, NoPath, "no path from n1 to n0"),
        ({"rates": [(0, 0, 1, 1500.0)]}, OverCapacity, "n0>n1 is offered 150%"),
        ({"classes": (TrafficClass("tcp", arrivals=Arrivals.ELASTIC),)}, OperationRejected, "tcp is elastic"),
        ({"classes": (TrafficClass("dot", (4.0,)),)}, OperationRejected, "4 octets"),
        ({"classes": (TrafficClass("burst", arrivals=Arrivals.ON_OFF),)}, OperationRejected, "on periods"),
    ],
)
async def test_what_ns3_cannot_run_is_refused_with_the_reason(
    tmp_path: Path, change: dict[str, Any], error: type[TwinError], words: str
) -> None:
    rates = change.pop("rates", [(0, 0, 1, 100.0)])
    graph = network(2, [(0, 1)], **({"classes": (FIXED_SIZE,)} | change))
    offered = demand(graph, *rates)

    with pytest.raises(error, match=words):
        await simulate(graph, offered, seed=1, program=program(tmp_path, f"print({TABLE!r}, end='')"))


@pytest.mark.parametrize(
    ("path", "rate", "error", "words"),
    [
        ([1], 10.0, ConfigError, "begins elsewhere"),
        ([0], 10.0, ConfigError, "ends elsewhere"),
        ([0, 2], 10.0, ConfigError, "is down"),
        ([], 10.0, ConfigError, "is empty"),
        ([0, 1], 0.0, OperationRejected, "from n0 to n2 is 0.0 packets/s"),
    ],
)
async def test_paths_that_do_not_join_their_ends_are_refused(
    tmp_path: Path, path: list[int], rate: float, error: type[TwinError], words: str
) -> None:
    graph = network(3, [(0, 1), (1, 2), (1, 2)])
    graph.up[2] = False

    with pytest.raises(error, match=words):
        await simulate(graph, Flows.of([(0, 2)], [path], [rate]), seed=1, program=program(tmp_path, ""))


@pytest.mark.parametrize("times", [(-1.0, 5.0), (1.0, 0.0), (1.0, np.inf), (np.nan, 5.0)])
def test_windows_without_time_are_refused(times: tuple[float, float]) -> None:
    with pytest.raises(OperationRejected, match="finite times"):
        Window(*times)
    with pytest.raises(OperationRejected, match="standard error"):
        Window(1.0, 1.0, batches=1)


if not PRESENT:

    async def test_without_ns3_a_run_says_what_to_install(tmp_path: Path) -> None:
        graph = network(2, [(0, 1)])

        with pytest.raises(ConfigError, match=r"pip install fedtwin\[ns3\]"):
            await simulate(graph, demand(graph, (0, 0, 1, 100.0)), seed=1)

else:

    def near(value: float, expected: float, error: float, *, slack: float = 0.0) -> bool:
        """Within four standard errors."""
        return abs(value - expected) <= 4 * error + slack

    async def test_poisson_link_is_as_queueing_theory_says() -> None:
        graph = network(2, [(0, 1)])  # 1 ms mean service

        got = await simulate(graph, demand(graph, (0, 0, 1, 600.0)), seed=5, packets=300_000)

        # M/M/1 (Kleinrock 1975, 3.2): sojourn exponential with mean 1 / (mu - lambda).
        sojourn = 1 / (1000 - 600)
        assert near(got.delay_s[0], sojourn + 0.001, got.delay_error_s[0])
        assert near(got.variance_s2[0], sojourn**2, got.variance_error_s2[0])
        for i, q in enumerate(QUANTILES):
            assert near(got.percentile_s[0, i], 0.001 - np.log(1 - q) * sojourn, got.percentile_error_s[0, i])
        assert got.loss[0] == 0
        assert got.edge_utilisation[0] == pytest.approx(0.6, abs=0.01)
        assert got.jitter_s[0] != pytest.approx(np.sqrt(got.variance_s2[0]), rel=0.05)

    @pytest.mark.parametrize("buffer", [0, 1, 4])
    async def test_full_queue_drops_as_queueing_theory_says(buffer: int) -> None:
        graph = network(2, [(0, 1)], buffer=float(buffer))

        got = await simulate(graph, demand(graph, (0, 0, 1, 900.0)), seed=6, packets=150_000)

        k, rho = buffer + 1, 0.9  # M/M/1/K: K with the packet in service
        assert near(got.loss[0], (1 - rho) * rho**k / (1 - rho ** (k + 1)), got.loss_error[0])
        assert got.edge_dropped[0] == pytest.approx(got.sent[0] - got.received[0], abs=3)

    async def test_equally_spaced_packets_never_wait() -> None:
        graph = network(2, [(0, 1)], classes=(TrafficClass("cbr", (1000.0,), arrivals=Arrivals.CBR),))

        got = await simulate(graph, demand(graph, (0, 0, 1, 900.0)), seed=7, packets=2_000)

        assert (got.least_s[0], got.most_s[0]) == pytest.approx((0.002, 0.002))
        assert got.jitter_s[0] == pytest.approx(0, abs=1e-12)

    @pytest.mark.parametrize("arrivals", [Arrivals.ON_OFF, Arrivals.CBR_ON_OFF])
    async def test_on_off_sources_keep_their_mean_rate(arrivals: Arrivals) -> None:
        burst = TrafficClass("burst", (100.0,), arrivals=arrivals, on_s=0.01, off_s=0.03)
        graph = network(2, [(0, 1)], classes=(burst,), capacity_bps=2e6, fixed_s=0.0)

        got = await simulate(graph, demand(graph, (0, 0, 1, 1000.0)), seed=8, packets=100_000)

        # What an exponential on-off rate brings varies by this and Poisson's (Anick, Mitra and Sondhi 1982).
        on, off, peak, span = 0.01, 0.03, 4000.0, 100.0
        spread = np.sqrt(2 * peak**2 * (on * off) ** 2 / (on + off) ** 3 * span + 1000 * span)
        assert abs(got.sent[0] - 100_000) < 4 * spread
        assert got.delay_s[0] > 2 * 0.0004  # bursts above the link's rate wait

    async def test_size_mix_and_loss_are_as_listed() -> None:
        mix = TrafficClass("mix", (100.0, 1000.0), (0.75, 0.25))
        graph = network(2, [(0, 1)], classes=(mix,), loss=0.1, fixed_s=0.0)

        got = await simulate(graph, demand(graph, (0, 0, 1, 1.0)), seed=9, packets=20_000)

        assert near(got.delay_s[0], 0.325e-3, got.delay_error_s[0], slack=1e-6)
        assert near(got.loss[0], 0.1, got.loss_error[0])

    async def test_strict_priority_is_as_cobham_says() -> None:
        urgent, rest = (
            TrafficClass("urgent", (1000.0,), priority=0),
            TrafficClass("rest", (1000.0,), priority=1),
        )
        graph = network(2, [(0, 1)], classes=(urgent, rest), scheduler=Scheduler.STRICT_PRIORITY, fixed_s=0.0)

        got = await simulate(
            graph, demand(graph, (0, 0, 1, 300.0), (1, 0, 1, 400.0)), seed=10, packets=200_000
        )

        residual = 0.7 * 0.001 / 2  # Cobham 1954, non-preemptive: W0 / ((1 - s_(k-1)) (1 - s_k))
        assert near(got.delay_s[0], 0.001 + residual / 0.7, got.delay_error_s[0])
        assert near(got.delay_s[1], 0.001 + residual / (0.7 * 0.3), got.delay_error_s[1])

    @pytest.mark.parametrize("scheduler", [Scheduler.WFQ, Scheduler.DRR])
    async def test_fair_schedulers_share_an_overfull_link_by_weight(scheduler: Scheduler) -> None:
        classes = (TrafficClass("a", (1000.0,), weight=3.0), TrafficClass("b", (500.0,), weight=1.0))
        graph = network(2, [(0, 1)], classes=classes, scheduler=scheduler, buffer=200.0)

        got = await simulate(
            graph, demand(graph, (0, 0, 1, 700.0), (1, 0, 1, 400.0)), seed=11, packets=60_000
        )

        # b asks for 0.2 of the link and is due 0.25: it gets it all but for its share of full queues.
        assert got.delay_s[1] < got.delay_s[0] + 1e-3

    async def test_station_and_cell_are_as_queueing_theory_says() -> None:
        graph = network(
            3, [(0, 1), (1, 2)], laws={0: Law.CELL, 1: Law.STATION}, classes=(FIXED_SIZE,), fixed_s=0.0
        )

        got = await simulate(graph, demand(graph, (0, 0, 2, 500.0)), seed=12, packets=200_000)

        # Processor sharing: E[S] / (1 - rho) whatever the sizes (Kleinrock 1976, 4.4).
        assert got.edge_delay_s[0] == pytest.approx(0.001 / 0.5, rel=0.03)
        # M/M/2: E[S] / (1 - rho^2), but for departures of a cell that are no Poisson stream.
        assert got.edge_delay_s[1] == pytest.approx(0.001 / (1 - 0.25**2), rel=0.03)
        assert any("Cells" in said for said in got.assumptions)

    async def test_equal_cost_paths_share_packets() -> None:
        graph = network(4, [(0, 1), (0, 2), (1, 3), (2, 3)], classes=(FIXED_SIZE,))

        one = await simulate(graph, demand(graph, (0, 0, 3, 500.0)), seed=13, packets=5_000)
        both = await simulate(graph, demand(graph, (0, 0, 3, 500.0)), seed=13, packets=5_000, ecmp=True)

        assert sorted(one.edge_offered > 0) == [False, False, True, True]
        assert both.edge_offered[0] == pytest.approx(both.edge_offered[1], rel=0.1)

    async def test_same_seed_same_figures_other_run_others() -> None:
        graph = network(3, both_ways(list(pairwise(range(3)))), buffer=10.0)
        offered = demand(graph, (0, 0, 2, 500.0), (0, 1, 0, 300.0))

        first, again, other = [
            await simulate(graph, offered, seed=14, run=run, packets=5_000) for run in (0, 0, 1)
        ]

        assert np.array_equal(first.delay_s, again.delay_s)
        assert not np.array_equal(first.delay_s, other.delay_s)

    async def test_compiled_once_and_again_for_another_place(tmp_path: Path) -> None:
        made = await asyncio.gather(*(asyncio.to_thread(runner, cache=tmp_path) for _ in range(3)))

        assert len(set(made)) == 1
        assert {entry.name for entry in os.scandir(tmp_path)} == {made[0].name, "ns3-runner.lock"}

    async def test_runner_refuses_a_text_that_is_no_scenario() -> None:
        process = await asyncio.create_subprocess_exec(
            runner(),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )

        _, said = await process.communicate(b"fedtwin-ns3 1\nwindow 1 -1 3 4\n")

        assert process.returncode == 2
        assert said.decode() == "scenario: duration is -1.000000\n"
