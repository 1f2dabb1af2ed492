"""Characteristics of tests and their specifications: what is asked of a run, read and checked. Pure.

`scenario` is a document of the scenario language, `endPointPairs` the flows that are looked at, `seed`,
`deadline` (seconds) and `atVersions` as jobs have them. What a test leaves out, its specification says; where
neither names a scenario, the twin is asked as it is.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from domain_twin.errors import ConfigError, ContractError
from domain_twin.model import Version
from domain_twin.model.job import Requirements
from domain_twin.model.scenario import DemandChange, Scenario
from federation.partners.record import Body

__all__ = [
    "MAX_DEADLINE_S",
    "RunAsk",
    "asked_values",
    "characteristic",
    "read_ask",
    "specified_values",
    "value_of",
]

MAX_DEADLINE_S = 600.0
_DEADLINE_S = 60.0
_ASKED = ("scenario", "endPointPairs", "seed", "deadline", "atVersions")
_AS_IT_IS = Scenario(
    name="as it is", changes=(DemandChange(kind="demand", factor=1.0),)
)  # a change that changes nothing: jobs refuse to be asked nothing
_SEED_BITS = 53  # what every JSON reader keeps exactly
_MOST_ENTRIES = 50
_SEQUENCE = re.compile(r"[0-9]{1,20}")


@dataclass(frozen=True, slots=True)
class RunAsk:
    """What a run is asked."""

    scenario: Scenario  # with its seed and flows
    deadline_s: float = _DEADLINE_S
    at_versions: Mapping[str, Version] = field(default_factory=dict)

    @property
    def requirements(self) -> Requirements:
        """As jobs have them."""
        return Requirements(deadline_s=self.deadline_s, at_versions=self.at_versions)

    @property
    def pairs(self) -> frozenset[tuple[str, str]]:
        """The flows that were named."""
        return frozenset(self.scenario.flows)

    def characteristics(self) -> list[Body]:
        """All of it, so that the same can be asked again."""
        document = self.scenario.model_dump(mode="json", exclude_none=True)
        found = [
            characteristic("scenario", document),
            characteristic("seed", self.scenario.seed),
            characteristic("deadline", self.deadline_s),
        ]
        if self.at_versions:
            versions = {name: f"{v.epoch}:{v.sequence}" for name, v in self.at_versions.items()}
            found.append(characteristic("atVersions", versions))
        return found


def characteristic(name: str, value: Any) -> Body:
    """A Characteristic as TMF653 has it."""
    return {"name": name, "valueType": _TYPES.get(type(value), "object"), "value": value}


_TYPES = {str: "string", bool: "boolean", int: "number", float: "number", list: "array", tuple: "array"}


def value_of(body: Body, name: str) -> Any:
    """The value of a test's characteristic; None where it has none of that name."""
    for item in body.get("characteristic") or ():
        if item.get("name") == name:
            return item.get("value")
    return None


def asked_values(found: Any) -> dict[str, Any]:
    """What a partner asks by a test's characteristics. Raises ContractError."""
    values: dict[str, Any] = {}
    for place, item in enumerate(_objects(found, "characteristic")):
        name = _name(item, f"characteristic[{place}]", values)
        if item.get("value") is None:
            raise ContractError(f"characteristic {name}: has no value")
        values[name] = item["value"]
    return values


def specified_values(found: Any) -> dict[str, Any]:
    """What a specification asks by its characteristics, the default value of each. Raises ContractError."""
    values: dict[str, Any] = {}
    for place, item in enumerate(_objects(found, "specCharacteristic")):
        where = f"specCharacteristic[{place}]"
        name = _name(item, where, values)
        options = _objects(
            item.get("characteristicValueSpecification"), f"{where}.characteristicValueSpecification"
        )
        given = [option for option in options if option.get("value") is not None]
        chosen = [option for option in given if option.get("isDefault")] or given
        if chosen:
            values[name] = chosen[0]["value"]
    return values


