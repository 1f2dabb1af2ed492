"""Asks a server over HTTP, and looks at answers: what all checks of the TMF630 suite are made of."""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx
from tmf630_table import Target

LONGEST_WAIT_S = 10.0
ALWAYS = ("id", "href", "@type")
JSON = "application/json"


class NotHere(Exception):
    """What a check needs, this server cannot be brought to have: the check says nothing about it."""


class Suite:
    """One server, and what was made there."""

    def __init__(self, http: httpx.Client, targets: Sequence[Target]) -> None:
        self.http = http
        self.targets = {target.path: target for target in targets if target.path != "hub"}
        self._made: list[tuple[Target, str]] = []
        self._found: dict[str, str] = {}

    # ------------------------------------------------------------ asking

    def ask(self, method: str, url: str, **more: Any) -> httpx.Response:
        """An answer; a server that asks to wait is waited for."""
        deadline = time.monotonic() + LONGEST_WAIT_S
        while True:
            answer = self.http.request(method, url, **more)
            after = answer.headers.get("retry-after", "1")
            waits_s = min(int(after) if after.isdigit() else 1, LONGEST_WAIT_S)
            if answer.status_code != 429 or time.monotonic() + waits_s > deadline:
                return answer
            time.sleep(waits_s)

    def get(self, url: str, **params: Any) -> httpx.Response:
        """An answer to GET."""
        return self.ask("GET", url, params=params or None)

    def there(self, address: str) -> str:
        """Where an absolute address of the server leads to: its public name may not be known here."""
        parts = urlsplit(address)
        assert parts.scheme in ("http", "https"), f"{address!r} is not absolute"
        assert parts.netloc, f"{address!r} is not absolute"
        prefix = self.http.base_url.path.rstrip("/")
        path = parts.path.removeprefix(prefix) if prefix else parts.path
        return f"{path}?{parts.query}" if parts.query else path

    # ------------------------------------------------------------ making

    def body(self, of: Target, label: str = "", given: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """What POST is sent, with the suite's word in it."""
        body: dict[str, Any] = self._resolved(of.body if given is None else given)
        word = label or new_label()
        if of.single and not label.startswith("https:"):
            word = f"https://listener.example/{word}"
        first, _, rest = of.label.partition(".")
        body[first] = {**body.get(first, {}), rest: word} if rest else word
        return body

    def make(self, of: Target, label: str = "", given: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """A resource that was made: what was answered."""
        answer = self.ask("POST", of.url, json=self.body(of, label, given))
        if answer.status_code in (403, 405, 501):
            raise NotHere(f"POST {of.url} gives {answer.status_code}: {answer.text[:300]}")
        assert answer.status_code == 201, f"POST {of.url} gives {answer.status_code}: {answer.text[:500]}"
        made = answer.json()
        assert isinstance(made, dict), "POST answers the resource"
        assert isinstance(made.get("id"), str), "what was made has an id"
        self._made.append((of, made["id"]))
        return made

    def _resolved(self, value: Any) -> Any:
        if isinstance(value, Mapping):
            return {name: self._resolved(each) for name, each in value.items()}
        if isinstance(value, list):
            return [self._resolved(each) for each in value]
        if isinstance(value, str) and value.startswith("$"):
            return self._one(value[1:])
        return value

    def _one(self, word: str) -> str:
        """The id of a resource to refer to, made once."""
        if word not in self._found:
            of = self.targets.get(word.rstrip("2"))
            if of is None:
                raise NotHere(f"there is no {word} in the table to refer to")
            active = {"state": "active"} if of.path == "service" else {}
            found = self.get(of.url, **active, limit=1).json() if active else []
            self._found[word] = found[0]["id"] if found else self.make(of)["id"]
            self._made = [each for each in self._made if each[1] != self._found[word]]
        return self._found[word]

    @contextmanager
    def tidied(self) -> Iterator[None]:
        """Take away what was made meanwhile, as far as the server lets that be."""
        try:
            yield
        finally:
            made, self._made = self._made, []
            for of, identity in reversed(made):
                if of.removable and of.gone is None:
                    if of.retire and of.changeable:
                        self.ask("PATCH", f"{of.url}/{identity}", json=of.retire)
                    self.ask("DELETE", f"{of.url}/{identity}")


def new_label() -> str:
    """A word that nobody else uses."""
    return f"w{uuid.uuid4().hex[:12]}"


def at(document: Any, dotted: str) -> Any:
    """What stands at a path; None: nothing."""
    for step in dotted.split("."):
        document = document.get(step) if isinstance(document, Mapping) else None
    return document


def shows(whole: Any, part: Any) -> bool:
    """Whether a document says all that another one says; a server may add."""
    if isinstance(part, Mapping):
        return isinstance(whole, Mapping) and all(
            name in whole and shows(whole[name], each) for name, each in part.items()
        )
    if isinstance(part, list):
        return (
            isinstance(whole, list)
            and len(whole) == len(part)
            and all(shows(one, other) for one, other in zip(whole, part, strict=True))
        )
    return bool(whole == part)


def is_json(answer: httpx.Response) -> Any:
    """The body of an answer that says it is JSON."""
    kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
    assert kind == JSON, f"Content-Type is {kind!r} and not {JSON}"
    return json.loads(answer.content)


def is_error(answer: httpx.Response, *statuses: int) -> dict[str, Any]:
    """An error of one of these statuses, with the body that TMF630 wants of all errors."""
    where = f"{answer.request.method} {answer.request.url}"
    assert answer.status_code in statuses, f"{where}: {answer.status_code} {answer.text[:500]}"
    assert answer.content, f"{where}: the body of {answer.status_code} is empty"
    body = is_json(answer)
    assert isinstance(body, dict), f"{where}: an error is an object"
    for name in ("code", "reason"):
        assert isinstance(body.get(name), str), f"{where}: an error has a {name}, which is text"
        assert body[name].strip(), f"{where}: the {name} of an error is empty"
    assert str(body.get("status", answer.status_code)) == str(answer.status_code), f"{where}: status differs"
    assert isinstance(body.get("message", ""), str), f"{where}: message is text"
    assert not re.search(r"Traceback|\.py\b|at 0x", answer.text), f"{where}: the error tells of the inside"
    return body


def listed(answer: httpx.Response) -> list[dict[str, Any]]:
    """The resources of a list, whose counts are right as far as the list shows."""
    where = f"GET {answer.request.url}"
    assert answer.status_code == 200, f"{where}: {answer.status_code} {answer.text[:500]}"
    body = is_json(answer)
    assert isinstance(body, list), f"{where}: not a list"
    for name in ("X-Total-Count", "X-Result-Count"):
        assert answer.headers.get(name, "").isdigit(), f"{where}: {name} is {answer.headers.get(name)!r}"
    assert int(answer.headers["X-Result-Count"]) == len(body), f"{where}: X-Result-Count is not what is there"
    assert int(answer.headers["X-Total-Count"]) >= len(body), f"{where}: X-Total-Count is less than there is"
    for each in body:
        has_identity(each)
    return body


def total(answer: httpx.Response) -> int:
    """X-Total-Count of a list."""
    listed(answer)
    return int(answer.headers["X-Total-Count"])


def has_identity(document: Mapping[str, Any]) -> None:
    """Whether a resource says what it is and where."""
    for name in ALWAYS:
        assert isinstance(document.get(name), str), f"{name} is missing: {str(document)[:300]}"
        assert document[name], f"{name} is empty: {str(document)[:300]}"


def links(answer: httpx.Response) -> dict[str, str]:
    """Addresses of a Link header by their relation (RFC 8288)."""
    found = re.findall(r"<([^>]*)>\s*;[^,<]*?rel=\"?([\w-]+)\"?", answer.headers.get("link", ""))
    return {relation: address for address, relation in found}
