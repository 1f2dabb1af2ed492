"""What doctor sees of kept state: socket, checkpoint, history, audit, database. Opens all of it read-only."""

from __future__ import annotations

import json
import re
import socket
import sqlite3
import time
from pathlib import Path

from domain_twin.config import AgentConfig, BrokerConfig
from domain_twin.errors import TwinError
from federation.cli.checks import Rows

_AHEAD_S = 300.0
_DEEP_OCTETS = 256 << 20  # a larger database is opened, and not read through


def answers(path: Path) -> bool:
    """Whether a process listens on a Unix socket."""
    if not path.is_socket():
        return False
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True


def agent(rows: Rows, config: AgentConfig, *, running: bool) -> None:
    """All that an agent keeps."""
    folder = config.state
    _socket(rows, folder / "agent.sock", running=running)
    _clock(rows, folder)
    _instance(rows, folder / "instance.json")
    _checkpoint(rows, folder)
    if config.history.enabled:
        _history(rows, folder / "history", running=running)
    _audit(rows, folder / "audit")


def broker(rows: Rows, config: BrokerConfig, *, running: bool) -> None:
    """All that a broker keeps."""
    _clock(rows, config.state)
    if not config.database:
        _database(rows, config.state / "broker.sqlite3", running=running)
    _audit(rows, config.state / "audit")


def _socket(rows: Rows, path: Path, *, running: bool) -> None:
    if running:
        rows.fine("agent", f"runs and answers on {path}")
    elif path.is_socket():
        rows.doubtful(
            "agent",
            f"{path} was left by an agent that was killed, or by one that hangs; the next start takes it"
            " away",
            f"fuser -v {path.parent}/history/history.duckdb",
        )
    elif path.exists():
        rows.wrong("agent", f"{path}: something that is no socket lies there", f"mv {path} {path}.aside")
    else:
        rows.fine("agent", "does not run now")


def _clock(rows: Rows, folder: Path) -> None:
    """Files of the future tell that the clock was set back, or that it is wrong now."""
    now = time.time()
    ahead = [path for path in _files(folder) if path.lstat().st_mtime > now + _AHEAD_S]
    if ahead:
        seconds = max(path.lstat().st_mtime for path in ahead) - now
        rows.doubtful(
            "clock",
            f"{ahead[0]} was written {seconds / 60:.0f} min in the future: the clock is wrong now, or was"
            " then; history is not told apart while clocks run back",
            "timedatectl status",
        )


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []


def _instance(rows: Rows, path: Path) -> None:
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        rows.fine("instance", f"start {int(kept['incarnation'])} of {kept['instance']}")
    except FileNotFoundError:
        return
    except (OSError, ValueError, KeyError, TypeError) as error:
        rows.wrong("instance", f"{path} cannot be read ({error}); the agent makes a new one", f"rm {path}")


def _checkpoint(rows: Rows, folder: Path) -> None:
    from domain_twin.datastore.checkpoint import Checkpoint

    path = folder / "checkpoint.parquet"
    try:
        version = Checkpoint(folder).examine()
    except (TwinError, OSError, ValueError) as error:
        rows.wrong(
            "checkpoint",
            f"{path} cannot be used ({error}); the agent sets it aside and starts empty",
            f"mv {path} {path}.aside",
        )
        return
    if version:
        rows.fine("checkpoint", f"version {version.epoch}:{version.sequence}")


def _history(rows: Rows, folder: Path, *, running: bool) -> None:
    import duckdb
    from pyarrow import ArrowException, parquet

    bad = []
    files = sorted(folder.rglob("*.parquet"))
    for path in files:
        try:
            parquet.read_metadata(path)
        except (ArrowException, OSError, ValueError) as error:
            if path.exists():  # a running agent rolls and deletes
                bad.append(f"{path} ({str(error).partition(chr(10))[0]})")
    if bad:
        first = bad[0].partition(" (")[0]
        more = f", and {len(bad) - 1} more" if len(bad) > 1 else ""
        rows.wrong("history", f"damaged: {bad[0]}{more}", f"mv {first} {first}.aside")
        return
    path = folder / "history.duckdb"
    if running or not path.exists():
        rows.fine(
            "history", f"{len(files)} files" + (", the rest held by the running agent" if running else "")
        )
        return
    try:
        duckdb.connect(str(path), read_only=True).close()
    except duckdb.Error as error:
        text = str(error).partition("\n")[0]
        if holder := re.search(r"PID (\d+)", str(error)):
            rows.wrong(
                "history",
                f"{path} is held by process {holder[1]}, which does not answer on the agent's socket",
                f"ps -fp {holder[1]}",
            )
        else:
            rows.wrong("history", f"{path} cannot be opened ({text})", f"mv {path} {path}.aside")
        return
    rows.fine("history", f"{len(files)} files and the open hour")


def _audit(rows: Rows, folder: Path) -> None:
    from domain_twin.trust.audit_verify import verify

    if not folder.is_dir():
        return
    report = verify(folder)
    if report.fault:
        fault = report.fault
        rows.wrong(
            "audit",
            f"{folder / fault.file} line {fault.line}: {fault.what}; keep the folder, it is evidence",
            f"fedtwin audit verify {folder}",
        )
    else:
        rows.fine("audit", f"{report.records} records, the chain holds")


def _database(rows: Rows, path: Path, *, running: bool) -> None:
    if not path.exists():
        return
    # Without a running broker nobody writes: `immutable` keeps SQLite from making files beside it.
    options = "mode=ro" if running else "mode=ro&immutable=1"
    try:
        connection = sqlite3.connect(f"file:{path}?{options}", uri=True, timeout=2.0)
        try:
            deep = path.stat().st_size < _DEEP_OCTETS
            found = connection.execute(
                "PRAGMA quick_check(1)" if deep else "PRAGMA schema_version"
            ).fetchone()
        finally:
            connection.close()
    except sqlite3.Error as error:
        rows.wrong("database", f"{path} cannot be read ({error})", f"mv {path} {path}.aside")
        return
    if deep and found[0] != "ok":
        rows.wrong("database", f"{path} is damaged ({found[0]})", f"mv {path} {path}.aside")
    else:
        rows.fine("database", str(path))
