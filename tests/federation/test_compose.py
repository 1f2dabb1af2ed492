from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_views import border, both, chain, end, graph_of, kpis, segment, view

from domain_twin.errors import ContractError, NoPath, NotFound
from domain_twin.model import ANY_POINT, Level, PathMode, Point, PointKind, Severity, View, ViewDelta
from federation.acceptance import check_delta
from federation.compose import ComposedGraph, Member
from federation.paths import find


def codes(graph: ComposedGraph) -> list[tuple[str, str]]:
    return [(finding.code.removeprefix("inter-domain-link."), finding.domain) for finding in graph.findings()]


def pair(one: Point, other: Point) -> ComposedGraph:
    return graph_of(view(one.domain, [one]), view(other.domain, [other]))


def test_a_link_that_both_sides_declare_joins_them_both_ways():
    graph = pair(border("a", "l", "b", metric=3), border("b", "l", "a", metric=7))

    assert graph.findings() == ()
    assert {(c.source, c.target, c.kpis.metric) for c in graph.crossings.values()} == {
        ("a/l", "b/l", 3),
        ("b/l", "a/l", 7),
    }


def test_a_link_of_one_side_only_is_a_finding_and_not_used():
    graph = graph_of(view("a", [border("a", "l", "b")]), view("b", []))

    (finding,) = graph.findings()

    assert (finding.code, finding.severity) == ("inter-domain-link.one-sided", Severity.WARNING)
    assert finding.element == "l"
    assert "b, which does not declare it" in finding.message
    assert finding.remedy
    assert not graph.crossings


def test_a_peer_that_has_not_joined_is_no_mistake():
    graph = graph_of(view("a", [border("a", "l", "b")]))

    (finding,) = graph.findings()

    assert (finding.code, finding.severity) == ("inter-domain-link.peer-absent", Severity.INFO)


def test_a_third_claim_takes_the_link_out_of_use():
    graph = graph_of(
        view("a", [border("a", "l", "b")]),
        view("b", [border("b", "l", "a")]),
        view("c", [border("c", "l", "a")]),
    )

    (finding,) = graph.findings()

    assert finding.code == "inter-domain-link.too-many-claims"
    assert "a, b, c" in finding.message
    assert not graph.crossings


def test_unequal_capacity_is_a_finding_and_the_smaller_one_counts():
    one = border("a", "l", "b", capacity=1000.0, outbound=kpis(0.5, 900.0))
    other = border("b", "l", "a", capacity=400.0, outbound=kpis(0.5, 400.0))

    graph = pair(one, other)

    assert codes(graph) == [("capacity-mismatch", "")]
    assert "1000 Mbit/s" in graph.findings()[0].message
    # 100 of a's 1,000 are carried already; of 400 that leaves 300.
    assert graph.crossings["a/l"].kpis.bandwidth_mbps == 300.0
    assert graph.crossings["b/l"].kpis.bandwidth_mbps == 400.0


def test_a_wrong_peer_is_a_finding_of_who_named_it():
    graph = graph_of(view("a", [border("a", "l", "z")]), view("b", [border("b", "l", "a")]), view("z", []))

    assert codes(graph) == [("peer-mismatch", "a")]
    assert not graph.crossings


def test_a_link_to_oneself_is_a_finding():
    assert codes(graph_of(view("a", [border("a", "l", "a")]))) == [("peer-mismatch", "a")]


def test_a_domain_that_claims_its_link_twice_is_a_finding():
    first = border("a", "l", "b")
    second = replace(border("a", "l", "b"), id="a/l-2")

    graph = graph_of(view("a", [first, second]), view("b", [border("b", "l", "a")]))

    assert codes(graph) == [("claimed-twice", "a")]
    assert not graph.crossings


def test_sides_that_disagree_about_the_state_are_told_so():
    graph = pair(border("a", "l", "b"), border("b", "l", "a", up=False, outbound=None))

    (finding,) = graph.findings()

    assert (finding.code, finding.severity) == ("inter-domain-link.state-disagreement", Severity.INFO)
    assert "up at a and down at b" in finding.message
    assert not graph.crossings


def test_findings_go_when_the_reason_goes():
    graph = graph_of(view("a", [border("a", "l", "b")]), view("b", []))

    graph.put(Member("b", view("b", [border("b", "l", "a")], sequence=2), connected=True))
    mended = graph.findings(), len(graph.crossings)
    graph.remove("b")

    assert mended == ((), 2)
    assert codes(graph) == [("peer-absent", "a")]
    assert not graph.crossings
    assert "b/l" not in graph.points


def test_a_lost_domain_makes_its_links_stale():
    views = chain()
    graph = graph_of(*views)

    graph.put(Member("b", views[1], connected=False))

    assert all(crossing.stale for crossing in graph.crossings.values())
    graph.put(Member("b", views[1], connected=True))
    assert not any(crossing.stale for crossing in graph.crossings.values())


ENDS = ("a/ue", "c/srv", "b/ab", "c/bc2")
EDITS = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.sampled_from(
            ["slower", "narrower", "down", "cut", "drop segment", "drop point", "lost", "node", "again"]
        ),
        st.integers(0, 20),
    ),
    max_size=8,
)


