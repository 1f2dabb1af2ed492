"""A training as its broker knows it: who asked, who takes part, how far it is. Data and its JSON."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Self

from domain_twin.errors import ContractError
from domain_twin.learning.task import Task
from domain_twin.model import Nanoseconds

__all__ = ["Run", "RunState"]


class RunState(StrEnum):
    """How far a training is."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self in (RunState.DONE, RunState.FAILED, RunState.STOPPED)


@dataclass(frozen=True, slots=True)
class Run:
    """One training. `log` holds one JSON object a round, oldest first; `version` 0: none came of it."""

    id: str
    task: Task
    domains: tuple[str, ...]
    """Those asked for, until it began; then those that take part."""
    state: RunState
    created_at: Nanoseconds
    owner: str = ""
    round: int = 0
    ended_at: Nanoseconds = 0
    problem: str = ""
    log: tuple[Mapping[str, Any], ...] = ()
    version: int = 0

    def to_json(self) -> bytes:
        """This run as JSON in UTF-8."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        fields["task"] = json.loads(self.task.to_json())
        return json.dumps(fields, sort_keys=True, allow_nan=False).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """The run that `data` is. Raises ContractError."""
        try:
            fields = json.loads(data)
            fields["task"] = Task.from_json(json.dumps(fields["task"]).encode())
            fields["state"] = RunState(fields["state"])
            fields["domains"] = tuple(map(str, fields["domains"]))
            fields["log"] = tuple(dict(entry) for entry in fields["log"])
            return cls(**fields)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ContractError(f"a training's file cannot be read ({error})") from None
