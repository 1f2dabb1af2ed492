"""Networks in files and `fedtwin simulate`: what is read, what is refused and where, what is answered."""

from __future__ import annotations

import itertools
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domain_twin.errors import ConfigError, NotFound
from domain_twin.model.scenario import Scenario
from domain_twin.simulation.applied import applied
from domain_twin.simulation.graph import Law, SimGraph, Variant
from domain_twin.simulation.outside.file_answer import Options, answered, load
from domain_twin.simulation.outside.files import parse_network, read_network, write_network
from domain_twin.simulation.outside.ns3 import find_ns3
from domain_twin.simulation.routed import routed
from federation.cli.app import run

ROOT = Path(__file__).resolve().parent.parent.parent
EXAMPLE = ROOT / "examples" / "whatif" / "five-routers.json"
CUT = ROOT / "examples" / "whatif" / "five-routers-cut.yaml"

SMALL: dict[str, Any] = {
    "format": "fedtwin-network",
    "version": 1,
    "nodes": [{"id": "a"}, {"id": "b"}, {"id": "c"}],
    "links": [
        {"id": "ab", "source": "a", "target": "b", "capacity_mbps": 10, "buffer_packets": 20},
        {"id": "bc", "source": "b", "target": "c", "capacity_mbps": 10, "delay_ms": 1.5, "directed": True},
    ],
    "classes": [{"name": "data", "octets": [100, 1000], "probabilities": [0.5, 0.5]}],
    "demands": [{"source": "a", "target": "c", "mbps": 4.4}],
}


def changed(**parts: Any) -> str:
    """SMALL with some of its parts replaced."""
    return json.dumps({**SMALL, **parts})


def first(part: str, **values: Any) -> dict[str, Any]:
    """SMALL's list `part` with new values in its first entry; a value of None takes the key away."""
    entry = {name: value for name, value in {**SMALL[part][0], **values}.items() if value is not None}
    return {part: [entry, *SMALL[part][1:]]}


def link(**values: Any) -> str:
    return changed(**first("links", **values))


def flow(**values: Any) -> str:
    return changed(**first("demands", **values))


def kind(**values: Any) -> str:
    return changed(**first("classes", **values))


def hung(part: str, **values: Any) -> str:
    """SMALL with a cell or station `k`."""
    return changed(**{part: [{"id": "k", "node": "a", **values}]})


def test_file_becomes_arrays() -> None:
    network = parse_network(json.dumps(SMALL))
    graph = network.graph

    assert graph.nodes == ("a", "b", "c")
    assert graph.edges == ("ab", "ab#back", "bc")
    assert graph.capacity_bps.tolist() == [10e6, 10e6, 10e6]
    assert graph.buffer.tolist() == [20.0, 20.0, math.inf]
    assert graph.fixed_s.tolist() == [0.0, 0.0, 0.0015]
    assert network.demand.rate[0, 2, 0] == pytest.approx(4.4e6 / 8 / 550)
    assert network.demand.rate.sum() == network.demand.rate[0, 2, 0]
    assert network.edges_of["ab"] == (0, 1)


