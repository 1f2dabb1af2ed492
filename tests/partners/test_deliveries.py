"""Events reach the subscriptions that ask for them: at least once, in order, signed; and nobody else."""

from __future__ import annotations

import asyncio
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from event_parts import ADDRESS, TENANTS, Got, Pki, delivering, receiver, settings, until
from joserfc import jws
from joserfc.errors import BadSignatureError
from joserfc.jwk import KeySet

from domain_twin.errors import Conflict, ContractError, NotFound, OverCapacity, Unreachable
from federation.partners.outbox import OutboxRow
from federation.partners.record import PUBLIC, Kind, Record
from federation.partners.store import RecordStore


@pytest.fixture
def sqlite(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'store' / 'partners.sqlite3'}"


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki.make(tmp_path_factory.mktemp("pki"))


async def test_a_change_reaches_the_callback_as_an_event(tmp_path: Path, database_url: str, pki: Pki) -> None:
    async with delivering(tmp_path, database_url, settings(pki)) as at, receiver(pki) as hook:
        hub = await at.hub(hook.url)
        order = await at.order("first")
        await at.of().update(order, {**order.body, "state": "completed"})
        await until(lambda: len(hook.got) == 2)
        created, changed = hook.got
        await until(lambda: at.desk.deliveries.waiting == 0)

        assert created.path == "/cb/listener/serviceOrderCreateEvent"
        assert changed.path == "/cb/listener/serviceOrderStateChangeEvent"
        document = changed.document
        assert document["eventType"] == "ServiceOrderStateChangeEvent"
        assert document["eventTime"].endswith("Z")
        assert document["event"] == {
            "serviceOrder": {
                "id": order.id,
                "href": f"{ADDRESS}/serviceOrder/{order.id}",
                "@type": "ServiceOrder",
                "description": "first",
                "state": "completed",
            }
        }
        assert created.event_id != changed.event_id
        assert created.headers["content-type"] == "application/json;charset=utf-8"
        assert at.shown(hub)["state"] == "active"


