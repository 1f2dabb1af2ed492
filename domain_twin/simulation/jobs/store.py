"""Jobs and their reports on disk, so that they survive a restart. Owns the folder; blocks on disk.

`ID.job.json` is the job as last written, `ID.report.json` what is known of its answer. Ended jobs are kept up
to a number and a size, the oldest go first. A file that cannot be read is set aside, never guessed at.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
from collections.abc import Iterable
from pathlib import Path

from domain_twin.datastore.durable import put_in_place, set_aside
from domain_twin.errors import ContractError, NotFound
from domain_twin.model.job import Job
from domain_twin.model.job_json import job_json, parse_job

__all__ = ["MAX_KEPT", "MAX_KEPT_BYTES", "JobStore"]

log = logging.getLogger(__name__)

MAX_KEPT = 500
MAX_KEPT_BYTES = 512 << 20
_NAME = re.compile(r"^[0-9a-f]{8,64}$")


class JobStore:
    """One folder of jobs, mode 0700: what is asked and answered here is the operator's business."""

    def __init__(
        self, folder: Path, *, max_kept: int = MAX_KEPT, max_kept_bytes: int = MAX_KEPT_BYTES
    ) -> None:
        self._folder = folder
        self._max_kept = max_kept
        self._max_kept_bytes = max_kept_bytes

    def load(self) -> list[Job]:
        """All jobs on disk, oldest first."""
        jobs = []
        for path in sorted(self._folder.glob("*.job.json")):
            try:
                job = parse_job(path.read_bytes())
                if path.name != f"{job.id}.job.json":
                    raise ContractError(f"{path}: holds job {job.id!r}")
                jobs.append(job)
            except (OSError, ContractError) as error:
                log.warning("a job's file set aside", extra={"file": str(path), "why": str(error)})
                self._put_aside(path)
        return sorted(jobs, key=lambda job: (job.created_at, job.id))

    def save(self, job: Job) -> None:
        """Write a job as it is now. Raises OSError."""
        self._write(f"{job.id}.job.json", job_json(job))

    def save_report(self, identity: str, report: bytes) -> None:
        """Write what is known of a job's answer. Raises OSError."""
        self._write(f"{identity}.report.json", report)

    def report(self, identity: str) -> bytes:
        """What is known of a job's answer. Raises NotFound."""
        try:
            return self._path(f"{identity}.report.json").read_bytes()
        except OSError as error:
            raise NotFound(f"job {identity} has no report; its problem says why") from error

    def prune(self, ended: Iterable[Job]) -> list[str]:
        """Delete the oldest of the `ended` jobs beyond the bounds; the ids of those that are gone."""
        gone: list[str] = []
        total = 0
        newest_first = sorted(ended, key=lambda job: (job.ended_at, job.id), reverse=True)
        for kept, job in enumerate(newest_first, start=1):
            total += self._size(job.id)
            if kept > self._max_kept or (total > self._max_kept_bytes and kept > 1):
                for kind in ("report", "job"):  # the job last: what a crash leaves can be found
                    self._path(f"{job.id}.{kind}.json").unlink(missing_ok=True)
                gone.append(job.id)
        return gone

    def _size(self, identity: str) -> int:
        size = 0
        for kind in ("report", "job"):
            with contextlib.suppress(OSError):
                size += self._path(f"{identity}.{kind}.json").stat().st_size
        return size

    def _path(self, name: str) -> Path:
        if not _NAME.match(name.partition(".")[0]):
            raise NotFound(f"no job is called {name.partition('.')[0]!r}")
        return self._folder / name

    def _write(self, name: str, data: bytes) -> None:
        target = self._path(name)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        written = target.with_name(f"{name}.new")
        with os.fdopen(os.open(written, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(data)
        put_in_place(written, target)

    def _put_aside(self, path: Path) -> None:
        try:
            set_aside(path, path.stat().st_mtime_ns)
        except OSError as error:
            log.warning("a job's file stays", extra={"file": str(path), "why": str(error)})
