"""OMNeT++: what is exported, and what result files say; every fault by its line."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packet_networks import both_ways, demand, network

from domain_twin.errors import ConfigError, NoPath
from domain_twin.simulation.graph import Arrivals, Law, SimGraph, TrafficClass
from domain_twin.simulation.outside.file_answer import Options, answered, load
from domain_twin.simulation.outside.omnet import export, ini, ned
from domain_twin.simulation.outside.omnet_results import flow_figures, read_results
from domain_twin.simulation.routed import routed

EXAMPLE = Path(__file__).resolve().parent.parent.parent / "examples" / "whatif" / "five-routers.json"

# Made after the appendix on result files of the simulation manual.
SCALARS = """version 3
run General-0-20260101-10:00:00-1
attr configname General
attr network "Two Hops"
itervar load 0.7
config network FedtwinNetwork
config **.edge[0].id "\\"a\\" to b"

# comments are left out
scalar FedtwinNetwork.flow[0] sent:count 1000
attr title "packets sent, count"
scalar FedtwinNetwork.flow[0] received:count 990
scalar FedtwinNetwork.flow[1] sent:count 10
scalar FedtwinNetwork.flow[1] received:count nan
statistic FedtwinNetwork.flow[0] delay:histogram
field count 990
field mean 0.0045
field stddev 0.001
field min 0.001
field max 0.02
field sum 4.455
field sqrsum 0.021
attr unit s
bin -inf 0
bin 0.001 500
bin 0.005 400
bin 0.010 90
bin 0.020 0
par FedtwinNetwork.flow[1] source "\\"north\\""
par FedtwinNetwork.flow[1] target south
par FedtwinNetwork.flow[1] trafficClass data
attr comment "of the parameter"
"""
VECTORS = """version 2
run General-0-20260101-10:00:00-1
attr configname General
vector 0 FedtwinNetwork.flow[1] "delay:vector" ETV
attr unit s
vector 7 FedtwinNetwork.edge[0] queue\\ length TV
0\t10\t0.5\t0.25
7\t0.6\t3
0\t11\t0.6\t0.75
0\t14\t0.9\t0.50
7 1.5 5
"""


def written(folder: Path, text: str, name: str = "General-0.sca") -> Path:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return file


def test_scalars_statistics_and_attributes_are_read(tmp_path: Path) -> None:
    results = read_results([written(tmp_path, SCALARS)])

    (run,) = results.runs.values()
    assert run.attributes == {"configname": "General", "network": "Two Hops"}
    assert run.iteration == {"load": "0.7"}
    assert run.config[1] == ("**.edge[0].id", '"a" to b')
    assert run.parameters["FedtwinNetwork.flow[1]", "target"] == "south"
    assert [scalar.value for scalar in results.scalars[:2]] == [1000, 990]
    assert results.scalars[0].attributes == {"title": "packets sent, count"}
    (delay,) = results.statistics
    assert delay.fields["mean"] == 0.0045
    assert delay.attributes == {"unit": "s"}
    assert delay.bins[0] == (-math.inf, 0.0)


def test_quantiles_are_read_off_the_histogram(tmp_path: Path) -> None:
    (delay,) = read_results([written(tmp_path, SCALARS)]).statistics

    assert delay.quantile(0.5) == pytest.approx(0.001 + 0.004 * 495 / 500)
    assert delay.quantile(0.95) == pytest.approx(0.010 + 0.010 * (0.95 * 990 - 900) / 90)
    delay.bins = []
    assert math.isnan(delay.quantile(0.9))


def test_vectors_are_folded_into_moments_as_they_come(tmp_path: Path) -> None:
    heard: list[tuple[str, float, float]] = []

    results = read_results(
        [written(tmp_path, VECTORS, "x.vec")],
        each=lambda vector, time, value: heard.append((vector.name, time, value)),
    )

    delay, length = results.vectors
    assert (delay.count, delay.mean, delay.least, delay.most) == (3, 0.5, 0.25, 0.75)
    assert delay.variance == pytest.approx(np.var([0.25, 0.75, 0.5]))
    assert delay.jitter == pytest.approx(np.mean([0.5, 0.25]))
    assert delay.attributes == {"unit": "s"}
    assert (length.name, length.mean) == ("queue length", 4.0)
    assert heard[1] == ("queue length", 0.6, 3.0)


def test_flow_figures_join_both_files_of_a_run(tmp_path: Path) -> None:
    files = [written(tmp_path, SCALARS), written(tmp_path, VECTORS, "General-0.vec")]

    first, second = flow_figures(read_results(files), [("a", "b", "bulk")])

    assert (first.source, first.target, first.traffic_class) == ("a", "b", "bulk")
    assert (first.delay_ms, first.loss) == (pytest.approx(4.5), pytest.approx(0.01))
    assert first.delay_variance_ms2 == pytest.approx(989 / 990)
    assert first.p95_ms == pytest.approx(10 + 10 * (0.95 * 990 - 900) / 90)
    assert (second.source, second.target, second.traffic_class) == ("north", "south", "data")
    assert (second.delay_ms, second.jitter_ms) == (pytest.approx(500), pytest.approx(375))
    assert math.isnan(second.loss)


@settings(deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=50))
def test_moments_agree_with_numpy(values: list[float]) -> None:
    from domain_twin.simulation.outside.omnet_results import Vector

    vector = Vector("r", "m", "v", "TV")
    for i, value in enumerate(values):
        vector.take(i, value)

    assert vector.mean == pytest.approx(np.mean(values), abs=1e-6)
    assert vector.variance == pytest.approx(np.var(values), rel=1e-6, abs=1e-4)
    if len(values) > 1:
        assert vector.jitter == pytest.approx(np.abs(np.diff(values)).mean(), rel=1e-9, abs=1e-6)


HEAD = "version 2\nrun r-1\n"
DELAY = f"{HEAD}vector 0 n.flow[0] delay ETV\n"


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("", 0, "empty, or without `version`"),
        ("hello\n", 1, "'hello' where `version` is expected"),
        ("version 1\n", 1, "version '1'; 2 and 3 are read"),
        ("version 2\nscalar a b 1\n", 2, "'scalar' before any `run`"),
        ("version 2\nrun\n", 2, "`run` takes one id"),
        (HEAD + "scalar a b\n", 3, "`scalar` takes module, name and value"),
        (HEAD + "scalar a b x\n", 3, "'x' is no number"),
        (HEAD + "\nfield mean 1\n", 4, "`field` without a statistic"),
        (HEAD + "scalar a b 1\nbin 0 1\n", 4, "`bin` without a statistic"),
        (HEAD + "statistic a b\nbin 0\n", 4, "`bin` takes two words"),
        (HEAD + "statistic a b\nbin nan 1\n", 4, "a bin from nan with 1"),
        (HEAD + "statistic a b\nbin 0 -1\n", 4, "a bin from 0 with -1"),
        (HEAD + "statistic a b\nbin 2 1\nbin 1 1\n", 5, "bins have to rise; 1 follows 2"),
        (HEAD + "statistic a\n", 3, "`statistic` takes module and name"),
        (HEAD + 'scalar a "b 1\n', 3, "a quote that does not end"),
        (HEAD + "attr only\n", 3, "`attr` takes a name and a value"),
        (HEAD + "par a b\n", 3, "`par` takes module, name and value"),
        (HEAD + "nonsense 1 2\n", 3, "'nonsense' is no entry"),
        (HEAD + "vector x a b TV\n", 3, "`vector` takes a number"),
        (HEAD + "vector 0 a b TT\n", 3, "columns 'TT'"),
        (DELAY + "vector 0 a b TV\n", 4, "vector 0 is declared twice"),
        (HEAD + "5 1 2\n", 3, "a value of vector 5, which this run does not declare"),
        (DELAY + "0 1 2\n", 4, "2 columns; vector 0 has ETV"),
        (DELAY + "0 1 x 2\n", 4, "'x' is no number"),
        (DELAY + "0 1 0.5 2\n0 2 0.4 2\n", 5, "time 0.4 of vector 0 lies before 0.5"),
        (DELAY + "0 1 nan 2\n", 4, "time nan of vector 0"),
    ],
)
def test_broken_result_files_are_refused_with_the_line(
    tmp_path: Path, text: str, line: int, words: str
) -> None:
    file = written(tmp_path, text)

    with pytest.raises(ConfigError, match=re.escape(words)) as refused:
        read_results([file])

    assert str(refused.value).startswith(f"{file}, line {line}: " if line else f"{file}: ")


def test_other_files_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "x.sca").write_bytes(b"SQLite format 3\x00\xff\xfe\xfd")
    (tmp_path / "y.sca").write_text("version 2\n" + "x" * (2 << 20))

    with pytest.raises(ConfigError, match="opp_scavetool"):
        read_results([tmp_path / "x.sca"])
    with pytest.raises(ConfigError, match="line 2: a line of more than a megabyte"):
        read_results([tmp_path / "y.sca"])
    with pytest.raises(ConfigError, match="cannot be read"):
        read_results([tmp_path / "z.sca"])


def test_runs_are_not_mixed(tmp_path: Path) -> None:
    two = [
        written(tmp_path, SCALARS),
        written(tmp_path, SCALARS.replace("General-0-2026", "General-1-2026"), "1.sca"),
    ]
    results = read_results(two)

    with pytest.raises(ConfigError, match="name one of the runs in these files: General-0-20260101"):
        flow_figures(results)
    with pytest.raises(ConfigError, match="run x: name one"):
        flow_figures(results, run="x")
    assert len(flow_figures(results, run="General-1-20260101-10:00:00-1")) == 2


def test_results_of_other_models_say_what_is_expected(tmp_path: Path) -> None:
    file = written(tmp_path, HEAD + "scalar Aloha.host[0] sent 3\n")

    with pytest.raises(ConfigError, match=r"no module flow\[i\]"):
        flow_figures(read_results([file]))


def parameters(text: str) -> dict[tuple[str, int], dict[str, str]]:
    """The parameters of an INI file by module."""
    found: dict[tuple[str, int], dict[str, str]] = {}
    for line in text.splitlines():
        if match := re.fullmatch(r"\*\*\.(node|edge|flow)\[(\d+)\]\.(\w+) = (.*)", line):
            found.setdefault((match[1], int(match[2])), {})[match[3]] = match[4]
    return found


@settings(deadline=None)
@given(
    st.lists(
        st.text(st.characters(exclude_categories=("Cs", "Cc")), min_size=1),
        min_size=3,
        max_size=3,
        unique=True,
    )
)
def test_names_come_back_from_the_ini(names: list[str]) -> None:
    plain = network(3, [(0, 1), (1, 2)])
    graph = SimGraph(
        **{**{f: getattr(plain, f) for f in SimGraph.__dataclass_fields__}, "nodes": tuple(names)}
    )

    found = parameters(ini(graph, routed(graph, demand(graph, (0, 0, 2, 5.0)))))

    assert [json.loads(found["node", n]["id"]) for n in range(3)] == names
    assert json.loads(found["flow", 0]["source"]) == names[0]
    assert json.loads(found["flow", 0]["target"]) == names[2]


def test_figures_and_routes_come_back_from_the_ini() -> None:
    given_file = load(EXAMPLE)
    graph, flows = given_file.graph, routed(given_file.graph, given_file.traffic)  # type: ignore[arg-type]

    found = parameters(ini(graph, flows))

    for e, name in enumerate(graph.edges):
        edge = found["edge", e]
        assert json.loads(edge["id"]) == name
        assert edge["law"] == f'"{Law(int(graph.law[e])).name.lower()}"'
        assert float(edge["delay"].removesuffix("s")) == graph.fixed_s[e]
        if graph.law[e] in (Law.LINK, Law.CELL):
            assert float(edge["rate"].removesuffix("bps")) == graph.capacity_bps[e]
    for i in range(flows.count):
        route = [int(word) for word in json.loads(found["flow", i]["route"]).split()]
        assert route == flows.edges[flows.offsets[i] : flows.offsets[i + 1]].tolist()


def test_network_joins_nodes_and_edges_as_the_graph_does() -> None:
    graph = network(3, both_ways([(0, 1), (1, 2)]))

    text = ned(graph, routed(graph, demand(graph, (0, 0, 2, 5.0))))

    joined = re.findall(
        r"node\[(\d+)\]\.out\+\+ --> edge\[(\d+)\]\.in;\n +edge\[\2\]\.out --> node\[(\d+)\]", text
    )
    assert [(int(a), int(b)) for a, _, b in joined] == both_ways([(0, 1), (1, 2)])
    assert "node[3]: FedtwinNode;" in text
    assert text.count("{") == text.count("}")


@pytest.mark.parametrize(
    ("traffic", "expected"),
    [
        (TrafficClass("x"), {"gap": "exponential(0.1s)", "octets": "1000B"}),
        (TrafficClass("x", arrivals=Arrivals.CBR), {"gap": "0.1s"}),
        (
            TrafficClass("x", arrivals=Arrivals.ON_OFF, on_s=1.0, off_s=3.0),
            {"gap": "exponential(0.025s)", "onPeriod": "exponential(1.0s)", "offPeriod": "exponential(3.0s)"},
        ),
        (TrafficClass("x", arrivals=Arrivals.CBR_ON_OFF, on_s=1.0, off_s=1.0), {"gap": "0.05s"}),
        (
            TrafficClass("x", (100.0, 200.0, 300.0), (0.5, 0.25, 0.25)),
            {"octets": "(uniform(0, 1) < 0.5) ? 100B : (uniform(0, 1) < 0.5) ? 200B : 300B"},
        ),
    ],
)
def test_traffic_is_written_as_omnet_draws_it(traffic: TrafficClass, expected: dict[str, str]) -> None:
    graph = network(2, [(0, 1)], classes=(traffic,))

    found = parameters(ini(graph, routed(graph, demand(graph, (0, 0, 1, 10.0)))))["flow", 0]

    assert {name: found[name] for name in expected} == expected


def test_what_cannot_be_exported_is_refused(tmp_path: Path) -> None:
    elastic = network(2, [(0, 1)], classes=(TrafficClass("tcp", arrivals=Arrivals.ELASTIC),))
    plain = network(2, [(0, 1)])

    with pytest.raises(ConfigError, match="class tcp is elastic"):
        export(elastic, demand(elastic, (0, 0, 1, 1.0)), tmp_path / "x.ned")
    with pytest.raises(NoPath, match="no path from n1 to n0"):
        export(plain, demand(plain, (0, 1, 0, 1.0)), tmp_path / "x.ned")
    with pytest.raises(ConfigError, match="cannot be written"):
        export(plain, demand(plain, (0, 0, 1, 1.0)), tmp_path / "no" / "x.ned")


async def test_results_stand_beside_what_the_engine_says(tmp_path: Path) -> None:
    text = HEAD + "".join(
        f"statistic N.flow[{i}] delay:stats\nfield count 9\nfield mean 0.00{i + 1}\nfield stddev 0\n"
        for i in range(5)
    )
    given_file = load(EXAMPLE)
    flows = routed(given_file.graph, given_file.traffic)  # type: ignore[arg-type]

    found = await answered(given_file, Options(beside=(written(tmp_path, text),)))

    assert [row.delay_ms for row in found.beside] == pytest.approx([1, 2, 3, 4, 5])
    assert [row.source for row in found.beside] == [given_file.graph.nodes[s] for s in flows.source]
