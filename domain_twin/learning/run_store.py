"""Trainings on disk, so that a restart knows of them. Owns the folder; blocks on disk.

`ID.run.json` is the training as last written. What cannot be read is set aside, never guessed at.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from domain_twin.datastore.durable import put_in_place, set_aside
from domain_twin.errors import ContractError, NotFound
from domain_twin.learning.run import Run

__all__ = ["RunStore"]

log = logging.getLogger(__name__)

_ID: Final = re.compile(r"^[0-9a-f]{8,64}$")
_END: Final = ".run.json"


class RunStore:
    """One folder of trainings, mode 0700."""

    def __init__(self, folder: Path, *, kept: int) -> None:
        self._folder = folder
        self._kept = kept

    def load(self) -> list[Run]:
        """All trainings on disk, oldest first."""
        runs = []
        for path in sorted(self._folder.glob(f"*{_END}")):
            try:
                run = Run.from_json(path.read_bytes())
                if path.name != f"{run.id}{_END}":
                    raise ContractError(f"it holds run {run.id!r}")
                runs.append(run)
            except (OSError, ContractError) as error:
                log.warning("a training's file set aside", extra={"file": str(path), "why": str(error)})
                try:
                    set_aside(path, path.stat().st_mtime_ns)
                except OSError as stays:
                    log.warning("a training's file stays", extra={"file": str(path), "why": str(stays)})
        return sorted(runs, key=lambda run: (run.created_at, run.id))

    def save(self, run: Run) -> None:
        """Write a training as it is now. Raises OSError."""
        target = self._path(run.id)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        written = target.with_name(f".{target.name}.new")
        with os.fdopen(os.open(written, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(run.to_json())
        put_in_place(written, target)

    def prune(self, ended: Iterable[Run]) -> list[str]:
        """Delete the oldest of the `ended` trainings beyond the bound; the ids of those that are gone."""
        newest_first = sorted(ended, key=lambda run: (run.ended_at, run.id), reverse=True)
        gone = [run.id for run in newest_first[self._kept :]]
        for identity in gone:
            self._path(identity).unlink(missing_ok=True)
        return gone

    def _path(self, identity: str) -> Path:
        if not _ID.match(identity):
            raise NotFound(f"no training is called {identity[:64]!r}")
        return self._folder / f"{identity}{_END}"
