"""What is ordered, read and judged before anything is done: form first, then each item's sense. Pure.

What has no form is refused as a whole, with all that is wrong. What has form and cannot be done is taken in,
and its items are `rejected` with the reasons: that is an answer, and stays to be read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from typing import Any

from domain_twin.errors import NotFound, NotShared, OverCapacity
from domain_twin.model import Nanoseconds
from federation.partners.catalogue import NDT_TWIN, ORDERABLE
from federation.partners.dates import moment
from federation.partners.quotas import Quotas
from federation.partners.record import PUBLIC, Body, Kind, Record, Repository
from federation.partners.scope import Scope, read_scope, scope_of
from federation.partners.twin_record import check_told

__all__ = ["MOST_ITEMS", "Problem", "check_form", "judge", "wanted_scope"]

MOST_ITEMS = 20
_ACTIONS = ("add", "modify", "delete", "noChange")
_STATES = ("active", "inactive", "suspended")
_LONGEST_ID = 100

Problem = tuple[str, str]
"""A code for programs, and a sentence."""


def check_form(body: Body) -> list[str]:
    """What is wrong with an order as a document."""
    items = body.get("serviceOrderItem")
    if not isinstance(items, list) or not items:
        return ["serviceOrderItem: at least one item is needed"]
    if len(items) > MOST_ITEMS:
        return [f"serviceOrderItem: {len(items)} items; {MOST_ITEMS} at most in one order"]
    problems: list[str] = []
    for place, item in enumerate(items):
        problems += _form_of(item, f"serviceOrderItem[{place}]")
    ids = Counter(str(item["id"]) for item in items if isinstance(item, Mapping) and "id" in item)
    problems += [f"serviceOrderItem: the id {name!r} is used twice" for name, n in ids.items() if n > 1]
    if (start := body.get("requestedStartDate")) is not None:
        try:
            moment(start)
        except ValueError as error:
            problems.append(f"requestedStartDate: {str(start)[:40]!r} {error}")
    return problems


def _form_of(item: Any, where: str) -> list[str]:
    if not isinstance(item, Mapping):
        return [f"{where}: must be an object"]
    problems: list[str] = []
    identity, action, service = item.get("id"), item.get("action"), item.get("service")
    if not isinstance(identity, str) or not 0 < len(identity) <= _LONGEST_ID or not identity.isprintable():
        problems.append(f"{where}.id: must be text of 1 to {_LONGEST_ID} characters")
    if action not in _ACTIONS:
        problems.append(f"{where}.action: {str(action)[:40]!r} is none of {', '.join(_ACTIONS)}")
    if item.get("quantity") not in (None, 1):
        problems.append(f"{where}.quantity: one twin an item; repeat the item for more")
    if item.get("serviceOrderItem"):
        problems.append(f"{where}.serviceOrderItem: items cannot be nested here")
    if not isinstance(service, Mapping):
        problems.append(f"{where}.service: must be an object")
        return problems
    characteristics = service.get("serviceCharacteristic", [])
    if not isinstance(characteristics, list) or not all(isinstance(c, Mapping) for c in characteristics):
        problems.append(f"{where}.service.serviceCharacteristic: must be a list of objects")
    specification = service.get("serviceSpecification", {})
    if not isinstance(specification, Mapping):
        problems.append(f"{where}.service.serviceSpecification: must be an object")
    return problems + [f"{where}.service.{problem}" for problem in check_told(service)]


def judge(
    item: Body, repository: Repository, *, members: Collection[str], quotas: Quotas, now: Nanoseconds
) -> list[Problem]:
    """Everything because of which an item cannot be done; its quota is looked at elsewhere."""
    service = item["service"]
    match item["action"]:
        case "add":
            problems = _judge_specification(service, repository, quotas)
            _, wrong = read_scope(service.get("serviceCharacteristic"), members=members, now=now)
            return problems + [("invalidCharacteristic", text) for text in wrong]
        case "noChange":
            return []
    try:
        record = repository.get(Kind.SERVICE, str(service.get("id", "")))
    except NotFound:
        record = None
    if record is None or record.tenant != repository.tenant:
        return [("notFound", f"service.id: no service {str(service.get('id'))[:80]!r}; name one of yours")]
    if item["action"] == "delete":
        return []
    return _judge_modify(service, record, members, now)


def wanted_scope(
    service: Body, *, members: Collection[str], now: Nanoseconds, before: Scope | None = None
) -> Scope:
    """The scope that an item asks for, which was judged to be fine. `now`: when it was ordered."""
    scope, _ = read_scope(service.get("serviceCharacteristic"), members=members, now=now, before=before)
    return scope


def _judge_specification(service: Body, repository: Repository, quotas: Quotas) -> list[Problem]:
    reference = service.get("serviceSpecification") or {}
    identity = str(reference.get("id", ""))[:80]
    unknown = [
        ("unknownSpecification", f"serviceSpecification.id: {identity!r} is not offered; {NDT_TWIN!r} is")
    ]
    try:
        offered = repository.get(Kind.SERVICE_SPECIFICATION, identity)
    except NotFound:
        return unknown
    if offered.tenant != PUBLIC:
        return unknown
    if identity != NDT_TWIN:
        return [("notOrderable", f"serviceSpecification.id: {identity!r} is not ordered; read what it says")]
    problems: list[Problem] = []
    if offered.body.get("lifecycleStatus") not in ORDERABLE:
        status = offered.body.get("lifecycleStatus")
        problems.append(("notOrderable", f"serviceSpecification.id: {identity!r} is {status}"))
    version, asked = offered.body.get("version"), reference.get("version")
    if asked is not None and asked != version:
        problems.append(
            (
                "notOrderable",
                f"serviceSpecification.version: {str(asked)[:40]!r} is not offered any more; {version} is",
            )
        )
    try:
        quotas.check_entitled(repository.tenant, identity, str(offered.body.get("name")))
    except NotShared as error:
        problems.append(("notEntitled", str(error)))
    return problems


def _judge_modify(service: Body, record: Record, members: Collection[str], now: Nanoseconds) -> list[Problem]:
    if record.body["state"] == "terminated":
        return [("conflict", f"service {record.id} is terminated and cannot be changed; order another one")]
    problems: list[Problem] = []
    state, asked = service.get("state"), service.get("serviceCharacteristic")
    if state is not None and state not in _STATES:
        problems.append(
            ("conflict", f"service.state: {str(state)[:40]!r} cannot be ordered; {', '.join(_STATES)} can")
        )
    if asked:
        before = scope_of(record.body["serviceCharacteristic"])
        _, wrong = read_scope(asked, members=members, now=now, before=before)
        problems += [("invalidCharacteristic", text) for text in wrong]
    return problems


def over_quota(quotas: Quotas, tenant: str, held: int) -> list[Problem]:
    """Why one more twin is too many; nothing where it is not."""
    try:
        quotas.check_twins(tenant, held)
    except OverCapacity as error:
        return [("overQuota", str(error))]
    return []
