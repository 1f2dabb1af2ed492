"""A twin as a service of TMF638: how its states, parts and characteristics are written down. Pure.

designed -> reserved -> inactive -> active -> terminated. A twin that its partner suspended is `inactive` with
`isServiceEnabled` false (v4 has no word of its own for it). `operatingStatus` says how well it does:
starting, running, limited (some domains refused), degraded (some are away), failed, stopping, stopped.
Each domain is a `supportingService` with the same words; one that was refused is `terminated` with a note.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

from domain_twin.model import Nanoseconds
from federation.partners.dates import moment, stamp
from federation.partners.record import Body, Record
from federation.partners.scope import Scope, scope_of

__all__ = ["TwinRecord", "asked_at", "check_told", "new_twin", "reasons", "set_part"]

_MOST_NOTES = 20
_MOST_ITEMS = 50
_LONGEST_TEXT = 1000


def new_twin(
    identity: str,
    scope: Scope,
    *,
    tenant: str,
    specification: Body,
    asked: Mapping[str, Any],
    quota: int,
    now: Nanoseconds,
) -> dict[str, Any]:
    """The record of a twin that is designed; `asked` is the service that the partner sent."""
    told = {key: asked[key] for key in ("name", "description", "category", "note", "place") if key in asked}
    return {
        "id": identity,
        "@type": "Service",
        "name": identity,
        "category": "NdtTwin",
        **told,
        "serviceType": "NdtTwin",
        "state": "designed",
        "operatingStatus": "starting",
        "serviceDate": stamp(now),
        "isServiceEnabled": True,
        "isStateful": True,
        "hasStarted": False,
        "serviceSpecification": {
            "id": specification["id"],
            "name": specification["name"],
            "version": specification["version"],
        },
        "relatedParty": [
            {"id": tenant, "role": "customer", "@type": "RelatedParty", "@referredType": "Organization"}
        ],
        "serviceCharacteristic": [
            *scope.characteristics(),
            {"name": "quota", "valueType": "object", "value": {"twins": quota}},
        ],
        "serviceOrderItem": [],
        "supportingService": [_new_part(identity, domain, now) for domain in scope.domains],
    }


class TwinRecord:
    """A copy of a service's body, to be read and edited."""

    def __init__(self, record: Record) -> None:
        self.body: dict[str, Any] = copy.deepcopy(dict(record.body))

    @property
    def id(self) -> str:
        """Of the service."""
        return str(self.body["id"])

    @property
    def state(self) -> str:
        """Of its life."""
        return str(self.body["state"])

    @property
    def terminated(self) -> bool:
        """Whether it is over for good."""
        return self.state == "terminated"

    @property
    def suspended(self) -> bool:
        """Whether its partner has it rest."""
        return not self.body.get("isServiceEnabled", True) and not self.terminated

    @property
    def operating(self) -> str:
        """How well it does."""
        return str(self.body.get("operatingStatus", ""))

    @property
    def scope(self) -> Scope:
        """What it is to span."""
        return scope_of(self.body["serviceCharacteristic"])

    @property
    def parts(self) -> list[dict[str, Any]]:
        """One for each domain, also for those that it is leaving."""
        found: list[dict[str, Any]] = self.body["supportingService"]
        return found

    def part(self, domain: str) -> dict[str, Any] | None:
        """The part of one domain."""
        return next((part for part in self.parts if part["name"] == domain), None)

    @property
    def open_parts(self) -> list[dict[str, Any]]:
        """Parts that are in the scope."""
        return [part for part in self.parts if part["operatingStatus"] not in ("stopping", "stopped")]

    @property
    def undecided(self) -> list[dict[str, Any]]:
        """Parts whose domains neither joined nor refused yet."""
        return [part for part in self.open_parts if part["state"] == "designed"]

    @property
    def joined(self) -> list[dict[str, Any]]:
        """Parts of domains that joined, also of those that are away now; not of those it is leaving."""
        return [part for part in self.open_parts if part["state"] in ("active", "inactive")]

    @property
    def refused(self) -> list[dict[str, Any]]:
        """Parts that their domains refused or took back; `why` says it."""
        found = self.parts if self.terminated else self.open_parts
        return [part for part in found if part["state"] == "terminated" and part.get("note")]

    @property
    def leaving(self) -> list[str]:
        """Domains that are to be told that it is over, or over for them."""
        statuses = ((part["name"], part["operatingStatus"]) for part in self.parts)
        if self.terminated:
            return [name for name, status in statuses if status != "stopped"]
        return [name for name, status in statuses if status == "stopping"]

    def has_item(self, order: str, item: str) -> bool:
        """Whether an item of an order was carried out on it."""
        return any(
            (ref.get("serviceOrderId"), ref.get("itemId")) == (order, item)
            for ref in self.body.get("serviceOrderItem", ())
        )

    def add_item(self, order: str, item: str, action: str) -> None:
        """Note that an item of an order is carried out on it."""
        refs = self.body.setdefault("serviceOrderItem", [])
        refs.append({"serviceOrderId": order, "itemId": item, "itemAction": action, "role": action})
        del refs[1 : max(1, len(refs) - _MOST_ITEMS + 1)]  # the first one made the twin

    def note(self, text: str, now: Nanoseconds) -> None:
        """Say something to the partner, in the list of the newest notes."""
        notes = self.body.setdefault("note", [])
        notes.append({"id": str(now), "author": "exchange", "date": stamp(now), "text": text})
        del notes[: max(0, len(notes) - _MOST_NOTES)]

    def rescope(self, scope: Scope, now: Nanoseconds) -> None:
        """Give it another scope: every domain of it is asked anew, those that left it are closed."""
        had = self.scope
        self.show(**{item["name"]: item["value"] for item in scope.characteristics()})
        if scope.end_points is None:
            self._drop("endPoints")
        if (had.domains, had.end_points, had.until) == (scope.domains, scope.end_points, scope.until):
            return  # freshness alone
        kept: list[dict[str, Any]] = []
        for part in self.parts:
            if part["name"] in scope.domains:
                kept.append(_new_part(self.id, part["name"], now))
            elif part["operatingStatus"] != "stopped":
                kept.append({**part, "operatingStatus": "stopping"})
        there = {part["name"] for part in kept}
        kept += [_new_part(self.id, name, now) for name in scope.domains if name not in there]
        self.body["supportingService"] = kept
        if self.state == "active":
            self.body["state"] = "inactive"
        if not self.suspended:
            self.body["operatingStatus"] = "starting"

    def suspend(self, now: Nanoseconds) -> None:
        """Have it rest: nothing is refreshed, and nothing can be asked of it."""
        self.body |= {"state": "inactive", "isServiceEnabled": False, "operatingStatus": "stopped"}
        self.note("suspended", now)

    def resume(self, now: Nanoseconds) -> None:
        """Bring it up to date again."""
        self.body |= {"isServiceEnabled": True, "operatingStatus": "starting"}
        self.note("resumed", now)

    def terminate(self, why: str, now: Nanoseconds) -> None:
        """End it for good; its domains are told afterwards."""
        self.body |= {"state": "terminated", "operatingStatus": "stopping", "endDate": stamp(now)}
        self.body["isServiceEnabled"] = False
        for part in self.parts:
            part["operatingStatus"] = "stopping"
        self.note(why, now)

    def stopped(self, domain: str) -> None:
        """A domain has closed its part, or needs not be told any more."""
        part = self.part(domain)
        if part is None:
            return
        if not self.terminated and domain not in self.scope.domains:
            self.parts.remove(part)
            return
        part |= {"state": "terminated", "operatingStatus": "stopped"}
        if self.terminated and all(p["operatingStatus"] == "stopped" for p in self.parts):
            self.body["operatingStatus"] = "stopped"

    def show(self, **values: Any) -> None:
        """Set characteristics by name."""
        listed: list[dict[str, Any]] = self.body["serviceCharacteristic"]
        for name, value in values.items():
            found = next((item for item in listed if item["name"] == name), None)
            if found is None:
                found = {"name": name, "valueType": _type_of(value)}
                listed.append(found)
            found["value"] = value

    def characteristic(self, name: str) -> Any:
        """A characteristic's value; None where there is none."""
        return next(
            (item["value"] for item in self.body["serviceCharacteristic"] if item["name"] == name), None
        )

    def _drop(self, name: str) -> None:
        listed = self.body["serviceCharacteristic"]
        self.body["serviceCharacteristic"] = [item for item in listed if item["name"] != name]


