"""A replay is what was recorded, batch by batch, value by value."""

from __future__ import annotations

import asyncio
import json
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain_twin.config import ReplayConfig
from domain_twin.errors import ConfigError
from domain_twin.model import Delete, Origin, Sync, Update, UpdateBatch
from domain_twin.southbound.replay import Recorder, ReplaySession, read_recording

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**64), 2**64),
    st.floats(allow_nan=False),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
    st.binary(max_size=4),
    st.decimals(allow_nan=False, allow_infinity=False),
)
VALUES = st.one_of(SCALARS, st.lists(SCALARS, max_size=3).map(tuple))
TIMES = st.integers(0, 2**63)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
UPDATES = st.builds(Update, TEXTS, TEXTS, VALUES, TIMES, st.sampled_from(Origin))
DELETES = st.builds(Delete, TEXTS, TEXTS, TIMES)
BATCHES = st.builds(
    UpdateBatch,
    TEXTS,
    TIMES,
    st.lists(UPDATES, max_size=3).map(tuple),
    st.lists(DELETES, max_size=2).map(tuple),
    st.sampled_from(Sync),
)


def exact(batch):
    """Equal is not enough: 1 == True == 1.0 == Decimal("1.0")."""
    return repr(batch)


@settings(deadline=None)
@given(st.lists(BATCHES, max_size=5), st.sampled_from(["r.jsonl", "r.jsonl.gz"]))
def test_recording_is_lossless(batches, name):
    with TemporaryDirectory() as folder:
        path = Path(folder) / name
        with Recorder(path) as recorder:
            for batch in batches:
                recorder.append(batch)

        assert [exact(batch) for batch in read_recording(path)] == [exact(batch) for batch in batches]


def record(path, *batches):
    with Recorder(path) as recorder:
        for batch in batches:
            recorder.append(batch)


def batch(at_s, *leaves, sync=Sync.NONE, deletes=()):
    at = int(at_s * 1e9)
    return UpdateBatch(
        "a",
        at,
        tuple(Update("a", p, v, at) for p, v in leaves),
        tuple(Delete("a", p, at) for p in deletes),
        sync,
    )


async def replayed(path, speed=1e9, paths=("/",)):
    return [b async for b in ReplaySession("a", ReplayConfig(file=path, speed=speed)).subscribe(paths)]


async def test_replay_yields_the_recorded_batches_and_ends(tmp_path):
    batches = [batch(n, ("/m:a", n)) for n in range(1200)]
    record(tmp_path / "r.jsonl", *batches)

    assert await replayed(tmp_path / "r.jsonl") == batches


async def test_pace_follows_the_speed(tmp_path):
    record(tmp_path / "r.jsonl", batch(0), batch(3))
    loop = asyncio.get_running_loop()
    start = loop.time()
    await replayed(tmp_path / "r.jsonl", speed=10)

    assert loop.time() - start >= 0.29


async def test_paths_narrow_a_replay(tmp_path):
    record(tmp_path / "r.jsonl", batch(0, ("/m:a/b", 1), ("/m:c", 2), deletes=("/m:a", "/m:c")))

    (found,) = await replayed(tmp_path / "r.jsonl", paths=("/m:a/b",))

    assert [update.path for update in found.updates] == ["/m:a/b"]
    assert [delete.path for delete in found.deletes] == ["/m:a"]


async def test_get_is_the_state_at_the_end(tmp_path):
    record(
        tmp_path / "r.jsonl",
        batch(0, ("/m:a", 1), ("/m:b", 1), ("/m:old", 1)),
        batch(1, sync=Sync.BEGIN),
        batch(2, ("/m:a", 2), ("/m:b", 2), ("/m:c/d", Decimal("1.0")), sync=Sync.END),
        batch(3, ("/m:a", 3), deletes=("/m:b",)),
    )
    found = await ReplaySession("a", ReplayConfig(file=tmp_path / "r.jsonl")).get(["/"])

    assert {update.path: update.value for update in found.updates} == {"/m:a": 3, "/m:c/d": Decimal("1.0")}
    assert found.sync is Sync.END


def test_recordings_are_continued(tmp_path):
    record(tmp_path / "r.jsonl", batch(0))
    record(tmp_path / "r.jsonl", batch(1))

    assert list(read_recording(tmp_path / "r.jsonl")) == [batch(0), batch(1)]


def test_half_a_last_line_is_left_out(tmp_path):
    record(tmp_path / "r.jsonl", batch(0), batch(1))
    text = (tmp_path / "r.jsonl").read_text()
    (tmp_path / "r.jsonl").write_text(text[:-5])

    assert list(read_recording(tmp_path / "r.jsonl")) == [batch(0)]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"format": "other"}\n', "not a recording"),
        ("{}\n", "not a recording"),
        ("hello\n", "line 1"),
        ('{"format": "fedtwin-recording", "version": 1}\n{"source": 1}\n', "line 2"),
        ('{"format": "fedtwin-recording", "version": 1}\n[]\n', "line 2"),
        (
            '{"format": "fedtwin-recording", "version": 1}\n'
            + json.dumps({"source": "a", "at": 1, "updates": [["a", "/p", {"x": 1}, 1, "measured"]]})
            + "\n",
            "line 2.*unknown tag",
        ),
    ],
)
def test_bad_file_is_named_with_its_line(tmp_path, text, reason):
    path = tmp_path / "r.jsonl"
    path.write_text(text)

    with pytest.raises(ConfigError, match=rf"r\.jsonl.*{reason}"):
        list(read_recording(path))


def test_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.jsonl"):
        list(read_recording(tmp_path / "none.jsonl"))
    with pytest.raises(ConfigError, match="cannot be written"):
        Recorder(tmp_path / "no" / "r.jsonl")
