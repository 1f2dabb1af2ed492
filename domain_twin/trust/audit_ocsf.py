"""Audit records as events of the Open Cybersecurity Schema Framework, version 1.3.0. Pure.

Which class a record becomes: questions, answers and refusals are API Activity (6003), sessions are
Authentication (3002), starts, ends and damage Application Lifecycle (6002), the end of an agreement and a
new configuration Entity Management (3004). What OCSF has no field for stands under `unmapped`.
"""

from __future__ import annotations

from typing import Any

from domain_twin import __version__
from domain_twin.trust.audit import Record

__all__ = ["VERSION", "event"]

VERSION = "1.3.0"
_OTHER = 99
_INFORMATIONAL, _MEDIUM, _HIGH = 1, 3, 4
_SUCCESS, _FAILURE = 1, 2
_READ = 2

_API = {"asked", "answered", "disclosed", "view", "refused", "read", "exported", "view-received"}
_SESSION = {"attached": 1, "session-refused": 1, "detached": 2}
_LIFECYCLE = {"trail": 3, "opened": 3, "closed": 4}
_ENTITY = {"configured": 3, "agreement-ended": 4, "sandbox-ended": 4, "view-deleted": 4}
_FAILED = {"refused", "session-refused"}


def event(record: Record, who: str) -> dict[str, Any]:
    """The OCSF event of a record in the audit of `who` (a SPIFFE identity)."""
    data = record.data
    failed = record.kind in _FAILED or data.get("outcome") not in (None, "", "ok")
    base: dict[str, Any] = {
        "metadata": {
            "version": VERSION,
            "product": {"name": "FedTwin", "vendor_name": "FedTwin", "version": __version__},
            "uid": record.sha256,
            "sequence": record.seq,
            "event_code": record.kind,
            "log_name": "audit",
            "log_provider": who,
        },
        "time": record.at // 1_000_000,
        "severity_id": _severity(record, failed),
        "status_id": _FAILURE if failed else _SUCCESS,
        "message": _message(record),
        "unmapped": dict(data),
    }
    if reason := data.get("reason"):
        base["status_detail"] = reason
    peer = str(data.get("peer") or data.get("subject") or who)
    if record.kind in _API:
        return _api(base, record, peer, who)
    if record.kind in _SESSION:
        base |= _class(3002, 3, _SESSION[record.kind])
        base |= {"user": _user(peer), "service": {"name": "fedtwin.v1.Federation"}, "is_remote": True}
        if serial := data.get("certificate"):
            base["certificate"] = {"serial_number": serial, "issuer": str(data.get("issuer", ""))}
        return base
    if record.kind in _ENTITY:
        base |= _class(3004, 3, _ENTITY[record.kind])
        name = str(data.get("agreement") or data.get("domain") or data.get("file") or record.kind)
        return base | {"entity": {"name": name, "type": record.kind}, "actor": {"user": _user(peer)}}
    base |= _class(6002, 6, _LIFECYCLE.get(record.kind, _OTHER))
    return base | {"app": {"name": "fedtwin", "uid": who, "version": __version__}}


def _api(base: dict[str, Any], record: Record, peer: str, who: str) -> dict[str, Any]:
    data = record.data
    base |= _class(6003, 6, _READ)
    actor: dict[str, Any] = {"user": _user(peer)}
    if on_behalf_of := data.get("on_behalf_of"):
        actor["invoked_by"] = peer
        actor["user"] = _user(str(on_behalf_of))
    operation = str(data.get("action") or data.get("rpc") or record.kind)
    api: dict[str, Any] = {"operation": operation, "service": {"name": who}}
    if "ask" in data:
        api["request"] = {"uid": str(data["ask"])}
    return base | {"actor": actor, "api": api, "src_endpoint": {"name": peer, "svc_name": peer}}


def _class(uid: int, category: int, activity: int) -> dict[str, int]:
    return {
        "class_uid": uid,
        "category_uid": category,
        "activity_id": activity,
        "type_uid": uid * 100 + activity,
    }


def _user(identity: str) -> dict[str, Any]:
    operator = identity.removeprefix("spiffe://").partition("/")[0]
    return {"uid": identity, "name": identity, "domain": operator}


def _severity(record: Record, failed: bool) -> int:
    if record.data.get("damaged"):
        return _HIGH
    return _MEDIUM if failed else _INFORMATIONAL


def _message(record: Record) -> str:
    data = record.data
    parts = [record.kind, data.get("action") or data.get("rpc"), data.get("reason")]
    return ": ".join(str(part) for part in parts if part)
