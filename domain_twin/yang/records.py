"""Customers, slices and services from an RFC 7951 JSON file of fedtwin-service. Owns their checks."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

from domain_twin.errors import ConfigError, SchemaViolation
from domain_twin.model import Customer, Objective, Service, ServiceRecords, Slice
from domain_twin.yang.schema import SchemaSet
from domain_twin.yang.validate import Validation

__all__ = ["load_services"]

_TOP = "fedtwin-service:service-records"


def load_services(path: Path) -> ServiceRecords:
    """The records of one file, validated against their YANG module. Blocks for about 0.2 s.

    Raises ConfigError naming file and element.
    """
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror}); check the path") from error
    except ValueError as error:  # JSON, or its encoding
        raise ConfigError(f"{path}: not valid JSON: {error}") from error
    if not isinstance(tree, dict) or set(tree) - {_TOP}:
        found = ", ".join(tree) if isinstance(tree, dict) else type(tree).__name__
        raise ConfigError(f"{path}: expected one member {_TOP!r}, found {found}")
    schema = SchemaSet.load(["fedtwin-service"])
    schema.require("fedtwin-service")
    with Validation(schema) as validation:
        try:
            validation.check(tree, config_only=True)
        except SchemaViolation as error:
            raise ConfigError(f"{path}: {error}") from error
    records = tree.get(_TOP, {})
    services = {entry["service-id"]: _service(path, entry) for entry in records.get("service", ())}
    return ServiceRecords(
        services=services,
        slices={entry["slice-id"]: _slice(entry) for entry in records.get("slice", ())},
        customers={
            entry["customer-id"]: Customer(entry["customer-id"], entry.get("name", ""))
            for entry in records.get("customer", ())
        },
    )


def _slice(entry: dict[str, Any]) -> Slice:
    return Slice(
        id=entry["slice-id"],
        name=entry.get("name", ""),
        snssai=entry.get("sNSSAI", ""),
        customer=entry.get("customer", ""),
        elements=tuple(entry.get("element", ())),
    )


def _service(path: Path, entry: dict[str, Any]) -> Service:
    for end in ("from", "to"):
        domain, slash, alias = entry[end].partition("/")
        if not (domain and slash and alias):
            raise ConfigError(
                f"{path}: service {entry['service-id']}: {end} {entry[end]!r} names no published end point;"
                " write domain/alias"
            )
    objective = entry.get("objective", {})
    return Service(
        id=entry["service-id"],
        name=entry.get("name", ""),
        source=entry["from"],
        target=entry["to"],
        objective=Objective(
            delay_ms=_number(objective.get("one-way-delay")),
            loss=_number(objective.get("loss-ratio")),
            availability=_number(objective.get("availability")),
            bandwidth_mbps=_number(objective.get("bandwidth")),
        ),
        customer=entry.get("customer", ""),
        slice=entry.get("slice", ""),
    )


def _number(text: str | None) -> float | None:
    return None if text is None else float(Decimal(text))
