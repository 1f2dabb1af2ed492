"""What waits between sessions and twin: conflated, bounded, fair, counted, and made good by a resync."""

from __future__ import annotations

import asyncio
import contextlib
import time
from contextlib import asynccontextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain_twin.datastore.live import LiveStore
from domain_twin.model import Connection, Delete, DeviceStatus, Sync, Update, UpdateBatch
from domain_twin.southbound.conflate import Facts, conflated
from domain_twin.southbound.intake import TURN, Intake
from domain_twin.yang.schema import SchemaSet

STATES = [f"/m:state/leaf[k='{n}']" for n in range(4)]
FACTS = [f"/m:config/leaf[k='{n}']" for n in range(3)]
TREES = ["/m:state", "/m:config", "/m:state/leaf[k='1']", "/m:config/leaf[k='2']"]


def is_fact(path):
    return path.startswith("/m:config")


def batch(number, updates=(), deletes=(), sync=Sync.NONE, source="a"):
    return UpdateBatch(
        source,
        number,
        tuple(Update(source, path, value, number) for path, value in updates),
        tuple(Delete(source, path, number) for path in deletes),
        sync,
    )


def folded(batches):
    """The state after them, and every value that each leaf went through."""
    store, went_through = LiveStore(), {}
    for item in batches:
        delta = store.apply(item)
        for change in delta.changes if delta else ():
            went_through.setdefault(change.path, []).append(None if change.deleted else change.value)
    return {path: leaf.value for (_, path), leaf in store.get("/").items()}, went_through


leaves = st.lists(st.tuples(st.sampled_from(STATES + FACTS), st.integers(0, 3)), max_size=5)
sequences = st.lists(
    st.tuples(
        leaves,
        st.lists(st.sampled_from(TREES), max_size=2),
        st.sampled_from([Sync.NONE, Sync.NONE, Sync.NONE, Sync.BEGIN, Sync.END]),
    ),
    max_size=12,
)


@settings(max_examples=200, deadline=None)
@given(sequences)
def test_conflated_batches_lead_to_the_same_state(sequence):
    items = [batch(number, *parts) for number, parts in enumerate(sequence, 1)]

    left, superseded = conflated(items, is_fact)

    state, _ = folded(items)
    assert folded(left)[0] == state
    assert superseded == sum(len(i.updates) for i in items) - sum(len(i.updates) for i in left)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(leaves, st.lists(st.sampled_from(TREES), max_size=2)), max_size=12))
def test_facts_and_plain_deletes_are_never_conflated(sequence):
    items = [batch(number, *parts) for number, parts in enumerate(sequence, 1)]
    for number, item in enumerate(items):
        if item.deletes and item.updates:  # a replacement may stand for an earlier one
            items[number] = batch(number + 1, [(u.path, u.value) for u in item.updates])

    left, _ = conflated(items, is_fact)

    before, after = folded(items)[1], folded(left)[1]
    assert {p: v for p, v in after.items() if is_fact(p)} == {p: v for p, v in before.items() if is_fact(p)}
    assert [d for i in left for d in i.deletes] == [d for i in items for d in i.deletes]


def test_what_a_resync_repeats_is_never_gone():
    items = [
        batch(1, sync=Sync.BEGIN),
        batch(2, [(STATES[0], 1)]),
        batch(3, sync=Sync.END),
        batch(4, [(STATES[0], 2)]),
    ]

    left, _ = conflated(items, is_fact)

    assert folded(left)[1] == {STATES[0]: [1, 2]}


def test_last_value_of_state_wins():
    items = [batch(n, [(path, n) for path in STATES]) for n in range(1, 1001)]

    left, superseded = conflated(items, is_fact)

    assert [u.value for item in left for u in item.updates] == [1000] * len(STATES)
    assert superseded == 999 * len(STATES)


def test_replacements_stand_for_earlier_ones():
    items = [batch(n, [(STATES[0], n)], ["/m:state"]) for n in range(1, 101)]

    left, _ = conflated(items, is_fact)

    assert len(left) == 1
    assert left[0].deletes == items[-1].deletes


def test_facts_are_configuration_alarms_and_keyless_entries(tmp_path):
    (tmp_path / "m.yang").write_text(
        "module m { yang-version 1.1; namespace urn:m; prefix m; container s { config false;"
        " leaf x { type string; } list log { leaf text { type string; } } } leaf c { type string; } }"
    )
    facts = Facts(SchemaSet.load(["m", "ietf-interfaces", "ietf-alarms"], [tmp_path]))
    interface = "/ietf-interfaces:interfaces/interface[name='a']"
    alarm = "/ietf-alarms:alarms/alarm-list/alarm[resource='r'][alarm-type-id='t'][alarm-type-qualifier='']"

    assert facts(f"{interface}/enabled")
    assert facts(f"{alarm}/is-cleared")
    assert facts("/m:s/log[3]/text")
    assert facts("/m:c")
    assert not facts(f"{interface}/statistics/in-octets")
    assert not facts("/m:s/x")
    assert not facts("/nobody:knows")


class Twin:
    """An intake with a live store behind it; consumes only while `run` is entered."""

    def __init__(self, max_bytes=1_000_000):
        self.store = LiveStore()
        self.taken = []
        self.statuses = []
        self.overloads = []
        self.broken = False
        self.intake = Intake(
            max_bytes=max_bytes,
            keep=is_fact,
            consume=self.consume,
            on_status=self.statuses.append,
            on_overload=self.overloads.append,
        )

    def consume(self, item):
        if self.broken:
            raise ZeroDivisionError("bug")
        self.taken.append(item)
        self.store.apply(item)

    @asynccontextmanager
    async def consuming(self):
        task = asyncio.create_task(self.intake.run())
        await asyncio.sleep(0)
        yield
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    def values(self, device="a"):
        return {path: leaf.value for (_, path), leaf in self.store.get("/", device).items()}

    async def resync(self, lane, state, source="a"):
        """What a mirror does when it is told to begin anew."""
        async with asyncio.timeout(20):
            await lane.begin_anew.wait()
        await self.intake.offer(lane, batch(10**9, sync=Sync.BEGIN, source=source))
        await self.intake.offer(lane, batch(10**9, state.items(), source=source))
        await self.intake.offer(lane, batch(10**9, sync=Sync.END, source=source))


async def until(condition):
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110 - what it waits for has no event
            await asyncio.sleep(0.001)


async def test_nothing_waits_while_the_consumer_keeps_up():
    twin = Twin()
    lane = twin.intake.lane("a")
    async with twin.consuming():
        for number in range(1, 200):
            await twin.intake.offer(lane, batch(number, [(STATES[0], number)]))
            await asyncio.sleep(0)

    assert twin.intake.most_bytes == 0
    assert len(twin.taken) == 199


async def test_order_of_one_source_is_kept_between_what_waited_and_what_did_not():
    twin = Twin()
    lane = twin.intake.lane("a")
    async with twin.consuming():
        for number in range(1, 5000):
            await twin.intake.offer(lane, batch(number, [(FACTS[0], number)]))
            if number % 700 == 0:
                await asyncio.sleep(0)
        await until(lambda: twin.intake.waiting_bytes == 0)

    assert [item.received_at for item in twin.taken] == list(range(1, 5000))


async def test_flood_at_a_stalled_consumer_is_bounded_and_counted_and_made_good():
    twin = Twin(max_bytes=500_000)
    lane = twin.intake.lane("a")
    state = {}
    for number in range(1, 1001):
        paths = [(f"/m:state/leaf[k='{number * 50 + k}']", number) for k in range(50)]
        state |= dict(paths)
        await twin.intake.offer(lane, batch(number, paths))

    counters = twin.intake.counters()["a"]
    assert twin.intake.most_bytes <= 500_000
    assert counters.offered == 50_000
    assert counters.dropped["a"] > 40_000
    assert counters.out_of_step
    assert twin.overloads[0].until == 0

    async with twin.consuming():
        await twin.resync(lane, state)
        await until(lambda: twin.overloads[-1].until)

    assert twin.values() == state
    assert twin.overloads[-1].dropped == {"a": counters.dropped["a"]}
    assert not twin.intake.counters()["a"].out_of_step
    assert twin.intake.counters()["a"].resyncs == 1


async def test_few_leaves_are_conflated_and_never_dropped():
    twin = Twin(max_bytes=500_000)
    lane = twin.intake.lane("a")
    for number in range(1, 20_001):
        await twin.intake.offer(lane, batch(number, [(path, number) for path in STATES]))
    async with twin.consuming():
        await until(lambda: twin.intake.waiting_bytes == 0)

    counters = twin.intake.counters()["a"]
    assert twin.values() == dict.fromkeys(STATES, 20_000)
    assert not counters.dropped
    assert counters.conflated > 70_000
    assert twin.overloads == []


