"""How many reads and searches does the HTTP face for partners answer on one core, with auth on?

One process of it (uvicorn with httptools and uvloop, pinned to one core) holds 10,000 services of one tenant;
another process asks over several connections, one request at a time on each. Every request carries an access
token that is checked (ES256, remembered until it ends). Reads take one service by id, searches filter, sort
and page in many ways, with other values each time, 20 services an answer. The rival, in the same run: the
same documents behind FastAPI with pydantic models and a scan of the list, the token checked the same way.
`cpu` figures are answers a second of the server's CPU time: what one core would give that nobody else uses.
Bars: 2,000 reads/s and 1,000 searches/s. Prints one JSON object; `--quick` is shorter.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from domain_twin.config import ApiConfig
from federation.partners.record import Kind, News, Record
from twin_api.issuer import DEFAULT_ISSUER, TrialIssuer
from twin_api.tokens import Tokens

PUBLIC = "https://twins.exchange.example"
BASE = "/tmf-api/serviceInventory/v4/service"
SCOPES = ("ndt.catalog.read", "ndt.order", "ndt.twin.read", "ndt.scenario.run", "ndt.events")
STATES = ("active", "active", "active", "inactive", "reserved", "designed", "terminated")
DOMAINS = ("ran.metro", "transport.metro", "core.north", "edge.south", "ran.north", "transport.south")
SEED = 20260301


def services(count: int) -> list[dict[str, Any]]:
    """The documents that both servers hold."""
    rng = random.Random(SEED)
    made = []
    for number in range(count):
        domains = rng.sample(DOMAINS, 2)
        day, second = 1 + number % 28, rng.randrange(86_400)
        clock = f"{second // 3600:02d}:{second // 60 % 60:02d}:{second % 60:02d}"
        at = f"2026-0{1 + number % 9}-{day:02d}T{clock}Z"
        made.append(
            {
                "id": f"{rng.getrandbits(64):016x}",
                "@type": "Service",
                "name": f"twin {number:05d}",
                "description": f"twin of the slice of customer {number % 97}",
                "category": "CFS",
                "state": rng.choice(STATES),
                "startDate": at,
                "isServiceEnabled": bool(number % 3),
                "serviceSpecification": {"id": f"NdtTwin-{number % 5}", "name": "NdtTwin", "version": "1.0"},
                "serviceCharacteristic": [
                    {"name": "domains", "valueType": "array", "value": domains},
                    {"name": "freshness", "valueType": "integer", "value": rng.choice((1, 5, 10, 30, 60))},
                    {"name": "customer", "valueType": "string", "value": f"customer-{number % 97}"},
                    *(
                        {"name": f"observedAt.{domain}", "valueType": "string", "value": at}
                        for domain in domains
                    ),
                    *(
                        {"name": f"fidelity.{domain}", "valueType": "string", "value": "partitions"}
                        for domain in domains
                    ),
                ],
                "supportingService": [
                    {"id": f"{number}-{domain}", "name": f"part of {domain}", "state": "active"}
                    for domain in domains
                ],
                "relatedParty": [
                    {
                        "id": "acme",
                        "role": "customer",
                        "@type": "RelatedParty",
                        "@referredType": "Organization",
                    }
                ],
            }
        )
    return made


def reads(documents: Sequence[dict[str, Any]], rng: random.Random) -> str:
    """The address of one service."""
    return f"{BASE}/{documents[rng.randrange(len(documents))]['id']}"


def searches(documents: Sequence[dict[str, Any]], rng: random.Random) -> str:
    """The address of a search: seven kinds of them, each with other values every time."""
    n = len(documents)
    state, specification = rng.choice(STATES), rng.randrange(5)
    query = (
        lambda: (
            f"state={state}&serviceSpecification.id=NdtTwin-{specification}&offset={20 * rng.randrange(9)}"
        ),
        lambda: f"name=twin%20{rng.randrange(n):05d}",
        lambda: (
            f"serviceCharacteristic.value=customer-{rng.randrange(97)}&state={state},{rng.choice(STATES)}"
        ),
        lambda: f"startDate.gte=2026-0{rng.randrange(1, 10)}-{rng.randrange(1, 28):02d}&state={state}",
        lambda: f"supportingService.name=part%20of%20{rng.choice(DOMAINS)}&sort=-startDate",
        lambda: f"state.ne={state}&serviceSpecification.id=NdtTwin-{specification}&sort=name",
        lambda: (
            f"isServiceEnabled={rng.choice(('true', 'false'))}&startDate.lt=2026-0{rng.randrange(2, 10)}-11"
        ),
    )
    return f"{BASE}?{rng.choice(query)()}&limit=20"


def configuration(folder: Path) -> ApiConfig:
    """Trusts the issuer in the folder; one tenant may ask as often as it likes."""
    issuer = {"iss": DEFAULT_ISSUER, "jwks": folder / "issuer" / "jwks.json", "trial": True}
    limits = {"requests_per_second": 1e6, "burst": 1_000_000}
    return ApiConfig.model_validate(
        {
            "listen": "127.0.0.1:0",
            "public_address": PUBLIC,
            "broker": folder / "client.toml",
            "issuer": (issuer,),
            "limits": limits,
            "access_log": False,
        }
    )


class _Nobody:
    """Commands and a twin that nobody asks here."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(name)


