"""The packet network against queueing theory, and its bookkeeping."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain_twin.emulator.commands import AddFlow, FlowPlan, SetCell, SetLink, SetNode, StopFlow
from domain_twin.emulator.engine import CellPlan, LinkPlan, NodePlan, PacketNetwork
from domain_twin.emulator.packet_log import truth_of
from domain_twin.emulator.state import LOST_ERROR, LOST_FULL, LOST_NO_LINK

RATE = 1e6  # octets/s: a packet of 1,000 octets takes a millisecond
SPAN = 2000.0


def line(flow, *, node=None, cell_rate=RATE, buffer=1e12, seed=1, interval=SPAN, **link):
    """A cell at node 0, a link to node 1, one flow."""
    plan = {"rate": RATE, "propagation": 0.005, "metric": 1, "domain": 1, **link}
    return PacketNetwork(
        nodes=[NodePlan(0), node or NodePlan(2)],
        links=[LinkPlan(0, 1, buffer=buffer, **plan)],
        cells=[CellPlan(0, cell_rate, 0.0)],
        flows=[flow],
        seed=seed,
        interval=interval,
    )


def erlang_c(offered, workers):
    head = sum(offered**k / math.factorial(k) for k in range(workers))
    tail = offered**workers / math.factorial(workers) * workers / (workers - offered)
    return tail / (head + tail)


def mean_delay(network, resource, span=SPAN):
    did = network.advance(span)[0]
    return did, float(did.resources[resource]["delay"] / did.resources[resource]["count"])


@pytest.mark.parametrize("load", [0.3, 0.5, 0.7])
def test_link_with_exponential_packets_is_mm1(load):
    network = line(FlowPlan("f", 1, "poisson", load * 1000, node=0, exponential=True))

    did, delay = mean_delay(network, 0)

    assert delay - 0.005 == pytest.approx(0.001 / (1 - load), rel=0.02)
    assert did.busy[0] == pytest.approx(load, rel=0.01)
    variance = did.resources[0]["square"] / did.resources[0]["count"] - delay**2
    assert variance == pytest.approx((0.001 / (1 - load)) ** 2, rel=0.06)


@pytest.mark.parametrize("load", [0.3, 0.6, 0.8])
def test_link_with_constant_packets_is_md1(load):
    network = line(FlowPlan("f", 1, "poisson", load * 1000, node=0))

    _, delay = mean_delay(network, 0)

    assert delay - 0.005 == pytest.approx(0.001 * (1 + load / (2 * (1 - load))), rel=0.02)


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_processing_with_exponential_service_is_mmk(workers):
    load, service = 0.7, 0.002
    rate = load * workers / service
    node = NodePlan(2, workers=workers, service=service, exponential=True, depth=100_000)
    network = line(FlowPlan("f", 1, "poisson", rate, node=0), node=node, rate=1e12)

    did, delay = mean_delay(network, 2)

    expected = service + erlang_c(load * workers, workers) * service / (workers * (1 - load))
    assert delay == pytest.approx(expected, rel=0.03)
    assert did.busy[2] == pytest.approx(load, rel=0.01)


@pytest.mark.parametrize("exponential", [False, True])
def test_cell_shares_its_rate_among_packets(exponential):
    """M/G/1 processor sharing: the mean depends on the load only, not on the law of sizes."""
    load = 0.6
    network = line(FlowPlan("f", 1, "poisson", load * 1000, cell=0, exponential=exponential), rate=1e12)

    did, delay = mean_delay(network, 3)

    assert delay == pytest.approx(0.001 / (1 - load), rel=0.03)
    assert did.busy[3] == pytest.approx(load, rel=0.01)


def test_on_off_flow_has_its_mean_rate():
    network = line(FlowPlan("f", 1, "on-off", 400, node=0, on=0.2, off=0.6))

    did, _ = mean_delay(network, 0)

    assert did.resources[0]["count"] / SPAN == pytest.approx(100, rel=0.03)


def test_cbr_flow_never_waits_and_follows_the_time_of_day():
    plan = FlowPlan("f", 1, "cbr", 100, node=0, daily=True)
    network = PacketNetwork(
        nodes=[NodePlan(0), NodePlan(0)],
        links=[LinkPlan(0, 1, RATE, 0.0, 1e9, 1, 0)],
        cells=[],
        flows=[plan],
        seed=1,
        demand=lambda at: 1.0 if at < 9.5 else 2.0,
    )

    counts = [float(m.resources[0]["count"]) for m in network.advance(20.0)]

    assert counts[5] == pytest.approx(100, abs=1)
    assert counts[15] == pytest.approx(200, abs=1)
    assert network.state.resources[0]["delay"] == pytest.approx(network.state.resources[0]["count"] * 0.001)


def test_elastic_flow_fills_the_window_and_yields_to_loss():
    plan = FlowPlan("f", 1, "elastic", 1, node=0, window=64, acknowledge=0.02)
    wide = line(plan, interval=10.0)
    narrow = line(plan, interval=10.0, buffer=8000)

    roomy = wide.advance(20.0)[1]
    tight = narrow.advance(20.0)[1]

    assert roomy.busy[0] > 0.95
    assert roomy.resources[0]["lost"] == 0
    assert 0 < tight.resources[0]["lost"] < 0.05 * tight.resources[0]["count"]
    assert narrow.state.flows[0]["window"] < 64


def test_full_buffer_drops_and_counts():
    network = line(FlowPlan("f", 1, "poisson", 2000, node=0), buffer=10_000, interval=100.0)

    did, delay = mean_delay(network, 0, 100.0)

    link = did.resources[0]
    assert link["count"] / 100 == pytest.approx(1000, rel=0.01)
    assert link["causes"][LOST_FULL] == link["lost"]
    assert delay < 0.005 + 0.0101
    assert did.queue[0] <= 10_000


def test_loss_is_counted_at_the_receiver():
    network = line(FlowPlan("f", 1, "poisson", 500, node=0), interval=200.0)
    network.apply(SetLink(0, loss=0.1))

    did, _ = mean_delay(network, 0, 200.0)

    link = did.resources[0]
    assert link["causes"][LOST_ERROR] / link["out_packets"] == pytest.approx(0.1, rel=0.05)
    assert link["in_packets"] + link["causes"][LOST_ERROR] + 20 > link["out_packets"]


def test_busy_time_is_exact_at_the_edges_of_an_interval():
    """An overloaded link is busy all the time, no more, although its queue reaches into the next interval."""
    network = line(FlowPlan("f", 1, "poisson", 3000, node=0), buffer=500_000, interval=0.5)

    busy = [float(m.busy[0]) for m in network.advance(10.0)]

    assert busy[1:] == pytest.approx([1.0] * 19)


def triangle(**more):
    """Node 0 to node 2: directly at metric 10, or by node 1 at metric 4 + 4; flow `f` is watched."""
    ends = [(0, 1, 4), (1, 2, 4), (0, 2, 10)]
    links = [LinkPlan(a, b, RATE, 0.001, 1e9, m, 1) for a, b, m in ends]
    flow = FlowPlan("f", 2, "poisson", 200, node=0, watched=True)
    return PacketNetwork(
        nodes=[NodePlan(1)] * 3, links=links, cells=[], flows=[flow], seed=3, convergence=0.2, **more
    )


def test_routes_follow_a_cut_after_the_convergence_time():
    network = triangle()
    network.advance(5.0)
    network.apply(SetLink(0, up=False))

    network.advance(10.0)

    truth = truth_of(network, "f", since=5.0, until=9.9)
    assert truth.lost == pytest.approx(40, abs=20)
    assert truth.first_delivered is not None
    assert 5.2 <= truth.first_delivered < 5.25
    assert truth.parts_ms["transport"] == pytest.approx(truth.mean_ms)
    before = truth_of(network, "f", since=0.0, until=4.9)
    assert before.mean_ms == pytest.approx(2 * 2.11, rel=0.05)
    assert truth.mean_ms == pytest.approx(2.11, rel=0.05)


def test_routes_follow_a_metric_and_come_back():
    network = triangle()
    network.apply(SetLink(0, metric=7))
    network.advance(2.0)
    assert network.state.table[0, 2] == 2
    network.apply(SetLink(0, metric=4))
    network.advance(4.0)
    assert network.state.table[0, 2] == 0


def test_equal_metrics_go_to_the_lowest_link():
    network = triangle()
    network.apply(SetLink(0, metric=6))

    network.advance(1.0)

    assert network.state.table[0, 2] == 0


def test_node_withdrawn_from_transit_is_avoided_but_still_reached():
    network = triangle()
    network.apply(SetNode(1, transit=False))

    network.advance(1.0)

    assert network.state.table[0, 2] == 2
    assert network.state.table[0, 1] == 0


def test_cell_out_of_service_loses_what_it_holds():
    network = line(FlowPlan("f", 1, "poisson", 900, cell=0), interval=1.0)
    network.advance(2.0)
    held = int(network.state.cells[0]["held"])
    network.apply(SetCell(0, up=False))

    did = network.advance(4.0)[-1]

    causes = did.resources[3]["causes"][LOST_NO_LINK]
    assert causes == pytest.approx(held + 1800, abs=200)
    assert did.queue[3] == 0


def test_fewer_workers_wait_behind_the_queue_that_is_there():
    node = NodePlan(2, workers=4, service=0.01, depth=1000)
    network = line(FlowPlan("f", 1, "poisson", 350, node=0), node=node, rate=1e12, interval=1.0)
    network.advance(5.0)
    network.apply(SetNode(1, workers=2))

    did = network.advance(10.0)[-1]

    assert did.busy[2] == pytest.approx(1.0)
    assert did.resources[2]["count"] == pytest.approx(200, abs=3)


def test_flow_stops_and_another_starts():
    network = triangle()
    network.advance(2.0)
    network.apply(StopFlow("f"))
    network.apply(AddFlow(FlowPlan("g", 1, "cbr", 50, node=0)))

    network.advance(4.0)

    assert "f" not in network.flows
    assert network.state.flows[network.flows["g"]]["delivered"] == pytest.approx(100, abs=2)
    with pytest.raises(ValueError, match="exists already"):
        network.apply(AddFlow(FlowPlan("g", 1, "cbr", 50, node=0)))


COMMANDS = [
    SetLink(0, up=False), SetLink(0, up=True), SetLink(1, loss=0.3), SetLink(2, metric=2),
    SetNode(1, transit=False),
    SetLink(2, rate=3e5), AddFlow(FlowPlan("g", 2, "on-off", 300, node=1, on=0.1, off=0.1, watched=True)),
]  # fmt: skip


@settings(max_examples=15, deadline=None)
@given(
    times=st.lists(st.floats(0.01, 3.0), max_size=len(COMMANDS)).map(sorted),
    slices=st.lists(st.floats(0.0, 3.0), max_size=40).map(sorted),
)
def test_run_in_slices_equals_its_replay_in_one_go(times, slices):
    """The same seed and commands give the same packets, however time is cut into pieces."""
    paced, replayed = triangle(interval=0.25), triangle(interval=0.25)
    due = list(zip(times, COMMANDS, strict=False))
    seen = []
    for at in sorted([*slices, *times]):
        seen += paced.advance(at)
        while due and due[0][0] <= at:
            paced.apply(due.pop(0)[1])
    seen += paced.advance(3.5)

    again = replayed.replay(paced.journal, 3.5)

    assert len(seen) == len(again) == 14
    for one, other in zip(seen, again, strict=True):
        assert one.resources.tobytes() == other.resources.tobytes()
        assert np.array_equal(one.queue, other.queue)
    assert paced.state.finished.tobytes() == replayed.state.finished.tobytes()


def test_other_seed_gives_other_packets():
    one, other = (
        line(FlowPlan("f", 1, "poisson", 500, node=0)),
        line(FlowPlan("f", 1, "poisson", 500, node=0), seed=2),
    )
    one.advance(10.0)
    other.advance(10.0)

    assert one.state.resources["delay"][0] != other.state.resources["delay"][0]
