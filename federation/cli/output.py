"""Where a document goes: standard output, or a file that is there whole or not at all."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from domain_twin.errors import ConfigError

__all__ = ["write"]


def write(document: str | bytes, path: Path | None) -> None:
    """Write a document; to a file by way of a temporary one beside it. Raises ConfigError.

    On standard output it ends with a line end, so that what comes next begins a line.
    """
    data = document.encode() if isinstance(document, str) else document
    if path is None:
        sys.stdout.flush()
        sys.stdout.buffer.write(data if data.endswith(b"\n") or not data else data + b"\n")
        sys.stdout.buffer.flush()
        return
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        draft.write_bytes(data)
        draft.replace(path)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise ConfigError(f"{path}: cannot be written ({error.strerror})") from error
