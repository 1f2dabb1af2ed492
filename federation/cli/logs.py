"""Logs of long-lived processes, on stderr, one record a line: as text, or as JSON with typed fields.

Owns their form and their bounds: the same record over and over is held back and counted, so that a device or
a peer that floods cannot fill the disk; no record is longer than a few lines; nothing a peer sends can start
a line of its own; what looks like a private key does not pass.
"""

from __future__ import annotations

import json
import logging
import math
import os
import re
import sys
import threading
import time
from collections import Counter, OrderedDict
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import TextIO

import click

LEVELS = ("debug", "info", "warning", "error")
FORMATS = ("text", "json")
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_CHATTY = ("asyncssh", "paramiko", "ncclient", "numba", "sqlalchemy", "grpc", "asyncio")
_LONGEST = 4000  # characters of one field
_LONGEST_TRACE = 20_000
_SUBJECTS = (
    "device",
    "domain",
    "peer",
    "agreement",
    "element",
    "yang_module",
)  # a record is about one of these
_PRIVATE = re.compile(
    r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL
)
_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_SYSLOG = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}


def to_stderr(level: str, form: str = "text") -> None:
    """Send the product's log records of `level` and above to stderr. Raises BadParameter."""
    if level.lower() not in LEVELS:
        raise click.BadParameter(
            f"{level!r} is not a level; choose {', '.join(LEVELS)}", param_hint="--log-level"
        )
    if form not in FORMATS:
        raise click.BadParameter(
            f"{form!r} is not a form of logs; choose {' or '.join(FORMATS)}", param_hint="--log-format"
        )
    handler = BoundedHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if form == "json" else Formatter(journal=to_journal(sys.stderr)))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)


def close() -> None:
    """Write what is still to be said, and close."""
    for handler in logging.getLogger().handlers:
        handler.close()


def to_journal(stream: TextIO) -> bool:
    """Whether `stream` goes to systemd's journal (systemd.exec(5), $JOURNAL_STREAM)."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


class Formatter(logging.Formatter):
    """One record on one line, its fields as `name=value`. For the journal a priority replaces the time."""

    def __init__(self, *, journal: bool = False) -> None:
        super().__init__()
        self._journal = journal

    def format(self, record: logging.LogRecord) -> str:
        """The line of `record`; a traceback follows where there is one."""
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        start = (
            f"<{_SYSLOG.get(record.levelno, 6)}>" if self._journal else f"{at} {record.levelname.lower()} "
        )
        fields = [f"{name}={_quoted(value)}" for name, value in vars(record).items() if name not in _STANDARD]
        line = start + " ".join([f"{record.name}: {_plain(record.getMessage())}", *fields])
        return f"{line}\n{_trace(self, record)}" if record.exc_info else line


class JsonFormatter(logging.Formatter):
    """One record as one line of JSON; numbers, truth values and absences keep their types."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of `record`; `at` is UTC, ISO 8601; a traceback is the field `exception`."""
        document: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _clean(record.getMessage()),
        }
        for name, value in vars(record).items():
            if name not in _STANDARD:
                document[f"{name}_" if name in document else name] = _typed(value)
        if record.exc_info:
            document["exception"] = _trace(self, record)
        return json.dumps(document)


@dataclass(slots=True)
class _Repeated:
    """How often the same record came within the present interval."""

    began: float
    passed: int = 0
    held: int = 0


class BoundedHandler(logging.StreamHandler[TextIO]):
    """Writes at most `burst` records of one kind in `interval_s`, and says then how many it held back.

    Records are of one kind when logger, level, message and subject (a device, a domain, a peer) are the same.
    `counts` has all records by level, `suppressed` those that were held back.
    """

    def __init__(
        self, stream: TextIO, *, burst: int = 20, interval_s: float = 10.0, kinds: int = 2048
    ) -> None:
        super().__init__(stream)
        self.counts: Counter[str] = Counter()
        self.suppressed = 0
        self._burst = burst
        self._interval_s = interval_s
        self._kinds = kinds
        self._seen: OrderedDict[tuple[object, ...], _Repeated] = OrderedDict()
        self._all = _Repeated(0.0)
        self._timer: threading.Timer | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record, or count it."""
        self.counts[record.levelname.lower()] += 1
        now = time.monotonic()
        self._report(now)
        if self._admit(record, now):
            super().emit(record)
        else:
            self.suppressed += 1
            self._wake()

    def close(self) -> None:
        """Say what was held back, and close."""
        with self.lock or threading.RLock():
            if self._timer:
                self._timer.cancel()
                self._timer = None
            self._report(math.inf)
        super().close()

    def _admit(self, record: logging.LogRecord, now: float) -> bool:
        subject = next((str(vars(record)[name]) for name in _SUBJECTS if name in vars(record)), "")
        kind = (record.name, record.levelno, str(record.msg)[:200], subject[:200])
        seen = self._seen.get(kind)
        if seen is None:
            if len(self._seen) >= self._kinds:  # subjects by the thousand: all of them share one allowance
                seen = self._all
                if now - seen.began >= self._interval_s:
                    seen.began, seen.passed = now, 0
            else:
                seen = self._seen[kind] = _Repeated(now)
        if seen.passed < self._burst:
            seen.passed += 1
            return True
        seen.held += 1
        return False

    def _report(self, now: float) -> None:
        """Say how many of each kind were held back in an interval that is over, and begin a new one."""
        while self._seen:
            kind, seen = next(iter(self._seen.items()))
            if now - seen.began < self._interval_s:
                break
            del self._seen[kind]
            self._tell(seen, str(kind[0]), str(kind[2]), str(kind[3]))
        if self._all.held and now - self._all.began >= self._interval_s:
            self._tell(self._all, __name__, "records of many kinds", "")
            self._all = _Repeated(0.0)

    def _tell(self, seen: _Repeated, logger: str, message: str, subject: str) -> None:
        if seen.held:
            fields = {"held_back": seen.held, "within_s": self._interval_s, "repeated": message}
            if subject:
                fields["about"] = subject
            record = logging.makeLogRecord({"name": logger, "levelno": 30, "levelname": "WARNING", **fields})
            record.msg = "the same came too often"
            super().emit(record)

    def _wake(self) -> None:
        """Have the report made even when nothing more is logged."""
        if self._timer is None:
            self._timer = threading.Timer(self._interval_s, self._late)
            self._timer.daemon = True
            self._timer.start()

    def _late(self) -> None:
        with self.lock or threading.RLock():
            self._timer = None
            self._report(time.monotonic() + 0.05)
            if any(seen.held for seen in self._seen.values()):
                self._wake()


def _typed(value: object) -> object:
    if isinstance(value, Enum):
        return _typed(value.value)
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, list | tuple | set | frozenset):
        return [_typed(item) for item in list(value)[:100]]
    if isinstance(value, dict):
        return {str(key): _typed(item) for key, item in list(value.items())[:100]}
    return _clean(str(value))


def _clean(text: str, longest: int = _LONGEST) -> str:
    text = _PRIVATE.sub("(a private key)", text)
    return text if len(text) <= longest else f"{text[:longest]}… ({len(text) - longest} more characters)"


def _plain(text: str) -> str:
    """On one line, without anything that a terminal would act on."""
    return _CONTROL.sub(_escape, _clean(text))


def _escape(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()


def _quoted(value: object) -> str:
    text = _plain(str(value))
    return f'"{text}"' if " " in text or not text else text


def _trace(formatter: logging.Formatter, record: logging.LogRecord) -> str:
    assert record.exc_info
    return _clean(formatter.formatException(record.exc_info), _LONGEST_TRACE)
