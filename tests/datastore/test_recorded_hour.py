"""A recorded hour, replayed twice in processes of their own: the same state and history, to the byte."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from domain_twin.datastore.encoding import state_hash
from domain_twin.model import Delete, Origin, Sync, Update, UpdateBatch, Value
from domain_twin.southbound.replay import Recorder

SECOND = 1_000_000_000
BEGIN = 1_800_001_800 * SECOND  # half past an hour: history rolls on the way
HOUR = 3600
STATUSES = ("up", "down", "testing", "dormant")

REPLAY = """
import asyncio, hashlib, json, sys
from pathlib import Path

from domain_twin.agent.pipeline import Pipeline
from domain_twin.config import ReplayConfig
from domain_twin.datastore.history import History
from domain_twin.datastore.live import LiveStore
from domain_twin.mapping.mapper import Mapper
from domain_twin.mapping.tables import required_modules
from domain_twin.southbound.replay import ReplaySession
from domain_twin.yang.quarantine import Typer
from domain_twin.yang.schema import SchemaSet

recording, folder, flush_s, batch_rows = sys.argv[1:]

async def main():
    now = [0]
    schema = SchemaSet.load([*required_modules(), "iana-if-type"])
    store, typer = LiveStore(epoch="recorded"), Typer(schema)
    history = await History.open(
        Path(folder), clock=lambda: now[0], flush_s=float(flush_s), batch_rows=int(batch_rows)
    )
    twin = Pipeline(
        devices=["warsaw", "gdansk"], typer=typer, store=store, mapper=Mapper("transport"),
        history=history, on_change=lambda *_: None,
    )
    session = ReplaySession("warsaw", ReplayConfig(file=Path(recording), speed=1e12))
    marks = []
    async for batch in session.subscribe(["/"]):
        now[0] = batch.received_at
        twin.ingest(batch)
        if store.version.sequence % 500 == 1 and (not marks or marks[-1][2] != store.version.sequence):
            marks.append((batch.received_at, store.state_hash(), store.version.sequence))
    await history.flush()
    rows = [row async for page in history.pages(0, 2**63 - 1, rows=997) for row in page]
    past = {}
    for at, digest, _ in marks:
        past[at] = digest
    wrong = [at for at, digest in past.items() if (await history.state_at(at)).state_hash() != digest]
    Path(folder, "rows.jsonl").write_text("".join(json.dumps(row) + "\\n" for row in rows))
    print(json.dumps({
        "hash": store.state_hash(), "from_history": (await history.state_at(now[0])).state_hash(),
        "version": store.version.sequence, "marks": len(past), "wrong": wrong,
        "set_aside": dict(typer.counts), "dropped": history.status().dropped,
        "hours": len(list(Path(folder).glob("changes/*/*.parquet"))),
    }))
    await history.close()

