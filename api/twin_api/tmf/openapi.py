"""OpenAPI 3.0 documents of the APIs, made from the tables that the engine goes by."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from twin_api.tmf.paths import Path
from twin_api.tmf.query import DEFAULT_LIMIT, MAX_LIMIT
from twin_api.tmf.shapes import Attribute, Basic, Shape
from twin_api.tmf.shapes_data import SHAPES
from twin_api.tmf.table import Api, Operation, Resource

__all__ = ["document"]

_JSON: Final = "application/json"
_TYPES: Final[dict[Basic, dict[str, Any]]] = {
    Basic.TEXT: {"type": "string"},
    Basic.DATE: {"type": "string", "format": "date-time"},
    Basic.BOOL: {"type": "boolean"},
    Basic.INT: {"type": "integer", "format": "int64"},
    Basic.NUMBER: {"type": "number"},
    Basic.URL: {"type": "string", "format": "uri-reference"},
    Basic.ANY: {"description": "any JSON value"},
}
_ERRORS: Final = {
    400: "The request is not understood; the message names what is wrong",
    401: "No access token, or one that is not taken",
    403: "The token lacks the scope, or the resource is only read",
    404: "There is no such resource for this tenant",
    406: "Only JSON is answered",
    409: "It does not fit the state of the resource, or there is one already",
    412: "The resource is at another version than If-Match names",
    413: "The body is too large",
    415: "The body is not JSON",
    429: "More than the tenant's quota or rate; Retry-After says when to try again",
    503: "The broker is not reached at the moment; Retry-After says when to try again",
}
_OFTEN: Final = (400, 401, 403, 429, 503)


def document(api: Api, public_address: str) -> dict[str, Any]:
    """The OpenAPI document of an API."""
    resources = (*api.resources, api.hub)
    paths: dict[str, Any] = {}
    for resource in resources:
        if collection := _collection(api, resource):
            paths[f"/{resource.path}"] = collection
        if one := _one(api, resource):
            paths[f"/{resource.path}/{{id}}"] = one
    return {
        "openapi": "3.0.3",
        "info": {
            "title": api.title,
            "version": api.version,
            "description": f"{api.number}, as this server serves it. Scopes are those of the access token.",
        },
        "servers": [{"url": f"{public_address}{api.base}"}],
        "security": [{"token": []}],
        "tags": [{"name": resource.path} for resource in resources],
        "paths": paths,
        "components": {
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "an access token (RFC 9068)",
                }
            },
            "schemas": _schemas(resources),
            "responses": {str(status): _error(text) for status, text in _ERRORS.items()},
        },
    }


def _collection(api: Api, resource: Resource) -> dict[str, Any]:
    operations: dict[str, Any] = {}
    if Operation.LIST in resource.allowed:
        operations["get"] = {
            **_head(api, resource, Operation.LIST, f"List {resource.path}, newest first"),
            "description": (
                "Any attribute filters, dotted into objects and arrays: `attribute=value`, several values"
                " by comma (OR), several attributes (AND), `.ne .gt .gte .lt .lte .regex` after the name."
            ),
            "parameters": [_FIELDS, _SORT, _OFFSET, _LIMIT, *_filters(resource)],
            "responses": {
                "200": {
                    "description": "A page of the list",
                    "headers": {
                        "X-Total-Count": _whole("resources that meet the filters"),
                        "X-Result-Count": _whole("resources on this page"),
                        "Link": _header("pages: self, first, prev, next, last (RFC 8288)"),
                        "Age": _whole("seconds since the broker was last heard"),
                    },
                    "content": {_JSON: {"schema": {"type": "array", "items": _shown(resource)}}},
                },
                **_errors(*_OFTEN, 406),
            },
        }
    if Operation.CREATE in resource.allowed:
        operations["post"] = {
            **_head(api, resource, Operation.CREATE, f"Create a {resource.name}"),
            "parameters": [_KEY],
            "requestBody": _body(_JSON, f"{_schema_name(resource)}_Create"),
            "responses": {
                "201": {
                    "description": "It is kept",
                    "headers": {
                        "Location": _header("its address"),
                        "ETag": _header("its version"),
                        "Idempotency-Replayed": _header("true: the key was known, and nothing was made"),
                    },
                    "content": {_JSON: {"schema": _shown(resource)}},
                },
                **_errors(*_OFTEN, 404, 406, 409, 413, 415),
            },
        }
    return operations


def _one(api: Api, resource: Resource) -> dict[str, Any]:
    operations: dict[str, Any] = {}
    etag = {"ETag": _header("its version")}
    if Operation.READ in resource.allowed:
        operations["get"] = {
            **_head(api, resource, Operation.READ, f"Read a {resource.name}"),
            "parameters": [_FIELDS, _IF_NONE_MATCH],
            "responses": {
                "200": {
                    "description": "The resource, or the parts that fields names",
                    "headers": etag,
                    "content": {_JSON: {"schema": _shown(resource)}},
                },
                "304": {"description": "It is still the version that If-None-Match names", "headers": etag},
                **_errors(*_OFTEN, 404, 406),
            },
        }
    if Operation.CHANGE in resource.allowed:
        operations["patch"] = {
            **_head(api, resource, Operation.CHANGE, f"Change a {resource.name}"),
            "parameters": [_IF_MATCH],
            "requestBody": {
                "required": True,
                "content": {
                    media_type: {"schema": _ref(f"{_schema_name(resource)}_Update")}
                    for media_type in ("application/merge-patch+json", _JSON)
                },
            },
            "responses": {
                "200": {
                    "description": "All of it, changed",
                    "headers": etag,
                    "content": {_JSON: {"schema": _shown(resource)}},
                },
                **_errors(*_OFTEN, 404, 406, 409, 412, 413, 415),
            },
        }
    if Operation.REMOVE in resource.allowed:
        operations["delete"] = {
            **_head(api, resource, Operation.REMOVE, f"Delete a {resource.name}"),
            "parameters": [_IF_MATCH],
            "responses": {
                "204": {"description": "It is gone"},
                **_errors(*_OFTEN, 404, 406, 409, 412),
            },
        }
    if operations:
        operations["parameters"] = [
            {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}}
        ]
    return operations


def _head(api: Api, resource: Resource, operation: Operation, summary: str) -> dict[str, Any]:
    scopes = " or ".join(f"`{scope}`" for scope in resource.allowed[operation])
    return {
        "operationId": f"{operation}{resource.path[0].upper()}{resource.path[1:]}",
        "summary": f"{summary}; scope {scopes}",
        "tags": [resource.path],
    }


def _schema_name(resource: Resource) -> str:
    return resource.shape.name


def _schemas(resources: Iterable[Resource]) -> dict[str, Any]:
    """What is shown, created and changed; and all the shapes that these are made of."""
    schemas: dict[str, Any] = {}
    waiting: list[str] = ["Error"]
    for resource in resources:
        shape, name = resource.shape, _schema_name(resource)
        schemas[name] = _object(shape, shape.attributes, (), closed=False)
        if resource.states is not None:
            state = schemas[name]["properties"][resource.states.attribute]
            state["description"] = "a client may ask for: " + "; ".join(
                f"{before} to {' or '.join(after)}" for before, after in resource.states.moves.items()
            )
        if Operation.CREATE in resource.allowed:
            schemas[f"{name}_Create"] = _object(shape, resource.writable(), resource.mandatory, closed=True)
            types = schemas[f"{name}_Create"]["properties"]["@type"]
            types["enum"] = list(resource.types)
        if Operation.CHANGE in resource.allowed:
            schemas[f"{name}_Update"] = _object(shape, resource.changeable(), (), closed=True)
        waiting += [each.shape for each in shape.attributes.values() if each.shape]
    while waiting:
        name = waiting.pop()
        if name not in schemas:
            shape = SHAPES[name]
            required = [each for each, attribute in shape.attributes.items() if attribute.mandatory]
            schemas[name] = _object(shape, shape.attributes, required, closed=False)
            waiting += [each.shape for each in shape.attributes.values() if each.shape]
    return schemas


def _object(shape: Shape, names: Iterable[str], required: Sequence[str], *, closed: bool) -> dict[str, Any]:
    made: dict[str, Any] = {
        "type": "object",
        "properties": {name: _attribute(shape.attributes[name]) for name in names},
    }
    if required:
        made["required"] = list(required)
    if closed:
        made["additionalProperties"] = False
    return made


def _attribute(attribute: Attribute) -> dict[str, Any]:
    if attribute.basic is None:
        single = _ref(attribute.shape)
    else:
        single = dict(_TYPES[attribute.basic])
        if attribute.values:
            single["enum"] = list(attribute.values)
    return {"type": "array", "items": single} if attribute.many else single


def _shown(resource: Resource) -> dict[str, Any]:
    """A resource as it is answered: `fields` may leave out all but its identity."""
    return {"allOf": [_ref(_schema_name(resource)), {"required": ["id", "href", "@type"]}]}


def _filters(resource: Resource) -> list[dict[str, Any]]:
    """The attributes of the first level, as filters: the dotted ones are told in words."""
    found = []
    for name, attribute in resource.shape.attributes.items():
        path = Path((name,), attribute)
        if path.comparable and name not in resource.hidden and not name.startswith("@"):
            schema = dict(_TYPES[attribute.basic or Basic.TEXT])
            found.append({"name": name, "in": "query", "required": False, "schema": schema})
    return found


def _ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/components/schemas/{name}"}


def _body(media_type: str, schema: str) -> dict[str, Any]:
    return {"required": True, "content": {media_type: {"schema": _ref(schema)}}}


def _errors(*statuses: int) -> dict[str, Any]:
    return {str(status): {"$ref": f"#/components/responses/{status}"} for status in sorted(set(statuses))}


def _error(text: str) -> dict[str, Any]:
    return {"description": text, "content": {_JSON: {"schema": _ref("Error")}}}


def _header(text: str) -> dict[str, Any]:
    return {"description": text, "schema": {"type": "string"}}


def _whole(text: str) -> dict[str, Any]:
    return {"description": text, "schema": {"type": "integer"}}


def _asked(name: str, text: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "description": text, "schema": schema}


def _said(name: str, text: str) -> dict[str, Any]:
    return {
        "name": name,
        "in": "header",
        "required": False,
        "description": text,
        "schema": {"type": "string"},
    }


_FIELDS: Final = _asked("fields", "attributes to show, dotted, by comma; none: identity", {"type": "string"})
_SORT: Final = _asked("sort", "attributes to sort by, by comma; a minus descends", {"type": "string"})
_OFFSET: Final = _asked("offset", "how many to pass over", {"type": "integer", "minimum": 0, "default": 0})
_LIMIT: Final = _asked(
    "limit",
    f"how many to show; more than {MAX_LIMIT} are not shown at once",
    {"type": "integer", "minimum": 0, "default": DEFAULT_LIMIT},
)
_IF_MATCH: Final = _said("If-Match", "the ETag that must still be the resource's (412)")
_IF_NONE_MATCH: Final = _said("If-None-Match", "the ETag of what the client holds (304)")
_KEY: Final = _said("Idempotency-Key", "the same key makes one resource, however often it is sent")
