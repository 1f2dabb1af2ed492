"""A device with 10,000 interfaces in a real agent: how long its event loop halts, and validation takes.

A process of its own emulates the device (gNMI over TLS). The agent's twin runs here: its batches are typed,
stored and mapped, the whole tree is validated in a process of its own, the state is saved as a checkpoint.
A ticker on the same event loop measures its longest block. Rival: the same validation in a thread.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import resource
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

TICK_S = 0.001
MODULES = ("ietf-interfaces", "iana-if-type")


def serve(folder: Path, interfaces: int, out: Any) -> None:
    """Emulate the device until killed."""
    asyncio.run(_serve(folder, interfaces, out))


async def _serve(folder: Path, interfaces: int, out: Any) -> None:
    from domain_twin.emulator.device import DeviceDatastore, load_schema
    from domain_twin.emulator.gnmi_target import serve_gnmi
    from domain_twin.emulator.keys import DomainKeys, Served, write_inventory
    from domain_twin.emulator.network import ServerSpec

    settings = ServerSpec()
    keys = DomainKeys(folder / "devices", "transport", settings)
    store = DeviceDatastore("big", load_schema(MODULES))
    names = [f"eth{number}" for number in range(interfaces)]
    store.load(
        {
            "ietf-interfaces:interfaces": {
                "interface": [
                    {"name": name, "type": "iana-if-type:ethernetCsmacd", "enabled": True} for name in names
                ]
            }
        },
        {},
    )
    for index, name in enumerate(names, 1):
        at = f"/ietf-interfaces:interfaces/interface[name='{name}']"
        store.put(f"{at}/if-index", index)
        store.put(f"{at}/admin-status", "up")
        store.put(f"{at}/oper-status", "up")
        store.put(f"{at}/speed", 10_000_000_000)
        store.put(f"{at}/statistics/discontinuity-time", "2026-01-01T00:00:00Z")
        store.put(f"{at}/statistics/in-octets", index * 1000)
        store.put(f"{at}/statistics/out-octets", index * 2000)
    own = keys.device("big")
    server = await serve_gnmi(
        store, host="127.0.0.1", port=0, certificate=own.certificate, key=own.key, client_roots=keys.root
    )
    out.put(str(write_inventory(keys, settings, [Served("big", 0, server.port, own.host_key)])))
    await asyncio.get_running_loop().create_future()


class Ticker:
    """The longest time in which the event loop did not come round, since last asked."""

    def __init__(self) -> None:
        self.longest_s = 0.0
        self.working_s = 0.0
        self._loop = asyncio.get_running_loop()
        self._before, self._worked = time.perf_counter(), time.thread_time()
        self._next = self._loop.call_later(TICK_S, self._tick)

    def _tick(self) -> None:
        now, work = time.perf_counter(), time.thread_time()
        self.longest_s = max(self.longest_s, now - self._before - TICK_S)
        self.working_s = max(self.working_s, work - self._worked)
        self._before, self._worked = now, work
        self._next = self._loop.call_later(TICK_S, self._tick)

    def take_ms(self) -> dict[str, float]:
        """The longest block so far, in ms by the clock and of this thread's own work; starts anew."""
        longest, self.longest_s = self.longest_s, 0.0
        working, self.working_s = self.working_s, 0.0
        return {"clock": round(longest * 1000, 1), "work": round(working * 1000, 1)}

    def stop(self) -> None:
        """End measuring."""
        self._next.cancel()


