"""What is kept for partners: durable, by tenant, by version, once for each key. On both databases."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path
from typing import Any

import databases
import pytest
from store_parts import ORDER, RESOURCE, SERVICE, TENANTS, opened

from domain_twin.errors import (
    ConfigError,
    Conflict,
    ContractError,
    NotFound,
    NotShared,
    OverCapacity,
    StaleVersion,
)
from federation.partners import store as store_module
from federation.partners.record import PUBLIC, Kind
from federation.partners.store import RecordStore


async def test_keeps_records_over_a_restart(database_url: str) -> None:
    # Arrange
    async with opened(database_url) as store:
        acme = store.of("acme")
        order = await acme.create(ORDER, {"state": "acknowledged", "note": [{"text": "ä\u0000€"}]})
        gone = await acme.create(ORDER, {"state": "acknowledged"})
        changed = await acme.update(order, {**order.body, "state": "completed"})
        await acme.remove(gone)
        await store.of("globex").create(SERVICE, {"id": "s1"})
    # Act
    async with opened(database_url) as again:
        kept = again.of("acme").list(ORDER)
        # Assert
        assert kept == [changed]
        assert (changed.version, order.version, changed.id) == (2, 1, order.id)
        assert changed.body["note"] == [{"text": "ä\u0000€"}]
        assert again.of("globex").get(SERVICE, "s1").tenant == "globex"
        assert again.sequence > changed.sequence


async def test_sequences_never_come_back_after_a_restart(database_url: str) -> None:
    async with opened(database_url) as store:
        for number in range(50):
            store.of("acme").show(RESOURCE, {"r": {"number": number}})
        shown, epoch = store.of("acme").get(RESOURCE, "r"), store.epoch
    async with opened(database_url) as again:
        assert again.of("acme").list(RESOURCE) == []
        again.of("acme").show(RESOURCE, {"r": {"number": 49}})
        reborn = again.of("acme").get(RESOURCE, "r")
        assert reborn.sequence > shown.sequence
        assert reborn.version > shown.version
        assert again.epoch != epoch


async def test_lists_newest_first_whatever_changes(database_url: str) -> None:
    async with opened(database_url) as store:
        acme = store.of("acme")
        made = [await acme.create(ORDER, {"number": n}) for n in range(3)]
        public = await store.of(PUBLIC).create(ORDER, {"number": 3})
        made.append(await acme.create(ORDER, {"number": 4}))
        await acme.update(made[0], {**made[0].body, "state": "held"})
        assert [record.body["number"] for record in acme.list(ORDER)] == [4, 3, 2, 1, 0]
        assert [record.body["number"] for record in store.of("globex").list(ORDER)] == [3]
        assert public in acme.list(ORDER)
    async with opened(database_url) as again:
        assert [record.body["number"] for record in again.of("acme").list(ORDER)] == [4, 3, 2, 1, 0]


async def test_a_foreign_record_answers_as_one_that_is_not_there(database_url: str) -> None:
    async with opened(database_url) as store:
        foreign = await store.of("globex").create(ORDER, {"id": "an-id"})
        acme = store.of("acme")
        with pytest.raises(NotFound) as before:
            acme.get(ORDER, "an-id")
        with pytest.raises(NotFound) as changed:
            await acme.update(foreign, {**foreign.body, "x": 1})
        with pytest.raises(NotFound) as removed:
            await acme.remove(foreign)
        await store.of("globex").remove(foreign)
        with pytest.raises(NotFound) as after:
            acme.get(ORDER, "an-id")
        sentences = {str(found.value) for found in (before, changed, removed, after)}
        assert len(sentences) == 1
        assert await acme.create(ORDER, {"id": "an-id"})  # a foreign id is free, too


async def test_public_records_are_read_by_all_and_written_by_the_operator(database_url: str) -> None:
    async with opened(database_url) as store:
        spec = await store.of(PUBLIC).create(Kind.SERVICE_SPECIFICATION, {"name": "NdtTwin"})
        assert all(store.of(t).get(Kind.SERVICE_SPECIFICATION, spec.id) == spec for t in TENANTS)
        for refused in (
            store.of("acme").update(spec, {**spec.body, "name": "mine"}),
            store.of("acme").remove(spec),
        ):
            with pytest.raises(NotShared, match="published by the operator"):
                await refused
        with pytest.raises(Conflict, match="exists already"):
            await store.of("acme").create(Kind.SERVICE_SPECIFICATION, {"id": spec.id})
        await store.of(PUBLIC).update(spec, {**spec.body, "version": "2"})


async def test_refuses_a_tenant_that_is_not_served(database_url: str) -> None:
    async with opened(database_url) as store:
        with pytest.raises(NotFound, match=r"no partner 'initech' is served here.*\[\[partner\]\]"):
            store.of("initech")


async def test_a_partner_that_left_is_not_read_and_not_lost(database_url: str) -> None:
    async with opened(database_url) as store:
        order = await store.of("globex").create(ORDER, {"a": 1})
    without = await RecordStore.open(Path("/nonexistent"), database_url, ["acme"])
    following = without.follow()
    assert (await anext(following)).records == ()
    await following.aclose()
    await without.close()
    async with opened(database_url) as back:
        assert back.of("globex").get(ORDER, order.id) == order


async def test_of_many_updates_of_one_version_one_wins(database_url: str) -> None:
    async with opened(database_url) as store:
        acme = store.of("acme")
        order = await acme.create(ORDER, {"state": "acknowledged"})
        # Act: all wait for the same transaction.
        outcomes = await asyncio.gather(
            *(acme.update(order, {**order.body, "by": n}) for n in range(20)), return_exceptions=True
        )
        # Assert
        refused = [outcome for outcome in outcomes if isinstance(outcome, StaleVersion)]
        assert len(refused) == 19
        assert "read it again" in str(refused[0])
        assert acme.get(ORDER, order.id).version == 2
        with pytest.raises(StaleVersion):
            await acme.remove(order)


async def test_an_update_that_changes_nothing_is_no_change(database_url: str) -> None:
    async with opened(database_url) as store:
        acme = store.of("acme")
        order = await acme.create(ORDER, {"a": [1, 2]})
        assert await acme.update(order, {"a": (1, 2), "id": order.id}) == order
        assert len(await store.events(0, limit=10)) == 1


async def test_a_key_makes_one_record_also_at_once_and_over_a_restart(database_url: str) -> None:
    async with opened(database_url) as store:
        acme = store.of("acme")
        made = await asyncio.gather(*(acme.create_once(ORDER, {"n": n}, key="k") for n in range(10)))
        assert len({one.record.id for one in made}) == 1
        assert [one.repeated for one in made] == [False] + [True] * 9
        other = await store.of("globex").create(ORDER, {}, key="k")  # another tenant's key is another key
        assert other.id != made[0].record.id
        assert (await acme.create(SERVICE, {}, key="k")).kind is SERVICE
    async with opened(database_url) as again:
        assert (await again.of("acme").create_once(ORDER, {"n": 1}, key="k")).repeated
        assert len(again.of("acme").list(ORDER)) == 1


async def test_a_key_stands_for_one_ask(database_url: str) -> None:
    async with opened(database_url) as store:
        acme = store.of("acme")
        order = (await acme.create_once(ORDER, {}, key="k", digest="d1")).record
        with pytest.raises(Conflict, match="Idempotency-Key 'k' was used for another serviceOrder"):
            await acme.create_once(ORDER, {}, key="k", digest="d2")
        await acme.remove(order)
        with pytest.raises(Conflict, match="is deleted"):
            await acme.create_once(ORDER, {}, key="k", digest="d1")


async def test_an_order_is_one_for_each_external_id(database_url: str) -> None:
    async with opened(database_url) as store:
        acme, body = store.of("acme"), {"externalId": "po-7"}
        first = await acme.create_once(ORDER, body, digest="d1")
        again = await acme.create_once(ORDER, body, digest="d1")
        assert again.record == first.record
        assert again.repeated
        with pytest.raises(Conflict, match="externalId 'po-7' was used"):
            await acme.create_once(ORDER, body, digest="d2")
        other = await acme.create_once(ORDER, body, key="new", digest="d2")  # a key goes before it
        assert not other.repeated
        assert await store.of("globex").create(ORDER, body)
        assert await acme.create(SERVICE, body)
        assert await acme.create(SERVICE, body)  # only orders are named so
        await acme.remove(first.record)
        assert not (await acme.create_once(ORDER, body, digest="d2")).repeated
    async with opened(database_url) as later:
        assert (await later.of("acme").create_once(ORDER, body, digest="d2")).repeated


async def test_keys_are_kept_for_a_day_at_least(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [1_000_000 * 10**9]
    async with opened(database_url, clock=lambda: now[0]) as store:
        acme = store.of("acme")
        await acme.create(ORDER, {"externalId": "po-1"}, key="old")
        now[0] += 25 * 3600 * 10**9
        await store._prune()
        assert (await acme.create_once(ORDER, {}, key="old")).repeated
        now[0] += 7 * 86_400 * 10**9
        await store._prune()
        assert not (await acme.create_once(ORDER, {}, key="old")).repeated
        assert (await acme.create_once(ORDER, {"externalId": "po-1"})).repeated  # as long as the order is
        rows = databases.query(database_url, "SELECT at FROM partner_outbox")
        assert len(rows) == 1  # and events do not pile up


async def test_a_tenant_has_room_for_so_many_records(database_url: str) -> None:
    async with opened(database_url, limits={"acme": 3}) as store:
        acme = store.of("acme")
        made = await asyncio.gather(*(acme.create(ORDER, {}) for _ in range(5)), return_exceptions=True)
        assert [type(one) for one in made[3:]] == [OverCapacity, OverCapacity]
        assert "3 records are kept for you" in str(made[3])
        await acme.create(Kind.USE, {})  # what the operator counts is not the partner's
        acme.show(RESOURCE, {"r": {}})
        assert await store.of("globex").create(ORDER, {})
        await acme.remove(acme.list(ORDER)[0])
        await acme.create(ORDER, {})
    async with opened(database_url, limits={"acme": 3}) as again:
        with pytest.raises(OverCapacity):
            await again.of("acme").create(ORDER, {})


async def test_every_change_has_its_event_as_it_was_then(database_url: str) -> None:
    async with opened(database_url) as store:
        acme, told = store.of("acme"), []
        store.on_events = lambda: told.append(1)
        order = await acme.create(ORDER, {"state": "acknowledged"})
        order = await acme.update(order, {**order.body, "state": "inProgress"})
        order = await acme.update(order, {**order.body, "note": "x"})
        removed = await acme.remove(order)
        spec = await acme.create(Kind.SERVICE_SPECIFICATION, {"lifecycleStatus": "Active"})
        await acme.update(spec, {**spec.body, "lifecycleStatus": "Retired"})
        await acme.create(Kind.ACK_ALARM, {})
        await acme.create(Kind.HUB, {"callback": "https://example.org"})
        events = await store.events(0, limit=100)
        assert [event.event_type for event in events] == [
            "ServiceOrderCreateEvent",
            "ServiceOrderStateChangeEvent",
            "ServiceOrderAttributeValueChangeEvent",
            "ServiceOrderDeleteEvent",
            "ServiceSpecificationCreateEvent",
            "ServiceSpecificationChangeEvent",
            "AckAlarmsCreateEvent",
        ]
        assert [event.body.get("state") for event in events[:4]] == [
            "acknowledged",
            "inProgress",
            "inProgress",
            "inProgress",
        ]
        assert events[3].sequence == removed
        assert {event.tenant for event in events} == {"acme"}
        assert (await store.events(events[2].sequence, limit=1)) == [events[3]]
        assert len(told) == 7


async def test_what_is_shown_is_in_memory_and_only_differences_count(database_url: str) -> None:
    async with opened(database_url) as store:
        acme = store.of("acme")
        acme.show(RESOURCE, {"a": {"up": True}, "b": {"up": True}})
        before = {record.id: record for record in acme.list(RESOURCE)}
        acme.show(RESOURCE, {"a": {"up": True}, "c": {"up": False}})
        after = {record.id: record for record in acme.list(RESOURCE)}
        assert after["a"] == before["a"]
        assert set(after) == {"a", "c"}
        assert after["c"].sequence == after["c"].version > before["b"].version
        assert store.of("globex").list(RESOURCE) == []
        for refused in (acme.update(after["a"], {"id": "a", "up": False}), acme.remove(after["a"])):
            with pytest.raises(Conflict, match="shows the network as it is"):
                await refused
        assert databases.query(database_url, "SELECT * FROM partner_record") == []


async def test_what_is_shown_makes_events_for_those_who_subscribed(database_url: str) -> None:
    async with opened(database_url) as store:
        acme, globex = store.of("acme"), store.of("globex")
        await acme.create(Kind.HUB, {"api": "resourceInventoryManagement"})
        for tenant in (acme, globex):
            tenant.show(RESOURCE, {"old": {"n": 1}})  # the first of a run: no news
            tenant.show(RESOURCE, {"old": {"n": 2}, "new": {"n": 1}})
            tenant.show(RESOURCE, {"new": {"n": 1, "resourceStatus": "alarm"}})
        order = await acme.create(ORDER, {})
        events = await store.events(0, limit=10)
        assert [(event.event_type, event.id) for event in events] == [
            ("ResourceAttributeValueChangeEvent", "old"),
            ("ResourceCreateEvent", "new"),
            ("ResourceDeleteEvent", "old"),
            ("ResourceStateChangeEvent", "new"),
            ("ServiceOrderCreateEvent", order.id),
        ]
        assert [event.sequence for event in events] == sorted(event.sequence for event in events)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"x": float("nan")}, "not a JSON object"),
        ({"x": float("inf")}, "not a JSON object"),
        ({"x": {1, 2}}, "not a JSON object"),
        ({"x": "\ud800"}, "not a JSON object"),
        ({"x": "y" * (17 << 20)}, "bytes, 16777216 at most"),
        ({"id": ""}, "id has to be"),
        ({"id": 7}, "id has to be"),
        ({"id": "x" * 256}, "id has to be"),
        ({"id": "a\u0000b"}, "id has to be"),
    ],
    ids=["nan", "infinity", "set", "surrogate", "large", "empty-id", "number-id", "long-id", "nul-id"],
)
async def test_refuses_what_cannot_be_kept(tmp_path: Path, body: dict[str, Any], reason: str) -> None:
    async with opened(f"sqlite:///{tmp_path}/x.sqlite3") as store:
        with pytest.raises(ContractError, match=reason):
            await store.of("acme").create(ORDER, body)
        store.of("acme").show(RESOURCE, {"r": {}})
        with pytest.raises(ContractError):
            store.of("acme").show(RESOURCE, {"r": {}, body.get("id", "s"): body})
        assert [record.id for record in store.of("acme").list(RESOURCE)] == ["r"]
        with pytest.raises(ContractError, match="printable"):
            await store.of("acme").create(ORDER, {}, key="k" * 256)
        order = await store.of("acme").create(ORDER, {})
        with pytest.raises(ContractError, match="its id cannot change"):
            await store.of("acme").update(order, {"id": "another"})


async def test_what_callers_do_to_a_body_changes_nothing_kept(database_url: str) -> None:
    async with opened(database_url) as store:
        body: dict[str, Any] = {"items": [1]}
        order = await store.of("acme").create(ORDER, body)
        body["items"].append(2)
        shown: dict[str, Any] = {"items": [1]}
        store.of("acme").show(RESOURCE, {"r": shown})
        shown["items"].append(2)
        assert store.of("acme").get(ORDER, order.id).body["items"] == [1]
        assert store.of("acme").get(RESOURCE, "r").body["items"] == [1]


async def test_writes_that_wait_share_transactions(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store_module, "MAX_BATCH", 100)
    async with opened(database_url) as store:
        calls = itertools.count()
        inner = store._database.call

        async def counted(work: Any) -> Any:
            next(calls)
            return await inner(work)

        store._database.call = counted  # type: ignore[method-assign]
        await asyncio.gather(*(store.of("acme").create(ORDER, {}) for _ in range(300)))
        assert next(calls) <= 300 / 100 + 2


async def test_what_the_database_refuses_costs_the_others_nothing(database_url: str) -> None:
    async with opened(database_url) as store:
        acme = store.of("acme")
        databases.query(
            database_url,
            "CREATE TRIGGER t BEFORE INSERT ON partner_record WHEN NEW.body LIKE '%poison%'"
            " BEGIN SELECT RAISE(ABORT, 'no'); END"
            if database_url.startswith("sqlite")
            else "ALTER TABLE partner_record ADD CHECK (body NOT LIKE '%%poison%%')",
        )
        words = ["one", "poison", "two"]
        made = await asyncio.gather(*(acme.create(ORDER, {"w": w}) for w in words), return_exceptions=True)
        assert isinstance(made[1], ContractError)
        assert [record.body["w"] for record in acme.list(ORDER)] == ["two", "one"]
        assert len(await store.events(0, limit=9)) == 2
        assert store.problem == ""


async def test_who_stops_waiting_stops_nobody_else(database_url: str) -> None:
    async with opened(database_url) as store:
        acme = store.of("acme")
        gone = asyncio.create_task(acme.create(ORDER, {"id": "gone"}))
        stays = asyncio.create_task(acme.create(ORDER, {"id": "stays"}))
        await asyncio.sleep(0)
        gone.cancel()
        assert (await stays).id == "stays"
        assert acme.get(ORDER, "stays")


async def test_refuses_a_newer_schema(database_url: str) -> None:
    async with opened(database_url):
        pass
    databases.query(database_url, "UPDATE partner_schema SET version_num = '9999'")
    with pytest.raises(ConfigError, match=r"version 9999 and this broker knows \d{4} at most: start"):
        async with opened(database_url):
            pass


async def test_tables_are_as_the_steps_make_them(database_url: str) -> None:
    import sqlalchemy as sa
    from alembic.autogenerate import compare_metadata
    from alembic.runtime.migration import MigrationContext

    from federation.partners.schema import VERSION_TABLE, metadata

    async with opened(database_url):
        pass
    with sa.create_engine(database_url, poolclass=sa.NullPool).connect() as connection:
        options = {"version_table": VERSION_TABLE, "compare_type": True}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []
