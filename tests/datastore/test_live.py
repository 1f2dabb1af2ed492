"""The live store against its rules, one by one and at random."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from naive_store import NaiveStore, typed
from store_batches import LEAVES, SECOND, START, SUBTREES, batch_sequences

from domain_twin.datastore.live import AHEAD, LATE, LiveStore, folded
from domain_twin.datastore.tree import PathTree, parent_of
from domain_twin.errors import NotFound
from domain_twin.model import Delete, Delta, Origin, Sync, Update, UpdateBatch, Value, Version
from domain_twin.yang.paths import covers

ETH0 = "/ietf-interfaces:interfaces/interface[name='eth0']"
OPER = f"{ETH0}/oper-status"


def batch(*updates: Update, at: int = START, source: str = "warsaw", sync: Sync = Sync.NONE) -> UpdateBatch:
    return UpdateBatch(source, at, updates, sync=sync)


def oper(value: Value, observed_at: int = START, device: str = "warsaw") -> Update:
    return Update(device, OPER, value, observed_at)


def state_of(store: LiveStore) -> dict[tuple[str, str], object]:
    return {(device, path): typed(leaf.value) for device, path, leaf in store.snapshot().items()}


def replayed(deltas: list[Delta], state: dict[tuple[str, str], object]) -> dict[tuple[str, str], object]:
    state = dict(state)
    for delta in deltas:
        for change in delta.changes:
            if change.deleted:
                state.pop((change.device, change.path), None)
            else:
                state[change.device, change.path] = typed(change.value)
    return state


@given(batch_sequences())
def test_store_equals_the_rules_on_plain_dictionaries(batches: list[UpdateBatch]) -> None:
    store, naive = LiveStore(), NaiveStore()
    for item in batches:
        before = state_of(store)
        delta = store.apply(item)
        naive.apply(item)
        assert state_of(store) == naive.state()
        assert replayed([delta] if delta else [], before) == naive.state()
        stale = {device for device, _ in naive.stale}
        assert store.stale_devices() == stale


@given(batch_sequences(), st.integers(0, 12))
def test_ring_replays_to_the_same_state(batches: list[UpdateBatch], start: int) -> None:
    store = LiveStore(epoch="e")
    snapshots = [store.snapshot()]
    for item in batches:
        if store.apply(item):
            snapshots.append(store.snapshot())
    then = snapshots[min(start, len(snapshots) - 1)]

    deltas = store.since(then.version)

    assert deltas is not None
    state = {(device, path): typed(leaf.value) for device, path, leaf in then.items()}
    assert replayed(deltas, state) == state_of(store)
    fold = folded(deltas)
    if fold is not None:
        assert (fold.source, fold.target) == (then.version, store.version)
        assert replayed([fold], state) == state_of(store)
    versions = [delta.target.sequence for delta in deltas]
    assert versions == list(range(then.version.sequence + 1, store.version.sequence + 1))


@given(batch_sequences())
def test_snapshot_never_changes(batches: list[UpdateBatch]) -> None:
    store = LiveStore()
    taken = []
    for item in batches:
        taken.append((store.snapshot(), store.state_hash()))
        store.apply(item)
    for snapshot, digest in taken:
        assert snapshot.state_hash() == digest


@given(st.lists(st.tuples(st.booleans(), st.sampled_from(LEAVES))), st.sampled_from(SUBTREES))
def test_tree_finds_what_lies_below(steps: list[tuple[bool, str]], top: str) -> None:
    tree, paths = PathTree(), set[str]()
    for keep, path in steps:
        if keep:
            tree.add(path)
            paths.add(path)
        else:
            tree.discard(path)
            paths.discard(path)
    assert tree.below(top) == sorted(path for path in paths if covers(top, path))


def test_parent_ignores_slashes_and_brackets_in_keys() -> None:
    entry = "/m:list[name='a/b]c[d']"
    assert parent_of(f"{entry}/leaf") == entry
    assert parent_of(entry) == ""
    assert parent_of("/m:a/b[k=\"it's/\"][l='2']") == "/m:a"


def test_equal_value_refreshes_times_without_a_change() -> None:
    store = LiveStore()
    first = store.apply(batch(oper("up")))
    again = store.apply(batch(oper("up", START + 5), at=START + 7))
    leaf = store.get(OPER)["warsaw", OPER]
    assert first is not None
    assert again is None
    assert (leaf.observed_at, leaf.received_at) == (START + 5, START + 7)
    assert store.version == first.target


@pytest.mark.parametrize(
    ("old", "new"), [(float("nan"), float("nan")), (0.0, -0.0), (Decimal("1"), Decimal("1.0")), ((), ())]
)
def test_equal_value_in_another_form_is_no_change(old: Value, new: Value) -> None:
    store = LiveStore()
    store.apply(batch(oper(old)))
    digest = store.state_hash()
    assert store.apply(batch(oper(new))) is None
    assert store.state_hash() == digest


@pytest.mark.parametrize(("old", "new"), [(1, True), (1, 1.0), ("1", b"1"), ((1,), (True,)), (None, "")])
def test_equal_value_of_another_type_is_a_change(old: Value, new: Value) -> None:
    store = LiveStore()
    store.apply(batch(oper(old)))
    assert store.apply(batch(oper(new))) is not None


def test_other_origin_is_a_change() -> None:
    store = LiveStore()
    store.apply(batch(oper("up")))
    assert store.apply(batch(oper("up")._replace(origin=Origin.IMPUTED))) is not None


def test_older_device_time_loses_and_is_counted() -> None:
    store = LiveStore()
    store.apply(batch(oper("up", START)))
    assert store.apply(batch(oper("down", START - 1), at=START + SECOND)) is None
    freshness = store.freshness("warsaw")
    assert freshness is not None
    assert freshness.late == 1
    assert store.get(OPER)["warsaw", OPER].value == "up"


def test_device_whose_clock_was_set_back_is_believed_again() -> None:
    store = LiveStore()
    store.apply(batch(oper("up", START)))
    delta = store.apply(batch(oper("down", START - 3600 * SECOND), at=START + LATE))
    assert delta is not None


@pytest.mark.parametrize("back", [60, 3600])
def test_every_device_is_believed_when_the_agents_own_clock_was_set_back(back: int) -> None:
    """Device times then seem to lie ahead, and what was received before seems to come later."""
    store = LiveStore()
    store.apply(batch(oper("up", START)))
    now = START - back * SECOND
    assert store.apply(batch(oper("down", START + SECOND), at=now)) is not None
    assert store.apply(batch(oper("up", START + 2 * SECOND), at=now + SECOND)) is not None
    gone = Delete("warsaw", ETH0, START + 3 * SECOND)
    assert store.apply(UpdateBatch("warsaw", now + 2 * SECOND, deletes=(gone,)))
    assert store.apply(batch(oper("up", START + 4 * SECOND), at=now + 3 * SECOND)) is not None
    freshness = store.freshness("warsaw")
    assert freshness is not None
    assert freshness.late == 0


def test_resync_wins_over_device_time() -> None:
    store = LiveStore()
    store.apply(batch(oper("up", START)))
    store.apply(batch(sync=Sync.BEGIN))
    assert store.apply(batch(oper("down", START - 1))) is not None


@pytest.mark.parametrize("stated", [0, -5, START + AHEAD + 1])
def test_impossible_device_time_is_replaced_by_reception(stated: int) -> None:
    store = LiveStore()
    store.apply(batch(oper("up", stated)))
    assert store.get(OPER)["warsaw", OPER].observed_at == START
    assert store.apply(batch(oper("down", START + SECOND), at=START + SECOND)) is not None


def test_delete_outlives_an_update_that_it_overtook() -> None:
    store = LiveStore()
    store.apply(batch(oper("up", START)))
    store.apply(UpdateBatch("warsaw", START + 2, deletes=(Delete("warsaw", ETH0, START + 2),)))
    assert store.apply(batch(oper("down", START + 1), at=START + 3)) is None
    assert store.apply(batch(oper("down", START + 3), at=START + 3)) is not None


def test_replace_with_equal_values_is_no_change() -> None:
    store = LiveStore()
    store.apply(batch(oper("up"), Update("warsaw", f"{ETH0}/enabled", True, START)))
    delta = store.apply(
        UpdateBatch("warsaw", START + 1, (oper("up", START + 1),), (Delete("warsaw", ETH0, START + 1),))
    )
    assert delta is not None
    assert [(change.path, change.deleted) for change in delta.changes] == [(f"{ETH0}/enabled", True)]


def test_end_deletes_what_was_not_repeated_by_its_source_only() -> None:
    store = LiveStore()
    store.apply(batch(oper("up"), oper("up", device="gdansk"), source="controller"))
    store.apply(batch(Update("warsaw", "/m:other", 1, START), source="warsaw/netconf"))
    store.apply(batch(oper("up"), source="controller", sync=Sync.BEGIN))
    delta = store.apply(batch(source="controller", sync=Sync.END))
    assert delta is not None
    assert [(change.device, change.deleted) for change in delta.changes] == [("gdansk", True)]
    assert set(store.get("/")) == {("warsaw", OPER), ("warsaw", "/m:other")}


def test_stale_device_is_fresh_after_end() -> None:
    store = LiveStore()
    store.apply(batch(oper("up")))
    assert store.mark_stale("warsaw")
    assert not store.mark_stale("warsaw")
    store.apply(batch(oper("up"), sync=Sync.BEGIN))
    assert store.stale_devices() == {"warsaw"}
    store.apply(batch(sync=Sync.END))
    assert store.stale_devices() == frozenset()


def test_interrupted_resync_deletes_nothing() -> None:
    store = LiveStore()
    store.apply(batch(oper("up")))
    store.apply(batch(sync=Sync.BEGIN))
    store.mark_stale("warsaw", "warsaw")
    assert store.apply(batch(sync=Sync.END)) is None
    assert len(store) == 1


def test_source_heard_without_news_keeps_its_devices_fresh() -> None:
    store = LiveStore()
    store.apply(batch(oper("up")))
    store.apply(batch(at=START + 5 * SECOND))
    freshness = store.freshness("warsaw")
    assert freshness is not None
    assert freshness.received_at == START + 5 * SECOND
    assert freshness.lag_ns == 5 * SECOND


def test_ring_is_bounded_and_says_when_it_is_too_short() -> None:
    store = LiveStore(ring_changes=3)
    start = store.version
    for number in range(5):
        store.apply(batch(oper(number)))
    assert store.since(start) is None
    assert store.since(Version("other", 4)) is None
    assert store.since(Version(start.epoch, 9)) is None
    assert [d.target.sequence for d in store.since(Version(start.epoch, 3)) or []] == [4, 5]
    assert store.since(store.version) == []


def test_forget_deletes_a_device() -> None:
    store = LiveStore()
    store.apply(batch(oper("up"), oper("up", device="gdansk")))
    delta = store.forget("gdansk", now=START)
    assert delta is not None
    assert store.devices() == ("warsaw",)
    store.apply(batch())  # the source is heard of again
    assert store.devices() == ("warsaw",)


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        (OPER, True),
        (ETH0, True),
        ("/ietf-interfaces:interfaces/interface", True),
        ("/ietf-interfaces:interfaces/interface/oper-status", True),
        ("/interfaces/interface[name=*]/oper-status", True),
        ("/interfaces/*/oper-status", True),
        ("/*", True),
        ("/", True),
        ("/ietf-interfaces:interfaces/interface[name='eth1']", False),
        ("/ietf-interfaces:interfaces/inter", False),
        ("/ietf-inter", False),
    ],
)
def test_get_finds_what_a_pattern_names(pattern: str, found: bool) -> None:
    store = LiveStore()
    store.apply(batch(oper("up")))
    expected = {("warsaw", OPER)} if found else set()
    assert set(store.get(pattern)) == expected
    assert set(store.snapshot().get(pattern)) == expected
    assert store.get(pattern, "gdansk") == {}


def test_unreadable_pattern_names_the_place() -> None:
    with pytest.raises(NotFound, match=r"character 5 .*accepted is"):
        LiveStore().get("/a:b[")


def imputed(value: Value, device: str = "warsaw", path: str = OPER) -> Update:
    return Update(device, path, value, 0, Origin.IMPUTED)


def test_imputed_value_stands_in_only_where_the_session_is_lost() -> None:
    store = LiveStore()
    store.apply(batch(oper("up")))
    assert store.impute([imputed("down")], now=START + SECOND) is None
    store.mark_stale("warsaw")
    delta = store.impute([imputed("down"), imputed("x", path=f"{ETH0}/mtu")], now=START + SECOND)
    assert delta is not None
    assert [(change.path, change.origin) for change in delta.changes] == [(OPER, Origin.IMPUTED)]
    freshness = store.freshness("warsaw")
    assert freshness is not None
    assert (freshness.received_at, freshness.stale, freshness.updates) == (START, True, 1)


def test_measurement_wins_over_an_imputed_value_whatever_its_time() -> None:
    store = LiveStore()
    store.apply(batch(oper("up")))
    store.mark_stale("warsaw")
    store.impute([imputed("down")], now=START + 5 * SECOND)
    assert store.apply(batch(oper("down", START + SECOND), at=START + 6 * SECOND)) is not None
    leaf = store.get(OPER)["warsaw", OPER]
    assert (leaf.value, leaf.origin) == ("down", Origin.MEASURED)


def test_imputed_value_goes_with_what_its_source_does_not_repeat() -> None:
    store = LiveStore()
    store.apply(batch(oper("up")))
    store.mark_stale("warsaw")
    store.impute([imputed("down")], now=START + SECOND)
    store.apply(batch(sync=Sync.BEGIN, at=START + 2 * SECOND))
    store.apply(batch(sync=Sync.END, at=START + 3 * SECOND))
    assert store.get(OPER) == {}
    assert store.stale_devices() == frozenset()
