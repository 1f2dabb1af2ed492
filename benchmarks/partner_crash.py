"""Orders while the api and the broker are killed: nothing lost, nothing twice, nothing stuck.

Partners' programs order twins and retire them, over HTTP, several at once; meanwhile SIGKILL hits the api or
the broker at random moments, and each is started again. A program sends again what was not answered, under
the same Idempotency-Key, as any client would. At the end every acknowledged order has to be there once, in
a terminal state that fits its twin, and no domain may hold a part of a twin that is over. Prints one JSON
object; exit status 1 where that does not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import time
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from _partner_network import POINTS, PartnerNetwork, partner_network

from domain_twin.errors import TwinError, Unreachable
from twin_api.client import ApiError, Order, PartnerClient, Twin

AT_ONCE = 12
PATIENCE_S = 180.0
TRANSIENT = frozenset({429, 502, 503, 504})
KILLS_EVERY_S = (0.5, 6.0)
_FLAWS = ("lost", "duplicated", "stuck", "unfit", "parts_left_at_domains")


@dataclass
class Tally:
    """What the partners' programs saw."""

    acknowledged: dict[str, str] = field(default_factory=dict)  # order id by external id
    vanished: int = 0
    """Reads in which an acknowledged order or its twin was not there."""
    refused: list[str] = field(default_factory=list)
    ends: list[float] = field(default_factory=list)  # seconds from order to its end


