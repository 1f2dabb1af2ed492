"""A partner's story over HTTP: discover, order, look inside, run a scenario, read the verdict, retire.

Start a demo that stays, then run this in another terminal:

    ./dev demo --keep
    .venv/bin/python examples/partner/story.py

Elsewhere, name a profile: `story.py --profile partner.toml`; the end points are asked as `story.py FROM TO`.
"""

import argparse
import asyncio
import sys

from domain_twin.errors import NotFound, TwinError
from twin_api.client import Order, PartnerClient, Resource, Run, Threshold

LIMIT_MS = 10.0


async def story(profile: str, source: str, target: str) -> bool:
    """Tell it; whether the scenario passed."""
    async with PartnerClient.connect(profile) as partner:
        print(f"Offered at {partner.url}:")
        async for offered in partner.specifications():
            print(f"  {offered.name}: {offered.description}")

        print("\nOrdering a twin")
        order = await partner.order_twin("story", end_points=[source, target], freshness_s=2)
        order = await partner.settled(order, told=tell)
        if order.state not in ("completed", "partial"):
            raise NotFound(f"the order is {order.state}: {'; '.join(order.problems)}")
        twin = await partner.reached(order.twins[0], "active")
        try:
            for part in twin.parts:
                print(f"  {part.domain}: {part.state}, shown as {part.level or 'nothing'} {part.problem}")

            inside = [each async for each in partner.inside(twin.id)]
            print(f"\nInside: {len(inside)} resources, such as")
            for each in inside[:3]:
                print(f"  {each.name}: {each.characteristics}")

            link = way_out(inside, source)
            print(f"\nWhat if {link} were cut?")
            run = await cut(partner, twin.id, link, source, target)
            for measure in run.measures:
                broken = f"  NOT KEPT: {measure.violations[0].text}" if measure.violations else ""
                print(f"  {measure.metric} of {measure.subject}: {measure.value} {measure.unit}{broken}")
            print(f"  verdict: {run.verdict or run.state} {run.problem}")
        finally:
            print("\nRetiring the twin")
            await partner.settled(await partner.retire(twin.id), told=tell)
        return run.passed


async def cut(partner: PartnerClient, twin: str, link: str, source: str, target: str) -> Run:
    """What the pair gets without the link, against what it was promised."""
    scenario = {
        "name": "link cut",
        "seed": 1,
        "changes": [{"kind": "element-down", "element": link}],
        "flows": [[source, target]],
    }
    thresholds = [Threshold("delay", upper=LIMIT_MS, unit="ms"), Threshold("loss", upper=0.001)]
    definition = await partner.define("link cut", scenario, thresholds=thresholds)
    return await partner.finished(await partner.run(definition.id, twin, name="link cut"))


def way_out(inside: list[Resource], source: str) -> str:
    """The link between two domains that is nearest to an end point, as far as the twin shows it."""
    links = {each.name: each.characteristics.get("linkId") for each in inside if each.kind == "borderPoint"}
    ways = [
        (each.characteristics["delayMs"], links[each.ends[1]])
        for each in inside
        if each.kind == "segment" and each.ends[0] == source and links.get(each.ends[1])
        if "delayMs" in each.characteristics
    ]
    if not ways:
        raise NotFound(f"the twin shows no way out of the domain of {source}")
    return str(min(ways)[1])


def tell(order: Order) -> None:
    """An order, whenever it changes."""
    print(f"  {order.state} {', '.join(order.milestones)} {'; '.join(order.problems)}".rstrip())


if __name__ == "__main__":
    options = argparse.ArgumentParser(description="A partner's story over HTTP.")
    options.add_argument("source", nargs="?", default="ran/cell-1")
    options.add_argument("target", nargs="?", default="edge/host-1")
    options.add_argument("--profile", default="", help="default: $FEDTWIN_API, then the demo's")
    chosen = options.parse_args()
    try:
        passed = asyncio.run(story(chosen.profile, chosen.source, chosen.target))
    except (TwinError, TimeoutError) as error:
        sys.exit(f"error: {error}")
    print("\nThe promise would hold." if passed else "\nThe promise would not hold.")
