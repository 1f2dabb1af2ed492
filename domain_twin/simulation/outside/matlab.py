"""Networks and answers as MATLAB files (level 5: MATLAB 5 to 7.2, Octave), there and back; Octave scripts.

One variable, `network`, holds a struct with a column for each array of the engine's graph, names as cell
arrays of text, indices from 1, `demand` as class x destination x source in packets/s; `solution`, where there
is one, beside it. Level 7.3 is HDF5, another format: refused with the way out.
"""

from __future__ import annotations

import asyncio
import math
import shutil
import tempfile
import zlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from domain_twin.errors import ConfigError, OperationRejected, OverCapacity
from domain_twin.simulation.checks import check_demand, check_graph
from domain_twin.simulation.graph import Arrivals, Demand, Law, Scheduler, SimGraph, TrafficClass
from domain_twin.simulation.outside.files import FileNetwork
from domain_twin.simulation.solve import Solution

__all__ = ["octave", "read_mat", "read_solution", "write_mat"]

_COLUMNS: dict[str, Any] = {
    "metric": np.float64,
    "capacity_bps": np.float64,
    "fixed_s": np.float64,
    "buffer": np.float64,
    "servers": np.int32,
    "service_s": np.float64,
    "service_scv": np.float64,
    "loss": np.float64,
}
_FIGURES = ("delay_s", "variance_s2", "loss", "throughput_pps")
_CLASS_FIELDS = ("exponential", "on_s", "off_s", "priority", "weight")
_FORMAT = "fedtwin-network"
_HDF5 = b"\x89HDF"
_MOST_OUTPUT = 4000
# What else than its MatReadError scipy raises for a file that is something else, or damaged.
_UNREADABLE = (ArithmeticError, LookupError, NotImplementedError, TypeError, ValueError, EOFError, zlib.error)


def write_mat(path: Path, network: FileNetwork, solution: Solution | None = None) -> None:
    """Write `network`, and `solution` beside it, with compression. Raises ConfigError."""
    from scipy.io import savemat

    variables = {"network": _struct(network)}
    if solution is not None:
        figures = {name: np.asarray(getattr(solution, name), np.float64) for name in _FIGURES}
        figures["utilisation"] = _column(solution.utilisation)
        variables["solution"] = figures
    try:
        savemat(path, variables, do_compression=True, long_field_names=True, oned_as="column")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written ({error.strerror})") from error


def read_mat(path: Path) -> FileNetwork:
    """The network of a file. Raises ConfigError."""
    found = _variables(path).get("network")
    if not isinstance(found, dict):
        raise ConfigError(f"{path}: has no struct called `network`; `fedtwin simulate --export` writes one")
    return _Reader(path, found).network()


def read_solution(path: Path) -> dict[str, Any]:
    """The figures of the file's `solution`, by name, as they were written. Raises ConfigError."""
    variables = _variables(path)
    found = variables.get("solution")
    if not isinstance(found, dict):
        raise ConfigError(f"{path}: has no struct called `solution`")
    network = _Reader(path, variables.get("network") or {}).network()
    shape = network.demand.rate.shape
    figures: dict[str, Any] = {}
    for name, value in found.items():
        wanted = (len(network.graph.edges),) if name == "utilisation" else shape
        array = np.asarray(value, np.float64)
        if array.size != math.prod(wanted):
            raise ConfigError(f"{path}: solution.{name} has {array.size} numbers, not {math.prod(wanted)}")
        figures[name] = array.reshape(wanted)
    return figures


async def octave(script: Path, network: FileNetwork, *, limit_s: float = 60.0) -> tuple[str, dict[str, Any]]:
    """Run a script of the user's under Octave with `network` defined; what it printed, and its `result`.

    `result` is a struct (or number) that the script may set. Killed with the limit. Raises ConfigError (no
    Octave, no script), OperationRejected (the script fails), OverCapacity (the limit is over).
    """
    program = shutil.which("octave-cli") or shutil.which("octave")
    if program is None:
        raise ConfigError(
            "Octave is not installed: neither octave-cli nor octave is in PATH "
            "(Debian and Ubuntu: `apt install octave`); MATLAB itself reads the exported file"
        )
    if not await asyncio.to_thread(script.is_file):
        raise ConfigError(f"{script}: no such file; name a script (.m)")
    with tempfile.TemporaryDirectory(prefix="fedtwin-") as folder:
        given, taken = Path(folder) / "network.mat", Path(folder) / "result.mat"
        await asyncio.to_thread(write_mat, given, network)
        place = await asyncio.to_thread(script.resolve)
        code = (
            f"load({_quoted(given)}); source({_quoted(place)}); "
            f"if exist('result', 'var'), save('-v7', {_quoted(taken)}, 'result'); end"
        )
        said = await _run([program, "--no-gui", "--no-init-file", "--quiet", "--eval", code], limit_s)
        has_result = await asyncio.to_thread(taken.exists)
        found = (await asyncio.to_thread(_variables, taken))["result"] if has_result else {}
    return said, found if isinstance(found, dict) else {"result": found}


