"""Subscriptions to events, as far as they can be seen by who subscribes."""

from __future__ import annotations

from tmf630_checks import check
from tmf630_suite import Suite, is_error, is_json, listed
from tmf630_table import BASES, Target


def is_hub(of: Target) -> bool:
    """Whether a target is the subscriptions of an API."""
    return of.path == "hub"


@check(is_hub)
def a_callback_is_told_once(suite: Suite, of: Target) -> None:
    made = suite.make(of)

    again = suite.ask("POST", of.url, json={"callback": made["callback"]})
    is_error(again, 409)
    assert len(listed(suite.get(of.url, callback=made["callback"]))) == 1


@check(is_hub)
def a_callback_is_an_address(suite: Suite, of: Target) -> None:
    for callback in ("", "listener", "ftp://listener.example/x", "https://", "https://u:p@listener.example/"):
        is_error(suite.ask("POST", of.url, json={"callback": callback}), 400)


@check(is_hub)
def a_subscription_ends(suite: Suite, of: Target) -> None:
    made = suite.make(of)

    assert suite.ask("DELETE", f"{of.url}/{made['id']}").status_code == 204
    is_error(suite.ask("DELETE", f"{of.url}/{made['id']}"), 404)
    again = suite.make(of, made["callback"])
    assert again["id"] != made["id"], "it is subscribed anew"


@check(is_hub)
def subscriptions_are_of_one_api(suite: Suite, of: Target) -> None:
    made = suite.make(of)
    other = next(base for api, base in BASES.items() if api != of.api)

    is_error(suite.get(f"{other}/hub/{made['id']}"), 404)
    assert made["id"] not in [each["id"] for each in listed(suite.get(f"{other}/hub", limit=500))]
    assert is_json(suite.get(f"{of.url}/{made['id']}"))["callback"] == made["callback"]
