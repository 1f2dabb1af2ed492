import math
from dataclasses import replace
from itertools import pairwise

import pytest
from small_views import border, both, chain, end, graph_of, kpis, segment, view

from domain_twin.errors import NoPath, NotFound
from domain_twin.model import ANY_POINT, Level, Outcome, PathMode, Point, PointKind, Requirement
from federation.compose import ComposedGraph, Member
from federation.paths import find, satisfied

BEST = PathMode.BEST


def links(path) -> list[str]:
    return [hop.link_id for hop in path.hops if hop.link_id]


def changed(views, domain: str, key: tuple[str, str], **edits) -> ComposedGraph:
    """The chain with one segment replaced."""
    found = []
    for old in views:
        found.append(old)
        if old.domain == domain:
            found[-1] = replace(old, segments={**old.segments, key: replace(old.segments[key], **edits)})
    return graph_of(*found)


def test_current_is_the_path_of_least_metric_with_the_sum_of_its_parts():
    answer = find(graph_of(*chain()), "a/ue", "c/srv", now=42)

    (path,) = answer.paths
    assert [(hop.domain, hop.source, hop.target) for hop in path.hops] == [
        ("a", "a/ue", "a/ab"),
        ("", "a/ab", "b/ab"),
        ("b", "b/ab", "b/bc"),
        ("", "b/bc", "c/bc"),
        ("c", "c/bc", "c/srv"),
    ]
    assert path.total.delay_ms == 2.0 + 0.5 + 1.0 + 0.5 + 1.0
    assert path.total.metric == 5
    assert path.total.bandwidth_mbps == 1000.0
    assert path.total.shared_risks == {"ab", "b/r1", "bc"}
    assert answer.answered_at == 42
    assert [(o.domain, o.outcome) for o in answer.domains] == [(d, Outcome.OK) for d in "abc"]


def test_current_follows_the_metric_even_where_another_path_is_faster():
    graph = changed(chain(), "b", ("b/ab", "b/bc"), current=kpis(100.0, metric=1), options=(kpis(0.1),))

    now = find(graph, "a/ue", "c/srv", now=0).paths[0]
    best = find(graph, "a/ue", "c/srv", mode=BEST, now=0).paths[0]

    assert now.total.delay_ms == 104.0
    assert best.total.delay_ms == 4.1


def test_best_takes_the_wider_way_when_bandwidth_is_asked_for():
    graph = graph_of(*chain())
    wide = Requirement(bandwidth_mbps=5000.0)

    (path,) = find(graph, "a/ue", "c/srv", mode=BEST, requirement=wide, now=0).paths

    assert links(path) == ["ab", "bc2"]
    assert path.total.bandwidth_mbps == 8000.0
    assert satisfied(path, wide)


def test_a_loss_bound_takes_the_slower_way_that_loses_less():
    lossy = (kpis(1.0, loss=0.02, metric=1), kpis(3.0, loss=0.001, metric=1))
    graph = changed(chain(), "b", ("b/ab", "b/bc"), options=lossy)

    (path,) = find(graph, "a/ue", "c/srv", mode=BEST, requirement=Requirement(loss=0.01), now=0).paths

    assert links(path) == ["ab", "bc"]
    assert path.total.delay_ms == 7.0
    assert path.total.loss == pytest.approx(0.001)


def test_alternatives_are_distinct_loopless_and_in_order_of_delay():
    answer = find(graph_of(*chain()), "a/ue", "c/srv", mode=BEST, k=5, now=0)

    routes = [tuple(hop.source for hop in path.hops) for path in answer.paths]
    delays = [path.total.delay_ms for path in answer.paths]

    assert links(answer.paths[0]) == ["ab", "bc"]
    assert links(answer.paths[1]) == ["ab", "bc2"]
    assert len(set(routes)) == len(routes)
    assert all(len(set(route)) == len(route) for route in routes)
    assert delays == sorted(delays)


def test_alternatives_all_meet_the_requirement():
    answer = find(
        graph_of(*chain()),
        "a/ue",
        "c/srv",
        mode=BEST,
        k=5,
        requirement=Requirement(bandwidth_mbps=2000.0),
        now=0,
    )

    assert [links(path) for path in answer.paths] == [["ab", "bc2"]]


