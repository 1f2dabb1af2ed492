from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from audit_parts import WHO, Keys, fill, make_keys

from domain_twin.config import AuditConfig
from domain_twin.errors import ConfigError, OverCapacity
from domain_twin.trust.audit import Record
from domain_twin.trust.audit_files import records, segments
from domain_twin.trust.audit_log import AuditLog
from domain_twin.trust.audit_verify import verify

DAY = 86_400_000_000_000

WRITER = """
import sys
from pathlib import Path
from domain_twin.config import AuditConfig
from domain_twin.trust.audit_log import AuditLog
log = AuditLog(Path(sys.argv[1]), who=sys.argv[2], config=AuditConfig(segment_bytes=8192))
while True:
    seq = log.append("disclosed", peer="spiffe://exchange.example/broker/main", action="evaluate").seq
    print(seq, flush=True)
"""


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    return make_keys(tmp_path_factory.mktemp("keys"))


@contextlib.contextmanager
def full_disk(log: AuditLog) -> Iterator[None]:
    """Every write fails with ENOSPC, as the kernel's /dev/full does it."""
    held = os.dup(log._file)
    with Path("/dev/full").open("wb") as full:
        os.dup2(full.fileno(), log._file)
    try:
        yield
    finally:
        os.dup2(held, log._file)
        os.close(held)


def kinds(folder: Path) -> list[str]:
    return [record.kind for record in records(folder)]


@pytest.mark.parametrize("run", range(3))
def test_a_kill_leaves_a_trail_that_is_whole_and_goes_on(tmp_path: Path, run: int) -> None:
    folder = tmp_path / "audit"
    said = 0
    for _ in range(2):
        with subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder), WHO], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout
            while said < 50 * (run + 1) or said % 7:
                said = int(process.stdout.readline())
            process.send_signal(signal.SIGKILL)
        said = 0
        report = verify(folder)

        assert report.whole, report.fault
    assert kinds(folder).count("opened") == 1


def test_what_was_said_before_a_kill_is_in_the_trail(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, str(tmp_path / "audit"), WHO], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        told = [int(line) for line in process.stdout.read().splitlines()]

    assert max(told, default=0) <= max(record.seq for record in records(tmp_path / "audit"))


def test_a_torn_line_is_taken_off_and_a_record_says_so(keys: Keys, tmp_path: Path) -> None:
    log = keys.log(tmp_path / "audit")
    fill(log, 5)
    log.sign()
    fill(log, 1)
    os.close(log._lock)  # as a kill does
    (path,) = segments(tmp_path / "audit")
    os.truncate(path, path.stat().st_size - 40)

    torn = verify(tmp_path / "audit", trust=keys.trust, signed=True)
    again = keys.log(tmp_path / "audit")
    fill(again, 3)
    again.close()
    report = verify(tmp_path / "audit", trust=keys.trust, signed=True)

    assert torn.whole
    assert "middle of a line" in torn.remarks[0]
    assert report.whole, report.fault
    assert "torn line" in report.remarks[0]
    (note,) = [record for record in records(tmp_path / "audit") if record.kind == "recovered"]
    assert note.data["torn_bytes"] > 0


def test_records_cut_off_while_nobody_looked_stay_missing_for_good(keys: Keys, tmp_path: Path) -> None:
    log = keys.log(tmp_path / "audit")
    fill(log, 10)
    log.close()
    (path,) = segments(tmp_path / "audit")
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:6]))

    again = keys.log(tmp_path / "audit")
    fill(again, 10)
    again.close()
    fault = verify(tmp_path / "audit", trust=keys.trust, signed=True).fault

    assert fault
    assert "records 7 to" in fault.what
    assert "recovered" in kinds(tmp_path / "audit")


def test_a_last_record_that_was_changed_is_not_built_upon(keys: Keys, tmp_path: Path) -> None:
    log = keys.log(tmp_path / "audit")
    fill(log, 4)
    os.close(log._lock)
    (path,) = segments(tmp_path / "audit")
    path.write_bytes(path.read_bytes()[:-10] + b"0000000" + path.read_bytes()[-3:])

    again = keys.log(tmp_path / "audit")
    fill(again, 2)
    again.close()

    assert not verify(tmp_path / "audit", trust=keys.trust).whole