async def measure(
    network: PartnerNetwork,
    orders: int,
    seed: int,
    *,
    kills_every_s: tuple[float, float] = KILLS_EVERY_S,
    most_kills: int = 1000,
) -> dict[str, Any]:
    """Place so many orders (every second one retires a twin) while processes are killed."""
    rng, tally, kills = random.Random(seed), Tally(), Counter[str]()
    async with network.client() as partner:
        before = {order.id async for order in partner.orders()}
    began = time.monotonic()
    left = iter(range(orders // 2))
    done = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        killing = tasks.create_task(
            kill_now_and_then(network, rng, kills, done, every_s=kills_every_s, most=most_kills)
        )
        workers = [tasks.create_task(order_all(network, left, tally)) for _ in range(AT_ONCE)]
        await asyncio.wait(workers)
        done.set()
        await killing
    took_s = time.monotonic() - began
    await network.answering()
    found = await judge(network, tally, before)
    found["parts_left_at_domains"] = await parts_left(network)
    sound = not any(found[name] for name in _FLAWS)
    return {
        "benchmark": "partner_crash",
        "seed": seed,
        "cpus": os.cpu_count(),
        "orders": orders,
        "acknowledged": len(tally.acknowledged),
        "kills": dict(kills),
        "took_s": round(took_s, 1),
        "longest_order_s": round(max(tally.ends, default=0.0), 1),
        "reads_in_which_something_acknowledged_was_missing": tally.vanished,
        "refused": tally.refused,
        **found,
        "met": sound and len(tally.acknowledged) == orders and not tally.vanished and not tally.refused,
    }


async def kill_now_and_then(
    network: PartnerNetwork,
    rng: random.Random,
    kills: Counter[str],
    done: asyncio.Event,
    *,
    every_s: tuple[float, float],
    most: int,
) -> None:
    """Kill the api or the broker, start it again, until there is nothing to order any more."""
    while kills.total() < most:
        try:
            async with asyncio.timeout(rng.uniform(*every_s)):
                await done.wait()
            return
        except TimeoutError:
            pass
        name = rng.choice(("api", "broker", "broker"))
        await network.kill(name)
        kills[name] += 1
        await asyncio.sleep(rng.uniform(0.0, 0.5))
        await network.start(name)


async def order_all(network: PartnerNetwork, left: Any, tally: Tally) -> None:
    """A partner's program: order, wait, retire, wait."""
    async with network.client() as partner:
        for number in left:
            order = await placed(partner, tally, f"add-{number}", number, network.domains)
            if order is None:
                continue
            order = await ended(partner, order, tally)
            if order is None or order.state != "completed" or not order.twins:
                continue
            gone = await placed(partner, tally, f"delete-{number}", order.twins[0])
            if gone is not None:
                await ended(partner, gone, tally)


async def placed(
    partner: PartnerClient, tally: Tally, external: str, what: int | str, domains: Sequence[str] = ()
) -> Order | None:
    """Order twin number `what`, or retire the one called so: under one key, until it is acknowledged."""
    began = time.monotonic()
    while True:
        try:
            if isinstance(what, str):
                order = await partner.retire(what, key=external)
            else:
                order = await partner.order_twin(
                    f"twin {what}",
                    domains=domains,
                    end_points=POINTS,
                    freshness_s=5,
                    external_id=external,
                    key=external,
                )
            tally.acknowledged[external] = order.id
            return order
        except (ApiError, LookupError) as error:
            if not _transient(error) or time.monotonic() - began > PATIENCE_S:
                tally.refused.append(f"{external}: {error}")
                return None
        await asyncio.sleep(0.2)


async def ended(partner: PartnerClient, order: Order, tally: Tally) -> Order | None:
    """An order once it has ended; None: it did not in time."""
    began = time.monotonic()
    while time.monotonic() - began < PATIENCE_S:
        try:
            order = await partner.order(order.id)
        except ApiError as error:
            if error.status == 404:
                tally.vanished += 1
            elif not _transient(error):
                tally.refused.append(f"{order.id}: {error}")
                return None
        if order.ended:
            tally.ends.append(time.monotonic() - began)
            return order
        await asyncio.sleep(0.1)
    return None


def _transient(error: Exception) -> bool:
    return isinstance(error, Unreachable | LookupError) or (
        isinstance(error, ApiError) and error.status in TRANSIENT
    )


async def judge(network: PartnerNetwork, tally: Tally, before: Collection[str]) -> dict[str, Any]:
    """Compare what was acknowledged with what is there; `before`: orders that were there already."""
    async with network.client() as partner:
        orders = [each async for each in partner.orders() if each.id not in before]
        twins = {each.id: each async for each in partner.twins()}
    by_id = Counter(order.id for order in orders)
    acknowledged = set(tally.acknowledged.values())
    external = Counter(filter(None, (order.text("externalId") for order in orders)))
    stuck = [order.id for order in orders if not order.ended]
    return {
        "lost": sorted(acknowledged - set(by_id)),
        "duplicated": [
            *(identity for identity, times in by_id.items() if times > 1),
            *(name for name, times in external.items() if times > 1),
            *(order.id for order in orders if order.id not in acknowledged),
            *_twice_ordered(orders),
        ],
        "stuck": stuck,
        "unfit": _unfit(orders, twins),
        "states": dict(Counter(f"{'+'.join(order.actions)} {order.state}" for order in orders)),
        "twins": dict(Counter(twin.state for twin in twins.values())),
    }


def _twice_ordered(orders: Sequence[Order]) -> list[str]:
    """Twins that two orders brought about."""
    made = Counter(twin for order in orders if "add" in order.actions for twin in order.twins)
    return [twin for twin, times in made.items() if times > 1]


def _unfit(orders: Sequence[Order], twins: dict[str, Twin]) -> list[str]:
    """Orders whose state does not fit the twin that they are about."""
    deleted = {twin for o in orders if "delete" in o.actions and o.state == "completed" for twin in o.twins}
    found = []
    for order in orders:
        for identity in order.twins:
            twin = twins.get(identity)
            state = twin.state if twin else "absent"
            if "delete" in order.actions:
                fits = order.state != "completed" or state == "terminated"
            elif order.state == "completed":
                fits = state == ("terminated" if identity in deleted else "active")
            else:
                fits = order.state == "partial" or state in ("terminated", "absent")
            if not fits:
                found.append(
                    f"order {order.id} ({'+'.join(order.actions)}) is {order.state}, its twin {state}"
                )
    return found


async def parts_left(network: PartnerNetwork) -> list[str]:
    """Parts that a domain still holds of twins that are over, after some time to tell it."""
    async with network.client() as partner:
        living = {each.id async for each in partner.twins(**{"state.ne": "terminated"})}
    left: list[str] = []
    for _ in range(60):
        left = [
            f"{domain}: {identity}"
            for domain in network.domains
            for identity in _held(network, domain)
            if identity not in living
        ]
        if not left:
            break
        await asyncio.sleep(0.5)
    return left


def _held(network: PartnerNetwork, domain: str) -> list[str]:
    """Ids of the twins that a domain has a part in, as its agent wrote them down."""
    path = network.files.socket(domain).parent / "sandboxes.json"
    if not path.exists():
        return []
    document = json.loads(path.read_text(encoding="utf-8"))
    listed = document if isinstance(document, list) else document.get("sandboxes", [])
    return [str(each["id"]) for each in listed]


def main() -> None:
    """Measure, and print JSON."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    options.add_argument("--quick", action="store_true", help="20 orders")
    options.add_argument("--orders", type=int, default=200, help="how many")
    options.add_argument("--seed", type=int, default=1, help="of the moments of the kills")
    chosen = options.parse_args()

    async def all_of_it() -> dict[str, Any]:
        async with partner_network() as network:
            return await measure(network, 20 if chosen.quick else chosen.orders, chosen.seed)

    try:
        found = asyncio.run(all_of_it())
    except TwinError as error:
        raise SystemExit(f"error: {error}") from error
    print(json.dumps(found, indent=2))
    raise SystemExit(0 if found["met"] else 1)


if __name__ == "__main__":
    main()
