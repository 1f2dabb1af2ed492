"""The check that every answer goes through: it must see what is wrong with one, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from tmf_contract import check_answer

JSON = "application/json;charset=utf-8"
ORDERS = "https://twins.example/tmf-api/serviceOrdering/v4/serviceOrder"
ORDER: dict[str, Any] = {
    "id": "1",
    "href": f"{ORDERS}/1",
    "@type": "ServiceOrder",
    "state": "acknowledged",
    "orderDate": "2026-03-01T12:00:00.000Z",
    "serviceOrderItem": [{"id": "1", "action": "add", "service": {"@type": "Service", "state": "active"}}],
}
ERROR: dict[str, Any] = {
    "code": "badRequest",
    "reason": "Bad request",
    "message": "no",
    "status": "400",
    "@type": "Error",
}
COUNTS = {"content-type": JSON, "x-total-count": "1", "x-result-count": "1"}
MADE = {"content-type": JSON, "location": f"{ORDERS}/1"}


def test_what_is_right_passes() -> None:
    check_answer("GET", ORDERS, 200, json.dumps([ORDER]).encode(), COUNTS)
    check_answer("GET", f"{ORDERS}/1", 200, json.dumps(ORDER).encode(), {"content-type": JSON})
    check_answer("POST", ORDERS, 201, json.dumps(ORDER).encode(), MADE)
    check_answer("DELETE", f"{ORDERS}/1", 204, b"", {})
    check_answer("POST", ORDERS, 400, json.dumps(ERROR).encode(), {"content-type": JSON})


def without(name: str) -> Callable[[dict[str, Any]], Any]:
    return lambda body: {key: value for key, value in body.items() if key != name}


@pytest.mark.parametrize(
    "spoil",
    [
        without("href"),
        without("id"),
        without("@type"),
        without("state"),
        without("serviceOrderItem"),
        lambda order: {**order, "state": "done"},
        lambda order: {**order, "orderDate": "yesterday"},
        lambda order: {**order, "description": 7},
        lambda order: {**order, "serviceOrderItem": {}},
        lambda order: {**order, "serviceOrderItem": [{"action": "add"}]},
        lambda order: {**order, "serviceOrderItem": [{"id": "1", "action": "destroy"}]},
        lambda order: {**order, "ofOurOwn": 1},
        lambda order: {**order, "serviceOrderItem": [{**order["serviceOrderItem"][0], "ofOurOwn": 1}]},
        lambda order: [order],
        lambda order: "text",
    ],
)
def test_a_resource_that_is_wrong_is_seen(spoil: Callable[[dict[str, Any]], Any]) -> None:
    content = json.dumps(spoil(ORDER)).encode()

    with pytest.raises((AssertionError, AttributeError)):
        check_answer("POST", ORDERS, 201, content, MADE)


@pytest.mark.parametrize("name", ["code", "reason", "message", "status"])
def test_an_error_that_says_too_little_is_seen(name: str) -> None:
    content = json.dumps(without(name)(ERROR)).encode()

    with pytest.raises(AssertionError):
        check_answer("POST", ORDERS, 400, content, {"content-type": JSON})


@pytest.mark.parametrize(
    ("method", "url", "status", "body", "headers"),
    [
        ("GET", ORDERS, 200, [ORDER], {"content-type": JSON, "x-result-count": "1"}),
        ("GET", ORDERS, 200, [ORDER], {"content-type": JSON, "x-total-count": "1"}),
        ("GET", ORDERS, 200, [ORDER], {**COUNTS, "content-type": "text/html"}),
        ("GET", ORDERS, 200, ORDER, COUNTS),
        ("POST", ORDERS, 201, ORDER, {"content-type": JSON}),
        ("POST", ORDERS, 202, ORDER, MADE),
        ("POST", ORDERS, 418, ERROR, {"content-type": JSON}),
        ("PUT", ORDERS, 405, ERROR, {"content-type": JSON}),
        ("GET", ORDERS, 401, ERROR, {"content-type": JSON}),
        ("DELETE", f"{ORDERS}/1", 204, ERROR, {}),
    ],
)
def test_what_an_answer_says_beside_its_body_is_seen(
    method: str, url: str, status: int, body: Any, headers: dict[str, str]
) -> None:
    with pytest.raises(AssertionError):
        check_answer(method, url, status, json.dumps(body).encode(), headers)