asyncio.run(main())
"""


class Device:
    """What a device has, in YANG's own types, and how it says so on the wire."""

    def __init__(self, name: str, seed: int) -> None:
        self.name = name
        self.has: dict[str, Value] = {}
        self.bad = 0
        self._chance = random.Random(seed)
        for number in range(12):
            self._plug(number)

    def resync(self, at: int) -> Iterator[UpdateBatch]:
        """All it has, between BEGIN and END."""
        yield UpdateBatch(self.name, at, sync=Sync.BEGIN)
        told = [self._update(path, at) for path in self.has]
        for first in range(0, len(told), 40):
            yield UpdateBatch(self.name, at + 1 + first, tuple(told[first : first + 40]))
        yield UpdateBatch(self.name, at + 1 + len(told), sync=Sync.END)

    def live(self, at: int) -> Iterator[UpdateBatch]:
        """What changes in a few seconds: figures, a state, an interface that comes or goes, a bad value."""
        chance = self._chance
        deletes: tuple[Delete, ...] = ()
        moved = chance.sample([path for path in self.has if "octets" in path or "delay" in path], 4)
        for path in moved:
            old = self.has[path]
            self.has[path] = (
                old + Decimal(chance.randint(1, 9)) / 8 if isinstance(old, Decimal) else int(old or 0) + 997  # type: ignore[arg-type]
            )
        if chance.random() < 0.1:
            moved.append(path := chance.choice([path for path in self.has if "oper-status" in path]))
            self.has[path] = chance.choice(STATUSES)
        lost = [f"{_entry(n)}/oper-status" for n in range(12) if f"{_entry(n)}/type" in self.has]
        lost = [path for path in lost if path not in self.has]
        if lost and chance.random() < 0.3:
            moved.append(lost[0])
            self.has[lost[0]] = "up"
        if chance.random() < 0.02:
            number = chance.randrange(12)
            entry = _entry(number)
            if f"{entry}/type" in self.has:
                self.has = {path: value for path, value in self.has.items() if not path.startswith(entry)}
                moved = [path for path in moved if path in self.has]
                deletes = (Delete(self.name, entry, at),)
            else:
                self._plug(number)
                moved += [path for path in self.has if path.startswith(entry) and path not in moved]
        updates = [self._update(path, at) for path in moved]
        if chance.random() < 0.03 and moved:  # overtaken on the way: it must lose
            updates.insert(0, Update(self.name, moved[-1], self._wire(self.has[moved[-1]]), at - SECOND))
        if chance.random() < 0.03:  # of no sense: its leaf is not known until it is told again
            path = chance.choice([path for path in self.has if "oper-status" in path])
            updates = [update for update in updates if update.path != path]
            updates.append(Update(self.name, path, "flying", at))
            del self.has[path]
            self.bad += 1
        yield UpdateBatch(self.name, at + 5_000_000, tuple(updates), deletes)

    def _plug(self, number: int) -> None:
        entry = _entry(number)
        self.has |= {
            f"{entry}/type": "iana-if-type:ethernetCsmacd",
            f"{entry}/enabled": True,
            f"{entry}/oper-status": "up",
            f"{entry}/description": f"it's {self.name} ]'{number}",
            f"{entry}/statistics/in-octets": 2**53 + number,
            f"{entry}/statistics/out-octets": number,
            "/fedtwin-core:network-function/performance/one-way-delay": Decimal("1.125"),
            "/fedtwin-core:network-function/sNSSAIList": ("1-000001", "2"),
        }

    def _update(self, path: str, at: int) -> Update:
        return Update(self.name, path, self._wire(self.has[path]), at)

    def _wire(self, value: Value) -> Value:
        """As devices do: counters as text, identities without their module, decimals as doubles."""
        form = self._chance.randrange(3)
        if isinstance(value, int) and not isinstance(value, bool) and form == 0:
            return str(value)
        if isinstance(value, Decimal) and form < 2:
            return float(value) if form else str(value)
        return "ethernetCsmacd" if value == "iana-if-type:ethernetCsmacd" and form else value


def _entry(number: int) -> str:
    return f"/ietf-interfaces:interfaces/interface[name='eth{number}/0']"


def record_hour(path: Path) -> list[Device]:
    """Two devices for an hour, each with a session that is lost and comes back with less than it had."""
    devices = [Device("warsaw", 1), Device("gdansk", 2)]
    with Recorder(path) as recorder:
        for second in range(0, HOUR, 4):
            for nth, device in enumerate(devices):
                at = BEGIN + second * SECOND + nth * 77
                if second in (0, 1200 + 600 * nth):
                    device.has = {p: v for p, v in device.has.items() if not second or "eth3/" not in p}
                    batches = device.resync(at)
                else:
                    batches = device.live(at)
                for batch in batches:
                    recorder.append(batch)
    return devices


async def replayed(
    recording: Path, folder: Path, seed: int, flush_s: float, batch_rows: int
) -> dict[str, object]:
    """What a fresh process makes of a recording, with its own hash seed and its own pace of writing."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", REPLAY, str(recording), str(folder), str(flush_s), str(batch_rows)),
        env={**os.environ, "PYTHONHASHSEED": str(seed)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        out, errors = await asyncio.wait_for(child.communicate(), 100)
    finally:
        if child.returncode is None:
            child.kill()
    assert child.returncode == 0, errors.decode()
    answer: dict[str, object] = json.loads(out)
    return answer


@pytest.mark.slow
@pytest.mark.timeout(240)
async def test_recorded_hour_replays_to_the_same_bytes(tmp_path: Path) -> None:
    # Arrange
    recording = tmp_path / "hour.jsonl.gz"
    devices = record_hour(recording)
    truth = state_hash(
        (device.name, path, value, Origin.MEASURED)
        for device in devices
        for path, value in device.has.items()
    )

    # Act
    first = await replayed(recording, tmp_path / "first", seed=1, flush_s=0.05, batch_rows=50)
    second = await replayed(recording, tmp_path / "second", seed=2, flush_s=30, batch_rows=100_000)

    # Assert
    assert first == second
    rows = (tmp_path / "first" / "rows.jsonl").read_bytes()
    assert rows == (tmp_path / "second" / "rows.jsonl").read_bytes()
    assert rows.count(b"\n") > 5000
    assert first["hash"] == first["from_history"] == truth
    assert first["wrong"] == []
    assert first["dropped"] == 0
    assert first["set_aside"] == {device.name: device.bad for device in devices}
    assert min(device.bad for device in devices) > 0
    assert (first["hours"], int(str(first["marks"])) >= 3) == (1, True)
