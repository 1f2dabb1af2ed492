"""A consumer that stalls while a device offers millions of updates: what it costs, and what comes back.

A flat-out gNMI target (a process of its own, TLS on loopback) sends its state, floods changes of it, and then
is quiet. The reader's consumer is stalled until the flood is over, and then goes on. Measured: how much the
reader's memory grew, what was dropped (and counted), and whether its state then equals the device's.

`many_leaves` changes more leaves than the budget holds, so that state has to be dropped and read anew;
`few_leaves` a thousand, which conflation alone keeps in step. The rival is pygnmi's subscribe2, whose parsed
messages wait in a queue without a bound: it gets a part of the updates and 3 GiB of memory at most, and its
growth is given for what it took. Prints JSON.

    python benchmarks/stalled_consumer.py [--updates 2000000] [--quick] [--skip-rival]
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import multiprocessing
import resource
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
from ingest import COUNTERS, certificates, pygnmi_client

from domain_twin.config import GnmiConfig

SIZE = 100
"""Updates a notification."""
BUDGET_MB = 32
RIVAL_BYTES = 3 * 1024**3
RIVAL_SHARE = 4
"""The rival is offered this part of the updates, and its growth is also given for all of them."""
MEGABYTE = 1_000_000


def serve(files: dict[str, Path], leaves: int, total: int, pipe: Any) -> None:
    """The device: tells its port, then how the flood goes, then the digest of its final state."""
    asyncio.run(_serve(files, leaves, total, pipe))


async def _serve(files: dict[str, Path], leaves: int, total: int, pipe: Any) -> None:
    from _counters_target import SYNC, add_counter, serve_counters
    from pygnmi.spec.v080 import gnmi_pb2 as pb

    state = [0] * leaves
    flooded = False
    sent_at = 0

    def message(first: int) -> bytes:
        note = pb.Notification(timestamp=time.time_ns())
        for at in range(first, min(first + SIZE, leaves)):
            add_counter(note, f"eth{at // len(COUNTERS)}", COUNTERS[at % len(COUNTERS)], state[at])
        octets: bytes = pb.SubscribeResponse(update=note).SerializeToString()
        return octets

    async def stream() -> AsyncIterator[bytes]:
        nonlocal flooded, sent_at
        for first in range(0, leaves, SIZE):
            yield message(first)
        yield SYNC
        if not flooded:
            flooded = True
            while sent_at < total:
                first = sent_at % leaves
                for at in range(first, min(first + SIZE, leaves)):
                    state[at] = (at * 7919 + sent_at) % 2**40 + 1
                yield message(first)
                sent_at += SIZE
            pipe.send(_digest({_path(at): value for at, value in enumerate(state)}))
        await asyncio.sleep(3600)

    pipe.send(await serve_counters(files, stream))
    await asyncio.sleep(3600)


def _path(at: int) -> str:
    name = f"eth{at // len(COUNTERS)}"
    return f"/ietf-interfaces:interfaces/interface[name='{name}']/statistics/{COUNTERS[at % len(COUNTERS)]}"


def _digest(state: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()


def ours(files: dict[str, Path], port: int, leaves: int, flood_over: Any, out: Any) -> None:
    """A mirror of the agent with its intake, pipeline stages and live state."""
    from domain_twin.agent import collector
    from domain_twin.agent.device_schemas import DeviceSchemas
    from domain_twin.agent.mirror import Mirror
    from domain_twin.config import DeviceConfig, YangConfig
    from domain_twin.datastore.live import LiveStore
    from domain_twin.model import Connection, DeviceStatus, UpdateBatch
    from domain_twin.southbound.conflate import Facts
    from domain_twin.southbound.intake import Intake, Overload
    from domain_twin.yang.quarantine import Typer
    from domain_twin.yang.schema import SchemaSet

    schema = SchemaSet.load(["ietf-interfaces"])
    typer, store = Typer(schema), LiveStore()
    statuses: list[DeviceStatus] = []
    overloads: list[Overload] = []

    def consume(batch: UpdateBatch) -> None:
        store.apply(typer.type_batch(batch)[0])

    intake = Intake(
        max_bytes=BUDGET_MB * MEGABYTE,
        keep=Facts(schema),
        consume=consume,
        on_status=statuses.append,
        on_overload=overloads.append,
    )
    gnmi = GnmiConfig(
        address=f"127.0.0.1:{port}",
        root=files["root"],
        certificate=files["client"],
        key=files["client_key"],
        server_name="localhost",
    )
    device = DeviceConfig(name="flood", gnmi=gnmi, paths=("/ietf-interfaces:interfaces",))
    schemas = DeviceSchemas("bench", schema, YangConfig(), typer.use)
    mirror = Mirror(device, schemas=schemas, intake=intake, on_status=statuses.append)

    async def until(condition: Callable[[], object]) -> None:
        while not condition():  # noqa: ASYNC110 - sampled, as it is measured
            await asyncio.sleep(0.02)

    async def run() -> dict[str, Any]:
        consumer = asyncio.create_task(intake.run())
        mirroring = asyncio.create_task(mirror.run())
        await until(lambda: any(s.connection is Connection.SYNCHRONISED for s in statuses))
        consumer.cancel()
        collector.settle()
        memory = psutil.Process()
        before = most = memory.memory_info().rss
        quiet_since, offered = time.monotonic(), -1
        while not flood_over.is_set() or time.monotonic() - quiet_since < 1.0:
            await asyncio.sleep(0.05)
            most = max(most, memory.memory_info().rss)
            now_offered = intake.counters()["flood"].offered
            if now_offered != offered:
                offered, quiet_since = now_offered, time.monotonic()
        stalled = intake.counters()["flood"]
        started = time.perf_counter()
        consumer = asyncio.create_task(intake.run())
        await until(lambda: not intake.waiting_bytes and not intake.counters()["flood"].out_of_step)
        caught_up_s = time.perf_counter() - started
        most = max(most, memory.memory_info().rss)
        mirroring.cancel()
        consumer.cancel()
        await asyncio.gather(mirroring, consumer, return_exceptions=True)
        after = intake.counters()["flood"]
        return {
            "offered": stalled.offered - leaves,
            "growth_mb": round((most - before) / MEGABYTE, 1),
            "most_waiting_mb": round(intake.most_bytes / MEGABYTE, 1),
            "conflated": stalled.conflated,
            "dropped_and_counted": sum(after.dropped.values()),
            "lost": sum(after.lost.values()),
            "resyncs": after.resyncs,
            "until_equal_s": round(caught_up_s, 2),
            "digest": _digest({path: leaf.value for (_, path), leaf in store.get("/").items()}),
        }

    out.send(asyncio.run(run()))


def pygnmi(files: dict[str, Path], port: int, leaves: int, flood_over: Any, out: Any) -> None:
    """subscribe2, of which nobody takes a message until the flood is over."""
    threading.excepthook = lambda _: None
    resource.setrlimit(resource.RLIMIT_AS, (RIVAL_BYTES, RIVAL_BYTES))
    client = pygnmi_client(files, port)
    with client:
        stream = client.subscribe2(
            subscribe={
                "subscription": [{"path": "ietf-interfaces:interfaces", "mode": "on_change"}],
                "mode": "stream",
                "encoding": "proto",
            }
        )
        seen = 0
        while seen < leaves:
            seen += len(next(iter(stream)).get("update", {}).get("update", ()))
        memory = psutil.Process()
        before = most = memory.memory_info().rss
        quiet_since = time.monotonic()
        while not flood_over.is_set() or time.monotonic() - quiet_since < 2.0:
            time.sleep(0.1)
            now = memory.memory_info().rss
            if now > most + MEGABYTE:
                most, quiet_since = now, time.monotonic()
        out.send({"growth_mb": round((most - before) / MEGABYTE, 1)})


def measure(client: Callable[..., None], leaves: int, total: int) -> dict[str, Any]:
    """One client beside one device, each in a fresh process."""
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        files = certificates(Path(folder))
        device_end, told = context.Pipe()
        out, reader_end = context.Pipe()
        flood_over = context.Event()
        device = context.Process(target=serve, args=(files, leaves, total, told), daemon=True)
        device.start()
        told.close()
        port = device_end.recv()
        reader = context.Process(
            target=client, args=(files, port, leaves, flood_over, reader_end), daemon=True
        )
        reader.start()
        reader_end.close()
        try:
            truth = ""
            deadline = time.monotonic() + 900
            while not out.poll(0.1):
                if not truth and device_end.poll():
                    truth = device_end.recv()
                    flood_over.set()
                if not reader.is_alive() or time.monotonic() > deadline:
                    return {"error": "the reader died or did not end"}
            with suppress(EOFError):
                found: dict[str, Any] = out.recv()
                if "digest" in found:
                    found["equal"] = found.pop("digest") == truth
                return found
            return {"error": "the reader died"}
        finally:
            for process in (reader, device):
                process.kill()
                process.join()


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--updates", type=int, default=2_000_000)
    parser.add_argument("--quick", action="store_true", help="a tenth of the updates")
    parser.add_argument("--skip-rival", action="store_true")
    options = parser.parse_args()
    total = options.updates // (10 if options.quick else 1)
    result: dict[str, Any] = {
        "benchmark": "stalled_consumer",
        "updates": total,
        "budget_mb": BUDGET_MB,
        "few_leaves": {"leaves": 1_000, "fedtwin": measure(ours, 1_000, total)},
        "many_leaves": {"leaves": 300_000, "fedtwin": measure(ours, 300_000, total)},
    }
    if not options.skip_rival:
        offered = total // RIVAL_SHARE
        rival = measure(pygnmi, 1_000, offered)
        if "growth_mb" in rival:
            rival["growth_mb_for_all"] = round(rival["growth_mb"] * RIVAL_SHARE, 1)
        result["few_leaves"]["pygnmi"] = {"offered": offered, **rival}
    result["aims"] = {"growth_mb": 64, "equal": True}
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
