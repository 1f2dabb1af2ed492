"""What an agent keeps of a peer's what-if between rounds: under which agreement, for whom, how long."""

import time
from dataclasses import replace

import numpy as np
import pytest
from what_if_parts import networks

from domain_twin.agent.corrections import InService
from domain_twin.agent.session import Asked
from domain_twin.agent.what_if_jobs import WhatIfJobs
from domain_twin.disclosure.policy import Action, Agreement, decide
from domain_twin.disclosure.precision import Precision
from domain_twin.errors import ContractError, NotShared, OverCapacity, StaleVersion
from domain_twin.model import Level, Version
from domain_twin.simulation.graph import TrafficClass
from domain_twin.simulation.learned.load_curve import LoadCurve
from domain_twin.simulation.twin.calibration import Calibration, ElementFit
from domain_twin.trust.identity import SpiffeId
from federation.wire.simulate import Keys, PartVariant, Prepare, Round, decode_ask, encode_ask

pytestmark = pytest.mark.timeout(400)  # the kernels may have to be compiled

BROKER = "spiffe://exchange.example/broker/main"
SHOWN = Version("view", 4)
ASK = Prepare((PartVariant("base"),))


def asked(job="j", on_behalf_of=""):
    return Asked(1, job, 0, SpiffeId.parse(BROKER), on_behalf_of, time.time_ns() + 10**11)


def granted(**terms):
    agreement = Agreement("a", BROKER, actions=frozenset({Action.WHAT_IF}), **terms)
    return decide([agreement], BROKER, Action.WHAT_IF, now=0)


def jobs(**more):
    network = networks()["transport"]
    return WhatIfJobs(network=lambda: network, published={}, calibration=lambda: None, **more)


def through(prepared):
    """One row across the domain, with ten packets a second."""
    source, target = (prepared.points.index(f"transport/idl-{end}") for end in ("a1", "b"))
    columns = [np.array([each], dtype=np.uint32) for each in (0, source, target, 0)]
    return Round(np.array([10.0]), np.array([100.0]), Keys(*columns, (TrafficClass("x"),)), True)


async def test_a_job_goes_on_where_it_was_prepared_and_ends():
    kept = jobs()
    prepared = await kept.prepare(asked(), granted(), ASK, SHOWN)

    told = await kept.round(asked(), granted(), through(prepared))

    assert prepared.version.sequence == SHOWN.sequence
    assert told.delay_s[0] > 0
    kept.end("j")
    assert len(kept) == 0


async def test_the_version_stays_pinned_while_the_network_changes():
    network = networks()["transport"]
    now = [network]
    kept = WhatIfJobs(network=lambda: now[0], published={}, calibration=lambda: None)
    prepared = await kept.prepare(asked(), granted(), ASK, SHOWN)
    before = await kept.round(asked(), granted(), through(prepared))

    now[0] = replace(network, links={key: replace(link, up=False) for key, link in network.links.items()})
    after = await kept.round(asked(), granted(), through(prepared))

    assert after.delay_s.tolist() == before.delay_s.tolist()


async def test_what_domains_taught_each_other_is_in_the_part_and_said_unless_it_is_left_out():
    network = networks()["transport"]
    fit = ElementFit("", "link", fixed_s=1e-4, variance_ratio=1.0, load=0.001, points=40)
    fits = Calibration("transport", elements={name: replace(fit, element=name) for name in network.links})
    learned = InService("residual 2", 4, LoadCurve(np.array([9.0, 9.0, 0.0, 0.0, 0.0]), 0.8))
    kept = WhatIfJobs(
        network=lambda: network, published={}, calibration=lambda: fits, learned=lambda: learned
    )
    told = {}
    for job, step in (("with", ASK), ("without", replace(ASK, corrected=False))):
        sent = decode_ask(encode_ask(step))
        prepared = await kept.prepare(asked(job), granted(), sent, SHOWN)
        told[job] = prepared.assumptions, await kept.round(asked(job), granted(), through(prepared))

    said = [any("(model residual 2)" in text for text in told[job][0]) for job in ("with", "without")]
    assert said == [True, False]
    assert told["with"][1].delay_s[0] > told["without"][1].delay_s[0]


@pytest.mark.parametrize(
    ("ask", "grant"),
    [
        (asked("another"), granted()),
        (asked("j", "spiffe://partner.example/user/eve"), granted()),
        (asked(), granted(precision=Precision(delay_ms=1.0))),
    ],
    ids=["another job", "for somebody else", "under another agreement"],
)
async def test_a_round_goes_on_only_as_it_was_prepared(ask, grant):
    kept = jobs()
    prepared = await kept.prepare(asked(), granted(), ASK, SHOWN)

    with pytest.raises(StaleVersion):
        await kept.round(ask, grant, through(prepared))


async def test_a_job_is_prepared_once():
    kept = jobs()
    await kept.prepare(asked(), granted(), ASK, SHOWN)

    with pytest.raises(ContractError, match="already"):
        await kept.prepare(asked(), granted(), ASK, SHOWN)


async def test_a_job_needs_an_id():
    with pytest.raises(ContractError, match="id of its job"):
        await jobs().prepare(asked(""), granted(), ASK, SHOWN)


async def test_a_peer_has_so_many_parts_and_gets_room_when_one_ends():
    kept = jobs(most_parts=2)
    for job in ("one", "two"):
        await kept.prepare(asked(job), granted(), ASK, SHOWN)

    with pytest.raises(OverCapacity) as refused:
        await kept.prepare(asked("three"), granted(), ASK, SHOWN)

    assert refused.value.retry_after_s > 0
    kept.end("one")
    await kept.prepare(asked("three"), granted(), ASK, SHOWN)


async def test_another_version_of_the_view_is_refused():
    ask = replace(ASK, at_version=Version("view", 3))

    with pytest.raises(StaleVersion, match="view/4"):
        await jobs().prepare(asked(), granted(), ask, SHOWN)


async def test_a_domain_that_is_shown_as_one_node_does_not_tell_its_ways_apart():
    with pytest.raises(NotShared, match="mesh"):
        await jobs().prepare(asked(), granted(level=Level.NODE), ASK, SHOWN)
