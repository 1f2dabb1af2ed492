"""What each request for partners passes: token, scope, rate, bounds; and the one form of every refusal."""

from __future__ import annotations

import asyncio
import io
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from partners_http import ORDERS, Running, client, raw, running, who
from starlette.routing import Route
from token_parts import PUBLIC, SCOPES, api_config, claims

from domain_twin.operations.health import Check
from twin_api.access_log import AccessLog
from twin_api.caller import Scope
from twin_api.front import _address
from twin_api.issuer import TrialIssuer
from twin_api.scopes import NEAR, needed
from twin_api.tmf.apis import APIS


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[tuple[Running, TrialIssuer]]:
    config, issuer = api_config(tmp_path, limits={"head_s": 1.0, "body_s": 1.0, "body_bytes": 4096})
    async with running(config) as at:
        yield at, issuer


def token_of(issuer: TrialIssuer, tenant: str = "acme", scope: str = " ".join(SCOPES), **more: Any) -> str:
    return issuer.sign(claims(time.time(), tenant=tenant, scope=scope, **more))


def is_error(answer: httpx.Response, status: int) -> None:
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json;charset=utf-8"
    body = answer.json()
    assert (body["@type"], body["status"]) == ("Error", str(status))
    assert body["code"]
    assert body["reason"]
    assert body["message"]


async def test_a_good_token_reaches_its_route(served: tuple[Running, TrialIssuer]) -> None:
    at, issuer = served
    async with client(at, token_of(issuer)) as http:
        answer = await http.post(ORDERS, json={"a": 1})
        again = await http.get(f"{ORDERS}/some", headers={"authorization": f"bearer  {token_of(issuer)}"})

    assert answer.json() == {"tenant": "acme", "scopes": sorted(SCOPES), "body": 7}
    assert again.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["content-security-policy"].startswith("default-src 'none'")
    assert answer.headers["strict-transport-security"]
    assert "server" not in answer.headers
    assert not [name for name in answer.headers if name.startswith("access-control")]


async def test_without_a_token_nothing_is_told(served: tuple[Running, TrialIssuer]) -> None:
    at, _ = served
    async with client(at) as http:
        known, unknown = await http.get(ORDERS), await http.get("/tmf-api/nothing")

    for answer in (known, unknown):
        is_error(answer, 401)
        assert answer.headers["www-authenticate"] == f'Bearer realm="{PUBLIC}"'
    assert known.json() == unknown.json()


@pytest.mark.parametrize(
    ("header", "code"),
    [
        ("Basic YTpi", "invalid_request"),
        ("Bearer", "invalid_token"),
        ("Bearer a.b.c", "invalid_token"),
        ('Bearer "x\\', "invalid_token"),
    ],
)
async def test_a_header_that_is_no_good_token_is_refused_as_rfc_6750_has_it(
    served: tuple[Running, TrialIssuer], header: str, code: str
) -> None:
    at, _ = served
    async with client(at) as http:
        answer = await http.get(ORDERS, headers={"authorization": header})

    is_error(answer, 401)
    challenge = answer.headers["www-authenticate"]
    assert f'error="{code}"' in challenge
    assert answer.json()["code"] == {"invalid_token": "invalidToken"}.get(code, "invalidRequest")
    assert challenge.count('"') % 2 == 0


async def test_a_sentence_stays_within_its_quotes(tmp_path: Path) -> None:
    config, issuer = api_config(tmp_path, tenant_claim='a"b\\')
    async with running(config) as at, client(at, token_of(issuer)) as http:
        challenge = (await http.get(ORDERS)).headers["www-authenticate"]

    assert challenge.count('"') == 6
    assert "\\" not in challenge


async def test_two_tokens_are_none(served: tuple[Running, TrialIssuer]) -> None:
    at, issuer = served
    two = [("authorization", f"Bearer {token_of(issuer, tenant)}") for tenant in ("acme", "other")]
    async with client(at) as http:
        answer = await http.get(ORDERS, headers=two)

    is_error(answer, 401)


