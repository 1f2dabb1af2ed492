"""What the api answers, with types: views over TM Forum's documents. Owns their reading.

A document keeps its whole `body` as it came. Its properties read what a partner's program asks for most.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

__all__ = [
    "Definition",
    "Document",
    "Event",
    "Measure",
    "Order",
    "Part",
    "Resource",
    "Run",
    "Specification",
    "Threshold",
    "Twin",
    "Violation",
]

ORDER_ENDED = frozenset({"completed", "failed", "partial", "rejected", "cancelled"})
TWIN_ENDED = frozenset({"terminated"})
RUN_ENDED = frozenset({"completed", "failed", "cancelled", "rejected"})


@dataclass(frozen=True, slots=True)
class Document:
    """One resource as it came; `etag` is its version where it was read alone."""

    body: Mapping[str, Any] = field(repr=False)
    etag: str = ""

    @classmethod
    def of(cls, body: object, etag: str = "") -> Self:
        """Read a document; what is not a JSON object is an empty one."""
        return cls(body if isinstance(body, Mapping) else {}, etag)

    @property
    def id(self) -> str:
        """Its id."""
        return self.text("id")

    @property
    def href(self) -> str:
        """Where it can be read."""
        return self.text("href")

    @property
    def name(self) -> str:
        """Its name, where it has one."""
        return self.text("name")

    @property
    def description(self) -> str:
        """What is said of it."""
        return self.text("description")

    def text(self, key: str) -> str:
        """A text; empty where there is none."""
        value = self.body.get(key)
        return value if isinstance(value, str) else ""

    def items(self, key: str) -> Iterator[Mapping[str, Any]]:
        """The objects of a list; none where there is no list."""
        yield from _objects(self.body.get(key))

    def named(self, key: str) -> dict[str, Any]:
        """A list of `{name, value}`, such as characteristics, by name."""
        return {str(each.get("name", "")): each.get("value") for each in self.items(key)}


@dataclass(frozen=True, slots=True)
class Event(Document):
    """Something that happened (TMF630 notification), or a gap: something did, and nobody can say what."""

    place: str = ""
    """Where it stands in the stream: to go on behind it is to give this as `after`."""
    gap: bool = False
    """Events were missed: read again what matters. `description` says why."""

    @property
    def id(self) -> str:
        """Its id, under which it is never another."""
        return self.text("eventId")

    @property
    def type(self) -> str:
        """Such as `ServiceOrderStateChangeEvent`."""
        return self.text("eventType")

    @property
    def happened_at(self) -> str:
        """When it happened, ISO 8601."""
        return self.text("eventTime")

    @property
    def resource(self) -> Document:
        """What it happened to, as it is then; empty for a gap."""
        held = self.body.get("event")
        return Document.of(next(iter(held.values()), None) if isinstance(held, Mapping) else None)


@dataclass(frozen=True, slots=True)
class Specification(Document):
    """What can be ordered (TMF633 serviceSpecification)."""

    @property
    def status(self) -> str:
        """Of its life cycle; only `Active` ones can be ordered."""
        return self.text("lifecycleStatus")

    @property
    def characteristics(self) -> dict[str, str]:
        """What an order may say, with its meaning."""
        return {
            str(each.get("name", "")): str(each.get("description") or "")
            for each in self.items("specCharacteristic")
        }


@dataclass(frozen=True, slots=True)
class Order(Document):
    """An order (TMF641 serviceOrder)."""

    @property
    def state(self) -> str:
        """`acknowledged`, `inProgress`, ... of TMF641."""
        return self.text("state")

    @property
    def ended(self) -> bool:
        """Whether it changes no more."""
        return self.state in ORDER_ENDED

    @property
    def ordered_at(self) -> str:
        """When it was placed, ISO 8601."""
        return self.text("orderDate")

    @property
    def actions(self) -> tuple[str, ...]:
        """What its items do: `add`, `modify`, `delete`."""
        return tuple(str(each.get("action", "")) for each in self.items("serviceOrderItem"))

    @property
    def twins(self) -> tuple[str, ...]:
        """Ids of the twins that it is about; of a new one, once it is known."""
        found = (_object(each.get("service")).get("id") for each in self.items("serviceOrderItem"))
        return tuple(identity for identity in found if isinstance(identity, str) and identity)

    @property
    def milestones(self) -> tuple[str, ...]:
        """What has been reached, in words."""
        return tuple(
            str(each.get("name") or each.get("description") or "")
            for each in self.items("milestone")
            if str(each.get("status", "")).lower() in ("", "achieved", "completed", "reached", "done")
        )

    @property
    def problems(self) -> tuple[str, ...]:
        """Why it was refused, failed or remained in part, each said once."""
        errors = list(self.items("errorMessage"))
        for item in self.items("serviceOrderItem"):
            errors += _objects(item.get("errorMessage"))
        return tuple(dict.fromkeys(filter(None, map(_said, errors))))


@dataclass(frozen=True, slots=True)
class Part:
    """A domain's part of a twin (a supportingService)."""

    domain: str
    state: str
    operating: str
    """`running`, `starting`, ...: how well it does."""
    level: str
    """How much of itself the domain shows; empty: nothing."""
    observed_at: str
    """ISO 8601."""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Twin(Document):
    """A twin of one's own (TMF638 service)."""

    @property
    def state(self) -> str:
        """`designed`, `reserved`, `inactive`, `active` or `terminated` of TMF638."""
        return self.text("state")

    @property
    def operating(self) -> str:
        """How well it does: `running`, `limited` where a domain refused, `degraded` where one is away, ..."""
        return self.text("operatingStatus")

    @property
    def suspended(self) -> bool:
        """Whether it rests."""
        return self.body.get("isServiceEnabled") is False and not self.ended

    @property
    def ended(self) -> bool:
        """Whether it is retired."""
        return self.state in TWIN_ENDED

    @property
    def characteristics(self) -> dict[str, Any]:
        """What it has: domains, freshness, end, fidelity, quota, ..."""
        return self.named("serviceCharacteristic")

    @property
    def parts(self) -> tuple[Part, ...]:
        """Each domain's part."""
        own = self.characteristics
        levels, seen = _object(own.get("fidelity")), _object(own.get("observedAt"))
        return tuple(_part(each, levels, seen) for each in self.items("supportingService"))

    @property
    def notes(self) -> tuple[str, ...]:
        """What the exchange said of it, oldest first."""
        return tuple(str(each.get("text") or "") for each in self.items("note"))


