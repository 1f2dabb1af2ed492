"""MATLAB files: there and back, refused with file and field; Octave where it is installed."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from packet_networks import demand, network
from scipy.io import loadmat, savemat

from domain_twin.errors import ConfigError, OperationRejected, OverCapacity
from domain_twin.simulation.graph import SimGraph, TrafficClass
from domain_twin.simulation.outside.file_answer import load
from domain_twin.simulation.outside.files import FileNetwork, read_network
from domain_twin.simulation.outside.matlab import octave, read_mat, read_solution, write_mat

EXAMPLE = Path(__file__).resolve().parent.parent.parent / "examples" / "whatif" / "five-routers.json"
OCTAVE = shutil.which("octave-cli") or shutil.which("octave")


def same(one: SimGraph, other: SimGraph) -> None:
    for name in SimGraph.__dataclass_fields__:
        left, right = getattr(one, name), getattr(other, name)
        if isinstance(left, np.ndarray):
            assert left.dtype == right.dtype, name
            np.testing.assert_array_equal(left, right, err_msg=name)
        else:
            assert left == right, name


def test_network_comes_back_as_it_was(tmp_path: Path) -> None:
    before = read_network(EXAMPLE)

    write_mat(tmp_path / "x.mat", before)
    after = read_mat(tmp_path / "x.mat")

    same(before.graph, after.graph)
    np.testing.assert_array_equal(before.demand.rate, after.demand.rate)
    assert after.name == before.name
    assert load(tmp_path / "x.mat").graph.nodes == before.graph.nodes


@pytest.mark.parametrize(
    "classes",
    [
        (TrafficClass("one"),),
        (TrafficClass("one", (100.0, 1500.0), (0.25, 0.75)),),
        (TrafficClass("one", (100.0, 1500.0), (0.5, 0.5)), TrafficClass("two", (64.0,))),
        (TrafficClass("a", (1.0, 2.0), (0.5, 0.5)), TrafficClass("b", (3.0, 4.0), (0.5, 0.5))),
    ],
)
def test_small_networks_are_not_squeezed_out_of_shape(
    tmp_path: Path, classes: tuple[TrafficClass, ...]
) -> None:
    graph = network(2, [(0, 1)], classes=classes, buffer=np.inf)
    before = FileNetwork("", graph, demand(graph, (0, 0, 1, 3.0)), {}, {})

    write_mat(tmp_path / "x.mat", before)
    after = read_mat(tmp_path / "x.mat")

    same(graph, after.graph)
    assert after.demand.rate.shape == (len(classes), 2, 2)
    assert after.demand.rate[0, 1, 0] == 3.0


def test_matlab_sees_names_and_indices_from_one(tmp_path: Path) -> None:
    write_mat(tmp_path / "x.mat", read_network(EXAMPLE))

    struct = loadmat(tmp_path / "x.mat")["network"][0, 0]

    assert struct["tail"].min() == 1
    assert struct["nodes"].shape == (7, 1)
    assert struct["nodes"][0, 0][0] == "berlin"
    assert struct["demand"].shape == (2, 7, 7)


def test_solution_comes_back_by_its_shapes(tmp_path: Path) -> None:
    from domain_twin.simulation.solve import Engine

    before = read_network(EXAMPLE)
    solution = Engine(before.graph, before.demand).solve()

    write_mat(tmp_path / "x.mat", before, solution)
    figures = read_solution(tmp_path / "x.mat")

    np.testing.assert_array_equal(figures["delay_s"], solution.delay_s)
    np.testing.assert_array_equal(figures["utilisation"], solution.utilisation)


def spoiled(folder: Path, field: str, value: Any) -> Path:
    """The example's struct with one field replaced; None: left out."""
    file = folder / "x.mat"
    write_mat(file, read_network(EXAMPLE))
    struct = loadmat(file, simplify_cells=True)["network"]
    place, _, last = field.rpartition(".")
    target = struct[place] if place else struct
    if value is None:
        del target[last]
    else:
        target[last] = value
    savemat(file, {"network": struct})
    return file


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("format", "else", "network.format: 'fedtwin-network' is expected"),
        ("nodes", None, "network.nodes: is missing"),
        ("nodes", np.arange(7.0), "network.nodes: a cell array of text is expected"),
        ("tail", np.arange(16) * 0.0, r"network.tail\(1\): 0 is no index from 1 to 7"),
        ("head", np.full(16, 8.0), r"network.head\(1\): 8 is no index from 1 to 7"),
        ("head", np.full(16, 1.5), r"network.head\(1\): 1.5 is no index"),
        ("head", np.full(16, np.nan), r"network.head\(1\): nan is no index"),
        ("metric", np.ones(3), "network.metric: 3 values; 16 are expected"),
        ("law", "link", "network.law: 16 of the words link, cell, station, fixed"),
        ("capacity_bps", np.zeros(16), "network: edge berlin-leipzig: capacity_bps 0.0 is refused"),
        ("capacity_bps", np.full(16, -1.0), "network: edge berlin-leipzig: capacity_bps -1.0 is refused"),
        ("fixed_s", np.full(16, np.nan), "network: edge berlin-leipzig: fixed_s nan is refused"),
        ("demand", np.zeros((7, 7)), r"network.demand: 49 numbers; .* needs \(2, 7, 7\)"),
        ("demand", np.full((2, 7, 7), np.nan), "network: demand of class data from berlin to berlin is nan"),
        ("classes.arrivals", "often", "network.classes.arrivals: 2 of the words poisson"),
        ("classes.octets", [[1.0, -1.0], [2.0]], "network.classes.octets: sizes of data above 0"),
        ("classes.probabilities", [[0.5, 0.6], [1.0]], "network.classes.probabilities: those of data"),
        ("classes.octets", [[1.0]], "network.classes.octets: 1 cells; 2 are expected|sizes of data"),
        ("groups.edges", [99.0], "network.groups.edges: those of duct-saxony are no indices"),
    ],
)  # fmt: skip
def test_bad_structs_are_refused_with_file_and_field(
    tmp_path: Path, field: str, value: Any, words: str
) -> None:
    file = spoiled(tmp_path, field, value)

    with pytest.raises(ConfigError, match=words) as refused:
        read_mat(file)

    assert str(refused.value).startswith(f"{file}: ")


