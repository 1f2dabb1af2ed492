"""Databases for tests: a file, or a PostgreSQL server of our own that lasts as long as the test run."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import sqlalchemy as sa

TOLD = "FEDTWIN_TEST_POSTGRES"
"""Variable with the URL of a database that tests may empty, where there are no binaries."""
START_S = 60.0


def binaries() -> Path | None:
    """The folder with PostgreSQL's programs, the newest there is."""
    found = shutil.which("initdb")
    if found:
        return Path(found).parent
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    return folders[-1] if folders else None


@contextlib.contextmanager
def server() -> Iterator[str]:
    """URL of a database of a server; empty where there is no server."""
    programs = binaries()
    if programs is None:
        yield os.environ.get(TOLD, "")
        return
    folder = Path(tempfile.mkdtemp(prefix="fedtwin-pg-"))
    user = _unprivileged()
    try:
        if user:
            shutil.chown(folder, user)
        data = folder / "data"
        made = [*_as(user), programs / "initdb", *f"-D {data} -U fedtwin -A trust -E UTF8 -N".split()]
        subprocess.run(made, check=True, capture_output=True, cwd=folder, timeout=START_S)
        settings = {"listen_addresses": "", "unix_socket_directories": folder, "fsync": "off"}
        options = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [*_as(user), programs / "postgres", "-D", data, *options], stdout=log, stderr=log, cwd=folder
            )
        try:
            url = f"postgresql+psycopg://fedtwin@/postgres?host={folder}"
            _wait(url, process, folder / "log")
            yield url
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(5)
            process.kill()
            process.wait()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def emptied(url: str) -> str:
    """A URL whose database holds nothing any more."""
    query(url, "DROP SCHEMA public CASCADE")
    query(url, "CREATE SCHEMA public")
    return url


def query(url: str, text: str) -> list[tuple[object, ...]]:
    """What the database says, past the store."""
    engine = sa.create_engine(url, isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as connection:
        result = connection.exec_driver_sql(text)
        return [tuple(row) for row in result] if result.returns_rows else []


def _unprivileged() -> str | None:
    """PostgreSQL refuses to run as root."""
    if os.geteuid():
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def _as(user: str | None) -> list[str]:
    """Before a command: run it as a user. Popen's own `user` forks, which kills a process that used gRPC."""
    if not user:
        return []
    entry = pwd.getpwnam(user)
    return ["setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}", "--clear-groups"]


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + START_S
    while True:
        try:
            query(url, "SELECT 1")
        except sa.exc.OperationalError:
            if process.poll() is not None or time.monotonic() > until:
                raise AssertionError(f"PostgreSQL did not start:\n{log.read_text()}") from None
            time.sleep(0.05)
        else:
            return