def read_ask(own: Mapping[str, Any], specified: Mapping[str, Any] | None = None) -> RunAsk:
    """The question that a test's values make, over those of its specification. Raises ContractError."""
    values = {**(specified or {}), **own}
    scenario = _scenario(values.get("scenario"))
    pairs = _pairs(values.get("endPointPairs"))
    if pairs and scenario.flows and set(pairs) != set(scenario.flows):
        raise ContractError(
            "characteristic endPointPairs: the scenario names other flows; name them in one place"
        )
    if pairs:
        scenario = _made({**scenario.model_dump(mode="json", exclude_none=True), "flows": pairs})
    overrides = "seed" in own and "scenario" not in own  # the specification's is only a default
    seed = _seed(values.get("seed"), None if overrides else scenario.seed)
    return RunAsk(
        scenario.model_copy(update={"seed": seed}),
        _deadline(values.get("deadline")),
        _versions(values.get("atVersions")),
    )


def _scenario(found: Any) -> Scenario:
    if found is None:
        return _AS_IT_IS
    if not isinstance(found, Mapping):
        raise ContractError("characteristic scenario: is no object; write the scenario as JSON")
    return _made(found)


def _made(document: Mapping[str, Any]) -> Scenario:
    from domain_twin.simulation.questions.scenario_file import make_scenario

    try:
        return make_scenario(document, "characteristic scenario")
    except ConfigError as error:
        raise ContractError(str(error)) from None


def _pairs(found: Any) -> list[tuple[str, str]]:
    where = "characteristic endPointPairs"
    if found is None:
        return []
    if not isinstance(found, Sequence) or isinstance(found, str):
        raise ContractError(f"{where}: is no list of pairs; write [[source, target], ...]")
    pairs = []
    for place, item in enumerate(found):
        pair = (item.get("source"), item.get("target")) if isinstance(item, Mapping) else item
        if (
            not isinstance(pair, Sequence)
            or len(pair) != 2
            or not all(isinstance(name, str) and name for name in pair)
        ):
            raise ContractError(f"{where}[{place}]: is no pair of end points; write [source, target]")
        pairs.append((pair[0], pair[1]))
    return pairs


def _seed(found: Any, in_scenario: int | None) -> int:
    if found is None:
        return secrets.randbits(_SEED_BITS) if in_scenario is None else in_scenario
    if isinstance(found, bool) or not isinstance(found, int) or not 0 <= found < 1 << 63:
        raise ContractError("characteristic seed: must be a whole number from 0 to below 2^63")
    if in_scenario not in (None, found):
        raise ContractError(
            f"characteristic seed: is {found}, and the scenario says {in_scenario}; give it once"
        )
    return found


def _deadline(found: Any) -> float:
    if found is None:
        return _DEADLINE_S
    if (
        isinstance(found, bool)
        or not isinstance(found, int | float)
        or not 0.0 < float(found) <= MAX_DEADLINE_S
    ):
        raise ContractError(f"characteristic deadline: must be seconds, above 0 and up to {MAX_DEADLINE_S:g}")
    return float(found)


def _versions(found: Any) -> dict[str, Version]:
    where = "characteristic atVersions"
    if found is None:
        return {}
    if not isinstance(found, Mapping):
        raise ContractError(f'{where}: is no object; write {{"domain": "epoch:sequence"}}')
    versions = {}
    for domain, text in found.items():
        epoch, _, sequence = str(text).rpartition(":")
        if not (epoch and _SEQUENCE.fullmatch(sequence) and int(sequence) < 1 << 63):
            raise ContractError(
                f"{where}.{domain}: {str(text)[:80]!r} is no version; copy one from the characteristic"
                " `versions` of an earlier run"
            )
        versions[str(domain)] = Version(epoch, int(sequence))
    return versions


def _name(item: Body, where: str, seen: Mapping[str, Any]) -> str:
    name = item.get("name")
    if name not in _ASKED:
        raise ContractError(
            f"{where}.name: {str(name)[:80]!r} is nothing that a run is asked; there are {', '.join(_ASKED)}"
        )
    if name in seen:
        raise ContractError(f"{where}.name: {name} is given twice; keep one")
    return str(name)


def _objects(found: Any, where: str) -> Sequence[Body]:
    if found is None:
        return ()
    if not isinstance(found, list | tuple) or not all(isinstance(item, Mapping) for item in found):
        raise ContractError(f"{where}: must be a list of objects")
    if len(found) > _MOST_ENTRIES:
        raise ContractError(f"{where}: {len(found)} entries; {_MOST_ENTRIES} at most")
    return found
