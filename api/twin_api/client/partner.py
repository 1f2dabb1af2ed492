"""What a partner does, as calls. Owns the paths of the service APIs and the shape of what is sent.

Creations carry an `Idempotency-Key`, made here where none is given: a repeated one makes nothing twice.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import quote

from domain_twin.config import load_api_client, secret
from domain_twin.errors import Conflict, NotFound, Unreachable
from twin_api.client.connection import Connection
from twin_api.client.documents import (
    Definition,
    Document,
    Event,
    Order,
    Resource,
    Run,
    Specification,
    Threshold,
    Twin,
)
from twin_api.client.errors import ApiError

__all__ = [
    "CATALOG",
    "DEFAULT_PROFILE",
    "ENVIRONMENT",
    "EVENTS",
    "INVENTORY",
    "ORDERING",
    "RESOURCES",
    "TESTS",
    "PartnerClient",
]

CATALOG = "/tmf-api/serviceCatalogManagement/v4"
ORDERING = "/tmf-api/serviceOrdering/v4"
INVENTORY = "/tmf-api/serviceInventory/v4"
RESOURCES = "/tmf-api/resourceInventoryManagement/v4"
TESTS = "/tmf-api/serviceTestManagement/v4"
EVENTS = "/events"

ENVIRONMENT = "FEDTWIN_API"
DEFAULT_PROFILE = Path(".fedtwin/demo/partner.toml")
TWIN_SPECIFICATION, SCENARIO_SPECIFICATION = "NdtTwin", "NdtScenario"
PAGE = 100
_FIRST_LOOK_S, _LONGEST_LOOK_S = 0.1, 1.0

D = TypeVar("D", bound=Document)


class PartnerClient:
    """A partner's connection to the service APIs, used as `async with PartnerClient.connect() as partner`."""

    def __init__(
        self,
        url: str,
        token: str | Callable[[], str],
        *,
        root: Path | None = None,
        certificate: tuple[Path, Path] | None = None,
        timeout_s: float = 30.0,
        patience_s: float = 10.0,
    ) -> None:
        """`token` is an access token, or called for one before every request; `root` a PEM file.

        `certificate` is a client certificate with its key, where tokens are bound to one (RFC 8705).
        `patience_s`: so long is tried again what may be tried again. Raises ConfigError.
        """
        self._connection = Connection(
            url,
            (lambda: token) if isinstance(token, str) else token,
            root=root,
            certificate=certificate,
            timeout_s=timeout_s,
            patience_s=patience_s,
        )

    @classmethod
    def connect(cls, profile: str | Path = "", *, timeout_s: float = 30.0) -> Self:
        """A client by a profile (TOML): what FEDTWIN_API names where none is given, else the demo's.

        The token is read anew for every request. Raises NotFound where there is no profile, ConfigError.
        """
        path = Path(profile or os.environ.get(ENVIRONMENT, "") or DEFAULT_PROFILE)
        if not path.is_file():
            remedy = f"name a partner's profile with --api or {ENVIRONMENT}"
            if not profile and ENVIRONMENT not in os.environ:
                remedy = f"start the demo with `fedtwin demo --keep`, or {remedy}"
            raise NotFound(f"{path}: no such file; {remedy}")
        config = load_api_client(path)
        pair = (config.certificate, config.key) if config.certificate and config.key else None
        return cls(
            config.url,
            lambda: secret(config.token).get_secret_value(),
            root=config.root,
            certificate=pair,
            timeout_s=timeout_s,
        )

    @property
    def url(self) -> str:
        """Where the api is."""
        return self._connection.url

    async def __aenter__(self) -> Self:
        await self._connection.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._connection.__aexit__(kind, error, trace)

    # ---- discover

    def specifications(self, **filters: str) -> AsyncIterator[Specification]:
        """What can be ordered."""
        return self.each(Specification, f"{CATALOG}/serviceSpecification", filters)

    async def specification(self, name: str) -> Specification:
        """The active specification called `name`. Raises NotFound."""
        async for found in self.specifications(name=name):
            if found.status.lower() in ("active", "launched", ""):
                return found
        raise NotFound(f"{self.url} offers no {name!r}; list what there is with `specifications`")

    # ---- order

    async def order_twin(
        self,
        name: str,
        *,
        domains: Sequence[str] = (),
        end_points: Sequence[str] = (),
        freshness_s: float | None = None,
        until: str = "",
        description: str = "",
        external_id: str = "",
        key: str = "",
    ) -> Order:
        """Order a twin of these domains, or of those of `end_points` (`domain/name`); of all by default.

        `until` is ISO 8601: the twin ends then by itself. Raises ApiError.
        """
        specification = await self.specification(TWIN_SPECIFICATION)
        service = {
            "name": name,
            "serviceSpecification": {"id": specification.id, "name": specification.name},
            "serviceCharacteristic": _characteristics(
                domains=list(domains) or None,
                endPoints=list(end_points) or None,
                freshness=freshness_s,
                until=until or None,
            ),
        }
        return await self._order("add", service, description or name, external_id, key)

    async def rescope(
        self,
        twin: str,
        *,
        domains: Sequence[str] | None = None,
        end_points: Sequence[str] | None = None,
        freshness_s: float | None = None,
        until: str = "",
        key: str = "",
    ) -> Order:
        """Order that a twin has another scope from now on; what is None stays. Raises ApiError."""
        changed = _characteristics(
            domains=None if domains is None else list(domains),
            endPoints=None if end_points is None else list(end_points),
            freshness=freshness_s,
            until=until or None,
        )
        service = {"id": twin, "serviceCharacteristic": changed}
        return await self._order("modify", service, "another scope", "", key)

    async def retire(self, twin: str, *, key: str = "") -> Order:
        """Order that a twin ends. Raises ApiError."""
        return await self._order("delete", {"id": twin}, "retire", "", key)

    async def _order(
        self, action: str, service: Mapping[str, Any], description: str, external_id: str, key: str
    ) -> Order:
        body: dict[str, Any] = {
            "description": description,
            "serviceOrderItem": [{"id": "1", "action": action, "service": dict(service)}],
        }
        if external_id:
            body["externalId"] = external_id
        return await self._create(Order, f"{ORDERING}/serviceOrder", body, key)

    def orders(self, **filters: str) -> AsyncIterator[Order]:
        """One's orders, newest first; filters are TMF630's, such as `state="completed,partial"`."""
        return self.each(Order, f"{ORDERING}/serviceOrder", filters)

    async def order(self, identity: str) -> Order:
        """One order. Raises ApiError (404 where there is none, or it is somebody else's)."""
        return await self._get(Order, f"{ORDERING}/serviceOrder", identity)

    async def cancel_order(self, identity: str, *, reason: str = "", key: str = "") -> Document:
        """Ask for an order to be cancelled (cancelServiceOrder). Raises ApiError."""
        body = {"serviceOrder": {"id": identity}, "cancellationReason": reason or "not needed any more"}
        return await self._create(Document, f"{ORDERING}/cancelServiceOrder", body, key)

    async def settled(
        self, order: Order, *, timeout_s: float = 120.0, told: Callable[[Order], None] = lambda _: None
    ) -> Order:
        """Wait until an order has ended; `told` hears of every change. Raises NoAnswer, TimeoutError."""
        return await self.until(
            lambda: self.order(order.id), lambda found: found.ended, timeout_s=timeout_s, told=told
        )

    # ---- the twin

    def twins(self, **filters: str) -> AsyncIterator[Twin]:
        """One's twins, newest first."""
        return self.each(Twin, f"{INVENTORY}/service", filters)

    async def twin(self, identity: str) -> Twin:
        """One twin. Raises ApiError."""
        return await self._get(Twin, f"{INVENTORY}/service", identity)

    def inside(self, twin: str, **filters: str) -> AsyncIterator[Resource]:
        """What a twin holds, at the level that each domain grants."""
        return self.each(Resource, f"{RESOURCES}/resource", {"resourceCharacteristic.value": twin, **filters})

    def resources(self, **filters: str) -> AsyncIterator[Resource]:
        """What all one's twins hold."""
        return self.each(Resource, f"{RESOURCES}/resource", filters)

    async def suspend(self, twin: str) -> Twin:
        """Have a twin rest: it is not refreshed, and nothing runs in it. Raises ApiError."""
        return await self._patch(Twin, f"{INVENTORY}/service", twin, {"state": "inactive"})

    async def resume(self, twin: str) -> Twin:
        """Have a twin go on. Raises ApiError."""
        return await self._patch(Twin, f"{INVENTORY}/service", twin, {"state": "active"})

    async def reached(
        self,
        twin: str,
        state: str,
        *,
        timeout_s: float = 60.0,
        told: Callable[[Twin], None] = lambda _: None,
    ) -> Twin:
        """Wait until a twin is in `state`. Raises Conflict where it ends instead, TimeoutError."""
        found = await self.until(
            lambda: self.twin(twin),
            lambda now: now.state == state or now.ended,
            timeout_s=timeout_s,
            told=told,
        )
        if found.state != state:
            raise Conflict(f"twin {twin} is {found.state}, and will not be {state} any more")
        return found

    # ---- scenarios

    async def define(
        self,
        name: str,
        scenario: Mapping[str, Any],
        *,
        thresholds: Sequence[Threshold] = (),
        description: str = "",
        key: str = "",
    ) -> Definition:
        """Keep a scenario, and what a run of it is judged by. Raises ApiError."""
        specification = await self.specification(SCENARIO_SPECIFICATION)
        body: dict[str, Any] = {
            "name": name,
            "description": description or name,
            "relatedServiceSpecification": [{"id": specification.id, "name": specification.name}],
            "specCharacteristic": [
                {
                    "name": "scenario",
                    "valueType": "object",
                    "characteristicValueSpecification": [{"value": dict(scenario), "isDefault": True}],
                }
            ],
            "testMeasureDefinition": [_measured(each) for each in thresholds],
        }
        return await self._create(Definition, f"{TESTS}/serviceTestSpecification", body, key)

    def definitions(self, **filters: str) -> AsyncIterator[Definition]:
        """One's scenarios, newest first."""
        return self.each(Definition, f"{TESTS}/serviceTestSpecification", filters)

    async def definition(self, identity: str) -> Definition:
        """One scenario. Raises ApiError."""
        return await self._get(Definition, f"{TESTS}/serviceTestSpecification", identity)

    async def run(
        self,
        definition: str,
        twin: str,
        *,
        name: str = "",
        seed: int | None = None,
        deadline_s: float | None = None,
        key: str = "",
    ) -> Run:
        """Run a scenario in a twin; `deadline_s` counts from now, waiting behind others included.

        Raises ApiError.
        """
        body: dict[str, Any] = {
            "name": name or "a run",
            "mode": "ONDEMAND",
            "relatedService": {"id": twin},
            "testSpecification": {"id": definition},
        }
        if asked := _characteristics(seed=seed, deadline=deadline_s):
            body["characteristic"] = asked
        return await self._create(Run, f"{TESTS}/serviceTest", body, key)

    def runs(self, **filters: str) -> AsyncIterator[Run]:
        """One's runs, newest first."""
        return self.each(Run, f"{TESTS}/serviceTest", filters)

    async def run_of(self, identity: str) -> Run:
        """One run. Raises ApiError."""
        return await self._get(Run, f"{TESTS}/serviceTest", identity)

    async def cancel_run(self, identity: str) -> Run:
        """Have a run end without results. Raises ApiError."""
        return await self._patch(Run, f"{TESTS}/serviceTest", identity, {"state": "cancelled"})

    async def finished(
        self, run: Run, *, timeout_s: float = 120.0, told: Callable[[Run], None] = lambda _: None
    ) -> Run:
        """Wait until a run has ended. Raises NoAnswer, TimeoutError."""
        return await self.until(
            lambda: self.run_of(run.id), lambda found: found.ended, timeout_s=timeout_s, told=told
        )

    # ---- events

    async def events(self, *, after: str = "", **filters: str) -> AsyncGenerator[Event, None]:
        """What happens to what is one's own, as it happens, until one stops; needs the scope `ndt.events`.

        Filters are those of subscriptions, such as `eventType="ServiceOrderStateChangeEvent"`. Begins now, or
        behind the `place` of an event. Where the stream ends (a token does, an api restarts) it comes back
        and misses nothing, or tells an event that is a `gap`. End it with `contextlib.aclosing`. Raises
        ApiError; NoAnswer where the api stays away.
        """
        async with aclosing(self._connection.listen(EVENTS, params=filters, after=after)) as found:
            async for frame in found:
                try:
                    body = json.loads(frame.data)
                except ValueError:
                    body = None
                if not isinstance(body, dict):
                    raise ApiError(200, "malformed", f"{EVENTS}: an event is no JSON object")
                if frame.event == "gap":
                    yield Event({"description": body.get("reason")}, place=frame.id, gap=True)
                else:
                    yield Event(body, place=frame.id)

    # ---- of every kind

    async def each(self, kind: type[D], path: str, filters: Mapping[str, str]) -> AsyncIterator[D]:
        """All of a collection, page by page; what comes in front meanwhile is not told twice."""
        told: set[str] = set()
        offset = 0
        while True:
            params = {**filters, "offset": str(offset), "limit": str(PAGE)}
            reply = await self._connection.call("GET", path, params=params, repeatable=True)
            page = reply.body if isinstance(reply.body, list) else []
            before = len(told)
            for body in page:
                found = kind.of(body)
                if found.id not in told:
                    told.add(found.id)
                    yield found
            offset += len(page)
            if len(told) == before or (reply.total is not None and offset >= reply.total):
                return  # the end, or a server that does not page

    async def until(
        self,
        look: Callable[[], Any],
        enough: Callable[[D], bool],
        *,
        timeout_s: float,
        told: Callable[[D], None] = lambda _: None,
    ) -> D:
        """Look until it is `enough`, ever more rarely, up to once a second. Raises TimeoutError, ApiError.

        An api that is gone for a while is asked on within the time.
        """
        began, wait_s = time.monotonic(), _FIRST_LOOK_S
        seen: Any = None
        while True:
            try:
                found: D = await look()
                if found.body != seen:
                    seen = found.body
                    told(found)
                if enough(found):
                    return found
            except Unreachable:
                if time.monotonic() - began > timeout_s:
                    raise
            if time.monotonic() - began > timeout_s:
                state = seen.get("state", "unknown") if seen else "unknown"
                raise TimeoutError(f"still {state} after {timeout_s:g} s")
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 1.5, _LONGEST_LOOK_S)

    async def _get(self, kind: type[D], path: str, identity: str) -> D:
        reply = await self._connection.call("GET", f"{path}/{quote(identity, safe='')}", repeatable=True)
        return kind.of(reply.body, reply.etag)

    async def _create(self, kind: type[D], path: str, body: Mapping[str, Any], key: str) -> D:
        headers = {"Idempotency-Key": key or uuid.uuid4().hex}
        reply = await self._connection.call("POST", path, body=body, headers=headers, repeatable=True)
        return kind.of(reply.body, reply.etag)

    async def _patch(
        self, kind: type[D], path: str, identity: str, patch: Mapping[str, Any], etag: str = ""
    ) -> D:
        headers = {"Content-Type": "application/merge-patch+json", **({"If-Match": etag} if etag else {})}
        url = f"{path}/{quote(identity, safe='')}"
        reply = await self._connection.call("PATCH", url, body=patch, headers=headers)
        return kind.of(reply.body, reply.etag)

    async def remove(self, path: str, identity: str) -> None:
        """Remove one of a collection, such as a scenario that is not run any more. Raises ApiError."""
        await self._connection.call("DELETE", f"{path}/{quote(identity, safe='')}", repeatable=True)


def _characteristics(**values: Any) -> list[dict[str, Any]]:
    """TM Forum's form of named values; None: not said."""
    return [
        {"name": name, "valueType": _type_of(value), "value": value}
        for name, value in values.items()
        if value is not None
    ]


def _type_of(value: object) -> str:
    match value:
        case bool():
            return "boolean"
        case int() | float():
            return "number"
        case list():
            return "array"
        case dict():
            return "object"
        case _:
            return "string"


def _measured(threshold: Threshold) -> dict[str, Any]:
    # TMF653: a comparator says when a threshold is crossed; left out, the target itself is kept.
    rule: dict[str, Any] = {"name": f"{threshold.metric} threshold"}
    if threshold.upper is not None:
        rule["conformanceTargetUpper"] = f"{threshold.upper!r}"
    if threshold.lower is not None:
        rule["conformanceTargetLower"] = f"{threshold.lower!r}"
    unit = {"unitOfMeasure": threshold.unit} if threshold.unit else {}
    return {"name": threshold.metric, "metricName": threshold.metric, **unit, "thresholdRule": [rule]}
