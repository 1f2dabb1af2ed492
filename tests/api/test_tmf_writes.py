"""Writing over HTTP: bodies, patches, states, versions, keys, subscriptions; and what the broker says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from tmf_bodies import CREATED
from tmf_contract import conforming
from tmf_parts import ALARMS, BASES, ORDER, ORDERS, SERVICES, SPECIFICATIONS, TESTS, Served, is_error, served

from domain_twin.errors import (
    Conflict,
    ContractError,
    CredentialError,
    NotFound,
    NotShared,
    OverCapacity,
    StaleVersion,
    TwinError,
    Unreachable,
)
from federation.partners.documents import parse
from federation.partners.record import Kind
from twin_api.tmf import APIS
from twin_api.tmf.bodies import MAX_BODY, MAX_DEPTH

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = {"content-type": "application/json"}
HUB = f"{BASES['TMF641']}/hub"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api() -> AsyncIterator[Served]:
    async with served(hooks=[conforming]) as running:
        yield running


async def order(api: Served, **more: Any) -> str:
    """Where a new order is."""
    answer = await api.http.post(ORDERS, json={**ORDER, **more})
    assert answer.status_code == 201, answer.text
    return f"{ORDERS}/{answer.json()['id']}"


DEEP = b'{"description":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
BAD: list[tuple[str, bytes]] = [
    ("empty", b""),
    ("no JSON", b"{"),
    ("a list", b"[]"),
    ("a text", b'"x"'),
    ("null", b"null"),
    ("two objects", b"{}{}"),
    ("a comment", b"{} // x"),
    ("a byte order mark", b"\xef\xbb\xbf{}"),
    ("no UTF-8", b'{"description":"\xff"}'),
    ("UTF-16", '{"description":"x"}'.encode("utf-16")),
    ("NaN", b'{"description":NaN}'),
    ("infinity", b'{"description":-Infinity}'),
    ("a number too large", b'{"description":1e999}'),
    ("a whole number too large", b'{"description":' + b"9" * 5000 + b"}"),
    ("a name twice", b'{"description":"a","description":"b"}'),
    ("a name twice inside", b'{"note":[{"text":"a","text":"b"}]}'),
    ("U+0000", b'{"description":"\\u0000"}'),
    ("half a surrogate", b'{"description":"\\ud800"}'),
    ("half a surrogate as a name", b'{"\\ud800":"x"}'),
    ("too deep", b'{"note":' + b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1) + b"}"),
    ("deeper than the reader", DEEP),
]


@pytest.mark.parametrize(("what", "body"), BAD, ids=[what for what, _ in BAD])
async def test_a_body_that_is_no_good_json_object_is_400(api: Served, what: str, body: bytes) -> None:
    where = await order(api)

    for method, at in (("POST", ORDERS), ("PATCH", where)):
        problem = is_error(await api.http.request(method, at, content=body, headers=JSON), 400)
        assert problem["code"] == "invalidBody", problem


async def test_a_body_too_large_is_413_however_it_is_sent(api: Served) -> None:
    large = b'{"description":"' + b"x" * MAX_BODY + b'"}'

    async def pieces() -> AsyncIterator[bytes]:
        for at in range(0, len(large), 65536):
            yield large[at : at + 65536]

    is_error(await api.http.post(ORDERS, content=large, headers=JSON), 413)
    is_error(await api.http.post(ORDERS, content=pieces(), headers=JSON), 413)
    text = {**ORDER, "description": "x" * 70_000}
    assert is_error(await api.http.post(ORDERS, json=text), 400)["code"] == "tooLong"


async def test_a_body_that_the_broker_would_not_take_is_413(api: Served) -> None:
    where = await order(api)
    spaces = json.dumps(ORDER).encode().ljust(1_020_000)
    numbers = "[" + ",".join(["1E15"] * 100_000) + "]"
    item = json.dumps({"id": "1", "action": "add", "service": {"serviceCharacteristic": [{"name": "n"}]}})
    longer = f'{{"serviceOrderItem":[{item}]}}'.replace('"n"', f'"n","value":{numbers}').encode()
    assert len(longer) < MAX_BODY
    before = len(api.kept.calls)

    for body in (spaces, longer):
        for method, at in (("POST", ORDERS), ("PATCH", where)):
            answer = await api.http.request(method, at, content=body, headers=JSON)
            assert answer.status_code == 413, (method, answer.text[:200])
            is_error(answer, 413)

    assert len(api.kept.calls) == before
    assert parse(json.dumps(ORDER).encode().ljust(MAX_BODY), "the most that the broker takes")
    with pytest.raises(OverCapacity):
        parse(json.dumps(ORDER).encode().ljust(MAX_BODY + 1), "more than that")


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("POST", {}),
        ("POST", {"content-type": "text/plain"}),
        ("POST", {"content-type": "application/merge-patch+json"}),
        ("POST", {"content-type": "application/json;charset=latin-1"}),
        ("POST", {"content-type": "application/json", "content-encoding": "gzip"}),
        ("PATCH", {"content-type": "application/json-patch+json"}),
        ("PATCH", {"content-type": "application/xml"}),
    ],
)
async def test_a_body_of_another_kind_is_415(api: Served, method: str, headers: dict[str, str]) -> None:
    where = ORDERS if method == "POST" else await order(api)

    is_error(await api.http.request(method, where, content=json.dumps(ORDER), headers=headers), 415)


async def test_each_kind_of_patch_body_is_taken(api: Served) -> None:
    where = await order(api)

    for number, kind in enumerate(
        ("application/json", "application/merge-patch+json", "Application/JSON; charset=UTF-8")
    ):
        answer = await api.http.patch(
            where, content=json.dumps({"description": f"d{number}"}), headers={"content-type": kind}
        )
        assert (answer.status_code, answer.json()["description"]) == (200, f"d{number}")


async def test_null_is_nothing_in_a_post_and_takes_away_in_a_patch(api: Served) -> None:
    answer = await api.http.post(ORDERS, json={**ORDER, "description": None, "externalId": "x"})
    assert "description" not in answer.json()
    where = f"{ORDERS}/{answer.json()['id']}"

    answer = await api.http.patch(where, json={"externalId": None, "description": "back"})

    assert "externalId" not in answer.json()
    assert answer.json()["description"] == "back"
    for gone in (None, []):
        body = is_error(await api.http.patch(where, json={"serviceOrderItem": gone}), 400)
        assert body["code"] == "missingAttribute"
    is_error(await api.http.patch(where, json={"state": None}), 400)


async def test_a_patch_merges_objects_and_replaces_arrays(api: Served) -> None:
    made = (
        await api.http.post(
            SPECIFICATIONS,
            json=CREATED["serviceSpecification"] | {"validFor": {"startDateTime": "2026-01-01T00:00:00Z"}},
        )
    ).json()

    answer = await api.http.patch(
        made["href"],
        json={"validFor": {"endDateTime": "2027-01-01T00:00:00Z"}, "specCharacteristic": [{"name": "other"}]},
    )

    assert answer.json()["validFor"] == {
        "startDateTime": "2026-01-01T00:00:00Z",
        "endDateTime": "2027-01-01T00:00:00Z",
    }
    assert answer.json()["specCharacteristic"] == [{"name": "other"}]
    is_error(await api.http.patch(made["href"], json={"validFor": {"endDateTime": "never"}}), 400)
    is_error(await api.http.patch(made["href"], json={"validFor": "always"}), 400)


async def test_a_patch_of_nothing_changes_nothing_and_asks_nobody(api: Served) -> None:
    where = await order(api)
    api.kept.calls.clear()

    answer = await api.http.patch(where, json={"@type": "ServiceOrder"})

    assert (answer.status_code, answer.headers["etag"]) == (200, '"1"')
    assert api.kept.calls == []
    is_error(await api.http.patch(where, json={"@type": "ServiceOrderOfAnotherKind"}), 400)


@pytest.mark.parametrize(
    ("kind", "path", "held", "wanted", "allowed"),
    [
        (Kind.SERVICE_ORDER, ORDERS, "inProgress", "held", True),
        (Kind.SERVICE_ORDER, ORDERS, "held", "inProgress", True),
        (Kind.SERVICE_ORDER, ORDERS, "pending", "inProgress", True),
        (Kind.SERVICE_ORDER, ORDERS, "inProgress", "inProgress", True),
        (Kind.SERVICE_ORDER, ORDERS, "acknowledged", "completed", False),
        (Kind.SERVICE_ORDER, ORDERS, "inProgress", "cancelled", False),
        (Kind.SERVICE_ORDER, ORDERS, "held", "completed", False),
        (Kind.SERVICE_ORDER, ORDERS, "completed", "inProgress", False),
        (Kind.SERVICE_ORDER, ORDERS, "completed", "completed", False),
        (Kind.SERVICE, SERVICES, "active", "inactive", True),
        (Kind.SERVICE, SERVICES, "inactive", "active", True),
        (Kind.SERVICE, SERVICES, "active", "terminated", True),
        (Kind.SERVICE, SERVICES, "active", "designed", False),
        (Kind.SERVICE, SERVICES, "terminated", "active", False),
        (Kind.SERVICE_TEST, TESTS, "inProgress", "cancelled", True),
        (Kind.SERVICE_TEST, TESTS, "acknowledged", "cancelled", True),
        (Kind.SERVICE_TEST, TESTS, "acknowledged", "completed", False),
        (Kind.SERVICE_TEST, TESTS, "completed", "cancelled", False),
        (Kind.ALARM, ALARMS, "raised", "cleared", True),
        (Kind.ALARM, ALARMS, "cleared", "raised", False),
    ],
)
async def test_states_move_only_as_their_table_says(
    api: Served, kind: Kind, path: str, held: str, wanted: str, allowed: bool
) -> None:
    name = path.rpartition("/")[2]
    body = {
        "@type": name[0].upper() + name[1:],
        **CREATED[name],
        "state": held,
        "orderDate": "2026-01-01T00:00:00Z",
    }
    if kind is not Kind.SERVICE_ORDER:
        del body["orderDate"]
    body.pop("relatedParty", None)
    record = api.keep(kind, body)

    answer = await api.http.patch(f"{path}/{record.id}", json={"state": wanted})

    if allowed:
        assert (answer.status_code, answer.json()["state"]) == (200, wanted)
    else:
        assert is_error(answer, 409)["code"] in ("illegalTransition", "terminalState")
        assert (await api.http.get(f"{path}/{record.id}")).json()["state"] == held
    problem = is_error(await api.http.patch(f"{path}/{record.id}", json={"state": "flying"}), 400)
    assert problem["code"] == "wrongValue"


async def test_what_has_ended_does_not_change(api: Served) -> None:
    record = api.keep(Kind.SERVICE_ORDER, {**ORDER, "state": "failed", "orderDate": "2026-01-01T00:00:00Z"})

    body = is_error(await api.http.patch(f"{ORDERS}/{record.id}", json={"description": "x"}), 409)

    assert body["code"] == "terminalState"


async def test_a_version_that_is_named_must_be_the_one_held(api: Served) -> None:
    where = await order(api)
    tag = (await api.http.get(where)).headers["etag"]

    first = await api.http.patch(where, json={"description": "first"}, headers={"if-match": tag})
    second = await api.http.patch(where, json={"description": "second"}, headers={"if-match": tag})

    assert first.status_code == 200
    is_error(second, 412)
    assert (await api.http.get(where)).json()["description"] == "first"
    for stale in (tag, 'W/"2"', '"x"', "nonsense", "", '"²"', f'"{10**30}"'):
        is_error(await api.http.delete(where, headers={"if-match": stale.encode("latin-1")}), 412)
    assert (await api.http.patch(where, json={"priority": "1"}, headers={"if-match": "*"})).status_code == 200
    assert (await api.http.delete(where, headers={"if-match": '"1", "3"'})).status_code == 204


async def test_a_version_newer_than_the_one_held_here_is_for_the_broker(api: Served) -> None:
    where = await order(api)
    api.kept.keep(
        "acme",
        Kind.SERVICE_ORDER,
        {**api.kept.records["acme", Kind.SERVICE_ORDER, where.rpartition("/")[2]].body, "priority": "2"},
    )

    answer = await api.http.patch(where, json={"description": "x"}, headers={"if-match": '"2"'})

    assert (answer.status_code, answer.json()["priority"]) == (200, "2")
    is_error(await api.http.patch(where, json={"description": "y"}, headers={"if-match": '"9"'}), 412)


async def test_of_many_patches_at_once_that_name_a_version_one_is_made(api: Served) -> None:
    where = await order(api)

    answers = await asyncio.gather(
        *(api.http.patch(where, json={"description": f"d{n}"}, headers={"if-match": '"1"'}) for n in range(8))
    )

    assert sorted(answer.status_code for answer in answers) == [200] + [412] * 7


async def test_a_patch_that_names_no_version_is_tried_anew(api: Served) -> None:
    where = await order(api)
    identity = where.rpartition("/")[2]
    times = 0

    async def interfere() -> None:
        nonlocal times
        times += 1
        if times < 3:
            held = api.kept.records["acme", Kind.SERVICE_ORDER, identity]
            record = api.kept.keep("acme", Kind.SERVICE_ORDER, {**held.body, "priority": str(times)})
            asyncio.get_running_loop().call_later(0.02, api.model.apply, record)

    api.kept.interfere = interfere
    try:
        answer = await api.http.patch(where, json={"description": "mine"})
        assert (answer.status_code, times) == (200, 3)
        assert {answer.json()["description"], answer.json()["priority"]} == {"mine", "2"}
        times = -10
        is_error(await api.http.patch(where, json={"description": "again"}), 409)
        assert times == -7
    finally:
        api.kept.interfere = None


async def test_a_key_makes_one_resource_however_often_it_is_sent(api: Served) -> None:
    headers = {"idempotency-key": "order 1 of today"}

    first, second = [await api.http.post(ORDERS, json=ORDER, headers=headers) for _ in range(2)]
    other = await api.http.post(ORDERS, json=ORDER, headers={"idempotency-key": "2"})

    assert (first.status_code, second.status_code) == (201, 201)
    assert first.content == second.content
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"
    assert other.json()["id"] != first.json()["id"]
    for key in ("", " ", "x" * 256, "\x7f", "é"):
        is_error(
            await api.http.post(ORDERS, json=ORDER, headers={"idempotency-key": key.encode("latin-1")}), 400
        )


async def test_subscriptions_belong_to_their_api(api: Served) -> None:
    body = {
        "callback": "https://a.example/cb",
        "query": "eventType=ServiceOrderStateChangeEvent,ServiceOrderCreateEvent",
    }

    made = await api.http.post(HUB, json=body)

    assert made.status_code == 201
    assert made.json() == {**made.json(), **body}
    assert "api" not in made.json()
    identity = made.json()["id"]
    for of in APIS:
        there = of.number == "TMF641"
        assert (await api.http.get(f"{of.base}/hub")).headers["x-total-count"] == str(int(there))
        assert (await api.http.get(f"{of.base}/hub/{identity}")).status_code == (200 if there else 404)
        if not there:
            is_error(await api.http.delete(f"{of.base}/hub/{identity}"), 404)
    is_error(await api.http.post(HUB, json=body), 409)
    async with api.client("globex") as other:
        assert (await other.get(HUB)).json() == []
        is_error(await other.delete(f"{HUB}/{identity}"), 404)
        assert (await other.post(HUB, json=body)).status_code == 201
    assert (await api.http.post(HUB, json={"callback": body["callback"]})).status_code == 201
    elsewhere = await api.http.post(f"{BASES['TMF638']}/hub", json={"callback": body["callback"]})
    assert elsewhere.status_code == 201
    assert (await api.http.delete(f"{HUB}/{identity}")).status_code == 204
    assert (await api.http.post(HUB, json=body)).status_code == 201


@pytest.mark.parametrize(
    "body",
    [
        {"callback": "ftp://a.example/x"},
        {"callback": "/listener"},
        {"callback": "https://"},
        {"callback": "https://u:p@a.example/"},
        {"callback": "https://a.example/#x"},
        {"callback": "https://a.example:99999/"},
        {"callback": "https://[::1/"},
        {"callback": "https://a.example/ x"},
        {"callback": "https://a.example/" + "x" * 3000},
        {"callback": "https://b.example/", "query": "eventType=NoSuchEvent"},
        {"callback": "https://b.example/", "query": "eventType=AlarmCreateEvent"},
        {"callback": "https://b.example/", "query": "event.state=" + "x" * 2001},
        {"callback": "https://b.example/", "query": "no condition"},
        {"callback": "https://b.example/", "query": "a b=c"},
        {"callback": "https://b.example/", "query": "event.state=a\nb"},
        {"callback": "https://b.example/", "colour": "red"},
    ],
)
async def test_a_subscription_that_nobody_could_serve_is_400(api: Served, body: dict[str, Any]) -> None:
    is_error(await api.http.post(HUB, json=body), 400)


def over_capacity() -> OverCapacity:
    error = OverCapacity("five twins are active, and no more are granted")
    error.retry_after_s = 29.2
    return error


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ContractError("domains: there is no ran.north"), 400),
        (NotShared("the domain does not share it"), 403),
        (NotFound("there is no service s9"), 404),
        (Conflict("there is an order of this externalId already"), 409),
        (StaleVersion("the order is at version 5"), 409),
        (over_capacity(), 429),
        (Unreachable("the broker does not answer"), 503),
        (CredentialError("secret detail"), 502),
        (TwinError("secret detail"), 500),
        (ZeroDivisionError("secret detail"), 500),
    ],
)
async def test_what_the_broker_refuses_has_its_status(api: Served, error: Exception, status: int) -> None:
    where = await order(api)
    api.kept.refuse = error
    try:
        answers = [
            await api.http.post(ORDERS, json=ORDER),
            await api.http.patch(where, json={"description": "x"}),
            await api.http.delete(where),
        ]
    finally:
        api.kept.refuse = None

    for answer in answers:
        body = is_error(answer, status)
        assert "secret" not in answer.text
        if status in (400, 403, 409, 429):
            assert str(error) == body["message"]
    if status == 404:  # an order that went meanwhile: as one that never was
        unknown = await api.http.get(f"{ORDERS}/never")
        assert answers[0].json()["message"] == str(error)
        assert answers[2].content == unknown.content
    if status == 429:
        assert {answer.headers["retry-after"] for answer in answers} == {"30"}
    if status == 503:
        assert {answer.headers["retry-after"] for answer in answers} == {"1"}
    assert (await api.http.get(where)).status_code == 200


async def test_what_was_written_is_read_at_once_and_counts(api: Served) -> None:
    async with api.client("fresh") as http:
        where = (await http.post(ORDERS, json=ORDER)).json()["href"]
        assert (await http.get(ORDERS)).headers["x-total-count"] == "1"
        assert (await http.patch(where, json={"description": "x"})).status_code == 200
        assert (await http.get(f"{ORDERS}?description=x")).headers["x-total-count"] == "1"
        assert (await http.get(f"{ORDERS}?description=a%20twin%20of%20the%20slice")).json() == []
        assert (await http.delete(where)).status_code == 204
        assert (await http.get(ORDERS)).headers["x-total-count"] == "0"


async def test_items_are_checked_to_their_ends(api: Served) -> None:
    def with_item(**item: Any) -> dict[str, Any]:
        return {"serviceOrderItem": [{**CREATED["serviceOrder"]["serviceOrderItem"][0], **item}]}

    for body, word in (
        (with_item(action="destroy"), "serviceOrderItem[0].action"),
        (with_item(service="x"), "serviceOrderItem[0].service"),
        (with_item(colour="red"), "serviceOrderItem[0].colour"),
        (with_item(service={"serviceCharacteristic": [{"name": "x"}]}), "serviceCharacteristic[0].value"),
        (with_item(quantity=1.5), "serviceOrderItem[0].quantity"),
        ({"serviceOrderItem": [{"id": "1", "action": "add"}]}, "serviceOrderItem[0].service"),
        ({"serviceOrderItem": [None]}, "serviceOrderItem[0]"),
        ({"serviceOrderItem": []}, "serviceOrderItem"),
        ({**ORDER, "requestedStartDate": "2026-02-30"}, "requestedStartDate"),
        ({**ORDER, "requestedStartDate": "2026-01-01T25:00:00Z"}, "requestedStartDate"),
        ({**ORDER, "requestedStartDate": 20260101}, "requestedStartDate"),
        ({**ORDER, "note": [{"text": "x", "date": "soon"}]}, "note[0].date"),
    ):
        assert word in is_error(await api.http.post(ORDERS, json=body), 400)["message"]


async def test_a_post_takes_no_query(api: Served) -> None:
    is_error(await api.http.post(f"{ORDERS}?fields=none", json=ORDER), 400)


async def test_nothing_is_read_or_written_before_the_broker_has_sent_its_records() -> None:
    async with served(complete=False, hooks=[conforming]) as early:
        for answer in (
            await early.http.get(ORDERS),
            await early.http.get(f"{ORDERS}/x"),
            await early.http.patch(f"{ORDERS}/x", json={}),
            await early.http.delete(f"{ORDERS}/x"),
        ):
            is_error(answer, 503)
            assert answer.headers["retry-after"] == "1"