async def test_a_token_in_the_address_is_none(served: tuple[Running, TrialIssuer]) -> None:
    at, issuer = served
    async with client(at) as http:
        answer = await http.get(ORDERS, params={"access_token": token_of(issuer)})

    is_error(answer, 401)


async def test_no_header_path_or_body_names_a_tenant(served: tuple[Running, TrialIssuer]) -> None:
    at, issuer = served
    names = {"x-tenant": "other", "x-forwarded-user": "other", "forwarded": "host=other", "host": "other"}
    async with client(at, token_of(issuer)) as http:
        answer = await http.post(f"{ORDERS}?tenant=other", headers=names, json={"tenant": "other"})

    assert answer.json()["tenant"] == "acme"


async def test_scopes_that_do_not_suffice_are_told(served: tuple[Running, TrialIssuer]) -> None:
    at, issuer = served
    async with client(at, token_of(issuer, scope="ndt.twin.read ndt.query")) as http:
        answer = await http.get(ORDERS)

    is_error(answer, 403)
    assert answer.json()["code"] == "insufficientScope"
    assert 'error="insufficient_scope", scope="ndt.events ndt.o' in answer.headers["www-authenticate"]


@pytest.mark.parametrize(
    "path", ["/tmf-api/other/v4/x", "/admin", "/docs.json", "/openapi", "/sparqlx", "/metrics"]
)
async def test_a_route_that_the_table_of_scopes_omits_is_closed(tmp_path: Path, path: str) -> None:
    config, issuer = api_config(tmp_path)
    async with running(config, routes=[Route(path, who)]) as at, client(at, token_of(issuer)) as http:
        answer = await http.get(path)

    is_error(answer, 403)


@pytest.mark.parametrize(
    "path", ["//tmf-api/serviceOrdering/v4/serviceOrder", "/docs/../tmf-api/serviceOrdering/v4/serviceOrder",
             "/docs%2f..%2ftmf-api/serviceOrdering/v4/serviceOrder", "/healthz/../tmf-api", "/TMF-API/x"]
)  # fmt: skip
async def test_a_path_written_in_another_way_opens_nothing(
    served: tuple[Running, TrialIssuer], path: str
) -> None:
    at, _ = served
    answer = await raw(at, f"GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".encode())

    assert answer.split(b" ", 2)[1] in (b"401", b"404")


def test_the_engine_asks_for_no_scope_that_does_not_get_near_it() -> None:
    for api in APIS:
        near = needed(api.base) or frozenset()
        for resource in (*api.resources, api.hub):
            for scopes in resource.allowed.values():
                assert set(scopes) <= near, (api.base, resource.path)


def test_every_path_needs_a_scope_but_health_and_documents() -> None:
    opened = {
        path
        for path in ("/", "/healthz", "/readyz", "/docs", "/docs/x", "/openapi/x.json")
        if needed(path) is None
    }

    assert len(opened) == 6
    assert all(needed(path) for path in NEAR)
    assert needed("/metrics") == frozenset()
    assert set().union(*NEAR.values()) == set(Scope)


async def test_errors_of_the_framework_have_the_one_body(served: tuple[Running, TrialIssuer]) -> None:
    at, issuer = served
    async with client(at, token_of(issuer)) as http:
        for method, path, status in (
            ("GET", "/tmf-api/serviceOrdering/v4/none", 404),
            ("PUT", ORDERS, 405),
            ("OPTIONS", ORDERS, 405),
            ("GET", "/tmf-api/serviceInventory/v4/service", 500),
        ):
            answer = await http.request(method, path, headers={"origin": "https://page.example"})
            is_error(answer, status)
            assert "marker-of-the-inside" not in answer.text
            if status == 405:
                assert "GET" in answer.headers["allow"]
            if status == 500:
                assert answer.headers["x-request-id"] in answer.json()["message"]
    assert at.counts.failed == 1


