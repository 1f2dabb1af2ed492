"""Questions to the semantic layer and their answers. Plain data, the same at agent and broker."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from domain_twin.model.answer import Outcome
from domain_twin.model.network import Finding
from domain_twin.model.values import Version

__all__ = [
    "Affected",
    "Dependency",
    "GraphCheck",
    "Impact",
    "QueryAnswer",
    "QueryForm",
    "QueryPart",
    "Require",
]


class QueryForm(StrEnum):
    """What a query answers with (SPARQL 1.1 Query Language 16)."""

    BINDINGS = "bindings"  # SELECT
    BOOLEAN = "boolean"  # ASK
    TRIPLES = "triples"  # CONSTRUCT


class Require(StrEnum):
    """What an answer is worth when a domain is missing."""

    ALL = "all"  # an error that names the domain
    BEST_EFFORT = "best-effort"  # an answer that says whose part is missing


@dataclass(frozen=True, slots=True)
class QueryAnswer:
    """What came of a query. `results`: SPARQL 1.1 Query Results JSON; for TRIPLES, N-Triples."""

    form: QueryForm
    results: bytes
    rows: int
    stopped_by: str = ""
    """The limit that cut it short, in words; empty: it is complete."""


@dataclass(frozen=True, slots=True)
class QueryPart:
    """One domain's part in an answer: how it went, how often it was asked, how many rows it gave."""

    domain: str
    outcome: Outcome
    reason: str = ""
    version: Version | None = None
    requests: int = 0
    rows: int = 0


@dataclass(frozen=True, slots=True)
class Dependency:
    """One step of evidence: `subject` `relation` `object`, as `domain` says (empty: the broker's records)."""

    subject: str
    relation: str
    object: str
    domain: str = ""


@dataclass(frozen=True, slots=True)
class Affected:
    """What depends on an element, with the chain from that element to it."""

    kind: str
    id: str
    name: str = ""
    domain: str = ""
    evidence: tuple[Dependency, ...] = ()


@dataclass(frozen=True, slots=True)
class Impact:
    """All that depends on one element, nearest first, and each domain's part in the answer."""

    element: str
    affected: tuple[Affected, ...]
    parts: tuple[QueryPart, ...] = ()


@dataclass(frozen=True, slots=True)
class GraphCheck:
    """What shapes found: a finding's `code` is `shape.NAME`. `shapes`: how many were checked."""

    findings: tuple[Finding, ...]
    shapes: int
    parts: tuple[QueryPart, ...] = ()