def test_bounds_hold_for_the_whole_of_an_alternative():
    bound = Requirement(delay_ms=6.0)

    answer = find(graph_of(*chain()), "a/ue", "c/srv", mode=BEST, k=5, requirement=bound, now=0)

    assert answer.paths
    assert all(path.total.delay_ms <= 6.0 for path in answer.paths)


def test_old_figures_inside_a_connected_domain_are_told():
    answer = find(changed(chain(), "b", ("b/ab", "b/bc"), stale=True), "a/ue", "c/srv", now=0)

    assert [hop.stale for hop in answer.paths[0].hops] == [False, False, True, False, False]
    outcome = next(outcome for outcome in answer.domains if outcome.domain == "b")
    assert (outcome.outcome, outcome.reason) == (
        Outcome.OK,
        "a device on its part is silent: its figures are old",
    )


def parallel(*, tokens: tuple[str, str] = ("r1", "r2"), wide: str = "r1") -> ComposedGraph:
    """Two links from a to b; b reaches its end point from either, over risks."""
    a = view(
        "a",
        [end("a", "x"), border("a", "l1", "b"), border("a", "l2", "b")],
        [*both("a/x", "a/l1", kpis(1.0)), *both("a/x", "a/l2", kpis(2.0))],
    )
    options = [
        kpis(1.0, shared_risks=frozenset({tokens[0]})),
        kpis(9.0, 5000.0, shared_risks=frozenset({wide})),
    ]
    b = view(
        "b",
        [end("b", "y"), border("b", "l1", "a"), border("b", "l2", "a")],
        [
            segment("b/l1", "b/y", options[0], options),
            segment("b/l2", "b/y", kpis(1.0, shared_risks=frozenset({tokens[1]}))),
        ],
    )
    return graph_of(a, b)


def test_a_disjoint_pair_shares_neither_links_nor_risks():
    answer = find(parallel(), "a/x", "b/y", mode=BEST, disjoint=True, now=0)

    assert [links(path) for path in answer.paths] == [["l1"], ["l2"]]


def test_a_shared_risk_is_avoided_by_a_slower_option():
    answer = find(
        parallel(tokens=("same", "same"), wide="other"), "a/x", "b/y", mode=BEST, disjoint=True, now=0
    )

    first, second = answer.paths
    assert sorted([links(first), links(second)]) == [["l1"], ["l2"]]
    assert first.total.shared_risks.isdisjoint(second.total.shared_risks)
    assert {first.total.delay_ms, second.total.delay_ms} == {3.5, 10.5}


def test_paths_that_share_a_risk_are_no_disjoint_pair():
    with pytest.raises(NoPath, match="none of the 3 there are leaves a second one"):
        find(parallel(tokens=("same", "same"), wide="same"), "a/x", "b/y", mode=BEST, disjoint=True, now=0)


def test_equal_tokens_of_different_domains_are_different_risks():
    views = [
        view(
            "a",
            [end("a", "x"), border("a", "l1", "b"), border("a", "l2", "b")],
            [
                segment("a/x", "a/l1", kpis(shared_risks=frozenset({"7f"}))),
                segment("a/x", "a/l2", kpis(shared_risks=frozenset({"80"}))),
            ],
        ),
        view(
            "b",
            [end("b", "y"), border("b", "l1", "a"), border("b", "l2", "a")],
            [
                segment("b/l1", "b/y", kpis(shared_risks=frozenset({"80"}))),
                segment("b/l2", "b/y", kpis(shared_risks=frozenset({"7f"}))),
            ],
        ),
    ]

    assert len(find(graph_of(*views), "a/x", "b/y", mode=BEST, disjoint=True, now=0).paths) == 2


