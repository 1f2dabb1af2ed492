"""What the TMF630 suite knows of each resource: a table of its own, so that it can be held to any server.

Bodies are what our exchange takes too; another server may need others (`--tmf630-bodies FILE`). In a body
`$serviceOrder` stands for the id of a resource of that kind, which the suite makes or finds first.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

WHEN, LATER = "2026-03-01T12:00:00.000Z", "2026-04-01T12:00:00.000Z"
SOON = (datetime.now(UTC) + timedelta(days=20)).isoformat(timespec="seconds").replace("+00:00", "Z")
BASES = {
    "TMF633": "/tmf-api/serviceCatalogManagement/v4",
    "TMF638": "/tmf-api/serviceInventory/v4",
    "TMF639": "/tmf-api/resourceInventoryManagement/v4",
    "TMF641": "/tmf-api/serviceOrdering/v4",
    "TMF642": "/tmf-api/alarmManagement/v4",
    "TMF653": "/tmf-api/serviceTestManagement/v4",
}


@dataclass(frozen=True)
class Target:
    """One collection, and what the suite does with it."""

    api: str
    path: str
    body: Mapping[str, Any]
    label: str
    """Dotted attribute of text in which the suite puts a word to find its own resources by."""
    mandatory: tuple[str, ...] = ()
    removable: bool = True
    changeable: bool = True
    text: str = "name"
    """Attribute of text that PATCH may set and take away."""
    kept: tuple[str, ...] = ()
    """Of `body`: what the server may not show as it was sent."""
    nested: tuple[str, Mapping[str, Any]] | None = None
    """An attribute that is an object of two members, and its value: for merging."""
    fixed: Mapping[str, Any] = field(default_factory=dict)
    """What a PATCH is refused for, beside `id` and `href`."""
    illegal: Mapping[str, Any] | None = None
    """A move that the states do not allow."""
    gone: Mapping[str, Any] | None = None
    """Instead of `body`, for a resource that can be deleted at once."""
    retire: Mapping[str, Any] | None = None
    """A patch before a resource can be deleted."""
    base: str = ""
    single: bool = False
    """The label must differ between resources."""

    @property
    def url(self) -> str:
        """Path of the collection."""
        return f"{self.base or BASES[self.api]}/{self.path}"

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.api}-{self.path}"


def _catalogued(path: str, **more: Any) -> Target:
    period = {"startDateTime": WHEN, "endDateTime": LATER}
    words: dict[str, Any] = {"mandatory": ("name",), "text": "version", **more}
    body = {"name": "n", "version": "1", "validFor": period, **words.pop("body", {})}
    return Target("TMF633", path, body, "description", nested=("validFor", period), **words)


def _item(action: str, service: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"id": "1", "action": action, "service": dict(service)}]


_ORDERED = {"serviceSpecification": {"id": "ndt-twin"}}
_ALARM = {
    "alarmType": "qualityOfServiceAlarm",
    "perceivedSeverity": "major",
    "probableCause": "thresholdCrossed",
    "alarmedObject": {"id": "cell 1"},
    "sourceSystemId": "twin",
    "state": "raised",
    "alarmRaisedTime": WHEN,
    "proposedRepairedActions": "none",
}
_PATTERN = [{"id": "$alarm"}]
_TASK: dict[str, Any] = {"removable": False, "changeable": False}
_GROUP = {
    "alarmChangedTime": WHEN,
    "parentAlarm": {"id": "$alarm"},
    "correlatedAlarm": [{"id": "$alarm2"}],
}

TARGETS: tuple[Target, ...] = (
    _catalogued("serviceCatalog"),
    _catalogued("serviceCategory"),
    _catalogued(
        "serviceCandidate",
        body={"serviceSpecification": {"id": "ndt-twin"}},
        mandatory=("name", "serviceSpecification"),
    ),
    _catalogued("serviceSpecification"),
    Target(
        "TMF633", "importJob", {"url": "https://files.example/in.json"}, "path", ("url",), changeable=False
    ),
    Target(
        "TMF633", "exportJob", {"url": "https://files.example/out.json"}, "path", ("url",), changeable=False
    ),
    Target(
        "TMF641",
        "serviceOrder",
        {
            "notificationContact": "noc",
            "requestedStartDate": SOON,
            "serviceOrderItem": _item("add", _ORDERED),
        },
        "description",
        ("serviceOrderItem",),
        text="notificationContact",
        kept=("serviceOrderItem",),
        fixed={"orderDate": WHEN},
        illegal={"state": "completed"},
        gone={"serviceOrderItem": _item("delete", {"id": "nothing"})},
    ),
    Target(
        "TMF641",
        "cancelServiceOrder",
        {"serviceOrder": {"id": "$serviceOrder"}},
        "cancellationReason",
        ("serviceOrder",),
        **_TASK,
    ),
    Target(
        "TMF638",
        "service",
        {"name": "twin", "state": "designed", **_ORDERED},
        "description",
        ("state", "serviceSpecification"),
        kept=("state", "serviceSpecification"),
        fixed={"serviceSpecification": {"id": "another"}},
        illegal={"state": "reserved"},
        retire={"state": "terminated"},
    ),
    Target(
        "TMF639",
        "resource",
        {"name": "cell", "resourceVersion": "7", "resourceSpecification": {"id": "s", "name": "cell"}},
        "description",
        ("name",),
        text="resourceVersion",
        nested=("resourceSpecification", {"id": "s", "name": "cell"}),
    ),
    Target(
        "TMF653",
        "serviceTestSpecification",
        {
            "name": "delay",
            "lifecycleStatus": "draft",
            "version": "1",
            "relatedServiceSpecification": [{"id": "ndt-scenario"}],
            "validFor": {"startDateTime": WHEN, "endDateTime": LATER},
        },
        "description",
        ("name", "relatedServiceSpecification"),
        text="version",
        fixed={"validFor": {"startDateTime": LATER}},
    ),
    Target(
        "TMF653",
        "serviceTest",
        {
            "name": "cut",
            "relatedService": {"id": "$service"},
            "testSpecification": {"id": "$serviceTestSpecification"},
            "validFor": {"startDateTime": WHEN, "endDateTime": LATER},
        },
        "description",
        ("name", "relatedService", "testSpecification"),
        text="description",
        kept=("relatedService", "testSpecification"),
        nested=("validFor", {"startDateTime": WHEN, "endDateTime": LATER}),
        fixed={"relatedService": {"id": "another"}},
        illegal={"state": "completed"},
    ),
    Target(
        "TMF642",
        "alarm",
        _ALARM,
        "alarmDetails",
        tuple(name for name in _ALARM if name != "proposedRepairedActions"),
        text="proposedRepairedActions",
        nested=("alarmedObject", {"id": "cell 1", "href": "https://cells.example/1"}),
        fixed={"alarmRaisedTime": LATER},
    ),
    *(
        Target(
            "TMF642",
            path,
            {"ackSystemId": "noc", "alarmPattern": _PATTERN},
            "ackUserId",
            ("ackSystemId", "ackUserId", "alarmPattern"),
            **_TASK,
        )
        for path in ("ackAlarms", "unAckAlarms")
    ),
    Target(
        "TMF642",
        "clearAlarms",
        {"clearSystemId": "noc", "alarmClearedTime": LATER, "alarmPattern": _PATTERN},
        "clearUserId",
        ("clearSystemId", "clearUserId", "alarmClearedTime", "alarmPattern"),
        **_TASK,
    ),
    Target(
        "TMF642",
        "commentAlarms",
        {"comment": {"userId": "u"}, "alarmPattern": _PATTERN},
        "comment.comment",
        ("comment", "alarmPattern"),
        **_TASK,
    ),
    *(
        Target(
            "TMF642",
            path,
            _GROUP,
            "sourceSystemId",
            ("sourceSystemId", "alarmChangedTime", "parentAlarm", "correlatedAlarm"),
            **_TASK,
        )
        for path in ("groupAlarms", "unGroupAlarms")
    ),
    *(Target(api, "hub", {}, "callback", ("callback",), changeable=False, single=True) for api in BASES),
)


def targets(bodies: Path | None = None) -> tuple[Target, ...]:
    """The table, with what a file of a server's own bodies says instead.

    The file is a JSON object: `{"serviceOrder": {"body": {...}}, "TMF641": {"base": "/..."}}`; a resource
    that is null is left out.
    """
    if bodies is None:
        return TARGETS
    told = json.loads(bodies.read_text(encoding="utf-8"))
    return tuple(
        replace(target, **{**(told.get(target.api) or {}), **told.get(target.path, {})})
        for target in TARGETS
        if told.get(target.path, {}) is not None and told.get(target.api, {}) is not None
    )
