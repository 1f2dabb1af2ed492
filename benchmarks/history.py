"""Live state, mapping and history: cost per leaf, each beside a plain rival in the same run. Prints JSON.

- live: `LiveStore.apply` in batches of 100, beside assigning the same leaves to a dict (no versions, deltas).
- mapping: a change of figures, and of an interface's state, in a network of --nodes nodes, beside joining the
  whole network anew.
- history: `append` until on disk, beside SQLite (WAL, executemany, a commit per 10,000 rows); then one leaf's
  series of a minute's steps and the state of a past moment, beside SQLite with an index for just that.

- year: --days of one value a minute of --series leaves (`_year.py`): size, questions, memory, beside SQLite
  and a plain DuckDB table.

CPU seconds are of this process with all its threads: other load on the machine does not blur them.

    python benchmarks/history.py [--rows 500000] [--nodes 250] [--days 365] [--series 1000] [--quick]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

from _year import measure_year

from domain_twin.datastore.history import History
from domain_twin.datastore.live import LiveStore
from domain_twin.mapping.mapper import Mapper
from domain_twin.model import Change, Delta, Origin, Update, UpdateBatch, Value, Version

SECOND = 1_000_000_000
START = 1_800_000_000 * SECOND // (3600 * SECOND) * (3600 * SECOND)
DEVICES = 50
LEAVES = 40
BATCH = 100


def cpu(work: Callable[[], Any]) -> float:
    """CPU seconds of this process that `work` took."""
    before = time.process_time()
    work()
    return time.process_time() - before


def us(seconds: float, count: int) -> float:
    return round(seconds / count * 1e6, 3)


def paths() -> list[str]:
    return [
        f"/ietf-interfaces:interfaces/interface[name='eth{i // 10}']/statistics/counter-{i % 10}"
        for i in range(LEAVES)
    ]


def batches(rows: int, *, fresh: bool) -> list[UpdateBatch]:
    """Batches of one device each; `fresh`: every value is new."""
    names, made = paths(), []
    for number in range(rows // BATCH):
        at = START + number * SECOND // 20
        device = f"device-{number % DEVICES}"
        updates = tuple(
            Update(device, names[i % LEAVES], number * BATCH + i if fresh else i % LEAVES, at)
            for i in range(BATCH)
        )
        made.append(UpdateBatch(device, at, updates))
    return made


def feed(store: LiveStore, load: list[UpdateBatch]) -> None:
    for batch in load:
        store.apply(batch)


def assign(plain: dict[tuple[str, str], tuple[Value, int]], load: list[UpdateBatch]) -> None:
    for batch in load:
        for update in batch.updates:
            plain[update.device, update.path] = (update.value, update.observed_at)


def measure_live(rows: int) -> dict[str, Any]:
    report: dict[str, Any] = {}
    warm = DEVICES * 2
    for name, fresh in (("changed", True), ("unchanged", False)):
        store, load = LiveStore(), batches(rows, fresh=fresh)
        plain: dict[tuple[str, str], tuple[Value, int]] = {}
        for batch in load[:warm]:
            store.apply(batch)
        counted = load[warm:]
        leaves = len(counted) * BATCH
        report[f"{name}_us"] = us(cpu(partial(feed, store, counted)), leaves)
        report[f"{name}_plain_dict_us"] = us(cpu(partial(assign, plain, counted)), leaves)
    again = 200
    report["leaves"] = len(store)
    report["snapshot_us"] = us(cpu(lambda: [store.snapshot() for _ in range(again)]), again)
    report["plain_dict_copy_us"] = us(cpu(lambda: [plain.copy() for _ in range(again)]), again)
    return report


def network(nodes: int) -> Iterator[tuple[str, str, Value]]:
    """A ring with chords: four links a node, each measured."""
    top = "/ietf-network:networks/network[network-id='urn:ndt:big']"
    for number in range(nodes):
        device, node = f"n{number}", f"urn:ndt:big:n{number}"
        yield device, f"{top}/node[node-id='{node}']/node-id", node
        for port, distance in enumerate((1, -1, 7, -7)):
            name, other = f"eth{port}", f"urn:ndt:big:n{(number + distance) % nodes}"
            tp, at = f"{node}:{name}", f"/ietf-interfaces:interfaces/interface[name='{name}']"
            yield device, f"{at}/oper-status", "up"
            yield device, f"{at}/speed", 10_000_000_000
            point = f"{top}/node[node-id='{node}']/ietf-network-topology:termination-point[tp-id='{tp}']"
            attributes = "ietf-l3-unicast-topology:l3-termination-point-attributes"
            yield device, f"{point}/{attributes}/interface-name", name
            link = f"{top}/ietf-network-topology:link[link-id='{tp}:out']"
            yield device, f"{link}/source/source-node", node
            yield device, f"{link}/source/source-tp", tp
            yield device, f"{link}/destination/dest-node", other
            yield device, f"{link}/destination/dest-tp", f"{other}:eth{port ^ 1}"
            yield from figures(device, f"{tp}:out", 0)


def figures(device: str, link: str, salt: int) -> Iterator[tuple[str, str, Value]]:
    at = f"/fedtwin-performance:performance/link[link-id='{link}']"
    for leaf in ("one-way-delay", "delay-variance", "loss-ratio", "utilisation", "carried-rate"):
        yield device, f"{at}/{leaf}", Decimal(salt % 997) / 1000
    yield device, f"{at}/samples", 100 + salt


def measure_mapping(nodes: int) -> dict[str, Any]:
    sequence = 0

    def delta(leaves: Iterator[tuple[str, str, Value]] | list[tuple[str, str, Value]]) -> Delta:
        nonlocal sequence
        sequence += 1
        changes = tuple(Change(d, p, v, START, START, Origin.MEASURED) for d, p, v in leaves)
        return Delta(Version("e", sequence - 1), Version("e", sequence), changes)

    everything = delta(network(nodes))
    mapper = Mapper("big")
    whole_s = cpu(lambda: (mapper.apply(everything), mapper.network()))
    rounds = 10
    interval = [
        delta(
            leaf
            for number in range(nodes)
            for port in range(4)
            for leaf in figures(f"n{number}", f"urn:ndt:big:n{number}:eth{port}:out", salt)
        )
        for salt in range(1, rounds + 1)
    ]
    figures_s = cpu(lambda: [(mapper.apply(item), mapper.network()) for item in interval])
    oper = "/ietf-interfaces:interfaces/interface[name='eth0']/oper-status"
    flips = [delta([(f"n{i}", oper, state)]) for i in range(20) for state in ("down", "up")]
    flip_s = cpu(lambda: [(mapper.apply(item), mapper.network()) for item in flips])
    return {
        "nodes": nodes,
        "links": len(mapper.network().links),
        "leaves": len(everything.changes),
        "whole_network_ms": round(whole_s * 1e3, 2),
        "figures_us_per_leaf": us(figures_s, sum(len(item.changes) for item in interval)),
        "interface_down_ms": round(flip_s / len(flips) * 1e3, 3),
    }


async def measure_history(rows: int, folder: Path) -> dict[str, Any]:
    store = LiveStore(ring_changes=1)
    deltas = [delta for batch in batches(rows, fresh=True) if (delta := store.apply(batch))]
    end = deltas[-1].changes[-1].received_at
    history = await History.open(folder / "history", clock=lambda: end, max_rows=rows)
    cpu_s, wall_s = time.process_time(), time.perf_counter()
    for number, delta in enumerate(deltas):
        history.append(delta)
        if number % 100 == 99:
            await asyncio.sleep(0)
    await history.flush()
    cpu_s, wall_s = time.process_time() - cpu_s, time.perf_counter() - wall_s
    device, path, middle = "device-3", paths()[7], START + (end - START) // 2
    reads: dict[str, float] = {}
    for name, question in (
        ("series_ms", lambda: history.series(device, path, START, end, 60 * SECOND)),
        ("state_at_ms", lambda: history.state_at(middle)),
    ):
        took = []
        for _ in range(3):
            before = time.perf_counter()
            await question()
            took.append(time.perf_counter() - before)
        reads[name] = round(min(took) * 1e3, 2)
    await history.close()
    size = sum(file.stat().st_size for file in (folder / "history").rglob("*") if file.is_file())
    return {
        "rows": rows,
        "rows_per_cpu_s": round(rows / cpu_s),
        "rows_per_wall_s": round(rows / wall_s),
        "bytes_per_row": round(size / rows, 1),
        **reads,
        "sqlite": measure_sqlite(deltas, folder / "rival.sqlite", device, path, middle),
    }


def measure_sqlite(deltas: list[Delta], file: Path, device: str, path: str, middle: int) -> dict[str, Any]:
    """The same rows in one table with an index that serves the two questions."""
    rows = [
        (c.device, c.path, c.received_at, c.observed_at, c.value, c.origin.value)
        for delta in deltas
        for c in delta.changes
    ]
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE c (device, path, received_at, observed_at, value, origin)")
        connection.execute("CREATE INDEX i ON c (device, path, received_at)")

        def write() -> None:
            for first in range(0, len(rows), 10_000):
                connection.executemany(
                    "INSERT INTO c VALUES (?, ?, ?, ?, ?, ?)", rows[first : first + 10_000]
                )
                connection.commit()

        wall_s = time.perf_counter()
        cpu_s = cpu(write)
        wall_s = time.perf_counter() - wall_s
        queries = {
            "series_ms": (
                "SELECT received_at / 60000000000, avg(value) FROM c"
                " WHERE device = ? AND path = ? GROUP BY 1",
                (device, path),
            ),
            "state_at_ms": (
                "SELECT device, path, max(received_at), value FROM c WHERE received_at <= ? GROUP BY 1, 2",
                (middle,),
            ),
        }
        reads = {}
        for name, (query, values) in queries.items():
            took = []
            for _ in range(3):
                before = time.perf_counter()
                connection.execute(query, values).fetchall()
                took.append(time.perf_counter() - before)
            reads[name] = round(min(took) * 1e3, 2)
    return {
        "rows_per_cpu_s": round(len(rows) / cpu_s),
        "rows_per_wall_s": round(len(rows) / wall_s),
        "bytes_per_row": round(file.stat().st_size / len(rows), 1),
        **reads,
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--nodes", type=int, default=250)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--series", type=int, default=1000)
    parser.add_argument("--folder", type=Path, help="keep the year here, and ask again one that is there")
    parser.add_argument("--only", choices=("live", "mapping", "history", "year"))
    parser.add_argument("--quick", action="store_true", help="a tenth of the rows; a month of 100 series")
    options = parser.parse_args()
    rows = options.rows // 10 if options.quick else options.rows
    days, series = (31, 100) if options.quick else (options.days, options.series)
    with tempfile.TemporaryDirectory() as folder:
        parts: dict[str, Callable[[], dict[str, Any]]] = {
            "live": lambda: measure_live(rows),
            "mapping": lambda: measure_mapping(options.nodes),
            "history": lambda: asyncio.run(measure_history(rows, Path(folder))),
            "year": lambda: measure_year(days, series, options.folder or Path(folder)),
        }
        report = {name: part() for name, part in parts.items() if options.only in (None, name)}
    json.dump(report, sys.stdout, indent=2)
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
