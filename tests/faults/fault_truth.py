"""What the devices themselves say, read past agents and proxies; and whether twins say the same.

Equality is with what a fresh start would give: the devices' state is read now and folded from nothing.
Measurements move while they are read, so the devices are read before and after the twin is asked: each of its
figures must be one of the two.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from fault_network import DOMAINS, PAIRS, PUBLISHED, FaultNetwork

from domain_twin.agent.elements import elements
from domain_twin.agent.schema import load_schema
from domain_twin.config import load_agent
from domain_twin.datastore.live import LiveStore
from domain_twin.mapping.mapper import Mapper
from domain_twin.mapping.tables import mirrored_paths
from domain_twin.model import (
    Connection,
    DeviceStatus,
    DomainStatus,
    Element,
    Level,
    Outcome,
    PathKpis,
    Point,
    Segment,
    UpdateBatch,
    Value,
    View,
)
from domain_twin.southbound.devices import mirror_choice
from domain_twin.yang.quarantine import Typer
from domain_twin.yang.schema import SchemaSet
from federation.client import TwinClient
from federation.compose import ComposedGraph, Member
from federation.paths import find

T = TypeVar("T")


class Different(LookupError):
    """Not equal (yet): says in what."""


async def together(works: Iterable[Coroutine[Any, Any, T]]) -> list[T]:
    """The results of all, when all have ended. Raises what the first of them raised."""
    results = await asyncio.gather(*works, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return results  # type: ignore[return-value]


@dataclass(frozen=True, slots=True)
class Truth:
    """A domain as its devices describe it."""

    domain: str
    leaves: Mapping[tuple[str, str], Value]
    elements: Mapping[str, Element]

    @property
    def per_device(self) -> Mapping[str, int]:
        """Leaves of each device."""
        return Counter(device for device, _ in self.leaves)


class Devices:
    """Reads the devices of all domains directly."""

    def __init__(self, network: FaultNetwork) -> None:
        self._network = network
        self._schemas: dict[str, SchemaSet] = {}

    async def schema(self, domain: str) -> SchemaSet:
        """The modules that the domain's agent works with."""
        if domain not in self._schemas:
            config = load_agent(self._network.folder / "direct" / f"{domain}.toml")
            self._schemas[domain] = await load_schema(config)
        return self._schemas[domain]

    async def read(self, domain: str) -> Truth:
        """All that the domain's devices say now. Raises TwinError where one does not answer."""
        schema = await self.schema(domain)
        reads = await together(self._read_one(d, schema) for d in self._network.devices(domain).values())
        typer, store, mapper = Typer(schema), LiveStore(), Mapper(domain)
        for read in reads:
            store.apply(typer.type_batch(read)[0])
        snapshot = store.snapshot()
        mapper.apply(snapshot.as_delta())
        return Truth(
            domain,
            {(device, path): leaf.value for device, path, leaf in snapshot.items()},
            {f"{e.kind} {e.id}": e for e in elements(mapper.network())},
        )

    async def _read_one(self, device: Any, schema: SchemaSet) -> UpdateBatch:
        session = mirror_choice(device, schema).open()
        try:
            async with asyncio.timeout(20):
                return await session.get(mirrored_paths())
        finally:
            await session.close()


# --- agents


def agent_in_step(domain: str, statuses: Iterable[DeviceStatus]) -> None:
    """Raise Different unless every device is mirrored."""
    if late := [s.name for s in statuses if s.connection is not Connection.SYNCHRONISED]:
        raise Different(f"{domain}: not in step: {', '.join(late)}")


async def agent_equals_devices(devices: Devices, domain: str, twin: TwinClient) -> Truth:
    """Return when it is so. Raises Different, TwinError: not now."""
    agent_in_step(domain, await twin.devices())
    before = await devices.read(domain)
    told = {f"{e.kind} {e.id}": e for e in await twin.elements(domain)}
    counts = {s.name: s.leaves for s in await twin.devices()}
    after = await devices.read(domain)
    for name, count in counts.items():
        if count not in (before.per_device[name], after.per_device[name]):
            raise Different(
                f"{domain}: {name} has {count} leaves, and {after.per_device[name]} in the device"
            )
    compare_elements(domain, told, [before.elements, after.elements])
    if wrong := [f.message for f in await twin.findings() if f.code in ("device.stale", "device.quarantine")]:
        raise Different(f"{domain}: a finding stands: {wrong[0]}")
    return after


def compare_elements(
    domain: str, told: Mapping[str, Element], wanted: Sequence[Mapping[str, Element]]
) -> None:
    """Raise Different unless every element, attribute and figure is as one of `wanted` has it."""
    known = set(wanted[0]) | set(wanted[-1])
    if odd := set(told) ^ known:
        raise Different(f"{domain}: elements that only one side has: {', '.join(sorted(odd)[:5])}")
    for key, element in told.items():
        options = [each[key] for each in wanted if key in each]
        if element.stale:
            raise Different(f"{domain}: {key} is stale")
        for name in set(element.attributes) | set(options[0].attributes):
            said = element.attributes.get(name)
            if said not in [option.attributes.get(name) for option in options]:
                should = options[-1].attributes.get(name)
                raise Different(f"{domain}: {key} {name} = {said}, and {should} in the device")
        figures = {kpi.name: kpi.value for kpi in element.kpis}
        choices = [{kpi.name: kpi.value for kpi in option.kpis} for option in options]
        if set(figures) not in [set(choice) for choice in choices]:
            raise Different(f"{domain}: {key} has the figures {sorted(figures)}, not {sorted(choices[-1])}")
        for name, value in figures.items():
            if not any(_close(value, choice.get(name)) for choice in choices):
                raise Different(
                    f"{domain}: {key} {name} = {value}, and {choices[-1].get(name)} in the device"
                )


