"""The TLS 1.3 floor by both of its controls, against a real TLS 1.2 client."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import struct
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import grpc
import pytest

from domain_twin.errors import ConfigError, CredentialError, Unreachable
from domain_twin.trust.ca import IssuedIdentity, OperatorCA
from domain_twin.trust.credentials import load_tls
from domain_twin.trust.guard import Guard, current_peer
from domain_twin.trust.identity import Role, SpiffeId
from domain_twin.trust.probe import explain_handshake
from domain_twin.trust.refusal import error_of
from domain_twin.trust.roots import TrustBundle
from domain_twin.trust.tls import channel_credentials, enforce_tls13_floor, server_credentials

OPERATOR = "exchange.example"


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> OperatorCA:
    return OperatorCA.create(OPERATOR, tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def broker(ca: OperatorCA) -> IssuedIdentity:
    return ca.issue(Role.BROKER, "main", ca.folder / "issued", dns=["localhost", "127.0.0.1"])


@pytest.fixture(scope="module")
def user(ca: OperatorCA) -> IssuedIdentity:
    return ca.issue(Role.USER, "ada", ca.folder / "issued")


@pytest.fixture
def floor_server(ca: OperatorCA, broker: IssuedIdentity) -> Iterator[str]:
    """A server with the first control: the environment, set before grpc is imported."""
    script = Path(__file__).parent / "floor_server.py"
    arguments = [str(broker.certificate), str(broker.key), OPERATOR, str(ca.root)]
    with subprocess.Popen(
        [sys.executable, str(script), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={k: v for k, v in os.environ.items() if k != "GRPC_SSL_CIPHER_SUITES"},
    ) as process:
        assert process.stdout
        port = process.stdout.readline().strip()
        assert port, "the server did not start"
        try:
            yield f"localhost:{port}"
        finally:
            process.kill()


class Echo(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Answers `/test/Echo` with the caller's identity."""

    def __init__(self) -> None:
        self.calls = 0

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        async def unary(request: bytes, _context: grpc.aio.ServicerContext) -> bytes:
            self.calls += 1
            return str(current_peer().identity).encode()

        async def streamed(request: bytes, _context: grpc.aio.ServicerContext) -> AsyncIterator[bytes]:
            self.calls += 1
            for _ in range(2):
                yield str(current_peer().identity).encode()

        return {
            "/test/Echo": grpc.unary_unary_rpc_method_handler(unary),
            "/test/Stream": grpc.unary_stream_rpc_method_handler(streamed),
        }.get(details.method)


@asynccontextmanager
async def plain_server(
    ca: OperatorCA, broker: IssuedIdentity, *, check: bool = False
) -> AsyncIterator[tuple[str, Guard, Echo]]:
    """A server without the first control: only the guard stands before the handlers."""

    def refuse(method: str, caller: SpiffeId) -> None:
        raise CredentialError(f"{caller} may not call {method}")

    trust = TrustBundle.load({OPERATOR: ca.root})
    guard = Guard(trust, refuse) if check else Guard(trust)
    echo = Echo()
    server = grpc.aio.server(interceptors=[guard], handlers=[echo])
    port = server.add_secure_port("127.0.0.1:0", server_credentials(broker.certificate, broker.key, trust))
    await server.start()
    try:
        yield f"localhost:{port}", guard, echo
    finally:
        await server.stop(0)


def tls_client(ca: OperatorCA, user: IssuedIdentity, version: ssl.TLSVersion) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = context.maximum_version = version
    context.load_verify_locations(ca.root)
    context.load_cert_chain(user.certificate, user.key)
    context.set_alpn_protocols(["h2"])
    return context


def grpc_call(address: str, context: ssl.SSLContext, path: str) -> tuple[str | None, bytes]:
    """One unary gRPC call in hand-made HTTP/2 (RFC 9113): the TLS version, and all bytes that came back."""

    def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
        return (
            struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload
        )

    headers = b""
    for name, value in (
        (":method", "POST"),
        (":scheme", "https"),
        (":path", path),
        (":authority", "localhost"),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
    ):
        # RFC 7541 6.2.2: literal header field without indexing, no Huffman coding
        headers += b"\0" + bytes([len(name)]) + name.encode() + bytes([len(value)]) + value.encode()
    host, _, port = address.partition(":")
    with (
        socket.create_connection((host, int(port)), 10) as plain,
        context.wrap_socket(plain, server_hostname=host) as tls,
    ):
        tls.sendall(
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
            + frame(4, 0, 0, b"")
            + frame(1, 4, 1, headers)
            + frame(0, 1, 1, b"\0" + struct.pack(">I", 0))
        )
        tls.settimeout(10)
        seen = b""
        while b"grpc-status" not in seen and (data := tls.recv(65536)):
            seen += data
        return tls.version(), seen


def test_floor_leaves_a_tls_12_client_no_cipher_suite(
    floor_server: str, ca: OperatorCA, user: IssuedIdentity
) -> None:
    host, _, port = floor_server.partition(":")

    with (
        socket.create_connection((host, int(port)), 10) as plain,
        pytest.raises((ssl.SSLError, ConnectionResetError)),
    ):
        tls_client(ca, user, ssl.TLSVersion.TLSv1_2).wrap_socket(plain, server_hostname=host)


def test_floor_serves_a_tls_13_client(floor_server: str, ca: OperatorCA, user: IssuedIdentity) -> None:
    context = tls_client(ca, user, ssl.TLSVersion.TLSv1_3)

    version, seen = grpc_call(floor_server, context, "/test/None")

    assert version == "TLSv1.3"
    assert b"grpc-status" in seen