@pytest.mark.parametrize(
    ("requirement", "words"),
    [
        (
            Requirement(bandwidth_mbps=9000.0),
            "bandwidth of 9000 Mbit/s alone stands in the way (the fastest path has 1000 Mbit/s free)",
        ),
        (Requirement(delay_ms=3.0), "delay of 3 ms alone stands in the way (the least delay is 5.000 ms)"),
        (
            Requirement(delay_ms=6.0, bandwidth_mbps=5000.0),
            "delay of 6 ms alone stands in the way (the least delay is 8.500 ms);"
            " the bandwidth of 5000 Mbit/s alone stands in the way",
        ),
        (Requirement(delay_ms=1.0, bandwidth_mbps=9000.0), "more than one of these bounds"),
    ],
)
def test_no_path_says_which_bound_stands_in_the_way(requirement, words):
    with pytest.raises(NoPath) as caught:
        find(graph_of(*chain()), "a/ue", "c/srv", mode=BEST, requirement=requirement, now=0)

    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("c/serv", "did you mean c/srv?"),
        ("ue", "did you mean a/ue?"),
        ("no-such-thing", "name it domain/alias"),
        ("mars/rover", "there is no domain 'mars'; there are a, b, c"),
        ("a/something-else", "a publishes a/ue"),
        ("b/anything", "b publishes nothing"),
    ],
)
def test_an_unknown_end_point_is_named_with_what_there_is(name, words):
    with pytest.raises(NotFound) as caught:
        find(graph_of(*chain()), "a/ue", name, now=0)

    assert words in str(caught.value)


def test_a_domain_that_has_shared_nothing_says_why():
    graph = graph_of(*chain())
    graph.put(Member("d", None, connected=True, reason="its view was refused"))

    with pytest.raises(NotFound, match="d has not said yet what it shares: its view was refused"):
        find(graph, "a/ue", "d/host", now=0)


def test_an_end_that_is_down_has_no_path():
    a, b, c = chain()
    a = replace(a, points={**a.points, "a/ue": replace(a.points["a/ue"], up=False)})

    with pytest.raises(NoPath, match="a/ue is down or locked"):
        find(graph_of(a, b, c), "a/ue", "c/srv", now=0)


def test_one_end_is_no_path():
    with pytest.raises(NoPath, match="both ends"):
        find(graph_of(*chain()), "a/ue", "a/ue", now=0)


@pytest.mark.parametrize("mode", list(PathMode))
def test_what_nothing_joins_has_no_path(mode):
    a, _, c = chain()

    with pytest.raises(NoPath, match=r"nothing.*a/ue"):
        find(graph_of(a, c), "a/ue", "c/srv", mode=mode, now=0)


def test_a_lost_domain_is_marked_in_outcomes_and_hops():
    graph = graph_of(*chain())
    graph.put(Member("b", graph.members["b"].view, connected=False, reason="silent for 15 s"))
    graph.put(Member("x", None, connected=False))

    answer = find(graph, "a/ue", "c/srv", now=0)

    outcomes = {outcome.domain: (outcome.outcome, outcome.reason) for outcome in answer.domains}
    assert outcomes["b"] == (Outcome.STALE, "silent for 15 s")
    assert outcomes["a"] == (Outcome.OK, "")
    assert outcomes["x"][0] is Outcome.UNREACHABLE
    assert [hop.stale for hop in answer.paths[0].hops] == [False, True, True, True, False]


def test_an_unmeasured_part_stays_on_the_current_path_and_is_named():
    graph = changed(chain(), "b", ("b/ab", "b/bc"), current=kpis(math.inf, metric=1, loss=1.0), options=())

    answer = find(graph, "a/ue", "c/srv", now=0)
    best = find(graph, "a/ue", "c/srv", mode=BEST, now=0)

    assert links(answer.paths[0]) == ["ab", "bc"]
    assert answer.paths[0].total.delay_ms == math.inf
    assert {o.domain: o.outcome for o in answer.domains}["b"] is Outcome.NO_DATA
    assert links(best.paths[0]) == ["ab", "bc2"]


def test_withheld_delays_leave_paths_that_promise_none():
    views = [
        replace(
            item,
            segments={
                key: replace(one, options=tuple(replace(o, delay_ms=math.inf) for o in one.options))
                for key, one in item.segments.items()
            },
        )
        for item in chain()
    ]

    (path,) = find(graph_of(*views), "a/ue", "c/srv", mode=BEST, now=0).paths

    assert path.total.delay_ms == math.inf
    with pytest.raises(NoPath):
        find(graph_of(*views), "a/ue", "c/srv", mode=BEST, requirement=Requirement(delay_ms=1e9), now=0)


