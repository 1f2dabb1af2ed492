"""Calls of a tenant matrix: who asks, of whose things, over every route and method; what answers may be.

Knows no server: it makes calls, and judges answers. Each tenant's documents hold a marker that no answer to
anybody else may show, in body, header or error; a call that names a foreign id must be answered exactly as
one that names an id which nobody has.
"""

from __future__ import annotations

import json
import random
import re
import uuid
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import httpx

from twin_api.ndt_jobs import BASE as NDT
from twin_api.tmf import APIS

__all__ = ["CATEGORIES", "COLLECTIONS", "Call", "Findings", "World", "generate", "without_ids"]

CATEGORIES = ("own", "foreign", "none", "expired", "wrong audience", "wrong scope")
REFUSED = {"none": 401, "expired": 401, "wrong audience": 401, "wrong scope": 403}
COLLECTIONS = tuple(
    [f"{api.base}/{each.path}" for api in APIS for each in (*api.resources, api.hub)]
    + [f"{NDT}/NDTFunction", f"{NDT}/NDTJob", f"{NDT}/NDTReport"]
)
METHODS = ("GET", "GET", "GET", "HEAD", "POST", "PATCH", "PUT", "DELETE", "OPTIONS")
QUERIES = (
    "",
    "limit=500",
    "offset=0&limit=1",
    "fields=none",
    "fields=name,state",
    "sort=-name",
    "id={id}",
    "id.ne=nobody",
    "name.regex=.*",
    "href.regex=.*{id}.*",
    "relatedParty.id={victim}",
    "tenant={victim}",
    "nonsense=1",
    "%00=%ff",
)
SPARQL = (
    "SELECT * { ?s ?p ?o } LIMIT 100",
    "SELECT * { GRAPH ?g { ?s ?p ?o } } LIMIT 100",
    "ASK { ?s ?p '{id}' }",
)
HEADERS: tuple[Mapping[str, str], ...] = (
    {},
    {},
    {"x-tenant": "{victim}"},
    {"fedtwin-partner": "{victim}"},
    {"x-forwarded-user": "{victim}", "forwarded": "for={victim}"},
    {"host": "{victim}.example"},
    {"if-match": '"1"'},
    {"idempotency-key": "{id}"},
    {"x-request-id": "{id}"},
    {"origin": "https://{victim}.example"},
)
NAMED = (
    "id",
    "service",
    "serviceOrder",
    "relatedService",
    "testSpecification",
    "alarmPattern",
    "ndtFunctionRef",
)


@dataclass(frozen=True, slots=True)
class World:
    """What there is: for each tenant its marker, and its ids by the path of their collection."""

    markers: Mapping[str, str]
    ids: Mapping[str, Mapping[str, tuple[str, ...]]]
    public: frozenset[str] = frozenset()

    def secrets(self, asker: str) -> frozenset[str]:
        """What an answer to `asker` may not show."""
        others = [tenant for tenant in self.markers if tenant != asker]
        found = {self.markers[tenant] for tenant in others}
        for tenant in others:
            found.update(each for listed in self.ids[tenant].values() for each in listed)
        return frozenset(found) - self.public


@dataclass(frozen=True, slots=True)
class Call:
    """One request. `named`: the id in it that is another's, where there is one."""

    category: str
    asker: str
    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None
    named: str = ""
    collection: str = ""

    def with_unknown(self) -> Call:
        """The same call of an id that nobody has."""
        drawn = uuid.UUID(int=random.Random(self.named).getrandbits(128), version=4)
        nobody = str(drawn) if len(self.named) == len(str(drawn)) else drawn.hex[: len(self.named)]

        def swapped(text: str) -> str:
            return text.replace(self.named, nobody)

        return replace(
            self,
            path=swapped(self.path),
            query=swapped(self.query),
            headers={name: swapped(value) for name, value in self.headers.items()},
            body=None if self.body is None else swapped(self.body.decode()).encode(),
            named=nobody,
        )


