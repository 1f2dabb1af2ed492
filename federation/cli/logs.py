"""Logs of long-lived processes, on stderr: time, level, logger, message, fields. Owns their form."""

from __future__ import annotations

import logging
import sys
from datetime import UTC, datetime

import click

LEVELS = ("debug", "info", "warning", "error")
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_CHATTY = ("asyncssh", "paramiko", "ncclient", "numba", "sqlalchemy", "grpc", "asyncio")


def to_stderr(level: str) -> None:
    """Send the product's log records of `level` and above to stderr. Raises BadParameter."""
    if level.lower() not in LEVELS:
        raise click.BadParameter(
            f"{level!r} is not a level; choose {', '.join(LEVELS)}", param_hint="--log-level"
        )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Formatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)


class Formatter(logging.Formatter):
    """One record on one line, its fields as `name=value`."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of `record`; a traceback follows where there is one."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        extras = [f"{name}={_quoted(value)}" for name, value in vars(record).items() if name not in _STANDARD]
        line = " ".join([at, record.levelname.lower(), f"{record.name}: {record.getMessage()}", *extras])
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line


def _quoted(value: object) -> str:
    text = str(value).replace("\n", "\\n")
    return f'"{text}"' if " " in text or not text else text