def edited(member: Member, what: str, which: int) -> Member:
    found = member.view
    if what == "lost":
        return replace(member, connected=not member.connected)
    if found is None or (what not in ("drop point", "down", "node", "again") and not found.segments):
        return member
    points, segments = dict(found.points), dict(found.segments)
    if what in ("slower", "narrower", "cut", "drop segment"):
        key = sorted(segments)[which % len(segments)]
        old = segments[key]
        if what == "drop segment":
            del segments[key]
        elif what == "cut":
            segments[key] = replace(old, truncated=not old.truncated)
        else:
            was = old.options[0]
            new = replace(was, delay_ms=was.delay_ms + which, bandwidth_mbps=was.bandwidth_mbps / (1 + which))
            segments[key] = replace(old, current=new, options=(new,))
    elif points:
        name = sorted(points)[which % len(points)]
        if what == "down":
            points[name] = replace(points[name], up=not points[name].up)
        elif what == "drop point":
            del points[name]
            segments = {key: item for key, item in segments.items() if name not in key}
        elif what == "node":
            worst = segment(ANY_POINT, ANY_POINT, kpis(50.0, 10.0, metric=20))
            return replace(
                member, view=replace(found, level=Level.NODE, segments={(ANY_POINT, ANY_POINT): worst})
            )
        elif what == "again":
            return replace(member, view=next(item for item in chain() if item.domain == member.domain))
    return replace(member, view=replace(found, points=points, segments=segments))


def told(graph: ComposedGraph) -> list[object]:
    """All that a graph answers, refusals included."""
    answers: list[object] = [graph.findings(), sorted(graph.points), dict(graph.crossings)]
    answers += [graph.incomplete(domain, by_loss=by_loss) for domain in "abc" for by_loss in (True, False)]
    for source in ENDS:
        for target in ENDS:
            for mode in PathMode:
                try:
                    answers.append(find(graph, source, target, mode=mode, k=2, now=0))
                except (NoPath, NotFound) as refusal:
                    answers.append(str(refusal))
    return answers


@settings(max_examples=40, deadline=None)
@given(EDITS)
def test_a_graph_kept_up_to_date_answers_like_a_new_one(edits):
    members = [Member(item.domain, item, connected=True) for item in chain()]
    graph = ComposedGraph(members)
    told(graph)

    for which, what, where in edits:
        members[which] = edited(members[which], what, where)
        graph.put(members[which])
        told(graph)

    assert told(graph) == told(ComposedGraph(members))


def delta_of(found: View, **changes) -> ViewDelta:
    complete = ViewDelta(
        found.domain,
        found.agreement,
        found.level,
        None,
        found.version,
        tuple(found.points.values()),
        tuple(found.segments.values()),
    )
    return replace(complete, **changes)


GOOD = view("a", [end("a", "x"), end("a", "y")], both("a/x", "a/y", kpis()))


def test_a_view_that_makes_sense_is_accepted():
    check_delta(delta_of(GOOD), "a")


BAD = {
    "of another domain": delta_of(GOOD, domain="b"),
    "another's point": delta_of(GOOD, points=(end("b", "x"),)),
    "a point that says it is another's": delta_of(GOOD, points=(replace(end("a", "x"), domain="b"),)),
    "a border without a link": delta_of(GOOD, points=(Point("a/x", "a", PointKind.BORDER),)),
    "an end point with a link": delta_of(GOOD, points=(end("a", "x", link_id="l"),)),
    "an inner node in a mesh": delta_of(GOOD, points=(Point("a/x", "a", PointKind.NODE),)),
    "a segment of another": delta_of(GOOD, segments=(segment("a/x", "b/y"),)),
    "a segment to itself": delta_of(GOOD, segments=(segment("a/x", "a/x"),)),
    "a negative delay": delta_of(GOOD, segments=(segment("a/x", "a/y", kpis(-1.0)),)),
    "no number": delta_of(GOOD, segments=(segment("a/x", "a/y", kpis(float("nan"))),)),
    "a loss above 1": delta_of(GOOD, segments=(segment("a/x", "a/y", kpis(loss=1.5)),)),
    "no number in an option": delta_of(
        GOOD, segments=(segment("a/x", "a/y", kpis(), [kpis(1.0, float("nan"))]),)
    ),
    "options out of order": delta_of(
        GOOD, segments=(segment("a/x", "a/y", kpis(), [kpis(2.0), kpis(1.0, 1.0)]),)
    ),
    "too many options": delta_of(GOOD, segments=(segment("a/x", "a/y", kpis(), [kpis()] * 65),)),
    "an infinite capacity": delta_of(GOOD, points=(border("a", "l", "b", capacity=float("inf")),)),
    "a node view of pairs": delta_of(GOOD, level=Level.NODE),
}


@pytest.mark.parametrize("name", BAD)
def test_a_view_that_cannot_be_is_refused(name):
    with pytest.raises(ContractError):
        check_delta(BAD[name], "a")
