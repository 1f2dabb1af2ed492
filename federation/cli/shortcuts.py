"""A scenario from the command line: a file, standard input, and changes as options. Owns the options' forms.

What a scenario may hold is `domain_twin.model.scenario`'s to say; whether an element exists, the twin's.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from domain_twin.model.job import Capability
    from domain_twin.model.scenario import Scenario

__all__ = ["Shortcuts", "capability_of", "pair", "scenario_from"]

STDIN = "-"


@dataclass(frozen=True, slots=True)
class Shortcuts:
    """Changes as options on the command line; each is text as it was typed."""

    down: Sequence[str] = ()
    up: Sequence[str] = ()
    capacity: Sequence[str] = ()
    metric: Sequence[str] = ()
    buffer: Sequence[str] = ()
    scheduler: Sequence[str] = ()
    demand: Sequence[str] = ()
    cell_load: Sequence[str] = ()
    workers: Sequence[str] = ()

    def changes(self) -> list[dict[str, Any]]:
        """They as changes of the scenario language. Raises BadParameter naming option and form."""
        found: list[dict[str, Any]] = []
        found += ({"kind": "element-down", "element": element} for element in self.down)
        found += ({"kind": "element-up", "element": element} for element in self.up)
        for element, text in _pairs(self.capacity, "--capacity", "LINK=MBPS or LINK=xFACTOR"):
            found.append({"kind": "capacity", "element": element, **_amount(text, "--capacity")})
        for element, text in _pairs(self.metric, "--metric", "LINK=NUMBER"):
            found.append({"kind": "metric", "element": element, "value": _whole(text, "--metric")})
        for element, text in _pairs(self.buffer, "--buffer", "LINK=PACKETS"):
            found.append({"kind": "buffer", "element": element, "packets": _whole(text, "--buffer")})
        for element, text in _pairs(self.scheduler, "--scheduler", "LINK=DISCIPLINE"):
            found.append({"kind": "scheduler", "element": element, "discipline": text})
        found += (_demand(text) for text in self.demand)
        for element, text in _pairs(self.cell_load, "--cell-load", "CELL=xFACTOR"):
            factor = _number(text.removeprefix("x"), "--cell-load")
            found.append({"kind": "cell-load", "element": element, "factor": factor})
        for element, text in _pairs(self.workers, "--workers", "FUNCTION=COUNT, FUNCTION=+1 or FUNCTION=-1"):
            key = "delta" if text[:1] in "+-" else "count"
            found.append({"kind": "workers", "element": element, key: _whole(text, "--workers")})
        return found


def scenario_from(place: str, shortcuts: Shortcuts, **more: Any) -> Scenario:
    """The scenario in a file (`-`: standard input; empty: none), with the options' changes after its own.

    `more` replaces other keys of it where not None. Raises ConfigError with each thing to mend.
    """
    from domain_twin.simulation.questions.scenario_file import load_scenario, make_scenario, parse_scenario

    changes = shortcuts.changes()
    added = {key: value for key, value in more.items() if value is not None}
    if not place:
        return make_scenario({"changes": changes, **added}, "the options")
    if place == STDIN:
        scenario = parse_scenario(sys.stdin.buffer.read(), "standard input")
    else:
        scenario = load_scenario(Path(place))
    if not changes and not added:
        return scenario
    document = scenario.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    document |= added
    document["changes"] = [*(_whole_change(change) for change in scenario.changes), *changes]
    name = "standard input" if place == STDIN else place
    return make_scenario(document, f"{name} with the options")


def _whole_change(change: Any) -> dict[str, Any]:
    return dict(change.model_dump(mode="json", exclude_none=True))


def capability_of(scenario: Scenario) -> Capability:
    """What a job with this scenario is for (3GPP TS 28.561), where the asker does not say."""
    from domain_twin.model.job import Capability

    kinds = {change.kind for change in scenario.changes}
    if scenario.sweep is not None:
        fails = scenario.sweep.kind != "grid"
        return Capability.NETWORK_ISSUE_INDUCEMENT if fails else Capability.RISKY_ACTIONS_PREDICTION
    if kinds <= {"element-down", "element-up", "demand", "cell-load"}:
        return Capability.EVENTS_IMPACTS_VERIFICATION
    if "config" in kinds:
        return Capability.NETWORK_CONFIGURATIONS_VERIFICATION
    return Capability.RISKY_ACTIONS_PREDICTION


def pair(text: str, option: str) -> tuple[str, str]:
    """`FROM>TO`. Raises BadParameter."""
    source, sign, target = (part.strip() for part in text.partition(">"))
    if not (source and sign and target):
        raise click.BadParameter(f"{text!r} is not 'FROM>TO'; quote it for the shell", param_hint=option)
    return source, target


def _pairs(texts: Iterable[str], option: str, form: str) -> list[tuple[str, str]]:
    found = []
    for text in texts:
        element, sign, value = text.rpartition("=")
        if not (element and sign and value):
            raise click.BadParameter(f"{text!r} is not {form}", param_hint=option)
        found.append((element, value))
    return found


def _amount(text: str, option: str) -> dict[str, float]:
    """`x2` is a factor, `100` is Mbit/s."""
    key = "factor" if text.startswith("x") else "mbps"
    return {key: _number(text.removeprefix("x"), option)}


def _number(text: str, option: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not abs(number) < float("inf"):
        raise click.BadParameter(
            f"{text!r} is not a number; write 100 for Mbit/s or x2 for twice as much", param_hint=option
        )
    return number


def _whole(text: str, option: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is not a whole number", param_hint=option) from None


def _demand(text: str) -> dict[str, Any]:
    """`x2`, `CLASS=x2`, `FROM>TO=x2` or `FROM>TO=MBPS`."""
    whom, sign, amount = text.rpartition("=")
    change: dict[str, Any] = {"kind": "demand", **_amount(amount, "--demand")}
    if ">" in whom:
        change["source"], change["target"] = pair(whom, "--demand")
    elif whom:
        change["traffic_class"] = whom
    if (sign and not whom) or ("mbps" in change and "source" not in change):
        raise click.BadParameter(
            f"{text!r} is not x2, CLASS=x2, 'FROM>TO=x2' or 'FROM>TO=MBPS'", param_hint="--demand"
        )
    return change
