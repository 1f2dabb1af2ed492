"""Writing: what is made is there, what is patched changes and merges (RFC 7396), what is deleted is gone."""

from __future__ import annotations

import time
import uuid
from typing import Any

import httpx
from tmf630_checks import changes, check, goes
from tmf630_suite import LONGEST_WAIT_S, NotHere, Suite, at, is_error, is_json, listed, new_label, shows
from tmf630_table import Target

MERGE = "application/merge-patch+json"


def patched(suite: Suite, of: Target, identity: str, **patch: Any) -> dict[str, Any]:
    """The whole resource that PATCH answered."""
    answer = suite.ask("PATCH", f"{of.url}/{identity}", json=patch)
    assert answer.status_code == 200, f"PATCH gives {answer.status_code}: {answer.text[:500]}"
    whole = is_json(answer)
    assert whole["id"] == identity
    return dict(whole)


def read(suite: Suite, of: Target, identity: str) -> dict[str, Any]:
    """A resource."""
    return dict(is_json(suite.get(f"{of.url}/{identity}")))


def deleted(suite: Suite, of: Target, identity: str, **more: Any) -> httpx.Response:
    """What DELETE answers, once the resource has come to where it can be deleted."""
    if of.retire:
        suite.ask("PATCH", f"{of.url}/{identity}", json=of.retire)
    deadline = time.monotonic() + LONGEST_WAIT_S
    while True:
        answer = suite.ask("DELETE", f"{of.url}/{identity}", **more)
        if answer.status_code != 409 or time.monotonic() > deadline:
            if answer.status_code == 409:
                raise NotHere(f"it cannot be brought to where it can be deleted: {answer.text[:300]}")
            return answer
        time.sleep(0.1)


@check()
def what_is_made_is_there(suite: Suite, of: Target) -> None:
    sent = suite.body(of)
    answer = suite.ask("POST", of.url, json=sent)
    if answer.status_code in (403, 405, 501):
        raise NotHere(f"POST {of.url} gives {answer.status_code}")

    assert answer.status_code == 201, answer.text[:500]
    made = is_json(answer)
    promised = {name: value for name, value in sent.items() if name not in of.kept}
    assert shows(made, promised), "what was sent is not what was made"
    location = answer.headers.get("location", "")
    assert location, "there is no Location"
    there = suite.get(suite.there(location))
    assert there.status_code == 200, f"Location leads to {there.status_code}"
    assert is_json(there)["id"] == made["id"]
    assert shows(is_json(there), promised)
    assert location == made["href"], "Location and href differ"
    assert len(listed(suite.get(of.url, **{of.label: at(made, of.label)}))) == 1


@check()
def a_key_makes_one_resource(suite: Suite, of: Target) -> None:
    key, sent = str(uuid.uuid4()), suite.body(of)
    suite.make(of)  # whether it can be made at all

    first, again = (suite.ask("POST", of.url, json=sent, headers={"idempotency-key": key}) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 201)
    assert is_json(first)["id"] == is_json(again)["id"]
    assert len(listed(suite.get(of.url, **{of.label: at(sent, of.label)}))) == 1


@check(changes)
def patch_changes(suite: Suite, of: Target) -> None:
    made = suite.make(of)
    word = new_label()

    whole = patched(suite, of, made["id"], **{of.text: word})
    assert whole[of.text] == word, "PATCH answers the resource as it was"
    assert read(suite, of, made["id"])[of.text] == word, "PATCH did not change it"
    kept = {n: v for n, v in suite.body(of, "x").items() if n not in (of.text, of.label, *of.kept)}
    assert shows(read(suite, of, made["id"]), kept), "PATCH changed what it did not name"
    if of.text != of.label:
        assert listed(suite.get(of.url, **{of.label: at(made, of.label)}))[0][of.text] == word


@check(changes)
def patches_add_up(suite: Suite, of: Target) -> None:
    made = suite.make(of)
    word, label = new_label(), new_label()

    patched(suite, of, made["id"], **{of.text: word})
    answer = suite.ask(
        "PATCH",
        f"{of.url}/{made['id']}",
        content=f'{{"{of.label}":"{label}"}}',
        headers={"content-type": MERGE},
    )
    assert answer.status_code == 200, f"{MERGE}: {answer.status_code} {answer.text[:300]}"
    found = read(suite, of, made["id"])
    assert found[of.label] == label
    assert of.text == of.label or found[of.text] == word
    assert listed(suite.get(of.url, **{of.label: at(made, of.label)})) == [], "a filter finds what was"


