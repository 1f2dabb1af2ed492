"""Tenants that try to reach each other: 10,000 generated calls against a running api, broker and domains.

Two partners order twins, run scenarios, subscribe to events. Then calls are made of every route and method
with the token of the owner, of the other tenant, without one, with one that expired, is meant for somebody
else, or has no scope. No answer may show anything of another tenant; one that names a foreign id is compared
with the same call of an id that nobody has. Afterwards everything must be as it was. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import httpx
from _partner_attacks import COLLECTIONS, Call, Findings, World, generate, without_ids
from _partner_network import POINTS, PartnerNetwork, partner_network

from domain_twin.config import load_api
from federation.cli.demo.partner_files import PARTNERS
from twin_api.caller import Scope
from twin_api.client import Threshold
from twin_api.issuer import TrialIssuer
from twin_api.tmf import APIS

AT_ONCE = 6
ALL = [scope for scope in Scope if scope is not Scope.OPERATOR]
SCENARIO = {
    "name": "busy day",
    "seed": 1,
    "changes": [{"kind": "demand", "factor": 1.2}],
    "flows": [[POINTS[0], POINTS[-1]]],
}


class Askers:
    """Clients by category and tenant."""

    def __init__(self, network: PartnerNetwork) -> None:
        config = load_api(network.files.api)
        issuer = TrialIssuer.load(network.files.api.parent / "issuer")
        audience, now = config.expected_audience, time.time()
        self.address = config.public_address
        self._tokens: dict[tuple[str, str], str] = {}
        for tenant in (each.id for each in PARTNERS):
            good = issuer.issue(tenant, ALL, audience=audience)
            expired = issuer.issue(tenant, ALL, audience=audience, now=now - 7200)
            elsewhere = issuer.issue(tenant, ALL, audience="https://elsewhere.example")
            nothing = issuer.issue(tenant, (), audience=audience)
            self._tokens |= {
                ("own", tenant): good,
                ("foreign", tenant): good,
                ("expired", tenant): expired,
                ("wrong audience", tenant): elsewhere,
                ("wrong scope", tenant): nothing,
            }
        self.http = httpx.AsyncClient(base_url=self.address, timeout=60, trust_env=False)

    async def ask(self, call: Call) -> httpx.Response:
        """The answer to one call."""
        headers = dict(call.headers)
        if token := self._tokens.get((call.category, call.asker)):
            headers["authorization"] = f"Bearer {token}"
        url = httpx.URL(self.address + call.path, query=call.query.encode() if call.query else None)
        return await self.http.request(call.method, url, headers=headers, content=call.body)

    async def listed(self, tenant: str, path: str) -> list[dict[str, Any]]:
        """A tenant's own resources."""
        headers = {"authorization": f"Bearer {self._tokens['own', tenant]}"}
        answer = await self.http.get(path, params={"limit": 500}, headers=headers)
        found = answer.json() if answer.status_code == 200 else []
        return found if isinstance(found, list) else []

    async def send(self, tenant: str, path: str, body: dict[str, Any]) -> None:
        """Create something."""
        headers = {"authorization": f"Bearer {self._tokens['own', tenant]}"}
        (await self.http.post(path, json=body, headers=headers)).raise_for_status()


async def furnish(network: PartnerNetwork, askers: Askers, tenant: str, marker: str) -> None:
    """Give a tenant something of everything, with its marker in it."""
    async with network.client(tenant) as partner:
        order = await partner.order_twin(f"twin {marker}", end_points=POINTS, freshness_s=5)
        ended = await partner.settled(order, timeout_s=120)
        definition = await partner.define(
            f"scenario {marker}", SCENARIO, thresholds=[Threshold("delay", upper=1000.0)]
        )
        if ended.twins:
            run = await partner.run(definition.id, ended.twins[0], name=f"run {marker}")
            await partner.finished(run, timeout_s=120)
    for api in APIS:
        hub = {"callback": f"https://127.0.0.1:8443/{marker}/{api.name}"}
        try:
            await askers.send(tenant, f"{api.base}/hub", hub)
        except httpx.HTTPStatusError as error:
            print(f"{api.name}: no hub ({error.response.text[:200]})", file=sys.stderr)


async def look(askers: Askers, markers: dict[str, str]) -> tuple[World, dict[str, dict[str, Any]]]:
    """What there is now, by tenant; and its lasting part, to compare later."""
    ids: dict[str, dict[str, tuple[str, ...]]] = {}
    states: dict[str, dict[str, Any]] = {}
    seen: dict[str, set[str]] = {}
    for tenant in markers:
        ids[tenant], states[tenant] = {}, {}
        for path in COLLECTIONS:
            if path.endswith("NDTReport"):
                continue
            found = await askers.listed(tenant, path)
            ids[tenant][path] = tuple(str(each["id"]) for each in found if "id" in each)
            for each in found:
                seen.setdefault(str(each.get("id")), set()).add(tenant)
                states[tenant][str(each.get("id"))] = [
                    each.get("state"),
                    each.get("name"),
                    each.get("callback"),
                ]
        ids[tenant]["/3gpp-ndt/v1/NDTReport"] = ids[tenant].get("/3gpp-ndt/v1/NDTJob", ())
    public = frozenset(each for each, tenants in seen.items() if len(tenants) > 1)
    own = {
        tenant: {
            path: tuple(each for each in listed if each not in public) for path, listed in by_path.items()
        }
        for tenant, by_path in ids.items()
    }
    return World(markers, own, public), states


