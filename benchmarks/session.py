"""The session between broker and agents: asks a second, CPU, barriers, pings behind a large answer, stalls.

Four agent processes over mTLS on loopback, all statements signed and verified. The rival, in the same run and
the same processes, is plain unary gRPC over mTLS without signatures, where the broker dials the agents: what
the session costs more buys the signatures, and operators who open no port. The large answer comes over a link
of 100 Mbit/s and 20 ms (a pacing proxy, `_link.py`), once over each. The stalled agent is stopped (SIGSTOP)
while the broker asks on. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from domain_twin.trust.tls import enforce_tls13_floor

if __name__ == "__main__":
    enforce_tls13_floor()

import grpc

from domain_twin.agent.session import Asked, BrokerSession
from domain_twin.config import AgentConfig, BrokerAddress, BrokerConfig, IdentityConfig
from domain_twin.model import Level, Version, ViewDelta
from domain_twin.trust.ca import IssuedIdentity, OperatorCA
from domain_twin.trust.credentials import load_identity, load_tls
from domain_twin.trust.guard import Guard
from domain_twin.trust.identity import Role, SpiffeId
from domain_twin.trust.roots import TrustBundle
from domain_twin.trust.tls import channel_credentials, server_credentials
from federation.attach import FederationService
from federation.session import AgentHello, Session
from federation.v1 import fedtwin_pb2 as pb
from federation.v1 import fedtwin_pb2_grpc as rpc
from federation.wire.framing import STREAM_OPTIONS

OPERATOR = "bench.example"
DOMAINS = ("ran", "transport", "core", "edge")
FAR = "far"  # the agent behind the slow link
UNARY = "/bench/Evaluate"
SMALL, MIDDLE = 2_000, 70_000  # bytes of an ask and of its answer; of an answer in a barrier
ROUNDS = 8
LINK_MBIT_S, LINK_RTT_MS = 100, 20
LARGE = 50_000_000
STALLED_ASKS, STALLED_BYTES = 200, 1_000_000


class Answers:
    """Answers with as many bytes as the ask's `mode` of its first segment says."""

    async def evaluate(self, ask: Asked, body: pb.EvaluateAsk) -> pb.EvaluateAnswer:
        return answer_to(body)

    async def describe(self, ask: Asked, body: pb.DescribeAsk) -> pb.DescribeAnswer:
        return pb.DescribeAnswer()

    async def budget(self, ask: Asked, body: pb.BudgetAsk) -> pb.BudgetAnswer:
        return pb.BudgetAnswer()

    async def view(self, ask: Asked, level: Level, resume_from: Version | None) -> list[ViewDelta]:
        return []

    def job_end(self, job_id: str) -> None: ...


def ask_of(ask_bytes: int, answer_bytes: int) -> pb.EvaluateAsk:
    return pb.EvaluateAsk(segments=[pb.SegmentAsk(source="s" * ask_bytes, mode=str(answer_bytes))])


def answer_to(body: pb.EvaluateAsk) -> pb.EvaluateAnswer:
    return pb.EvaluateAnswer(segments=[pb.SegmentAnswer(source="a" * int(body.segments[0].mode))])


class Host:
    """Keeps the sessions."""

    def __init__(self) -> None:
        self.sessions: dict[str, Session] = {}

    def admit(self, peer: SpiffeId, domain: str, hello: AgentHello) -> None: ...

    def attached(self, session: Session) -> None:
        self.sessions[session.domain] = session

    def lost(self, session: Session, reason: str) -> None:
        self.sessions.pop(session.domain, None)

    def view_update(self, session: Session, delta: ViewDelta, received_at: int) -> None: ...


def config_of(issued: IssuedIdentity) -> IdentityConfig:
    return IdentityConfig(
        certificate=issued.certificate,
        key=issued.key,
        signing_certificate=issued.signing_certificate,
        signing_key=issued.signing_key,
    )


