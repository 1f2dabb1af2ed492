"""Requests that no good client sends: too long, too slow, ambiguous; and connections too many."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from partners_http import ORDERS, Running, client, raw, running, who
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from token_parts import api_config, claims

from twin_api import protocol

HEAD = b"GET /healthz HTTP/1.1\r\nhost: x\r\n"


async def headers_of(request: Request) -> Response:
    """What the route sees as headers."""
    await request.body()
    return Response("\n".join(f"{name}: {value}" for name, value in request.headers.items()))


@pytest.fixture
async def at(tmp_path: Path) -> AsyncIterator[Running]:
    config, _ = api_config(tmp_path, limits={"head_s": 0.5, "head_bytes": 8192, "connections": 8})
    async with running(config) as served:
        yield served


@pytest.mark.parametrize(
    ("octets", "status"),
    [
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nhost: x\r\n\r\n", b"431"),
        (HEAD + b"x: " + b"a" * 9000 + b"\r\n\r\n", b"431"),
        (HEAD + b"x: " + b"a" * 70_000, b"431"),
        (HEAD + b"".join(b"x%d: y\r\n" % number for number in range(200)) + b"\r\n", b"431"),
        (b"\x16\x03\x01\x02\x00", b"400"),
        (b"GET /healthz\r\n\r\n", b"400"),
        (b"GET /healthz HTTP/0.9\r\nhost: x\r\n\r\n", b"400"),
        (b"GET /healthz HTTP/9.9\r\nhost: x\r\n\r\n", b"400"),
        (HEAD + b"x y: z\r\n\r\n", b"400"),
        (HEAD + b"x: a\x00b\r\n\r\n", b"400"),
        (HEAD + b" folded\r\n\r\n", b"400"),
        (HEAD + b"host: y\r\n\r\n", b"400"),
        (b"GET /healthz HTTP/1.1\r\n\r\n", b"400"),
    ],
)
async def test_a_head_that_is_too_long_or_none_is_refused(at: Running, octets: bytes, status: bytes) -> None:
    answer = await raw(at, octets)

    assert answer.startswith(b"HTTP/1.1 " + status)
    assert answer.count(b"HTTP/1.1 4") == 1
    assert b'"@type":"Error"' in answer.replace(b" ", b"")
    assert b"connection: close" in answer


@pytest.mark.parametrize(
    "head",
    [
        b"content-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        b"transfer-encoding: chunked\r\ncontent-length: 3\r\n\r\n0\r\n\r\n",
        b"content-length: 3\r\ncontent-length: 4\r\n\r\nabcd",
        b"content-length: +3\r\n\r\nabc",
        b"content-length: 3,3\r\n\r\nabc",
        b"content-length: -1\r\n\r\n",
        b"transfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"transfer-encoding : chunked\r\n\r\n0\r\n\r\n",
        b"transfer-encoding: chunked\r\n\r\nx\r\n\r\n",
    ],
)
async def test_a_request_whose_end_is_ambiguous_is_no_two_requests(at: Running, head: bytes) -> None:
    smuggled = b"GET /readyz HTTP/1.1\r\nhost: x\r\n\r\n"
    answer = await raw(at, b"POST /healthz HTTP/1.1\r\nhost: x\r\n" + head + smuggled)

    assert b"HTTP/1.1 200" not in answer
    assert b'"ready"' not in answer
    assert answer.startswith((b"HTTP/1.1 400", b"HTTP/1.1 405")) or not answer


async def test_what_follows_a_body_is_no_header(tmp_path: Path) -> None:
    config, issuer = api_config(tmp_path)
    token = issuer.sign(claims(time.time())).encode()
    head = f"POST {ORDERS} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n".encode()
    trailers = b"0\r\nx-late: marker\r\nauthorization: Bearer " + token + b"\r\n\r\n"
    async with running(config, routes=[Route(ORDERS, headers_of, methods=["POST"])]) as at:
        without = await raw(at, head + b"connection: close\r\n\r\n1\r\na\r\n" + trailers)
        good = head + b"authorization: Bearer " + token + b"\r\nconnection: close\r\n\r\n1\r\na\r\n"
        with_it = await raw(at, good + trailers)

    assert without.startswith(b"HTTP/1.1 401")
    assert with_it.startswith(b"HTTP/1.1 200")
    assert b"marker" not in with_it


@pytest.mark.parametrize(
    ("pieces", "said"),
    [([b""], b""), ([b"GET /heal"], b"HTTP/1.1 408"), ([HEAD, *[b"x: y\r\n"] * 9], b"HTTP/1.1 408")],
)
async def test_a_slow_head_is_given_up(at: Running, pieces: list[bytes], said: bytes) -> None:
    began = asyncio.get_running_loop().time()
    answer = await raw(at, *pieces, pause_s=0.1)

    assert answer.startswith(said)
    assert answer.count(b"HTTP/1.1") == bool(said)
    assert asyncio.get_running_loop().time() - began < 2.9  # the server closed; `raw` did not give up


async def test_a_slow_second_head_is_given_up_too(at: Running) -> None:
    answer = await raw(at, HEAD + b"\r\n", HEAD, *[b"x: y\r\n"] * 9, pause_s=0.1)

    assert answer.startswith(b"HTTP/1.1 200")
    assert b"HTTP/1.1 408" in answer


async def test_requests_one_behind_the_other_are_answered_in_turn(at: Running) -> None:
    answer = await raw(at, (HEAD + b"\r\n") * 5 + HEAD + b"connection: close\r\n\r\n")

    assert answer.count(b"HTTP/1.1 200") == 6


async def test_connections_have_a_number(at: Running) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for _ in range(8):
            _, writer = await asyncio.open_connection("127.0.0.1", at.port)
            stack.callback(writer.close)
        await asyncio.sleep(0.1)
        answer = await raw(at, HEAD + b"\r\n")

    assert answer.startswith(b"HTTP/1.1 503")
    assert b"retry-after: 1" in answer
    await asyncio.sleep(0.1)
    assert (await raw(at, HEAD + b"connection: close\r\n\r\n")).startswith(b"HTTP/1.1 200")


async def test_a_reader_who_takes_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "STALLED_AFTER_S", 0.3)
    config, issuer = api_config(tmp_path)
    done = asyncio.Event()

    async def much(_: Request) -> Response:
        done.set()
        return Response(b"x" * (64 << 20))

    async with running(config, routes=[Route(ORDERS, much)]) as at:
        reader, writer = await asyncio.open_connection("127.0.0.1", at.port, limit=1024)
        token = issuer.sign(claims(time.time()))
        writer.write(f"GET {ORDERS} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n\r\n".encode())
        await asyncio.wait_for(done.wait(), 20)
        await asyncio.sleep(1.0)
        taken = 0
        with contextlib.suppress(ConnectionError):
            while piece := await reader.read(1 << 20):
                taken += len(piece)
        writer.close()

    assert taken < 64 << 20


async def test_the_address_and_the_host_are_nowhere_believed(tmp_path: Path) -> None:
    config, issuer = api_config(tmp_path)
    async with running(config, routes=[Route(ORDERS, who)]) as at:
        async with client(at, issuer.sign(claims(time.time(), scope="ndt.query"))) as http:
            answer = await http.get(
                "/sparql", headers={"host": "evil.example", "x-forwarded-host": "evil.example"}
            )
        absolute = await raw(at, b"GET http://evil.example/ HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")

    assert b"https://twins.exchange.example/sparql" in answer.content
    assert b"evil" not in answer.content + absolute
