"""What orders, scopes, twins' records and the catalogue are, apart from any broker."""

from __future__ import annotations

import copy
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain_twin.config import PartnerConfig, QuotaConfig
from domain_twin.errors import NotShared, OverCapacity
from federation.partners.catalogue import publish, twin_specification
from federation.partners.dates import moment, stamp
from federation.partners.keeping import apply_state
from federation.partners.order_record import ORDER_OVER, OrderRecord, derive
from federation.partners.quotas import Quotas
from federation.partners.record import PUBLIC, Kind, Record
from federation.partners.scope import LIMITS, Scope, read_scope, scope_of
from federation.partners.store import RecordStore
from federation.partners.twin_record import TwinRecord, new_twin, set_part

MEMBERS = ("core", "edge", "ran")
NOW = 1_800_000_000 * 10**9
ITEM_STATES = (
    "acknowledged", "rejected", "pending", "held", "inProgress", "cancelled", "completed", "failed",
    "partial", "assessingCancellation", "pendingCancellation",
)  # fmt: skip


def told(**values: Any) -> list[dict[str, Any]]:
    return [{"name": name, "value": value} for name, value in values.items()]


# --------------------------------------------------------------- dates


@given(st.integers(0, 4_000_000_000_000))
def test_a_time_survives_being_written_down(milliseconds: int) -> None:
    at = milliseconds * 1_000_000

    assert moment(stamp(at)) == at


@pytest.mark.parametrize("text", ["", "soon", "2027-01-01", "2027-01-01T00:00:00", 7, None])
def test_what_is_no_moment_is_refused(text: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        moment(text)


# --------------------------------------------------------------- scope


def test_what_is_left_out_is_everything_for_a_month() -> None:
    scope, problems = read_scope(None, members=MEMBERS, now=NOW)

    assert problems == []
    assert scope == Scope(MEMBERS, None, 5.0, NOW + 30 * 86_400 * 10**9)
    assert not scope.borders_only("ran")
    assert scope.points_of("ran") == ()


def test_a_domain_without_named_points_only_joins_the_others() -> None:
    scope, _ = read_scope(told(endPoints="ran/a, edge/b"), members=MEMBERS, now=NOW)

    assert scope.points_of("ran") == ("ran/a",)
    assert scope.borders_only("core")
    assert not scope.borders_only("edge")


@pytest.mark.parametrize("wrap", [lambda v: v, lambda v: {"@type": "Any", "value": v}])
@pytest.mark.parametrize("number", [7, 7.0, "7"])
def test_values_are_read_as_systems_write_them(wrap: Any, number: object) -> None:
    scope, problems = read_scope(
        told(domains=wrap(["ran"]), freshness=wrap(number), until=wrap("2027-02-01T00:00:00Z")),
        members=MEMBERS,
        now=NOW,
    )

    assert problems == []
    assert (scope.domains, scope.freshness_s, stamp(scope.until)) == (
        ("ran",),
        7.0,
        "2027-02-01T00:00:00.000Z",
    )


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"domains": []}, "at least one"),
        ({"domains": 7}, "at least one"),
        ({"domains": ["mars"]}, "no domain 'mars'"),
        ({"domains": ["ran", "ran"]}, "named twice"),
        ({"domains": ["ran", 7]}, "no name"),
        ({"domains": ["a", "b", "c", "d"]}, "3 are the most"),
        ({"endPoints": ["cell-1"]}, "called domain/name"),
        ({"endPoints": ["/x"]}, "called domain/name"),
        ({"endPoints": ["ran/"]}, "called domain/name"),
        ({"endPoints": ["ran/a\n"]}, ""),
        ({"endPoints": ["ran/a\x00b"]}, "no name"),
        ({"endPoints": ["ran/" + "x" * 255]}, "no name"),
        ({"endPoints": [f"ran/{n}" for n in range(LIMITS.end_points + 1)]}, "500 are the most"),
        ({"domains": ["ran"], "endPoints": ["edge/app"]}, "none of the twin's domains"),
        ({"freshness": 0.5}, "from 1 to 3600"),
        ({"freshness": 3601}, "from 1 to 3600"),
        ({"freshness": float("nan")}, "from 1 to 3600"),
        ({"freshness": float("inf")}, "from 1 to 3600"),
        ({"freshness": True}, "from 1 to 3600"),
        ({"freshness": "often"}, "from 1 to 3600"),
        ({"freshness": None}, "from 1 to 3600"),
        ({"freshness": "9" * 400}, "from 1 to 3600"),
        ({"validFor": 59}, "seconds from 60"),
        ({"validFor": 1e300}, "seconds from 60"),
        ({"until": "2026-01-01T00:00:00Z"}, "ahead"),
        ({"until": "2099-01-01T00:00:00Z"}, "ahead"),
        ({"until": "2027-02-01"}, "no offset"),
        ({"until": 7}, "no date-time"),
        ({"until": "2027-02-01T00:00:00Z", "validFor": 60}, "given twice"),
        ({"colour": "red"}, "nothing that a twin has"),
    ],
)
def test_what_is_wrong_with_a_scope_is_told(values: dict[str, Any], said: str) -> None:
    _, problems = read_scope(told(**values), members=MEMBERS, now=NOW)

    if said:
        assert any(said in problem for problem in problems), problems
    else:
        assert problems == []