def ours(config: ApiConfig, tokens: Tokens, count: int) -> Any:
    """The application for partners, as `fedtwin api` serves it."""
    from twin_api.partners_app import create_partners_app
    from twin_api.read_model import ReadModel
    from twin_api.tmf import APIS, Engine, presenter, routes

    model = ReadModel(presenter(PUBLIC, APIS))
    records = tuple(
        Record("acme", Kind.SERVICE, body["id"], 1, number + 1, body, 0)
        for number, body in enumerate(services(count))
    )
    model.take(News(records, "epoch", len(records), complete=True, begins_anew=True))
    nobody: Any = _Nobody()
    return create_partners_app(config, tokens, nobody, routes=routes(Engine(model, nobody, PUBLIC)))


def rival(tokens: Tokens, count: int) -> Any:
    """The same documents behind FastAPI: pydantic models, and a scan of the list."""
    from _plain_api import create_rival

    return create_rival(services(count), PUBLIC, BASE, tokens)


async def serve(what: str, folder: Path, count: int) -> None:
    """Serve until killed; the port goes to standard output, and the CPU time at each line of input."""
    import uvicorn

    config = configuration(folder)
    tokens = Tokens(config)
    from twin_api.listening import listener, server_for

    app = ours(config, tokens, count) if what == "ours" else rival(tokens, count)
    sock = listener("127.0.0.1:0", 64)
    ready: Callable[[], None] = lambda: print(sock.getsockname()[1], flush=True)  # noqa: E731
    if what == "ours":
        server: uvicorn.Server = server_for(app, config, ready)
        await server.serve([sock])
    else:
        settings = uvicorn.Config(app, log_config=None, access_log=False, http="httptools", lifespan="off")
        ready()
        await uvicorn.Server(settings).serve([sock])


class Client(asyncio.Protocol):
    """One connection, one request at a time; counts what comes back and how long it took."""

    def __init__(self, next_path: Callable[[], str], token: str, took_s: list[float]) -> None:
        self._next = next_path
        self._head = f" HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
        self._took_s = took_s
        self._buffer = bytearray()
        self._sent = 0.0
        self._stop = False
        self.failed = 0
        self.octets = 0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        """Begin."""
        self._transport = transport
        self._ask()

    def _ask(self) -> None:
        self._sent = time.perf_counter()
        self._transport.write(b"GET " + self._next().encode() + self._head)

    def data_received(self, data: bytes) -> None:
        """Take an answer, and ask the next when it is whole."""
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self._buffer[:end]).lower()
        at = head.index(b"content-length:") + 15
        length = int(head[at : head.find(b"\r", at) if head.find(b"\r", at) > 0 else None])
        if len(self._buffer) < end + 4 + length:
            return
        self._took_s.append(time.perf_counter() - self._sent)
        self.octets += len(self._buffer)
        if not head.startswith(b"http/1.1 200"):
            self.failed += 1
        self._buffer.clear()
        if self._stop:
            self._transport.close()
            if not self.done.done():
                self.done.set_result(None)
        else:
            self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        """End."""
        if not self.done.done():
            self.done.set_exception(exc or ConnectionError("the server closed the connection"))

    def stop(self) -> None:
        """End after this answer."""
        self._stop = True