async def test_probe_names_the_version_to_a_tls_12_client(
    floor_server: str, ca: OperatorCA, user: IssuedIdentity
) -> None:
    error = await explain_handshake(
        floor_server,
        root=ca.root,
        certificate=user.certificate,
        key=user.key,
        minimum=ssl.TLSVersion.TLSv1_2,
        maximum=ssl.TLSVersion.TLSv1_2,
    )

    assert isinstance(error, CredentialError)
    assert "TLS 1.3 is the least accepted" in str(error)


async def test_a_handshake_damaged_on_the_way_is_no_fault_of_a_credential(
    floor_server: str, ca: OperatorCA, user: IssuedIdentity
) -> None:
    """It is tried again soon; what is wrong with a certificate waits for a person."""
    host, _, port = floor_server.partition(":")
    done = asyncio.Event()

    async def damage(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, ours = await asyncio.open_connection(host, int(port))
        ours.write(await reader.read(65536))
        answer = await theirs.read(65536)
        writer.write(answer[:-1] + bytes([answer[-1] ^ 0x55]))
        for each in (ours, writer):
            each.close()
            with suppress(OSError, ssl.SSLError):
                await each.wait_closed()
        done.set()

    async with await asyncio.start_server(damage, "127.0.0.1", 0) as server:
        error = await explain_handshake(
            f"127.0.0.1:{server.sockets[0].getsockname()[1]}",
            root=ca.root,
            certificate=user.certificate,
            key=user.key,
        )
        await done.wait()
    await asyncio.sleep(0.05)  # transports close on the next turns of the loop

    assert isinstance(error, Unreachable)
    assert not isinstance(error, CredentialError)
    assert "TLS handshake" in str(error)


async def test_guard_refuses_tls_12_where_the_handshake_let_it_pass(
    ca: OperatorCA, broker: IssuedIdentity, user: IssuedIdentity
) -> None:
    async with plain_server(ca, broker) as (address, guard, echo):
        context = tls_client(ca, user, ssl.TLSVersion.TLSv1_2)

        version, seen = await asyncio.to_thread(grpc_call, address, context, "/test/Echo")

        assert version == "TLSv1.2"  # so the second control is what is tested here
        assert b"TLS 1.3 is the least accepted" in seen
        assert echo.calls == 0
        assert guard.refused == {"CredentialError": 1}


async def test_guard_passes_a_verified_peer_and_says_who_it_is(
    ca: OperatorCA, broker: IssuedIdentity, user: IssuedIdentity
) -> None:
    async with plain_server(ca, broker) as (address, guard, _):
        credentials = channel_credentials(ca.root, load_tls(user.certificate, user.key))
        async with grpc.aio.secure_channel(address, credentials) as channel:
            unary = await channel.unary_unary("/test/Echo")(b"")
            streamed = [answer async for answer in channel.unary_stream("/test/Stream")(b"")]

    assert [unary, *streamed] == [str(user.identity).encode()] * 3
    assert guard.refused == {}


@pytest.mark.parametrize("method", ["/test/Echo", "/test/Stream"])
async def test_guards_check_refuses_with_its_sentence(
    method: str, ca: OperatorCA, broker: IssuedIdentity, user: IssuedIdentity
) -> None:
    async with plain_server(ca, broker, check=True) as (address, guard, echo):
        credentials = channel_credentials(ca.root, load_tls(user.certificate, user.key))
        async with grpc.aio.secure_channel(address, credentials) as channel:
            call = (
                channel.unary_unary(method)(b"")
                if method == "/test/Echo"
                else channel.unary_stream(method)(b"").read()
            )
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await call

    error = error_of(refused.value, "broker")
    assert isinstance(error, CredentialError)
    assert str(error) == f"{user.identity} may not call {method}"
    assert echo.calls == 0
    assert guard.refused == {"CredentialError": 1}


def test_a_connection_of_unknown_tls_version_is_refused(ca: OperatorCA, user: IssuedIdentity) -> None:
    guard = Guard(TrustBundle.load({OPERATOR: ca.root}))
    auth = {"x509_pem_cert": [user.certificate.read_bytes()]}

    with pytest.raises(CredentialError, match="an unknown version of TLS"):
        guard.verify(auth)
    with pytest.raises(CredentialError, match="no certificate"):
        guard.verify({"ssl_tls_version": [b"TLSv1.3"]})
    assert guard.verify({**auth, "ssl_tls_version": [b"TLSv1.3"]}).identity == user.identity


def test_floor_set_after_grpc_was_imported_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("GRPC_SSL_CIPHER_SUITES", raising=False)

    with pytest.raises(ConfigError, match="imported before the TLS"):
        enforce_tls13_floor()


async def test_server_takes_up_a_renewed_certificate(
    ca: OperatorCA, user: IssuedIdentity, tmp_path: Path
) -> None:
    issued = ca.issue(Role.BROKER, "renewed", tmp_path, dns=["localhost"])

    def serial(address: str) -> int:
        context = tls_client(ca, user, ssl.TLSVersion.TLSv1_3)
        host, _, port = address.partition(":")
        with (
            socket.create_connection((host, int(port)), 10) as plain,
            context.wrap_socket(plain, server_hostname=host) as tls,
        ):
            return int(tls.getpeercert()["serialNumber"], 16)  # type: ignore[index,arg-type]

    async with plain_server(ca, issued) as (address, _, _):
        before = await asyncio.to_thread(serial, address)
        ca.issue(Role.BROKER, "renewed", tmp_path, dns=["localhost"])
        after = await asyncio.to_thread(serial, address)
        issued.certificate.write_bytes(b"half a certific")
        still = await asyncio.to_thread(serial, address)

    assert before != after == still
