"""gNMI ingest per CPU-second: our session with the YANG stage, beside pygnmi's own client, in one run.

A flat-out target (a process of its own, TLS on loopback) streams the same notifications to each. Counted are
updates per second of the client process's CPU time, so that the target's work and other load do not blur it.
`pygnmi` is subscribe2; `pygnmi_parser` is its plain subscribe and telemetryParser. Neither types a value,
knows a canonical path or keeps a state; ours does all three, with the intake in between. Prints JSON.

    python benchmarks/ingest.py [--updates 400000] [--sizes 1,10,100,1000] [--skip-rivals]
"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import ipaddress
import json
import multiprocessing
import sys
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any

from domain_twin.config import GnmiConfig

PATH_COUNT = 4000
COUNTERS = (
    "in-octets",
    "out-octets",
    "in-unicast-pkts",
    "out-unicast-pkts",
    "in-errors",
    "out-errors",
    "in-discards",
)


def certificates(folder: Path) -> dict[str, Path]:
    """PEM files of a CA, a server's and a client's certificate."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    out: dict[str, Path] = {}
    issuer: tuple[Any, Any] | None = None
    now = dt.datetime.now(dt.UTC)
    for name in ("root", "server", "client"):
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        alternative = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer[0].subject if issuer else subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(hours=2))
            .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(alternative), critical=False)
            .sign(issuer[1] if issuer else key, hashes.SHA256())
        )
        issuer = issuer or (certificate, key)
        out[name], out[f"{name}_key"] = folder / f"{name}.pem", folder / f"{name}.key"
        out[name].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        out[f"{name}_key"].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
    return out


def serve(files: dict[str, Path], size: int, total: int, ports: Any) -> None:
    """A gNMI target that sends `total` counters, `size` a notification, as fast as the client reads."""
    asyncio.run(_serve(files, size, total, ports))