async def test_a_tenant_that_floods_is_slowed_down_alone(tmp_path: Path) -> None:
    config, issuer = api_config(tmp_path, limits={"requests_per_second": 0.5, "burst": 3})
    async with running(config) as at, client(at) as http:
        own, other = ({"authorization": f"Bearer {token_of(issuer, tenant)}"} for tenant in ("a", "b"))
        first = [await http.get(ORDERS, headers=own) for _ in range(5)]
        neighbour = await http.get(ORDERS, headers=other)

    assert [answer.status_code for answer in first] == [200, 200, 200, 429, 429]
    is_error(first[-1], 429)
    assert 1 <= int(first[-1].headers["retry-after"]) <= 4
    assert [answer.headers["x-rate-limit-remaining"] for answer in first] == ["2", "1", "0", "0", "0"]
    assert neighbour.status_code == 200
    assert at.counts.refused["rate"] == 2


async def test_many_tokens_of_a_tenant_share_its_rate(tmp_path: Path) -> None:
    config, issuer = api_config(tmp_path, limits={"requests_per_second": 0.5, "burst": 3})
    async with running(config) as at, client(at) as http:
        tokens = [token_of(issuer, sub=f"s{number}", jti=str(number)) for number in range(5)]
        answers = [await http.get(ORDERS, headers={"authorization": f"Bearer {each}"}) for each in tokens]

    assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]


@pytest.mark.parametrize("told", [True, False])
async def test_a_body_has_an_end(served: tuple[Running, TrialIssuer], told: bool) -> None:
    at, issuer = served

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(5):
            yield b"x" * 1000

    async with client(at, token_of(issuer)) as http:
        content = b"x" * 5000 if told else pieces()
        is_error(await http.post(ORDERS, content=content), 413)
        assert (await http.post(ORDERS, content=b"x" * 4096)).json()["body"] == 4096


async def test_a_body_that_is_announced_too_large_is_not_waited_for(
    served: tuple[Running, TrialIssuer],
) -> None:
    at, issuer = served
    head = f"POST {ORDERS} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token_of(issuer)}\r\n"
    answer = await raw(at, f"{head}content-length: 5000\r\n\r\n".encode())

    assert answer.startswith(b"HTTP/1.1 413 ")


async def test_a_slow_body_is_given_up(served: tuple[Running, TrialIssuer]) -> None:
    at, issuer = served
    head = f"POST {ORDERS} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token_of(issuer)}\r\n"
    answer = await raw(at, f"{head}content-length: 100\r\n\r\n".encode(), *[b"x"] * 8, pause_s=0.2)

    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"connection: close" in answer


async def test_whoever_is_refused_is_not_listened_to(served: tuple[Running, TrialIssuer]) -> None:
    at, _ = served
    answer = await raw(at, f"POST {ORDERS} HTTP/1.1\r\nhost: x\r\ncontent-length: 900\r\n\r\nx".encode())

    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b"connection: close" in answer


@pytest.mark.parametrize(
    ("given", "taken"),
    [("abc-DEF.1:2_3", True), ("x" * 64, True), ("x" * 65, False), ("a b", False), ("", False), ("é", False)],
)
async def test_a_request_has_an_id(served: tuple[Running, TrialIssuer], given: str, taken: bool) -> None:
    at, _ = served
    async with client(at) as http:
        answer = await http.get("/healthz", headers=[(b"x-request-id", given.encode())])

    assert (answer.headers["x-request-id"] == given) is taken
    assert answer.headers["x-request-id"]


async def test_health_and_readiness_need_no_token_and_tell_no_detail(tmp_path: Path) -> None:
    config, _ = api_config(tmp_path)
    checks = [Check("broker", False, "broker.inside:7443 does not answer")]
    async with running(config, checks=checks) as at, client(at) as http:
        alive, ready = await http.get("/healthz"), await http.get("/readyz")

    assert (alive.status_code, alive.json()["status"]) == (200, "alive")
    assert (ready.status_code, ready.json()) == (
        503,
        {"ready": False, "checks": [{"name": "broker", "ok": False}]},
    )


