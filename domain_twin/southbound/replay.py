"""Recordings: batches as JSON lines, and a session that plays them back. Owns the file format.

The first line names format and version; every further line is one UpdateBatch. Values that JSON cannot tell
apart are tagged: {"d": decimal}, {"b": base64}, {"t": [items]}, {"f": "nan"}. A name in .gz means compressed.
A replay yields the batches that were recorded, equal in every field, in order.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import logging
import math
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from decimal import Decimal
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import IO, Any

from domain_twin.config import ReplayConfig
from domain_twin.errors import ConfigError
from domain_twin.model import Delete, Origin, Sync, Update, UpdateBatch, Value
from domain_twin.southbound.base import Capabilities
from domain_twin.yang.paths import covers

log = logging.getLogger(__name__)

__all__ = ["Recorder", "ReplaySession", "read_recording"]

_FORMAT = {"format": "fedtwin-recording", "version": 1}
_CHUNK = 500  # lines read at once, off the event loop
_FLUSH_S = 1.0


class Recorder:
    """Appends batches to a file. A recording that ends in the middle of a line is still readable."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self.path = path
        self.batches = 0
        self._clock = clock
        self._flushed = clock()
        try:
            fresh = not path.exists() or path.stat().st_size == 0
            self._file: IO[str] = _open(path, "at")
        except OSError as error:
            raise ConfigError(
                f"{path}: cannot be written ({error.strerror}); check folder and rights"
            ) from error
        if fresh:
            self._file.write(json.dumps(_FORMAT) + "\n")

    def append(self, batch: UpdateBatch) -> None:
        """Write one batch."""
        self._file.write(json.dumps(_encode(batch), separators=(",", ":")) + "\n")
        self.batches += 1
        if self._clock() - self._flushed >= _FLUSH_S:
            self._file.flush()
            self._flushed = self._clock()

    def close(self) -> None:
        """Write what is buffered and close the file."""
        self._file.close()

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def read_recording(path: Path) -> Iterator[UpdateBatch]:
    """The batches of a recording. Raises ConfigError naming file and line."""
    try:
        with _open(path, "rt") as file:
            yield from _read(path, file)
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as a recording ({error}); check the path") from error


def _read(path: Path, file: IO[str]) -> Iterator[UpdateBatch]:
    for number, line in enumerate(file, 1):
        try:
            data = json.loads(line)
            if number == 1:
                if data != _FORMAT:
                    raise ConfigError(f"{path}: not a recording of this version; made by `fedtwin record`?")
                continue
            batch = _decode(data)
        except (ValueError, TypeError, KeyError, LookupError) as error:
            if isinstance(error, ConfigError):
                raise
            if not line.endswith("\n"):
                log.warning("recording ends in the middle of a line", extra={"file": str(path)})
                return
            raise ConfigError(f"{path}: line {number} is no recorded batch ({error})") from error
        yield batch


class ReplaySession:
    """A SouthboundSession that plays a recording at `speed` times its pace; it ends with the recording."""

    def __init__(self, device: str, config: ReplayConfig) -> None:
        self.device = device
        self._config = config

    async def __aenter__(self) -> ReplaySession:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Nothing to close: the file is closed with its reader."""

    async def capabilities(self) -> Capabilities:
        """A recording can be subscribed to, and no more."""
        return Capabilities("replay")

    async def get(self, paths: Sequence[str]) -> UpdateBatch:
        """The leaves at and below `paths` at the end of the recording."""
        return await asyncio.to_thread(self._last, tuple(paths))

    async def subscribe(self, paths: Sequence[str]) -> AsyncIterator[UpdateBatch]:
        """The recorded batches, with what lies at and below `paths`, at their pace."""
        batches = read_recording(self._config.file)
        loop = asyncio.get_running_loop()
        start: tuple[float, int] | None = None
        try:
            while chunk := await asyncio.to_thread(lambda: list(islice(batches, _CHUNK))):
                for batch in chunk:
                    start = start or (loop.time(), batch.received_at)
                    due = start[0] + (batch.received_at - start[1]) / 1e9 / self._config.speed
                    if due > loop.time():
                        await asyncio.sleep(due - loop.time())
                    yield _within(batch, paths)
        finally:
            batches.close()  # type: ignore[attr-defined]

    def _last(self, paths: tuple[str, ...]) -> UpdateBatch:
        state: dict[tuple[str, str], Update] = {}
        repeated: set[tuple[str, str]] | None = None
        received_at = 0
        for batch in read_recording(self._config.file):
            received_at = batch.received_at
            if batch.sync is Sync.BEGIN:
                repeated = set()
            for delete in batch.deletes:
                for key in [k for k in state if k[0] == delete.device and covers(delete.path, k[1])]:
                    del state[key]
            for update in _within(batch, paths).updates:
                state[update.device, update.path] = update
                if repeated is not None:
                    repeated.add((update.device, update.path))
            if batch.sync is Sync.END and repeated is not None:
                state = {key: update for key, update in state.items() if key in repeated}
                repeated = None
        return UpdateBatch(self.device, received_at, tuple(state.values()), sync=Sync.END)


def _within(batch: UpdateBatch, paths: Sequence[str]) -> UpdateBatch:
    if "/" in paths:
        return batch
    updates = tuple(u for u in batch.updates if any(covers(path, u.path) for path in paths))
    deletes = tuple(
        d for d in batch.deletes if any(covers(path, d.path) or covers(d.path, path) for path in paths)
    )
    return UpdateBatch(batch.source, batch.received_at, updates, deletes, batch.sync)


def _open(path: Path, mode: str) -> IO[str]:
    if path.suffix == ".gz":
        return gzip.open(path, mode, encoding="utf-8", compresslevel=5)  # type: ignore[return-value]
    return path.open(mode, encoding="utf-8")


def _encode(batch: UpdateBatch) -> dict[str, Any]:
    data: dict[str, Any] = {"source": batch.source, "at": batch.received_at}
    if batch.sync is not Sync.NONE:
        data["sync"] = batch.sync.value
    if batch.updates:
        data["updates"] = [
            [u.device, u.path, _tagged(u.value), u.observed_at, u.origin.value] for u in batch.updates
        ]
    if batch.deletes:
        data["deletes"] = [list(delete) for delete in batch.deletes]
    return data


def _decode(data: dict[str, Any]) -> UpdateBatch:
    return UpdateBatch(
        data["source"],
        data["at"],
        tuple(
            Update(device, path, _untagged(value), observed_at, Origin(origin))
            for device, path, value, observed_at, origin in data.get("updates", ())
        ),
        tuple(Delete(*fields) for fields in data.get("deletes", ())),
        Sync(data.get("sync", Sync.NONE)),
    )


def _tagged(value: Value) -> Any:
    match value:
        case tuple():
            return {"t": [_tagged(item) for item in value]}
        case Decimal():
            return {"d": str(value)}
        case bytes():
            return {"b": base64.b64encode(value).decode("ascii")}
        case float() if not math.isfinite(value):
            return {"f": str(value)}
    return value


def _untagged(data: Any) -> Value:
    if not isinstance(data, dict):
        return data  # type: ignore[no-any-return]
    ((tag, held),) = data.items()
    match tag:
        case "t":
            return tuple(_untagged(item) for item in held)  # type: ignore[misc]
        case "d":
            return Decimal(held)
        case "b":
            return base64.b64decode(held)
        case "f":
            return float(held)
    raise ValueError(f"unknown tag {tag!r}")