def _close(one: float, other: float | None) -> bool:
    return other is not None and (one == other or math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12))


# --- the broker


def broker_in_step(statuses: Iterable[DomainStatus]) -> None:
    """Raise Different unless every domain is connected, and nothing is wrong with it."""
    for status in statuses:
        if not status.connected or status.problem:
            raise Different(f"broker: {status.domain} {status.problem or 'is not connected'}")


async def broker_equals_agents(network: FaultNetwork, broker: TwinClient) -> None:
    """Return when the composed twin is what its agents would show now. Raises Different, TwinError."""
    broker_in_step(await broker.domains())
    before = await _previews(network)
    held = {view.domain: view for view in await broker.views()}
    after = await _previews(network)
    for domain in DOMAINS:
        if domain not in held:
            raise Different(f"broker: no view of {domain}")
        _compare_views(held[domain], [before[domain], after[domain]])
    await _paths_follow_views(broker)
    await _services_hold(broker)


async def _previews(network: FaultNetwork) -> dict[str, View]:
    """Each domain's view made afresh by its agent, unrounded, as the agreements of this network grant it."""

    async def ask(domain: str) -> View:
        async with network.agent(domain) as twin:
            return (await twin.views(domain, Level.MESH))[0]

    return dict(zip(DOMAINS, await together(ask(domain) for domain in DOMAINS), strict=True))


def _compare_views(held: View, wanted: Sequence[View]) -> None:
    domain = held.domain
    for kind in ("points", "segments"):
        told: Mapping[Any, Any] = getattr(held, kind)
        choices: list[Mapping[Any, Any]] = [getattr(view, kind) for view in wanted]
        if set(told) not in [set(choice) for choice in choices]:
            odd = set(told) ^ set(choices[-1])
            raise Different(f"broker: {domain}: {kind} that only one side has: {sorted(odd)[:4]}")
        for key, item in told.items():
            if item.stale:
                raise Different(f"broker: {domain}: {key} is stale")
            if not any(_same_item(item, choice.get(key)) for choice in choices):
                raise Different(f"broker: {domain}: {item} is not {choices[-1].get(key)}")


def _same_item(one: Point | Segment, other: Point | Segment | None) -> bool:
    if isinstance(one, Point) and isinstance(other, Point):
        return replace(one, outbound=None) == replace(other, outbound=None) and _same_kpis(
            one.outbound, other.outbound
        )
    if isinstance(one, Segment) and isinstance(other, Segment):
        pairs = list(zip(one.options, other.options, strict=False))
        return (
            len(one.options) == len(other.options)
            and _same_kpis(one.current, other.current)
            and all(_same_kpis(a, b) for a, b in pairs)
        )
    return False


def _same_kpis(one: PathKpis | None, other: PathKpis | None) -> bool:
    if one is None or other is None:
        return one is other
    names = ("delay_ms", "delay_variance_ms2", "loss", "bandwidth_mbps", "metric", "availability")
    return all(
        getattr(one, n) == getattr(other, n)
        or math.isclose(getattr(one, n), getattr(other, n), rel_tol=1e-6, abs_tol=1e-9)
        for n in names
    )


def composed(views: Mapping[str, View]) -> ComposedGraph:
    """The graph that a broker composes of these views and nothing else."""
    return ComposedGraph(Member(domain, view, connected=True) for domain, view in views.items())


async def _paths_follow_views(broker: TwinClient) -> None:
    for source, target in PAIRS:
        before = composed({view.domain: view for view in await broker.views()})
        told = await broker.path(source, target)
        after = composed({view.domain: view for view in await broker.views()})
        choices = [find(graph, source, target, now=time.time_ns()) for graph in (before, after)]
        if bad := [o for o in told.domains if o.outcome is not Outcome.OK]:
            raise Different(f"broker: {source} to {target}: {bad[0]}")
        said = [(hop.source, hop.target) for path in told.paths for hop in path.hops]
        routes = [[(hop.source, hop.target) for path in c.paths for hop in path.hops] for c in choices]
        if said not in routes:
            raise Different(f"broker: {source} to {target} goes {said}, not {routes[-1]}")
        for mine in told.paths[:1]:
            if not any(_same_kpis(mine.total, c.paths[0].total) for c in choices):
                wanted = choices[-1].paths[0].total
                raise Different(f"broker: {source} to {target}: {mine.total}, not {wanted}")


async def _services_hold(broker: TwinClient) -> None:
    for status in (await broker.services()).statuses:
        name = status.service.name
        if status.path is None or not math.isfinite(status.path.total.delay_ms):
            raise Different(f"broker: {name} has no measured path")
        if bad := [o for o in status.domains if o.outcome is not Outcome.OK]:
            raise Different(f"broker: {name}: {bad[0].domain}: {bad[0].outcome} {bad[0].reason}")
        if any(hop.stale for hop in status.path.hops):
            raise Different(f"broker: {name} crosses what is stale")
        answered = (Outcome.OK, Outcome.OVER_CAPACITY)
        if bad_share := [s for s in status.budget if s.domain and s.outcome not in answered]:
            raise Different(f"broker: {name}: {bad_share[0].domain} did not answer for its share")


def published_on(domain: str, truth: Truth) -> dict[str, set[str]]:
    """The points that peers see of each device: its borders and its published end points."""
    found: dict[str, set[str]] = {}
    aliases = {element: alias for alias, element in PUBLISHED[domain].items()}
    for element in truth.elements.values():
        device = element.attributes.get("device", "")
        if link := element.attributes.get("link-id"):
            found.setdefault(device, set()).add(f"{domain}/idl-{link.rpartition(':')[2]}")
        if alias := aliases.get(element.id):
            found.setdefault(device, set()).add(f"{domain}/{alias}")
    return found
