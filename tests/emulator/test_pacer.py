"""The packet network in step with the clock, in a thread of its own."""

import asyncio
import time

import pytest

from domain_twin.emulator.commands import FlowPlan, SetLink
from domain_twin.emulator.engine import LinkPlan, NodePlan, PacketNetwork
from domain_twin.emulator.pacer import Pacer


def network():
    links = [LinkPlan(a, b, 1e6, 0.001, 1e6, 1, 1) for a, b in ((0, 1), (1, 2), (0, 2))]
    flows = [
        FlowPlan("a", 2, "poisson", 400, node=0, watched=True),
        FlowPlan("b", 2, "on-off", 900, node=0, exponential=True, on=0.05, off=0.05),
    ]
    return PacketNetwork(
        nodes=[NodePlan(1)] * 3, links=links, cells=[], flows=flows, seed=5, convergence=0.1, interval=0.25
    )


async def test_paced_run_equals_its_replay_as_fast_as_it_goes():
    seen, again = [], network()
    pacer = Pacer(network(), seen.append)
    pacer.start()
    for up in (False, True, False):
        await asyncio.sleep(0.3)
        pacer.send(SetLink(2, up=up))
    now = await pacer.ask(lambda running: running.now)
    await pacer.stop()
    await asyncio.sleep(0)

    replayed = again.replay(pacer.network.journal, pacer.network.now)

    assert now >= 0.9
    assert len(pacer.network.journal) == 3
    assert len(seen) == len(replayed) >= 3
    for one, other in zip(seen, replayed, strict=True):
        assert one.resources.tobytes() == other.resources.tobytes()
    assert pacer.network.state.finished.tobytes() == again.state.finished.tobytes()


async def test_simulated_time_is_the_clock():
    pacer = Pacer(network(), lambda _: None)
    before = time.time_ns()
    pacer.start()
    await asyncio.sleep(0.2)

    now = pacer.unix_ns(await pacer.ask(lambda running: running.now))

    assert before + 150_000_000 < now <= time.time_ns()
    assert pacer.unix_ns(pacer.simulated(now)) == pytest.approx(now, abs=1000)
    await pacer.stop()


async def test_question_that_fails_fails_for_the_asker_only():
    pacer = Pacer(network(), lambda _: None)
    pacer.start()

    with pytest.raises(ZeroDivisionError):
        await pacer.ask(lambda _: 1 / 0)

    assert await pacer.ask(lambda running: running.node_count) == 3
    assert pacer.failure is None
    await pacer.stop()


async def test_failure_of_the_network_is_told():
    ended = asyncio.Event()
    pacer = Pacer(network(), lambda _: None)
    pacer.start(ended.set)

    pacer.send(SetLink(99, up=False))  # no such link

    async with asyncio.timeout(10):
        await ended.wait()
    assert isinstance(pacer.failure, IndexError)
    await pacer.stop()
