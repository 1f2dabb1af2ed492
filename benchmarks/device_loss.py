"""A device that is killed, or silently cut off: until its data is stale, and until it is equal again.

An emulated device (a process of its own, gNMI over TLS) behind a TCP proxy, mirrored as the agent does it,
with the default heartbeat. `killed`: SIGKILL, and a start at the same port after a while. `blackholed`: the
proxy passes nothing on, and says nothing of it, for a while; new connections hang as well. While the device
is out of reach its state changes, so that equality has to be restored. Prints JSON.

    python benchmarks/device_loss.py [--rounds 5] [--quick]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ingest import certificates

from domain_twin.config import DeviceConfig, GnmiConfig, YangConfig
from domain_twin.datastore.live import LiveStore
from domain_twin.model import Connection, DeviceStatus, UpdateBatch
from domain_twin.southbound.conflate import Facts
from domain_twin.southbound.intake import Intake, Overload
from domain_twin.yang.quarantine import Typer
from domain_twin.yang.schema import SchemaSet

INTERFACES = 1000
AWAY_S = 12.0
"""Longer than two heartbeats of 5 s, so that a silent loss is noticed."""


def serve(files: dict[str, Path], port: int, mark: int, pipe: Any) -> None:
    """The device, with `mark` in every counter; it tells its port."""
    asyncio.run(_serve(files, port, mark, pipe))


async def _serve(files: dict[str, Path], port: int, mark: int, pipe: Any) -> None:
    from domain_twin.emulator.device import DeviceDatastore, load_schema
    from domain_twin.emulator.gnmi_target import serve_gnmi

    store = DeviceDatastore("device", load_schema(["ietf-interfaces", "iana-if-type"]))
    names = [f"eth{number}" for number in range(INTERFACES)]
    kind = "iana-if-type:ethernetCsmacd"
    state = {"in-octets": str(mark), "discontinuity-time": "2026-01-01T00:00:00Z"}
    store.load(
        {"ietf-interfaces:interfaces": {"interface": [{"name": name, "type": kind} for name in names]}},
        {"ietf-interfaces:interfaces": {"interface": [{"name": n, "statistics": state} for n in names]}},
    )
    server = await serve_gnmi(
        store,
        host="127.0.0.1",
        port=port,
        certificate=files["server"].read_bytes(),
        key=files["server_key"].read_bytes(),
        client_roots=files["root"].read_bytes(),
    )
    pipe.send(server.port)
    loop = asyncio.get_running_loop()
    while True:
        number = await loop.run_in_executor(None, pipe.recv)
        for name in names:
            store.put(f"/ietf-interfaces:interfaces/interface[name='{name}']/statistics/in-octets", number)


class Proxy:
    """A TCP relay. While its gate is shut it passes nothing on, and takes connections that lead nowhere."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.target = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> int:
        """Listen; the port."""
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        port: int = server.sockets[0].getsockname()[1]
        return port

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await self.gate.wait()
        try:
            inner, outer = await asyncio.open_connection("127.0.0.1", self.target)
        except OSError:
            writer.close()
            return
        await asyncio.gather(self._pump(reader, outer), self._pump(inner, writer))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                await self.gate.wait()
                writer.write(data)
                await writer.drain()
        except OSError:
            pass
        finally:
            writer.close()


