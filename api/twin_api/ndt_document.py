"""The OpenAPI document of the NDT job face. Owns its schemas; what is answered, `ndt_jobs` decides."""

from __future__ import annotations

from typing import Any, Final

from domain_twin.model.job import Capability, JobState
from domain_twin.model.scenario import Scenario

__all__ = ["ndt_document"]

_JSON: Final = "application/json"
_ERRORS: Final = {
    "400": "The request is not understood; the message names what is wrong",
    "401": "No access token, or one that is not taken",
    "403": "The token lacks the scope, or what is asked is not shared with this tenant",
    "404": "There is no such thing for this tenant",
    "409": "It does not fit the state of the job",
    "413": "The body is too large",
    "415": "The body is not JSON",
    "429": "More than the tenant's quota or rate; Retry-After says when to try again",
    "503": "The broker is not reached at the moment",
}
_SCHEMA: Final = "#/components/schemas/"


def ndt_document(base: str, *, max_deadline_s: float) -> dict[str, Any]:
    """The document; `base` is the public address of the face, `max_deadline_s` the latest deadline."""
    return {
        "openapi": "3.0.3",
        "info": {
            "title": "NDT jobs",
            "version": "1.0.0",
            "description": "NDTFunction, NDTJob and NDTReport by the names of 3GPP TS 28.561; the schemas are"
            " this product's. Scope: ndt.scenario.run.",
        },
        "servers": [{"url": base}],
        "security": [{"token": []}],
        "paths": {
            "/NDTFunction": {"get": _list("NDTFunction", "Twins that may be asked")},
            "/NDTFunction/{id}": {"get": _one("NDTFunction", "One of them"), "parameters": [_ID]},
            "/NDTJob": {"get": _list("NDTJob", "One's jobs, newest first"), "post": _create()},
            "/NDTJob/{id}": {
                "parameters": [_ID],
                "get": _one("NDTJob", "How far a job is"),
                "patch": _cancel(),
            },
            "/NDTJob/{id}/progress": {
                "parameters": [_ID],
                "get": {
                    "summary": "The job at every change, until it has ended",
                    "responses": {
                        "200": {
                            "description": "Server-sent events; data is an NDTJob",
                            "content": {"text/event-stream": {"schema": {"type": "string"}}},
                        },
                        **_errors("400", "404", "429"),
                    },
                },
            },
            "/NDTReport/{id}": {"parameters": [_ID], "get": _one("NDTReport", "What a job found")},
        },
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}},
            "schemas": _schemas(max_deadline_s),
        },
    }


_ID: Final = {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}


def _list(name: str, summary: str) -> dict[str, Any]:
    whole = {"type": "integer", "minimum": 0}
    counts = {
        header: {"schema": {"type": "integer"}, "description": text}
        for header, text in (("X-Total-Count", "how many there are"), ("X-Result-Count", "how many are here"))
    }
    return {
        "summary": summary,
        "parameters": [
            {"name": "offset", "in": "query", "schema": whole},
            {"name": "limit", "in": "query", "schema": {"type": "integer", "minimum": 1, "maximum": 500}},
        ],
        "responses": {
            "200": {
                "description": "A part of the list",
                "headers": counts,
                "content": {_JSON: {"schema": {"type": "array", "items": _ref(name)}}},
            },
            **_errors("400"),
        },
    }


def _one(name: str, summary: str) -> dict[str, Any]:
    return {"summary": summary, "responses": {"200": _body(name), **_errors("400", "404")}}


def _create() -> dict[str, Any]:
    return {
        "summary": "Ask what would happen",
        "requestBody": {"required": True, "content": {_JSON: {"schema": _ref("NDTJobAsk")}}},
        "responses": {
            "201": {**_body("NDTJob"), "headers": {"Location": {"schema": {"type": "string"}}}},
            **_errors("400", "403", "404", "413", "415", "429"),
        },
    }


def _cancel() -> dict[str, Any]:
    schema = {
        "type": "object",
        "required": ["cancelJob"],
        "additionalProperties": False,
        "properties": {"cancelJob": {"type": "boolean", "enum": [True]}},
    }
    content = {kind: {"schema": schema} for kind in ("application/merge-patch+json", _JSON)}
    return {
        "summary": "End a job without an answer",
        "requestBody": {"required": True, "content": content},
        "responses": {"200": _body("NDTJob"), **_errors("400", "404", "409", "413", "415")},
    }


def _schemas(max_deadline_s: float) -> dict[str, Any]:
    text = {"type": "string"}
    number = {"type": "number"}
    requirements = {
        "type": "object",
        "additionalProperties": False,
        "properties": {
            "deadline": {**number, "maximum": max_deadline_s, "description": "seconds"},
            "delay": {**number, "description": "ms that a flow may take; more is a finding"},
            "loss": {**number, "maximum": 1, "description": "share of packets that a flow may lose"},
            "atVersions": {
                "type": "object",
                "additionalProperties": text,
                "description": "refuse where a domain is at another version: epoch:sequence, by domain",
            },
        },
    }
    scope = {
        "type": "object",
        "additionalProperties": False,
        "properties": {"domains": {"type": "array", "items": text}},
    }
    asked = {
        "ndtFunctionRef": {**text, "description": "id or href of one of your NDTFunctions"},
        "capability": {**text, "enum": [capability.value for capability in Capability]},
        "scope": scope,
        "scenario": {"type": "object", "description": Scenario.__doc__},
        "requirements": requirements,
        "objectClass": text,
    }
    monitor = {
        "type": "object",
        "properties": {
            "status": {**text, "enum": [state.value for state in JobState]},
            "progressPercentage": {"type": "integer", "minimum": 0, "maximum": 100},
            "progressStateInfo": text,
            "resultStateInfo": text,
            "startTime": {**text, "format": "date-time"},
            "endTime": {**text, "format": "date-time"},
        },
    }
    identity = {"id": text, "href": {**text, "format": "uri"}, "objectClass": text}
    return {
        "NDTFunction": _object(
            identity
            | {"userLabel": text, "operationalState": text, "twin": {"type": "object"}}
            | {name: {"type": "array", "items": text} for name in ("supportedCapabilities", "scopes")}
        ),
        "NDTJobAsk": {
            "type": "object",
            "required": ["ndtFunctionRef", "scenario"],
            "additionalProperties": False,
            "properties": asked,
        },
        "NDTJob": _object(
            identity | asked | {"processMonitor": monitor, "ndtReportRef": text, "serviceTestRef": text},
            optional=("ndtReportRef", "serviceTestRef"),
        ),
        "NDTReport": _object(
            identity
            | {
                "ndtJobRef": text,
                "digest": text,
                "partial": {"type": "boolean"},
                "report": {"type": "object"},
            }
        ),
        "Error": _object(
            {name: text for name in ("@type", "code", "reason", "message", "status", "referenceError")},
            optional=("@type", "message", "status", "referenceError"),
        ),
    }


def _object(properties: dict[str, Any], optional: tuple[str, ...] = ()) -> dict[str, Any]:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "required": required, "properties": properties}


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"{_SCHEMA}{name}"}


def _body(name: str) -> dict[str, Any]:
    return {"description": name, "content": {_JSON: {"schema": _ref(name)}}}


def _errors(*statuses: str) -> dict[str, Any]:
    content = {_JSON: {"schema": _ref("Error")}}
    found = {*statuses, "401", "403", "429", "503"}
    return {status: {"description": _ERRORS[status], "content": content} for status in sorted(found)}
