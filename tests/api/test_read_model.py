"""The read model and what feeds it: order, removal, beginning anew, what the operator publishes, and age."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain_twin.errors import Unreachable
from federation.partners.record import PUBLIC, Kind, News, Record
from twin_api.follower import keep_fed
from twin_api.read_model import ReadModel

ORDER = Kind.SERVICE_ORDER


def present(record: Record) -> dict[str, Any]:
    return {"id": record.id, **record.body}


def record(identity: str, sequence: int, tenant: str = "acme", **body: Any) -> Record:
    return Record(tenant, ORDER, identity, sequence, sequence, {"id": identity, **body}, 0)


def removed(identity: str, sequence: int, tenant: str = "acme") -> Record:
    return Record(tenant, ORDER, identity, sequence, sequence, {}, 0)


def news(*records: Record, sequence: int = 0, **words: Any) -> News:
    return News(records, "one", sequence or max((each.sequence for each in records), default=0), **words)


def begun(*records: Record) -> ReadModel:
    model = ReadModel(present)
    model.take(news(*records, complete=True, begins_anew=True))
    return model


def ids(model: ReadModel, tenant: str = "acme") -> list[str]:
    shelf = model.shelf(tenant, ORDER)
    return [entry.record.id for entry in shelf.page(shelf.all, 0, 100)]


def test_nothing_is_read_before_everything_was_sent_once() -> None:
    model = ReadModel(present)

    for part in (news(record("1", 1), begins_anew=True), news(record("2", 2))):
        model.take(part)
        assert not model.complete
        with pytest.raises(Unreachable):
            model.shelf("acme", ORDER)
    model.take(news(complete=True, sequence=2))

    assert model.complete
    assert ids(model) == ["2", "1"]


def test_the_newest_comes_first_and_a_change_does_not_move_it() -> None:
    model = begun(record("1", 1), record("2", 2))

    model.apply(record("1", 3, state="held"))
    model.apply(record("3", 4))

    assert ids(model) == ["3", "2", "1"]
    entry = model.get("acme", ORDER, "1")
    assert entry is not None
    assert entry.shown["state"] == "held"
    assert entry.data == b'{"id":"1","state":"held"}'


def test_tenants_do_not_see_each_other() -> None:
    model = begun(record("1", 1), record("2", 2, "globex"))

    assert (ids(model), ids(model, "globex"), ids(model, "nobody")) == (["1"], ["2"], [])
    assert model.get("globex", ORDER, "1") is None


def test_what_is_older_than_what_is_held_changes_nothing() -> None:
    model = begun(record("1", 5, state="new"))

    model.apply(record("1", 4, state="old"))
    model.apply(removed("1", 3))

    entry = model.get("acme", ORDER, "1")
    assert entry is not None
    assert entry.record.body["state"] == "new"


def test_what_was_removed_does_not_come_back_by_older_news() -> None:
    model = begun(record("1", 1))

    model.remove("acme", ORDER, "1", 7)
    model.take(news(record("1", 6), complete=True))
    assert ids(model) == []
    model.take(news(removed("1", 7), complete=True))
    model.take(news(record("1", 8), complete=True))

    assert ids(model) == ["1"]


def test_old_records_are_read_until_the_new_ones_are_complete() -> None:
    model = begun(record("1", 1), record("2", 2))

    model.take(News((record("3", 1),), "two", 0, begins_anew=True))
    assert ids(model) == ["2", "1"]
    model.apply(record("9", 9))
    assert ids(model) == ["9", "2", "1"]
    model.take(News((record("4", 2),), "two", 2, complete=True))

    assert ids(model) == ["4", "9", "3"]
    assert (model.epoch, model.sequence) == ("two", 2)


def test_a_half_sent_beginning_is_forgotten_with_its_stream() -> None:
    model = begun(record("1", 1))
    model.take(News((record("3", 1),), "two", 0, begins_anew=True))

    assert model.resume() == (1, "one")
    model.take(news(record("2", 2), complete=True))

    assert ids(model) == ["2", "1"]


def test_whom_the_broker_serves_is_known_once_it_has_said_so() -> None:
    model = begun()
    assert model.serves("anybody")  # a broker that does not say

    model.take(News((), "two", 1, begins_anew=True, complete=True, tenants=frozenset({"acme"})))
    model.take(news(record("1", 2), complete=True))

    assert (model.serves("acme"), model.serves("anybody"), model.serves("")) == (True, False, False)


def test_what_the_operator_publishes_is_seen_by_all_and_hidden_by_their_own() -> None:
    model = begun(record("p", 1, PUBLIC, by="operator"), record("1", 2))
    assert (ids(model), ids(model, "new")) == (["1", "p"], ["p"])

    model.apply(record("q", 3, PUBLIC))
    model.apply(record("p", 4, by="acme"))
    model.apply(record("p", 5, PUBLIC, by="operator again"))

    def by(tenant: str) -> Any:
        entry = model.get(tenant, ORDER, "p")
        return entry.record.body["by"] if entry else None

    assert (by("acme"), by("new"), by(PUBLIC)) == ("acme", "operator again", "operator again")
    model.apply(removed("p", 6))
    assert (by("acme"), by("new")) == ("operator again", "operator again")
    model.apply(removed("p", 7, PUBLIC))
    assert (by("acme"), by("new"), by(PUBLIC)) == (None, None, None)
    assert (ids(model), ids(model, "new"), ids(model, "later")) == (["q", "1"], ["q"], ["q"])


TENANTS = st.sampled_from([PUBLIC, "a", "b"])
STEPS = st.lists(
    st.tuples(TENANTS, st.sampled_from("123"), st.booleans(), st.sampled_from(["", "a", "b"])), max_size=30
)


@given(STEPS, st.randoms(use_true_random=False))
def test_any_order_of_telling_gives_the_newest_of_each(
    steps: list[tuple[str, str, bool, str]], rng: Any
) -> None:
    told = [
        removed(identity, n, tenant) if gone else record(identity, n, tenant, n=n)
        for n, (tenant, identity, gone, _) in enumerate(steps, 1)
    ]
    model = begun()
    for (_, _, _, looks), each in zip(steps, rng.sample(told, len(told)), strict=True):
        model.apply(each)
        if looks:
            model.shelf(looks, ORDER)  # a shelf begins with what is published at that moment

    newest = {(each.tenant, each.id): each for each in told}
    for tenant in (PUBLIC, "a", "b", "c"):
        seen = {
            each.id: each.body
            for owner in (PUBLIC, tenant)
            for (whose, _), each in newest.items()
            if whose == owner and each.body
        }
        shelf = model.shelf(tenant, ORDER)
        assert {name: entry.record.body for name, entry in shelf.entries().items()} == seen


def test_a_model_says_how_old_it_is() -> None:
    clock: Iterator[float] = iter([10.0, 12.5, 13.0, 14.0])
    model = ReadModel(present, clock=lambda: next(clock))
    assert model.age_s() == float("inf")

    model.take(news(complete=True, begins_anew=True))

    assert model.age_s() == 2.5
    model.take(news(complete=True))
    assert model.age_s() == 1.0


async def test_waiting_for_a_newer_version_ends_when_it_comes_or_in_time() -> None:
    model = begun(record("1", 1))
    loop = asyncio.get_running_loop()
    loop.call_later(0.01, model.apply, record("2", 2))
    loop.call_later(0.05, model.apply, record("1", 3))

    assert await model.newer("acme", ORDER, "1", than=1, within_s=30)
    assert not await model.newer("acme", ORDER, "1", than=3, within_s=0.01)
    loop.call_later(0.01, model.apply, removed("1", 4))
    assert await model.newer("acme", ORDER, "1", than=3, within_s=30)


class Streams:
    """Streams that are followed one after another; each ends with an error, silence, or at once."""

    def __init__(self, *streams: list[News | Exception | None]) -> None:
        self._streams = list(streams)
        self.asked: list[tuple[int, str]] = []
        self.closed = 0

    async def follow(self, after: int = 0, epoch: str = "") -> AsyncGenerator[News, None]:
        self.asked.append((after, epoch))
        try:
            for each in self._streams.pop(0) if self._streams else [None]:
                if each is None:
                    await asyncio.sleep(3600)
                elif isinstance(each, Exception):
                    raise each
                else:
                    yield each
        finally:
            self.closed += 1


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not holds():  # noqa: ASYNC110  # nothing tells of it
            await asyncio.sleep(0.01)


async def test_a_follower_goes_on_where_the_stream_broke() -> None:
    model = ReadModel(present)
    streams = Streams(
        [Unreachable("the broker is not there yet")],
        [news(record("1", 1), begins_anew=True), Unreachable("half of it")],
        [news(record("1", 1), record("2", 2), begins_anew=True, complete=True), Unreachable("later")],
        [],
        [news(record("3", 3), complete=True), None],
        [News((record("9", 1),), "two", 1, complete=True, begins_anew=True), None],
    )
    task = asyncio.create_task(keep_fed(model, streams, silence_s=0.3))

    await until(lambda: len(streams.asked) >= 6 and model.epoch == "two")
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert streams.asked[:6] == [(0, ""), (0, ""), (0, ""), (2, "one"), (2, "one"), (3, "one")]
    assert ids(model) == ["9"]
    assert streams.closed == len(streams.asked)
