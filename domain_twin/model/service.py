"""Customers, slices and end-to-end services as records (models/yang/fedtwin-service.yang)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Customer:
    """Somebody a service is provided for."""

    id: str
    name: str = ""


@dataclass(frozen=True, slots=True)
class Slice:
    """A network slice; `elements` are element ids or published aliases."""

    id: str
    name: str = ""
    snssai: str = ""
    customer: str = ""
    elements: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Objective:
    """What was promised end to end. None: nothing was."""

    delay_ms: float | None = None
    loss: float | None = None
    availability: float | None = None
    bandwidth_mbps: float | None = None


@dataclass(frozen=True, slots=True)
class Service:
    """An end-to-end service between two published end points, each named `domain/alias`."""

    id: str
    name: str
    source: str
    target: str
    objective: Objective = Objective()
    customer: str = ""
    slice: str = ""


@dataclass(frozen=True, slots=True)
class ServiceRecords:
    """The records of one file, by id."""

    services: Mapping[str, Service] = field(default_factory=dict)
    slices: Mapping[str, Slice] = field(default_factory=dict)
    customers: Mapping[str, Customer] = field(default_factory=dict)
