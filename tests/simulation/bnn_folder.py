"""Folders in the BNN-UPC format, written small; measured values come from the caller."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from domain_twin.simulation.flows import solve_flows
from domain_twin.simulation.outside.bnn_upc import Sample, read_samples

POISSON = "0,{bits},{packets},10,2,1000,300,1700,0"
SILENT_RESULT = "0,0,0,-1,-1,-1,-1,-1,-1,-1,-1"
# 0 - 1 - 2 - 3 in a row, both ways, and 1 - 4.
LINKS = [(0, 1), (1, 0), (1, 2), (2, 1), (2, 3), (3, 2), (1, 4), (4, 1)]
PATHS = {
    (0, 1): [0, 1], (0, 2): [0, 1, 2], (0, 3): [0, 1, 2, 3], (1, 3): [1, 2, 3], (4, 3): [4, 1, 2, 3],
    (3, 0): [3, 2, 1, 0], (2, 4): [2, 1, 4], (4, 2): [4, 1, 2], (2, 3): [2, 3],
}  # fmt: skip


def write_graph(path: Path, rate: float = 10000.0, *, nodes: int = 5, queue: str = "32") -> None:
    lines = ["graph [", "  directed 1", "  multigraph 1"]
    for node in range(nodes):
        lines += ["  node [", f"    id {node}", f'    label "{node}"', f'    queueSizes "{queue}"']
        lines += ['    schedulingPolicy "FIFO"', "    levelsQoS 1", "  ]"]
    for source, target in LINKS:
        lines += ["  edge [", f"    source {source}", f"    target {target}", "    key 0", "    weight 1"]
        lines += [f"    bandwidth {rate}", "  ]"]
    path.write_text("\n".join([*lines, "]"]) + "\n", encoding="utf-8")


def write_folder(
    folder: Path,
    *,
    loads: Sequence[float] = (0.5,),
    name: str = "results_5_400-2000_0_0",
    traffic: Callable[[tuple[int, int], float], str] | None = None,
    result: str = "{bits},{packets},0,0.25,-1.5,0.1,0.1,0.2,0.3,0.4,0.01",
    archive: bool = False,
) -> Path:
    """One sample a load (packets/s of each flow); every sample on the same graph and routing."""
    (folder / "graphs").mkdir(parents=True, exist_ok=True)
    (folder / "routings").mkdir(exist_ok=True)
    write_graph(folder / "graphs" / "graph-5.txt")
    (folder / "routings" / "routing-5.txt").write_text(
        "".join(";".join(map(str, path)) + "\n" for path in PATHS.values()), encoding="utf-8"
    )
    results = folder / name
    results.mkdir()
    inputs, offered, seen, stable = [], [], [], []
    for index, load in enumerate(loads):
        inputs.append(f"{index};graph-5.txt;routing-5.txt")
        records, found = [], []
        for row in range(25):
            pair = (row // 5, row % 5)
            if pair not in PATHS:
                records.append("-1,0,-1,0,0")
                found.append(SILENT_RESULT)
                continue
            rate = load * (1 + 0.1 * (row % 7))
            record = POISSON if traffic is None else traffic(pair, rate)
            records.append(record.format(bits=1000 * rate, packets=rate))
            found.append(result.format(bits=1000 * rate, packets=rate))
        offered.append("1000.0|" + ";".join(records))
        seen.append("100.0,0,0.2|" + ";".join(found))
        stable.append("12000;0.0009;OK;Mem(KB):1;Time(s):2")
    for file, lines in (
        ("input_files.txt", inputs), ("traffic.txt", offered), ("simulationResults.txt", seen),
        ("stability.txt", stable),
    ):  # fmt: skip
        (results / file).write_text("\n".join(lines) + "\n", encoding="utf-8")
    if archive:
        pack(results)
    return results


def pack(results: Path) -> None:
    """Replace a results folder by its archive."""
    with tarfile.open(results.parent / f"{results.name}.tar.gz", "w:gz") as packed:
        packed.add(results, arcname=results.name)
    for path in results.iterdir():
        path.unlink()
    results.rmdir()


def measure(results: Path, off: Callable[[Sample], tuple[np.ndarray, np.ndarray]]) -> None:
    """Write what `off` says of each sample (delay, variance) into the results."""
    samples = list(read_samples(results.parent))
    lines = []
    for sample in samples:
        delay, variance = off(sample)
        loss = solve_flows(sample.graph, sample.flows).loss
        row = {pair: k for k, pair in enumerate(zip(sample.flows.source, sample.flows.target, strict=True))}
        records = []
        for pair in ((a, b) for a in range(5) for b in range(5)):
            if pair not in row:
                records.append(SILENT_RESULT)
                continue
            k, rate = row[pair], sample.flows.rate_pps[row[pair]]
            records.append(
                f"{1000 * rate},{rate},{rate * loss[k]},{delay[k]:.9f},-1.5,0,0,0,0,0,{variance[k]:.12f}"
            )
        lines.append("100.0,0,0.2|" + ";".join(records))
    (results / "simulationResults.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