async def test_an_event_right_after_its_subscription_is_not_missed(
    tmp_path: Path, sqlite: str, pki: Pki, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with delivering(tmp_path, sqlite, settings(pki)) as at, receiver(pki) as hook:
        read = at.store.events

        async def subscribed_meanwhile(after: int, *, limit: int) -> list[OutboxRow]:
            monkeypatch.undo()
            await at.hub(hook.url)
            await at.order("at once")
            return await read(after, limit=limit)

        monkeypatch.setattr(RecordStore, "events", staticmethod(subscribed_meanwhile))
        await until(lambda: hook.got, timeout_s=10)

        assert hook.numbers == ["at once"]


async def test_a_subscription_that_was_not_kept_may_be_asked_for_again(tmp_path: Path, sqlite: str) -> None:
    async with delivering(tmp_path, sqlite, settings(None), hubs=1) as at:
        at.store.limits["acme"] = 0
        with pytest.raises(OverCapacity, match="records are kept for you"):
            await at.hub("https://127.0.0.1/cb")
        at.store.limits["acme"] = 10
        hub = await at.hub("https://127.0.0.1/cb")

        assert at.shown(hub)["state"] == "active"


async def test_a_signature_holds_for_just_these_octets(tmp_path: Path, database_url: str, pki: Pki) -> None:
    async with delivering(tmp_path, database_url, settings(pki)) as at, receiver(pki) as hook:
        hub = await at.hub(hook.url)
        await at.order("größer")
        await until(lambda: hook.got)
        [got] = hook.got
        published = [record.body["jwk"] for record in at.of(PUBLIC).list(Kind.SIGNING_KEY)]

    keys = KeySet.import_key_set({"keys": published})
    registry = jws.JWSRegistry(algorithms=["ES256"], strict_check_header=False)
    signature = got.headers["fedtwin-signature"]
    protected = jws.deserialize_compact(signature, keys, registry=registry, payload=got.octets).headers()
    assert protected["eventId"] == got.event_id
    assert protected["hubId"] == hub.id
    assert isinstance(protected["iat"], int)
    assert "d" not in published[0]
    told = (Path(__file__).parents[2] / "docs" / "partners-events.md").read_text()
    shown: dict[str, Any] = {}
    exec(told.partition("```python\n")[2].partition("```")[0], shown)
    verify = partial(shown["verify"], got.octets, signature, {"keys": published})
    assert verify(hub=hub.id, now=protected["iat"] + 200)["eventId"] == got.event_id
    for replayed in (
        {"hub": "another", "now": protected["iat"]},
        {"hub": hub.id, "now": protected["iat"] + 400},
    ):
        with pytest.raises(ValueError, match="not for us"):
            verify(**replayed)
    for place in range(0, len(got.octets), 7):
        flipped = bytearray(got.octets)
        flipped[place] ^= 1
        with pytest.raises(BadSignatureError):
            jws.deserialize_compact(signature, keys, registry=registry, payload=bytes(flipped))


async def test_only_what_a_subscription_asks_for_is_sent_to_it(tmp_path: Path, sqlite: str, pki: Pki) -> None:
    async with (
        delivering(tmp_path, sqlite, settings(pki)) as at,
        receiver(pki) as hook,
        receiver(pki) as other,
    ):
        await at.order("before")
        await at.hub(hook.url, "eventType=ServiceOrderStateChangeEvent&serviceOrder.state=completed,failed")
        await at.hub(other.url + "/services", api="serviceInventory")
        await at.hub(other.url + "/theirs", tenant="globex")
        order = await at.order("asked for")
        order = await at.of().update(order, {**order.body, "state": "inProgress"})
        order = await at.of().update(order, {**order.body, "state": "completed"})
        await at.of().update(order, {**order.body, "note": "x"})
        await at.of("globex").create(Kind.SERVICE_ORDER, {"description": "theirs"})
        await at.of().create(Kind.SERVICE, {"state": "active"})
        await until(lambda: len(hook.got) == 1 and len(other.got) == 2)
        await until(lambda: at.desk.deliveries.waiting == 0)

        assert hook.got[0].document["event"]["serviceOrder"]["state"] == "completed"
        told = {got.path: got.document["event"] for got in other.got}
        assert told["/cb/theirs/listener/serviceOrderCreateEvent"]["serviceOrder"]["description"] == "theirs"
        assert "service" in told["/cb/services/listener/serviceCreateEvent"]
        assert (len(hook.got), len(other.got)) == (1, 2)


async def test_what_happened_before_a_subscription_is_none_of_its_business(
    tmp_path: Path, sqlite: str, pki: Pki
) -> None:
    async with receiver(pki) as hook:
        store = await RecordStore.open(tmp_path, sqlite, TENANTS)  # nothing is delivered yet
        await store.of("acme").create(Kind.SERVICE_ORDER, {"description": "before"})
        await store.of("acme").create(Kind.HUB, {"api": "serviceOrdering", "callback": hook.url})
        await store.of("acme").create(Kind.SERVICE_ORDER, {"description": "after"})
        await store.close()
        async with delivering(tmp_path, sqlite, settings(pki)) as at:
            await until(lambda: hook.got and at.desk.deliveries.waiting == 0)

    assert hook.numbers == ["after"]


async def test_a_receiver_that_was_down_gets_all_in_order(tmp_path: Path, sqlite: str, pki: Pki) -> None:
    async with delivering(tmp_path, sqlite, settings(pki)) as at, receiver(pki) as hook:
        hub = await at.hub(hook.url)
        await at.order(0)
        await until(lambda: hook.numbers == ["0"])
        await hook.down()
        await at.orders(range(1, 40))
        await until(lambda: at.shown(hub)["state"] == "retrying")
        assert "no answer" in at.shown(hub)["lastError"]
        assert at.shown(hub)["failingSince"]
        await hook.up()
        await until(lambda: len(hook.got) == 40)
        await until(lambda: at.shown(hub)["state"] == "active")

    assert hook.numbers == [str(number) for number in range(40)]
    assert not {"lastError", "failingSince", "deadLetter"} & at.shown(hub).keys()
    assert len({got.event_id for got in hook.got}) == 40


async def test_what_fails_is_sent_again_under_the_same_id(tmp_path: Path, sqlite: str, pki: Pki) -> None:
    answers = iter([500, 503, 429, 302, 404, 401])

    async def failing(_: Got, writer: asyncio.StreamWriter) -> None:
        writer.write(f"HTTP/1.1 {next(answers, 204)} X\r\nContent-Length: 0\r\n\r\n".encode())

    async with delivering(tmp_path, sqlite, settings(pki)) as at, receiver(pki, failing) as hook:
        await at.hub(hook.url)
        await at.orders([1, 2])
        await until(lambda: len(hook.got) == 8)

    assert hook.numbers == ["1"] * 7 + ["2"]
    assert len({got.event_id for got in hook.got}) == 2
    assert len({got.headers["fedtwin-signature"] for got in hook.got}) == 8  # each says when it was sent


async def test_what_is_tried_in_vain_is_a_dead_letter_until_it_is_tried_again(
    tmp_path: Path, database_url: str, pki: Pki
) -> None:
    config = settings(pki, attempts=3, first_retry_s=0.01)
    async with delivering(tmp_path, database_url, config) as at, receiver(pki, 500) as hook:
        hub = await at.hub(hook.url)
        order = await at.order(1)
        await until(lambda: at.shown(hub).get("deadLetterCount") == 1)
        assert len(hook.got) == 3
        [letter] = at.shown(hub)["deadLetter"]
        assert letter["eventId"] == hook.got[0].event_id
        assert letter["eventType"] == "ServiceOrderCreateEvent"
        assert (letter["resourceId"], letter["attempts"]) == (order.id, 3)
        assert letter["reason"] == "answered 500"
        await until(lambda: at.findings)
        assert [(f.code, f.element) for f in at.findings] == [("events.dead-letters", f"acme/{hub.id}")]
        hook.answer = 204
        await at.order(2)
        await until(lambda: at.shown(hub)["state"] == "impaired")  # it works, and one is missing
        await until(lambda: hook.numbers[-1] == "2")

    async with delivering(tmp_path, database_url, config) as at:  # and after a restart
        assert at.shown(hub)["deadLetter"] == [letter]
        await hook.up()
        await at.again(hub)
        await until(lambda: hook.numbers[-1] == "1")
        await until(lambda: at.desk.deliveries.waiting == 0)
        await until(lambda: not at.findings and at.shown(hub)["state"] == "active")
        assert "deadLetter" not in at.shown(hub)
        await hook.down()
    assert len(hook.got) == 5


async def test_an_event_that_is_refused_for_what_it_is_holds_up_no_others(
    tmp_path: Path, sqlite: str, pki: Pki
) -> None:
    async def picky(got: Got, writer: asyncio.StreamWriter) -> None:
        status = 400 if got.document["event"]["serviceOrder"]["description"] == "2" else 204
        writer.write(f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n".encode())

    async with delivering(tmp_path, sqlite, settings(pki)) as at, receiver(pki, picky) as hook:
        hub = await at.hub(hook.url)
        await at.orders([1, 2, 3])
        await until(lambda: hook.numbers and hook.numbers[-1] == "3")
        await until(lambda: at.shown(hub).get("state") == "impaired")

    assert hook.numbers == ["1", "2", "2", "2", "3"]


async def test_a_receiver_that_is_gone_is_left_alone(tmp_path: Path, sqlite: str, pki: Pki) -> None:
    async with delivering(tmp_path, sqlite, settings(pki)) as at, receiver(pki, 410) as hook:
        hub = await at.hub(hook.url)
        await at.order(1)
        await until(lambda: at.shown(hub)["state"] == "suspended")
        await at.orders([2, 3])
        await until(lambda: at.desk.deliveries.dead == 3)
        assert "410" in at.shown(hub)["lastError"]
        assert hook.numbers == ["1"]
        await until(lambda: [finding.code for finding in at.findings] == ["events.suspended"])

    async with delivering(tmp_path, sqlite, settings(pki)) as at:
        await until(lambda: [finding.code for finding in at.findings] == ["events.suspended"])
        hook.answer = 204
        await hook.up()
        await at.order(4)
        await until(lambda: at.desk.deliveries.dead == 4)
        assert hook.numbers == ["1"]
        await at.again(hub)
        await until(lambda: hook.numbers == ["1", "1", "2", "3", "4"])
        await hook.down()


async def test_a_subscription_that_fails_for_long_is_suspended_and_says_so(
    tmp_path: Path, sqlite: str, pki: Pki
) -> None:
    async with (
        delivering(tmp_path, sqlite, settings(pki, suspend_after_s=0.2)) as at,
        receiver(pki, 500) as hook,
    ):
        hub = await at.hub(hook.url)
        await at.orders([1, 2])
        await until(lambda: at.shown(hub)["state"] == "suspended")
        assert "has failed since" in at.shown(hub)["lastError"]
        await until(lambda: at.shown(hub)["deadLetterCount"] == 2)
        assert at.desk.deliveries.waiting == 0


async def test_what_may_wait_and_what_is_kept_of_the_dead_is_bounded(
    tmp_path: Path, database_url: str, pki: Pki
) -> None:
    config = settings(pki, waiting=10, dead_letters=4, first_retry_s=30.0, longest_retry_s=30.0)
    async with delivering(tmp_path, database_url, config) as at, receiver(pki, 500) as hook:
        hub = await at.hub(hook.url)
        await at.orders(range(8))
        await until(lambda: len(hook.got) == 1)
        assert at.shown(hub)["state"] != "suspended"
        await at.orders(range(8, 12))
        await until(lambda: at.shown(hub)["state"] == "suspended")
        assert "more than 10 events wait" in at.shown(hub)["lastError"]
        await until(lambda: at.desk.deliveries.counts.forgotten == 8)
        hook.answer = 204
        await at.again(hub)
        await until(lambda: hook.numbers[1:] == ["8", "9", "10", "11"])


async def test_who_is_slow_keeps_nobody_else_waiting(tmp_path: Path, sqlite: str, pki: Pki) -> None:
    released = asyncio.Event()

    async def hanging(_: Got, writer: asyncio.StreamWriter) -> None:
        await released.wait()

    async with (
        delivering(tmp_path, sqlite, settings(pki, timeout_s=60.0)) as at,
        receiver(pki, hanging) as slow,
        receiver(pki) as quick,
    ):
        for number in range(12):
            await at.hub(f"{slow.url}/{number}")
        await at.hub(quick.url)
        await at.orders(range(20))
        await until(lambda: len(quick.got) == 20)
        await until(lambda: len(slow.got) == 12)  # one at a time for each
        released.set()


async def test_a_callback_that_never_answers_is_given_up(tmp_path: Path, sqlite: str, pki: Pki) -> None:
    async def hanging(_: Got, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(30)

    async def dripping(_: Got, writer: asyncio.StreamWriter) -> None:
        for _ in range(300):
            writer.write(b"HTTP/1.1 102 X\r\n\r\n")
            await writer.drain()
            await asyncio.sleep(0.05)

    for answer in (hanging, dripping):
        async with (
            delivering(tmp_path, sqlite, settings(pki, timeout_s=0.3)) as at,
            receiver(pki, answer) as hook,
        ):
            hub = await at.hub(hook.url)
            await at.order(1)
            await until(lambda: at.shown(hub).get("lastError") == "no answer within 0.3 s")  # noqa: B023
            await at.of().remove(at.of().get(Kind.HUB, hub.id))


async def test_of_a_huge_answer_nothing_is_read(tmp_path: Path, sqlite: str, pki: Pki) -> None:
    sent = 0

    async def endless(_: Got, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000000000\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()
            sent += 65536

    async with delivering(tmp_path, sqlite, settings(pki)) as at, receiver(pki, endless) as hook:
        await at.hub(hook.url)
        await at.orders([1, 2])
        await until(lambda: at.desk.deliveries.counts.delivered == 2)

    assert hook.numbers == ["1", "2"]
    assert sent < 16 << 20  # what fits into the buffers between us


async def test_a_redirect_is_not_followed(tmp_path: Path, sqlite: str, pki: Pki) -> None:
    async with delivering(tmp_path, sqlite, settings(pki)) as at, receiver(pki) as inside:

        async def redirecting(_: Got, writer: asyncio.StreamWriter) -> None:
            head = f"HTTP/1.1 307 X\r\nLocation: {inside.url}/elsewhere\r\nContent-Length: 0\r\n\r\n"
            writer.write(head.encode())

        async with receiver(pki, redirecting) as hook:
            hub = await at.hub(hook.url)
            await at.order(1)
            await until(lambda: at.shown(hub)["state"] == "retrying")
            assert at.shown(hub)["lastError"] == "answered 307, which is not followed"
            await until(lambda: len(hook.got) > 2)
        assert inside.connections == 0


async def test_a_subscription_that_is_deleted_gets_nothing_more(
    tmp_path: Path, sqlite: str, pki: Pki
) -> None:
    async with delivering(tmp_path, sqlite, settings(pki)) as at, receiver(pki, 500) as hook:
        hub = await at.hub(hook.url)
        await at.orders(range(5))
        await until(lambda: hook.got)
        await at.partners.remove("acme", Kind.HUB, hub.id)
        await until(lambda: not at.desk.deliveries._lines)
        tried = len(hook.got)
        await at.order(6)
        await asyncio.sleep(0.1)
        assert len(hook.got) == tried
        [(left,)] = await at.store.execute(
            lambda c: c.execute(sa.text("select count(*) from partner_delivery")).all()
        )
        assert left == 0


async def test_resources_are_told_too_and_public_news_to_everybody(
    tmp_path: Path, sqlite: str, pki: Pki
) -> None:
    async with delivering(tmp_path, sqlite, settings(pki)) as at, receiver(pki) as hook:
        at.of().show(Kind.RESOURCE, {"r": {"id": "r", "resourceStatus": "available"}})
        await at.hub(hook.url, api="resourceInventoryManagement")
        await at.hub(hook.url, api="serviceCatalogManagement")
        at.of().show(Kind.RESOURCE, {"r": {"id": "r", "resourceStatus": "alarm"}})
        await at.of(PUBLIC).create(Kind.SERVICE_SPECIFICATION, {"id": "ndt", "name": "ndt"})
        await until(lambda: len(hook.got) == 2)

    assert {got.path.rpartition("/")[2] for got in hook.got} == {
        "resourceStateChangeEvent",
        "serviceSpecificationCreateEvent",
    }


async def test_a_broken_database_loses_nothing(tmp_path: Path, sqlite: str, pki: Pki) -> None:
    async with delivering(tmp_path, sqlite, settings(pki)) as at, receiver(pki) as hook:
        await at.hub(hook.url)
        database = at.store._database
        await asyncio.get_running_loop().run_in_executor(database._thread, database._drop)
        execute, failing = at.store.execute, 4

        async def broken(work: Any) -> Any:
            nonlocal failing
            failing -= 1
            if failing > 0:
                raise Unreachable("away")
            return await execute(work)

        at.store.execute = broken  # type: ignore[method-assign]  # the boundary to the database
        await at.orders([1, 2])
        await until(lambda: len(hook.got) >= 2)

    assert list(dict.fromkeys(hook.numbers)) == ["1", "2"]


# ---------------------------------------------------------------- the desk


async def test_a_tenant_has_so_many_subscriptions_and_no_two_alike(
    tmp_path: Path, sqlite: str, pki: Pki
) -> None:
    async with delivering(tmp_path, sqlite, settings(pki), hubs=3) as at:
        url = "https://127.0.0.1:8443/cb"
        first = await at.hub(url)
        with pytest.raises(Conflict):
            await at.hub(url)
        await at.hub(url, "eventType=ServiceOrderCreateEvent")
        same = [at.hub(f"{url}/other") for _ in range(4)]
        outcomes = await asyncio.gather(*same, return_exceptions=True)
        assert sorted(type(each).__name__ for each in outcomes) == ["Conflict"] * 3 + ["Record"]
        many = await asyncio.gather(*(at.hub(f"{url}/{n}") for n in range(4)), return_exceptions=True)
        assert [type(each) for each in many] == [OverCapacity] * 4
        await at.hub(url, tenant="globex")
        await at.partners.remove("acme", Kind.HUB, first.id)
        rush = await asyncio.gather(*(at.hub(f"{url}/{n}") for n in range(4)), return_exceptions=True)
        assert sum(isinstance(each, Record) for each in rush) == 1


async def test_a_foreign_subscription_is_one_that_is_not_there(tmp_path: Path, sqlite: str, pki: Pki) -> None:
    async with delivering(tmp_path, sqlite, settings(pki)) as at:
        theirs = await at.hub("https://127.0.0.1:8443/cb", tenant="globex")
        for what in (
            lambda identity: at.partners.remove("acme", Kind.HUB, identity),
            lambda identity: at.partners.change("acme", Kind.HUB, identity, {"state": "active"}),
        ):
            told = []
            for identity in (theirs.id, "0" * len(theirs.id)):
                with pytest.raises(NotFound) as caught:
                    await what(identity)
                told.append(str(caught.value).replace(identity, ""))
            assert told[0] == told[1]


async def test_of_a_subscription_nothing_but_its_state_is_changed(
    tmp_path: Path, sqlite: str, pki: Pki
) -> None:
    async with delivering(tmp_path, sqlite, settings(pki)) as at:
        hub = await at.hub("https://127.0.0.1:8443/cb")
        for patch, error in (
            ({"callback": "https://127.0.0.1:9443/cb"}, ContractError),
            ({"apiAddress": "https://elsewhere.example"}, ContractError),
            ({"state": "suspended"}, Conflict),
        ):
            with pytest.raises(error):
                await at.partners.change("acme", Kind.HUB, hub.id, patch)
        made = {
            "api": "serviceOrdering",
            "callback": "https://127.0.0.1:8443/x",
            "state": "suspended",
            "id": "x",
        }
        record = (await at.partners.create("acme", Kind.HUB, made)).record
        assert (record.body["state"], record.id != "x") == ("active", True)


@pytest.mark.parametrize(
    "query",
    [
        "eventType",
        "=x",
        "a..b=1",
        "limit=3",
        "fields=id",
        "state.regex=(a+)+",
        "x" * 3000,
        "&".join(["a=1"] * 40),
    ],
)
async def test_a_query_that_nobody_can_answer_is_refused(
    tmp_path: Path, sqlite: str, pki: Pki, query: str
) -> None:
    async with delivering(tmp_path, sqlite, settings(pki)) as at:
        with pytest.raises(ContractError, match="query"):
            await at.hub("https://127.0.0.1:8443/cb", query)
        with pytest.raises(ContractError, match="api"):
            await at.hub("https://127.0.0.1:8443/cb", api="nothing")


async def test_the_operator_sees_how_deliveries_are_doing(tmp_path: Path, sqlite: str, pki: Pki) -> None:
    config = settings(pki, attempts=2, first_retry_s=0.01)
    async with delivering(tmp_path, sqlite, config) as at, receiver(pki) as hook:
        hub = await at.hub(hook.url)
        await at.order(1)
        await until(lambda: at.desk.deliveries.counts.delivered == 1)
        hook.answer = 500
        await at.order(2)
        await until(lambda: at.shown(hub).get("deadLetterCount") == 1)
        deliveries = at.desk.deliveries
        assert (deliveries.waiting, deliveries.dead) == (0, 1)
        assert (deliveries.counts.failed, deliveries.counts.forgotten) == (2, 0)