def test_files_of_other_kinds_are_refused_with_the_way_out(tmp_path: Path) -> None:
    hdf = tmp_path / "new.mat"
    hdf.write_bytes(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(512) + b"\x89HDF\r\n\x1a\n")
    (tmp_path / "text.mat").write_text("this is no MATLAB file at all, but long enough to look like one " * 9)
    (tmp_path / "empty.mat").touch()
    savemat(tmp_path / "other.mat", {"x": 1.0})
    write_mat(tmp_path / "good.mat", read_network(EXAMPLE))
    (tmp_path / "cut.mat").write_bytes((tmp_path / "good.mat").read_bytes()[:700])

    for name, words in (
        ("new.mat", r"level 7.3 \(HDF5\) is not read; save it in MATLAB with save\(..., '-v7'\)"),
        ("text.mat", "no MATLAB file of level 5"),
        ("empty.mat", "no MATLAB file of level 5"),
        ("cut.mat", "no MATLAB file of level 5"),
        ("other.mat", "no struct called `network`"),
        ("gone.mat", "cannot be read"),
    ):
        with pytest.raises(ConfigError, match=words):
            read_mat(tmp_path / name)
    with pytest.raises(ConfigError, match="no struct called `solution`"):
        read_solution(tmp_path / "good.mat")
    with pytest.raises(ConfigError, match="cannot be written"):
        write_mat(tmp_path / "no" / "x.mat", read_network(EXAMPLE))


async def test_without_octave_the_message_names_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(ConfigError, match="apt install octave"):
        await octave(tmp_path / "x.m", read_network(EXAMPLE))


def sham_octave(folder: Path, script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program of Octave's name: says what a broken, failing or endless one would."""
    program = folder / "octave-cli"
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o700)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")


@pytest.mark.parametrize(
    ("script", "error", "words"),
    [
        ("echo 'parse error near line 3' >&2; exit 1", OperationRejected, "parse error near line 3"),
        ("exit 7", OperationRejected, "status 7"),
        ("exec sleep 600", OverCapacity, "did not end within 1 s"),
    ],
)
async def test_scripts_that_fail_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, error: type[Exception], words: str
) -> None:
    sham_octave(tmp_path, script, monkeypatch)
    (tmp_path / "x.m").write_text("x = 1;")

    with pytest.raises(error, match=words):
        await octave(tmp_path / "x.m", read_network(EXAMPLE), limit_s=1.0 if "sleep" in script else 60.0)
    with pytest.raises(ConfigError, match=r"y.m: no such file"):
        await octave(tmp_path / "y.m", read_network(EXAMPLE))


async def test_octave_runs_a_script_on_the_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "busiest.m"
    script.write_text(
        "result.links = numel(network.edges);\n"
        "result.total = sum(network.demand(:));\n"
        "printf('%s\\n', network.nodes{network.tail(1)});\n"
    )
    before = read_network(EXAMPLE)
    if OCTAVE is None:
        with pytest.raises(ConfigError, match="Octave is not installed"):
            await octave(script, before)
        return

    said, result = await octave(script, before)

    assert said.strip() == "berlin"
    assert result["links"] == 16
    assert result["total"] == pytest.approx(before.demand.rate.sum())
