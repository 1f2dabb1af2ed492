"""Orders of twins, over HTTP, against four real agent processes: from the order to a twin that is active.

Part one: orders one after the other, each of a twin over all four domains; milliseconds from sending the
order until the twin is seen active, and the same until the order says `completed`. Part two: many twins at
once, each with a scenario that is run in it. The aims: 5 s at p95; 20 twins at once on 2 cores, every run
with a verdict. Prints one JSON object.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import time
from collections.abc import Sequence
from typing import Any

from _partner_network import POINTS, PartnerNetwork, partner_network

from domain_twin.errors import TwinError
from twin_api.client import PartnerClient, Threshold

AIM_MS = 5000.0
PATIENCE_S = 300.0
DEADLINE_S = 300.0  # of a run, waiting behind the others included: the broker answers two at once
SCENARIO = {
    "name": "busy day",
    "seed": 1,
    "changes": [{"kind": "demand", "factor": 1.2}],
    "flows": [[POINTS[0], POINTS[-1]]],
}


async def ordered(partner: PartnerClient, name: str) -> tuple[str, float, float]:
    """Order a twin; its id, and milliseconds until it was active and until the order had ended."""
    began = time.monotonic()
    order = await partner.order_twin(name, end_points=POINTS, freshness_s=5)
    active_ms = 0.0
    twin = ""
    while not (order.ended and active_ms):
        await asyncio.sleep(0.03)
        order = await partner.order(order.id)
        if order.ended and order.state != "completed":
            raise RuntimeError(f"the order is {order.state}: {order.problems}")
        if order.twins and not active_ms:
            twin = order.twins[0]
            if (await partner.twin(twin)).state == "active":
                active_ms = (time.monotonic() - began) * 1e3
        if time.monotonic() - began > PATIENCE_S:
            raise RuntimeError(f"the order is still {order.state} after {PATIENCE_S:g} s")
    return twin, active_ms, (time.monotonic() - began) * 1e3


async def one_by_one(network: PartnerNetwork, count: int) -> dict[str, Any]:
    """Orders in sequence; each twin is retired before the next is ordered."""
    active, ended, retired = [], [], []
    async with network.client() as partner:
        for number in range(count + 1):  # the first one warms up
            twin, active_ms, ended_ms = await ordered(partner, f"twin {number}")
            began = time.monotonic()
            await partner.settled(await partner.retire(twin), timeout_s=PATIENCE_S)
            if number:
                active.append(active_ms)
                ended.append(ended_ms)
                retired.append((time.monotonic() - began) * 1e3)
    return {
        "orders": count,
        "order_to_active_ms": percentiles(active),
        "order_to_completed_ms": percentiles(ended),
        "retire_ms": percentiles(retired),
        "aim_p95_ms": AIM_MS,
        "met": percentiles(active)["p95"] <= AIM_MS,
    }


async def at_once(network: PartnerNetwork, count: int) -> dict[str, Any]:
    """Twins at once, each with a run."""
    names = ("broker", "api", "agent-ran", "agent-transport", "agent-core", "agent-edge")
    before = {name: network.cpu_s(name) for name in names}
    began = time.monotonic()
    async with network.client() as partner:
        definition = await partner.define("busy", SCENARIO, thresholds=[Threshold("delay", upper=1000.0)])

        async def whole(number: int) -> tuple[float, float, str]:
            twin, active_ms, _ = await ordered(partner, f"one of many {number}")
            run_began = time.monotonic()
            run = await partner.finished(
                await partner.run(definition.id, twin, deadline_s=DEADLINE_S), timeout_s=PATIENCE_S
            )
            return (
                active_ms,
                (time.monotonic() - run_began) * 1e3,
                run.verdict or f"{run.state} {run.problem}",
            )

        done = await asyncio.gather(*map(whole, range(count)), return_exceptions=True)
        took_s = time.monotonic() - began
        cpu = {name: round(network.cpu_s(name) - before[name], 2) for name in names}
        kept = [each async for each in partner.twins(**{"state": "active"})]
        idle_before = {name: network.cpu_s(name) for name in names}
        await asyncio.sleep(10)
        idle = {name: round((network.cpu_s(name) - idle_before[name]) / 10, 4) for name in names}
        for each in kept:
            await partner.settled(await partner.retire(each.id), timeout_s=PATIENCE_S)
    good = [each for each in done if not isinstance(each, BaseException)]
    problems = sorted({str(each) for each in done if isinstance(each, BaseException)})
    verdicts = {word: sum(each[2] == word for each in good) for word in sorted({each[2] for each in good})}
    return {
        "twins": count,
        "took_s": round(took_s, 2),
        "order_to_active_ms": percentiles([each[0] for each in good]),
        "run_ms": percentiles([each[1] for each in good]),
        "verdicts": verdicts,
        "problems": problems,
        "cpu_s": cpu,
        "cores_used_by_twins_that_rest": idle,
        "rss_mb": {name: round(network.rss_mb(name)) for name in names},
        "met": len(good) == count and set(verdicts) <= {"pass", "fail"},
    }


def percentiles(values: Sequence[float]) -> dict[str, float]:
    """p50, p95 and the worst; nothing of nothing."""
    if not values:
        return {}
    ordered_values = sorted(values)
    p95 = statistics.quantiles(ordered_values, n=20, method="inclusive")[-1] if len(values) > 1 else values[0]
    return {
        "p50": round(statistics.median(ordered_values), 1),
        "p95": round(p95, 1),
        "worst": round(ordered_values[-1], 1),
    }


async def measure(quick: bool) -> dict[str, Any]:
    """Everything."""
    async with partner_network() as network:
        return {
            "benchmark": "partner_orders",
            "quick": quick,
            "cpus": os.cpu_count(),
            "load_1min": round(os.getloadavg()[0], 1),
            "one_by_one": await one_by_one(network, 5 if quick else 50),
            "at_once": await at_once(network, 5 if quick else 20),
        }


def main() -> None:
    """Measure, and print JSON."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    options.add_argument("--quick", action="store_true", help="5 orders and 5 twins at once")
    try:
        print(json.dumps(asyncio.run(measure(options.parse_args().quick)), indent=2))
    except TwinError as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