def asked_at(part: Mapping[str, Any]) -> Nanoseconds:
    """When a domain was first asked for its part."""
    return moment(part["serviceDate"])


def set_part(
    part: dict[str, Any], state: str, operating: str, *, code: str = "", why: str = "", now: Nanoseconds = 0
) -> bool:
    """Give a part another state, with the reason; whether that is news."""
    if (part["state"], part["operatingStatus"]) == (state, operating):
        return False
    part |= {"state": state, "operatingStatus": operating}
    part.pop("note", None)
    if why:
        text = why[:_LONGEST_TEXT]  # as a domain worded it
        part["note"] = [{"id": code, "author": part["name"], "date": stamp(now), "text": text}]
    return True


def reasons(parts: Iterable[Mapping[str, Any]]) -> list[tuple[str, str, str]]:
    """Domain, code and reason of parts that have one."""
    return [(str(part["name"]), str(n["id"]), str(n["text"])) for part in parts for n in part.get("note", ())]


def _new_part(twin: str, domain: str, now: Nanoseconds) -> dict[str, Any]:
    return {
        "id": f"{twin}.{domain}",
        "@type": "Service",
        "name": domain,
        "category": "NdtTwinPart",
        "state": "designed",
        "operatingStatus": "starting",
        "serviceDate": stamp(now),
    }


def _type_of(value: Any) -> str:
    kinds: dict[type, str] = {str: "string", bool: "boolean", int: "number", float: "number", list: "array"}
    return kinds.get(type(value), "object")


def check_told(body: Mapping[str, Any]) -> list[str]:
    """What is wrong with what a partner writes on a twin as it likes."""
    problems = [
        f"{name}: must be text of at most {_LONGEST_TEXT} characters"
        for name in ("name", "description", "category")
        if name in body and not (isinstance(body[name], str) and len(body[name]) <= _LONGEST_TEXT)
    ]
    for name in ("note", "place"):
        listed = body.get(name, [])
        if not isinstance(listed, list) or not all(isinstance(item, Mapping) for item in listed):
            problems.append(f"{name}: must be a list of objects")
        elif len(listed) > _MOST_NOTES:
            problems.append(f"{name}: {len(listed)} entries; {_MOST_NOTES} at most")
    return problems
