"""TM Forum's conformance kits: Postman collections in folders, turned to our address, and run by newman.

Nothing in a kit's folder is changed: the collection is rewritten in memory. A kit is believed in what it
asserts; what we do not fulfil is named in `waivers.toml`, with the reason.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

NEWMAN = "newman@6.2.2"
WAIVERS = Path(__file__).parent / "waivers.toml"
TIMEOUT_S = 300.0
BASES = {
    "TMF633": "/tmf-api/serviceCatalogManagement",
    "TMF638": "/tmf-api/serviceInventory",
    "TMF639": "/tmf-api/resourceInventoryManagement",
    "TMF641": "/tmf-api/serviceOrdering",
    "TMF642": "/tmf-api/alarmManagement",
    "TMF653": "/tmf-api/serviceTestManagement",
}
V3 = ("TMF633", "TMF641", "TMF653")
"""APIs that have a v3 dialect."""
_NUMBER = re.compile(r"TMF[_ -]?(\d{3})", re.IGNORECASE)
_ADDRESS = re.compile(r"https?://[^\s\"'<>{}]+|https?://\{\{[^}]+\}\}[^\s\"'<>]*")
_VERSION = re.compile(r"/v?(\d)(?:\.\d+)*(?=/|$)")


@dataclass(frozen=True)
class Kit:
    """One collection of a kit, and the values for its variables."""

    number: str
    collection: Path
    environment: Path | None

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.number}/{self.collection.name}"

    @property
    def identity(self) -> str:
        """Which kit it was: its commit, as far as that is known, and the digest of the collection."""
        command = ["git", "-C", str(self.collection.parent), "rev-parse", "HEAD"]
        told = subprocess.run(command, capture_output=True, text=True, check=False)
        commit = told.stdout.strip() if told.returncode == 0 else "unknown"
        return f"commit {commit}, sha256 {hashlib.sha256(self.collection.read_bytes()).hexdigest()}"


@dataclass(frozen=True)
class Failed:
    """One assertion that did not hold."""

    kit: str
    request: str
    test: str
    message: str

    def __str__(self) -> str:
        return f"{self.kit}: {self.request}: {self.test}: {self.message}"


@dataclass(frozen=True)
class Report:
    """What newman found."""

    requests: int
    assertions: int
    failed: tuple[Failed, ...]


@dataclass(frozen=True)
class Waiver:
    """An assertion that we mean not to fulfil; `request` and `test` may have wildcards."""

    kit: str
    request: str
    test: str
    reason: str

    def covers(self, failed: Failed) -> bool:
        """Whether it speaks of this one."""
        return (
            self.kit == failed.kit
            and fnmatchcase(failed.request, self.request)
            and fnmatchcase(failed.test, self.test)
        )


def kits(folder: Path) -> list[Kit]:
    """The kits in a folder, one sub-folder each. Raises ValueError for a folder that holds none."""
    found = []
    for each in sorted(path for path in folder.iterdir() if path.is_dir()):
        documents = [path for path in sorted(each.rglob("*.json")) if "node_modules" not in path.parts]
        loaded = {path: _loaded(path) for path in documents}
        environments = [path for path, document in loaded.items() if isinstance(document.get("values"), list)]
        for path, document in loaded.items():
            if "schema.getpostman.com" not in str(document.get("info", {}).get("schema", "")):
                continue
            told = _NUMBER.search(f"{each.name} {path.name} {document['info'].get('name', '')}")
            number = f"TMF{told.group(1)}" if told else ""
            if number in BASES:
                near = [e for e in environments if e.parent == path.parent] or environments
                found.append(Kit(number, path, near[0] if near else None))
    if not found:
        raise ValueError(
            f"{folder}: no Postman collection of {', '.join(BASES)}; put each kit into a sub-folder"
        )
    return found


def _loaded(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, OSError):
        return {}
    return document if isinstance(document, dict) else {}


def turned(text: str, number: str, address: str) -> str:
    """A text whose addresses of the API lead to ours, in the version that they name."""

    def ours(found: re.Match[str]) -> str:
        path = urlsplit(re.sub(r"\{\{[^}]+\}\}", "x", found.group())).path
        version = _VERSION.search(path)
        spoken = "v3" if version and version.group(1) in "23" and number in V3 else "v4"
        tail = path[version.end() :] if version else "/" if path.endswith("/") else ""
        query = found.group().partition("?")[2]
        return f"{address}{BASES[number]}/{spoken}{tail}{f'?{query}' if query else ''}"

    return _ADDRESS.sub(ours, text)


def rewritten(collection: Mapping[str, Any], number: str, address: str, token: str) -> dict[str, Any]:
    """A collection that asks us, with a token in each request."""
    made = {**collection, "auth": {"type": "noauth"}, "item": []}
    if "variable" in made:
        made["variable"] = _turned_values(made["variable"], number, address)
    made["item"] = [_item(each, number, address, token) for each in collection.get("item", ())]
    return made


def environment(document: Mapping[str, Any], number: str, address: str) -> dict[str, Any]:
    """An environment whose addresses are ours."""
    return {**document, "values": _turned_values(document.get("values", ()), number, address)}


def _turned_values(values: Iterable[Mapping[str, Any]], number: str, address: str) -> list[dict[str, Any]]:
    return [
        {**each, "value": turned(each["value"], number, address)}
        if isinstance(each.get("value"), str)
        else dict(each)
        for each in values
    ]


def _item(item: Mapping[str, Any], number: str, address: str, token: str) -> dict[str, Any]:
    if "item" in item:
        inner = [_item(each, number, address, token) for each in item["item"]]
        return {**{name: value for name, value in item.items() if name != "auth"}, "item": inner}
    request = item.get("request", {})
    if isinstance(request, str):
        request = {"method": "GET", "url": request}
    url = request.get("url", "")
    raw = url.get("raw", "") if isinstance(url, Mapping) else url
    given = request.get("header") or []
    headers = [each for each in given if str(each.get("key", "")).lower() != "authorization"]
    headers.append({"key": "Authorization", "value": f"Bearer {token}"})
    kept = {name: value for name, value in request.items() if name != "auth"}
    changed = {**kept, "header": headers}
    if raw.startswith("http"):
        changed["url"] = turned(raw, number, address)
    return {**item, "request": changed}


def newman() -> list[str] | str:
    """The command that runs newman; a sentence where it cannot be had."""
    npx = shutil.which("npx")
    if npx is None:
        return "newman needs Node (npx), which this machine does not have: apt-get install nodejs npm"
    command = [npx, "--yes", "--loglevel=error", NEWMAN]
    tried = subprocess.run([*command, "--version"], capture_output=True, check=False, timeout=TIMEOUT_S)
    return command if tried.returncode == 0 else f"{NEWMAN} could not be had from npm"


def run(kit: Kit, command: Sequence[str], address: str, token: str, folder: Path) -> Report:
    """Run a kit against a server. Raises AssertionError where newman itself fails."""
    document = _loaded(kit.collection)
    (folder / "collection.json").write_text(json.dumps(rewritten(document, kit.number, address, token)))
    arguments = ["run", "collection.json", "--suppress-exit-code", "--timeout-request", "30000"]
    if kit.environment:
        values = environment(_loaded(kit.environment), kit.number, address)
        (folder / "environment.json").write_text(json.dumps(values))
        arguments += ["--environment", "environment.json"]
    arguments += ["--reporters", "json", "--reporter-json-export", "report.json"]
    told = subprocess.run(
        [*command, *arguments],
        cwd=folder,
        env={**os.environ, "NO_PROXY": "127.0.0.1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT_S,
    )
    report = folder / "report.json"
    assert report.exists(), f"newman ended with {told.returncode}: {told.stdout[-2000:]}{told.stderr[-2000:]}"
    return read_report(kit.number, json.loads(report.read_text(encoding="utf-8")))


def read_report(number: str, document: Mapping[str, Any]) -> Report:
    """What a JSON report of newman says."""
    ran = document["run"]
    failed = tuple(
        Failed(
            number,
            str((each.get("source") or {}).get("name", "")),
            str(each["error"].get("test") or each["error"].get("name", "")),
            str(each["error"].get("message", "")),
        )
        for each in ran["failures"]
    )
    return Report(ran["stats"]["requests"]["total"], ran["stats"]["assertions"]["total"], failed)


def waivers(path: Path = WAIVERS) -> list[Waiver]:
    """What is waived. Raises TypeError for an entry that lacks its reason."""
    return [Waiver(**each) for each in tomllib.loads(path.read_text(encoding="utf-8")).get("waiver", ())]


def judged(
    failed: Iterable[Failed], waived: Iterable[Waiver], numbers: Iterable[str]
) -> tuple[list[Failed], list[Waiver]]:
    """The failures that nothing waives, and the waivers of these kits that nothing needs any more."""
    failed, ran = list(failed), set(numbers)
    waived = [each for each in waived if each.kit in ran]
    unexpected = [each for each in failed if not any(waiver.covers(each) for waiver in waived)]
    unneeded = [waiver for waiver in waived if not any(waiver.covers(each) for each in failed)]
    return unexpected, unneeded
