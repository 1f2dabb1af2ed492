from __future__ import annotations

import asyncio
import json
import re
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from audit_parts import WHO, fill

from domain_twin.config import SyslogConfig
from domain_twin.errors import ConfigError
from domain_twin.trust.audit import GENESIS, encode
from domain_twin.trust.audit_export import Exporter, message
from domain_twin.trust.audit_log import AuditLog
from domain_twin.trust.audit_ocsf import event
from domain_twin.trust.ca import DeviceCA

RFC5424 = re.compile(
    r"<(\d{1,3})>1 \d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z (\S+) fedtwin \d+ (\S{1,32}) - (\{.*\})", re.ASCII
)


class Collector:
    """A syslog receiver that keeps what came: octet-counted over streams, one message a datagram."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.news = asyncio.Event()
        self.writers: list[asyncio.StreamWriter] = []

    def keep(self, data: bytes) -> None:
        self.messages.append(data.decode("ascii"))
        self.news.set()

    async def read(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        try:
            while True:
                length = int(await reader.readuntil(b" "))
                self.keep(await reader.readexactly(length))
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    @property
    def seqs(self) -> list[int]:
        return [self.event(text)["metadata"]["sequence"] for text in self.messages]

    @staticmethod
    def event(text: str) -> dict[str, Any]:
        match = RFC5424.fullmatch(text)
        assert match, text
        found: dict[str, Any] = json.loads(match[4])
        return found

    async def has(self, seq: int) -> None:
        async with asyncio.timeout(20):
            while seq not in self.seqs:
                self.news.clear()
                await self.news.wait()

    @asynccontextmanager
    async def serve(self, port: int = 0, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
        server = await asyncio.start_server(self.read, "127.0.0.1", port, ssl=context)
        try:
            yield server.sockets[0].getsockname()[1]
        finally:
            server.close()
            for writer in self.writers:
                writer.transport.abort()
            await server.wait_closed()


@asynccontextmanager
async def exported(log: AuditLog, address: str, **settings: Any) -> AsyncIterator[Exporter]:
    exporter = Exporter(log, SyslogConfig(address=address, **settings))
    running = asyncio.create_task(exporter.run())
    try:
        yield exporter
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@pytest.fixture
def log(tmp_path: Path) -> AuditLog:
    return AuditLog(tmp_path / "audit", who=WHO)


async def test_records_arrive_over_tcp_in_order_and_as_they_are_written(log: AuditLog) -> None:
    collector = Collector()
    fill(log, 3)
    async with collector.serve() as port, exported(log, f"tcp://127.0.0.1:{port}"):
        await collector.has(4)
        fill(log, 200)
        await collector.has(204)

    assert collector.seqs == list(range(1, 205))
    log.close()


async def test_records_arrive_over_tls_and_only_at_the_receiver_that_is_meant(
    log: AuditLog, tmp_path: Path
) -> None:
    ca = DeviceCA.create("northcell.example", tmp_path / "ca")
    issued = ca.issue_device("localhost", tmp_path / "receiver")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(issued.certificate, issued.key)
    stranger = DeviceCA.create("stranger.example", tmp_path / "stranger")
    collector = Collector()
    async with collector.serve(context=context) as port:
        async with exported(log, f"tls://localhost:{port}", root=stranger.root) as exporter:
            async with asyncio.timeout(20):
                while not exporter.outages:  # noqa: ASYNC110 - seen from outside only
                    await asyncio.sleep(0.01)
        assert collector.messages == []
        async with exported(log, f"tls://localhost:{port}", root=ca.root):
            await collector.has(log.head.seq)
    log.close()


async def test_an_outage_costs_no_record(log: AuditLog) -> None:
    collector = Collector()
    async with collector.serve() as port, exported(log, f"tcp://127.0.0.1:{port}", queue=5) as exporter:
        fill(log, 10)
        await collector.has(log.head.seq)
    fill(log, 50)  # nobody exports at all
    async with exported(log, f"tcp://127.0.0.1:{port}", queue=5) as exporter:
        fill(log, 50)
        async with asyncio.timeout(20):
            while not exporter.outages:  # noqa: ASYNC110 - seen from outside only
                await asyncio.sleep(0.01)
        async with collector.serve(port):
            fill(log, 1)
            await collector.has(log.head.seq)
        spilled = exporter.spilled

    assert set(collector.seqs) == set(range(1, log.head.seq + 1))
    assert spilled > 0  # they came from the files
    log.close()


async def test_a_receiver_that_comes_back_gets_what_may_have_been_lost(log: AuditLog) -> None:
    collector = Collector()
    fill(log, 5)
    async with collector.serve() as port, exported(log, f"tcp://127.0.0.1:{port}"):
        await collector.has(log.head.seq)
        seen = log.head.seq
        for writer in collector.writers:
            writer.transport.abort()
        fill(log, 1)
        await collector.has(log.head.seq)

    assert collector.seqs.count(seen) == 2
    uids = {Collector.event(text)["metadata"]["uid"] for text in collector.messages}
    assert len(uids) == log.head.seq  # by which a receiver tells that it has them already
    log.close()


async def test_where_an_export_stopped_outlives_the_process(log: AuditLog) -> None:
    collector = Collector()
    async with collector.serve() as port:
        async with exported(log, f"tcp://127.0.0.1:{port}") as exporter:
            fill(log, 5)
            await collector.has(log.head.seq)
            async with asyncio.timeout(20):
                while Exporter(log, SyslogConfig(address="udp://h:1")).cursor < log.head.seq:  # noqa: ASYNC110 - seen from outside only
                    await asyncio.sleep(0.01)
            log.on_record = exporter._offer
        count = len(collector.messages)
        fill(log, 1)
        async with exported(log, f"tcp://127.0.0.1:{port}"):
            await collector.has(log.head.seq)

    assert len(collector.messages) == count + 1
    log.close()


@pytest.mark.parametrize("scheme", ["udp", "unix"])
async def test_datagrams_hold_one_message_each(log: AuditLog, tmp_path: Path, scheme: str) -> None:
    collector = Collector()
    if scheme == "udp":
        receiver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        receiver.bind(("127.0.0.1", 0))
        address = f"udp://127.0.0.1:{receiver.getsockname()[1]}"
    else:
        receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        receiver.bind(str(tmp_path / "log"))
        address = f"unix:{tmp_path / 'log'}"
    receiver.setblocking(False)
    asyncio.get_running_loop().add_reader(receiver, lambda: collector.keep(receiver.recv(65536)))
    try:
        async with exported(log, address):
            fill(log, 3)
            await collector.has(log.head.seq)
    finally:
        asyncio.get_running_loop().remove_reader(receiver)
        receiver.close()

    assert collector.seqs == list(range(1, log.head.seq + 1))
    log.close()


async def test_a_receiver_that_is_not_there_holds_nobody_up(log: AuditLog) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        async with exported(log, f"tcp://127.0.0.1:{nobody.getsockname()[1]}", queue=10) as exporter:
            async with asyncio.timeout(20):
                for _ in range(200):
                    await log.record("disclosed", peer="x")
            assert len(exporter._queue) <= 10
    log.close()


@pytest.mark.parametrize("address", ["", "collector", "http://h:1", "tcp://", "tcp://h:99999", "unix:"])
def test_an_address_that_is_none_is_refused(log: AuditLog, address: str) -> None:
    with pytest.raises(ConfigError, match="accepted are udp://host:port"):
        Exporter(log, SyslogConfig(address=address))
    log.close()


# The attributes that OCSF 1.3.0 requires: of every event, and of each class that is used.
BASE = {"activity_id", "category_uid", "class_uid", "metadata", "severity_id", "time", "type_uid"}
REQUIRED = {
    6003: {"actor", "api", "src_endpoint"},
    3002: {"user", "service"},
    6002: {"app"},
    3004: {"entity"},
}


@pytest.mark.parametrize(
    ("kind", "class_uid"),
    [
        ("disclosed", 6003),
        ("view", 6003),
        ("refused", 6003),
        ("read", 6003),
        ("attached", 3002),
        ("session-refused", 3002),
        ("detached", 3002),
        ("opened", 6002),
        ("closed", 6002),
        ("recovered", 6002),
        ("head", 6002),
        ("configured", 3004),
        ("agreement-ended", 3004),
        ("view-deleted", 3004),
    ],
)
def test_events_have_what_their_class_requires(kind: str, class_uid: int) -> None:
    data = {"peer": "spiffe://exchange.example/broker/main", "action": "evaluate", "certificate": "ab"}
    record, _ = encode(7, 1_700_000_000_123_456_789, kind, data, GENESIS)

    told = event(record, WHO)

    assert told["class_uid"] == class_uid
    assert told["category_uid"] == class_uid // 1000
    assert told["type_uid"] == class_uid * 100 + told["activity_id"]
    assert told["time"] == 1_700_000_000_123
    assert told["metadata"]["version"] == "1.3.0"
    assert told["metadata"]["product"]["vendor_name"]
    assert BASE | REQUIRED[class_uid] <= told.keys()
    if class_uid == 6003:
        assert told["api"]["operation"]
        assert told["src_endpoint"]["name"]


def test_who_a_question_was_relayed_for_is_the_actor() -> None:
    data = {"peer": "spiffe://exchange.example/broker/main", "on_behalf_of": "spiffe://x.example/user/ann"}
    record, _ = encode(1, 0, "disclosed", data, GENESIS)

    actor = event(record, WHO)["actor"]

    assert actor["user"]["uid"] == "spiffe://x.example/user/ann"
    assert actor["invoked_by"] == "spiffe://exchange.example/broker/main"


def test_refusals_are_told_as_failures_in_one_line_of_ascii() -> None:
    record, _ = encode(1, 0, "refused", {"peer": "ä\n<1>1 forged", "reason": "no\x00"}, GENESIS)

    line = message(record, WHO, "host", 13)

    assert line.startswith(b"<108>1 ")  # log audit, warning
    assert line.isascii()
    assert b"\n" not in line
    assert Collector.event(line.decode())["status_id"] == 2
