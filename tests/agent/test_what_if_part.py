"""A domain's part of a what-if: what it says, to whom what is withheld, and what it refuses to compute."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain_twin.agent import what_if_part
from domain_twin.agent.what_if_part import PartTwin, PointNodes, WhatIfPart
from domain_twin.disclosure.precision import Precision
from domain_twin.errors import ContractError, OverCapacity
from domain_twin.model import Version
from domain_twin.simulation.graph import Demand, Law, SimGraph, TrafficClass, Variant
from federation.v1 import fedtwin_pb2 as pb
from federation.wire.fields import parse
from federation.wire.simulate import (
    Figures,
    Keys,
    PartVariant,
    Prepare,
    Round,
    decode_answer,
    decode_ask,
    encode_answer,
    encode_ask,
)

BULK = TrafficClass("bulk", (500.0, 1500.0), (0.5, 0.5))
OTHER = TrafficClass("other", (100.0,))
POINTS = ("d/app", "d/cell", "d/in", "d/out")  # in the order of a part's answer


BASE = (Variant("base"),)


def twin(*, measured=300.0, variants=BASE, buffer=20.0, **more):
    """cell -- r0 -- r1 -- app, borders at r0 (in) and r1 (out); `measured` runs from in to out."""
    edges = [
        ("cell", "r0"), ("r0", "r1"), ("r1", "r0"), ("r1", "app"), ("r1", "out"), ("r0", "in"), ("in", "r0"),
        ("out", "r1"),
    ]  # fmt: skip
    nodes = ["r0", "r1", "cell", "app", "in", "out"]
    at = {name: index for index, name in enumerate(nodes)}
    inward = np.array([tail in ("in", "out") for tail, _ in edges])
    graph = SimGraph(
        nodes=tuple(f"secret-{name}" for name in nodes),
        edges=tuple(f"secret-{a}-{b}" for a, b in edges),
        classes=(BULK,),
        tail=np.array([at[a] for a, _ in edges], np.int32),
        head=np.array([at[b] for _, b in edges], np.int32),
        law=np.where(inward, Law.FIXED, Law.LINK).astype(np.int8),
        scheduler=np.zeros(len(edges), np.int8),
        up=np.ones(len(edges), bool),
        metric=np.where(inward, 0.0, 1.0),
        capacity_bps=np.full(len(edges), 10e6),
        fixed_s=np.full(len(edges), 1e-3),
        buffer=np.full(len(edges), buffer),
        servers=np.ones(len(edges), np.int32),
        service_s=np.zeros(len(edges)),
        service_scv=np.zeros(len(edges)),
        loss=np.zeros(len(edges)),
        transit=np.array([True, True, False, False, False, False]),
    )
    rate = np.zeros((1, 6, 6))
    rate[0, at["out"], at["in"]] = measured
    rate[0, at["app"], at["cell"]] = 100.0
    points = {
        "d/cell": PointNodes(at["cell"], at["cell"], border=False),
        "d/app": PointNodes(at["app"], at["app"], border=False),
        "d/in": PointNodes(at["in"], at["in"], border=True),
        "d/out": PointNodes(at["out"], at["out"], border=True),
    }
    return PartTwin(
        Version("v", 3), graph, Demand(rate), points, lambda graph, demand: list(variants), **more
    )


def keys(*rows, classes=(BULK,)):
    """Rows of (variant, source, target, class), points by name."""
    columns = np.array(
        [(v, POINTS.index(s), POINTS.index(t), c) for v, s, t, c in rows], dtype=np.uint32
    ).reshape(-1, 4)
    return Keys(columns[:, 0], columns[:, 1], columns[:, 2], columns[:, 3], classes)


def asked(rates, *rows, final=True, classes=(BULK,)):
    rate = np.array(rates, dtype=np.float64)
    return Round(rate, rate**2, keys(*rows, classes=classes), final)


THROUGH = (0, "d/in", "d/out", 0)


def test_a_part_says_ways_and_offered_traffic_between_disclosed_points_alone():
    told = WhatIfPart(twin()).prepared()

    assert told.points == POINTS
    ways = {
        (told.points[s], told.points[t]): m
        for s, t, m in zip(told.tables[0].source, told.tables[0].target, told.tables[0].metric, strict=True)
    }
    assert ways["d/in", "d/out"] == 2.0  # r0-r1, and out over the inter-domain link
    assert ways["d/cell", "d/app"] == 3.0
    assert ("d/app", "d/in") not in ways  # nothing leaves the host
    rows = zip(told.offered.source, told.offered.target, strict=True)
    assert [(told.points[s], told.points[t]) for s, t in rows] == [("d/cell", "d/app")]
    assert told.offered.rate.tolist() == [100.0]
    assert b"secret" not in encode_answer(told).SerializeToString()


def test_flows_that_the_broker_follows_are_not_counted_twice():
    alone = WhatIfPart(twin(measured=0.0)).round(asked([300.0], THROUGH))
    measured = WhatIfPart(twin(measured=300.0)).round(asked([300.0], THROUGH))
    besides = WhatIfPart(twin(measured=300.0, includes_known=False)).round(asked([300.0], THROUGH))

    assert measured.delay_s == pytest.approx(alone.delay_s)
    assert besides.delay_s[0] > 1.01 * alone.delay_s[0]


def test_what_was_measured_in_another_class_is_the_same_traffic():
    rows = (0, "d/in", "d/out", 0)
    octets = 300.0 * BULK.mean_octets

    told = WhatIfPart(twin(measured=300.0)).round(asked([octets / 100.0], rows, classes=(OTHER,)))
    alone = WhatIfPart(twin(measured=0.0)).round(asked([octets / 100.0], rows, classes=(OTHER,)))

    assert told.delay_s == pytest.approx(alone.delay_s)


def test_only_losses_are_said_before_the_last_round():
    part = WhatIfPart(twin())

    first = part.round(asked([300.0], THROUGH, final=False))
    last = part.round(Round(np.array([300.0]), np.array([9e4]), None, True))

    assert len(first.loss) == 1
    assert len(first.delay_s) == len(first.service_s) == 0
    assert last.delay_s[0] > last.fixed_s[0] > 0


def test_equal_questions_of_several_variants_are_answered_alike():
    variants = (Variant("base"), Variant("same"), Variant("slow", values={"capacity_bps": {1: 5e6}}))
    part = WhatIfPart(twin(variants=variants))

    told = part.round(asked([300.0] * 3, *((v, "d/in", "d/out", 0) for v in range(3))))

    assert told.delay_s[0] == told.delay_s[1] < told.delay_s[2]
    assert part.prepared().table_of.tolist() == [0, 0, 0]


def test_a_failure_takes_the_way_away_and_leaves_no_number():
    part = WhatIfPart(twin(variants=(Variant("base"), Variant("cut", down=frozenset({1})))))

    prepared = part.prepared()
    told = part.round(asked([300.0, 300.0], THROUGH, (1, "d/in", "d/out", 0)))

    cut = prepared.tables[prepared.table_of[1]]
    assert not ((cut.source == POINTS.index("d/in")) & (cut.target == POINTS.index("d/out"))).any()
    assert np.isnan(told.loss).tolist() == [False, True]


@settings(max_examples=30, deadline=None)
@given(
    rate=st.floats(1.0, 5000.0),
    delay=st.sampled_from([0.0, 0.01, 1.0]),
    loss=st.sampled_from([0.0, 0.001, 0.1]),
)
def test_rounding_is_never_to_the_better(rate, delay, loss):
    exact = WhatIfPart(twin()).round(asked([rate], THROUGH))
    told = WhatIfPart(twin(), precision=Precision(delay, 0.0, loss)).round(asked([rate], THROUGH))

    for name in ("loss", "delay_s", "variance_s2", "service_s"):
        assert getattr(told, name)[0] >= getattr(exact, name)[0]
    assert told.fixed_s[0] <= exact.fixed_s[0]
    assert told.delay_s[0] - exact.delay_s[0] <= delay * 1e-3 + 1e-12
    assert 0.0 <= told.loss[0] <= 1.0


@pytest.mark.parametrize(
    ("figure", "hidden"),
    [
        ("loss_ratio", {"loss"}),
        ("one_way_delay", {"delay_s", "fixed_s", "interval_s"}),
        ("delay_variance", {"variance_s2", "service_s"}),
    ],
)
def test_figures_that_an_agreement_does_not_name_are_not_said(figure, hidden):
    rest = frozenset({"loss_ratio", "one_way_delay", "delay_variance", "bandwidth"}) - {figure}

    told = WhatIfPart(twin(), figures=rest).round(asked([300.0], THROUGH))

    unknown = {field.name for field in dataclasses.fields(Figures) if field.name != "unsettled"
               and np.isnan(getattr(told, field.name)).all()}  # fmt: skip
    assert unknown - {"interval_s"} == hidden - {"interval_s"}


def test_offered_traffic_is_bandwidth_and_withheld_with_it():
    told = WhatIfPart(twin(), figures=frozenset({"one_way_delay"})).prepared()

    assert len(told.offered.rate) == 0


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (Round(np.ones(1), np.ones(1)), "missing in the first round"),
        (asked([1.0], (1, "d/in", "d/out", 0)), "variant: 1 found, less than 1"),
        (asked([1.0, 2.0], THROUGH), "2 rows found, 1 were agreed"),
        (asked([1.0], (0, "d/in", "d/in", 0)), "enters and leaves at the same place"),
    ],
)
def test_rounds_that_make_no_sense_are_refused(ask, words):
    part = WhatIfPart(twin())

    with pytest.raises(ContractError, match=words):
        part.round(ask)


def test_points_beyond_those_that_were_told_are_refused():
    part = WhatIfPart(twin())
    beyond = dataclasses.replace(keys(THROUGH), target=np.array([4], dtype=np.uint32))

    with pytest.raises(ContractError, match="target: 4 found, less than 4"):
        part.round(Round(np.ones(1), np.ones(1), beyond))


def test_more_variants_than_can_be_kept_are_refused(monkeypatch):
    monkeypatch.setattr(what_if_part, "MOST_CELLS", 100)
    variants = [Variant("base")] + [Variant(str(m), values={"metric": {1: float(m)}}) for m in range(2, 9)]

    with pytest.raises(OverCapacity, match="ask in smaller pieces"):
        WhatIfPart(twin(variants=variants))


NUMBERS = st.floats(0.0, 1e9)


@given(rates=st.lists(st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=5), final=st.booleans())
def test_rounds_survive_the_wire(rates, final):
    rate, square = np.array(rates).T
    ask = Round(rate, square, keys(*[THROUGH] * len(rates), classes=(BULK, OTHER)), final)

    told = decode_ask(parse(pb.SimulateAsk, encode_ask(ask).SerializeToString()))

    assert isinstance(told, Round)
    assert told.rate.tolist() == rate.tolist()
    assert told.square.tolist() == square.tolist()
    assert told.final == final
    assert told.keys
    assert told.keys.classes == (BULK, OTHER)
    assert told.keys.source.tolist() == [POINTS.index("d/in")] * len(rates)


def broken(path, value):
    """A prepared answer of which one field is another one."""
    message = encode_answer(WhatIfPart(twin()).prepared())
    at = message.prepared
    for step in path[:-1]:
        at = getattr(at, step) if isinstance(step, str) else at[step]
    del getattr(at, path[-1])[:]
    getattr(at, path[-1]).extend(value)
    return message


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("points",), ["d/a", "d/a", "d/b", "d/c"], "twice"),
        (("tables", 0, "source"), [9], "less than 4"),
        (("tables", 0, "metric"), [1.0], "equally long"),
        (("tables", 0, "metric"), [float("nan")] * 8, "not finite"),
        (("offered", "rate"), [-1.0], "below 0"),
        (("offered", "traffic_class"), [7], "less than 1"),
        (("table_of",), [5], "less than 1"),
    ],
)
def test_a_prepared_answer_that_makes_no_sense_is_refused(path, value, words):
    with pytest.raises(ContractError, match=words):
        decode_answer(broken(path, value))


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [("loss", 1.5, "more than 1"), ("delay_s", -1.0, "below 0"), ("delay_s", float("inf"), "infinite")],
)
def test_figures_that_cannot_be_are_refused(column, value, words):
    message = pb.SimulateAnswer(figures=pb.SimulateFigures(**{column: [value]}))

    with pytest.raises(ContractError, match=words):
        decode_answer(message)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        (pb.SimulateAsk(), "later version"),
        (pb.SimulateAsk(prepare=pb.SimulatePrepare()), "1 to"),
        (encode_ask(Prepare((PartVariant("base"),))), ""),
        (
            pb.SimulateAsk(
                prepare=pb.SimulatePrepare(
                    variants=[pb.SimulateVariant(name="b", changes=[b'{"kind": "rain"}'])]
                )
            ),
            "SimulateVariant.changes",
        ),
        (
            pb.SimulateAsk(
                prepare=pb.SimulatePrepare(
                    variants=[
                        pb.SimulateVariant(name="b", changes=[b'{"kind": "element-down", "element": "d/in"}'])
                    ]
                )
            ),
            "the first is the base",
        ),
        (pb.SimulateAsk(round=pb.SimulateRound(rate=[1.0, 2.0], square=[1.0])), "equally long"),
        (pb.SimulateAsk(round=pb.SimulateRound(rate=[float("nan")], square=[1.0])), "not finite"),
        (
            pb.SimulateAsk(
                round=pb.SimulateRound(
                    keys=pb.SimulateKeys(classes=[pb.SimulateClass(name="x", sizes=[100.0], weight=1.0)])
                )
            ),
            "one probability each",
        ),
        *(
            (
                pb.SimulateAsk(
                    round=pb.SimulateRound(
                        rate=[1.0],
                        square=[1.0],
                        keys=pb.SimulateKeys(
                            classes=[
                                pb.SimulateClass(
                                    name="x",
                                    sizes=[100.0],
                                    probabilities=[1.0],
                                    weight=1.0,
                                    arrivals="poisson",
                                    packets=packets,
                                )
                            ]
                        ),
                    )
                ),
                "SimulateClass.packets: .* more than 0",
            )
            for packets in (-1.0, float("nan"), float("inf"))
        ),
    ],
)
def test_asks_that_make_no_sense_are_refused(message, words):
    if not words:
        assert isinstance(decode_ask(message), Prepare)
        return
    with pytest.raises(ContractError, match=words):
        decode_ask(message)


class Wide:
    """Intervals that depend on the busiest element of a path alone."""

    def around(self, figure, value, utilisation, *, moved):
        assert figure == "delay_ms"
        return value - utilisation, value + utilisation


def test_the_last_round_says_intervals_and_how_busy_the_links_between_domains_are():
    variants = (Variant("base"), Variant("slow", values={"capacity_bps": {4: 5e6}}))
    part = WhatIfPart(twin(variants=variants, intervals=Wide()))

    told = part.round(asked([400.0, 400.0], THROUGH, (1, "d/in", "d/out", 0)))

    use = {
        (int(v), POINTS[p]): u
        for v, p, u in zip(told.link_variant, told.link_point, told.link_utilisation, strict=True)
    }
    assert use[0, "d/out"] == pytest.approx(400 * 1000 * 8 / 10e6, rel=1e-3)
    assert use[1, "d/out"] == pytest.approx(400 * 1000 * 8 / 5e6, rel=1e-2)
    assert use[0, "d/in"] == 0.0
    assert told.interval_s[0] == pytest.approx((400 + 100) * 1000 * 8 / 10e6 / 1e3, rel=1e-3)  # r0-r1
    assert told.interval_s[1] == pytest.approx(use[1, "d/out"] / 1e3, rel=1e-3)


def test_how_busy_links_are_is_bandwidth_and_withheld_with_it():
    told = WhatIfPart(twin(), figures=frozenset({"one_way_delay"})).round(asked([400.0], THROUGH))

    assert len(told.link_utilisation) == 0


TRAINS = TrafficClass("measured", (100_000.0,), exponential=True, packets=100.0, measured=True)
UP = (0, "d/cell", "d/app", 0)


def calibrated():
    """The same twin, whose traffic is 100 trains/s of 100 packets from the cell to a host with 4 workers."""
    base = twin(measured=0.0)
    law, service = base.graph.law.copy(), base.graph.service_s.copy()
    law[3], service[3] = Law.STATION, 4e-3
    graph = dataclasses.replace(
        base.graph,
        classes=(TRAINS,),
        law=law,
        service_s=service,
        service_scv=np.ones_like(service),
        capacity_bps=np.full_like(service, 1e9),
        servers=np.full(len(service), 4, np.int32),
    )
    return dataclasses.replace(base, graph=graph)


@pytest.mark.parametrize(("octets", "packets"), [(1_000.0, 1.0), (93_000.0, 93.0), (250_000.0, 250.0)])
def test_measured_traffic_of_another_domain_meets_what_is_measured_here(octets, packets):
    """Each domain has its own length of trains; a station would take one of another's for one of its own."""
    own = WhatIfPart(calibrated()).round(asked([100.0], UP, classes=(TRAINS,)))
    other = TrafficClass("measured", (octets,), exponential=True, packets=packets, measured=True)

    told = WhatIfPart(calibrated()).round(asked([100.0 * 100_000 / octets], UP, classes=(other,)))

    assert told.delay_s[0] == pytest.approx(own.delay_s[0], rel=1e-6)
    assert told.variance_s2[0] == pytest.approx(own.variance_s2[0], rel=1e-6)


def test_single_packets_travel_together_as_those_that_were_measured_here():
    """1,000 packets/s are 10 trains more; taken for 1,000 trains they would need all workers."""
    together = TrafficClass("any", (100_000.0,), packets=100.0)
    as_trains = WhatIfPart(calibrated()).round(asked([10.0], UP, classes=(together,)))

    told = WhatIfPart(calibrated()).round(asked([1000.0], UP, classes=(TrafficClass("any"),)))

    assert told.loss[0] == 0.0
    assert told.delay_s[0] == pytest.approx(as_trains.delay_s[0], rel=1e-6)