async def test_configuration_events_and_deletes_outlive_the_drop_of_state():
    twin = Twin(max_bytes=500_000)
    lane = twin.intake.lane("a")
    for number in range(1, 401):
        flood = [(f"/m:state/leaf[k='{number * 50 + k}']", number) for k in range(50)]
        await twin.intake.offer(lane, batch(number, [*flood, (FACTS[0], number)]))
    await twin.intake.offer(lane, batch(500, deletes=[FACTS[0]]))
    async with twin.consuming():
        await until(lambda: twin.intake.waiting_bytes == 0)

    seen = [u.value for item in twin.taken for u in item.updates if u.path == FACTS[0]]
    assert seen == list(range(1, 401))
    assert [d.path for item in twin.taken for d in item.deletes] == [FACTS[0]]
    assert not twin.intake.counters()["a"].lost


async def test_flood_of_configuration_is_lost_last_and_not_silently():
    twin = Twin(max_bytes=200_000)
    lane = twin.intake.lane("a")
    for number in range(1, 5001):
        await twin.intake.offer(lane, batch(number, [(FACTS[0], number)]))
        assert twin.intake.waiting_bytes <= 200_000

    assert twin.intake.counters()["a"].lost["a"] > 1000
    assert twin.overloads[-1].source == "a"


async def test_flood_of_one_source_costs_another_nothing():
    twin = Twin(max_bytes=300_000)
    flooding, quiet = twin.intake.lane("flood"), twin.intake.lane("quiet")
    for number in range(1, 301):
        flood = [(f"/m:state/leaf[k='{number * 100 + k}']", number) for k in range(100)]
        await twin.intake.offer(flooding, batch(number, flood, source="flood"))
        if number % 30 == 0:
            await twin.intake.offer(quiet, batch(number, [(STATES[0], number)], source="quiet"))

    assert not twin.intake.counters()["quiet"].dropped
    async with twin.consuming():
        await until(lambda: twin.intake.waiting_bytes == 0)
    assert twin.values("quiet") == {STATES[0]: 300}


async def test_sources_take_turns():
    twin = Twin(max_bytes=50_000_000)
    flooding, quiet = twin.intake.lane("flood"), twin.intake.lane("quiet")
    flood = [(f"/m:state/leaf[k='{k}']", k) for k in range(20 * TURN)]
    await twin.intake.offer(flooding, batch(1, flood, source="flood"))
    await twin.intake.offer(quiet, batch(1, [(STATES[0], 1)], source="quiet"))

    twin.intake.work(time.monotonic() + 60)

    assert [item.source for item in twin.taken].index("quiet") == 1


async def test_event_loop_has_its_turns_while_much_waits():
    twin = Twin(max_bytes=50_000_000)
    lane = twin.intake.lane("a")
    await twin.intake.offer(lane, batch(1, [(f"/m:state/leaf[k='{k}']", k) for k in range(30_000)]))
    turns = 0
    async with twin.consuming():
        while twin.intake.waiting_bytes:
            turns += 1
            await asyncio.sleep(0)

    assert turns > 2
    assert len(twin.values()) == 30_000


async def test_end_of_a_cut_resync_is_not_taken_for_complete():
    twin = Twin(max_bytes=200_000)
    lane = twin.intake.lane("a")
    whole = {f"/m:state/leaf[k='{k}']": k for k in range(5000)}
    async with twin.consuming():
        await twin.intake.offer(lane, batch(1, sync=Sync.BEGIN))
        await twin.intake.offer(lane, batch(2, [(STATES[0], 1)], sync=Sync.END))
        await until(lambda: twin.intake.waiting_bytes == 0)
    await twin.intake.offer(lane, batch(3, sync=Sync.BEGIN))
    await twin.intake.offer(lane, batch(3, list(whole.items())[:300]))
    await twin.intake.offer(lane, batch(3, sync=Sync.END))
    twin.intake.tell(lane, (DeviceStatus("a", "gnmi", Connection.SYNCHRONISED),))
    await twin.intake.offer(lane, batch(4, whole.items()))
    twin.intake.tell(lane, (DeviceStatus("a", "gnmi", Connection.SYNCHRONISED),))
    async with twin.consuming():
        await until(lambda: twin.intake.waiting_bytes == 0)

    assert twin.values() == {STATES[0]: 1}
    assert twin.statuses == []