def generate(rng: random.Random, world: World, count: int) -> list[Call]:
    """`count` calls, of every category alike."""
    return [_call(rng, world, CATEGORIES[number % len(CATEGORIES)]) for number in range(count)]


def _call(rng: random.Random, world: World, category: str) -> Call:
    asker = rng.choice(sorted(world.markers))
    victim = rng.choice([tenant for tenant in sorted(world.markers) if tenant != asker])
    owner = asker if category == "own" else victim
    collection = rng.choice([*COLLECTIONS, "/sparql"])
    method = rng.choice(METHODS)
    pool = world.ids[owner].get(collection) or sum(world.ids[owner].values(), ())
    named = rng.choice(pool)
    words = {"{id}": named, "{victim}": victim}
    headers = {name: _filled(value, words) for name, value in rng.choice(HEADERS).items()}
    foreign = named if category != "own" else ""
    if collection == "/sparql":
        text = _filled(rng.choice(SPARQL), words)
        encoded = str(httpx.QueryParams({"query": text}))
        return Call(category, asker, method, collection, encoded, headers, None, foreign, collection)
    query = _filled(rng.choice(QUERIES), words) if method in ("GET", "HEAD") else ""
    single = rng.random() < (0.7 if method in ("GET", "HEAD", "PATCH", "DELETE") else 0.2)
    path = f"{collection}/{named}" if single else collection
    if single and "NDT" in collection and rng.random() < 0.3:
        path += "/progress"
    body = None
    if method in ("POST", "PATCH", "PUT"):
        headers["content-type"] = "application/json"
        body = json.dumps(
            _body(rng, method, collection, named=named, victim=victim, category=category)
        ).encode()
    if category == "own" and method == "DELETE":
        path = f"{collection}/{uuid.UUID(int=rng.getrandbits(128), version=4)}"  # what is there is needed
    return Call(category, asker, method, path, query, headers, body, foreign, collection)


def _body(
    rng: random.Random, method: str, collection: str, *, named: str, victim: str, category: str
) -> dict[str, Any]:
    if method == "PATCH":
        if category == "own":
            return {"description": f"changed {rng.randrange(100)}"}
        return rng.choice(
            [{"description": "taken"}, {"state": "terminated"}, {"relatedParty": [{"id": victim}]}]
        )
    if category == "own":
        return rng.choice([{}, {"nonsense": 1}, {"@type": "Nothing"}])  # makes nothing: it would take long
    reference = {"id": named}
    fitting = _fitting(collection.rpartition("/")[2], reference)
    if fitting and rng.random() < 0.7:
        return rng.choice(fitting)
    return rng.choice(
        [
            {"id": named, "name": "mine"},
            {"serviceOrderItem": [{"id": "1", "action": "delete", "service": reference}]},
            {"serviceOrderItem": [{"id": "1", "action": "modify", "service": reference}]},
            {"serviceOrder": reference, "cancellationReason": "mine"},
            {"name": "r", "mode": "ONDEMAND", "relatedService": reference, "testSpecification": reference},
            {"ndtFunctionRef": named, "scenario": {"name": "s", "changes": []}},
            {"alarmPattern": [{"id": named}], "state": "accepted"},
            {"id": named, "callback": "https://callback.example/x"},
            {"relatedParty": [{"id": victim}], "description": "for another"},
        ]
    )