async def test_a_line_a_request_is_logged_without_token_body_or_id(tmp_path: Path) -> None:
    config, issuer = api_config(tmp_path)
    stream, token = io.StringIO(), token_of(issuer)
    access_log = AccessLog(stream)
    access_log.start()
    async with running(config, access_log=access_log) as at, client(at, token) as http:
        await http.post(f"{ORDERS}?q=secret-query", content=b"secret-body", headers={"x-request-id": "r1"})
        await http.get(f"{ORDERS}/secret-id")
        await http.get("/secret-path/more")
        metrics = dict(at.counts.requests)
    access_log.close()

    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(line["method"], line["route"], line["status"], line["tenant"]) for line in lines] == [
        ("POST", ORDERS, 200, "acme"),
        ("GET", f"{ORDERS}/{{id}}", 200, "acme"),
        ("GET", "other", 403, ""),
    ]
    assert lines[0]["request_id"] == "r1"
    assert lines[0]["ms"] > 0
    assert "secret" not in stream.getvalue()
    assert token[-20:] not in stream.getvalue()
    assert metrics == {(ORDERS, 200): 1, (f"{ORDERS}/{{id}}", 200): 1, ("other", 403): 1}


async def test_a_log_that_nobody_takes_holds_nothing_up() -> None:
    stalled = AccessLog(io.StringIO())
    for number in range(20_005):
        stalled.tell(at=0.0, number=number)

    assert stalled.dropped == 5


async def test_keys_that_cannot_be_read_are_a_matter_of_time(tmp_path: Path) -> None:
    config, issuer = api_config(
        tmp_path,
        issuer=({"iss": "urn:fedtwin:trial-issuer", "jwks_url": "http://127.0.0.1:9/x", "trial": True},),
    )
    async with running(config) as at, client(at, token_of(issuer)) as http:
        answer = await http.get(ORDERS)

    is_error(answer, 503)
    assert answer.headers["retry-after"] == "10"


async def test_half_an_answer_is_not_taken_for_a_whole(tmp_path: Path) -> None:
    config, issuer = api_config(tmp_path)

    async def half(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise ZeroDivisionError

    route = Route(ORDERS, endpoint=type("Half", (), {"__call__": staticmethod(half)})())
    async with running(config, routes=[route]) as at, client(at, token_of(issuer)) as http:
        with pytest.raises(httpx.RemoteProtocolError):
            await http.get(ORDERS)
    await asyncio.sleep(0)


async def test_an_address_whose_tokens_do_not_hold_is_not_read_any_more(tmp_path: Path) -> None:
    config, issuer = api_config(tmp_path, limits={"failures_per_minute": 3})
    async with running(config) as at, client(at, token_of(issuer)) as known, client(at) as http:

        async def sent(token: str) -> httpx.Response:
            return await http.get(ORDERS, headers={"authorization": f"Bearer {token}"})

        assert (await known.get(ORDERS)).status_code == 200
        forged = token_of(issuer)[:-8] + "AAAAAAAA"
        for status in (401, 401, 401, 429):
            is_error(refused := await sent(forged), status)
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        is_error(await sent(token_of(issuer)), 429)
        assert (await known.get(ORDERS)).status_code == 200  # of the same address
        assert (await http.get(ORDERS)).status_code == 401  # no token: nothing to look at
        elsewhere = httpx.AsyncHTTPTransport(local_address="127.0.0.2")
        async with client(at, forged, transport=elsewhere) as other:
            is_error(await other.get(ORDERS), 401)
    assert at.counts.refused["failures"] == 2


async def test_behind_a_proxy_nobody_pays_for_anothers_tokens(tmp_path: Path) -> None:
    config, issuer = api_config(tmp_path, behind_proxy=True, limits={"failures_per_minute": 1})
    async with running(config) as at, client(at, token_of(issuer)) as good, client(at, "a.b.c") as bad:
        assert [(await bad.get(ORDERS)).status_code for _ in range(4)] == [401] * 4
        assert (await good.get(ORDERS)).status_code == 200


@pytest.mark.parametrize(
    ("host", "counted"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("/run/api.sock", ""),
        (None, ""),
    ],
)
def test_failures_are_counted_by_site(host: str | None, counted: str) -> None:
    assert _address({"client": (host, 1) if host else None}) == counted
