"""The live state on disk: survives a restart with its versions. Owns one file and its mark of a clean end.

`checkpoint.parquet` holds every leaf and, in its footer, the version. `checkpoint.clean` exists only between
an orderly end and the next start; it is gone before the restored store takes its first change. So:

- after an orderly end, epoch and sequence go on where they were;
- after a crash the checkpoint may be older than versions that peers have seen: a new epoch starts;
- after damage the file is set aside and a new epoch starts empty.

No version is ever given twice. Restored leaves are stale until their source has sent BEGIN … END.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
import zlib
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from domain_twin.datastore.durable import put_in_place, set_aside, sync_folder
from domain_twin.datastore.live import LiveStore
from domain_twin.datastore.snapshot import Snapshot, snapshot_of
from domain_twin.errors import ConfigError
from domain_twin.model import Nanoseconds, Version

log = logging.getLogger(__name__)

FORMAT = 1
_KEY = b"fedtwin"
# What parsing rubbish raises; opening the file is not among it.
_UNREADABLE = (ValueError, LookupError, TypeError, ArithmeticError, EOFError, MemoryError, OSError)


class Restart(StrEnum):
    """How the state before this start ended."""

    FIRST = "first"  # there was none
    CLEAN = "clean"  # orderly: versions go on
    CRASH = "crash"  # without an orderly end: values kept, new epoch
    DAMAGED = "damaged"  # unreadable: set aside, new epoch, empty


@dataclass(frozen=True, slots=True)
class Restored:
    """A store to start with. `message` says what a person should know; empty when all is well."""

    store: LiveStore
    restart: Restart
    message: str = ""


class Checkpoint:
    """The checkpoint in a folder. Methods block: call them by `asyncio.to_thread`, but for `keep`."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "checkpoint.parquet"
        self._clean = folder / "checkpoint.clean"

    def save(self, snapshot: Snapshot, *, clean: bool = False, now: Nanoseconds | None = None) -> None:
        """Write the state; `clean` says that no version will follow it. Raises OSError."""
        from pyarrow import parquet

        from domain_twin.datastore.columns import digest, leaves_table

        version = snapshot.version
        table = leaves_table(snapshot.items())
        header = {
            "format": FORMAT,
            "epoch": version.epoch,
            "sequence": version.sequence,
            "observed_at": version.observed_at,
            "leaves": len(snapshot),
            "digest": digest(table),
            "saved_at": time.time_ns() if now is None else now,
        }
        table = table.replace_schema_metadata({_KEY: _sealed(header)})
        self._file.parent.mkdir(parents=True, exist_ok=True)
        self._unmark()
        written = self._file.with_suffix(".tmp")
        parquet.write_table(table, written, compression="zstd", write_page_checksum=True)
        put_in_place(written, self._file)
        if clean:
            mark = self._clean.with_suffix(".tmp2")
            mark.write_text(json.dumps([version.epoch, version.sequence]), encoding="utf-8")
            put_in_place(mark, self._clean)

    def examine(self) -> Version | None:
        """The version in the file, None: no file; changes nothing. Raises ValueError for damage, OSError."""
        try:
            return _parse(self._file.read_bytes()).version
        except FileNotFoundError:
            return None
        except _UNREADABLE as error:
            raise ValueError(_first_line(error)) from error

    def restore(self, *, last: Version | None = None, now: Nanoseconds | None = None) -> Restored:
        """The store to start with. `last` is the last version that the history knows, if it knows one.

        Raises ConfigError when the file cannot be opened at all.
        """
        try:
            content = self._file.read_bytes()
        except FileNotFoundError:
            return Restored(LiveStore(), Restart.FIRST)
        except OSError as error:
            raise ConfigError(
                f"checkpoint {self._file} cannot be read ({error.strerror}): let the agent's account read and"
                " write its state folder, or move the file away to start empty"
            ) from error
        try:
            snapshot = _parse(content)
        except _UNREADABLE as error:
            aside = set_aside(self._file, time.time_ns() if now is None else now)
            self._unmark()
            message = (
                f"checkpoint {self._file} is damaged ({_first_line(error)}); it was set aside as"
                f" {aside.name}, and the twin starts empty with a new epoch: it is complete once its devices"
                " are synchronised"
            )
            log.warning(
                "checkpoint set aside", extra={"file": str(self._file), "problem": _first_line(error)}
            )
            return Restored(LiveStore(), Restart.DAMAGED, message)
        version = snapshot.version
        clean = self._marked() == (version.epoch, version.sequence)
        if last is not None and last.epoch == version.epoch and last.sequence > version.sequence:
            clean = False  # an older copy of the file was put back
        try:
            self._unmark()
        except OSError as error:
            raise ConfigError(
                f"state folder {self._file.parent} cannot be written ({error.strerror}): let the agent's"
                " account write there, or name another folder as state"
            ) from error
        if clean:
            return Restored(LiveStore.restored(snapshot), Restart.CLEAN)
        store = LiveStore.restored(snapshot, epoch=LiveStore().version.epoch)
        message = (
            f"the agent did not end in order after version {version.epoch}:{version.sequence};"
            f" its values are kept as stale, under the new epoch {store.version.epoch}"
        )
        log.warning("checkpoint without an orderly end", extra={"epoch": store.version.epoch})
        return Restored(store, Restart.CRASH, message)

    async def keep(self, store: LiveStore, every_s: float = 60.0) -> None:
        """Save the store again and again while it changes, until cancelled. A full disk is logged."""
        saved: Version | None = None
        while True:
            await asyncio.sleep(every_s)
            snapshot = store.snapshot()
            if snapshot.version == saved:
                continue
            try:
                await asyncio.to_thread(self.save, snapshot)
                saved = snapshot.version
            except OSError as error:
                log.error("checkpoint not written", extra={"file": str(self._file), "problem": str(error)})

    def _marked(self) -> tuple[str, int] | None:
        try:
            epoch, sequence = json.loads(self._clean.read_text(encoding="utf-8"))
        except (OSError, ValueError, TypeError):
            return None
        return str(epoch), int(sequence)

    def _unmark(self) -> None:
        if self._clean.exists():
            self._clean.unlink()
            sync_folder(self._clean.parent)


def _parse(content: bytes) -> Snapshot:
    import pyarrow as pa
    from pyarrow import parquet

    from domain_twin.datastore.columns import LEAVES, digest, leaves_of

    try:
        with parquet.ParquetFile(pa.BufferReader(content), page_checksum_verification=True) as file:
            header = _unsealed((file.schema_arrow.metadata or {})[_KEY])
            table = file.read()
    except pa.ArrowException as error:
        raise ValueError(str(error)) from error
    if header["format"] != FORMAT:
        raise ValueError(f"format {header['format']}; this release reads format {FORMAT}")
    if set(table.column_names) != set(LEAVES.names) or table.num_rows != header["leaves"]:
        raise ValueError("columns or rows are missing")
    if digest(table) != header["digest"]:
        raise ValueError("the values are not those that were written")
    version = Version(header["epoch"], header["sequence"], header["observed_at"])
    return snapshot_of(version, leaves_of(table))


def _sealed(header: dict[str, Any]) -> bytes:
    body = json.dumps(header)
    return json.dumps({"crc": zlib.crc32(body.encode()), "header": body}).encode()


def _unsealed(sealed: bytes) -> dict[str, Any]:
    envelope = json.loads(sealed)
    body: str = envelope["header"]
    if zlib.crc32(body.encode()) != envelope["crc"]:
        raise ValueError("the header is not what was written")
    header: dict[str, Any] = json.loads(body)
    return header


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
