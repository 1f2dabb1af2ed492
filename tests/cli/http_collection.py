"""Reads a collection in the .http format and sends it as an editor does. Knows what story.http uses, no more.

Variables (`@name = value`, `{{name}}`), names of requests (`# @name order`), answers in later requests
(`{{order.response.body.$.id}}`), and `{{$guid}}`.
"""

from __future__ import annotations

import json
import re
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

_VARIABLE = re.compile(r"\{\{([^}]+)\}\}")


@dataclass(frozen=True)
class Wanted:
    """One request as it is written."""

    title: str
    name: str
    text: str


def read(path: Path) -> tuple[dict[str, str], list[Wanted]]:
    """The variables and the requests of a collection."""
    head, *parts = re.split(r"^### ?", path.read_text(encoding="utf-8"), flags=re.M)
    variables = dict(re.findall(r"^@(\w+) = (.+)$", head, flags=re.M))
    wanted = []
    for part in parts:
        title, _, text = part.partition("\n")
        name = re.search(r"^# @name (\w+)$", text, flags=re.M)
        lines = [line for line in text.split("\n") if not line.startswith("#")]
        wanted.append(Wanted(title, name.group(1) if name else "", "\n".join(lines).strip()))
    return variables, wanted


class Session:
    """Sends requests, and remembers the answers of those with names."""

    def __init__(self, variables: dict[str, str]) -> None:
        self._variables = variables
        self._bodies: dict[str, Any] = {}

    def send(self, wanted: Wanted) -> httpx.Response:
        """One request, with its variables filled in; again under the same name replaces the answer."""
        head, _, body = wanted.text.partition("\n\n")
        first, *lines = head.split("\n")
        method, url = first.split(" ", 1)
        headers = {
            name: self._filled(value.strip()) for name, _, value in (line.partition(":") for line in lines)
        }
        answer = httpx.request(
            method, self._filled(url), headers=headers, content=self._filled(body) or None, trust_env=False
        )
        if wanted.name:
            self._bodies[wanted.name] = answer.json()
        return answer

    def _filled(self, text: str) -> str:
        while match := _VARIABLE.search(text):
            text = text[: match.start()] + self._value(match.group(1)) + text[match.end() :]
        return text

    def _value(self, name: str) -> str:
        if name == "$guid":
            return str(uuid.uuid4())
        if ".response.body.$." not in name:
            return self._variables[name]
        request, _, path = name.partition(".response.body.$.")
        found = self._bodies[request]
        for step in re.findall(r"\w+", path):
            found = found[int(step)] if isinstance(found, list) else found[step]
        return found if isinstance(found, str) else json.dumps(found)