def test_files_end_by_size_and_by_day_and_the_chain_goes_on(tmp_path: Path) -> None:
    now = [DAY * 20_000]
    log = AuditLog(tmp_path / "audit", who=WHO, config=AuditConfig(segment_bytes=4096), clock=lambda: now[0])
    fill(log, 3)
    now[0] += DAY
    fill(log, 1)
    by_day = len(segments(tmp_path / "audit"))
    fill(log, 30)
    log.close()

    assert by_day == 2
    assert len(segments(tmp_path / "audit")) == 4
    assert verify(tmp_path / "audit").whole
    assert sum(1 for _ in records(tmp_path / "audit", after=20)) == log.head.seq - 20


def test_two_processes_cannot_write_one_audit(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit", who=WHO)

    with pytest.raises(ConfigError, match="another process writes this audit"):
        AuditLog(tmp_path / "audit", who=WHO)
    log.close()
    AuditLog(tmp_path / "audit", who=WHO).close()


async def test_a_full_disk_refuses_disclosures_and_is_told_afterwards(keys: Keys, tmp_path: Path) -> None:
    log = keys.log(tmp_path / "audit")
    problems: list[str] = []
    log.on_problem = problems.append
    await log.record("disclosed", peer="x")
    with full_disk(log):
        with pytest.raises(OverCapacity, match=r"No space left.*nothing is disclosed"):
            await log.record("disclosed", peer="x")
        log.note("refused", peer="x")  # what discloses nothing holds nobody up

    await log.record("disclosed", peer="x")
    log.close()

    assert [bool(problem) for problem in problems] == [True, False]
    assert verify(tmp_path / "audit", trust=keys.trust, signed=True).whole
    (note,) = [record for record in records(tmp_path / "audit") if record.kind == "recovered"]
    assert note.data["records"] == 2


async def test_whoever_wants_it_so_goes_on_without_an_audit(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit", who=WHO, config=AuditConfig(when_unwritable="continue"))
    with full_disk(log):
        await log.record("disclosed", peer="x")
        assert log.problem
    log.close()


async def test_a_state_folder_that_cannot_be_made_is_tried_again(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    log = AuditLog(tmp_path / "taken" / "audit", who=WHO)
    with pytest.raises(OverCapacity):
        await log.record("disclosed", peer="x")
    (tmp_path / "taken").unlink()

    await log.record("disclosed", peer="x")
    log.close()

    assert verify(tmp_path / "taken" / "audit").whole


async def test_records_are_on_disk_before_anything_leaves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    real = os.fdatasync

    def counted(file: int) -> None:
        synced.append(file)
        real(file)

    monkeypatch.setattr(os, "fdatasync", counted)
    log = AuditLog(tmp_path / "audit", who=WHO)
    await asyncio.gather(*(log.record("disclosed", peer=str(n)) for n in range(100)))

    assert log._synced_seq == log.head.seq
    assert 1 <= len(synced) < 20  # one write to disk serves all who wait
    log.close()


async def test_a_file_that_is_taken_away_is_noticed(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "audit", who=WHO, config=AuditConfig(sync_interval_ms=5))
    fill(log, 3)
    (path,) = segments(tmp_path / "audit")
    path.unlink()
    running = asyncio.create_task(log.run())
    async with asyncio.timeout(10):
        while not segments(tmp_path / "audit"):  # noqa: ASYNC110 - seen from outside only
            await asyncio.sleep(0.01)
    running.cancel()
    log.close()

    assert not verify(tmp_path / "audit").whole


async def test_heads_are_signed_in_time(keys: Keys, tmp_path: Path) -> None:
    log = keys.log(tmp_path / "audit", sign_interval_s=0.02, sync_interval_ms=5)
    told: list[Record] = []
    log.on_record = told.append
    running = asyncio.create_task(log.run())
    fill(log, 3)
    async with asyncio.timeout(10):
        while not any(record.kind == "head" for record in told):  # noqa: ASYNC110 - seen from outside only
            await asyncio.sleep(0.01)
    running.cancel()
    heads = kinds(tmp_path / "audit").count("head")
    log.close()

    assert heads == 1  # nothing new, nothing to sign


def test_an_expired_key_signs_nothing(keys: Keys, tmp_path: Path) -> None:
    log = keys.log(tmp_path / "audit")
    log._clock = lambda: time.time_ns() + 10_000 * DAY
    fill(log, 3)
    log.close()

    assert "head" not in kinds(tmp_path / "audit")