def test_example_has_every_kind_of_element() -> None:
    network = read_network(EXAMPLE)

    assert {Law(int(law)) for law in network.graph.law} == set(Law)
    assert not network.graph.transit[network.node_of["cell-1"]]
    assert network.graph.groups == {"duct-saxony": (0, 1, 4, 5)}
    assert network.demand.rate.shape == (2, 7, 7)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "line 1, column 2: not valid JSON"),
        ("[]", "the network: input should be"),
        ("[" * 100_000, "nested too deeply"),
        (changed(nodes=[]), "nodes: "),
        (changed(speed=1), "speed: extra inputs"),
        ('{"version": 1, "version": 1}', "'version' occurs twice"),
        (changed(version=2), "version: input should be 1"),
        (link(capacity_mbps=0), r"links\[0\] \(ab\).capacity_mbps: .*greater than 0"),
        (link(capacity_mbps=-3), r"links\[0\] \(ab\).capacity_mbps: .*greater than 0"),
        (link(capacity_mbps="fast"), r"links\[0\] \(ab\).capacity_mbps: .*'fast'"),
        (link(capacity_mbps=math.nan), "NaN found; only finite"),
        (link(delay_ms=math.inf), "Infinity found; only finite"),
        (json.dumps(SMALL).replace('"capacity_mbps": 10,', '"capacity_mbps": 1e999,', 1), "finite number"),
        (link(capacity_mbps=None), r"links\[0\] \(ab\).capacity_mbps: field required"),
        (link(loss=1.5), r"links\[0\] \(ab\).loss: .*less than or equal to 1"),
        (link(source="x"), r"links\[0\] \(ab\): source: there is no 'x'; known are a, b, c"),
        (link(target="x"), r"links\[0\] \(ab\): target: there is no 'x'"),
        (link(target="a"), r"links\[0\] \(ab\): it leads from 'a' to itself"),
        (link(id="bc"), "'bc' is there twice"),
        (link(id="a"), "'a' is there twice"),
        (changed(nodes=[{"id": "a"}, {"id": "b"}, {"id": "c"}, {"id": "ab#back"}]), "id 'ab#back'"),
        (changed(nodes=[{"id": n} for n in "abca"]), "id 'a': 'a' is there twice"),
        (hung("cells", node="x", capacity_mbps=1), r"cells\[0\] \(k\): node: there is no 'x'"),
        (hung("stations", node="x", service_ms=1), r"stations\[0\] \(k\): node: there is no"),
        (hung("stations", service_ms=0), r"stations\[0\] \(k\).service_ms: .*greater"),
        (hung("stations", service_ms=1, servers=0), "servers: .*greater than"),
        (flow(source="x"), r"demands\[0\]: source: there is no 'x'; known are a, b, c"),
        (flow(target="x"), r"demands\[0\]: target: there is no 'x'"),
        (flow(target="a"), r"demands\[0\]: it leads from 'a' to itself"),
        (flow(mbps=-1), r"demands\[0\].mbps: .*greater than or equal to 0"),
        (flow(mbps=None), r"demands\[0\]: exactly one of mbps and packets_per_s"),
        (flow(packets_per_s=1), r"demands\[0\]: exactly one of mbps and packets_per_s"),
        (flow(traffic_class="x"), r"demands\[0\]: traffic_class: there is no 'x'"),
        (changed(demands=SMALL["demands"] * 2), r"demands\[1\]: demands\[0\] has the same"),
        (changed(classes=[{"name": "x"}, {"name": "y"}]), r"demands\[0\]: traffic_class is missing; known"),
        (changed(classes=[{"name": "x"}] * 2), "classes: 'x' is there twice"),
        (kind(probabilities=[0.5]), r"classes\[0\] \(data\): 2 sizes with 1 prob"),
        (kind(probabilities=[0.5, 0.6]), r"classes\[0\] \(data\): .*add up to 1.1, not 1"),
        (kind(octets=[]), r"classes\[0\] \(data\).octets: "),
        (kind(arrivals="on-off"), r"classes\[0\] \(data\): arrivals on-off need on_s"),
        (changed(risk_groups={"duct": ["x"]}), "risk_groups.duct: there is no 'x'"),
        (changed(risk_groups={"ab": ["bc"]}), "risk_groups.ab: an element has this id"),
        (flow(source="c", target="a"), r"no path from 'c' to 'a': the network is disconnected"),
        (changed(links=SMALL["links"][:1]), r"demands\[0\]: no path from 'a' to 'c': .*'a' reaches b;"),
        (changed(nodes=[{"id": "a"}, {"id": "b", "transit": False}, {"id": "c"}]), r"demands\[0\]: no path"),
    ],
)  # fmt: skip
def test_bad_networks_are_refused_with_file_and_place(text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as refused:
        parse_network(text, "net.json")

    assert str(refused.value).startswith("net.json: ")


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    (tmp_path / "latin.json").write_bytes(b'{"name": "\xfc"}')

    with pytest.raises(ConfigError, match=r"latin.json: not UTF-8, at byte 10"):
        read_network(tmp_path / "latin.json")
    with pytest.raises(ConfigError, match=r"gone.json: cannot be read"):
        read_network(tmp_path / "gone.json")
    with pytest.raises(ConfigError, match=r"net.xml: a network file \(.json\), a MATLAB"):
        load(tmp_path / "net.xml")


def test_files_beyond_the_limit_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("domain_twin.simulation.outside.files.MAX_BYTES", 10)
    (tmp_path / "net.json").write_text(json.dumps(SMALL))

    with pytest.raises(ConfigError, match="a network has 10 at most"):
        read_network(tmp_path / "net.json")


def same(one: SimGraph, other: SimGraph) -> None:
    for name in SimGraph.__dataclass_fields__:
        left, right = getattr(one, name), getattr(other, name)
        if isinstance(left, np.ndarray):
            np.testing.assert_allclose(left, right, rtol=1e-12, err_msg=name)
        else:
            assert left == right, name


names = st.text(min_size=1, max_size=12).filter(lambda text: "#" not in text and text.strip())


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """Networks as files may hold them: rings with chords, cells, stations, several classes."""
    ids = draw(st.lists(names, min_size=6, max_size=12, unique=True))
    nodes, rest = ids[:3], ids[3:]
    ring = [(nodes[i - 1], nodes[i]) for i in range(len(nodes))]
    positive = st.floats(0.01, 1e4)
    links = [
        {
            "id": f"{a}>{b}",
            "source": a,
            "target": b,
            "capacity_mbps": draw(positive),
            "delay_ms": draw(st.floats(0, 100)),
            "metric": draw(st.integers(1, 100)),
            "buffer_packets": draw(st.one_of(st.none(), st.integers(0, 1000))),
            "scheduler": draw(st.sampled_from(["fifo", "strict-priority", "wfq", "drr"])),
            "loss": draw(st.floats(0, 1)),
            "up": draw(st.booleans()),
        }
        for a, b in ring
    ]
    cells = [{"id": rest[0], "node": nodes[0], "capacity_mbps": draw(positive), "delay_ms": 1.0}]
    stations = [
        {
            "id": rest[1],
            "node": nodes[1],
            "servers": draw(st.integers(1, 9)),
            "service_ms": draw(positive),
            "service_scv": draw(st.floats(0, 4)),
        }
    ]
    classes = [
        {"name": "one", "octets": draw(st.floats(64, 9000)), "exponential": draw(st.booleans())},
        {"name": "two", "octets": [100, 900], "arrivals": "on-off", "on_s": 0.1, "off_s": 0.3, "priority": 2},
    ]
    ends = st.sampled_from([*nodes, rest[0], rest[1]])
    pairs = draw(st.sets(st.tuples(ends, ends).filter(lambda pair: pair[0] != pair[1]), max_size=6))
    demands = [
        {"source": s, "target": d, "traffic_class": word, "packets_per_s": 5.5}
        for (s, d), word in zip(sorted(pairs), itertools.cycle(["one", "two"]), strict=False)
    ]
    return {
        "format": "fedtwin-network",
        "version": 1,
        "name": draw(st.text(max_size=20)),
        "nodes": [{"id": n} for n in nodes],
        "links": links,
        "cells": cells,
        "stations": stations,
        "classes": classes,
        "demands": demands,
        "risk_groups": {"group of all": [link["id"] for link in links]},
    }


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(documents())
def test_written_networks_read_back_the_same(document: dict[str, Any]) -> None:
    network = parse_network(json.dumps(document))

    again = parse_network(write_network(network))

    same(network.graph, again.graph)
    assert np.array_equal(network.demand.rate, again.demand.rate)
    assert again.name == network.name


def test_what_the_format_has_no_words_for_is_refused() -> None:
    from packet_networks import demand, network

    from domain_twin.simulation.outside.files import FileNetwork

    for law, words in ((Law.FIXED, "a fixed delay"), (Law.STATION, "a station that packets pass")):
        graph = network(2, [(0, 1)], laws={0: law})
        with pytest.raises(ConfigError, match=f"edge n0>n1 is {words}"):
            write_network(FileNetwork("x", graph, demand(graph), {}, {}))


def test_variant_becomes_a_network_of_its_own() -> None:
    network = parse_network(json.dumps(SMALL))
    variant = Variant(
        "all at once",
        down=frozenset({1}),
        nodes_down=frozenset({2}),
        values={"capacity_bps": {0: 5e6}},
        demand_scale=2.0,
        class_scale={0: 1.5},
        pairs=((0, 0, 1, 7.0),),
    )

    graph, demand = applied(network.graph, network.demand, variant)

    assert graph.up.tolist() == [True, False, False]
    assert graph.capacity_bps.tolist() == [5e6, 10e6, 10e6]
    assert demand.rate[0, 2, 0] == pytest.approx(3 * network.demand.rate[0, 2, 0])
    assert demand.rate[0, 1, 0] == 7.0
    assert network.graph.up.all()
    assert network.graph.capacity_bps[0] == 10e6
    with pytest.raises(NotFound, match="edge 9"):
        applied(network.graph, network.demand, Variant("x", down=frozenset({9})))


async def test_tables_and_given_paths_agree() -> None:
    given_file = load(EXAMPLE)

    whole = await answered(given_file, Options())
    flows = routed(given_file.graph, given_file.traffic)  # type: ignore[arg-type]

    assert len(whole.flows) == flows.count == 5
    assert whole.flows == tuple(sorted(whole.flows, key=lambda row: -row.delay_ms))
    assert all(0 < row.p90_ms < row.p99_ms for row in whole.flows)
    assert whole.edges[0].edge == "dresden-leipzig"
    assert whole.edges[0].utilisation == pytest.approx(0.6)


async def test_only_the_flows_asked_for_are_told() -> None:
    asked = (("dresden", "erfurt"),)

    found = await answered(load(EXAMPLE), Options(flows=asked))

    assert [(row.source, row.target) for row in found.flows] == list(asked)
    with pytest.raises(NotFound, match="no node 'rome'"):
        await answered(load(EXAMPLE), Options(flows=(("rome", "erfurt"),)))
    with pytest.raises(NotFound, match="nothing is sent from 'halle' to 'berlin'"):
        await answered(load(EXAMPLE), Options(flows=(("halle", "berlin"),)))


async def test_capacity_says_the_headroom_and_no_delay() -> None:
    found = await answered(load(EXAMPLE), Options(rung="capacity"))

    assert found.flows == ()
    assert "1.67 times as much" in found.notes[0]


@pytest.mark.parametrize(
    ("options", "scenario", "words"),
    [
        (Options(rung="magic"), False, "no such rung 'magic'; there are capacity, tables, residual, packets"),
        (Options(rung="residual"), False, "--residual"),
        (Options(rung="residual", residual=EXAMPLE), False, "five-routers.json"),
        (Options(rung="capacity"), True, "at tables or packets, not capacity"),
    ],
)
async def test_what_a_rung_cannot_say_is_refused(options: Options, scenario: bool, words: str) -> None:
    asked = Scenario.model_validate({"changes": [{"kind": "element-down", "element": "berlin-dresden"}]})

    with pytest.raises(ConfigError, match=words):
        await answered(load(EXAMPLE), options, scenario=asked if scenario else None)


async def test_scenario_is_answered_as_a_twin_would() -> None:
    asked = Scenario.model_validate(
        {"name": "cut", "seed": 1, "changes": [{"kind": "element-down", "element": "leipzig-erfurt"}]}
    )

    found = (await answered(load(EXAMPLE), Options(flows=(("dresden", "erfurt"),)), scenario=asked)).report

    assert found is not None
    (flow,) = found.flows
    assert [part.element for part in flow.path_after] == ["dresden-leipzig", "leipzig-halle", "halle-erfurt"]
    assert flow.before is not None
    assert flow.after is not None
    assert flow.after.delay_ms.value > flow.before.delay_ms.value


async def test_sweep_of_packets_is_refused() -> None:
    asked = Scenario.model_validate({"sweep": {"kind": "failures", "of": "links"}})

    with pytest.raises(ConfigError, match="sweep at tables"):
        await answered(load(EXAMPLE), Options(rung="packets"), scenario=asked)


def started(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "federation.cli", "simulate", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=110, check=False, cwd=ROOT)


def test_command_prints_tables() -> None:
    done = started(str(EXAMPLE), "--top", "3")

    assert done.returncode == 0, done.stderr
    assert re.search(r"^cell-1 +host-1 +data +\d\.\d{3} ", done.stdout, re.MULTILINE)
    assert "2 flows more" in done.stdout
    assert "dresden-leipzig" in done.stdout


def test_command_prints_one_json_document(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["simulate", str(EXAMPLE), "--json", "--flow", "berlin>halle"]) == 0

    found = json.loads(capsys.readouterr().out)
    assert found["rung"] == "tables"
    (flow,) = found["flows"]
    assert flow["path"] == ["berlin-leipzig", "leipzig-halle"]
    assert flow["delay_ms"] == pytest.approx(1.2, abs=0.05)
    assert flow["delay_error_ms"] is None


def test_command_answers_a_scenario(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    page = tmp_path / "cut.html"

    assert run(["simulate", str(EXAMPLE), "--scenario", str(CUT), "--json", "--report", str(page)]) == 0

    found = json.loads(capsys.readouterr().out)
    assert found["scenario"]["name"] == "Cut leipzig - erfurt"
    assert len(found["flows"]) == 5
    assert "Cut leipzig - erfurt" in page.read_text(encoding="utf-8")


def test_command_exports_in_every_form(tmp_path: Path) -> None:
    files = [tmp_path / f"net.{form}" for form in ("json", "ned", "mat")]

    words = [word for file in files for word in ("--export", str(file))]
    assert run(["simulate", str(EXAMPLE), "--json", *words]) == 0

    assert (tmp_path / "net.ini").read_text(encoding="utf-8").startswith("[General]")
    assert "network FedtwinNetwork" in files[1].read_text(encoding="utf-8")
    same(load(files[0]).graph, load(files[2]).graph)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--export", "x.pcap"], "--export"),
        (["--report", "x.html"], "--scenario"),
        (["--rung", "magic"], "no such rung"),
        (["--flow", "berlin"], "--flow"),
    ],
)
def test_command_says_what_is_wrong(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["simulate", str(EXAMPLE), *words]) != 0

    assert said in capsys.readouterr().err