async def _run(command: list[str], limit_s: float) -> str:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *command, stdin=asyncio.subprocess.DEVNULL, stdout=pipe, stderr=pipe
    )
    try:
        async with asyncio.timeout(limit_s):
            said, complained = await process.communicate()
    except TimeoutError as error:
        raise OverCapacity(
            f"the script did not end within {limit_s:g} s; allow more, or ask for less"
        ) from error
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode:
        why = complained.decode(errors="replace").strip()[-_MOST_OUTPUT:] or f"status {process.returncode}"
        raise OperationRejected(f"the script failed: {why}")
    return said.decode(errors="replace")


def _quoted(path: Path) -> str:
    text = str(path).replace("'", "''")
    return f"'{text}'"


def _cells(values: Any) -> Any:
    """A column of cells."""
    column = np.empty((len(values), 1), object)
    for i, value in enumerate(values):
        column[i, 0] = value
    return column


def _column(values: Any, kind: Any = np.float64) -> Any:
    return np.asarray(values, kind).reshape(-1, 1)


def _struct(network: FileNetwork) -> dict[str, Any]:
    graph = network.graph
    arrays = {name: _column(getattr(graph, name), kind) for name, kind in _COLUMNS.items()}
    classes = {
        "name": _cells([each.name for each in graph.classes]),
        "octets": _cells([_column(each.sizes) for each in graph.classes]),
        "probabilities": _cells([_column(each.probabilities) for each in graph.classes]),
        "arrivals": _cells([each.arrivals.value for each in graph.classes]),
        **{name: _column([getattr(each, name) for each in graph.classes]) for name in _CLASS_FIELDS},
    }
    groups = {
        "name": _cells(list(graph.groups)),
        "edges": _cells(
            [_column(np.array(edges, np.int32) + 1, np.int32) for edges in graph.groups.values()]
        ),
    }
    return {
        "format": _FORMAT,
        "version": 1.0,
        "name": network.name,
        "nodes": _cells(graph.nodes),
        "edges": _cells(graph.edges),
        "tail": _column(graph.tail + 1, np.int32),
        "head": _column(graph.head + 1, np.int32),
        "law": _cells([Law(int(law)).name.lower() for law in graph.law]),
        "scheduler": _cells([Scheduler(int(s)).name.lower() for s in graph.scheduler]),
        "up": _column(graph.up, np.bool_),
        "transit": _column(graph.transit, np.bool_),
        **arrays,
        "classes": classes,
        "groups": groups,
        "demand": np.asarray(network.demand.rate, np.float64),
    }


def _variables(path: Path) -> dict[str, Any]:
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        with path.open("rb") as file:
            head = file.read(516)
        if head[:8] != b"MATLAB 5" and (b"MATLAB 7.3" in head or _HDF5 in head):
            raise ConfigError(
                f"{path}: level 7.3 (HDF5) is not read; save it in MATLAB with save(..., '-v7')"
            )
        return dict(loadmat(path, simplify_cells=True))
    except OSError as error:
        if error.strerror is not None:
            raise ConfigError(f"{path}: cannot be read ({error.strerror}); check the path") from error
        raise _no_mat(path, error) from error  # scipy's own, where a file ends early
    except (MatReadError, *_UNREADABLE) as error:
        raise _no_mat(path, error) from error


def _no_mat(path: Path, error: Exception) -> ConfigError:
    why = f"no MATLAB file of level 5, or not all of one ({error})"
    return ConfigError(f"{path}: {why}; save it with save(..., '-v7')")