async def attack(askers: Askers, world: World, count: int) -> tuple[Findings, dict[str, Any]]:
    """Make the calls."""
    findings, rng = Findings(world), random.Random(8)
    calls = iter(generate(random.Random(7), world, count))
    took: dict[str, list[float]] = {"foreign": [], "unknown": []}

    async def timed(kind: str, call: Call) -> httpx.Response:
        began = time.perf_counter()
        answer = await askers.ask(call)
        if call.method in ("GET", "HEAD"):
            took[kind].append((time.perf_counter() - began) * 1e3)
        return answer

    async def some() -> None:
        for call in calls:
            reaching = call.category == "foreign" and call.named in f"{call.path}{call.body or ''!r}"
            if not reaching:
                findings.judge(call, await askers.ask(call))
                continue
            other = call.with_unknown()
            if rng.random() < 0.5:  # neither is always the first
                answer = await timed("foreign", call)
                unknown = await timed("unknown", other)
            else:
                unknown = await timed("unknown", other)
                answer = await timed("foreign", call)
            findings.judge(call, answer)
            findings.compare(call, answer, unknown)

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(some())
    return findings, {name: round(statistics.median(each), 3) for name, each in took.items() if each}


async def ordered(askers: Askers, world: World) -> dict[str, list[str]]:
    """How orders of a foreign twin ended, and those of one that nobody has: in the same words."""
    every = {each for listed in world.ids.values() for ids in listed.values() for each in ids}
    found: dict[str, set[str]] = {"foreign": set(), "unknown": set()}
    await asyncio.sleep(10)  # for the last of them to end
    for tenant in world.markers:
        for order in await askers.listed(tenant, "/tmf-api/serviceOrdering/v4/serviceOrder"):
            for item in order.get("serviceOrderItem", ()):
                named = str(item.get("service", {}).get("id", ""))
                if item.get("action") == "add" or not named:
                    continue
                text = json.dumps([order["state"], item.get("state"), order.get("errorMessage")])
                found["foreign" if named in every else "unknown"].add(without_ids(text))
    return {kind: sorted(texts) for kind, texts in found.items()}


async def measure(count: int) -> dict[str, Any]:
    """Everything, in processes of its own."""
    async with partner_network() as network:
        network.files.api.write_text(
            network.files.api.read_text()
            + "\n[limits]\nrequests_per_second = 1e6\nburst = 1000000\nfailures_per_minute = 1e9\n"
        )
        await network.kill("api")
        await network.start("api")
        await network.answering()
        askers = Askers(network)
        markers = {each.id: f"marker{random.Random(each.id).getrandbits(60):x}" for each in PARTNERS}
        for tenant, marker in markers.items():
            await furnish(network, askers, tenant, marker)
        world, before = await look(askers, markers)
        began = time.monotonic()
        findings, medians = await attack(askers, world, count)
        took_s = time.monotonic() - began
        outcomes = await ordered(askers, world)
        _, after = await look(askers, markers)
        await askers.http.aclose()
    touched = [
        f"{tenant} {identity}: {was} is {after[tenant].get(identity)}"
        for tenant, documents in before.items()
        for identity, was in documents.items()
        if after[tenant].get(identity) != was
    ]
    examples = [*findings.leaks, *findings.let_in, *findings.told_apart, *findings.errors, *touched]
    return {
        "calls": count,
        "routes_and_methods": len(findings.routes),
        "took_s": round(took_s, 1),
        "statuses": {name: dict(sorted(found.items())) for name, found in findings.statuses.items()},
        "foreign_reads": len(findings.leaks),
        "let_in_without_right": len(findings.let_in),
        "foreign_told_from_unknown": len(findings.told_apart),
        "compared": findings.compared,
        "median_ms": medians,
        "server_errors": len(findings.errors),
        "changed_by_others": len(touched),
        "things": {tenant: sum(map(len, each.values())) for tenant, each in world.ids.items()},
        "orders_of_foreign_twins": outcomes,
        "examples": examples[:10],
        "aim": "0 foreign reads, 0 changes, 0 server errors",
        "met": not examples and outcomes["foreign"] == outcomes["unknown"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="600 calls")
    chosen = parser.parse_args()
    print(json.dumps(asyncio.run(measure(600 if chosen.quick else 10_000)), indent=2))


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
