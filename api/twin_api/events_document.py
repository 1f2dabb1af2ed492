"""The OpenAPI document of live events and of the keys of their signatures. What is sent, `events` decides."""

from __future__ import annotations

from typing import Any, Final

from federation.partners.notices import PLACES

__all__ = ["events_document"]

_JSON: Final = "application/json"
_TEXT: Final = {"type": "string"}
_RETRY: Final = {"Retry-After": {"schema": {"type": "integer"}, "description": "seconds"}}


def events_document(address: str) -> dict[str, Any]:
    """The document; `address` is the public address of the api."""
    return {
        "openapi": "3.0.3",
        "info": {
            "title": "Live events and signing keys",
            "version": "1.0.0",
            "description": "What happens to a tenant's resources, as it happens (scope ndt.events), and the"
            " keys that the events of subscriptions are signed with. Subscriptions are the hubs of the APIs.",
        },
        "servers": [{"url": address}],
        "security": [{"token": []}],
        "tags": [{"name": "events"}, {"name": "keys"}],
        "paths": {"/events": {"get": _listen()}, "/.well-known/jwks.json": {"get": _keys()}},
        "components": {
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "an access token (RFC 9068)",
                }
            },
            "schemas": {"Event": _event(), "Gap": _gap(), "KeySet": _key_set(), "Error": _error()},
        },
    }


def _listen() -> dict[str, Any]:
    return {
        "operationId": "listenToEvents",
        "tags": ["events"],
        "summary": "Events of the tenant, as they happen, until the token ends",
        "description": "Server-sent events (HTML Living Standard 9.2). `event` is the type, `data` an Event;"
        " `event: gap` has a Gap as data: something was missed, read again what matters. A comment comes"
        " every 15 s. Any attribute of an event filters, as in a subscription's query: `attribute=value`,"
        " several values by comma (OR), several attributes (AND), `.ne .gt .gte .lt .lte` after the name.",
        "parameters": [
            {
                "name": "Last-Event-ID",
                "in": "header",
                "description": "the id that came last: what happened since is sent first, or a gap",
                "schema": _TEXT,
            },
            {
                "name": "eventType",
                "in": "query",
                "description": "only events of these types",
                "schema": _TEXT,
                "example": "ServiceOrderStateChangeEvent",
            },
        ],
        "responses": {
            "200": {
                "description": "Frames, for as long as somebody listens",
                "headers": {"Cache-Control": {"schema": _TEXT, "description": "no-store"}},
                "content": {
                    "text/event-stream": {
                        "schema": {"type": "string", "description": "frames whose data is an Event or a Gap"},
                        "x-data": {"anyOf": [_ref("Event"), _ref("Gap")]},
                    }
                },
            },
            "400": _refused("The query is no filter of events"),
            "401": _refused("No access token, or one that is not taken"),
            "403": _refused("The token lacks the scope ndt.events"),
            "429": _refused("More than the tenant's rate, or it listens as often as it may", headers=_RETRY),
        },
    }


def _keys() -> dict[str, Any]:
    return {
        "operationId": "listSigningKeys",
        "tags": ["keys"],
        "summary": "The public keys of the signatures of events (RFC 7517)",
        "security": [],
        "parameters": [],
        "responses": {
            "200": {
                "description": "The key in use, and those of the last month",
                "headers": {"Cache-Control": {"schema": _TEXT, "description": "for five minutes"}},
                "content": {"application/jwk-set+json": {"schema": _ref("KeySet")}},
            },
            "503": _refused("The broker is not reached at the moment", headers=_RETRY),
        },
    }


def _event() -> dict[str, Any]:
    names = sorted({name for _, name in PLACES.values()})
    return {
        "type": "object",
        "required": ["eventId", "eventTime", "eventType", "event"],
        "properties": {
            "eventId": _TEXT,
            "eventTime": {"type": "string", "format": "date-time"},
            "eventType": _TEXT,
            "domain": _TEXT,
            "title": _TEXT,
            "event": {
                "type": "object",
                "description": "one resource by its name, as its API shows it",
                "minProperties": 1,
                "maxProperties": 1,
                "additionalProperties": False,
                "properties": {name: {"type": "object"} for name in names},
            },
        },
    }


def _gap() -> dict[str, Any]:
    return {"type": "object", "required": ["reason"], "properties": {"reason": _TEXT}}


def _key_set() -> dict[str, Any]:
    key = {
        "type": "object",
        "required": ["kty", "kid"],
        "properties": {name: _TEXT for name in ("kty", "kid", "crv", "x", "y", "use", "alg")},
    }
    return {"type": "object", "required": ["keys"], "properties": {"keys": {"type": "array", "items": key}}}


def _error() -> dict[str, Any]:
    names = ("@type", "code", "reason", "message", "status", "referenceError")
    return {
        "type": "object",
        "required": ["code", "reason"],
        "properties": {name: _TEXT for name in names},
    }


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _refused(description: str, headers: dict[str, Any] | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {"description": description, "content": {_JSON: {"schema": _ref("Error")}}}
    return {**found, "headers": headers} if headers else found
