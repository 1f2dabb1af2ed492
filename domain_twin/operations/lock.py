"""One process per folder, and a clear word about who has it."""

from __future__ import annotations

import fcntl
import json
import os
import sys
from pathlib import Path
from typing import IO

from domain_twin.errors import ConfigError


def hold(folder: Path, what: str) -> IO[str]:
    """Hold the folder until the returned file is closed; the kernel lets go however the process ends.

    Raises ConfigError that names the holder.
    """
    file = (folder / f"{what}.lock").open("a+", encoding="utf-8")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.seek(0)
        holder = _who(file.read())
        file.close()
        raise ConfigError(
            f"{what} {folder} is in use by {holder}; stop that process, or give this one another state folder"
        ) from error
    file.truncate(0)
    file.write(json.dumps({"pid": os.getpid(), "command": " ".join(sys.orig_argv)[:200]}))
    file.flush()
    return file


def _who(told: str) -> str:
    try:
        holder = json.loads(told)
        return f"process {holder['pid']} ({holder['command']})"
    except (ValueError, KeyError, TypeError):
        return "another process"
