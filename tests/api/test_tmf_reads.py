"""Reading over HTTP: filters, fields, sort, pages, conditions, and what is refused."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio
from tmf_contract import conforming
from tmf_parts import (
    ALARMS,
    BASES,
    ORDERS,
    PUBLIC_ADDRESS,
    SERVICES,
    SPECIFICATIONS,
    Served,
    is_error,
    served,
)

from federation.partners.record import PUBLIC, Kind

pytestmark = pytest.mark.asyncio(loop_scope="module")

DAYS = ("2026-01-01T00:00:00Z", "2026-02-01T00:00:00.000Z", "2026-03-01T02:00:00+02:00", "2026-04-01")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api() -> AsyncIterator[Served]:
    async with served(hooks=[conforming]) as running:
        for number in range(12):
            state = ("active", "inactive", "designed")[number % 3]
            body = {
                "id": f"s{number:02d}",
                "name": f"twin {number}" if number != 7 else "a, b",
                "state": state,
                "startDate": DAYS[number % 4],
                "isBundle": number % 2 == 0,
                "serviceSpecification": {"id": f"spec{number % 2}", "version": "1.10"},
                "serviceCharacteristic": [
                    {"name": "freshness", "value": number},
                    {"name": "domains", "value": ["ran", "core"] if number % 2 else ["edge"]},
                    {"name": "customer", "value": f"customer-{number % 4}"},
                ],
            }
            if number == 5:
                del body["startDate"]
            running.keep(Kind.SERVICE, body)
        running.keep(
            Kind.SERVICE, {"id": "foreign", "state": "active", "serviceSpecification": {"id": "x"}}, "globex"
        )
        yield running


async def ids(api: Served, query: str) -> list[int]:
    """Numbers of the services that a query finds, in its order."""
    answer = await api.http.get(f"{SERVICES}?{query}")
    assert answer.status_code == 200, answer.text
    found = [int(each["id"][1:]) for each in answer.json()]
    assert answer.headers["x-result-count"] == str(len(found))
    return found


EVEN, ODD = [10, 8, 6, 4, 2, 0], [11, 9, 7, 5, 3, 1]


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ("", [11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0]),
        ("state=active", [9, 6, 3, 0]),
        ("state.eq=active", [9, 6, 3, 0]),
        ("state=active,designed&isBundle=true", [8, 6, 2, 0]),
        ("state=active;designed&isBundle=true", [8, 6, 2, 0]),
        ("state=active&state=designed&isBundle=true", [8, 6, 2, 0]),
        ("state=active;state=designed&isBundle=true", [8, 6, 2, 0]),
        ('state="active"', [9, 6, 3, 0]),
        ("state=%27active%27", [9, 6, 3, 0]),
        ("state.ne=active,designed", [10, 7, 4, 1]),
        ("state!=active&state!=designed", [10, 7, 4, 1]),
        ('name="a, b"', [7]),
        ("name=a,twin%201", [1]),
        ("name=twin+1", [1]),
        ("serviceSpecification.id=spec1", ODD),
        ("serviceSpecification.version=1.1", []),
        ("serviceCharacteristic.name=domains", [11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0]),
        ("serviceCharacteristic.value=edge", EVEN),
        ("serviceCharacteristic.value=ran,edge", [11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0]),
        ("serviceCharacteristic.value=7", [7]),
        ("serviceCharacteristic.value=7.0", [7]),
        ("serviceCharacteristic.value.gte=9.5", [11, 10]),
        ("startDate.gt=2026-02-01", [11, 10, 7, 6, 3, 2]),
        ("startDate.gte=2026-02-01T00:00:00Z", [11, 10, 9, 7, 6, 3, 2, 1]),
        ("startDate=2026-03-01T00:00:00Z", [10, 6, 2]),
        ("startDate.lt=2026-03-01T02:00:00%2B02:00", [9, 8, 4, 1, 0]),
        ("startDate.lt=2026-03-01T02:00:00+02:00", [9, 8, 4, 1, 0]),
        ("startDate.lte=2026-01-01", [8, 4, 0]),
        ("startDate%3E2026-03-15", [11, 7, 3]),
        ("startDate%3E=2026-03-01", [11, 10, 7, 6, 3, 2]),
        ("startDate%3C2026-02-01", [8, 4, 0]),
        ("startDate%3C%3D2026-02-01", [9, 8, 4, 1, 0]),
        ("startDate.ne=2026-01-01", [11, 10, 9, 7, 6, 5, 3, 2, 1]),
        ("name.regex=^twin [13]$", [3, 1]),
        ("name*=1.$", [11, 10]),
        ("isBundle=false&state=active", [9, 3]),
        ("@type=Service&state=active", [9, 6, 3, 0]),
        (f"href={PUBLIC_ADDRESS}{SERVICES}/s04", [4]),
        ("state=", []),
        (
            "serviceCharacteristic.name=freshness&serviceCharacteristic.value=customer-1&isBundle=false",
            [9, 5, 1],
        ),
        ("sort=startDate", [8, 4, 0, 9, 1, 10, 6, 2, 11, 7, 3, 5]),
        ("sort=-startDate", [11, 7, 3, 10, 6, 2, 9, 1, 8, 4, 0, 5]),
        ("sort=-state,%2Bname&isBundle=true", [10, 4, 2, 8, 0, 6]),
        ("sort=+serviceCharacteristic.value&limit=3&state=active", [0, 3, 6]),
        ("sort=state&limit=2&offset=3", [0, 11]),
        ("offset=10", [1, 0]),
        ("offset=100", []),
        ("limit=0", []),
        ("limit=2&offset=1&state=active", [6, 3]),
    ],
)
async def test_a_query_finds(api: Served, query: str, numbers: list[int]) -> None:
    assert await ids(api, query) == numbers


@pytest.mark.parametrize(
    ("query", "code", "word"),
    [
        ("colour=red", "unknownAttribute", "colour"),
        ("api=x", "unknownAttribute", "api"),
        ("serviceSpecification.colour=red", "unknownAttribute", "serviceSpecification.colour"),
        ("name.first=x", "unknownAttribute", "name.first"),
        (".name=x", "unknownAttribute", ".name"),
        ("serviceSpecification=x", "invalidQuery", "serviceSpecification"),
        ("startDate.gt=yesterday", "wrongValue", "startDate"),
        ("isBundle=yes", "wrongValue", "isBundle"),
        ("isBundle.gt=true", "invalidQuery", "isBundle"),
        ("startDate.regex=2026", "invalidQuery", "startDate"),
        ("name.regex=(", "wrongValue", "name"),
        ("name.regex=(?=a)", "wrongValue", "name"),
        ("name.regex=(a)%5C1", "wrongValue", "name"),
        ("name.regex=" + "a" * 129, "wrongValue", "128"),
        ("name.regex=(a{50}){50}", "wrongValue", "100"),
        ("name.regex=%5Cw{30}", "wrongValue", "20"),
        ("&".join(f"name.regex=a{n}" for n in range(5)), "invalidQuery", "4"),
        ("&".join(f"serviceCharacteristic.value.x{n}.regex=a" for n in range(5)), "invalidQuery", "4"),
        ("name", "invalidQuery", "name"),
        ("=x", "unknownAttribute", ""),
        ("filter=$.name", "unknownAttribute", "filter"),
        ("fields=name,colour", "unknownAttribute", "colour"),
        ("sort=colour", "unknownAttribute", "colour"),
        ("sort=serviceSpecification", "unknownAttribute", "serviceSpecification"),
        ("sort=", "unknownAttribute", "sort"),
        ("sort=name&sort=id", "invalidQuery", "sort"),
        ("limit=-1", "invalidPaging", "limit"),
        ("limit=ten", "invalidPaging", "limit"),
        ("limit=1e3", "invalidPaging", "limit"),
        ("limit=%D9%A1", "invalidPaging", "limit"),
        ("offset=1.5", "invalidPaging", "offset"),
        ("offset=9999999999", "invalidPaging", "offset"),
        ("limit=1&limit=2", "invalidQuery", "limit"),
        ("name=%FF", "invalidQuery", "UTF-8"),
        ("name=" + ",".join(map(str, range(101))), "invalidQuery", "100"),
        ("&".join(f"serviceCharacteristic.value.x{n}=1" for n in range(33)), "invalidQuery", "32"),
        ("&".join("name=x" for _ in range(129)), "invalidQuery", "128"),
    ],
)
async def test_what_a_query_cannot_mean_is_refused_by_name(
    api: Served, query: str, code: str, word: str
) -> None:
    body = is_error(await api.http.get(f"{SERVICES}?{query}"), 400)

    assert body["code"] == code, body
    assert word in body["message"]


async def test_a_query_without_end_is_refused(api: Served) -> None:
    is_error(await api.http.get(f"{SERVICES}?name={'x' * 9000}"), 414)


async def test_fields_leave_identity_and_what_they_name(api: Served) -> None:
    async def fields(text: str) -> dict[str, Any]:
        return dict((await api.http.get(f"{SERVICES}/s01?fields={text}")).json())

    identity = {"id": "s01", "href": f"{PUBLIC_ADDRESS}{SERVICES}/s01", "@type": "Service"}

    assert await fields("none") == identity
    assert await fields("") == identity
    assert await fields("name,state") == {**identity, "name": "twin 1", "state": "inactive"}
    assert await fields("name&fields=state") == {**identity, "name": "twin 1", "state": "inactive"}
    assert await fields("serviceSpecification.id") == {**identity, "serviceSpecification": {"id": "spec1"}}
    assert await fields("serviceCharacteristic.name,serviceCharacteristic.value") == {
        **identity,
        "serviceCharacteristic": [
            {"name": "freshness", "value": 1},
            {"name": "domains", "value": ["ran", "core"]},
            {"name": "customer", "value": "customer-1"},
        ],
    }
    assert (await fields("serviceSpecification.id,serviceSpecification"))["serviceSpecification"] == {
        "id": "spec1",
        "version": "1.10",
    }
    assert await fields("endDate") == identity
    is_error(await api.http.get(f"{SERVICES}/s01?fields=colour"), 400)
    listed = (await api.http.get(f"{SERVICES}?fields=none&limit=1")).json()
    assert listed == [{**identity, "id": "s11", "href": f"{PUBLIC_ADDRESS}{SERVICES}/s11"}]


async def test_one_resource_takes_no_other_query(api: Served) -> None:
    for query in ("state=active", "limit=1", "offset=0", "sort=name"):
        is_error(await api.http.get(f"{SERVICES}/s01?{query}"), 400)


async def test_pages_are_linked_to_the_last_and_hold_everything_once(api: Served) -> None:
    seen: list[str] = []
    url = f"{SERVICES}?state.ne=designed&sort=name&limit=3"

    for _ in range(10):
        answer = await api.http.get(url)
        assert answer.headers["x-total-count"] == "8"
        seen += [each["id"] for each in answer.json()]
        links = dict((name, at) for at, name in re.findall(r'<([^>]*)>; rel="(\w+)"', answer.headers["link"]))
        assert all(at.startswith(PUBLIC_ADDRESS) for at in links.values())
        assert {"self", "first", "last"} <= links.keys()
        assert ("prev" in links) == (len(seen) > 3)
        if "next" not in links:
            break
        url = links["next"]

    assert len(seen) == len(set(seen)) == 8
    assert (await api.http.get(links["first"])).json()[0]["id"] == seen[0]
    assert (await api.http.get(links["last"])).json()[-1]["id"] == seen[-1]
    assert [each["id"] for each in (await api.http.get(links["prev"])).json()] == seen[3:6]


async def test_a_limit_above_the_most_gives_the_most(api: Served) -> None:
    answer = await api.http.get(f"{SERVICES}?limit=100000")

    assert "limit=500" in answer.headers["link"]


async def test_a_tag_says_whether_it_changed(api: Served) -> None:
    first = await api.http.get(f"{SERVICES}/s00")
    tag = first.headers["etag"]

    for known in (tag, f"W/{tag}", f'"x", {tag}', "*"):
        again = await api.http.get(f"{SERVICES}/s00", headers={"if-none-match": known})
        assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", tag)
    for other in ('"9"', '""', "nonsense"):
        assert (await api.http.get(f"{SERVICES}/s00", headers={"if-none-match": other})).status_code == 200


async def test_an_answer_is_json_or_406(api: Served) -> None:
    for accept in (
        "application/json",
        "*/*",
        "text/html, application/*;q=0.1",
        "application/json;charset=utf-8",
        "",
    ):
        answer = await api.http.get(f"{SERVICES}/s00", headers={"accept": accept})
        assert answer.headers["content-type"] == "application/json;charset=utf-8"
    for accept in ("text/html", "application/xml", "application/json;q=0"):
        is_error(await api.http.get(SERVICES, headers={"accept": accept}), 406)


async def test_an_address_comes_from_the_configuration_and_not_from_the_request(api: Served) -> None:
    answer = await api.http.get(
        f"{SERVICES}/s00", headers={"host": "evil.example", "x-forwarded-host": "evil.example"}
    )

    assert answer.json()["href"] == f"{PUBLIC_ADDRESS}{SERVICES}/s00"


async def test_ids_of_any_text_are_found_and_addressed(api: Served) -> None:
    api.keep(
        Kind.SERVICE_ORDER,
        {"id": "a b/ü%", "state": "completed", "orderDate": DAYS[0], "serviceOrderItem": []},
    )

    found = (await api.http.get(f"{ORDERS}?fields=none")).json()

    assert found[0]["href"] == f"{PUBLIC_ADDRESS}{ORDERS}/a%20b%2F%C3%BC%25"
    for strange in ("%00", "..%2F..", "%F0%9F%92%A9", "a" * 4000, "s00%20"):
        is_error(await api.http.get(f"{SERVICES}/{strange}"), 404)


async def test_paths_that_there_are_not_are_404(api: Served) -> None:
    for path in ("/nothing", "/service/s00/state", "/listener/serviceCreateEvent", "/"):
        is_error(await api.http.get(f"{BASES['TMF638']}{path}"), 404)
    assert (await api.http.get(f"{SERVICES}/")).status_code == 200


async def test_nobody_reads_without_a_caller(api: Served) -> None:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=api.app), base_url=PUBLIC_ADDRESS) as http:
        answer = await http.get(SERVICES)

    is_error(answer, 401)
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_everybody_reads_what_the_operator_publishes_and_nobody_changes_it(api: Served) -> None:
    api.keep(Kind.SERVICE_SPECIFICATION, {"id": "NdtTwin", "name": "NdtTwin"}, PUBLIC)
    api.keep(Kind.SERVICE_SPECIFICATION, {"id": "own", "name": "own"}, "acme")

    async with api.client("globex") as other:
        assert [each["id"] for each in (await other.get(SPECIFICATIONS)).json()] == ["NdtTwin"]
        assert (await other.get(f"{SPECIFICATIONS}/NdtTwin")).status_code == 200
        for method in ("PATCH", "DELETE"):
            body = is_error(await other.request(method, f"{SPECIFICATIONS}/NdtTwin", json={"name": "x"}), 403)
            assert body["code"] == "notShared"
        is_error(await other.get(f"{SPECIFICATIONS}/own"), 404)
    assert [each["id"] for each in (await api.http.get(SPECIFICATIONS)).json()] == ["own", "NdtTwin"]


async def test_alarms_that_were_predicted_are_never_in_one_list_with_live_ones(api: Served) -> None:
    for number, kind in enumerate(("Alarm", "NdtPredictedAlarm", "Alarm")):
        body = {
            "id": f"a{number}",
            "@type": kind,
            "state": "raised",
            "alarmType": "x",
            "perceivedSeverity": "major",
        }
        more = {
            "probableCause": "x",
            "alarmedObject": {"id": "c"},
            "sourceSystemId": "s",
            "alarmRaisedTime": DAYS[0],
        }
        api.keep(Kind.ALARM, body | more)

    async def listed(query: str) -> list[str]:
        answer = await api.http.get(f"{ALARMS}{query}")
        found = [each["id"] for each in answer.json()]
        assert answer.headers["x-total-count"] == str(len(found))
        return found

    assert await listed("") == ["a2", "a0"]
    assert await listed("?@type=Alarm") == ["a2", "a0"]
    assert await listed("?@type=NdtPredictedAlarm") == ["a1"]
    assert await listed("?@type.ne=Alarm") == []
    assert await listed("?@type.regex=.") == ["a2", "a0"]
    is_error(await api.http.get(f"{ALARMS}?@type=Alarm,NdtPredictedAlarm"), 400)
    assert (await api.http.get(f"{ALARMS}/a1")).json()["@type"] == "NdtPredictedAlarm"
