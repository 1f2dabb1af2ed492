from dataclasses import replace

import pytest
from small_views import chain, graph_of, kpis

from domain_twin.model import Objective, Outcome, Service
from federation.compose import ComposedGraph, Member
from federation.services import evaluate

SERVICE = Service("s1", "video", "a/ue", "c/srv", Objective(delay_ms=10.0))


def with_b(graph: ComposedGraph, **figures) -> ComposedGraph:
    """b's way from ab to bc gets other figures."""
    old = graph.members["b"].view
    assert old is not None
    key = ("b/ab", "b/bc")
    told = kpis(**{"delay": 1.0, "metric": 1, "shared_risks": frozenset({"r1"}), **figures})
    segments = {**old.segments, key: replace(old.segments[key], current=told, options=(told,))}
    graph.put(Member("b", replace(old, segments=segments), connected=True))
    return graph


def test_a_service_has_its_path_budget_and_verdict():
    status = evaluate(SERVICE, graph_of(*chain()), None, now=7)

    assert status.path is not None
    assert (status.path.total.delay_ms, status.met, status.at, status.cause) == (5.0, True, 7, "")
    assert sum(share.share_ms for share in status.budget) == pytest.approx(10.0)
    assert [share.domain for share in status.budget] == ["a", "", "b", "c"]


def test_nothing_notable_is_no_cause_and_shares_hold():
    graph = graph_of(*chain())
    first = evaluate(SERVICE, graph, None, now=1)

    second = evaluate(SERVICE, with_b(graph, delay=1.2), first, now=2)

    assert second.cause == ""
    assert [s.share_ms for s in second.budget] == [s.share_ms for s in first.budget]
    assert second.budget[2].used_ms == 1.2


def test_a_new_route_inside_a_domain_names_the_domain_only():
    graph = graph_of(*chain())
    first = evaluate(SERVICE, graph, None, now=1)

    second = evaluate(
        SERVICE, with_b(graph, delay=3.0, metric=4, shared_risks=frozenset({"r9"})), first, now=2
    )

    assert second.cause == "path changed inside b; delay 5.000 ms to 7.000 ms"
    assert second.met is True


def test_a_new_route_of_equal_metric_shows_by_its_risks():
    graph = graph_of(*chain())
    first = evaluate(SERVICE, graph, None, now=1)

    second = evaluate(SERVICE, with_b(graph, shared_risks=frozenset({"r9"})), first, now=2)

    assert second.cause == "path changed inside b"


def test_a_new_route_between_domains_names_the_links():
    graph = graph_of(*chain())
    first = evaluate(SERVICE, graph, None, now=1)
    c = graph.members["c"].view
    assert c is not None
    down = replace(c.points["c/bc"], up=False, outbound=None)

    graph.put(Member("c", replace(c, points={**c.points, "c/bc": down}), connected=True))
    second = evaluate(SERVICE, graph, first, now=2)

    assert second.cause == (
        "path changed between domains: now by bc2, no longer by bc; delay 5.000 ms to 8.500 ms"
    )


def test_a_part_that_misses_its_share_gets_the_slack_of_the_others():
    graph = graph_of(*chain())
    first = evaluate(SERVICE, graph, None, now=1)

    second = evaluate(SERVICE, with_b(graph, delay=4.0), first, now=2)
    shares = {share.domain: share for share in second.budget}

    assert first.budget[2].share_ms == 2.0
    assert shares["b"].share_ms == pytest.approx(4.2)
    assert all(share.slack_ms >= 0 for share in second.budget)
    assert sum(share.share_ms for share in second.budget) == pytest.approx(10.0)
    assert second.cause == "delay 5.000 ms to 8.000 ms, most of it at b (+3.000 ms)"


def test_a_missed_objective_shows_who_missed():
    graph = graph_of(*chain())
    first = evaluate(SERVICE, graph, None, now=1)

    second = evaluate(SERVICE, with_b(graph, delay=40.0), first, now=2)

    assert second.met is False
    assert [share.domain for share in second.budget if share.slack_ms < 0] == ["b"]
    assert second.cause.endswith("; objective missed")


def test_a_lost_domain_is_in_cause_and_budget():
    graph = graph_of(*chain())
    first = evaluate(SERVICE, graph, None, now=1)

    graph.put(Member("b", graph.members["b"].view, connected=False, reason="connection lost"))
    lost = evaluate(SERVICE, graph, first, now=2)
    graph.put(Member("b", graph.members["b"].view, connected=True))
    back = evaluate(SERVICE, graph, lost, now=3)

    assert lost.cause == "b: stale (connection lost)"
    assert {share.domain: share.outcome for share in lost.budget}["b"] is Outcome.STALE
    assert back.cause == "b is back"
    assert all(share.outcome is Outcome.OK for share in back.budget)


def test_a_path_that_goes_and_comes_back_is_told_once_each():
    graph = graph_of(*chain())
    first = evaluate(SERVICE, graph, None, now=1)
    b = graph.members["b"].view
    assert b is not None

    graph.put(Member("b", replace(b, segments={}), connected=True))
    gone = evaluate(SERVICE, graph, first, now=2)
    still = evaluate(SERVICE, graph, gone, now=3)
    graph.put(Member("b", b, connected=True))
    back = evaluate(SERVICE, graph, still, now=4)

    assert (gone.path, gone.met, gone.budget) == (None, False, ())
    assert "devices forward nothing from a/ue to c/srv" in gone.cause
    assert still.cause == ""
    assert back.cause == "there is a path again, 5.000 ms; objective met"


def test_before_its_domains_join_a_service_has_no_verdict():
    status = evaluate(SERVICE, ComposedGraph([Member("a", None, connected=False)]), None, now=1)

    assert (status.path, status.met) == (None, None)


@pytest.mark.parametrize(
    ("objective", "met"),
    [
        (Objective(), None),
        (Objective(delay_ms=4.9), False),
        (Objective(loss=0.0), True),
        (Objective(bandwidth_mbps=1000.0), True),
        (Objective(bandwidth_mbps=1001.0), False),
        (Objective(delay_ms=10.0, bandwidth_mbps=1001.0), False),
        (Objective(availability=0.9999), None),
    ],
)
def test_verdicts(objective, met):
    status = evaluate(replace(SERVICE, objective=objective), graph_of(*chain()), None, now=0)

    assert status.met is met


def test_what_a_domain_withholds_cannot_be_judged():
    graph = with_b(graph_of(*chain()), loss=1.0, bandwidth=0.0)

    by_loss = evaluate(replace(SERVICE, objective=Objective(loss=0.01)), graph, None, now=0)
    by_width = evaluate(replace(SERVICE, objective=Objective(bandwidth_mbps=1.0)), graph, None, now=0)

    assert (by_loss.met, by_width.met) == (None, None)
