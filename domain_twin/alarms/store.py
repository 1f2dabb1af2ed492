"""Alarms on disk, so that what operators said of them outlives a restart. Owns one SQLite file.

A file that cannot be read is set aside: alarms that stand are reported again, only their past is lost.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sqlite3
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from domain_twin.model import Alarm, AlarmKey, OperatorState, PerceivedSeverity, StatusChange

__all__ = ["AlarmStore", "alarm_from_json", "alarm_to_json"]

log = logging.getLogger(__name__)

_NOT_THE_FILES_FAULT = (
    "SQLITE_FULL",
    "SQLITE_IOERR",
    "SQLITE_CANTOPEN",
    "SQLITE_READONLY",
    "SQLITE_BUSY",
    "SQLITE_PERM",
)
_SCHEMA = "CREATE TABLE IF NOT EXISTS alarm (id TEXT PRIMARY KEY, body TEXT NOT NULL) STRICT"


class AlarmStore:
    """The alarms of one twin in one file. Blocking: to be called from a thread."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.problem = ""
        """Why the last write failed, in words; empty when it did not."""

    def load(self) -> list[Alarm]:
        """All alarms of the runs before. A damaged file is renamed, and logged."""
        try:
            with contextlib.closing(self._open()) as database:
                return [
                    alarm_from_json(json.loads(body))
                    for (body,) in database.execute("SELECT body FROM alarm ORDER BY id")
                ]
        except (sqlite3.DatabaseError, ValueError, KeyError, TypeError) as error:
            if getattr(error, "sqlite_errorname", "").startswith(_NOT_THE_FILES_FAULT):
                self.problem = f"{self._path}: {error}"
                log.warning("alarms not read", extra={"path": str(self._path), "why": str(error)})
                return []
            aside = self._path.with_name(f"{self._path.name}.damaged-{time.time_ns()}")
            with contextlib.suppress(OSError):
                self._path.replace(aside)
            log.warning(
                "alarms not readable",
                extra={"path": str(self._path), "kept_as": str(aside), "why": str(error)},
            )
            return []

    def save(self, alarms: Iterable[Alarm], gone: Iterable[str] = ()) -> None:
        """Write these alarms and forget those with the ids `gone`, all or none; `problem` says why not."""
        rows = [(alarm.id, json.dumps(alarm_to_json(alarm))) for alarm in alarms]
        try:
            with contextlib.closing(self._open()) as database, database:
                database.executemany("INSERT OR REPLACE INTO alarm VALUES (?, ?)", rows)
                database.executemany("DELETE FROM alarm WHERE id = ?", [(name,) for name in gone])
            self.problem = ""
        except sqlite3.Error as error:
            self.problem = f"{self._path}: {error}"

    def _open(self) -> sqlite3.Connection:
        database = sqlite3.connect(self._path, timeout=5.0)
        database.execute("PRAGMA journal_mode=WAL")
        database.execute(_SCHEMA)
        return database


def alarm_to_json(alarm: Alarm) -> dict[str, Any]:
    """An alarm as JSON values, also for `--json`."""
    return {
        "id": alarm.id,
        "domain": alarm.key.domain,
        "device": alarm.key.device,
        "resource": alarm.key.resource,
        "alarm-type": alarm.key.alarm_type,
        "qualifier": alarm.key.qualifier,
        "source": alarm.source,
        "severity": alarm.severity.value,
        "text": alarm.text,
        "is-cleared": alarm.is_cleared,
        "created-at": alarm.created_at,
        "raised-at": alarm.raised_at,
        "changed-at": alarm.changed_at,
        "cleared-at": alarm.cleared_at,
        "element": alarm.element,
        "remedy": alarm.remedy,
        "occurrences": alarm.occurrences,
        "stale": alarm.stale,
        "operator-state": alarm.operator_state.value,
        "operator": alarm.operator,
        "note": alarm.note,
        "changes": [
            {
                "at": step.at,
                "severity": step.severity.value if step.severity else "cleared",
                "text": step.text,
            }
            for step in alarm.changes
        ],
    }


def alarm_from_json(raw: dict[str, Any]) -> Alarm:
    """The alarm that `alarm_to_json` wrote. Raises ValueError, KeyError, TypeError."""
    return Alarm(
        key=AlarmKey(raw["domain"], raw["device"], raw["resource"], raw["alarm-type"], raw["qualifier"]),
        source=raw["source"],
        severity=PerceivedSeverity(raw["severity"]),
        text=raw["text"],
        is_cleared=bool(raw["is-cleared"]),
        created_at=int(raw["created-at"]),
        raised_at=int(raw["raised-at"]),
        changed_at=int(raw["changed-at"]),
        cleared_at=int(raw["cleared-at"]),
        element=raw["element"],
        remedy=raw["remedy"],
        occurrences=int(raw["occurrences"]),
        stale=bool(raw["stale"]),
        operator_state=OperatorState(raw["operator-state"]),
        operator=raw["operator"],
        note=raw["note"],
        changes=tuple(
            StatusChange(
                int(step["at"]),
                None if step["severity"] == "cleared" else PerceivedSeverity(step["severity"]),
                step["text"],
            )
            for step in raw["changes"]
        ),
    )
