"""Backups: what goes in comes out, while the process runs; what is damaged, foreign or hostile does not."""

from __future__ import annotations

import io
import json
import os
import signal
import sqlite3
import sys
import tarfile
from pathlib import Path

import pytest

from domain_twin.datastore import archive
from domain_twin.datastore.history import History
from domain_twin.errors import ConfigError
from federation.cli.app import run

sys.path.insert(0, str(Path(__file__).parents[1] / "agent"))
from emulated_domain import Domain

PEM = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIA==\n-----END PRIVATE KEY-----\n"


def backed_up(tmp_path: Path, **files: str) -> Path:
    state = tmp_path / "state"
    state.mkdir()
    places = {}
    for name, text in files.items():
        place = state / name
        place.write_text(text)
        places[f"sub/{name}"] = place
    target = tmp_path / "b.tar"
    archive.write(target, places, role="agent", name="core", software="1", keys=False)
    return target


def test_what_goes_in_comes_out_and_keys_stay_away(tmp_path: Path) -> None:
    file = backed_up(tmp_path, a="1" * 3_000_000, b="", key=PEM)
    manifest, aside = archive.restore(file, tmp_path / "new")
    assert aside is None
    assert manifest.left_out == ("sub/key",)
    assert (tmp_path / "new" / "sub" / "a").read_text() == "1" * 3_000_000
    assert sorted(os.listdir(tmp_path / "new" / "sub")) == ["a", "b"]  # noqa: PTH208
    assert file.stat().st_mode & 0o777 == 0o600
    assert PEM.encode() not in file.read_bytes()


def test_full_folder_is_kept_aside_and_only_by_force(tmp_path: Path) -> None:
    file = backed_up(tmp_path, a="1")
    target = tmp_path / "old"
    target.mkdir()
    (target / "mine").write_text("x")
    with pytest.raises(ConfigError, match="is not empty"):
        archive.restore(file, target)
    _, aside = archive.restore(file, target, force=True)
    assert aside
    assert (aside / "mine").read_text() == "x"
    assert (target / "sub" / "a").read_text() == "1"


@pytest.mark.parametrize("zipped", [False, True])
def test_no_flipped_octet_and_no_cut_is_restored(tmp_path: Path, zipped: bool) -> None:
    (tmp_path / "a").write_bytes(os.urandom(5000))
    file = tmp_path / ("b.tar.gz" if zipped else "b.tar")
    archive.write(file, {"a": tmp_path / "a"}, role="agent", name="core", software="1", keys=False)
    whole = file.read_bytes()
    original = (tmp_path / "a").read_bytes()
    for at in range(0, len(whole), 97):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        target = tmp_path / f"flip{at}"
        try:
            archive.restore(file, target)
        except ConfigError:
            assert not target.exists()
        else:  # padding, a time: nothing that is restored
            assert (target / "a").read_bytes() == original
    for size in range(0, len(original), 512):  # the last octets of a tar file are padding
        file.write_bytes(whole[:size])
        with pytest.raises(ConfigError):
            archive.restore(file, tmp_path / "cut")
        assert not (tmp_path / "cut").exists()


def hostile(tmp_path: Path, name: str, **changes: object) -> Path:
    """A backup whose manifest vouches for one strange member."""
    import hashlib

    body = b"evil"
    manifest = {
        "format": "fedtwin-backup",
        "version": 1,
        "role": "agent",
        "name": "x",
        "software": "1",
        "created_at": 1,
        "keys": False,
        "left_out": [],
        "files": {name: [len(body), hashlib.sha256(body).hexdigest()]},
    }
    target = tmp_path / "evil.tar"
    with tarfile.open(target, "w") as tar:
        told = json.dumps(manifest | {k: v for k, v in changes.items() if k in manifest}).encode()
        first = tarfile.TarInfo("manifest.json")
        first.size = len(told)
        tar.addfile(first, io.BytesIO(told))
        member = tarfile.TarInfo(name)
        if "link" in changes:
            member.type, member.linkname = tarfile.SYMTYPE, str(changes["link"])
            tar.addfile(member)
        else:
            member.size = len(body)
            tar.addfile(member, io.BytesIO(body))
    return target