@pytest.mark.parametrize("listed", ["x", {"name": "domains"}, [7], [{}], [{"name": 7}], [{"name": []}]])
def test_characteristics_without_form_are_told_and_break_nothing(listed: Any) -> None:
    assert read_scope(listed, members=MEMBERS, now=NOW)[1]


def test_everything_that_is_wrong_is_told_at_once() -> None:
    _, problems = read_scope(told(domains=["mars", "venus"], freshness=0, colour=1), members=MEMBERS, now=NOW)

    assert len(problems) == 4


def test_a_scope_is_changed_where_something_is_said() -> None:
    before, _ = read_scope(told(endPoints=["ran/a", "edge/b"], freshness=9), members=MEMBERS, now=NOW)

    after, problems = read_scope(told(domains=["ran", "core"]), members=MEMBERS, now=NOW, before=before)

    assert problems == []
    assert after == Scope(("core", "ran"), ("ran/a",), 9.0, before.until)


@given(
    st.sets(st.sampled_from(MEMBERS), min_size=1),
    st.none() | st.sets(st.sampled_from("abc"), min_size=1),
    st.floats(1, 3600),
    st.integers(60_000, 10_000_000),
)
def test_a_scope_is_read_back_from_the_twin_that_shows_it(
    domains: set[str], names: set[str] | None, freshness: float, life_ms: int
) -> None:
    points = None if names is None else tuple(sorted(f"{d}/{n}" for d in domains for n in names))
    scope = Scope(tuple(sorted(domains)), points, freshness, NOW + life_ms * 1_000_000)

    assert scope_of(scope.characteristics()) == scope
    if life_ms >= LIMITS.least_life_s * 1000:
        assert read_scope(scope.characteristics(), members=MEMBERS, now=NOW) == (scope, [])


# --------------------------------------------------------------- orders


@given(st.lists(st.sampled_from(ITEM_STATES), min_size=1, max_size=6))
def test_an_orders_state_follows_from_its_items(states: Sequence[str]) -> None:
    state = derive(states)

    assert (state in ORDER_OVER) == all(item in ORDER_OVER for item in states)
    assert (state == "completed") == (set(states) == {"completed"})
    assert (state == "rejected") == (set(states) == {"rejected"})
    assert (state == "cancelled") == (set(states) == {"cancelled"})
    if state == "failed":
        assert not {"completed", "partial"} & set(states)
    assert derive(reversed(states)) == state