async def agent(file: Path, root: Path, certificate: Path, key: Path) -> None:
    """One agent's process: the session, and beside it the rival's unary server, whose port it prints."""
    trust = TrustBundle.load({OPERATOR: root})

    async def unary(request: pb.EvaluateAsk, _context: Any) -> pb.EvaluateAnswer:
        return answer_to(request)

    async def ping(request: pb.Ping, _context: Any) -> pb.Heartbeat:
        return pb.Heartbeat(ping_id=request.ping_id)

    pinging = grpc.unary_unary_rpc_method_handler(ping, pb.Ping.FromString, pb.Heartbeat.SerializeToString)
    handler = grpc.unary_unary_rpc_method_handler(
        unary, pb.EvaluateAsk.FromString, pb.EvaluateAnswer.SerializeToString
    )
    server = grpc.aio.server(
        handlers=[grpc.method_handlers_generic_handler("bench", {"Evaluate": handler, "Ping": pinging})],
        interceptors=[Guard(trust)],
        options=[("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)],
    )
    port = server.add_secure_port("127.0.0.1:0", server_credentials(certificate, key, trust))
    await server.start()
    sys.stdout.write(f"{port}\n")
    sys.stdout.flush()
    config = AgentConfig.model_validate_json(await asyncio.to_thread(file.read_text, encoding="utf-8"))
    await BrokerSession(config, Answers()).run()


Call = Callable[[str, pb.EvaluateAsk], Awaitable[pb.EvaluateAnswer]]


async def throughput(call: Call, asks: int, at_once: int) -> dict[str, float]:
    """Asks of 2 kB with answers of 2 kB to all agents, so many at once at each."""
    body = ask_of(SMALL, SMALL)

    async def worker(domain: str, count: int) -> None:
        for _ in range(count):
            await call(domain, body)

    share = asks // (len(DOMAINS) * at_once)
    started, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(worker(domain, share) for domain in DOMAINS for _ in range(at_once)))
    wall, cpu = time.perf_counter() - started, time.process_time() - cpu
    done = share * len(DOMAINS) * at_once
    return {"asks_per_s": round(done / wall), "broker_cpu_us_per_ask": round(cpu / done * 1e6, 1)}


async def latency(call: Call, asks: int) -> dict[str, float]:
    """One ask at a time."""
    body, times = ask_of(SMALL, SMALL), []
    for n in range(asks):
        started = time.perf_counter()
        await call(DOMAINS[n % len(DOMAINS)], body)
        times.append((time.perf_counter() - started) * 1e3)
    cuts = statistics.quantiles(times, n=20)
    return {"ask_p50_ms": round(cuts[9], 2), "ask_p95_ms": round(cuts[18], 2)}


async def barrier(call: Call, runs: int) -> dict[str, float]:
    """Rounds that each wait for 70 kB from every agent."""
    body, times = ask_of(SMALL, MIDDLE), []
    for _ in range(runs):
        started = time.perf_counter()
        for _ in range(ROUNDS):
            await asyncio.gather(*(call(domain, body) for domain in DOMAINS))
        times.append((time.perf_counter() - started) * 1e3)
    return {"barrier_8x4x70kB_p50_ms": round(statistics.median(times), 1)}


async def large(
    answer: Callable[[], Awaitable[Any]], ping: Callable[[], Awaitable[Any]], size: int
) -> dict[str, float]:
    """Pings while one answer of `size` bytes comes in."""
    started = time.perf_counter()
    coming = asyncio.ensure_future(answer())
    times = []
    while not coming.done():
        before = time.perf_counter()
        await ping()
        times.append((time.perf_counter() - before) * 1e3)
        await asyncio.sleep(0.005)
    await coming
    wall = time.perf_counter() - started
    return {
        "large_answer_MB": size / 1e6,
        "large_answer_Mbit_per_s": round(size * 8 / 1e6 / wall, 1),
        "pings_meanwhile": len(times),
        "ping_p50_ms": round(statistics.median(times), 2),
        "ping_p99_ms": round(statistics.quantiles(times, n=100)[98], 1),
        "ping_max_ms": round(max(times), 1),
    }


def resident_mb() -> float:
    """Memory of this process now."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * resource.getpagesize() / 1e6


async def stalled(
    ask: Callable[[pb.EvaluateAsk], Awaitable[Any]], process: asyncio.subprocess.Process
) -> dict[str, float]:
    """An agent that is stopped while it is asked for more: what the broker's memory grows by."""
    before, most = resident_mb(), 0.0
    body = ask_of(STALLED_BYTES, 10)
    process.send_signal(signal.SIGSTOP)
    asks = [asyncio.ensure_future(ask(body)) for _ in range(STALLED_ASKS)]
    for _ in range(30):
        await asyncio.sleep(0.1)
        most = max(most, resident_mb())
    refused = sum(task.done() for task in asks)
    for task in asks:
        task.cancel()
    await asyncio.gather(*asks, return_exceptions=True)
    process.send_signal(signal.SIGCONT)
    return {
        "stalled_asks_offered": STALLED_ASKS,
        "stalled_asks_refused_at_once": refused,
        "stalled_offered_MB": STALLED_ASKS * STALLED_BYTES / 1e6,
        "stalled_broker_memory_growth_MB": round(most - before, 1),
    }


async def link_to(address: str) -> tuple[asyncio.subprocess.Process, int]:
    """A slow link to `address`; its process, and the port of this end."""
    arguments = [Path(__file__).with_name("_link.py"), address, LINK_MBIT_S, LINK_RTT_MS]
    process = await asyncio.create_subprocess_exec(
        sys.executable, *map(str, arguments), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout
    return process, int(await process.stdout.readline())


async def measure(folder: Path, scale: float) -> dict[str, Any]:
    ca = OperatorCA.create(OPERATOR, folder)
    trust = TrustBundle.load({OPERATOR: ca.root})
    files = config_of(ca.issue(Role.BROKER, "main", folder, dns=["localhost"]))
    config = BrokerConfig(
        operator=OPERATOR, listen="-", state=folder, identity=files, trust={OPERATOR: ca.root}
    )
    host = Host()
    server = grpc.aio.server(interceptors=[Guard(trust)], options=STREAM_OPTIONS)
    identity = load_identity(files, operator=OPERATOR, role=Role.BROKER, name="main")
    service = FederationService(host, config, identity, trust)
    rpc.add_FederationServicer_to_server(service, server)
    port = server.add_secure_port("127.0.0.1:0", server_credentials(files.certificate, files.key, trust))
    await server.start()
    processes, ports = {}, {}
    channels: dict[str, Any] = {}
    links: list[asyncio.subprocess.Process] = []
    try:
        link, link_port = await link_to(f"127.0.0.1:{port}")
        links.append(link)
        for domain in (*DOMAINS, FAR):
            agent_config = AgentConfig(
                domain=domain,
                operator=OPERATOR,
                state=folder / domain,
                broker=BrokerAddress(
                    address=f"localhost:{link_port if domain == FAR else port}",
                    root=ca.root,
                    identity=f"spiffe://{OPERATOR}/broker/main",
                ),
                identity=config_of(ca.issue(Role.AGENT, domain, folder)),
            )
            file = folder / f"{domain}.json"
            file.write_text(agent_config.model_dump_json(), encoding="utf-8")
            rival = ca.issue(Role.BROKER, f"rival-{domain}", folder, dns=["localhost"])
            arguments = [__file__, "--agent", file, ca.root, rival.certificate, rival.key]
            processes[domain] = await asyncio.create_subprocess_exec(
                sys.executable, *map(str, arguments), stdout=asyncio.subprocess.PIPE
            )
        for domain, process in processes.items():
            assert process.stdout
            ports[domain] = int(await process.stdout.readline())
        async with asyncio.timeout(60):
            while len(host.sessions) < len(processes):  # noqa: ASYNC110 - seen from outside only
                await asyncio.sleep(0.01)
        credentials = channel_credentials(ca.root, load_tls(files.certificate, files.key))
        stubs = {}
        link, ports[FAR] = await link_to(f"127.0.0.1:{ports[FAR]}")
        links.append(link)
        unlimited = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        for domain in processes:
            channels[domain] = grpc.aio.secure_channel(f"localhost:{ports[domain]}", credentials, unlimited)
            stubs[domain] = channels[domain].unary_unary(
                UNARY, pb.EvaluateAsk.SerializeToString, pb.EvaluateAnswer.FromString
            )

        async def by_session(domain: str, body: pb.EvaluateAsk) -> Any:
            return await host.sessions[domain].ask(body, timeout_s=60)

        async def by_unary(domain: str, body: pb.EvaluateAsk) -> Any:
            return await stubs[domain](body, timeout=60)

        figures: dict[str, Any] = {"session": {}, "rival: plain unary gRPC": {}}
        for name, call in (("session", by_session), ("rival: plain unary gRPC", by_unary)):
            await throughput(call, 512, 4)  # warm
            figures[name] |= await throughput(call, int(8_000 * scale), 16)
            figures[name] |= await latency(call, int(1_000 * scale))
            figures[name] |= await barrier(call, int(20 * scale) + 1)
        size, far = int(LARGE * scale), host.sessions[FAR]
        pinging = channels[FAR].unary_unary("/bench/Ping", pb.Ping.SerializeToString, pb.Heartbeat.FromString)
        figures["session"] |= await large(
            lambda: far.ask(ask_of(1, size), timeout_s=300), lambda: far.ping(100), size
        )
        figures["rival: plain unary gRPC"] |= await large(
            lambda: stubs[FAR](ask_of(1, size), timeout=300), lambda: pinging(pb.Ping(), timeout=100), size
        )
        edge = host.sessions["edge"]
        figures["session"] |= await stalled(lambda body: edge.ask(body, timeout_s=60), processes["edge"])
        figures["rival: plain unary gRPC"] |= await stalled(
            lambda body: stubs["transport"](body, timeout=60), processes["transport"]
        )
        figures["signatures"] = signatures(identity, trust, int(2_000 * scale))
        return figures
    finally:
        for channel in channels.values():
            await channel.close()
        await service.close("the benchmark is over")
        await server.stop(1)
        for process in (*processes.values(), *links):
            process.kill()
            await process.wait()


def signatures(identity: Any, trust: TrustBundle, count: int) -> dict[str, float]:
    """CPU of one statement of 2 kB, and of admitting a peer."""
    from datetime import UTC, datetime

    from domain_twin.trust.sign import Verifier

    signer = trust.verify_signing(identity.signing_chain, expected=identity.id)
    verifier, payload, now = Verifier(signer), b"x" * SMALL, datetime.now(UTC)
    jws = identity.signer.sign(payload, kind="k")

    def cpu_us(work: Callable[[], Any]) -> float:
        started = time.process_time()
        for _ in range(count):
            work()
        return round((time.process_time() - started) / count * 1e6, 1)

    return {
        "sign_cpu_us": cpu_us(lambda: identity.signer.sign(payload, kind="k")),
        "verify_cpu_us": cpu_us(lambda: verifier.verify(payload, jws, kind="k", now=now)),
        "verify_tls_chain_cpu_us": cpu_us(lambda: trust.verify(identity.tls.chain)),
        "verify_signing_chain_cpu_us": cpu_us(
            lambda: trust.verify_signing(identity.signing_chain, expected=identity.id)
        ),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a short run")
    parser.add_argument("--agent", nargs=4, type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.agent:
        asyncio.run(agent(*arguments.agent))
        return
    with tempfile.TemporaryDirectory() as folder:
        figures = asyncio.run(measure(Path(folder), 0.1 if arguments.quick else 1.0))
    ours, rival = figures["session"], figures["rival: plain unary gRPC"]
    figures["ratio: session / rival"] = {
        name: round(ours[name] / rival[name], 2) for name in rival if rival[name]
    }
    figures["aims"] = {
        "broker_cpu_us_per_ask": "130-230",
        "barrier_8x4x70kB_p50_ms": 15,
        "ping_p99_ms": "84, where it was 4,100 without credit",
        "stalled_broker_memory_growth_MB": "bounded: 16 asks",
    }
    print(json.dumps({"benchmark": "session", "quick": arguments.quick, **figures}, indent=2))


if __name__ == "__main__":
    main()
