"""A partner's act: order, look inside, run, be refused, retire. Owns the calls, over HTTP like any partner's.

Nothing here knows the demo's inside: the link that the scenario cuts is found in what the twin shows.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from uuid import uuid4

from domain_twin.errors import NotFound, TwinError
from federation.cli.demo.files import OBJECTIVE_MS, SERVICE_SOURCE, SERVICE_TARGET, DemoFiles
from federation.cli.demo.partner_files import GUEST, OTHER

if TYPE_CHECKING:
    from federation.cli.demo.screen import Steps
    from twin_api.client import PartnerClient, Resource, Twin

__all__ = ["STEPS", "Partnership", "be_partner", "gateway"]

PATIENCE_S = 60.0
ORDERED, RAN, REFUSED, RETIRED = "the order", "the scenario", "another's twin", "the end"
STEPS = (ORDERED, RAN, REFUSED, RETIRED)


@dataclass(slots=True)
class Partnership:
    """What a partner did and saw; `problem`: why it got no further."""

    partner: str = GUEST.id
    order: str = ""
    order_state: str = ""
    twin: str = ""
    active_ms: float = 0.0
    """From the order's sending until the twin was active."""
    levels: dict[str, str] = field(default_factory=dict)
    inside: dict[str, dict[str, int]] = field(default_factory=dict)
    """How many resources of which kind, by domain; the empty one: between domains."""
    link: str = ""
    run: str = ""
    run_ms: float = 0.0
    measured: str = ""
    """What was measured, in the run's own words."""
    delay_ms: float | None = None
    threshold_ms: float = OBJECTIVE_MS
    verdict: str = ""
    violations: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)
    other_levels: dict[str, str] = field(default_factory=dict)
    foreign: str = ""
    """What is answered for another partner's twin, and for one that nobody has: the ids taken out."""
    unknown: str = ""
    ended: str = ""
    problem: str = ""


async def be_partner(files: DemoFiles, steps: Steps) -> Partnership:
    """Order a twin over all four, use it, retire it. Raises no TwinError: the answer has it."""
    from twin_api.client import PartnerClient

    told = Partnership()
    try:
        async with (
            PartnerClient.connect(files.partner(GUEST.id)) as guest,
            PartnerClient.connect(files.partner(OTHER.id)) as other,
        ):
            await _told(told, steps, guest, other)
    except TimeoutError as error:
        told.problem = str(error) or f"no answer within {PATIENCE_S:.0f} s"
    except TwinError as error:
        told.problem = str(error)
    return told


async def _told(told: Partnership, steps: Steps, guest: PartnerClient, other: PartnerClient) -> None:
    steps.begin(ORDERED, "four domains decide")
    others = asyncio.create_task(_ordered(other, "rolling stock", Partnership()))
    try:
        twin = await _ordered(guest, "stage link", told)
        steps.done(ORDERED, f"{told.order_state}; the twin is {twin.state}")
        resources = [each async for each in guest.inside(twin.id)]
        told.inside = counted(resources)
        steps.begin(RAN, "routes, loads and queues without that link, in this twin alone")
        told.link = gateway(resources, SERVICE_SOURCE)
        await _run(guest, twin, told)
        steps.done(RAN, f"verdict: {told.verdict or 'none'}")
        steps.begin(REFUSED, "asked for by its id")
        foreign = await others
        told.other_levels = {part.domain: part.level for part in foreign.parts}
        told.foreign = await _refusal(guest, foreign.id)
        told.unknown = await _refusal(guest, str(uuid4()))
        steps.done(REFUSED, "there is none")
        steps.begin(RETIRED, "every domain forgets its part")
        await asyncio.gather(_retired(guest, twin.id), _retired(other, foreign.id))
        told.ended = (await guest.twin(twin.id)).state
        steps.done(RETIRED, f"the twin is {told.ended}")
    finally:
        others.cancel()
        with contextlib.suppress(asyncio.CancelledError, TwinError, TimeoutError):
            await others


async def _ordered(partner: PartnerClient, name: str, told: Partnership) -> Twin:
    """The twin of an order, active. Raises TwinError, TimeoutError."""
    began = time.monotonic()
    points = [SERVICE_SOURCE, "ran/cell-2", SERVICE_TARGET]
    order = await partner.order_twin(name, end_points=points, freshness_s=2.0)
    order = await partner.settled(order, timeout_s=PATIENCE_S)
    told.order, told.order_state = order.id, order.state
    if order.state not in ("completed", "partial") or not order.twins:
        raise NotFound(f"the order is {order.state}: {'; '.join(order.problems) or 'and does not say why'}")
    twin = await partner.reached(order.twins[0], "active", timeout_s=PATIENCE_S)
    told.active_ms = (time.monotonic() - began) * 1e3
    told.twin, told.levels = twin.id, {part.domain: part.level for part in twin.parts}
    return twin


async def _run(partner: PartnerClient, twin: Twin, told: Partnership) -> None:
    from twin_api.client import Threshold

    scenario = {
        "name": "the nearest way out of the radio network is cut",
        "seed": 1,
        "changes": [{"kind": "element-down", "element": told.link}],
        "flows": [[SERVICE_SOURCE, SERVICE_TARGET]],
    }
    kept = (Threshold("delay", upper=told.threshold_ms, unit="ms"),)
    definition = await partner.define("link cut", scenario, thresholds=kept)
    began = time.monotonic()
    run = await partner.finished(
        await partner.run(definition.id, twin.id, name="link cut"), timeout_s=PATIENCE_S
    )
    told.run, told.run_ms = run.id, (time.monotonic() - began) * 1e3
    told.verdict = run.verdict
    told.violations = [each.text for each in run.violations]
    told.remarks = [*filter(None, (run.problem,)), *run.remarks]
    delays = [each for each in run.measures if each.metric == "delay" and each.value is not None]
    worst = max(delays, key=lambda each: each.value or 0.0, default=None)
    told.delay_ms, told.measured = (worst.value, worst.text) if worst else (None, "")


async def _refusal(partner: PartnerClient, twin: str) -> str:
    """What is answered for a twin that is not the partner's, its id taken out."""
    from twin_api.client import ApiError

    try:
        await partner.twin(twin)
    except ApiError as error:
        return f"{error.status} {error}".replace(twin, "ID")
    return ""


async def _retired(partner: PartnerClient, twin: str) -> None:
    await partner.settled(await partner.retire(twin), timeout_s=PATIENCE_S)


def gateway(resources: Sequence[Resource], point: str) -> str:
    """The link between domains behind the border point that is nearest to `point`. Raises NotFound."""
    links = {
        each.name: str(each.characteristics["linkId"])
        for each in resources
        if each.kind == "borderPoint" and each.characteristics.get("linkId")
    }
    ways = [
        (float(each.characteristics["delayMs"]), each.ends[1])
        for each in resources
        if each.kind == "segment" and each.ends[0] == point and each.ends[1] in links
        if "delayMs" in each.characteristics
    ]
    if not ways:
        raise NotFound(f"the twin shows no way from {point} out of its domain")
    return links[min(ways)[1]]


def counted(resources: Sequence[Resource]) -> dict[str, dict[str, int]]:
    """How many resources of which kind there are, by domain."""
    found: dict[str, Counter[str]] = {}
    for each in resources:
        found.setdefault(each.domain, Counter())[each.kind] += 1
    return {domain: dict(kinds) for domain, kinds in found.items()}
