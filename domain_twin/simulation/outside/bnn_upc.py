"""Read packet-level samples in the BNN-UPC format of 2021: graphs, routings, and archives of results.

A folder holds `graphs/` (GML), `routings/` (a path a line), and one or more `results_*`, each a folder or a
`.tar.gz` of one. Owns the format; every fault names file and line. Refuses what 2021 does not have: other
schedulers than FIFO, several flows a pair, arrivals or sizes that the engine has no class for.

Times are in the simulator's unit, read as seconds; sizes are in bits there and in octets here.
"""

from __future__ import annotations

import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from domain_twin.errors import ConfigError
from domain_twin.simulation.flows import Flows
from domain_twin.simulation.graph import Arrivals, FloatArray, Law, Scheduler, SimGraph, TrafficClass
from domain_twin.simulation.outside.gml import Tree, parse_gml

__all__ = ["Measured", "Sample", "read_graph", "read_samples"]

_RESULT_FIELDS = 11
_DIGIT = 1e-6  # the last that results are written with; at most that is no variance
_FILES = ("input_files.txt", "traffic.txt", "simulationResults.txt")


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """What the packet simulator saw, one entry a flow; NaN where nothing arrived
    (a variance also where the file's digits do not show it)."""

    delay_s: FloatArray  # [F] mean
    variance_s2: FloatArray  # [F] of the delay
    loss: FloatArray  # [F] share of the packets sent
    packets_pps: FloatArray  # [F] sent, as counted
    duration_s: float  # simulated; NaN where it is not recorded


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One simulated network: the network, its flows with their paths, and what was measured."""

    name: str  # results folder and line
    graph: SimGraph
    flows: Flows
    measured: Measured


def read_samples(folder: Path) -> Iterator[Sample]:
    """Yield the samples of all results of a folder; archives are unpacked to a temporary place meanwhile."""
    for part in ("graphs", "routings"):
        if not (folder / part).is_dir():
            raise ConfigError(
                f"{folder}: has no folder {part}/; name a folder with graphs/, routings/ and results_*"
            )
    graphs: dict[str, tuple[SimGraph, dict[tuple[int, int], int]]] = {}
    found = _results(folder)
    if not found:
        raise ConfigError(f"{folder}: has no results_* folder or results_*.tar.gz")
    for place in found:
        with ExitStack() as cleaned:
            results = place
            if not place.is_dir():
                temporary = cleaned.enter_context(tempfile.TemporaryDirectory(prefix="fedtwin-"))
                results = _unpack(place, Path(temporary))
            yield from _read_results(folder, results, graphs)


def _results(folder: Path) -> list[Path]:
    """Results by name; an archive counts only where its folder is not there already."""
    folders = {path.name: path for path in folder.glob("results_*") if path.is_dir()}
    for archive in [*folder.glob("results_*.tar.gz"), *folder.glob("results_*.tgz")]:
        folders.setdefault(archive.name.removesuffix(".tar.gz").removesuffix(".tgz"), archive)
    return [folders[name] for name in sorted(folders)]


def _unpack(archive: Path, place: Path) -> Path:
    """Unpack into `place`, with the filter that keeps members inside it (PEP 706)."""
    if not hasattr(tarfile, "data_filter"):
        raise ConfigError(
            f"{archive}: unpacking it safely needs Python 3.11.4 or later (PEP 706);"
            " unpack it yourself, beside it"
        )
    try:
        with tarfile.open(archive) as opened:
            opened.extractall(place, filter="data")
    except (tarfile.TarError, EOFError, OSError) as fault:
        raise ConfigError(f"{archive}: cannot be unpacked ({fault}); fetch it again") from None
    for name in sorted(place.rglob(_FILES[0])):
        return name.parent
    raise ConfigError(f"{archive}: holds no {_FILES[0]}")


def _read_results(
    folder: Path, results: Path, graphs: dict[str, tuple[SimGraph, dict[tuple[int, int], int]]]
) -> Iterator[Sample]:
    inputs, traffic, measured = (_lines(results / name) for name in _FILES)
    if not len(inputs) == len(traffic) == len(measured):
        raise ConfigError(
            f"{results}: {_FILES[0]} has {len(inputs)} lines, {_FILES[1]} {len(traffic)}, {_FILES[2]} "
            f"{len(measured)}; each has one line a sample"
        )
    stability = results / "stability.txt"
    durations = _lines(stability) if stability.is_file() else []
    for index, line in enumerate(inputs):
        where = f"{results / _FILES[0]}, line {index + 1}"
        parts = line.split(";")
        if len(parts) != 3:
            raise ConfigError(f"{where}: 'id;graph;routing' is expected, not {line[:80]!r}")
        if parts[1] not in graphs:
            graphs[parts[1]] = read_graph(_inside(folder / "graphs", parts[1], where))
        graph, edge_of = graphs[parts[1]]
        paths = _read_routing(_inside(folder / "routings", parts[2], where), edge_of)
        yield _sample(
            f"{results.name}:{index + 1}",
            graph,
            paths,
            traffic=(f"{results / _FILES[1]}, line {index + 1}", traffic[index]),
            measured=(f"{results / _FILES[2]}, line {index + 1}", measured[index]),
            duration_s=_duration(durations, index),
        )


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: is missing") from None
    except (OSError, UnicodeDecodeError) as fault:
        raise ConfigError(f"{path}: cannot be read ({fault})") from None
    return text.rstrip("\n").split("\n") if text.strip() else []


def _inside(folder: Path, name: str, where: str) -> Path:
    """The file of that name in the folder; a name that leads out of it is refused."""
    if Path(name).name != name:
        raise ConfigError(f"{where}: {name!r} must be the name of a file in {folder.name}/")
    if not (folder / name).is_file():
        raise ConfigError(f"{where}: {folder.name}/{name} is missing")
    return folder / name


def _duration(lines: list[str], index: int) -> float:
    try:
        return float(lines[index].split(";")[0])
    except (IndexError, ValueError):
        return float("nan")


def read_graph(path: Path) -> tuple[SimGraph, dict[tuple[int, int], int]]:
    """Read one GML graph (without classes), and the edge of each pair of neighbouring nodes."""
    tree = parse_gml(path, "\n".join(_lines(path)))
    graph = tree.get("graph", [None])[0]
    if not isinstance(graph, dict) or not graph.get("node") or not graph.get("edge"):
        raise ConfigError(f"{path}: is no GML graph with nodes and edges")
    ids = [_number(node, "id", f"{path}, node {k}") for k, node in enumerate(graph["node"])]
    if ids != list(range(len(ids))):
        raise ConfigError(f"{path}: node ids must be 0 to {len(ids) - 1}, in order")
    waiting = []
    for node in graph["node"]:
        where = f"{path}, node {int(node['id'][0])}"
        policy = str(node.get("schedulingPolicy", ["FIFO"])[0])
        if policy != "FIFO":
            raise ConfigError(f"{where}: scheduler {policy!r} is not of the 2021 format, which has FIFO only")
        sizes = str(node.get("queueSizes", [""])[0]).split(",")
        waiting.append(_positive(sizes[0], f"{where}: queueSizes"))
    edge_of: dict[tuple[int, int], int] = {}
    ends, rates = [], []
    for k, edge in enumerate(graph["edge"]):
        where = f"{path}, edge {k}"
        pair = (int(_number(edge, "source", where)), int(_number(edge, "target", where)))
        if not all(0 <= end < len(ids) for end in pair) or pair[0] == pair[1]:
            raise ConfigError(f"{where}: {pair[0]} to {pair[1]} does not join two of the {len(ids)} nodes")
        if pair in edge_of:
            raise ConfigError(
                f"{where}: {pair[0]} to {pair[1]} is there twice; routings cannot tell them apart"
            )
        edge_of[pair] = k
        ends.append(pair)
        rates.append(_positive(str(edge.get("bandwidth", [""])[0]), f"{where}: bandwidth"))
    return _graph(waiting, ends, rates), edge_of


def _graph(waiting: list[float], ends: list[tuple[int, int]], rates: list[float]) -> SimGraph:
    count = len(ends)
    tail, head = (np.array(side, dtype=np.int32) for side in zip(*ends, strict=True))
    return SimGraph(
        nodes=tuple(str(node) for node in range(len(waiting))),
        edges=tuple(f"{source}-{target}" for source, target in ends),
        classes=(),
        tail=tail,
        head=head,
        law=np.full(count, Law.LINK, dtype=np.int8),
        scheduler=np.full(count, Scheduler.FIFO, dtype=np.int8),
        up=np.ones(count, dtype=np.bool_),
        metric=np.ones(count),
        capacity_bps=np.array(rates),
        fixed_s=np.zeros(count),
        buffer=np.array(waiting)[tail],  # the queue of a link is at the node that sends
        servers=np.ones(count, dtype=np.int32),
        service_s=np.zeros(count),
        service_scv=np.zeros(count),
        loss=np.zeros(count),
        transit=np.ones(len(waiting), dtype=np.bool_),
    )


def _number(tree: Tree, key: str, where: str) -> float:
    try:
        return float(tree[key][0])
    except (KeyError, ValueError, TypeError):
        raise ConfigError(f"{where}: a number {key!r} is expected") from None


def _positive(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 < value < float("inf"):
        raise ConfigError(f"{where} must be a number above 0, not {text[:40]!r}")
    return value


def _read_routing(path: Path, edge_of: dict[tuple[int, int], int]) -> dict[tuple[int, int], list[int]]:
    """Paths as edges, by source and target."""
    paths = {}
    for index, line in enumerate(_lines(path)):
        if not line.strip():
            continue
        try:
            nodes = [int(node) for node in line.split(";")]
            edges = [edge_of[pair] for pair in pairwise(nodes)]
        except ValueError:
            raise ConfigError(
                f"{path}, line {index + 1}: nodes joined by ';' are expected, not {line[:80]!r}"
            ) from None
        except KeyError as missing:
            raise ConfigError(f"{path}, line {index + 1}: the graph has no link {missing.args[0]}") from None
        if len(set(nodes)) != len(nodes) or len(nodes) < 2:
            raise ConfigError(f"{path}, line {index + 1}: the path {line[:80]!r} is a loop, or of one node")
        paths[nodes[0], nodes[-1]] = edges
    return paths


def _sample(
    name: str,
    graph: SimGraph,
    paths: dict[tuple[int, int], list[int]],
    *,
    traffic: tuple[str, str],
    measured: tuple[str, str],
    duration_s: float,
) -> Sample:
    """Put together one line of each file; `traffic` and `measured` are each where it stands, and the line."""
    count = len(graph.nodes)
    flows, classes = _flows(*traffic, count, paths)
    table = _result_table(*measured, count)[flows.source * count + flows.target]
    sent, dropped, delay, variance = table[:, 1], table[:, 2], table[:, 3], table[:, 10]
    with np.errstate(divide="ignore", invalid="ignore"):
        lost = np.where(sent > 0, dropped / sent, np.nan)
    return Sample(
        name,
        replace(graph, classes=classes),
        flows,
        Measured(
            np.where(delay > 0, delay, np.nan),
            np.where(variance > _DIGIT, variance, np.nan),
            lost,
            sent,
            duration_s,
        ),
    )


def _flows(
    where: str, line: str, count: int, paths: dict[tuple[int, int], list[int]]
) -> tuple[Flows, tuple[TrafficClass, ...]]:
    """The flows of one line of traffic, and their classes."""
    classes: dict[TrafficClass, int] = {}
    kinds: dict[tuple[str, ...], int] = {}
    pairs, routes, rates, of_class = [], [], [], []
    for row, record in enumerate(_records(where, line, count)):
        fields = record.split(",")
        if fields[0] == "-1":
            continue
        pair = divmod(row, count)
        here = f"{where}, record {row} ({pair[0]} to {pair[1]})"
        try:
            rate = float(fields[2])
            # The record but for its rates: flows that agree in it share a class.
            shape = (fields[0], *fields[3:])
            if shape not in kinds:
                kinds[shape] = classes.setdefault(_class_of(fields, here), len(classes))
        except ConfigError:
            raise
        except (ValueError, IndexError):
            raise ConfigError(f"{here}: {record[:80]!r} is no traffic record") from None
        if not 0 < rate < float("inf"):
            raise ConfigError(f"{here}: a rate above 0 packets is expected, not {fields[2]!r}")
        if pair not in paths:
            raise ConfigError(f"{here}: the routing has no path for it")
        pairs.append(pair)
        routes.append(paths[pair])
        rates.append(rate)
        of_class.append(kinds[shape])
    if not pairs:
        raise ConfigError(f"{where}: no flow at all")
    return Flows.of(pairs, routes, rates, of_class), tuple(classes)


def _records(where: str, line: str, count: int) -> list[str]:
    _, bar, payload = line.partition("|")
    records = payload.strip().removesuffix(";").split(";")
    if not bar or len(records) != count * count:
        raise ConfigError(
            f"{where}: {count * count} records after '|' are expected ({count} nodes), not {len(records)}"
        )
    return records


def _result_table(where: str, line: str, count: int) -> FloatArray:
    """The results of all pairs, [nodes * nodes, 11]."""
    records = _records(where, line, count)
    commas = _RESULT_FIELDS - 1
    if all(record.count(",") == commas for record in records):
        try:
            table = np.array(",".join(records).split(","), dtype=np.float64)
        except ValueError:
            table = np.array([np.nan])
        if np.isfinite(table).all():
            return table.reshape(len(records), _RESULT_FIELDS)
    row = next(row for row, record in enumerate(records) if not _is_result(record))
    raise ConfigError(
        f"{where}, record {row} ({row // count} to {row % count}): {_RESULT_FIELDS} finite numbers are "
        f"expected, not {records[row][:80]!r}"
    )


def _is_result(record: str) -> bool:
    try:
        fields = [float(field) for field in record.split(",")]
    except ValueError:
        return False
    return len(fields) == _RESULT_FIELDS and bool(np.isfinite(fields).all())


def _class_of(fields: list[str], where: str) -> TrafficClass:
    """The class of a traffic record: kind of arrivals, rates, parameters, kind of sizes, parameters."""
    kind = int(fields[0])
    if kind == 0:  # exponential gaps: equivalent rate, packet rate, cut-off in means
        arrivals, at = Arrivals.POISSON, 4
    elif kind == 1:  # equal gaps: equivalent rate, packet rate
        arrivals, at = Arrivals.CBR, 3
    else:
        raise ConfigError(
            f"{where}: time distribution {kind} is not known here (0 exponential, 1 deterministic)"
        )
    sizes, probabilities = _sizes([float(field) for field in fields[at:]], where)
    octets = tuple(size / 8.0 for size in sizes)
    name = f"{arrivals}-" + "-".join(f"{size:g}" for size in sizes)
    return TrafficClass(name, octets, probabilities, arrivals=arrivals)


def _sizes(fields: list[float], where: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Sizes in bits and their probabilities, from kind, mean and parameters (the type of service is last)."""
    kind, mean = int(fields[0]), fields[1]
    sizes: tuple[float, ...]
    shares: tuple[float, ...]
    if kind == 0:
        sizes, shares = (mean,), (1.0,)
    elif kind == 2:
        low, high = fields[2], fields[3]
        share = (high - mean) / (high - low) if high != low else 1.0
        sizes, shares = (low, high), (share, 1.0 - share)
    elif kind == 3:
        count = int(fields[2])
        sizes, shares = tuple(fields[3 : 3 + 2 * count : 2]), tuple(fields[4 : 4 + 2 * count : 2])
        if not 0 < count == len(sizes) == len(shares):
            raise ConfigError(f"{where}: {count} sizes with probabilities are expected")
    else:
        raise ConfigError(
            f"{where}: size distribution {kind} is not known here (0 one size, 2 two, 3 a list)"
        )
    if min(sizes) <= 0 or min(shares) < 0 or abs(sum(shares) - 1.0) > 1e-6 or not np.isfinite(sizes).all():
        raise ConfigError(f"{where}: sizes {sizes} with probabilities {shares} are no distribution")
    return sizes, shares