@given(st.lists(st.lists(st.sampled_from(ITEM_STATES), min_size=2, max_size=2), max_size=8))
def test_what_is_over_stays_over(story: list[list[str]]) -> None:
    body = {"id": "o", "state": "acknowledged", "serviceOrderItem": [{"id": "1"}, {"id": "2"}]}
    order = OrderRecord(Record("acme", Kind.SERVICE_ORDER, "o", 1, 1, body, NOW))
    for number, states in enumerate(story):
        before = copy.deepcopy(order.body) if order.over else None
        for item, state in zip(order.items, states, strict=True):
            item["state"] = state
        order.settle(NOW + number)
        if before is not None:
            assert order.state == before["state"]
            assert order.body["completionDate"] == before["completionDate"]


def test_milestones_and_alerts_are_told_once() -> None:
    body = {"id": "o", "state": "inProgress", "serviceOrderItem": [{"id": "1", "state": "held"}]}
    order = OrderRecord(Record("acme", Kind.SERVICE_ORDER, "o", 1, 1, body, NOW))
    for at in (NOW, NOW + 1):
        order.reach("scopeAgreed", "x", ["1"], at)
        order.alert("domainLate", "edge is late", "1", at)
        order.error(order.items[0], "notShared", "edge: no", at)

    assert len(order.body["milestone"]) == len(order.body["jeopardyAlert"]) == 1
    assert len(order.body["errorMessage"]) == len(order.items[0]["errorMessage"]) == 1


# --------------------------------------------------------------- twins


def fresh_twin() -> TwinRecord:
    scope, _ = read_scope(None, members=MEMBERS, now=NOW)
    specification = {"id": "ndt-twin", "name": "NdtTwin", "version": "1.0"}
    body = new_twin("t", scope, tenant="acme", specification=specification, asked={}, quota=5, now=NOW)
    return TwinRecord(Record("acme", Kind.SERVICE, "t", 1, 1, body, NOW))


MOVES = st.lists(
    st.one_of(
        st.tuples(st.sampled_from(("joins", "away", "refuses", "late")), st.sampled_from(MEMBERS)),
        st.tuples(st.just("told"), st.just("")),
        st.tuples(st.sampled_from(("suspend", "resume", "terminate", "rescope")), st.just("")),
        st.tuples(st.just("stopped"), st.sampled_from(MEMBERS)),
    ),
    max_size=25,
)
MAY_FOLLOW = {
    "designed": {"designed", "reserved", "terminated"},
    "reserved": {"reserved", "inactive", "terminated"},
    "inactive": {"inactive", "active", "terminated"},
    "active": {"active", "inactive", "terminated"},
    "terminated": {"terminated"},
}


@settings(max_examples=200, deadline=None)
@given(MOVES)
def test_a_twin_only_moves_as_it_may(moves: list[tuple[str, str]]) -> None:
    twin = fresh_twin()
    for move, domain in moves:
        before, joined_before = twin.state, twin.body["hasStarted"]
        step(twin, move, domain)

        assert twin.state in MAY_FOLLOW[before], (before, move, twin.state)
        assert twin.body["hasStarted"] >= joined_before
        if before == "terminated":
            assert twin.leaving == [p["name"] for p in twin.parts if p["operatingStatus"] != "stopped"]
        if twin.state == "active":
            assert not twin.undecided
            assert twin.joined
        if before != "active" and twin.state == "active":
            assert all(part["state"] == "active" for part in twin.joined)
        if twin.operating == "running" and move == "told":
            assert all(part["state"] == "active" for part in twin.open_parts)


def step(twin: TwinRecord, move: str, domain: str) -> None:
    """What keeper and partner do to a record."""
    part = twin.part(domain) if domain else None
    if move == "terminate" and not twin.terminated:
        twin.terminate("enough", NOW)
    elif move == "suspend" and twin.state == "active":
        twin.suspend(NOW)
    elif move == "resume" and twin.suspended:
        twin.resume(NOW)
    elif move == "rescope" and not twin.terminated:
        scope, _ = read_scope(told(endPoints=["ran/a"]), members=MEMBERS, now=NOW, before=twin.scope)
        twin.rescope(scope, NOW)
    elif move == "stopped" and part and part["name"] in twin.leaving:
        twin.stopped(domain)
    elif twin.terminated or twin.suspended:
        return
    elif move == "joins" and part:
        set_part(part, "active", "running")
    elif move == "away" and part and part["state"] in ("active", "inactive"):
        set_part(part, "inactive", "degraded", code="unreachable", why="gone", now=NOW)
    elif move in ("refuses", "late") and part:
        set_part(part, "terminated", "failed", code="notShared", why="no", now=NOW)
    if not (twin.terminated or twin.suspended) and not twin.undecided and move != "rescope":
        apply_state(twin, NOW)