async def ask(
    port: int, make: Any, documents: Any, token: str, *, connections: int, for_s: float
) -> dict[str, float]:
    """Ask for a while; answers a second, and how long they took."""
    rng = random.Random(SEED + 1)
    took_s: list[float] = []
    loop = asyncio.get_running_loop()
    clients: list[Client] = []
    for _ in range(connections):
        _, client = await loop.create_connection(
            lambda: Client(lambda: make(documents, rng), token, took_s), "127.0.0.1", port
        )
        clients.append(client)
    began = time.perf_counter()
    await asyncio.sleep(for_s)
    for client in clients:
        client.stop()
    await asyncio.gather(*(client.done for client in clients))
    elapsed_s = time.perf_counter() - began
    if failed := sum(client.failed for client in clients):
        raise SystemExit(f"{failed} answers were not 200")
    ordered = sorted(took_s)
    return {
        "per_s": round(len(took_s) / elapsed_s, 1),
        "p50_ms": round(statistics.median(ordered) * 1e3, 3),
        "p99_ms": round(ordered[int(len(ordered) * 0.99)] * 1e3, 3),
        "octets": round(sum(client.octets for client in clients) / len(took_s)),
        "answers": len(took_s),
    }


def totals(port: int, documents: Any, token: str) -> list[int]:
    """How many services each of forty searches finds: the servers must agree."""
    rng = random.Random(SEED + 2)
    found = []
    for _ in range(40):
        address = f"http://127.0.0.1:{port}{searches(documents, rng)}"
        request = urllib.request.Request(address, headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(request) as answer:
            found.append(int(answer.headers["X-Total-Count"]))
    return found


def cpu_s(pid: int) -> float:
    """CPU time that a process has taken."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def served(what: str, folder: Path, count: int) -> Iterator[tuple[int, int]]:
    """A server process, pinned to one core: its port and its process id."""
    words = [sys.executable, __file__, "--serve", what, "--folder", str(folder), "--count", str(count)]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
        try:
            with contextlib.suppress(AttributeError, OSError):
                os.sched_setaffinity(process.pid, {max(os.sched_getaffinity(0))})
            assert process.stdout is not None
            yield int(process.stdout.readline()), process.pid
        finally:
            process.kill()


async def measure(what: str, folder: Path, documents: Any, token: str, options: Any) -> dict[str, Any]:
    """Reads and searches of one server, after a second of warming up each."""
    found: dict[str, Any] = {}
    with served(what, folder, len(documents)) as (port, pid):
        found["totals"] = totals(port, documents, token)
        for name, make in (("reads", reads), ("searches", searches)):
            await ask(port, make, documents, token, connections=options.connections, for_s=1.0)
            before_s = cpu_s(pid)
            result = await ask(
                port, make, documents, token, connections=options.connections, for_s=options.seconds
            )
            result["cpu_per_s"] = round(result["answers"] / max(1e-9, cpu_s(pid) - before_s), 1)
            found[name] = result
    return found


async def main(options: argparse.Namespace) -> None:
    """Measure both servers, print what was found."""
    documents = services(options.count)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        issuer = TrialIssuer.create(folder / "issuer")
        token = issuer.issue("acme", SCOPES, audience=PUBLIC, life_s=3600)
        result = {
            "services": options.count,
            "connections": options.connections,
            "cores": os.cpu_count(),
            "load": os.getloadavg()[0],
            "ours": await measure("ours", folder, documents, token, options),
            "rival": await measure("rival", folder, documents, token, options),
        }
    if result["ours"].pop("totals") != result["rival"].pop("totals"):
        raise SystemExit("the servers do not find the same services")
    result["times_rival"] = {
        name: round(result["ours"][name]["per_s"] / result["rival"][name]["per_s"], 1)
        for name in ("reads", "searches")
    }
    result["aims"] = {"reads_per_s": 2000, "searches_per_s": 1000}
    for name, word in (("met", "per_s"), ("met_by_cpu_time", "cpu_per_s")):
        result[name] = result["ours"]["reads"][word] >= 2000 and result["ours"]["searches"][word] >= 1000
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two seconds of each")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--serve", choices=("ours", "rival"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.quick:
        given.seconds = 2.0
    if given.serve:
        import uvloop

        uvloop.run(serve(given.serve, given.folder, given.count))
    else:
        asyncio.run(main(given))
