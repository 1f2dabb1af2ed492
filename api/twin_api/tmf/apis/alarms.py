"""TMF642 Alarm 4.0: live alarms and predicted ones, never in one list, and the tasks done on them."""

from __future__ import annotations

from typing import Final

from federation.partners.record import Kind
from twin_api.caller import Scope
from twin_api.tmf.table import Api, Operation, Resource, States, events_of, hub, resource

__all__ = ["ALARMS", "PREDICTED"]

PREDICTED: Final = "NdtPredictedAlarm"
"""`@type` of an alarm that nobody has seen yet: a twin foretells it."""

_READ: Final = (Scope.TWIN_READ, Scope.OPERATOR)
_WRITE: Final = (Scope.ORDER, Scope.OPERATOR)


def _task(kind: Kind, path: str, shape: str, done: str, *mandatory: str) -> Resource:
    return resource(
        kind,
        path,
        shape,
        allowed={Operation.LIST: _READ, Operation.READ: _READ, Operation.CREATE: _WRITE},
        mandatory=mandatory,
        ignored=("state", done),
    )


ALARMS: Final = Api(
    "alarmManagement",
    "TMF642",
    "Alarm Management",
    "4.0.0",
    "/tmf-api/alarmManagement/v4",
    (
        resource(
            Kind.ALARM,
            "alarm",
            "Alarm",
            allowed={
                Operation.LIST: _READ,
                Operation.READ: _READ,
                Operation.CREATE: (Scope.OPERATOR,),
                Operation.CHANGE: _WRITE,
                Operation.REMOVE: (Scope.OPERATOR,),
            },
            mandatory=(
                "alarmType",
                "perceivedSeverity",
                "probableCause",
                "alarmedObject",
                "sourceSystemId",
                "state",
                "alarmRaisedTime",
            ),
            served=("raisedBy",),
            fixed=("alarmRaisedTime", "sourceSystemId"),
            types=("Alarm", PREDICTED),
            apart=(PREDICTED,),
            states=States("state", {"raised": ("updated", "cleared"), "updated": ("cleared",)}),
        ),
        _task(
            Kind.ACK_ALARM,
            "ackAlarms",
            "AckAlarms",
            "ackedAlarm",
            "ackSystemId",
            "ackUserId",
            "alarmPattern",
        ),
        _task(
            Kind.UN_ACK_ALARM,
            "unAckAlarms",
            "UnAckAlarms",
            "unAckedAlarm",
            "ackSystemId",
            "ackUserId",
            "alarmPattern",
        ),
        _task(
            Kind.CLEAR_ALARM,
            "clearAlarms",
            "ClearAlarms",
            "clearedAlarm",
            "clearSystemId",
            "clearUserId",
            "alarmClearedTime",
            "alarmPattern",
        ),
        _task(
            Kind.COMMENT_ALARM, "commentAlarms", "CommentAlarms", "commentedAlarm", "comment", "alarmPattern"
        ),
        _task(
            Kind.GROUP_ALARM,
            "groupAlarms",
            "GroupAlarms",
            "groupedAlarm",
            "sourceSystemId",
            "alarmChangedTime",
            "parentAlarm",
            "correlatedAlarm",
        ),
        _task(
            Kind.UN_GROUP_ALARM,
            "unGroupAlarms",
            "UnGroupAlarms",
            "unGroupedAlarm",
            "sourceSystemId",
            "alarmChangedTime",
            "parentAlarm",
            "correlatedAlarm",
        ),
    ),
    (
        *events_of("Alarm", "Create", "AttributeValueChange", "StateChange", "Delete"),
        *(
            name
            for task in ("Ack", "UnAck", "Clear", "Comment", "Group", "UnGroup")
            for name in events_of(f"{task}Alarms", "Create", "StateChange")
        ),
    ),
    hub(),
)
"""The API, at `/tmf-api/alarmManagement/v4`."""