def test_a_path_may_cross_a_domain_twice():
    """a's two halves are joined by b alone."""
    a = view(
        "a",
        [end("a", "x"), end("a", "y"), border("a", "l1", "b"), border("a", "l2", "b")],
        [*both("a/x", "a/l1", kpis(1.0, metric=1)), *both("a/y", "a/l2", kpis(1.0, metric=1))],
    )
    b = view("b", [border("b", "l1", "a"), border("b", "l2", "a")], both("b/l1", "b/l2", kpis(1.0, metric=1)))

    for mode in PathMode:
        (path,) = find(graph_of(a, b), "a/x", "a/y", mode=mode, now=0).paths
        assert [hop.domain for hop in path.hops] == ["a", "", "b", "", "a"]


def test_an_end_point_is_never_crossed():
    a, b, c = chain()
    # A cell of b with absurdly good figures on both sides.
    points = {**b.points, "b/cell": end("b", "cell")}
    cheap = {
        (s.source, s.target): s
        for one in ("b/ab", "b/bc", "b/bc2")
        for s in both(one, "b/cell", kpis(0.0, metric=0))
    }
    b = replace(b, points=points, segments={**b.segments, **cheap})

    for mode in PathMode:
        (path,) = find(graph_of(a, b, c), "a/ue", "c/srv", mode=mode, now=0).paths
        assert "b/cell" not in [hop.source for hop in path.hops]


def test_two_segments_of_a_mesh_never_follow_each_other():
    a, b, c = chain()
    # The direct way is dear, by the other border point it would be cheap: nobody said that this is possible.
    segments = {
        **b.segments,
        ("b/ab", "b/bc2"): segment("b/ab", "b/bc2", kpis(0.0, metric=0)),
        ("b/bc2", "b/bc"): segment("b/bc2", "b/bc", kpis(0.0, metric=0)),
        ("b/ab", "b/bc"): segment("b/ab", "b/bc", kpis(5.0, metric=1)),
    }

    (path,) = find(graph_of(a, replace(b, segments=segments), c), "a/ue", "c/bc", mode=BEST, now=0).paths

    inside = [hop.domain for hop in path.hops]
    assert not any(one and one == other for one, other in pairwise(inside))


def test_a_node_view_expands_to_all_pairs_and_is_an_approximation():
    a, b, c = chain()
    whole = segment(ANY_POINT, ANY_POINT, kpis(20.0, 10.0, metric=3))
    b = replace(b, level=Level.NODE, segments={(ANY_POINT, ANY_POINT): whole})
    graph = graph_of(a, b, c)

    for mode in PathMode:
        answer = find(graph, "a/ue", "c/srv", mode=mode, now=0)
        assert answer.inner_approximation
        assert answer.paths[0].total.delay_ms == 24.0
    assert not find(graph_of(*chain()), "a/ue", "c/srv", mode=BEST, now=0).inner_approximation


def test_a_native_view_is_walked_node_by_node():
    a, b, c = chain()
    nodes = [Point(f"b/{name}", "b", PointKind.NODE) for name in ("r1", "r2")]
    segments = [
        *both("b/ab", "b/r1", kpis(0.0, math.inf)),
        *both("b/r1", "b/r2", kpis(3.0, metric=2)),
        *both("b/r2", "b/bc", kpis(0.0, math.inf)),
    ]
    b = view("b", [*b.points.values(), *nodes], segments, level=Level.NATIVE)

    (path,) = find(graph_of(a, b, c), "a/ue", "c/srv", now=0).paths

    assert [hop.source for hop in path.hops if hop.domain == "b"] == ["b/ab", "b/r1", "b/r2"]
    assert path.total.delay_ms == 7.0


def test_a_cut_list_makes_only_bounded_answers_approximate():
    cut = (kpis(1.0, 10.0), kpis(2.0, 20.0))
    graph = changed(chain(), "b", ("b/ab", "b/bc"), options=cut, truncated=True)
    lossy = (kpis(1.0, 10.0, loss=0.1), kpis(2.0, 10.0, loss=0.01))
    by_loss = changed(chain(), "b", ("b/ab", "b/bc"), options=lossy, truncated=True)

    def approximate(graph: ComposedGraph, **bounds: float) -> bool:
        asked = Requirement(**bounds)
        return find(graph, "a/ue", "c/srv", mode=BEST, requirement=asked, now=0).inner_approximation

    assert not approximate(graph)
    assert approximate(graph, bandwidth_mbps=5.0)
    # A list that keeps options better in loss alone was not cut in delay and bandwidth.
    assert not approximate(by_loss, bandwidth_mbps=5.0)
    assert approximate(by_loss, loss=0.5)
