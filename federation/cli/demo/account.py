"""What happened in a demo, with measured times: for the summary and for `--json`. Owns its keys."""

from __future__ import annotations

import json
import os
import platform
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from federation.cli.console import iso, plain

if TYPE_CHECKING:
    from federation.cli.demo.dependence import Compared
    from federation.cli.demo.evidence import Evidence
    from federation.cli.demo.learning import Learned
    from federation.cli.demo.outage import Outage
    from federation.cli.demo.partnering import Partnership
    from federation.cli.demo.prediction import Verdict


@dataclass(slots=True)
class Phase:
    """The service in one phase of the story: before, while the link is cut, after the repair.

    `delay_ms` and the budget's `used_ms` are means of what the twin said while the packets were timed.
    """

    name: str
    delay_ms: float
    metric: int
    met: bool | None
    budget: list[dict[str, Any]]
    statuses: int = 0
    packets: int = 0
    packets_delay_ms: float | None = None
    packets_std_error_ms: float | None = None
    packets_lost: int = 0
    packets_parts_ms: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class Reaction:
    """One edit on a device, and when a watcher of the composed twin had its consequence.

    `path_at` is when the new path was known, `event_at` when its measured delay and budget were, too.
    """

    name: str
    device: str
    interface: str
    sent_at: int
    replied_at: int
    event_at: int
    path_at: int = 0

    @property
    def after_reply_ms(self) -> float:
        """From the device's reply to the event at the watcher; negative when the event was first."""
        return (self.event_at - self.replied_at) / 1e6

    @property
    def after_commit_ms(self) -> float:
        """From the commit's sending to the event at the watcher."""
        return (self.event_at - self.sent_at) / 1e6


@dataclass(slots=True)
class Account:
    """One demo."""

    seed: int
    began_at: int = field(default_factory=time.time_ns)
    began: float = field(default_factory=time.monotonic)
    processes: list[dict[str, Any]] = field(default_factory=list)
    domains: list[dict[str, Any]] = field(default_factory=list)
    all_joined_s: float | None = None
    first_view_s: float | None = None
    phases: list[Phase] = field(default_factory=list)
    reactions: list[Reaction] = field(default_factory=list)
    predictions: list[Verdict] = field(default_factory=list)
    impacts: list[Compared] = field(default_factory=list)
    outages: list[Outage] = field(default_factory=list)
    partners: list[Partnership] = field(default_factory=list)
    trainings: list[Learned] = field(default_factory=list)
    audits: list[Evidence] = field(default_factory=list)
    history_samples: int = 0
    outcome: str = "unfinished"
    problem: str = ""

    def elapsed(self) -> float:
        """Seconds since the demo began."""
        return time.monotonic() - self.began

    def document(self) -> dict[str, Any]:
        """All of it in JSON's types; keys end with their unit."""
        return {
            "outcome": self.outcome,
            "problem": self.problem or None,
            "began_at": iso(self.began_at),
            "took_s": round(self.elapsed(), 3),
            "seed": self.seed,
            "machine": {
                "cpus": os.cpu_count(),
                "python": platform.python_version(),
                "system": platform.system(),
            },
            "processes": self.processes,
            "all_joined_s": _rounded(self.all_joined_s),
            "first_view_s": _rounded(self.first_view_s),
            "domains": self.domains,
            "phases": plain(self.phases),
            "reactions": [
                {
                    "name": each.name,
                    "device": each.device,
                    "interface": each.interface,
                    "commit_sent_at": iso(each.sent_at),
                    "reply_at": iso(each.replied_at),
                    "event_at": iso(each.event_at),
                    "path_known_at": iso(each.path_at) if each.path_at else None,
                    "reply_to_event_ms": round(each.after_reply_ms, 3),
                    "commit_to_event_ms": round(each.after_commit_ms, 3),
                }
                for each in self.reactions
            ],
            "predictions": [_prediction(each) for each in self.predictions],
            "impacts": [_impact(each) for each in self.impacts],
            "outages": [
                {
                    "process": each.process,
                    "killed_at": iso(each.killed_at),
                    "kill_to_lost_ms": round((each.lost_at - each.killed_at) / 1e6, 3),
                    "kill_to_stale_ms": round((each.stale_at - each.killed_at) / 1e6, 3),
                    "start_to_back_ms": round((each.back_at - each.started_at) / 1e6, 3),
                    "start_to_whole_ms": round((each.whole_at - each.started_at) / 1e6, 3),
                    "values": each.values,
                    "same": each.same,
                }
                for each in self.outages
            ],
            "partners": [_partner(each) for each in self.partners],
            "trainings": [{**plain(each), "problem": each.problem or None} for each in self.trainings],
            "audits": plain(self.audits),
            "history_samples": self.history_samples,
        }

    def write(self, path: Path) -> None:
        """Write the document to `path`."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(self.document(), indent=2) + "\n", encoding="utf-8")


def _prediction(verdict: Verdict) -> dict[str, Any]:
    said = verdict.prediction
    return {
        "link": said.link,
        "problem": said.problem or None,
        **plain(
            {
                "before_ms": said.before_ms,
                "predicted_ms": said.delay_ms,
                "low_ms": said.low_ms,
                "high_ms": said.high_ms,
                "twin_ms": verdict.twin_ms,
                "packets_ms": verdict.packets_ms,
                "off_twin_percent": verdict.of_twin_percent,
                "off_packets_percent": verdict.of_packets_percent,
                "inside_interval": verdict.inside,
                "predicted_route": said.route,
                "taken_route": verdict.route_taken,
                "same_route": verdict.same_route if said.made else None,
                "part_changes_ms": said.changes_ms,
                "remark": said.remark or None,
                "rung": said.rung or None,
                "answered_in_ms": said.took_ms,
                "assumptions": said.assumptions,
            }
        ),
    }


def _impact(told: Compared) -> dict[str, Any]:
    said = told.said
    return {
        "link": said.link,
        "problem": said.problem or None,
        "services": sorted(said.services),
        "slices": list(said.names("slice")),
        "customers": list(said.names("customer")),
        "changed": sorted(told.changed),
        "unchanged": sorted(told.asked - told.changed),
        "same": told.same if said.impact else None,
        "domains": [part.domain for part in said.impact.parts] if said.impact else [],
        "answered_in_ms": round(said.took_ms, 3),
    }


def _partner(told: Partnership) -> dict[str, Any]:
    found: dict[str, Any] = plain(told)
    return {
        **found,
        "problem": told.problem or None,
        "active_ms": round(told.active_ms, 3),
        "run_ms": round(told.run_ms, 3),
        "same_refusal": told.foreign == told.unknown if told.foreign else None,
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
