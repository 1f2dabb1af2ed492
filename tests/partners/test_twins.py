"""Twins as they live: suspended, rescoped, left by domains, withdrawn, run out, and kept over restarts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from exchange_parts import Exchange, Pki, add, counter, exchange, modify, parts, retire, value
from order_parts import ACME, XR, agreements

from domain_twin.errors import Conflict, ContractError, NotShared, OverCapacity
from federation.partners.record import Kind, Record
from federation.partners.twin_record import TwinRecord
from federation.v1 import fedtwin_pb2 as pb


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture
async def running(tmp_path: Path, pki: Pki) -> AsyncIterator[Exchange]:
    async with exchange(tmp_path, pki) as at_work:
        yield at_work


@pytest.fixture
async def desk(tmp_path: Path) -> AsyncIterator[Exchange]:
    async with counter(tmp_path) as at_work:
        yield at_work


def delay(running: Exchange, twin: str, tenant: str = "acme") -> float | None:
    """What the twin shows between ran/cell-1 and the border."""
    sandbox = running.twins.sandbox(tenant, twin)
    if sandbox is None:
        return None
    segment = sandbox.graph._segments.get("ran/cell-1", {}).get("ran/idl-a")
    return round(segment.current.delay_ms, 3) if segment and segment.current else None


# --------------------------------------------------------------- fresh


async def test_a_twin_is_brought_up_to_date(running: Exchange) -> None:
    twin = await running.active(add("ran/cell-1", freshness=1))
    before = value(running.service(twin), "observedAt")
    assert delay(running, twin) == 2.0

    running.domains["ran"].set_delay(9.0)

    await running.until(lambda: delay(running, twin) == 9.0)
    await running.until(lambda: value(running.service(twin), "observedAt")["ran"] > before["ran"])
    shown = {r.body["name"]: r.body for r in running.records().list(Kind.RESOURCE)}
    figures = {c["name"]: c["value"] for c in shown["ran/cell-1 to ran/idl-a"]["resourceCharacteristic"]}
    assert figures["delayMs"] == pytest.approx(9.0)


async def test_a_refresh_that_shows_nothing_new_is_no_news(running: Exchange) -> None:
    twin = await running.active(add("ran/cell-1", freshness=1))
    domain = running.domains["ran"]
    before = {r.id: r.version for r in running.records().list(Kind.RESOURCE)}
    await running.until(lambda: domain.asked.count(("refresh", twin)) >= 2)

    assert {r.id: r.version for r in running.records().list(Kind.RESOURCE)} == before
    assert running.operating(twin) == "active running"


async def test_a_domain_that_lost_its_list_is_asked_to_open_again(running: Exchange) -> None:
    twin = await running.active(add("ran/cell-1", freshness=1))
    domain = running.domains["ran"]
    await domain.sandboxes.close(twin, partner=ACME, peer="spiffe://exchange.example/broker/main")
    domain.asked.clear()

    await running.until(lambda: domain.open_twins() == {twin})

    assert domain.asked[:2] == [("refresh", twin), ("open", twin)]
    assert running.operating(twin) == "active running"


# --------------------------------------------------------------- domains that leave


async def test_a_twin_is_degraded_while_a_domain_is_away_and_recovers(running: Exchange) -> None:
    twin = await running.active(add("ran/cell-1", "edge/app", freshness=1))

    await running.detach("edge")
    await running.until(lambda: running.operating(twin) == "active degraded")

    service = running.service(twin)
    assert parts(service)["edge"] == "inactive degraded"
    (note,) = next(p for p in service["supportingService"] if p["name"] == "edge")["note"]
    assert "not connected" in note["text"]
    sandbox = running.twins.sandbox("acme", twin)
    assert sandbox is not None
    assert sandbox.away == {"edge"}
    assert sandbox.graph.members["edge"].view is not None
    assert all(crossing.stale for crossing in sandbox.graph.crossings.values() if "edge" in crossing.source)
    shown = {r.body["name"]: r.body["resourceStatus"] for r in running.records().list(Kind.RESOURCE)}
    assert (shown["edge/app"], shown["ran/cell-1"]) == ("unknown", "available")

    await running.attach("edge")
    await running.until(lambda: running.operating(twin) == "active running")

    assert "note" not in next(p for p in running.service(twin)["supportingService"] if p["name"] == "edge")


async def test_a_withdrawn_agreement_takes_the_part_out_and_a_renewed_one_brings_it_back(
    running: Exchange,
) -> None:
    twin = await running.active(add("ran/cell-1", "edge/app", freshness=1))
    running.domains["edge"].agree(agreements(XR))

    await running.until(lambda: running.operating(twin) == "active limited")

    service = running.service(twin)
    (note,) = next(p for p in service["supportingService"] if p["name"] == "edge")["note"]
    assert (note["id"], "withdrawn" in note["text"]) == ("notShared", True)
    sandbox = running.twins.sandbox("acme", twin)
    assert sandbox is not None
    assert sandbox.domains == ("ran", "transport")
    assert sandbox.graph.members["edge"].view is None
    assert not any(r.body["name"].startswith("edge") for r in running.records().list(Kind.RESOURCE))
    assert value(service, "scope")["endPoints"] == ["ran/cell-1"]

    running.domains["edge"].agree(agreements(ACME))
    await running.until(lambda: running.operating(twin) == "active running")


async def test_when_all_agreements_are_withdrawn_nothing_can_be_asked(running: Exchange) -> None:
    twin = await running.active(add("ran/cell-1", domains=["ran"], freshness=1))
    running.domains["ran"].agree([])

    await running.until(lambda: running.operating(twin) == "inactive failed")

    assert running.twins.sandbox("acme", twin) is None
    assert running.records().list(Kind.RESOURCE) == []


async def test_what_an_ended_agreement_showed_is_not_kept_though_its_domain_is_away(
    tmp_path: Path, pki: Pki
) -> None:
    ahead = 0

    def clock() -> int:
        return time.time_ns() + ahead

    async with exchange(tmp_path, pki, clock=clock) as running:
        running.domains["edge"].agree(agreements(ACME, expires_at=time.time_ns() + 3600 * 10**9))
        twin = await running.active(add("ran/cell-1", "edge/app", freshness=1))
        await running.detach("edge")
        await running.until(lambda: running.operating(twin) == "active degraded")
        assert any(r.body["name"] == "edge/app" for r in running.records().list(Kind.RESOURCE))

        ahead = 3600 * 10**9

        await running.until(
            lambda: not any(r.body["name"] == "edge/app" for r in running.records().list(Kind.RESOURCE))
        )
        sandbox = running.twins.sandbox("acme", twin)
        assert sandbox is not None
        assert "edge" not in sandbox.domains


async def test_a_domain_that_leaves_a_twin_which_is_seldom_refreshed_is_noticed(running: Exchange) -> None:
    twin = await running.active(add("ran/cell-1", "edge/app", freshness=3600))

    await running.detach("edge")
    await running.until(lambda: running.operating(twin) == "active degraded")
    await running.attach("edge")

    await running.until(lambda: running.operating(twin) == "active running")


def _of_another_domain(answer: pb.SandboxAnswer) -> None:
    answer.view.points.add().CopyFrom(answer.view.points[0])
    answer.view.points[-1].id = "transport/mine-now"


def _impossible_figures(answer: pb.SandboxAnswer) -> None:
    answer.view.segments[0].current.delay_ms = -1.0


def _segment_of_nothing(answer: pb.SandboxAnswer) -> None:
    answer.view.segments[0].target = "edge/nobody"


def _unprintable(answer: pb.SandboxAnswer) -> None:
    answer.view.points.add().CopyFrom(answer.view.points[0])
    answer.view.points[-1].id = "edge/a\nb"


def _too_many(answer: pb.SandboxAnswer) -> None:
    for number in range(5001):
        answer.view.points.add(id=f"edge/p{number}", domain="edge", kind="endpoint", up=True)


def _nothing(answer: pb.SandboxAnswer) -> None:
    answer.ClearField("view")


def _over(answer: pb.SandboxAnswer) -> None:
    answer.expires_at = 1


LIES: dict[Callable[[pb.SandboxAnswer], None], str] = {
    _of_another_domain: "contractBroken",
    _impossible_figures: "contractBroken",
    _segment_of_nothing: "contractBroken",
    _unprintable: "contractBroken",
    _too_many: "contractBroken",
    _nothing: "contractBroken",
    _over: "notShared",
}


@pytest.mark.parametrize("lie", LIES)
async def test_a_domain_that_says_what_it_cannot_is_left_out(
    running: Exchange, lie: Callable[[pb.SandboxAnswer], None]
) -> None:
    def told(answer: pb.SandboxAnswer) -> pb.SandboxAnswer:
        lie(answer)
        return answer

    running.domains["edge"].falsify = told

    ended = await running.ended(await running.order(add("ran/cell-1", "edge/app")))

    assert ended["state"] == "partial"
    assert ended["errorMessage"][0]["code"] == LIES[lie]
    sandbox = running.twins.sandbox("acme", ended["serviceOrderItem"][0]["service"]["id"])
    assert sandbox is not None
    assert sandbox.domains == ("ran", "transport")


async def test_a_domains_reason_is_cut_short(running: Exchange) -> None:
    def refuse(_: pb.SandboxAnswer) -> pb.SandboxAnswer:
        raise NotShared("no" * 10_000)

    running.domains["edge"].falsify = refuse

    ended = await running.ended(await running.order(add("ran/cell-1", "edge/app")))

    assert len(ended["errorMessage"][0]["message"]) < 1100


# --------------------------------------------------------------- rescoped


async def test_a_twin_is_rescoped(running: Exchange) -> None:
    twin = await running.active(add("ran/cell-1", "edge/app"))

    ended = await running.ended(
        await running.order(modify(twin, domains=["ran", "transport"], endPoints=["ran/cell-2"], freshness=7))
    )

    assert ended["state"] == "completed"
    assert ended["serviceOrderItem"][0]["service"]["id"] == twin
    service = running.service(twin)
    await running.until(lambda: parts(running.service(twin)).keys() == {"ran", "transport"})
    assert value(service, "freshness") == 7.0
    sandbox = running.twins.sandbox("acme", twin)
    assert sandbox is not None
    assert (sandbox.domains, sandbox.points) == (("ran", "transport"), ("ran/cell-2",))
    assert not any(r.body["name"].startswith("edge") for r in running.records().list(Kind.RESOURCE))
    assert running.domains["edge"].open_twins() == set()
    assert [ref["itemAction"] for ref in service["serviceOrderItem"]] == ["add", "modify"]


async def test_a_domain_that_was_away_is_told_later_that_it_was_left_out(running: Exchange) -> None:
    twin = await running.active(add("ran/cell-1", "edge/app"))
    await running.detach("edge")
    await running.until(lambda: running.operating(twin) == "active degraded")

    ended = await running.ended(await running.order(modify(twin, domains=["ran"], endPoints=["ran/cell-1"])))

    assert ended["state"] == "completed"
    assert running.operating(twin) == "active running"
    assert parts(running.service(twin))["edge"] == "inactive stopping"
    await running.attach("edge")
    await running.until(lambda: parts(running.service(twin)).keys() == {"ran"})
    assert running.domains["edge"].open_twins() == set()


async def test_another_freshness_alone_asks_nobody_anew(running: Exchange) -> None:
    twin = await running.active(add("ran/cell-1", freshness=3000))
    asked = list(running.domains["ran"].asked)

    ended = await running.ended(await running.order(modify(twin, freshness=2000)))

    assert ended["state"] == "completed"
    assert running.domains["ran"].asked == asked
    assert running.operating(twin) == "active running"


async def test_a_scope_with_a_hidden_point_fails_there(running: Exchange) -> None:
    twin = await running.active(add("ran/cell-1", "edge/app"))

    ended = await running.ended(await running.order(modify(twin, endPoints=["ran/hidden", "edge/app"])))

    assert (ended["state"], ended["errorMessage"][0]["code"]) == ("partial", "notShared")
    assert running.operating(twin) == "active limited"
    again = await running.ended(await running.order(modify(twin, endPoints=["ran/cell-2", "edge/app"])))
    assert again["state"] == "completed"
    assert running.operating(twin) == "active running"


async def test_a_twin_all_of_which_refuse_the_new_scope_can_be_given_another(running: Exchange) -> None:
    twin = await running.active(add("ran/cell-1", domains=["ran"]))

    ended = await running.ended(await running.order(modify(twin, endPoints=["ran/hidden"])))

    assert ended["state"] == "failed"
    assert running.operating(twin) == "inactive failed"
    again = await running.ended(await running.order(modify(twin, endPoints=["ran/cell-1"])))
    assert again["state"] == "completed"


async def test_two_changes_of_one_twin_do_not_undo_each_other(running: Exchange) -> None:
    twin = await running.active(add("ran/cell-1"))

    orders = [
        await running.order(modify(twin, freshness=11)),
        await running.order(modify(twin, endPoints=["ran/cell-2"])),
    ]

    assert [(await running.ended(order))["state"] for order in orders] == ["completed", "completed"]
    assert value(running.service(twin), "freshness") == 11.0
    assert value(running.service(twin), "endPoints") == ["ran/cell-2"]


async def test_what_is_over_is_not_changed(running: Exchange) -> None:
    twin = await running.active(add("ran/cell-1"))
    await running.ended(await running.order(retire(twin)))

    changed = await running.order(modify(twin, freshness=11))
    retired = await running.ended(await running.order(retire(twin)))

    assert changed["state"] == "rejected"
    assert changed["errorMessage"][0]["code"] == "conflict"
    assert retired["state"] == "completed"


# --------------------------------------------------------------- suspended, resumed, ended


async def test_a_twin_is_suspended_and_resumed_by_patch(running: Exchange) -> None:
    twin = await running.active(add("ran/cell-1", freshness=1))

    await running.patch(Kind.SERVICE, twin, {"state": "inactive"})

    assert running.operating(twin) == "inactive stopped"
    assert running.service(twin)["isServiceEnabled"] is False
    assert running.twins.sandbox("acme", twin) is None
    await running.until(lambda: running.records().list(Kind.RESOURCE) == [])
    asked = list(running.domains["ran"].asked)
    await asyncio.sleep(0.05)
    assert running.domains["ran"].asked == asked
    assert running.twins.held_by(running.records()) == 1

    await running.patch(Kind.SERVICE, twin, {"state": "active"})
    await running.until(lambda: running.operating(twin) == "active running")
    assert running.twins.sandbox("acme", twin) is not None


async def test_a_twin_is_suspended_and_resumed_by_order(running: Exchange) -> None:
    twin = await running.active(add("ran/cell-1"))

    rests = await running.ended(await running.order(modify(twin, state="inactive")))
    assert (rests["state"], running.operating(twin)) == ("completed", "inactive stopped")
    again = await running.ended(await running.order(modify(twin, state="active")))
    assert (again["state"], running.operating(twin)) == ("completed", "active running")


async def test_a_state_and_a_scope_can_be_ordered_together(running: Exchange) -> None:
    twin = await running.active(add("ran/cell-1"))

    same = await running.ended(await running.order(modify(twin, state="active", endPoints=["ran/cell-2"])))
    assert (same["state"], running.operating(twin)) == ("completed", "active running")
    rests = await running.ended(await running.order(modify(twin, state="inactive", endPoints=["ran/cell-1"])))
    assert (rests["state"], running.operating(twin)) == ("completed", "inactive stopped")
    again = await running.ended(await running.order(modify(twin, state="active")))
    assert (again["state"], value(running.service(twin), "endPoints")) == ("completed", ["ran/cell-1"])
    sandbox = running.twins.sandbox("acme", twin)
    assert sandbox is not None
    assert sandbox.points == ("ran/cell-1",)


async def test_what_is_not_the_partners_to_write_is_refused(running: Exchange) -> None:
    twin = await running.active(add("ran/cell-1", freshness=3000))
    before = running.service(twin)
    states = [{"state": state} for state in ("designed", "reserved", "feasibilityChecked", None)]
    others: list[dict[str, Any]] = [
        {"operatingStatus": "failed"},
        {"supportingService": []},
        {"serviceCharacteristic": []},
        {"serviceOrderItem": None},
        {"hasStarted": False},
        {"isServiceEnabled": False},
        {"relatedParty": [{"id": "xr"}]},
        {"endDate": "2020-01-01T00:00:00Z"},
        {"colour": "red"},
        {"name": 7},
        {"note": "x"},
        {"note": [{}] * 21},
        {"description": "x" * 1001},
    ]

    for patch in (*states, *others):
        with pytest.raises(Conflict if patch in states else ContractError):
            await running.patch(Kind.SERVICE, twin, patch)
    assert running.service(twin) == before


async def test_what_a_partner_decides_while_domains_answer_is_not_overwritten(running: Exchange) -> None:
    twin = await running.active(add("ran/cell-1", freshness=1))
    running.domains["ran"].agree([])
    write = running.twins.write

    async def suspended_just_before(*args: Any) -> Record:
        running.twins.write = write  # type: ignore[method-assign]
        record = running.records().get(Kind.SERVICE, twin)
        now = TwinRecord(record)
        running.twins.move(now, "inactive")
        await running.records().update(record, now.body)
        return await write(*args)

    running.twins.write = suspended_just_before  # type: ignore[method-assign, assignment]
    await running.until(lambda: running.service(twin)["state"] == "inactive")
    await asyncio.sleep(0.1)

    assert running.operating(twin) == "inactive stopped"
    assert parts(running.service(twin))["ran"] == "active running"


async def test_names_are_the_partners_to_write(running: Exchange) -> None:
    twin = await running.active(add("ran/cell-1"))

    await running.patch(Kind.SERVICE, twin, {"name": "stand 7", "category": None})

    assert running.service(twin)["name"] == "stand 7"
    assert "category" not in running.service(twin)
    assert running.operating(twin) == "active running"


async def test_a_twin_is_retired_by_patch_and_never_changes_again(running: Exchange) -> None:
    twin = await running.active(add("ran/cell-1"))
    await running.patch(Kind.SERVICE, twin, {"state": "terminated"})
    await running.until(lambda: running.operating(twin) == "terminated stopped")

    for state in ("active", "inactive", "designed"):
        with pytest.raises(Conflict):
            await running.patch(Kind.SERVICE, twin, {"state": state})
    assert not any(domain.open_twins() for domain in running.domains.values())


async def test_a_retired_twin_is_closed_also_where_a_domain_was_away(running: Exchange) -> None:
    twin = await running.active(add("ran/cell-1", "edge/app"))
    await running.detach("edge")

    ended = await running.ended(await running.order(retire(twin)))

    assert ended["state"] == "completed"
    await running.until(
        lambda: (
            parts(running.service(twin))
            == {"ran": "terminated stopped", "transport": "terminated stopped", "edge": "active stopping"}
            or parts(running.service(twin))
            == {"ran": "terminated stopped", "transport": "terminated stopped", "edge": "inactive stopping"}
        )
    )
    assert running.domains["edge"].open_twins() == {twin}
    with pytest.raises(Conflict, match="edge"):
        await running.desks.partners.remove("acme", Kind.SERVICE, twin)
    await running.attach("edge")
    await running.until(lambda: running.operating(twin) == "terminated stopped")
    assert running.domains["edge"].open_twins() == set()
    await running.desks.partners.remove("acme", Kind.SERVICE, twin)


async def test_a_living_twin_is_not_deleted(running: Exchange) -> None:
    twin = await running.active(add("ran/cell-1"))

    with pytest.raises(Conflict, match="retire it first"):
        await running.desks.partners.remove("acme", Kind.SERVICE, twin)


async def test_a_twin_whose_time_is_over_ends_by_itself(tmp_path: Path, pki: Pki) -> None:
    ahead = 0

    def clock() -> int:
        return time.time_ns() + ahead

    async with exchange(tmp_path, pki, clock=clock) as running:
        twin = await running.active(add("ran/cell-1", freshness=3000, validFor=60))
        poke: Callable[[], None] = next(iter(running.twins._keepers.values())).poke.set

        ahead = 61 * 10**9
        poke()  # the clock was set: else it would have woken by itself

        await running.until(lambda: running.operating(twin) == "terminated stopped")
        assert "its time was over" in [note["text"] for note in running.service(twin)["note"]]
        assert running.domains["ran"].open_twins() == set()


# --------------------------------------------------------------- without an order


async def test_a_service_can_be_posted_without_an_order(running: Exchange) -> None:
    posted = await running.send(Kind.SERVICE, add("ran/cell-1")["service"] | {"state": "active"})

    assert posted["state"] == "designed"
    await running.until(lambda: running.operating(posted["id"]) == "active running")


@pytest.mark.parametrize(
    ("service", "tenant", "error"),
    [
        ({}, "acme", ContractError),
        ({"serviceSpecification": "ndt-twin"}, "acme", ContractError),
        (add(specification="vCPE")["service"], "acme", ContractError),
        (add("nowhere")["service"], "acme", ContractError),
        (add()["service"] | {"note": 7}, "acme", ContractError),
        (add()["service"], "bound", NotShared),
        (add()["service"], "poor", OverCapacity),
    ],
)
async def test_a_service_that_cannot_be_is_refused(
    desk: Exchange, service: dict[str, Any], tenant: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        await desk.send(Kind.SERVICE, service, tenant=tenant)
    assert desk.records(tenant).list(Kind.SERVICE) == []


async def test_a_service_that_is_no_twin_is_left_alone(desk: Exchange) -> None:
    record = await desk.records().create(Kind.SERVICE, {"id": "alien", "state": "active"})

    desk.twins.kept(desk.records(), record)

    assert desk.twins.sandbox("acme", "alien") is None
    assert desk.twins._keepers == {}


async def test_services_posted_at_once_do_not_pass_the_quota(desk: Exchange) -> None:
    ends = await asyncio.gather(
        *(desk.send(Kind.SERVICE, add("ran/cell-1")["service"]) for _ in range(5)), return_exceptions=True
    )

    assert sum(isinstance(end, OverCapacity) for end in ends) == 2


# --------------------------------------------------------------- the broker ends and begins


async def test_a_twin_is_active_again_after_a_restart(running: Exchange) -> None:
    twin = await running.active(add("ran/cell-1", "edge/app"))
    before = running.service(twin)

    await running.restart()
    await running.until(lambda: delay(running, twin) is not None)

    assert running.operating(twin) == "active running"
    assert running.service(twin)["startDate"] == before["startDate"]
    assert running.domains["ran"].open_twins() == {twin}
    assert len(running.records().list(Kind.RESOURCE)) > 5


async def test_a_twin_that_was_suspended_stays_so_after_a_restart(running: Exchange) -> None:
    twin = await running.active(add("ran/cell-1"))
    await running.patch(Kind.SERVICE, twin, {"state": "inactive"})
    running.domains["ran"].asked.clear()

    await running.restart()
    await asyncio.sleep(0.1)

    assert running.operating(twin) == "inactive stopped"
    assert running.domains["ran"].asked == []


async def test_what_was_retired_while_a_domain_was_away_is_closed_after_a_restart(running: Exchange) -> None:
    twin = await running.active(add("ran/cell-1", "edge/app"))
    await running.detach("edge")
    await running.ended(await running.order(retire(twin)))

    await running.restart()
    await running.attach("edge")

    await running.until(lambda: running.operating(twin) == "terminated stopped")
    assert running.domains["edge"].open_twins() == set()


class Died(Exception):
    """The broker was killed."""


async def story(running: Exchange, *, until_write: int) -> tuple[int, list[str]]:
    """Order, rescope, cancel another order, retire; the broker dies after so many writes and begins anew.

    How many writes there were, and the orders' ends.
    """
    writes = 0
    dead = asyncio.Event()

    def count(exchange: Exchange) -> None:
        nonlocal writes
        database = exchange.store._database
        call = database.call

        async def counted(work: Any) -> Any:
            nonlocal writes
            done = await call(work)
            writes += 1
            if writes == until_write:
                dead.set()
                await asyncio.sleep(3600)  # on disk; nobody learns of it any more
            return done

        database.call = counted  # type: ignore[method-assign]

    async def revived(work: Callable[[], Any]) -> Any:
        """Do `work`; where the broker dies meanwhile, the next one is there for it to be done again."""
        while True:
            doing, dying = asyncio.ensure_future(work()), asyncio.ensure_future(dead.wait())
            await asyncio.wait({doing, dying}, return_when=asyncio.FIRST_COMPLETED)
            dying.cancel()
            if doing.done():
                return doing.result()
            doing.cancel()
            await asyncio.gather(doing, return_exceptions=True)
            dead.clear()
            await running.crash()
            count(running)

    count(running)
    ends = []
    first = await revived(lambda: running.order(add("ran/cell-1"), externalId="one"))
    ended = await revived(lambda: running.ended(first))
    ends.append(ended["state"])
    twin = ended["serviceOrderItem"][0]["service"]["id"]
    change = await revived(lambda: running.order(modify(twin, endPoints=["ran/cell-2"]), externalId="two"))
    ends.append((await revived(lambda: running.ended(change)))["state"])
    gate = running.domains["edge"].gate = asyncio.Event()
    other = await revived(lambda: running.order(add("ran/cell-1", "edge/app"), externalId="three"))
    body = {"serviceOrder": {"id": other["id"]}}
    await revived(lambda: running.send(Kind.CANCEL_SERVICE_ORDER, body, key="four"))
    ends.append((await revived(lambda: running.ended(other)))["state"])
    gate.set()
    last = await revived(lambda: running.order(retire(twin), externalId="five"))
    ends.append((await revived(lambda: running.ended(last)))["state"])

    async def cleaned_up() -> None:
        await running.until(
            lambda: all(
                record.body["operatingStatus"] == "stopped" for record in running.records().list(Kind.SERVICE)
            )
        )
        await running.until(
            lambda: all(
                record.body["state"] == "done" for record in running.records().list(Kind.CANCEL_SERVICE_ORDER)
            )
        )

    await revived(cleaned_up)
    return writes, ends


async def test_whenever_the_broker_dies_orders_go_on(tmp_path: Path, pki: Pki) -> None:
    async with exchange(tmp_path / "whole", pki) as running:
        most, ends = await story(running, until_write=0)
    assert ends == ["completed", "completed", "cancelled", "completed"]
    assert most > 15

    for number in range(1, most + 1, 1 + most // 8):
        async with exchange(tmp_path / str(number), pki) as running:
            _, ends = await story(running, until_write=number)

            assert ends == ["completed", "completed", "cancelled", "completed"], number
            assert len(running.records().list(Kind.SERVICE)) <= 2
            assert len(running.records().list(Kind.SERVICE_ORDER)) == 4
            assert not any(domain.open_twins() for domain in running.domains.values())