@pytest.mark.parametrize("name", ["../escaped", "/tmp/fedtwin-escaped", "a/../../escaped", "a\\..\\b"])
def test_no_way_out_of_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="which no backup has"):
        archive.restore(hostile(tmp_path, name), tmp_path / "deep" / "new")
    assert not (tmp_path / "escaped").exists()
    assert not Path("/tmp/fedtwin-escaped").exists()


def test_no_links_and_no_strangers(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="which no backup has"):
        archive.restore(hostile(tmp_path, "a", link="/etc/passwd"), tmp_path / "new")
    with pytest.raises(ConfigError, match="which no backup has"):
        archive.restore(hostile(tmp_path, "a", files={}), tmp_path / "new")
    with pytest.raises(ConfigError, match="this release reads"):
        archive.restore(hostile(tmp_path, "a", version=2), tmp_path / "new")
    (tmp_path / "rubbish").write_bytes(os.urandom(4000))
    with pytest.raises(ConfigError, match="no backup"):
        archive.restore(tmp_path / "rubbish", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_broker_is_backed_up_while_it_writes(tmp_path: Path) -> None:
    state = tmp_path / "state"
    (state / "audit").mkdir(parents=True)
    (state / "audit" / "audit-000000000001.jsonl").write_text('{"whole": 1}\n{"ha')
    model = state / "learning" / "models" / "demand" / "1" / "card.json"
    model.parent.mkdir(parents=True)
    model.write_text("{}")
    writer = sqlite3.connect(state / "broker.sqlite3")
    writer.execute("PRAGMA journal_mode=WAL")
    writer.execute("CREATE TABLE t (i)")
    writer.executemany("INSERT INTO t VALUES (?)", [(i,) for i in range(1000)])
    writer.commit()
    writer.execute("INSERT INTO t VALUES (-1)")  # not committed
    try:
        assert run(["backup", str(state), str(tmp_path / "b.tar")]) == 0
    finally:
        writer.close()
    assert run(["restore", str(tmp_path / "b.tar"), str(tmp_path / "new")]) == 0
    copy = sqlite3.connect(tmp_path / "new" / "broker.sqlite3")
    assert copy.execute("SELECT count(*), min(i) FROM t").fetchall() == [(1000, 0)]
    copy.close()
    assert (tmp_path / "new" / "audit" / "audit-000000000001.jsonl").read_text() == '{"whole": 1}\n'
    assert (tmp_path / "new" / model.relative_to(state)).read_text() == "{}"


@pytest.mark.e2e
@pytest.mark.timeout(180)
async def test_agent_lives_on_from_a_backup_made_while_it_ran(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import asyncio

    first = tmp_path / "first"
    first.mkdir()
    domain = Domain(first, "core")
    try:
        await domain.emulated()
        domain.start_agent()
        await domain.synchronised()
        path = "/ietf-interfaces:interfaces/interface[name='eth0']/enabled"
        async with domain.twin() as twin:
            before = await twin.elements()
            samples = await twin.series("upf-1", path, 0)
        assert samples
        backup = tmp_path / "agent.tar"
        assert await asyncio.to_thread(run, ["backup", str(first / "agent.toml"), str(backup)]) == 0
        assert not list((first / "state" / "copies").iterdir())
        assert domain.agent
        domain.agent.end(signal.SIGKILL)
        (first / "state").rename(first / "lost")
        assert await asyncio.to_thread(run, ["restore", str(backup), str(first / "state"), "--json"]) == 0
        domain.start_agent()
        await domain.synchronised()
        async with domain.twin() as twin:
            after = await twin.elements()
            again = await twin.series("upf-1", path, 0)
            versions = (await twin.domains())[0].version
        domain.agent.end()
    finally:
        domain.end()
    assert {e.id for e in after} == {e.id for e in before}
    assert again[: len(samples)] == samples
    old = await History.open(first / "lost" / "history", read_only=True)
    new = await History.open(first / "state" / "history", read_only=True)
    last = await old.last_version()
    gaps = await new.gaps(0, 2**62)
    assert last
    assert last.epoch != versions.epoch
    assert "the agent did not run" in {gap.reason for gap in gaps}
    await old.close()
    await new.close()
