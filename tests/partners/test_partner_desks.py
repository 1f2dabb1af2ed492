"""How desks are asked and told: before anything is kept, after it is on disk, and again after a restart."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from store_parts import ALARM, ORDER, SPECIFICATION, opened

from domain_twin.errors import Conflict, ContractError, NotFound, NotShared, StaleVersion
from federation.partners import partners as partners_module
from federation.partners.hubs import Hubs
from federation.partners.partners import Partners
from federation.partners.record import PUBLIC, Body, Desk, Kind, Record, Repository, Reserving
from federation.partners.runs import Runs
from federation.partners.twins import Twins


@dataclass
class CountingDesk:
    """Stamps what it takes, refuses what says so, and remembers what it was told."""

    asked: list[tuple[str, Body]] = field(default_factory=list)
    told: list[tuple[str, str, int]] = field(default_factory=list)
    ran: int = 0
    meanwhile: int = 0
    """So often a record changes while the desk thinks."""

    async def create(self, repository: Repository, body: Body) -> Body:
        self.asked.append(("create", body))
        if body.get("refuse"):
            raise NotShared("not for you")
        return {**body, "state": "acknowledged"}

    async def change(self, repository: Repository, record: Record, body: Body) -> Body:
        self.asked.append(("change", body))
        if record.body.get("state") == "completed":
            raise Conflict("completed: nothing changes any more")
        if self.meanwhile:
            self.meanwhile -= 1
            await repository.update(record, {**record.body, "progress": self.meanwhile})
        return {**body, "by": "desk"}

    async def remove(self, repository: Repository, record: Record) -> None:
        self.asked.append(("remove", record.body))
        if record.body.get("state") == "completed":
            raise Conflict("completed: it stays")

    def kept(self, repository: Repository, record: Record) -> None:
        self.told.append((repository.tenant, record.id, record.version))
        if record.body.get("trip"):
            raise ValueError("a defect in what follows")

    async def run(self) -> None:
        self.ran += 1
        if self.ran == 1:
            raise ValueError("a defect")
        await asyncio.Event().wait()


@dataclass
class HoldingDesk(CountingDesk):
    """Holds a place for each thing that it agrees to."""

    held: set[str] = field(default_factory=set)

    async def create(self, repository: Repository, body: Body) -> Body:
        self.held.add(body["n"])
        return body

    def kept(self, repository: Repository, record: Record) -> None:
        self.held.discard(record.body["n"])

    def not_kept(self, repository: Repository, body: Body) -> None:
        self.held.discard(body["n"])


@asynccontextmanager
async def with_desk(folder: Path, desk: CountingDesk) -> AsyncIterator[Partners]:
    async with opened(f"sqlite:///{folder}/p.sqlite3") as store:
        desks: Mapping[Kind, Desk] = {ORDER: desk, ALARM: desk}
        partners = Partners(store, desks)
        partners.begin()
        yield partners


async def test_a_desk_decides_and_is_told_after_it_is_on_disk(tmp_path: Path) -> None:
    desk = CountingDesk()
    async with with_desk(tmp_path, desk) as partners:
        # Act
        made = (await partners.create("acme", ORDER, {"n": 1})).record
        with pytest.raises(NotShared, match="not for you"):
            await partners.create("acme", ORDER, {"refuse": True})
        changed = await partners.change("acme", ORDER, made.id, {"n": 2, "state": "completed"})
        with pytest.raises(Conflict):
            await partners.change("acme", ORDER, made.id, {"n": 3})
        with pytest.raises(Conflict):
            await partners.remove("acme", ORDER, made.id)
        # Assert
        assert made.body["state"] == "acknowledged"
        assert changed.body == {"n": 2, "state": "completed", "by": "desk", "id": made.id}
        assert desk.told == [("acme", made.id, 1), ("acme", made.id, 2)]
        assert partners.store.of("acme").list(ORDER) == [changed]


async def test_at_start_a_desk_is_shown_all_that_is_kept_oldest_first(tmp_path: Path) -> None:
    async with with_desk(tmp_path, CountingDesk()) as partners:
        public = await partners.store.of(PUBLIC).create(ORDER, {})
        made = [(await partners.create(tenant, ORDER, {})).record for tenant in ("globex", "acme", "acme")]
        await partners.create("acme", SPECIFICATION, {})
    desk = CountingDesk()
    async with with_desk(tmp_path, desk):
        assert desk.told == [
            ("", public.id, 1),
            ("acme", made[1].id, 1),
            ("acme", made[2].id, 1),
            ("globex", made[0].id, 1),
        ]
        assert desk.asked == []


async def test_a_desk_hears_of_what_is_kept_though_whoever_asked_has_gone(tmp_path: Path) -> None:
    """Else an order would stay acknowledged until the broker starts anew."""
    desk = CountingDesk()
    async with with_desk(tmp_path, desk) as partners:
        kept = (await partners.create("acme", ORDER, {"n": 0})).record
        go = threading.Event()
        holding = asyncio.create_task(partners.store.execute(lambda _: go.wait(60)))
        asking = [
            asyncio.create_task(partners.create("acme", ORDER, {"n": 1})),
            asyncio.create_task(partners.change("acme", ORDER, kept.id, {"n": 2})),
        ]
        await asyncio.sleep(0.2)  # both are on their way to the disk
        for ask in asking:
            ask.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
        go.set()
        await holding
        await partners.create("acme", SPECIFICATION, {})  # behind them
        made, changed = partners.store.of("acme").list(ORDER)

    assert (made.body["n"], changed.body["n"]) == (1, 2)
    assert sorted(desk.told[1:]) == sorted([("acme", made.id, 1), ("acme", kept.id, 2)])


async def test_what_a_desk_holds_for_something_that_is_not_kept_is_free_again(tmp_path: Path) -> None:
    desk = HoldingDesk()
    async with with_desk(tmp_path, desk) as partners:
        await partners.create("acme", ORDER, {"n": "1", "id": "same"})
        with pytest.raises(Conflict):
            await partners.create("acme", ORDER, {"n": "2", "id": "same"})
        at_once = await asyncio.gather(
            *(partners.create("acme", ORDER, {"n": "3"}, key="k") for _ in range(3))
        )

    assert sum(made.repeated for made in at_once) == 2
    assert desk.held == set()
    assert all(issubclass(each, Reserving) for each in (Hubs, Runs, Twins))


async def test_a_repeated_key_asks_and_tells_nobody(tmp_path: Path) -> None:
    desk = CountingDesk()
    async with with_desk(tmp_path, desk) as partners:
        first = await partners.create("acme", ORDER, {"n": 1}, key="k")
        again = await partners.create("acme", ORDER, {"n": 1}, key="k")
        assert (first.repeated, again.repeated, again.record) == (False, True, first.record)
        assert len(desk.asked) == 1
        at_once = await asyncio.gather(
            *(partners.create("acme", ORDER, {"externalId": "po-1"}) for _ in range(5))
        )
        assert sum(not made.repeated for made in at_once) == 1
        assert len(desk.told) == 2
        with pytest.raises(Conflict, match="was used for another"):
            await partners.create("acme", ORDER, {"n": 2}, key="k")


async def test_a_patch_that_names_no_version_is_decided_anew_on_what_is_there_now(tmp_path: Path) -> None:
    desk = CountingDesk()
    async with with_desk(tmp_path, desk) as partners:
        order = (await partners.create("acme", ORDER, {})).record
        desk.meanwhile = 3
        changed = await partners.change("acme", ORDER, order.id, {"n": 1})
        assert (changed.body["n"], changed.body["progress"], changed.version) == (1, 0, 5)
        assert len([word for word, _ in desk.asked if word == "change"]) == 4
        assert desk.told[1:] == [("acme", order.id, 5)]
        desk.meanwhile = 7
        with pytest.raises(StaleVersion):
            await partners.change("acme", ORDER, order.id, {"n": 2}, if_version=5)
        desk.meanwhile = 1000
        with pytest.raises(Conflict, match="changes faster than it can be patched"):
            await partners.change("acme", ORDER, order.id, {"n": 3})


async def test_a_desk_never_sees_a_changed_id_nor_a_foreign_record(tmp_path: Path) -> None:
    desk = CountingDesk()
    async with with_desk(tmp_path, desk) as partners:
        order = (await partners.create("globex", ORDER, {})).record
        public = await partners.store.of(PUBLIC).create(ORDER, {})
        desk.asked.clear()
        for patch in ({"id": "another"}, {"id": None}):
            with pytest.raises(ContractError, match="its id cannot change"):
                await partners.change("globex", ORDER, order.id, patch)
        with pytest.raises(NotFound):
            await partners.change("acme", ORDER, order.id, {"n": 1})
        with pytest.raises(NotFound):
            await partners.remove("acme", ORDER, order.id)
        with pytest.raises(NotShared):
            await partners.change("acme", ORDER, public.id, {"n": 1})
        assert desk.asked == []


async def test_a_patch_that_changes_nothing_asks_nobody(tmp_path: Path) -> None:
    desk = CountingDesk()
    async with with_desk(tmp_path, desk) as partners:
        order = (await partners.create("acme", ORDER, {"n": 1})).record
        desk.asked.clear()
        assert await partners.change("acme", ORDER, order.id, {"n": 1, "unknown": None}) == order
        assert desk.asked == []


async def test_a_desk_decides_on_what_is_shown_and_nothing_is_written(tmp_path: Path) -> None:
    desk = CountingDesk()
    async with with_desk(tmp_path, desk) as partners:
        acme = partners.store.of("acme")
        acme.show(ALARM, {"a": {"state": "raised"}})
        acme.show(Kind.RESOURCE, {"r": {"n": 1}})
        record = await partners.change("acme", ALARM, "a", {"ackState": "acknowledged"})
        assert desk.asked == [("change", {"state": "raised", "id": "a", "ackState": "acknowledged"})]
        assert record == acme.get(ALARM, "a")
        with pytest.raises(Conflict, match="shows the network as it is"):
            await partners.change("acme", Kind.RESOURCE, "r", {"n": 2})
        with pytest.raises(Conflict, match="shows the network as it is"):
            await partners.remove("acme", Kind.RESOURCE, "r")


async def test_a_defect_in_a_desk_loses_nothing_and_ends_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partners_module, "_AGAIN_S", 0.01)
    desk = CountingDesk()
    async with with_desk(tmp_path, desk) as partners:
        running = asyncio.create_task(partners.run())
        made = await partners.create("acme", ORDER, {"trip": True})
        assert partners.store.of("acme").get(ORDER, made.record.id) == made.record
        async with asyncio.timeout(20):
            while desk.ran < 2:  # noqa: ASYNC110 - seen from outside only
                await asyncio.sleep(0.01)
        assert not running.done()
        running.cancel()
    again = CountingDesk()
    async with with_desk(tmp_path, again):
        assert len(again.told) == 1


async def test_kinds_without_a_desk_are_stored_as_they_come(tmp_path: Path) -> None:
    async with with_desk(tmp_path, CountingDesk()) as partners:
        body = {"name": "x", "lifecycleStatus": "Active"}
        made = (await partners.create("acme", SPECIFICATION, body)).record
        assert made.body == {**body, "id": made.id, "lastUpdate": made.body["lastUpdate"]}
        resource = (await partners.create("acme", Kind.RESOURCE, {"name": "r"})).record
        assert resource.body == {"name": "r", "id": resource.id}
        assert (await partners.change("acme", Kind.RESOURCE, resource.id, {"name": "s"})).version == 2
        await partners.remove("acme", Kind.RESOURCE, resource.id)
