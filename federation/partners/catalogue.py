"""What the operator offers to partners (TMF633): made at the start, the newest version wins.

Two specifications: `NdtTwin` is ordered (TMF641) and becomes a service (TMF638); `NdtScenario` says what a
test on a twin may ask (TMF653). A record whose content is as before keeps its version and its date.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from domain_twin.errors import NotFound
from domain_twin.model import Nanoseconds
from federation.partners.dates import stamp
from federation.partners.record import Body, Kind, Repository
from federation.partners.scope import DEFAULTS, LIMITS

__all__ = ["NDT_SCENARIO", "NDT_TWIN", "ORDERABLE", "publish", "twin_specification"]

NDT_TWIN = "ndt-twin"
NDT_SCENARIO = "ndt-scenario"
ORDERABLE = ("Active", "Launched")
"""Words of `lifecycleStatus` under which a specification can be ordered."""

_CATALOG, _CATEGORY = "network-digital-twins", "ndt"
_VOLATILE = ("version", "lastUpdate")


async def publish(
    public: Repository, members: Iterable[str], *, clock: Callable[[], Nanoseconds] = time.time_ns
) -> None:
    """Bring the public catalogue up to what this broker offers. `members` are the domains to choose from."""
    for kind, body in _offer(sorted(members)):
        identity = str(body["id"])
        try:
            record = public.get(kind, identity)
        except NotFound:
            dated = {**body, "version": "1.0", "lastUpdate": stamp(clock())}
            await public.create(kind, dated)
            continue
        if {k: v for k, v in record.body.items() if k not in _VOLATILE} != body:
            number = int(str(record.body["version"]).partition(".")[0]) + 1
            await public.update(record, {**body, "version": f"{number}.0", "lastUpdate": stamp(clock())})


def twin_specification(repository: Repository) -> Body:
    """The specification of twins that is offered now. Raises NotFound."""
    return repository.get(Kind.SERVICE_SPECIFICATION, NDT_TWIN).body


def _offer(members: Sequence[str]) -> list[tuple[Kind, dict[str, Any]]]:
    return [
        (Kind.SERVICE_SPECIFICATION, _twin(members)),
        (Kind.SERVICE_SPECIFICATION, _scenario()),
        (Kind.SERVICE_CANDIDATE, _candidate(NDT_TWIN, "NdtTwin", "A twin of your own over several domains")),
        (Kind.SERVICE_CANDIDATE, _candidate(NDT_SCENARIO, "NdtScenario", "Runs on a twin of yours")),
        (
            Kind.SERVICE_CATEGORY,
            {
                "id": _CATEGORY,
                "@type": "ServiceCategory",
                "name": "Network digital twins",
                "description": "Twins of networks of several operators, and what can be asked of them",
                "isRoot": True,
                "lifecycleStatus": "Active",
                "serviceCandidate": [
                    {"id": NDT_TWIN, "name": "NdtTwin"},
                    {"id": NDT_SCENARIO, "name": "NdtScenario"},
                ],
            },
        ),
        (
            Kind.SERVICE_CATALOG,
            {
                "id": _CATALOG,
                "@type": "ServiceCatalog",
                "name": "Network digital twins as a service",
                "description": "What partners of this exchange can order",
                "lifecycleStatus": "Active",
                "category": [{"id": _CATEGORY, "name": "Network digital twins"}],
            },
        ),
    ]


def _candidate(identity: str, name: str, description: str) -> dict[str, Any]:
    return {
        "id": identity,
        "@type": "ServiceCandidate",
        "name": name,
        "description": description,
        "lifecycleStatus": "Active",
        "category": [{"id": _CATEGORY, "name": "Network digital twins"}],
        "serviceSpecification": {"id": identity, "name": name},
    }


def _twin(members: Sequence[str]) -> dict[str, Any]:
    listed = [{"value": name, "valueType": "string", "isDefault": True} for name in members]
    return {
        "id": NDT_TWIN,
        "@type": "CustomerFacingServiceSpecification",
        "name": "NdtTwin",
        "description": (
            "A digital twin of its own for a partner, composed of what each domain shows to that partner;"
            " ordered with TMF641, inspected with TMF639, asked with TMF653"
        ),
        "isBundle": False,
        "lifecycleStatus": "Active",
        "specCharacteristic": [
            _characteristic(
                "domains", "array", "domains that the twin spans; all when left out", listed, most=len(listed)
            ),
            _characteristic(
                "endPoints",
                "array",
                "published end points, `domain/name`; all that you may see when left out",
                most=LIMITS.end_points,
            ),
            _characteristic(
                "freshness",
                "number",
                "the twin is brought up to date this often",
                [
                    _range(LIMITS.least_freshness_s, LIMITS.most_freshness_s),
                    {"value": DEFAULTS.freshness_s, "isDefault": True, "unitOfMeasure": "s"},
                ],
            ),
            _characteristic(
                "validFor",
                "number",
                "the twin is retired by itself after this time",
                [
                    _range(LIMITS.least_life_s, LIMITS.most_life_s),
                    {"value": DEFAULTS.life_s, "isDefault": True, "unitOfMeasure": "s"},
                ],
            ),
            _characteristic("until", "dateTime", "the same as a date and time; instead of validFor"),
        ],
    }


def _scenario() -> dict[str, Any]:
    return {
        "id": NDT_SCENARIO,
        "@type": "CustomerFacingServiceSpecification",
        "name": "NdtScenario",
        "description": (
            "A run on an active twin: changes that were not made, and what they would do. Not ordered: POST a"
            " serviceTest (TMF653) whose relatedService is the twin"
        ),
        "isBundle": False,
        "lifecycleStatus": "Active",
        "serviceSpecRelationship": [{"id": NDT_TWIN, "name": "NdtTwin", "relationshipType": "dependency"}],
        "specCharacteristic": [
            _characteristic("scenario", "object", "a document of the scenario language"),
            _characteristic("endPointPairs", "array", "flows to look at: pairs of end points of the twin"),
            _characteristic("seed", "number", "the same seed and versions give the same answer"),
            _characteristic("deadline", "number", "seconds that the run may take"),
            _characteristic("atVersions", "object", "versions of domains that are meant, by domain"),
        ],
    }


def _characteristic(
    name: str,
    value_type: str,
    description: str,
    values: Sequence[Mapping[str, Any]] = (),
    *,
    most: int = 1,
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": name,
        "valueType": value_type,
        "description": description,
        "configurable": True,
        "minCardinality": 0,
        "maxCardinality": most,
    }
    if values:
        found["characteristicValueSpecification"] = list(values)
    return found


def _range(least: float, most: float) -> dict[str, Any]:
    return {
        "valueFrom": int(least),
        "valueTo": int(most),
        "rangeInterval": "closed",
        "unitOfMeasure": "s",
        "valueType": "number",
    }
