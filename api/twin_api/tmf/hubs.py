"""The face of subscriptions: what a client may ask to be told. Who is told, and how, is the broker's."""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

from twin_api.tmf.errors import Refused
from twin_api.tmf.table import Api

__all__ = ["check_hub"]

MAX_QUERY: Final = 2000
_NAME: Final = re.compile(r"[A-Za-z@][\w@.]{0,199}")


def check_hub(api: Api, body: dict[str, Any]) -> None:
    """Refuse (400) a subscription that could never be served: its callback, or events that there are not."""
    _callback(body["callback"])
    query = body.get("query", "")
    if len(query) > MAX_QUERY or any(ord(letter) < 0x20 for letter in query):
        raise _bad(f"query has at most {MAX_QUERY} characters on one line")
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query), max_num_fields=32)
    except ValueError:
        raise _bad("query is written as attribute=value, joined by &") from None
    for name, value in pairs:
        if _NAME.fullmatch(name) is None:
            raise _bad(f"query: {name[:100]!r} is not an attribute of an event")
        if name == "eventType":
            unknown = [each for each in re.split("[,;]", value) if each.strip("\"' ") not in api.events]
            if unknown:
                raise _bad(
                    f"query: there is no event {unknown[0][:100]!r}; there are {', '.join(api.events)}"
                )


def _callback(address: str) -> None:
    try:
        parts = urlsplit(address)
        _ = parts.port
    except ValueError:
        raise _bad("callback is not an address") from None
    if parts.scheme not in ("https", "http") or not parts.hostname:
        raise _bad("callback must be an absolute address: https://host/path")
    if parts.username is not None or parts.password is not None or parts.fragment:
        raise _bad("callback holds neither a user, a password nor a fragment")


def _bad(sentence: str) -> Refused:
    return Refused(400, sentence, code="invalidSubscription")
