"""Checks answers against TM Forum's official documents, which FEDTWIN_SPECS names the folder of.

Those documents (Swagger 2.0) demand almost nothing, so that our own lists of what must be there come on top.
A document's schema is chosen by the method and the path, and a resource's by its `@type` where it has one of
its own. Deviations that we mean are named in DEVIATIONS.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import jsonschema
import pytest

from twin_api.tmf import APIS
from twin_api.tmf.shapes import instant
from twin_api.tmf.table import Api, Resource

FILES = {
    "TMF633": "TMF633-ServiceCatalog-v4.0.0.swagger.json",
    "TMF638": "TMF638-ServiceInventory-v4.0.0.swagger.json",
    "TMF639": "TMF639-ResourceInventory-v4.0.0.FIWARE-vendored.swagger.json",
    "TMF641": "TMF641-ServiceOrdering-v4.1.0.swagger.json",
    "TMF642": "TMF642-Alarm-v4.0.0.swagger.json",
    "TMF653": "TMF653_Service_Test_Management_API_v4.2.0_swagger.json",
}
DEVIATIONS: dict[str, dict[str, dict[str, Any]]] = {
    # an id of 64 bits would leave no room for ids that say nothing of their order
    "TMF642": {name: {"id": {"type": "string"}} for name in ("Alarm", "AlarmRefOrValue")},
}
_STATUS = frozenset(("operatingStatus",))  # of TMF638 5.0
_HUB = frozenset(("href", "state", "lastError", "failingSince", "deadLetterCount", "deadLetter"))
EXTENSIONS: dict[str, dict[str, frozenset[str]]] = {
    **{number: {"EventSubscription": _HUB} for number in FILES},
    "TMF638": {"EventSubscription": _HUB, "Service": _STATUS, "ServiceRefOrValue": _STATUS},
    "TMF642": {"EventSubscription": _HUB, "Alarm": frozenset(("raisedBy",))},
}
"""By document and definition: attributes that are ours."""
OURS = frozenset((401, 403, 404, 406, 409, 411, 412, 413, 414, 415, 429, 502, 503))
"""Statuses that any of our answers may have, though the documents name few of them."""
UNASKED = {"TMF641": ("ServiceOrderItemRef",)}
"""Definitions that demand an `id` which is none of their properties."""
ALWAYS = ("id", "href", "@type")
MUST: dict[str, tuple[str, ...]] = {"serviceOrder": ("state", "orderDate"), "serviceTest": ("state",)}


def specifications() -> Path:
    """The folder of the official documents; the test is skipped, loudly, where there is none."""
    named = os.environ.get("FEDTWIN_SPECS")
    if not named:
        pytest.skip("FEDTWIN_SPECS is not set: answers are NOT checked against TM Forum's documents")
    folder = Path(named) / "tmf"
    assert folder.is_dir(), f"FEDTWIN_SPECS={named}: there is no folder tmf in it"
    return folder


@cache
def official(number: str) -> Mapping[str, Any]:
    """The official document of an API, with the deviations that we mean."""
    document = json.loads((specifications() / FILES[number]).read_text(encoding="utf-8"))
    for name, properties in DEVIATIONS.get(number, {}).items():
        document["definitions"][name]["properties"].update(properties)
    for name in UNASKED.get(number, ()):
        document["definitions"][name]["properties"]["id"] = {"type": "string"}
        document["definitions"][name]["required"].remove("id")
    return dict(document)


def _dates() -> jsonschema.FormatChecker:
    checker = jsonschema.FormatChecker(formats=())
    checker.checks("date-time")(lambda value: not isinstance(value, str) or instant(value) is not None)
    checker.checks("uri")(lambda value: not isinstance(value, str) or (bool(value) and " " not in value))
    return checker


@cache
def _validator(number: str, name: str) -> jsonschema.Draft4Validator:
    schema = {"$ref": f"#/definitions/{name}", "definitions": official(number)["definitions"]}
    return jsonschema.Draft4Validator(schema, format_checker=_dates())


def problems(number: str, name: str, value: Any, *, partly: bool = False) -> list[str]:
    """What is wrong with a value that should be the definition `name` of a document."""
    document = official(number)
    definitions = document["definitions"]
    own = value.get("@type") if isinstance(value, dict) else None
    if own in definitions and "properties" in definitions[own]:
        name = own
    found = _validator(number, name).iter_errors(value)
    return [
        f"{name}{'/'.join(str(step) for step in error.absolute_path)}: {error.message}"
        for error in found
        if not (partly and error.validator == "required")
    ]


def undeclared(number: str, name: str, value: Any, where: str = "") -> list[str]:
    """Attributes of a value that the definition `name`, and what it is made of, does not have."""
    definitions = official(number)["definitions"]
    own = value.get("@type") if isinstance(value, Mapping) else None
    names = {name, own if own in definitions else name}
    if not isinstance(value, Mapping) or not all("properties" in definitions[each] for each in names):
        return []
    declared: dict[str, Any] = {}
    allowed: set[str] = set()
    for each in names:
        declared |= definitions[each]["properties"]
        allowed |= EXTENSIONS.get(number, {}).get(each, frozenset())
    found = []
    for attribute, inner in value.items():
        at = f"{where}/{attribute}"
        if attribute not in declared:
            if not attribute.startswith("@") and attribute not in allowed:
                found.append(f"{name}{at}: the document has no such attribute")
            continue
        schema = declared[attribute]
        items = inner if isinstance(inner, list) else [inner]
        reference = schema.get("$ref") or schema.get("items", {}).get("$ref", "")
        if reference:
            for each in items:
                found += undeclared(number, reference.rpartition("/")[2], each, at)
    return found


def check_headers(method: str, path: str, status: int, headers: Mapping[str, str]) -> None:
    """Check what an answer says beside its body."""
    if status not in (204, 304) and method not in ("HEAD", "OPTIONS"):
        kind = headers.get("content-type", "").replace(" ", "").lower()
        assert kind == "application/json;charset=utf-8", f"Content-Type is {kind!r}"
    if method == "POST" and status == 201:
        assert headers.get("location", "").startswith("http"), "201 without a Location"
    if status == 405:
        assert headers.get("allow"), "405 without Allow"
    if status == 401:
        assert headers.get("www-authenticate"), "401 without WWW-Authenticate"
    if method == "GET" and status == 200 and not place(path)[2]:
        assert headers.get("x-total-count", "").isdigit(), "a list without X-Total-Count"
        assert headers.get("x-result-count", "").isdigit(), "a list without X-Result-Count"


def check_answer(
    method: str, url: str, status: int, content: bytes, headers: Mapping[str, str] | None = None
) -> None:
    """Check one answer of the TM Forum APIs; others pass."""
    parts = urlsplit(url)
    api, resource, single = place(parts.path)
    if api is None:
        return
    if headers is not None:
        check_headers(method, parts.path, status, headers)
    if status >= 400:
        if method != "HEAD":
            _none(problems(api.number, "Error", json.loads(content)))
            assert json.loads(content).keys() >= {"code", "reason", "message", "status"}
        if resource is not None:
            operation = official(api.number)["paths"].get(f"/{resource.path}{'/{id}' if single else ''}", {})
            documented = operation.get(method.lower(), {"responses": {str(status): ""}})["responses"]
            assert status in OURS or str(status) in documented, f"{method} gives {status}"
        return
    if resource is None or status in (204, 304) or method in ("HEAD", "OPTIONS"):
        assert content == b""
        return
    body = json.loads(content)
    partly = "fields" in parse_qs(parts.query, keep_blank_values=True)
    name = resource.shape.name
    if method == "GET" and not single:
        assert isinstance(body, list)
    else:
        assert isinstance(body, dict)
    for each in body if isinstance(body, list) else [body]:
        _none(problems(api.number, name, each, partly=partly))
        _none(undeclared(api.number, name, each))
        needed = ALWAYS if partly else (*ALWAYS, *resource.mandatory, *MUST.get(resource.path, ()))
        assert set(needed) <= each.keys(), f"{resource.path} lacks {set(needed) - each.keys()}"
    operation = official(api.number)["paths"].get(f"/{resource.path}{'/{id}' if single else ''}", {})
    if resource.path != "hub" or method not in ("GET", "PATCH"):  # reading subscriptions is ours
        assert str(status) in operation[method.lower()]["responses"], f"{method} gives {status}"


def _none(found: list[str]) -> None:
    assert not found, "; ".join(found)[:2000]


def place(path: str) -> tuple[Api | None, Resource | None, bool]:
    """Which API and resource a path leads to, and whether to a single one."""
    for api in APIS:
        if path.startswith(f"{api.base}/"):
            first, _, rest = path.removeprefix(f"{api.base}/").partition("/")
            return api, api.collection(first), bool(rest)
    return None, None, False


async def conforming(answer: httpx.Response) -> None:
    """A hook of a client: every answer is checked."""
    await answer.aread()
    _check(answer)


def check_response(answer: httpx.Response) -> None:
    """The same hook, of a client that waits."""
    answer.read()
    _check(answer)


def _check(answer: httpx.Response) -> None:
    request = answer.request
    check_answer(request.method, str(request.url), answer.status_code, answer.content, answer.headers)
