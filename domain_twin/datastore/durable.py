"""Files that survive: written aside, forced to disk, then put in place at once."""

from __future__ import annotations

import os
from pathlib import Path


def put_in_place(written: Path, target: Path) -> None:
    """Make the complete file `written` the new `target`, so that a crash leaves one of the two whole."""
    with written.open("rb+") as file:
        os.fsync(file.fileno())
    target.parent.mkdir(parents=True, exist_ok=True)
    written.replace(target)
    sync_folder(target.parent)


def set_aside(path: Path, stamp: int) -> Path:
    """Rename a damaged file so that it is kept for inspection and never read again."""
    aside = path.with_name(f"{path.name}.damaged-{stamp}")
    path.replace(aside)
    sync_folder(path.parent)
    return aside


def sync_folder(folder: Path) -> None:
    """Force the folder's entries to disk (a rename or a deletion is one)."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