async def test_source_that_sends_all_it_has_waits_for_room():
    twin = Twin(max_bytes=100_000)
    lane = twin.intake.lane("a")
    whole = {f"/m:state/leaf[k='{k}']": k for k in range(5000)}
    paths = list(whole.items())

    async def send():
        await twin.intake.offer(lane, batch(1, sync=Sync.BEGIN))
        for at in range(0, 5000, 100):
            await twin.intake.offer(lane, batch(1, paths[at : at + 100]))
        await twin.intake.offer(lane, batch(1, sync=Sync.END))

    sending = asyncio.create_task(send())
    await asyncio.sleep(0.05)
    assert not sending.done()
    assert twin.intake.most_bytes < 100_000
    async with twin.consuming():
        async with asyncio.timeout(20):
            await sending
        await until(lambda: twin.intake.waiting_bytes == 0)

    assert twin.values() == whole
    assert twin.overloads == []


async def test_batch_that_breaks_the_twin_is_counted_and_its_source_begins_anew():
    twin = Twin()
    lane = twin.intake.lane("a")
    async with twin.consuming():
        twin.broken = True
        await twin.intake.offer(lane, batch(1, [(STATES[0], 1)]))
        twin.broken = False
        await twin.resync(lane, {STATES[0]: 7})
        await until(lambda: twin.overloads[-1].until)

    assert twin.values() == {STATES[0]: 7}
    assert twin.intake.counters()["a"].failed == 1


async def test_end_of_a_resync_that_broke_proves_nothing():
    twin = Twin()
    lane = twin.intake.lane("a")
    async with twin.consuming():
        await twin.intake.offer(lane, batch(1, [(STATES[0], 1), (STATES[1], 1)]))
        await twin.intake.offer(lane, batch(2, sync=Sync.BEGIN))
        twin.broken = True
        await twin.intake.offer(lane, batch(2, [(STATES[0], 1), (STATES[1], 1)]))
        twin.broken = False
        await twin.intake.offer(lane, batch(3, sync=Sync.END))
        twin.intake.tell(lane, (DeviceStatus("a", "gnmi", Connection.SYNCHRONISED),))

    assert twin.values() == {STATES[0]: 1, STATES[1]: 1}
    assert twin.statuses == []


async def test_source_that_overloads_again_waits_longer():
    twin = Twin(max_bytes=100_000)
    lane = twin.intake.lane("a")
    flood = [(f"/m:state/leaf[k='{k}']", k) for k in range(1000)]
    waits = []
    for _ in range(3):
        await twin.intake.offer(lane, batch(1, flood))
        twin.intake.work(time.monotonic() + 60)
        waits.append(lane._wait_s)
        lane.begin()
        await twin.intake.offer(lane, batch(1, sync=Sync.END))
        twin.intake.work(time.monotonic() + 60)

    assert waits[0] == 0
    assert waits[1:] == sorted(waits[1:])
    assert waits[2] > waits[1] >= 1


async def test_loss_not_made_good_is_told_at_the_end():
    twin = Twin(max_bytes=100_000)
    lane = twin.intake.lane("a")
    await twin.intake.offer(lane, batch(1, [(f"/m:state/leaf[k='{k}']", k) for k in range(1000)]))

    twin.intake.close()

    assert twin.overloads[-1].until
    assert twin.overloads[-1].dropped == {"a": 1000}


@pytest.mark.parametrize("value", ["x" * 1_000_000, b"x" * 1_000_000, ("x" * 500_000, "y" * 500_000)])
async def test_large_values_weigh_what_they_weigh(value):
    twin = Twin(max_bytes=2_500_000)
    lane = twin.intake.lane("a")
    for number in range(5):
        await twin.intake.offer(lane, batch(1, [(f"/m:state/leaf[k='{number}']", value)]))

    assert twin.intake.most_bytes <= 2_500_000
    assert twin.intake.counters()["a"].dropped


async def test_statuses_follow_the_data_that_they_are_about():
    twin = Twin()
    lane = twin.intake.lane("a")
    for number in range(20_000):
        await twin.intake.offer(lane, batch(1, [(STATES[0], number)]))
    for attempt in range(100):
        twin.intake.tell(lane, (DeviceStatus("a", "gnmi", Connection.STALE, reconnects=attempt),))
    assert twin.statuses == []
    async with twin.consuming():
        await until(lambda: twin.statuses)

    assert twin.values() == {STATES[0]: 19_999}
    assert [status.reconnects for status in twin.statuses] == [99]
