"""Orders from end to end: what becomes of them, and what they say about it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from exchange_parts import (
    QUICK,
    Exchange,
    Pki,
    add,
    counter,
    exchange,
    modify,
    order_of,
    parts,
    retire,
    value,
)
from order_parts import ACME, XR, agreements

from domain_twin.errors import Conflict, ContractError, NotFound
from federation.partners.dates import stamp
from federation.partners.record import Kind


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


async def test_an_order_becomes_a_twin_that_is_retired_again(running: Exchange) -> None:
    taken_in = await running.order(add("ran/cell-1", "edge/app", name="my twin"), externalId="po-1")
    assert taken_in["state"] == "acknowledged"

    ended = await running.ended(taken_in)

    assert ended["state"] == "completed"
    assert [milestone["name"] for milestone in ended["milestone"]] == [
        "scopeAgreed",
        "domainsJoined",
        "synced",
    ]
    (item,) = ended["serviceOrderItem"]
    assert (item["state"], item["service"]["state"]) == ("completed", "active")
    twin = item["service"]["id"]
    service = running.service(twin)
    assert service["name"] == "my twin"
    assert parts(service) == dict.fromkeys(("ran", "transport", "edge"), "active running")
    assert value(service, "fidelity") == dict.fromkeys(("ran", "transport", "edge"), "mesh")
    assert value(service, "scope")["endPoints"] == ["edge/app", "ran/cell-1"]
    sandbox = running.twins.sandbox("acme", twin)
    assert sandbox is not None
    assert sandbox.points == ("edge/app", "ran/cell-1")
    assert len(sandbox.graph.crossings) == 4
    names = {r.body["name"] for r in running.records().list(Kind.RESOURCE)}
    assert {"ran/cell-1", "edge/app", "ran/cell-1 to ran/idl-a", "ran/idl-a to transport/idl-a"} <= names

    gone = await running.ended(await running.order(retire(twin)))

    assert gone["state"] == "completed"
    assert running.service(twin)["state"] == "terminated"
    await running.until(lambda: running.operating(twin) == "terminated stopped")
    assert running.records().list(Kind.RESOURCE) == []
    assert running.twins.sandbox("acme", twin) is None
    assert not any(domain.open_twins() for domain in running.domains.values())
    assert order_of(running, ended["id"])["state"] == "completed"


# --------------------------------------------------------------- domains that refuse


def errors(order: object) -> list[str]:
    assert isinstance(order, dict)
    return [error["message"] for error in order.get("errorMessage", [])]


async def test_a_domain_that_refuses_leaves_the_order_partial(running: Exchange) -> None:
    running.domains["transport"].agree([])

    ended = await running.ended(await running.order(add("ran/cell-1", "edge/app")))

    (item,) = ended["serviceOrderItem"]
    assert (ended["state"], item["state"]) == ("partial", "partial")
    (error,) = item["errorMessage"]
    assert error["code"] == "notShared"
    assert error["message"].startswith("transport: ")
    assert ended["errorMessage"][0]["serviceOrderItem"][0]["itemId"] == "1"
    assert running.operating(item["service"]["id"]) == "active limited"
    sandbox = running.twins.sandbox("acme", item["service"]["id"])
    assert sandbox is not None
    assert sandbox.domains == ("edge", "ran")


async def test_when_all_refuse_the_order_fails_and_nothing_stays_open(running: Exchange) -> None:
    for domain in running.domains.values():
        domain.agree(agreements(XR))

    ended = await running.ended(await running.order(add()))

    (item,) = ended["serviceOrderItem"]
    assert (ended["state"], item["state"]) == ("failed", "failed")
    assert {error["code"] for error in item["errorMessage"]} == {"notShared"}
    assert {message.partition(":")[0] for message in errors(ended)} == {"ran", "transport", "edge"}
    await running.until(lambda: running.operating(item["service"]["id"]) == "terminated stopped")
    assert running.twins.held_by(running.records()) == 0


async def test_a_hidden_point_is_answered_as_one_that_does_not_exist(running: Exchange) -> None:
    said = []
    for name in ("hidden", "h-hidden", "never-was", "idl-a"):
        ended = await running.ended(
            await running.order(add(f"ran/{name}", "edge/app", domains=["ran", "edge"]))
        )
        item = ended["serviceOrderItem"][0]
        service = running.service(item["service"]["id"])
        told = [ended["state"], item["state"], parts(service), errors(ended)]
        said.append(str(told).replace(name, "X"))
        await running.ended(await running.order(retire(service["id"])))

    assert len(set(said)) == 1


# --------------------------------------------------------------- what is refused at once


@pytest.mark.parametrize(
    ("item", "tenant", "codes"),
    [
        (add(specification="vCPE"), "acme", ["unknownSpecification"]),
        (add(specification="ndt-scenario"), "acme", ["notOrderable"]),
        (add(), "bound", ["notEntitled"]),
        (add(), "poor", ["overQuota"]),
        (
            add("nowhere/x", "cell", freshness=0, domains=["mars"], colour="red"),
            "bound",
            ["notEntitled", *["invalidCharacteristic"] * 4],
        ),
        (modify("11111111-2222-3333-4444-555555555555", freshness=2), "acme", ["notFound"]),
        (retire("11111111-2222-3333-4444-555555555555"), "acme", ["notFound"]),
    ],
)
async def test_an_item_that_cannot_be_done_is_rejected_with_every_reason(
    desk: Exchange, item: dict[str, object], tenant: str, codes: list[str]
) -> None:
    taken_in = await desk.order(item, tenant=tenant)

    (rejected,) = taken_in["serviceOrderItem"]
    assert (taken_in["state"], rejected["state"]) == ("rejected", "rejected")
    assert [error["code"] for error in rejected["errorMessage"]] == codes
    assert [error["code"] for error in taken_in["errorMessage"]] == codes
    assert desk.records(tenant).list(Kind.SERVICE) == []


async def test_a_specification_that_is_not_active_or_of_another_version_is_rejected(
    desk: Exchange,
) -> None:
    public = desk.store.of("")
    offered = public.get(Kind.SERVICE_SPECIFICATION, "ndt-twin")
    item = add()
    item["service"]["serviceSpecification"]["version"] = "0.9"
    old = await desk.order(item)
    await public.update(offered, {**offered.body, "lifecycleStatus": "Retired"})
    retired = await desk.order(add())

    assert old["serviceOrderItem"][0]["errorMessage"][0]["code"] == "notOrderable"
    assert "Retired" in errors(retired)[0]


async def test_an_own_specification_cannot_be_ordered(desk: Exchange) -> None:
    own = {"id": "mine", "name": "NdtTwin", "lifecycleStatus": "Active", "version": "1.0"}
    await desk.send(Kind.SERVICE_SPECIFICATION, own)

    taken_in = await desk.order(add(specification="mine"))

    assert [e["code"] for e in taken_in["errorMessage"]] == ["unknownSpecification"]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({}, "at least one item"),
        ({"serviceOrderItem": []}, "at least one item"),
        ({"serviceOrderItem": [7]}, "must be an object"),
        ({"serviceOrderItem": [{}] * 21}, "20 at most"),
        ({"serviceOrderItem": [{"id": "1", "action": "add", "service": 7}]}, "service: must be an object"),
        ({"serviceOrderItem": [{"id": "1", "action": "make", "service": {}}]}, "none of add"),
        ({"serviceOrderItem": [{"id": "", "action": "add", "service": {}}]}, "id: must be text"),
        ({"serviceOrderItem": [{"id": 7, "action": "add", "service": {}}]}, "id: must be text"),
        ({"serviceOrderItem": [{"id": "1", "action": "add", "service": {}}] * 2}, "used twice"),
        (
            {"serviceOrderItem": [{"id": "1", "action": "add", "service": {}, "quantity": 2}]},
            "one twin an item",
        ),
        (
            {"serviceOrderItem": [{"id": "1", "action": "add", "service": {}, "serviceOrderItem": [1]}]},
            "cannot be nested",
        ),
        (
            {"serviceOrderItem": [{"id": "1", "action": "add", "service": {"serviceCharacteristic": 7}}]},
            "must be a list of objects",
        ),
        (
            {"serviceOrderItem": [{"id": "1", "action": "add", "service": {"serviceSpecification": 7}}]},
            "must be an object",
        ),
        ({"serviceOrderItem": [{"id": "1", "action": "add", "service": {"note": "x"}}]}, "list of objects"),
        ({"serviceOrderItem": [add() | {"id": "1"}], "requestedStartDate": "soon"}, "requestedStartDate"),
        (
            {"serviceOrderItem": [{"id": "", "action": "make", "service": 7}]},
            "id: must be text.*action.*service: must be an object",
        ),
    ],
)
async def test_an_order_without_form_is_refused_with_all_that_is_wrong(
    desk: Exchange, body: dict[str, object], said: str
) -> None:
    with pytest.raises(ContractError, match=said):
        await desk.send(Kind.SERVICE_ORDER, body)
    assert desk.records().list(Kind.SERVICE_ORDER) == []


async def test_items_that_can_be_done_are_done_beside_those_that_cannot(running: Exchange) -> None:
    ended = await running.ended(await running.order(add("ran/cell-1"), add(specification="vCPE")))

    assert [item["state"] for item in ended["serviceOrderItem"]] == ["completed", "rejected"]
    assert ended["state"] == "partial"


async def test_what_the_partner_writes_of_ours_counts_for_nothing(running: Exchange) -> None:
    item = add("ran/cell-1") | {"state": "completed", "errorMessage": [{"code": "x"}]}

    taken_in = await running.order(item, state="completed", id="mine", milestone=[{"name": "synced"}])

    assert taken_in["state"] == "acknowledged"
    assert taken_in["id"] != "mine"
    assert "milestone" not in taken_in
    assert "errorMessage" not in taken_in["serviceOrderItem"][0]
    assert (await running.ended(taken_in))["state"] == "completed"


# --------------------------------------------------------------- quota and tenants


async def test_the_quota_counts_twins_that_are_not_over(running: Exchange) -> None:
    ended = await running.ended(await running.order(*[add("ran/cell-1")] * 4))
    assert [i["state"] for i in ended["serviceOrderItem"]] == [*["completed"] * 3, "rejected"]
    assert ended["serviceOrderItem"][3]["errorMessage"][0]["code"] == "overQuota"

    await running.ended(await running.order(retire(ended["serviceOrderItem"][0]["service"]["id"])))

    await running.active(add("ran/cell-2"))


async def test_orders_at_once_do_not_pass_the_quota(running: Exchange) -> None:
    orders = await asyncio.gather(*(running.order(add("ran/cell-1")) for _ in range(6)))

    states = [(await running.ended(order))["state"] for order in orders]

    assert sorted(states) == [*["completed"] * 3, *["rejected"] * 3]
    assert len(running.domains["ran"].open_twins()) == 3


async def test_two_tenants_with_the_same_end_points_have_twins_of_their_own(running: Exchange) -> None:
    running.domains["ran"].agree(
        [*agreements(ACME), *agreements(XR, figures=frozenset({"one_way_delay"}))[1:]]
    )
    of_acme = await running.active(add("ran/cell-1", "edge/app"))
    of_xr = await running.active(add("ran/cell-1", "edge/app"), tenant="xr")

    assert running.twins.sandbox("xr", of_acme) is None
    assert running.twins.sandbox("acme", of_xr) is None
    key = ("ran/cell-1", "ran/idl-a")
    figures = {}
    for tenant, twin in (("acme", of_acme), ("xr", of_xr)):
        sandbox = running.twins.sandbox(tenant, twin)
        assert sandbox is not None
        view = sandbox.graph.members["ran"].view
        assert view is not None
        current = view.segments[key].current
        assert current is not None
        figures[tenant] = current.bandwidth_mbps
    assert figures == {"acme": 600.0, "xr": 0.0}
    for item in (retire(of_acme), modify(of_acme, freshness=3)):
        foreign = await running.order(item, tenant="xr")
        unknown = await running.order(
            {**item, "service": {**item["service"], "id": "no-such-service"}}, tenant="xr"
        )
        said = [str(errors(order)).replace(of_acme, "X") for order in (foreign, unknown)]
        assert said[0] == said[1].replace("no-such-service", "X")
    assert running.operating(of_acme) == "active running"


async def test_the_same_order_sent_again_is_the_same_order(running: Exchange) -> None:
    first = await running.order(add("ran/cell-1"), externalId="po-7")
    again = await running.order(add("ran/cell-1"), externalId="po-7")

    assert again["id"] == first["id"]
    await running.ended(first)
    assert len(running.records().list(Kind.SERVICE)) == 1


# --------------------------------------------------------------- domains that are away


async def test_a_domain_that_is_away_holds_the_order_until_it_is_back(running: Exchange) -> None:
    await running.detach("edge")
    taken_in = await running.order(add("ran/cell-1", "edge/app"))

    def alerts(order: Mapping[str, Any]) -> list[str]:
        said = [alert["message"] for alert in order.get("jeopardyAlert", [])]
        return [message for message in said if message.startswith("edge ")]

    held = await running.until(
        lambda: (order := order_of(running, taken_in["id"]))["state"] == "held" and alerts(order) and order
    )

    assert held["serviceOrderItem"][0]["state"] == "held"
    assert [m["name"] for m in held["milestone"]] == ["scopeAgreed"]
    await running.attach("edge")

    ended = await running.ended(taken_in)
    assert ended["state"] == "completed"
    assert len(alerts(ended)) == 1


async def test_a_domain_that_leaves_in_the_middle_and_returns_is_waited_for(running: Exchange) -> None:
    gate = running.domains["edge"].gate = asyncio.Event()
    taken_in = await running.order(add("ran/cell-1", "edge/app"))
    await running.until(lambda: running.domains["edge"].asked)
    await running.detach("edge")
    gate.set()
    assert order_of(running, taken_in["id"])["state"] not in ("completed", "partial", "failed")

    await running.attach("edge")

    assert (await running.ended(taken_in))["state"] == "completed"


async def test_a_domain_that_does_not_come_is_left_out(tmp_path: Path, pki: Pki) -> None:
    timing = replace(QUICK, join_within_s=0.3)
    async with exchange(tmp_path, pki, attached=("ran", "transport"), timing=timing) as running:
        ended = await running.ended(await running.order(add()))

        assert ended["state"] == "partial"
        assert ended["errorMessage"][0]["code"] == "unreachable"
        assert "did not take part within 0.3 s" in errors(ended)[0]


async def test_an_order_for_later_waits(running: Exchange) -> None:
    soon = stamp(time.time_ns() + 300_000_000)
    taken_in = await running.order(add("ran/cell-1"), requestedStartDate=soon)
    pending = await running.until(
        lambda: (order := order_of(running, taken_in["id"]))["state"] == "pending" and order
    )

    assert "startDate" not in pending
    ended = await running.ended(taken_in)
    assert ended["state"] == "completed"
    assert ended["startDate"] >= soon


# --------------------------------------------------------------- cancelling


async def cancel(running: Exchange, order: str, reason: str = "changed our mind") -> Mapping[str, Any]:
    task = await running.send(
        Kind.CANCEL_SERVICE_ORDER, {"serviceOrder": {"id": order}, "cancellationReason": reason}
    )
    assert task["state"] == "accepted"
    ended: Mapping[str, Any] = await running.until(
        lambda: (
            (now := running.get(Kind.CANCEL_SERVICE_ORDER, task["id"]))["state"]
            in ("done", "terminatedWithError")
            and now
        )
    )
    return ended


async def test_an_order_is_cancelled_before_it_begins(running: Exchange) -> None:
    later = stamp(time.time_ns() + 60_000_000_000)
    taken_in = await running.order(add("ran/cell-1"), requestedStartDate=later)

    task = await cancel(running, taken_in["id"])

    order = order_of(running, taken_in["id"])
    assert (task["state"], order["state"]) == ("done", "cancelled")
    assert order["serviceOrderItem"][0]["state"] == "cancelled"
    assert order["cancellationReason"] == "changed our mind"
    assert task["effectiveCancellationDate"] == order["cancellationDate"]
    assert running.records().list(Kind.SERVICE) == []


async def test_an_order_is_cancelled_while_its_domains_are_asked(running: Exchange) -> None:
    gate = running.domains["edge"].gate = asyncio.Event()
    taken_in = await running.order(add("ran/cell-1", "edge/app"))
    await running.until(lambda: running.domains["edge"].asked and running.domains["ran"].open_twins())

    task = await cancel(running, taken_in["id"])
    gate.set()

    order = order_of(running, taken_in["id"])
    assert (task["state"], order["state"]) == ("done", "cancelled")
    (service,) = running.records().list(Kind.SERVICE)
    await running.until(lambda: running.operating(service.id) == "terminated stopped")
    assert not any(domain.open_twins() for domain in running.domains.values())


async def test_what_is_held_can_be_cancelled(running: Exchange) -> None:
    await running.detach("edge")
    taken_in = await running.order(add())
    await running.until(lambda: order_of(running, taken_in["id"])["state"] == "held")

    task = await cancel(running, taken_in["id"])

    assert (task["state"], order_of(running, taken_in["id"])["state"]) == ("done", "cancelled")
    await running.attach("edge")
    (service,) = running.records().list(Kind.SERVICE)
    await running.until(lambda: running.operating(service.id) == "terminated stopped")


async def test_what_is_over_is_not_cancelled(running: Exchange) -> None:
    twin = await running.active(add("ran/cell-1"))
    (order,) = running.records().list(Kind.SERVICE_ORDER)

    task = await cancel(running, order.id)

    assert task["state"] == "terminatedWithError"
    assert "completed already" in task["errorMessage"]["message"]
    assert order_of(running, order.id) == order.body
    assert running.operating(twin) == "active running"


async def test_an_order_of_which_an_item_is_done_is_not_cancelled(running: Exchange) -> None:
    await running.detach("edge")
    taken_in = await running.order(add("ran/cell-1", domains=["ran"]), add("edge/app", domains=["edge"]))
    await running.until(
        lambda: (
            [i["state"] for i in order_of(running, taken_in["id"])["serviceOrderItem"]]
            == ["completed", "held"]
        )
    )

    task = await cancel(running, taken_in["id"])

    assert task["state"] == "terminatedWithError"
    await running.until(lambda: order_of(running, taken_in["id"])["state"] == "held")
    await running.attach("edge")
    assert (await running.ended(taken_in))["state"] == "completed"


async def test_a_change_that_was_begun_is_not_cancelled(running: Exchange) -> None:
    twin = await running.active(add("ran/cell-1"))
    await running.detach("edge")
    taken_in = await running.order(modify(twin, domains=["edge", "ran"]))
    await running.until(lambda: order_of(running, taken_in["id"])["state"] == "held")

    task = await cancel(running, taken_in["id"])

    assert task["state"] == "terminatedWithError"
    assert "begun already" in task["completionMessage"]
    await running.attach("edge")
    assert (await running.ended(taken_in))["state"] == "completed"


async def test_two_that_cancel_the_same_order_are_both_answered(running: Exchange) -> None:
    await running.detach("edge")
    taken_in = await running.order(add())
    await running.until(lambda: order_of(running, taken_in["id"])["state"] == "held")

    one, other = await asyncio.gather(*(cancel(running, taken_in["id"]) for _ in range(2)))

    assert [one["state"], other["state"]] == ["done", "done"]


@pytest.mark.parametrize("body", [{}, {"serviceOrder": "x"}, {"serviceOrder": {}}])
async def test_a_cancel_without_an_order_is_refused(desk: Exchange, body: dict[str, object]) -> None:
    with pytest.raises(ContractError, match="serviceOrder"):
        await desk.send(Kind.CANCEL_SERVICE_ORDER, body)


async def test_a_foreign_order_is_cancelled_as_little_as_an_unknown_one(running: Exchange) -> None:
    taken_in = await running.order(add("ran/cell-1"))
    said = []
    for order in (taken_in["id"], "no-such-order"):
        with pytest.raises(NotFound) as refused:
            await running.send(Kind.CANCEL_SERVICE_ORDER, {"serviceOrder": {"id": order}}, tenant="xr")
        said.append(str(refused.value).replace(order, "X"))

    assert said[0] == said[1]
    assert (await running.ended(taken_in))["state"] == "completed"


# --------------------------------------------------------------- patches and deletion


async def test_a_partner_writes_words_and_no_states(running: Exchange) -> None:
    taken_in = await running.order(add("ran/cell-1"))
    for patch, error in (
        ({"state": "completed"}, Conflict),
        ({"orderDate": "2020-01-01T00:00:00Z"}, ContractError),
        ({"serviceOrderItem": []}, ContractError),
        ({"milestone": [{"name": "synced"}]}, ContractError),
    ):
        with pytest.raises(error):
            await running.patch(Kind.SERVICE_ORDER, taken_in["id"], patch)

    await running.patch(Kind.SERVICE_ORDER, taken_in["id"], {"description": "for the trade fair"})

    ended = await running.ended(taken_in)
    assert (ended["state"], ended["description"]) == ("completed", "for the trade fair")
    with pytest.raises(Conflict):
        await running.patch(Kind.SERVICE_ORDER, taken_in["id"], {"state": "inProgress"})


async def test_only_what_is_over_is_deleted(running: Exchange) -> None:
    await running.detach("edge")
    taken_in = await running.order(add())
    await running.until(lambda: order_of(running, taken_in["id"])["state"] == "held")
    with pytest.raises(Conflict):
        await running.desks.partners.remove("acme", Kind.SERVICE_ORDER, taken_in["id"])
    await cancel(running, taken_in["id"])

    await running.desks.partners.remove("acme", Kind.SERVICE_ORDER, taken_in["id"])

    with pytest.raises(NotFound):
        order_of(running, taken_in["id"])