class Watched:
    """A mirrored device, with what its mirror knows."""

    def __init__(self, files: dict[str, Path], port: int) -> None:
        from domain_twin.agent.device_schemas import DeviceSchemas
        from domain_twin.agent.mirror import Mirror

        schema = SchemaSet.load(["ietf-interfaces", "iana-if-type"])
        typer = Typer(schema)
        self.store = LiveStore()
        self.connection = Connection.CONNECTING

        def consume(batch: UpdateBatch) -> None:
            self.store.apply(typer.type_batch(batch)[0])

        def overloaded(_: Overload) -> None:
            pass

        self.intake = Intake(
            max_bytes=32_000_000,
            keep=Facts(schema),
            consume=consume,
            on_status=self._said,
            on_overload=overloaded,
        )
        gnmi = GnmiConfig(
            address=f"127.0.0.1:{port}",
            root=files["root"],
            certificate=files["client"],
            key=files["client_key"],
            server_name="localhost",
        )
        device = DeviceConfig(name="device", gnmi=gnmi, paths=("/ietf-interfaces:interfaces",))
        schemas = DeviceSchemas("bench", schema, YangConfig(), typer.use)
        self.mirror = Mirror(device, schemas=schemas, intake=self.intake, on_status=self._said)

    def _said(self, status: DeviceStatus) -> None:
        attempt = status.problem and status.connection is Connection.CONNECTING
        self.connection = Connection.STALE if attempt else status.connection

    def equals(self, mark: int) -> bool:
        """Whether every counter has arrived and none is left from before."""
        if self.connection is not Connection.SYNCHRONISED:
            return False
        found = self.store.get("/interfaces/interface/statistics/in-octets")
        return len(found) == INTERFACES and {leaf.value for leaf in found.values()} == {mark}


async def until(condition: Callable[[], bool], within_s: float = 60.0) -> float:
    """Seconds until it is so."""
    started = time.perf_counter()
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110 - sampled, as it is measured
            await asyncio.sleep(0.01)
    return time.perf_counter() - started


async def measure(kind: str, rounds: int, files: dict[str, Path]) -> dict[str, Any]:
    """Times in seconds of all rounds of one kind of loss."""
    context = multiprocessing.get_context("spawn")
    proxy = Proxy()
    watched = Watched(files, await proxy.start())

    async def start(port: int, mark: int) -> tuple[Any, Any]:
        ours, theirs = context.Pipe()
        process = context.Process(target=serve, args=(files, port, mark, theirs), daemon=True)
        process.start()
        proxy.target = await asyncio.get_running_loop().run_in_executor(None, ours.recv)
        return process, ours

    device, pipe = await start(0, 1)
    tasks = [asyncio.create_task(watched.intake.run()), asyncio.create_task(watched.mirror.run())]
    stale, equal = [], []
    try:
        for mark in range(2, rounds + 2):
            await until(lambda mark=mark: watched.equals(mark - 1))  # type: ignore[misc]
            if kind == "killed":
                device.kill()
                stale.append(await until(lambda: watched.connection is Connection.STALE))
                device.join()
                await asyncio.sleep(2)
                device, pipe = await start(proxy.target, mark)
            else:
                cut = time.perf_counter()
                proxy.gate.clear()
                stale.append(await until(lambda: watched.connection is Connection.STALE))
                pipe.send(mark)
                await asyncio.sleep(max(0.0, AWAY_S - (time.perf_counter() - cut)))
                proxy.gate.set()
            equal.append(await until(lambda mark=mark: watched.equals(mark)))  # type: ignore[misc]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        device.kill()
        device.join()
    return {
        "rounds": rounds,
        "to_stale_s": {"median": round(statistics.median(stale), 3), "max": round(max(stale), 3)},
        "return_to_equal_s": {"median": round(statistics.median(equal), 3), "max": round(max(equal), 3)},
    }


async def run(rounds: int) -> dict[str, Any]:
    """Both kinds of loss."""
    with tempfile.TemporaryDirectory() as folder:
        files = certificates(Path(folder))
        return {kind: await measure(kind, rounds, files) for kind in ("killed", "blackholed")}


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one round of each")
    options = parser.parse_args()
    result = {
        "benchmark": "device_loss",
        "leaves": 4 * INTERFACES,
        "heartbeat_s": 5.0,
        **asyncio.run(run(1 if options.quick else options.rounds)),
        "aims": {"killed.to_stale_s": 1.0, "blackholed.to_stale_s": 10.0},
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