def test_a_twins_lists_stay_short() -> None:
    twin = fresh_twin()
    for number in range(100):
        twin.note(f"note {number}", NOW)
        twin.add_item("o", str(number), "add" if number == 0 else "modify")

    assert len(twin.body["note"]) == 20
    assert len(twin.body["serviceOrderItem"]) == 50
    assert twin.body["serviceOrderItem"][0]["itemAction"] == "add"
    assert twin.has_item("o", "99")


# --------------------------------------------------------------- catalogue and quotas


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[RecordStore]:
    store = await RecordStore.open(tmp_path, "", ["acme"])
    yield store
    await store.close()


async def test_the_catalogue_is_made_once_and_a_new_offer_is_a_new_version(store: RecordStore) -> None:
    public = store.of(PUBLIC)
    await publish(public, ["ran", "edge"])
    first = {
        (kind, record.id): record
        for kind in Kind
        if kind.startswith("service")
        for record in public.list(kind)
    }
    await publish(public, ["edge", "ran"])
    assert len(first) == 6
    for (kind, identity), record in first.items():
        assert public.get(kind, identity) == record

    await publish(public, ["ran", "edge", "core"])

    assert twin_specification(store.of("acme"))["version"] == "2.0"
    assert public.get(Kind.SERVICE_SPECIFICATION, "ndt-scenario").body["version"] == "1.0"
    assert public.get(Kind.SERVICE_CATALOG, "network-digital-twins").body["version"] == "1.0"


async def test_what_the_catalogue_names_is_there(store: RecordStore) -> None:
    public = store.of(PUBLIC)
    await publish(public, ["ran", "edge"])
    reader = store.of("acme")

    (catalog,) = reader.list(Kind.SERVICE_CATALOG)
    for named in catalog.body["category"]:
        category = reader.get(Kind.SERVICE_CATEGORY, named["id"])
        for candidate in category.body["serviceCandidate"]:
            found = reader.get(Kind.SERVICE_CANDIDATE, candidate["id"])
            reader.get(Kind.SERVICE_SPECIFICATION, found.body["serviceSpecification"]["id"])
    names = [c["name"] for c in twin_specification(reader)["specCharacteristic"]]
    assert names == ["domains", "endPoints", "freshness", "validFor", "until"]


def test_who_is_no_partner_any_more_may_nothing() -> None:
    quotas = Quotas([PartnerConfig(id="acme", quota=QuotaConfig(twins=2), specifications=("NdtTwin",))])

    quotas.check_entitled("acme", "ndt-twin", "NdtTwin")
    quotas.check_twins("acme", 1)
    for tenant, held, more in (("acme", 2, 1), ("acme", 1, 2), ("gone", 0, 1)):
        with pytest.raises(OverCapacity):
            quotas.check_twins(tenant, held, more)
    for tenant, specification in (("acme", "other"), ("gone", "NdtTwin")):
        with pytest.raises(NotShared):
            quotas.check_entitled(tenant, specification, specification)


async def test_subscriptions_are_counted(store: RecordStore) -> None:
    quotas = Quotas([PartnerConfig(id="acme", quota=QuotaConfig(hubs=1))])
    records = store.of("acme")
    quotas.check_hubs(records)
    await records.create(Kind.HUB, {"id": "h", "callback": "https://a.example", "api": "serviceOrdering"})

    with pytest.raises(OverCapacity, match="may have 1"):
        quotas.check_hubs(records)