async def measure(folder: Path, inventory: str, leaves: int) -> dict[str, Any]:
    """One agent from its start until its device is mirrored, validated and on disk."""
    from domain_twin.agent.collector import settle
    from domain_twin.agent.schema import load_schema
    from domain_twin.agent.twin import DomainTwin
    from domain_twin.config import load_agent
    from domain_twin.datastore.checkpoint import Checkpoint
    from domain_twin.model import Connection, ServiceRecords

    (folder / "agent.toml").write_text(
        'domain = "transport"\noperator = "transport.example"\nstate = "state"\n'
        f'inventory = ["{inventory}"]\n'
    )
    config = load_agent(folder / "agent.toml")
    config.state.mkdir()
    from domain_twin.datastore.history import History

    history = await History.open(config.state / "history", retention_days=1, flush_s=1.0)
    checkpoint = Checkpoint(config.state)
    twin = DomainTwin(
        config,
        schema=await load_schema(config),
        records=ServiceRecords(),
        restored=checkpoint.restore(),
        checkpoint=checkpoint,
        history=history,
    )
    found: dict[str, Any] = {}
    validated = asyncio.Event()
    times: dict[str, float] = {}
    checked = twin._trees._check  # what is measured; nothing of it is changed

    async def check(device: str) -> None:
        begun = time.perf_counter()
        await checked(device)
        times.setdefault("took", time.perf_counter() - begun)
        validated.set()

    twin._trees._check = check  # type: ignore[method-assign]
    settle()
    ticker = Ticker()
    started = time.perf_counter()
    running = asyncio.create_task(twin.run())
    try:
        while True:
            status = twin.device_statuses()[0]
            if status.connection is Connection.SYNCHRONISED and status.leaves >= leaves:
                break
            await asyncio.sleep(0.02)
        found["leaves"] = status.leaves
        found["synchronised_s"] = round(time.perf_counter() - started, 2)
        twin.network()
        await asyncio.sleep(0.5)
        found["longest_block_ms"] = {"synchronise, store, map": ticker.take_ms()}
        async with asyncio.timeout(300):
            await validated.wait()
        found["validation_s"] = round(times["took"], 2)
        found["valid"] = [f.message for f in twin.findings() if f.code == "device.invalid-tree"] or True
        found["longest_block_ms"]["validate"] = ticker.take_ms()
        began = time.perf_counter()
        snapshot = twin.pipeline.store.snapshot()
        await asyncio.to_thread(checkpoint.save, snapshot)
        found["checkpoint_s"] = round(time.perf_counter() - began, 2)
        await asyncio.sleep(0.2)
        found["longest_block_ms"]["checkpoint"] = ticker.take_ms()
        found["longest_block_ms"]["all"] = {
            kind: max(block[kind] for block in found["longest_block_ms"].values())
            for kind in ("clock", "work")
        }
        found["rival"] = await in_a_thread(twin, ticker)
        found["peak_rss_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    finally:
        ticker.stop()
        twin.stop()
        with suppress(asyncio.CancelledError):
            await running
    return found


async def in_a_thread(twin: Any, ticker: Ticker) -> dict[str, Any]:
    """The rival: leaves copied on the event loop, the tree built and validated in a thread."""
    from domain_twin.yang.tree import build_tree
    from domain_twin.yang.validate import Validation

    schema = twin.schemas.of("big")
    validation = await asyncio.to_thread(Validation, schema)
    ticker.take_ms()
    began = time.perf_counter()
    leaves = {path: leaf.value for (_, path), leaf in twin.pipeline.store.get("/", "big").items()}
    await asyncio.to_thread(lambda: validation.check(build_tree(schema, leaves)))
    took = time.perf_counter() - began
    await asyncio.sleep(0.05)
    validation.close()
    return {"validation_s": round(took, 2), "longest_block_ms": ticker.take_ms()}


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--interfaces", type=int, default=10_000)
    parser.add_argument("--quick", action="store_true", help="1,000 interfaces")
    options = parser.parse_args()
    interfaces = 1_000 if options.quick else options.interfaces
    context = multiprocessing.get_context("spawn")
    out = context.Queue()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        device = context.Process(target=serve, args=(folder, interfaces, out), daemon=True)
        device.start()
        try:
            figures = asyncio.run(measure(folder, out.get(timeout=300), interfaces * 10))
        finally:
            device.kill()
            device.join()
    json.dump(
        {
            "benchmark": "snapshot",
            "interfaces": interfaces,
            **figures,
            "aims": {"longest_block_ms": 50.0},
        },
        sys.stdout,
        indent=2,
    )
    print()


if __name__ == "__main__":
    main()
