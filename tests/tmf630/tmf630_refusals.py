"""Refusing: the right status, always with a body that says why, and nothing done."""

from __future__ import annotations

import json

from tmf630_checks import changes, check, goes
from tmf630_suite import NotHere, Suite, at, is_error, listed, new_label
from tmf630_table import Target

UNKNOWN = "no-such-id-0000"


def refused(suite: Suite, of: Target, body: object, **more: object) -> None:
    """POST must give 400, in words."""
    suite.make(of)  # whether it can be made at all
    is_error(suite.ask("POST", of.url, json=body, **more), 400)


@check()
def what_is_not_there_is_not_found(suite: Suite, of: Target) -> None:
    body = is_error(suite.get(f"{of.url}/{UNKNOWN}"), 404)
    other = is_error(suite.get(f"{of.url}/{UNKNOWN}1"), 404)
    assert body["code"] == other["code"]


@check(changes)
def nothing_there_to_patch(suite: Suite, of: Target) -> None:
    is_error(suite.ask("PATCH", f"{of.url}/{UNKNOWN}", json={of.text: "x"}), 404)


@check(goes)
def nothing_there_to_delete(suite: Suite, of: Target) -> None:
    is_error(suite.ask("DELETE", f"{of.url}/{UNKNOWN}"), 404)


@check()
def no_such_collection(suite: Suite, of: Target) -> None:
    is_error(suite.get(f"{of.url}Nothing"), 404)
    is_error(suite.get(f"{of.url}/{UNKNOWN}/below"), 404)


@check()
def methods_that_there_are_not(suite: Suite, of: Target) -> None:
    wrong = [("PUT", of.url), ("DELETE", of.url), ("PATCH", of.url), ("PUT", f"{of.url}/{UNKNOWN}")]
    if not of.changeable:
        wrong.append(("PATCH", f"{of.url}/{UNKNOWN}"))
    if not of.removable:
        wrong.append(("DELETE", f"{of.url}/{UNKNOWN}"))
    for method, address in wrong:
        answer = suite.ask(method, address, json={})
        is_error(answer, 405)
        allowed = {each.strip() for each in answer.headers.get("allow", "").split(",")}
        assert "GET" in allowed, f"{method}: Allow is {allowed}"
        assert method not in allowed, f"{method}: Allow is {allowed}"


@check()
def only_json_is_answered(suite: Suite, of: Target) -> None:
    is_error(suite.ask("GET", of.url, headers={"accept": "text/html"}), 406)
    for accept in ("application/json", "application/*;q=0.5", "text/html, */*;q=0.1"):
        listed(suite.ask("GET", of.url, headers={"accept": accept}))


@check()
def only_json_is_taken(suite: Suite, of: Target) -> None:
    suite.make(of)
    content = json.dumps(suite.body(of))

    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/xml"):
        is_error(suite.ask("POST", of.url, content=content, headers={"content-type": kind}), 415)


@check(changes)
def only_json_is_merged(suite: Suite, of: Target) -> None:
    made = suite.make(of)
    address, content = f"{of.url}/{made['id']}", json.dumps({of.text: "x"})

    is_error(suite.ask("PATCH", address, content=content, headers={"content-type": "text/plain"}), 415)
    for body in ("{", "[]", "", '"x"', "null"):
        is_error(suite.ask("PATCH", address, content=body, headers={"content-type": "application/json"}), 400)


@check()
def what_is_mandatory_is_missing(suite: Suite, of: Target) -> None:
    for name in of.mandatory:
        label = new_label()
        body = suite.body(of, label)
        del body[name]
        refused(suite, of, body)
        if name != of.label.partition(".")[0]:
            assert listed(suite.get(of.url, **{of.label: label})) == [], "it was made all the same"


@check()
def attributes_that_there_are_not(suite: Suite, of: Target) -> None:
    label = at(suite.body(of), of.label)
    refused(suite, of, {**suite.body(of, label), "noSuchAttribute": 1})
    assert listed(suite.get(of.url, **{of.label: label})) == [], "it was made all the same"


@check(changes)
def attributes_that_there_are_not_in_a_patch(suite: Suite, of: Target) -> None:
    made = suite.make(of)
    is_error(suite.ask("PATCH", f"{of.url}/{made['id']}", json={"noSuchAttribute": 1}), 400)


@check()
def values_of_the_wrong_type(suite: Suite, of: Target) -> None:
    first = of.label.partition(".")[0]
    for wrong in (7, ["x"], True):
        refused(suite, of, {**suite.body(of), first: wrong})


@check()
def bodies_that_are_none(suite: Suite, of: Target) -> None:
    suite.make(of)
    for content in ("{", "[]", "", "null", '{"a":1,}', b"\xff\xfe{}", '{"x": NaN}', "[" * 5000):
        headers = {"content-type": "application/json"}
        is_error(suite.ask("POST", of.url, content=content, headers=headers), 400)


@check()
def an_id_is_the_servers(suite: Suite, of: Target) -> None:
    wanted = new_label()
    suite.make(of)
    answer = suite.ask("POST", of.url, json={**suite.body(of), "id": wanted})
    if answer.status_code == 201:
        assert answer.json()["id"] != wanted, "a client chose the id"
    else:
        is_error(answer, 400)
    is_error(suite.get(f"{of.url}/{wanted}"), 404)


@check()
def who_asks_is_known(suite: Suite, of: Target) -> None:
    if "authorization" not in suite.http.headers:
        raise NotHere("no token was given: the server is open")
    for token in ("", "Bearer no.token", "Basic eDp5"):
        headers = {"authorization": token}
        answer = suite.ask("GET", of.url, headers=headers)
        is_error(answer, 401)
        assert answer.headers.get("www-authenticate"), "401 says how to authenticate (RFC 9110 11.6.1)"
