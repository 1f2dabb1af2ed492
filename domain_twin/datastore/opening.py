"""The history's DuckDB file, opened: one of this release, new, or migrated. Owns its tables and formats.

A file that is damaged, cut off, foreign or of another format is renamed, never changed or deleted.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path

import duckdb

from domain_twin.datastore.durable import set_aside
from domain_twin.datastore.rollup import COLUMNS
from domain_twin.errors import ConfigError

log = logging.getLogger(__name__)

FORMAT = 2
_TABLES = """
    CREATE TABLE IF NOT EXISTS changes (
        n BIGINT, received_at BIGINT, observed_at BIGINT, device VARCHAR, path VARCHAR, kind UTINYINT,
        number DOUBLE, text VARCHAR, origin UTINYINT, deleted BOOLEAN, epoch VARCHAR, sequence BIGINT);
    CREATE TABLE IF NOT EXISTS catalog (
        kind VARCHAR, name VARCHAR, first_n BIGINT, last_n BIGINT, min_received BIGINT, max_received BIGINT);
    CREATE TABLE IF NOT EXISTS alive (heard_at BIGINT);
    CREATE TABLE IF NOT EXISTS about (format INTEGER);
"""
_COLUMNS_OF = {
    "changes": COLUMNS.split(", "),
    "catalog": ["kind", "name", "first_n", "last_n", "min_received", "max_received"],
    "alive": ["heard_at"],
    "about": ["format"],
    "files": ["name", "first_n", "last_n", "min_received", "max_received"],  # of format 1
}


def open_database(folder: Path, settings: Mapping[str, str | int]) -> tuple[duckdb.DuckDBPyConnection, str]:
    """Open or create `history.duckdb`, and say in a sentence what was given up; empty: nothing.

    Raises ConfigError: the file cannot be opened, and its content is not to blame.
    """
    path = folder / "history.duckdb"
    connection, reason = _sound_connection(path, settings)
    sentence = ""
    if connection is None:
        stamp = time.time_ns()
        aside = set_aside(path, stamp)
        log_file = path.with_name(path.name + ".wal")
        if log_file.exists():
            set_aside(log_file, stamp)
        log.error(
            "history database given up: the rows of its open hour are lost",
            extra={"file": str(path), "aside": aside.name, "problem": reason},
        )
        sentence = f"{path.name} was set aside as {aside.name} ({reason})"
        connection = duckdb.connect(str(path), config=dict(settings))
    connection.execute("SET parquet_metadata_cache = true")
    connection.execute("SET enable_progress_bar = false")
    connection.execute(_TABLES)
    _migrate(connection, folder)
    return connection, sentence


def _sound_connection(
    path: Path, settings: Mapping[str, str | int]
) -> tuple[duckdb.DuckDBPyConnection | None, str]:
    connection: duckdb.DuckDBPyConnection | None = None
    try:
        connection = duckdb.connect(str(path), config=dict(settings))
        if reason := _foreign(connection):
            connection.close()
            return None, reason
        _read_through(connection)
    except duckdb.Error as error:
        if connection is not None:
            connection.close()
        reason = str(error).partition("\n")[0]
        if not _is_damage(error):
            raise ConfigError(
                f"history {path} cannot be opened ({reason}): check space and permissions of its folder"
            ) from error
        return None, reason
    return connection, ""


def _read_through(connection: duckdb.DuckDBPyConnection) -> None:
    """Read all that the database holds, an hour at most: what is cut off is noticed only where it is read."""
    for (table,) in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall():
        connection.execute(f'SELECT count(COLUMNS(*)) FROM "{table}"').fetchall()


def _foreign(connection: duckdb.DuckDBPyConnection) -> str:
    """Why a database that opens is not one of this release; empty: it is (or is new)."""
    found: dict[str, list[str]] = {}
    for table, column in connection.execute(
        "SELECT table_name, column_name FROM duckdb_columns() WHERE NOT internal"
        " ORDER BY table_oid, column_index"
    ).fetchall():
        found.setdefault(table, []).append(column)
    for table, columns in found.items():
        if columns != _COLUMNS_OF.get(table):
            return f"its table {table!r} is not one of a history"
    if "about" in found:
        held = connection.execute("SELECT max(format) FROM about").fetchall()[0][0]
        if held is not None and held != FORMAT:
            return f"it has format {held}; this release reads format {FORMAT}"
    return ""


def _migrate(connection: duckdb.DuckDBPyConnection, folder: Path) -> None:
    """Take over the list of a history of format 1, and say which format this is."""
    tables = {row[0] for row in connection.execute("SELECT table_name FROM duckdb_tables()").fetchall()}
    if "files" in tables:
        connection.execute("BEGIN")
        for name, *extent in connection.execute("SELECT * FROM files").fetchall():
            for kind in ("changes", "state"):
                if (folder / kind / name).exists():
                    connection.execute("INSERT INTO catalog VALUES (?, ?, ?, ?, ?, ?)", [kind, name, *extent])
        connection.execute("DROP TABLE files")
        connection.execute("COMMIT")
    if connection.execute("SELECT max(format) FROM about").fetchall()[0][0] is None:
        connection.execute("INSERT INTO about VALUES (?)", [FORMAT])


def _is_damage(error: duckdb.Error) -> bool:
    """Whether the content of the file is to blame, rather than the disk or the account."""
    if isinstance(error, (duckdb.SerializationException, duckdb.InternalException, duckdb.FatalException)):
        return True
    signs = (
        "not a valid duckdb database",
        "corrupt",
        "checksum",
        "wal file",
        "storage version",
        "could not read enough bytes",
    )
    return any(sign in str(error).lower() for sign in signs)