async def _serve(files: dict[str, Path], size: int, total: int, ports: Any) -> None:
    from _counters_target import SYNC, add_counter, serve_counters
    from pygnmi.spec.v080 import gnmi_pb2 as pb

    def notification(number: int) -> bytes:
        note = pb.Notification(timestamp=1_800_000_000_000_000_000 + number)
        for at in range(number * size, (number + 1) * size):
            entry = at // len(COUNTERS) % (PATH_COUNT // len(COUNTERS))
            add_counter(note, f"eth{entry}", COUNTERS[at % len(COUNTERS)], (at * 7919) % 2**32)
        octets: bytes = pb.SubscribeResponse(update=note).SerializeToString()
        return octets

    messages = [notification(number) for number in range(min(total // size, max(1, 2 * PATH_COUNT // size)))]

    async def stream() -> AsyncIterator[bytes]:
        yield SYNC
        for number in range(total // size):
            yield messages[number % len(messages)]
        await asyncio.sleep(600)

    ports.put(await serve_counters(files, stream))
    await asyncio.sleep(600)


def ours(files: dict[str, Path], port: int, expected: int) -> dict[str, float]:
    """Session, decoding, the intake, the YANG stage and the live state, as the agent joins them."""
    from domain_twin.agent import collector
    from domain_twin.datastore.live import LiveStore
    from domain_twin.model import DeviceStatus, UpdateBatch
    from domain_twin.southbound.conflate import Facts
    from domain_twin.southbound.gnmi import GnmiSession
    from domain_twin.southbound.intake import Intake, Overload
    from domain_twin.yang.quarantine import Typer
    from domain_twin.yang.schema import SchemaSet

    schema = SchemaSet.load(["ietf-interfaces"])
    typer = Typer(schema)
    config = GnmiConfig(
        address=f"127.0.0.1:{port}",
        root=files["root"],
        certificate=files["client"],
        key=files["client_key"],
        server_name="localhost",
    )

    async def run() -> dict[str, float]:
        seen = 0
        bad = 0
        store = LiveStore()

        def consume(batch: UpdateBatch) -> None:
            nonlocal seen, bad
            typed, quarantined = typer.type_batch(batch)
            store.apply(typed)
            seen += len(typed.updates)
            bad += len(quarantined)

        def ignore(_: DeviceStatus | Overload) -> None:
            pass

        intake = Intake(
            max_bytes=32_000_000,
            keep=Facts(schema),
            consume=consume,
            on_status=ignore,
            on_overload=ignore,
        )
        lane = intake.lane("bench")
        consumer = asyncio.create_task(intake.run())
        collector.settle()
        async with GnmiSession("bench", config, schema) as session:
            await session.capabilities()
            wall, cpu = time.perf_counter(), time.process_time()
            async with aclosing(session.subscribe(["/ietf-interfaces:interfaces"])) as stream:  # type: ignore[type-var]
                async for batch in stream:
                    await intake.offer(lane, batch)
                    if seen >= expected:
                        break
        consumer.cancel()
        if bad:
            raise RuntimeError(f"{bad} updates were quarantined")
        return _rates(seen, time.perf_counter() - wall, time.process_time() - cpu)

    return asyncio.run(run())


def pygnmi_subscribe2(files: dict[str, Path], port: int, expected: int) -> dict[str, float]:
    """pygnmi's subscribe2, which parses on its own thread."""
    with pygnmi_client(files, port) as client:
        wall, cpu = time.perf_counter(), time.process_time()
        seen = 0
        for message in client.subscribe2(subscribe=_SUBSCRIPTION):
            seen += len(message.get("update", {}).get("update", ()))
            if seen >= expected:
                return _rates(seen, time.perf_counter() - wall, time.process_time() - cpu)
    raise RuntimeError("pygnmi's stream ended early")


def pygnmi_parser(files: dict[str, Path], port: int, expected: int) -> dict[str, float]:
    """pygnmi's subscribe, and telemetryParser on each message."""
    from pygnmi.client import telemetryParser

    with pygnmi_client(files, port) as client:
        wall, cpu = time.perf_counter(), time.process_time()
        seen = 0
        for message in client.subscribe(subscribe=_SUBSCRIPTION):
            parsed = telemetryParser(message)
            seen += len(parsed.get("update", {}).get("update", ()))
            if seen >= expected:
                return _rates(seen, time.perf_counter() - wall, time.process_time() - cpu)
    raise RuntimeError("pygnmi's stream ended early")


_SUBSCRIPTION = {
    "subscription": [{"path": "ietf-interfaces:interfaces", "mode": "on_change"}],
    "mode": "stream",
    "encoding": "proto",
}


def pygnmi_client(files: dict[str, Path], port: int) -> Any:
    """A client of pygnmi with everything pinned, not yet connected."""
    from pygnmi.client import gNMIclient

    return gNMIclient(
        target=("127.0.0.1", port),
        path_root=str(files["root"]),
        path_cert=str(files["client"]),
        path_key=str(files["client_key"]),
        override="localhost",
    )


def _rates(seen: int, wall_s: float, cpu_s: float) -> dict[str, float]:
    return {"updates": seen, "per_cpu_s": round(seen / cpu_s), "per_s": round(seen / wall_s)}


def _client(
    measure: Callable[..., dict[str, float]], files: dict[str, Path], port: int, expected: int, out: Any
) -> None:
    threading.excepthook = lambda _: None  # pygnmi's threads die of its own close()
    try:
        out.put(measure(files, port, expected))
    except Exception as error:  # reported with the other figures
        out.put({"error": repr(error)})
    sys.stdout.flush()


def measure(
    client: Callable[..., dict[str, float]], files: dict[str, Path], size: int, total: int
) -> dict[str, float]:
    """One client against one target, each in a fresh process."""
    context = multiprocessing.get_context("spawn")
    ports, out = context.Queue(), context.Queue()
    target = context.Process(target=serve, args=(files, size, total, ports), daemon=True)
    target.start()
    reader = context.Process(
        target=_client, args=(client, files, ports.get(timeout=60), total, out), daemon=True
    )
    reader.start()
    try:
        found: dict[str, float] = out.get(timeout=300)
    finally:
        for process in (reader, target):  # pygnmi's threads do not end by themselves
            process.kill()
            process.join()
    return found


def main() -> None:
    """Measure, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--updates", type=int, default=400_000)
    parser.add_argument("--sizes", default="1,10,100,1000")
    parser.add_argument("--skip-rivals", action="store_true")
    parser.add_argument("--quick", action="store_true", help="a quarter of the updates")
    options = parser.parse_args()
    updates = options.updates // 4 if options.quick else options.updates
    clients = {"fedtwin": ours}
    if not options.skip_rivals:
        clients |= {"pygnmi": pygnmi_subscribe2, "pygnmi_parser": pygnmi_parser}
    result: dict[str, Any] = {
        "benchmark": "ingest",
        "unit": "updates per CPU-second of the client",
        "sizes": {},
    }
    with tempfile.TemporaryDirectory() as folder:
        files = certificates(Path(folder))
        for size in map(int, options.sizes.split(",")):
            total = min(updates, 20_000 * size)  # a message costs the same whatever it holds
            figures: dict[str, Any] = {
                name: measure(client, files, size, total) for name, client in clients.items()
            }
            rivals = [
                figures[name]["per_cpu_s"]
                for name in ("pygnmi", "pygnmi_parser")
                if "per_cpu_s" in figures.get(name, {})
            ]
            if rivals and "per_cpu_s" in figures["fedtwin"]:
                figures["ratio_to_best_rival"] = round(figures["fedtwin"]["per_cpu_s"] / max(rivals), 2)
            result["sizes"][str(size)] = figures
    result["paths"] = PATH_COUNT
    result["aims"] = {"per_cpu_s at 100": 150_000, "ratio at 100": 3.0}
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