def _fitting(resource: str, reference: Mapping[str, str]) -> list[dict[str, Any]]:
    """Bodies of the right shape for a collection, that reach for what the reference names."""
    named = reference["id"]
    items = [
        {"id": "1", "action": action, "service": {**reference, "serviceCharacteristic": []}}
        for action in ("modify", "delete", "noChange")
    ]
    run = {"name": "r", "mode": "ONDEMAND", "relatedService": reference, "testSpecification": reference}
    found: dict[str, list[dict[str, Any]]] = {
        "serviceOrder": [{"description": "mine", "serviceOrderItem": [item]} for item in items],
        "cancelServiceOrder": [{"serviceOrder": reference, "cancellationReason": "mine"}],
        "serviceTest": [run],
        "serviceTestSpecification": [{"name": "s", "relatedServiceSpecification": [reference]}],
        "ackAlarm": [{"alarmPattern": [reference], "ackUserId": "me"}],
        "unAckAlarm": [{"alarmPattern": [reference], "ackUserId": "me"}],
        "clearAlarm": [{"alarmPattern": [reference], "clearUserId": "me"}],
        "commentAlarm": [{"alarmPattern": [reference], "comment": {"comment": "mine"}}],
        "NDTJob": [{"ndtFunctionRef": named, "scenario": {"name": "s", "changes": [], "flows": []}}],
    }
    return found.get(resource, [])


def _filled(text: str, words: Mapping[str, str]) -> str:
    for word, value in words.items():
        text = text.replace(word, value)
    return text


_IDS = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_TIMES = re.compile(r"\d{4}-\d\d-\d\dT[\d:.]+(Z|\+\d\d:\d\d)?")
_VARY = frozenset(("date", "x-request-id", "x-rate-limit-remaining", "content-length", "x-read-age", "etag"))


@dataclass(slots=True)
class Findings:
    """What the answers were."""

    world: World
    statuses: dict[str, Counter[int]] = field(
        default_factory=lambda: {each: Counter() for each in CATEGORIES}
    )
    leaks: list[str] = field(default_factory=list)
    told_apart: list[str] = field(default_factory=list)
    let_in: list[str] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    compared: int = 0
    routes: set[tuple[str, str]] = field(default_factory=set)
    told: set[tuple[str, str]] = field(default_factory=set)
    """Ids that a tenant wrote into documents of its own: it may see there what it wrote."""

    def judge(self, call: Call, answer: httpx.Response) -> None:
        """Note an answer."""
        self.statuses[call.category][answer.status_code] += 1
        self.routes.add((call.method, call.collection))
        where = f"{call.category}: {call.method} {call.path}?{call.query} -> {answer.status_code}"
        if answer.status_code >= 500:
            self.errors.append(f"{where}: {answer.text[:200]}")
        wanted = REFUSED.get(call.category)
        if wanted is not None and answer.status_code != wanted:
            self.let_in.append(where)
        shown = answer.text + "\n".join(f"{name}: {value}" for name, value in answer.headers.items())
        asker = call.asker if wanted is None else ""
        if call.body:
            self.told.add((call.asker, call.named))
        asked = {call.named, *(each for tenant, each in self.told if tenant == call.asker)}
        for secret in self.world.secrets(asker) - asked:
            if secret in shown:
                self.leaks.append(f"{where}: shows {secret}")

    def compare(self, call: Call, foreign: httpx.Response, unknown: httpx.Response) -> None:
        """Note whether a foreign id is answered as an unknown one."""
        self.compared += 1
        first, second = _plain(foreign, call.named), _plain(unknown, call.with_unknown().named)
        if first != second:
            where = f"{call.method} {call.path}?{call.query} {(call.body or b'')[:200]!r}"
            self.told_apart.append(f"{where}: {str(first)[:600]} and of nobody's id {str(second)[:600]}")


def _plain(answer: httpx.Response, named: str) -> tuple[int, str, tuple[tuple[str, str], ...]]:
    """An answer without ids, times and what varies anyhow."""

    def plain(text: str) -> str:
        return without_ids(text.replace(named, "ID"))

    headers = {name: plain(value) for name, value in answer.headers.items() if name.lower() not in _VARY}
    return answer.status_code, plain(answer.text), tuple(sorted(headers.items()))


def without_ids(text: str) -> str:
    """Text with `ID` and `TIME` in the place of each."""
    return _TIMES.sub("TIME", _IDS.sub("ID", text))