@dataclass(frozen=True, slots=True)
class Resource(Document):
    """Something inside a twin, as far as this partner may see (TMF639 resource)."""

    @property
    def kind(self) -> str:
        """`endPoint`, `borderPoint`, `node`, `segment` or `interDomainLink`."""
        return self.text("category") or self.text("@type")

    @property
    def state(self) -> str:
        """`available`, `alarm`, or `unknown` where its domain is away."""
        return self.text("resourceStatus")

    @property
    def domain(self) -> str:
        """Whose it is; empty for what lies between domains."""
        return str(self.characteristics.get("domain") or "")

    @property
    def characteristics(self) -> dict[str, Any]:
        """Its figures and attributes: `delayMs`, `bandwidthMbps`, `linkId`, ..."""
        return self.named("resourceCharacteristic")

    @property
    def ends(self) -> tuple[str, str]:
        """Between which points it lies; empty ones where it is a point, or the same between all."""
        found = {
            str(each.get("relationshipType", "")): str(_object(each.get("resource")).get("name") or "")
            for each in self.items("resourceRelationship")
        }
        return found.get("source", ""), found.get("target", "")


@dataclass(frozen=True, slots=True)
class Threshold:
    """What a measure must keep: at least `lower`, at most `upper`."""

    metric: str
    upper: float | None = None
    lower: float | None = None
    unit: str = ""


@dataclass(frozen=True, slots=True)
class Definition(Document):
    """A scenario with its thresholds (TMF653 serviceTestSpecification)."""

    @property
    def status(self) -> str:
        """Of its life cycle."""
        return self.text("lifecycleStatus")

    @property
    def scenario(self) -> Any:
        """What is changed, and what is asked for: a document of the scenario language."""
        for each in self.items("specCharacteristic"):
            if each.get("name") == "scenario":
                values = list(_objects(each.get("characteristicValueSpecification")))
                return values[0].get("value") if values else None
        return None

    @property
    def thresholds(self) -> tuple[Threshold, ...]:
        """What a run is judged by."""
        found = []
        for measure in self.items("testMeasureDefinition"):
            for rule in _objects(measure.get("thresholdRule")):
                found.append(
                    Threshold(
                        str(measure.get("metricName") or measure.get("name") or ""),
                        upper=_number(rule.get("conformanceTargetUpper")),
                        lower=_number(rule.get("conformanceTargetLower")),
                        unit=str(measure.get("unitOfMeasure") or ""),
                    )
                )
        return tuple(found)


