"""Whether files changed since they were read. Owns the stamp by which renewals are noticed."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

Stamp: TypeAlias = tuple[tuple[int, int, int, int], ...]


def stamp(*paths: Path) -> Stamp:
    """What changes when one of the files does: its times, size and inode; zeros for a missing one.

    The size, as two writes may fall into one tick of the file system's clock; the time of change, as a file
    may only have been made readable.
    """
    result = []
    for path in paths:
        try:
            status = path.stat()
            result.append((status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino))
        except OSError:
            result.append((0, 0, 0, 0))
    return tuple(result)
