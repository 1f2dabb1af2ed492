"""The suite is itself tested: our own server, with one thing broken in front of it, must not pass."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from tmf630_checks import every_check
from tmf630_server import OwnServer
from tmf630_suite import NotHere, Suite
from tmf630_table import TARGETS, Target

pytestmark = [pytest.mark.tmf630, pytest.mark.timeout(120)]

OF = next(of for of in TARGETS if of.path == "serviceSpecification")
Headers = list[tuple[bytes, bytes]]


@dataclass
class Spoilt:
    """The application, with what it is asked and what it answers changed on the way."""

    app: ASGIApp
    asked: Callable[[Scope], Scope] = lambda scope: scope
    answered: Callable[[Scope, int, Headers, bytes], tuple[int, Headers, bytes]] = field(
        default=lambda _scope, status, headers, body: (status, headers, body)
    )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        body, start = bytearray(), {}

        async def collect(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.update(message)
            else:
                body.extend(message.get("body", b""))

        before = dict(scope)
        await self.app(self.asked(dict(scope)), receive, collect)
        status, headers, content = self.answered(before, start["status"], list(start["headers"]), bytes(body))
        headers = [(name, value) for name, value in headers if name.lower() != b"content-length"]
        if status not in (204, 304) and before["method"] != "HEAD":
            headers.append((b"content-length", str(len(content)).encode()))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": content})


def empty_error_bodies(app: ASGIApp) -> ASGIApp:
    def answered(_: Scope, status: int, headers: Headers, body: bytes) -> tuple[int, Headers, bytes]:
        return status, headers, b"" if status >= 400 else body

    return Spoilt(app, answered=answered)


def error_bodies_that_say_nothing(app: ASGIApp) -> ASGIApp:
    def answered(_: Scope, status: int, headers: Headers, body: bytes) -> tuple[int, Headers, bytes]:
        return status, headers, b"{}" if status >= 400 else body

    return Spoilt(app, answered=answered)


def patch_that_does_nothing(app: ASGIApp) -> ASGIApp:
    """200, and the resource as it is."""

    def asked(scope: Scope) -> Scope:
        return {**scope, "method": "GET"} if scope["method"] == "PATCH" else scope

    return Spoilt(app, asked=asked)


def patch_that_only_says_so(app: ASGIApp) -> ASGIApp:
    """200 and a body that is patched; nothing is kept."""
    return _Pretended(app)


class _Pretended:
    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "PATCH":
            await self._app(scope, receive, send)
            return
        sent = bytearray()
        while True:
            message = await receive()
            sent.extend(message.get("body", b""))
            if not message.get("more_body"):
                break

        def answered(_: Scope, status: int, headers: Headers, body: bytes) -> tuple[int, Headers, bytes]:
            try:
                shown = {**json.loads(body), **json.loads(sent)}
            except (ValueError, TypeError):
                shown = json.loads(body)
            return status, headers, json.dumps({k: v for k, v in shown.items() if v is not None}).encode()

        spoilt = Spoilt(self._app, asked=lambda asked: {**asked, "method": "GET"}, answered=answered)
        await spoilt(scope, receive, send)


def without_header(*names: bytes) -> Callable[[ASGIApp], ASGIApp]:
    def wrap(app: ASGIApp) -> ASGIApp:
        def answered(_: Scope, status: int, headers: Headers, body: bytes) -> tuple[int, Headers, bytes]:
            return status, [each for each in headers if each[0].lower() not in names], body

        return Spoilt(app, answered=answered)

    return wrap


def _without_query(ignored: Callable[[str], bool]) -> Callable[[ASGIApp], ASGIApp]:
    def wrap(app: ASGIApp) -> ASGIApp:
        def asked(scope: Scope) -> Scope:
            pairs = parse_qsl(scope["query_string"].decode(), keep_blank_values=True)
            kept = urlencode([(name, value) for name, value in pairs if not ignored(name)])
            return {**scope, "query_string": kept.encode()} if scope["method"] == "GET" else scope

        return Spoilt(app, asked=asked)

    return wrap


def counts_that_are_of_the_page(app: ASGIApp) -> ASGIApp:
    def answered(scope: Scope, status: int, headers: Headers, body: bytes) -> tuple[int, Headers, bytes]:
        number = dict(headers).get(b"x-result-count", b"0")
        changed = [(name, number if name == b"x-total-count" else value) for name, value in headers]
        return status, changed, body

    return Spoilt(app, answered=answered)


def location_that_leads_nowhere(app: ASGIApp) -> ASGIApp:
    def answered(scope: Scope, status: int, headers: Headers, body: bytes) -> tuple[int, Headers, bytes]:
        changed = [(name, value + b"-x" if name == b"location" else value) for name, value in headers]
        return status, changed, body

    return Spoilt(app, answered=answered)


def links_to_the_same_page(app: ASGIApp) -> ASGIApp:
    def answered(scope: Scope, status: int, headers: Headers, body: bytes) -> tuple[int, Headers, bytes]:
        changed = [
            (name, value.replace(b"offset=2", b"offset=0") if name == b"link" else value)
            for name, value in headers
        ]
        return status, changed, body

    return Spoilt(app, answered=answered)


def delete_that_does_nothing(app: ASGIApp) -> ASGIApp:
    def asked(scope: Scope) -> Scope:
        return {**scope, "method": "GET"} if scope["method"] == "DELETE" else scope

    def answered(scope: Scope, status: int, headers: Headers, body: bytes) -> tuple[int, Headers, bytes]:
        gone = scope["method"] == "DELETE" and status == 200
        return (204, headers, b"") if gone else (status, headers, body)

    return Spoilt(app, asked=asked, answered=answered)


def conditions_that_are_ignored(app: ASGIApp) -> ASGIApp:
    def asked(scope: Scope) -> Scope:
        kept = [each for each in scope["headers"] if each[0] not in (b"if-match", b"if-none-match")]
        return {**scope, "headers": kept}

    return Spoilt(app, asked=asked)


PAGING = ("offset", "limit")
ITS_OWN = ("fields", "sort", *PAGING)
FILTERS = _without_query(lambda name: name not in ITS_OWN)
BROKEN: list[tuple[str, Callable[[ASGIApp], ASGIApp], set[str]]] = [
    (
        "empty error bodies",
        empty_error_bodies,
        {"what_is_not_there_is_not_found", "methods_that_there_are_not", "what_is_mandatory_is_missing"},
    ),
    ("error bodies that say nothing", error_bodies_that_say_nothing, {"what_is_not_there_is_not_found"}),
    ("PATCH that does nothing", patch_that_does_nothing, {"patch_changes", "null_takes_away"}),
    ("PATCH that only says so", patch_that_only_says_so, {"patch_changes", "objects_are_merged"}),
    ("no X-Total-Count", without_header(b"x-total-count"), {"a_list_says_how_long_it_is"}),
    ("no X-Result-Count", without_header(b"x-result-count"), {"a_list_says_how_long_it_is"}),
    ("X-Total-Count of the page", counts_that_are_of_the_page, {"counts_are_true", "pages_are_linked"}),
    ("no Location", without_header(b"location"), {"what_is_made_is_there"}),
    ("a Location that leads nowhere", location_that_leads_nowhere, {"what_is_made_is_there"}),
    (
        "ignored filters",
        FILTERS,
        {"a_filter_finds_only_what_it_says", "keys_are_combined", "a_filter_of_no_attribute_is_refused"},
    ),
    ("ignored fields", _without_query(lambda name: name == "fields"), {"fields_narrow_a_resource"}),
    ("ignored sort", _without_query(lambda name: name == "sort"), {"a_list_is_sorted"}),
    ("ignored operators", _without_query(lambda name: name.endswith((".gt", ".ne"))), {"filters_compare"}),
    ("paging without links", without_header(b"link"), {"pages_are_linked"}),
    ("paging linked in a circle", links_to_the_same_page, {"pages_are_linked"}),
    ("ignored paging", _without_query(lambda name: name in PAGING), {"pages_are_linked", "counts_are_true"}),
    ("DELETE that does nothing", delete_that_does_nothing, {"what_is_deleted_is_gone"}),
    ("ignored If-Match", conditions_that_are_ignored, {"a_write_can_be_conditional"}),
]


def failing(own: OwnServer, wrap: Callable[[ASGIApp], ASGIApp], of: Target, only: set[str]) -> set[str]:
    """The names of the checks that a server does not pass, of `only` or of all."""
    found = set()
    with own.client(own.listen(wrap)) as http:
        suite = Suite(http, TARGETS)
        for check in every_check():
            if not check.concerns(of) or (only and check.name not in only):
                continue
            try:
                with suite.tidied():
                    check.run(suite, of)
            except NotHere:
                raise
            except Exception:  # a broken server breaks a check in any way
                found.add(check.name)
    return found


@pytest.mark.parametrize(
    ("wrap", "caught_by"), [each[1:] for each in BROKEN], ids=[each[0] for each in BROKEN]
)
def test_a_broken_server_is_caught(own: OwnServer, wrap: Any, caught_by: set[str]) -> None:
    assert failing(own, wrap, OF, caught_by) == caught_by


def test_a_server_behind_the_same_wrapper_passes(own: OwnServer) -> None:
    assert failing(own, Spoilt, OF, set()) == set()
