"""The TM Forum engine on a real socket, behind real tokens: what ASGI alone does not show."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx
import pytest
from partners_http import Running, client, raw, running
from tmf_contract import conforming
from tmf_parts import BASES, ORDER, ORDERS, PUBLIC_ADDRESS, Kept, is_error
from token_parts import SCOPES, api_config

from federation.partners.record import Kind, News
from twin_api.follower import keep_fed
from twin_api.read_model import ReadModel
from twin_api.tmf import APIS, Engine, presenter, routes


class Behind:
    """A running application, its records, and clients with tokens."""

    def __init__(self, at: Running, kept: Kept, model: ReadModel, token: str) -> None:
        self.at = at
        self.kept = kept
        self.model = model
        self.token = token

    def http(self) -> httpx.AsyncClient:
        """A client of acme; what it is answered is checked."""
        return client(self.at, self.token, event_hooks={"response": [conforming]})


@asynccontextmanager
async def behind(folder: Path, kept: Kept) -> AsyncIterator[Behind]:
    config, issuer = api_config(folder, public_address=PUBLIC_ADDRESS)
    model = ReadModel(presenter(PUBLIC_ADDRESS, APIS))
    async with running(config, routes=routes(Engine(model, kept, PUBLIC_ADDRESS))) as at:
        token = issuer.issue("acme", SCOPES, audience=PUBLIC_ADDRESS)
        following = asyncio.create_task(keep_fed(model, kept))
        try:
            yield Behind(at, kept, model, token)
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)


async def until_complete(model: ReadModel) -> None:
    async with asyncio.timeout(20):
        while not model.complete:  # noqa: ASYNC110  # nothing tells of it
            await asyncio.sleep(0.01)


async def test_orders_are_made_and_read_over_a_socket(tmp_path: Path) -> None:
    async with behind(tmp_path, Kept()) as api, api.http() as http:
        await until_complete(api.model)
        made = await http.post(ORDERS, json=ORDER)
        where = f"{ORDERS}/{made.json()['id']}"
        got = await http.get(where)
        head = await http.head(where)
        heads = await http.head(ORDERS)
        unchanged = await http.get(where, headers={"if-none-match": got.headers["etag"]})
        options = await http.options(where)
        api.kept.keep(
            "acme",
            Kind.SERVICE_ORDER,
            {**api.kept.records["acme", Kind.SERVICE_ORDER, made.json()["id"]].body, "state": "held"},
        )
        async with asyncio.timeout(20):
            while (await http.get(where)).json()["state"] != "held":  # noqa: ASYNC110  # nothing tells of it
                await asyncio.sleep(0.01)

    assert made.status_code == 201
    assert got.content == made.content
    assert (head.content, head.headers["content-length"]) == (b"", str(len(got.content)))
    assert head.headers["etag"] == got.headers["etag"]
    assert (heads.content, heads.headers["x-total-count"]) == (b"", "1")
    assert (unchanged.status_code, unchanged.content) == (304, b"")
    assert options.status_code == 204


async def test_the_framework_errors_have_the_one_body_too(tmp_path: Path) -> None:
    async with behind(tmp_path, Kept()) as api, api.http() as http:
        await until_complete(api.model)
        is_error(await http.get("/tmf-api/nothing/v4/x"), 403)
        is_error(await http.get(f"{BASES['TMF641']}/nothing"), 404)
        is_error(await http.get(f"{ORDERS}/x/y"), 404)
        is_error(await http.put(ORDERS, json={}), 405)
        async with client(api.at) as nobody:
            is_error(await nobody.get(ORDERS), 401)


async def test_a_client_that_goes_away_in_its_body_leaves_nothing(tmp_path: Path) -> None:
    async with behind(tmp_path, Kept()) as api:
        await until_complete(api.model)
        head = f"POST {ORDERS} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.token}\r\n"
        body = b'Content-Type: application/json\r\nContent-Length: 500\r\n\r\n{"serviceOrderItem":'
        _, writer = await asyncio.open_connection("127.0.0.1", api.at.port)
        writer.write(head.encode() + body)
        await writer.drain()
        writer.transport.abort()
        again = f"GET {head.removeprefix('POST ')}Connection: close\r\n\r\n"
        answer = await raw(api.at, again.encode())

        assert answer.startswith(b"HTTP/1.1 200")
        assert answer.endswith(b"[]")
        assert api.kept.calls == []


async def test_reads_say_how_old_they_are_and_go_on_without_the_broker(tmp_path: Path) -> None:
    kept = Kept()
    config, issuer = api_config(tmp_path, public_address=PUBLIC_ADDRESS)
    now = 100.0
    model = ReadModel(presenter(PUBLIC_ADDRESS, APIS), clock=lambda: now)
    token = issuer.issue("acme", SCOPES, audience=PUBLIC_ADDRESS)
    async with (
        running(config, routes=routes(Engine(model, kept, PUBLIC_ADDRESS))) as at,
        client(at, token) as http,
    ):
        is_error(await http.get(ORDERS), 503)
        model.take(News((kept.keep("acme", Kind.SERVICE_ORDER, {"id": "o1"}),), "e", 1, complete=True))
        fresh = await http.get(f"{ORDERS}/o1")
        now += 42.5
        old = await http.get(ORDERS)

    assert (fresh.status_code, fresh.headers["age"]) == (200, "0")
    assert (old.status_code, old.headers["age"], len(old.json())) == (200, "42", 1)


@pytest.mark.parametrize("count", [40])
async def test_many_at_once_lose_nothing(tmp_path: Path, count: int) -> None:
    async with behind(tmp_path, Kept()) as api, api.http() as http:
        await until_complete(api.model)
        made = await asyncio.gather(
            *(http.post(ORDERS, json={**ORDER, "externalId": f"e{n}"}) for n in range(count))
        )
        listed = await http.get(f"{ORDERS}?fields=externalId&limit=500")

    assert {answer.status_code for answer in made} == {201}
    assert sorted(each["externalId"] for each in listed.json()) == sorted(f"e{n}" for n in range(count))
    assert listed.headers["x-total-count"] == str(count)