@check(changes)
def null_takes_away(suite: Suite, of: Target) -> None:
    made = suite.make(of)
    assert of.text in made

    assert of.text not in patched(suite, of, made["id"], **{of.text: None})
    found = read(suite, of, made["id"])
    assert of.text not in found
    assert found["id"] == made["id"]


@check(lambda of: of.changeable and of.nested is not None)
def objects_are_merged(suite: Suite, of: Target) -> None:
    assert of.nested is not None
    name, value = of.nested
    made = suite.make(of, given={**of.body, name: dict(value)})
    keep, other = value

    patched(suite, of, made["id"], **{name: {other: None}})
    assert shows(read(suite, of, made["id"])[name], {keep: value[keep]}), "null of one member took others"
    assert other not in read(suite, of, made["id"])[name], "a member that is null is still there"
    patched(suite, of, made["id"], **{name: {other: value[other]}})
    assert shows(read(suite, of, made["id"])[name], value), "an object was replaced, and not merged"


@check(changes)
def what_is_fixed_stays(suite: Suite, of: Target) -> None:
    made = suite.make(of)
    fixed = {"id": "another", "href": "https://elsewhere.example/1", **of.fixed}

    for name, value in fixed.items():
        is_error(suite.ask("PATCH", f"{of.url}/{made['id']}", json={name: value}), 400, 409)
    found = read(suite, of, made["id"])
    assert {name: found.get(name) for name in fixed} == {name: made.get(name) for name in fixed}
    assert suite.get(f"{of.url}/another").status_code == 404


@check(lambda of: of.changeable and bool(of.mandatory))
def what_is_mandatory_stays(suite: Suite, of: Target) -> None:
    made = suite.make(of)

    for name in of.mandatory:
        is_error(suite.ask("PATCH", f"{of.url}/{made['id']}", json={name: None}), 400, 409)
    assert all(name in read(suite, of, made["id"]) for name in of.mandatory)


@check(lambda of: of.changeable and of.illegal is not None)
def states_are_not_skipped(suite: Suite, of: Target) -> None:
    made = suite.make(of)

    is_error(suite.ask("PATCH", f"{of.url}/{made['id']}", json=of.illegal), 400, 409)
    assert not shows(read(suite, of, made["id"]), of.illegal)


@check(changes)
def a_write_can_be_conditional(suite: Suite, of: Target) -> None:
    made = suite.make(of)
    address, word = f"{of.url}/{made['id']}", new_label()

    for _ in range(5):  # the server may change a resource meanwhile
        old = suite.get(address).headers["etag"]
        first = suite.ask("PATCH", address, json={of.text: word}, headers={"if-match": old})
        if first.status_code == 200:
            break
    assert first.status_code == 200, first.text[:300]
    assert first.headers.get("etag") not in (None, old), "a change leaves the ETag as it was"
    is_error(suite.ask("PATCH", address, json={of.text: "late"}, headers={"if-match": old}), 412)
    assert read(suite, of, made["id"])[of.text] == word, "a patch of an old version was carried out"


@check(goes)
def what_is_deleted_is_gone(suite: Suite, of: Target) -> None:
    made = suite.make(of, given=of.gone)
    kept = suite.make(of)

    answer = deleted(suite, of, made["id"])
    assert answer.status_code in (200, 202, 204), f"DELETE gives {answer.status_code}: {answer.text[:300]}"
    assert answer.status_code != 204 or answer.content == b""
    is_error(suite.get(f"{of.url}/{made['id']}"), 404)
    is_error(suite.ask("DELETE", f"{of.url}/{made['id']}"), 404)
    if of.changeable:
        is_error(suite.ask("PATCH", f"{of.url}/{made['id']}", json={of.text: "x"}), 404)
    assert listed(suite.get(of.url, id=made["id"])) == []
    assert read(suite, of, kept["id"])["id"] == kept["id"], "another one is gone as well"


@check(lambda of: of.removable and of.changeable and of.gone is None)
def a_delete_can_be_conditional(suite: Suite, of: Target) -> None:
    made = suite.make(of)
    old = suite.get(f"{of.url}/{made['id']}").headers["etag"]
    patched(suite, of, made["id"], **{of.text: "newer"})

    is_error(deleted(suite, of, made["id"], headers={"if-match": old}), 412)
    assert read(suite, of, made["id"])["id"] == made["id"]