@dataclass(frozen=True, slots=True)
class Violation:
    """A threshold that a measure did not keep."""

    name: str
    text: str
    severity: str = ""


@dataclass(frozen=True, slots=True)
class Measure:
    """One result of a run."""

    metric: str
    subject: str
    """What was measured: a pair of end points, a link."""
    value: float | None
    """None: it cannot be said, or there is none."""
    unit: str
    text: str = ""
    violations: tuple[Violation, ...] = ()


@dataclass(frozen=True, slots=True)
class Run(Document):
    """A scenario that was run in a twin (TMF653 serviceTest)."""

    @property
    def state(self) -> str:
        """`acknowledged`, `inProgress`, `completed`, `failed`, `cancelled`."""
        return self.text("state")

    @property
    def ended(self) -> bool:
        """Whether it changes no more."""
        return self.state in RUN_ENDED

    @property
    def twin(self) -> str:
        """Id of the twin that it ran in."""
        return str(_object(self.body.get("relatedService")).get("id") or "")

    @property
    def definition(self) -> str:
        """Id of the scenario that was run."""
        return str(_object(self.body.get("testSpecification")).get("id") or "")

    @property
    def characteristics(self) -> dict[str, Any]:
        """What is known of it beside the measures: seed, versions, digest of the report."""
        return self.named("characteristic")

    @property
    def measures(self) -> tuple[Measure, ...]:
        """Its results."""
        return tuple(
            Measure(
                str(each.get("metricName") or ""),
                str(_object(each.get("value")).get("name") or ""),
                _number(_object(each.get("value")).get("value")),
                str(each.get("unitOfMeasure") or ""),
                str(each.get("metricDescription") or ""),
                tuple(
                    Violation(
                        str(rule.get("name") or ""),
                        str(rule.get("description") or ""),
                        str(rule.get("thresholdRuleSeverity") or ""),
                    )
                    for rule in _objects(each.get("ruleViolation"))
                ),
            )
            for each in self.items("testMeasure")
        )

    @property
    def violations(self) -> tuple[Violation, ...]:
        """All thresholds that were not kept."""
        return tuple(found for measure in self.measures for found in measure.violations)

    @property
    def verdict(self) -> str:
        """`pass`, `fail` or `inconclusive`; empty where the run has no result."""
        if self.state != "completed":
            return ""
        said = self.characteristics.get("verdict")
        return said if isinstance(said, str) else "fail" if self.violations else "pass"

    @property
    def passed(self) -> bool:
        """Whether every threshold was kept, and that could be said."""
        return self.verdict == "pass"

    @property
    def problem(self) -> str:
        """Why it failed or was refused."""
        return str(self.characteristics.get("problem") or "")

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a reader should know of the results, such as whose part is missing."""
        said = self.characteristics.get("remarks")
        return tuple(map(str, said)) if isinstance(said, list) else ()


def _part(body: Mapping[str, Any], levels: Mapping[str, Any], seen: Mapping[str, Any]) -> Part:
    domain = str(body.get("name") or "")
    level = levels.get(domain)
    return Part(
        domain,
        str(body.get("state") or ""),
        str(body.get("operatingStatus") or ""),
        str(_object(level).get("level") or "") if isinstance(level, Mapping) else str(level or ""),
        str(seen.get(domain) or ""),
        "; ".join(str(note.get("text") or "") for note in _objects(body.get("note"))),
    )


def _said(error: Mapping[str, Any]) -> str:
    return str(error.get("message") or error.get("reason") or "")


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _objects(value: object) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, Sequence) and not isinstance(value, str):
        yield from (each for each in value if isinstance(each, Mapping))


def _number(value: object) -> float | None:
    try:
        return None if value is None else float(str(value))
    except ValueError:
        return None