class _Reader:
    """One `network` struct; every refusal names file and field."""

    def __init__(self, path: Path, struct: Mapping[str, Any]) -> None:
        self.path, self.struct = path, struct

    def network(self) -> FileNetwork:
        if self._text("format") != _FORMAT:
            self._refuse("format", f"{_FORMAT!r} is expected")
        nodes, edges = self._words("nodes"), self._words("edges")
        classes = self._classes()
        arrays = {name: self._numbers(name, len(edges)).astype(kind) for name, kind in _COLUMNS.items()}
        graph = SimGraph(
            nodes,
            edges,
            classes,
            self._indices("tail", len(edges), len(nodes)),
            self._indices("head", len(edges), len(nodes)),
            self._codes("law", len(edges), Law),
            self._codes("scheduler", len(edges), Scheduler),
            self._numbers("up", len(edges)) != 0,
            **arrays,
            transit=self._numbers("transit", len(nodes)) != 0,
        )
        graph = replace(graph, groups=self._groups(len(edges)))
        rate = np.asarray(self._field("demand"), np.float64)
        shape = (len(classes), len(nodes), len(nodes))
        if rate.size != math.prod(shape):
            self._refuse("demand", f"{rate.size} numbers; class x destination x source needs {shape}")
        demand = Demand(rate.reshape(shape))
        try:
            check_graph(graph)
            check_demand(graph, demand)
        except ConfigError as error:
            raise ConfigError(f"{self.path}: network: {error}") from error
        edges_of = {name: (e,) for e, name in enumerate(edges)}
        return FileNetwork(
            self._text("name"), graph, demand, edges_of, {name: n for n, name in enumerate(nodes)}
        )

    def _refuse(self, place: str, why: str) -> NoReturn:
        raise ConfigError(f"{self.path}: network.{place}: {why}")

    def _field(self, name: str) -> Any:
        value: Any = self.struct
        for part in name.split("."):
            if not isinstance(value, Mapping) or part not in value:
                self._refuse(name, "is missing")
            value = value[part]
        return value

    def _text(self, name: str) -> str:
        value = self._field(name)
        if isinstance(value, np.ndarray) and value.size == 0:
            return ""
        if not isinstance(value, str):
            self._refuse(name, "text is expected")
        return value

    def _list(self, name: str) -> list[Any]:
        value = self._field(name)
        if isinstance(value, np.ndarray):
            return value.ravel().tolist() if value.dtype != object else list(value.ravel())
        return list(value) if isinstance(value, list | tuple) else [value]

    def _words(self, name: str) -> tuple[str, ...]:
        words = self._list(name)
        if not all(isinstance(word, str) for word in words):
            self._refuse(name, "a cell array of text is expected")
        return tuple(words)

    def _numbers(self, name: str, count: int) -> Any:
        try:
            values = np.asarray(self._list(name), np.float64)
        except (TypeError, ValueError):
            self._refuse(name, "numbers are expected")
        if len(values) != count:
            self._refuse(name, f"{len(values)} values; {count} are expected")
        return values

    def _indices(self, name: str, count: int, limit: int) -> Any:
        values = self._numbers(name, count)
        bad = np.flatnonzero(~((values >= 1) & (values <= limit) & (values == np.floor(values))))
        if bad.size:
            self._refuse(f"{name}({bad[0] + 1})", f"{values[bad[0]]:g} is no index from 1 to {limit}")
        return values.astype(np.int32) - 1

    def _codes(self, name: str, count: int, kind: type[Law] | type[Scheduler]) -> Any:
        words = self._words(name)
        known = {each.name.lower(): int(each) for each in kind}
        if len(words) != count or not set(words) <= known.keys():
            self._refuse(name, f"{count} of the words {', '.join(known)} are expected")
        return np.array([known[word] for word in words], np.int8)

    def _classes(self) -> tuple[TrafficClass, ...]:
        names = self._words("classes.name")
        columns = {name: self._numbers(f"classes.{name}", len(names)) for name in _CLASS_FIELDS}
        sizes = self._ragged("classes.octets", len(names))
        shares = self._ragged("classes.probabilities", len(names))
        arrivals = self._words("classes.arrivals")
        known = [each.value for each in Arrivals]
        if len(arrivals) != len(names) or not set(arrivals) <= set(known):
            self._refuse("classes.arrivals", f"{len(names)} of the words {', '.join(known)} are expected")
        found = []
        for c, name in enumerate(names):
            if len(sizes[c]) != len(shares[c]) or not all(size > 0 for size in sizes[c]):
                self._refuse(
                    "classes.octets", f"sizes of {name} above 0, each with its probability, are expected"
                )
            if not math.isclose(sum(shares[c]), 1.0, abs_tol=1e-6) or min(shares[c]) < 0:
                self._refuse("classes.probabilities", f"those of {name} do not add up to 1")
            found.append(
                TrafficClass(
                    name,
                    sizes[c],
                    shares[c],
                    bool(columns["exponential"][c]),
                    Arrivals(arrivals[c]),
                    float(columns["on_s"][c]),
                    float(columns["off_s"][c]),
                    int(columns["priority"][c]),
                    float(columns["weight"][c]),
                )
            )
        return tuple(found)

    def _ragged(self, name: str, count: int) -> list[tuple[float, ...]]:
        cells = self._list(name)
        if count == 1 and not isinstance(cells[0], np.ndarray | list):
            cells = [cells]  # one cell with several numbers comes as these
        if len(cells) != count:
            self._refuse(name, f"{len(cells)} cells; {count} are expected")
        return [tuple(np.atleast_1d(np.asarray(cell, np.float64)).ravel().tolist()) for cell in cells]

    def _groups(self, edges: int) -> dict[str, tuple[int, ...]]:
        names = self._words("groups.name") if np.size(self._field("groups.name")) else ()
        if not names:
            return {}
        members = self._ragged("groups.edges", len(names))
        for name, group in zip(names, members, strict=True):
            if not all(1 <= e <= edges and e == int(e) for e in group):
                self._refuse("groups.edges", f"those of {name} are no indices from 1 to {edges}")
        return {name: tuple(int(e) - 1 for e in group) for name, group in zip(names, members, strict=True)}
