"""Strategies: what devices may say, in any order."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import strategies as st

from domain_twin.model import Delete, Sync, Update, UpdateBatch, Value

SECOND = 1_000_000_000
START = 1_800_000_000 * SECOND

DEVICES = ("warsaw", "gdansk")
NAMES = ("eth0", "a/b", "it's", "x]y[z='1'")


def _quoted(name: str) -> str:
    return f'"{name}"' if "'" in name else f"'{name}'"


ENTRIES = tuple(f"/ietf-interfaces:interfaces/interface[name={_quoted(name)}]" for name in NAMES)
LEAVES = (
    *(f"{entry}/{leaf}" for entry in ENTRIES for leaf in ("oper-status", "statistics/in-octets")),
    "/fedtwin-core:network-function/workers",
    "/fedtwin-core:network-function/performance/one-way-delay",
    "/fedtwin-core:network-function/sNSSAIList",
)
SUBTREES = (
    *LEAVES,
    *ENTRIES,
    f"{ENTRIES[0]}/statistics",
    "/ietf-interfaces:interfaces/interface",
    "/ietf-interfaces:interfaces",
    "/fedtwin-core:network-function",
    "/fedtwin-core",
    "/",
)

values: st.SearchStrategy[Value] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(0, 2),
    st.sampled_from([0.0, 1.0, Decimal("1"), Decimal("1.0"), Decimal("0.5")]),
    st.sampled_from(["", "up", "1", b"1", ("1", "2"), (), (1, True), (True, 1), 2**63]),
)
devices = st.sampled_from(DEVICES)
# Mostly now or a little before; sometimes unknown, far off, or long ago.
offsets = st.sampled_from([0, 0, 0, -1, -SECOND, -2 * SECOND, -3600 * SECOND, 3600 * SECOND, None])
steps = st.sampled_from([1, SECOND, SECOND, 10 * SECOND, 31 * SECOND])


@st.composite
def batch_sequences(draw: st.DrawFn, max_size: int = 12) -> list[UpdateBatch]:
    """Batches of two sources in the order in which they were received."""
    now = START
    batches = []
    for _ in range(draw(st.integers(1, max_size))):
        now += draw(steps)

        def observed(at: int = now) -> int:
            offset = draw(offsets)
            return 0 if offset is None else at + offset

        updates = tuple(
            Update(draw(devices), draw(st.sampled_from(LEAVES)), draw(values), observed())
            for _ in range(draw(st.integers(0, 6)))
        )
        deletes = tuple(
            Delete(draw(devices), draw(st.sampled_from(SUBTREES)), observed())
            for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2])))
        )
        batches.append(
            UpdateBatch(
                source=draw(st.sampled_from(("gnmi", "netconf"))),
                received_at=now,
                updates=updates,
                deletes=deletes,
                sync=draw(st.sampled_from([Sync.NONE, Sync.NONE, Sync.BEGIN, Sync.END])),
            )
        )
    return batches