def test_packets_are_measured_or_their_absence_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    try:
        find_ns3()
    except ConfigError:
        assert run(["simulate", str(EXAMPLE), "--rung", "packets"]) == 1
        assert "pip install fedtwin[ns3]" in capsys.readouterr().err
        return
    words = ["simulate", str(EXAMPLE), "--rung", "packets", "--seed", "3", "--packets", "20000", "--json"]

    assert run(words) == 0
    found = json.loads(capsys.readouterr().out)
    assert run([*words, "--scenario", str(CUT)]) == 0
    report = json.loads(capsys.readouterr().out)

    assert found["seed"] == 3
    assert len(found["flows"]) == 5
    assert all(row["delay_error_ms"] > 0 for row in found["flows"])
    assert report["rung"] == "packets"
    for flow in report["flows"]:
        delay = flow["after"]["delay_ms"]
        assert delay["low"] < delay["value"] < delay["high"]


def test_simulation_of_files_needs_no_agent_or_network() -> None:
    code = (
        "import sys; from federation.cli.app import run; "
        f"run(['simulate', {str(EXAMPLE)!r}, '--json']); "
        "print(sorted(set(sys.modules) & {'grpc', 'sqlalchemy', 'ncclient', 'duckdb'}), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=110, check=True, env=os.environ
    )

    assert done.stderr.strip() == "[]"
