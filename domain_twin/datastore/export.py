"""History as Parquet or CSV that other tools read. Owns the schema of what is exported.

    OUT/day=2026-11-21/part-0000.parquet

time, observed_at (timestamps in ns, UTC), domain, device, path, kind, number, text, origin, deleted,
resolution_s (0: a change; 60 or 3600: the value at the end of a rolled-up interval), epoch, sequence. A gap
has kind `gap`, its start in observed_at, its end in time, its reason in text and the changes that were lost
in number.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import csv, parquet

from domain_twin.datastore.encoding import ORIGINS, ValueKind
from domain_twin.datastore.history import History
from domain_twin.errors import ConfigError
from domain_twin.model import Nanoseconds

__all__ = ["SCHEMA", "Exported", "export"]

_NAME = pa.dictionary(pa.int32(), pa.string())
_TIME = pa.timestamp("ns", "UTC")
SCHEMA = pa.schema(
    [
        pa.field("time", _TIME, nullable=False),
        pa.field("observed_at", _TIME, nullable=False),
        pa.field("domain", _NAME, nullable=False),
        pa.field("device", _NAME, nullable=False),
        pa.field("path", _NAME, nullable=False),
        pa.field("kind", _NAME, nullable=False),
        pa.field("number", pa.float64()),
        pa.field("text", pa.string()),
        pa.field("origin", _NAME, nullable=False),
        pa.field("deleted", pa.bool_(), nullable=False),
        pa.field("resolution_s", pa.int32(), nullable=False),
        pa.field("epoch", _NAME, nullable=False),
        pa.field("sequence", pa.int64(), nullable=False),
    ]
)
PAGE_ROWS = 50_000
_KINDS = {int(kind): kind.name.lower() for kind in ValueKind}
_DAY = 86_400_000_000_000


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written."""

    rows: int
    files: int


async def export(
    history: History,
    target: Path,
    *,
    domain: str,
    start: Nanoseconds,
    end: Nanoseconds,
    pattern: str = "/",
    device: str = "",
    as_csv: bool = False,
    progress: Callable[[int, Nanoseconds], None] = lambda _rows, _at: None,
) -> Exported:
    """Write what was received in (start, end] to a new folder, a file a day. Raises ConfigError, NotFound.

    `progress` is told of the rows written so far and the time reached.
    """
    await asyncio.to_thread(_check_new, target)
    writers: dict[int, Any] = {}
    rows = 0
    suffix = "csv" if as_csv else "parquet"
    try:
        async for cells in history.pages(start, end, pattern, device, rows=PAGE_ROWS):
            table = _table(cells, domain)
            days = [cell[1] // _DAY for cell in cells]
            for day in sorted(set(days)):
                if day not in writers:
                    when = pa.scalar(day * _DAY, _TIME).as_py()
                    folder = target / f"day={when:%Y-%m-%d}"
                    folder.mkdir(parents=True, exist_ok=True)
                    file = folder / f"part-0000.{suffix}"
                    writers[day] = (
                        csv.CSVWriter(file, _plain_schema())
                        if as_csv
                        else parquet.ParquetWriter(file, SCHEMA, compression="zstd", write_page_checksum=True)
                    )
                part = table.filter(pa.array([d == day for d in days]))
                writers[day].write_table(part.cast(_plain_schema()) if as_csv else part)
            rows += len(cells)
            progress(rows, cells[-1][1])
        await asyncio.to_thread(target.mkdir, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{target}: cannot be written ({os.strerror(error.errno or 0)})") from error
    finally:
        for writer in writers.values():
            writer.close()
    return Exported(rows, len(writers))


def _check_new(target: Path) -> None:
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ConfigError(f"{target}: exists and is not empty; name a new folder")


def _plain_schema() -> pa.Schema:
    return pa.schema([pa.field(f.name, pa.string() if f.type == _NAME else f.type) for f in SCHEMA])


def _table(cells: list[tuple[Any, ...]], domain: str) -> pa.Table:
    _, received, observed, device, path, kind, number, text, origin, deleted, epoch, sequence = zip(
        *cells, strict=True
    )
    columns: list[Any] = [
        pa.array(received, _TIME),
        pa.array(observed, _TIME),
        pa.array([domain] * len(cells)).dictionary_encode(),
        pa.array(device).dictionary_encode(),
        pa.array(path).dictionary_encode(),
        pa.array([_KINDS[k] for k in kind]).dictionary_encode(),
        pa.array(number, pa.float64()),
        pa.array(text, pa.string()),
        pa.array([ORIGINS[o].value for o in origin]).dictionary_encode(),
        pa.array(deleted),
        pa.array([max(-s, 0) for s in sequence], pa.int32()),
        pa.array(epoch).dictionary_encode(),
        pa.array([max(s, 0) for s in sequence], pa.int64()),
    ]
    return pa.table(columns, schema=SCHEMA)
