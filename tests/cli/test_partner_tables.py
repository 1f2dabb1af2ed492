"""What a partner's commands show, and how they name things; no api is asked."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator, Awaitable, Callable

import click
import pytest
from rich.console import Console, RenderableType

from domain_twin.errors import NotFound, OperationRejected, TwinError
from federation.cli import order, scenario, twin
from federation.cli.asking_api import gone_by, resolve
from federation.cli.demo.partnering import counted, gateway
from twin_api.client import ApiError, Order, Resource, Run, Threshold, Twin

TWINS = [
    Twin({"id": "aaaa-1", "name": "lines", "state": "active"}),
    Twin({"id": "aaaa-2", "name": "lines", "state": "terminated"}),
    Twin({"id": "aabb-3", "name": "other", "state": "active"}),
    Twin({"id": "aabb-4", "name": "other", "state": "active"}),
]


def text(item: RenderableType) -> str:
    console = Console(file=io.StringIO(), width=100)
    console.print(item)
    found = console.file
    assert isinstance(found, io.StringIO)
    return found.getvalue()


def point(name: str, kind: str, **own: object) -> Resource:
    told = [{"name": key, "value": value} for key, value in {"domain": "ran", **own}.items()]
    return Resource({"id": name, "name": name, "category": kind, "resourceCharacteristic": told})


def segment(source: str, target: str, delay_ms: float) -> Resource:
    ends = [
        {"relationshipType": role, "resource": {"name": name}}
        for role, name in (("source", source), ("target", target))
    ]
    body = dict(point(f"{source} to {target}", "segment", delayMs=delay_ms).body)
    return Resource({**body, "resourceRelationship": ends})


def among(twins: list[Twin]) -> tuple[Callable[[str], Awaitable[Twin]], Callable[[], AsyncIterator[Twin]]]:
    async def get(identity: str) -> Twin:
        for each in twins:
            if each.id == identity:
                return each
        raise ApiError(404, "notFound", "there is no service of this id")

    async def every() -> AsyncIterator[Twin]:
        for each in twins:
            yield each

    return get, every


@pytest.mark.parametrize(
    ("asked", "found"),
    [("aaaa-2", "aaaa-2"), ("lines", "aaaa-1"), ("aaaa", "aaaa-1"), ("aabb-3", "aabb-3")],
)
async def test_a_twin_is_found_by_id_name_and_beginning_living_ones_first(asked: str, found: str) -> None:
    get, every = among(TWINS)

    assert (await resolve(asked, get, every, "twin")).id == found


@pytest.mark.parametrize(
    ("asked", "words"), [("other", "name of 2 twins: aabb-3, aabb-4"), ("aabb", "give the id")]
)
async def test_what_fits_several_is_not_guessed(asked: str, words: str) -> None:
    get, every = among(TWINS)

    with pytest.raises(NotFound, match=words):
        await resolve(asked, get, every, "twin")


@pytest.mark.parametrize("asked", ["aa", "nothing"])
async def test_what_fits_none_is_answered_as_the_api_answers(asked: str) -> None:
    get, every = among(TWINS)

    with pytest.raises(ApiError, match="no service of this id"):
        await resolve(asked, get, every, "twin")


def test_other_troubles_are_not_taken_for_an_unknown_name() -> None:
    async def refused(_: str) -> Twin:
        raise ApiError(403, "forbidden", "the scope does not suffice")

    async def asked() -> None:
        with pytest.raises(ApiError, match="scope"):
            await resolve("lines", refused, among(TWINS)[1], "twin")

    import asyncio

    asyncio.run(asked())


@pytest.mark.parametrize(
    ("state", "words"), [("inProgress", "in progress"), ("completed", "completed"), ("", "unknown")]
)
def test_states_are_written_as_people_do(state: str, words: str) -> None:
    assert order.words(state) == words


def test_thresholds_are_read_from_options() -> None:
    found = scenario.thresholds(10.0, 0.001, ["delayP99<=20", "throughput>=5e2"])

    assert found == [
        Threshold("delay", upper=10.0, unit="ms"),
        Threshold("loss", upper=0.001),
        Threshold("delayP99", upper=20.0),
        Threshold("throughput", lower=500.0),
    ]
    assert [scenario.bounds(each) for each in found][::3] == [
        "delay at most 10 ms",
        "throughput at least 500",
    ]


@pytest.mark.parametrize(
    "given", ["delay", "delay<=", "<=3", "delay<=much", "delay>=inf", "delay<=nan", "delay=3"]
)
def test_a_threshold_that_is_none_is_refused(given: str) -> None:
    with pytest.raises(click.BadParameter, match="METRIC<=NUMBER"):
        scenario.thresholds(None, None, [given])


@pytest.mark.parametrize("life", ["0s", "soon"])
def test_a_life_is_longer_than_nothing(life: str) -> None:
    with pytest.raises(click.BadParameter):
        order.moment_after(life)


def test_waiting_too_long_is_one_sentence() -> None:
    with (
        pytest.raises(OperationRejected, match="order 7 is still inProgress after 2 s; look again"),
        order.overdue("order 7"),
    ):
        raise TimeoutError("still inProgress after 2 s")
    with pytest.raises(NotFound), order.overdue("order 7"):
        raise NotFound("x")
    assert issubclass(OperationRejected, TwinError)


def test_orders_show_what_was_refused() -> None:
    refused = {"errorMessage": [{"code": "62", "message": "edge shares nothing with you"}]}
    item = {"id": "1", "action": "add", "service": {"id": "t1"}, **refused}
    found = Order({"id": "o1", "state": "partial", "serviceOrderItem": [item, {**item, "id": "2"}]})

    shown = text(order.orders_table([found]))

    assert found.problems == ("edge shares nothing with you",)
    assert "edge shares nothing with you" in shown
    assert "partial" in shown


def test_resources_show_figures_and_where_they_lead() -> None:
    shown = text(
        twin.resources_table(
            [
                segment("ran/cell-1", "ran/idl-a", 2.5),
                point("ran/idl-a", "borderPoint", linkId="urn:ndt:idl:a", peerDomain="transport"),
                point("ran/cell-1", "endPoint", role="cell"),
            ]
        )
    )

    lines = [line.rstrip() for line in shown.splitlines()]
    assert lines[1].startswith("ran/cell-1 ")
    assert lines[1].endswith("cell")
    assert lines[2].endswith("to transport: urn:ndt:idl:a")
    assert "ran/cell-1 > ran/idl-a" in lines[3]
    assert "2.500 ms" in lines[3]


def test_runs_that_have_no_verdict_show_why() -> None:
    told = [{"name": "verdict", "value": "inconclusive"}, {"name": "problem", "value": "no domain took part"}]
    failed = Run({"id": "r1", "state": "failed", "characteristic": told})
    unsure = Run({"id": "r2", "state": "completed", "characteristic": told[:1]})

    assert "no domain took part" in text(scenario.runs_table([failed]))
    assert scenario.verdict(unsure).plain == "inconclusive"
    assert not failed.passed
    assert not unsure.passed


def test_ages_of_odd_times_are_empty() -> None:
    assert gone_by("") == gone_by("yesterday") == ""
    assert gone_by("2020-01-01T00:00:00Z").endswith(" d")


def test_the_way_out_is_behind_the_nearest_border_point() -> None:
    inside = [
        point("ran/idl-a", "borderPoint", linkId="urn:ndt:idl:a"),
        point("ran/idl-b", "borderPoint", linkId="urn:ndt:idl:b"),
        point("ran/cell-1", "endPoint"),
        segment("ran/cell-1", "ran/idl-a", 3.0),
        segment("ran/cell-1", "ran/idl-b", 2.0),
        segment("ran/cell-2", "ran/idl-a", 1.0),
        segment("ran/cell-1", "ran/cell-2", 0.5),
    ]

    assert gateway(inside, "ran/cell-1") == "urn:ndt:idl:b"
    assert counted(inside) == {"ran": {"borderPoint": 2, "endPoint": 1, "segment": 4}}
    with pytest.raises(NotFound, match="no way from edge/x"):
        gateway(inside, "edge/x")
