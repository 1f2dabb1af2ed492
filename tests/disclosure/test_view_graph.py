"""A view as triples: nothing but what the view holds, in step with its changes."""

from __future__ import annotations

from dataclasses import replace

import pyoxigraph as ox
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_domains import (
    border,
    both_ways,
    cell,
    kpis,
    network,
    networks,
    published_of,
    with_link,
)

from domain_twin.disclosure.policy import Action, Grant
from domain_twin.disclosure.precision import FIGURES, Precision
from domain_twin.disclosure.view_graph import ViewGraph, ViewSource, view_quads
from domain_twin.disclosure.views import ViewBuilder
from domain_twin.model import Level, Network, View
from domain_twin.semantic import names
from domain_twin.semantic.live import LiveGraph
from domain_twin.semantic.store import SemanticStore
from domain_twin.semantic.topology import ndt

LAB = network(
    [*both_ways("a", "b"), *both_ways("b", "c")],
    borders=[border("a", "urn:ndt:idl:r-t-1", "ran"), border("c", "urn:ndt:idl:t-c-1", "core")],
    cells=[cell("b")],
)


def grant_of(level: Level = Level.MESH, figures: frozenset[str] = FIGURES, agreement: str = "deal") -> Grant:
    return Grant(agreement, Action.VIEW, level, figures, Precision(0.5, 10.0, 1e-3), 100.0)


def builder_of(grant: Grant, found: Network) -> ViewBuilder:
    return ViewBuilder(grant, published=published_of(found), risk_salt=b"salt", epoch="e")


def view_of(grant: Grant, found: Network) -> View:
    builder = builder_of(grant, found)
    builder.update(found, now=10**18)
    assert builder.view is not None
    return builder.view


def text_of(quads: list[ox.Quad]) -> str:
    return "\n".join(str(quad) for quad in quads)


def test_points_and_segments_have_the_names_that_peers_know() -> None:
    grant = grant_of()
    view = view_of(grant, LAB)
    quads = view_quads(grant, view)
    subjects = {quad.subject for quad in quads}

    assert ox.NamedNode(names.point("transport/idl-r-t-1")) in subjects
    assert ox.NamedNode(names.segment("transport/idl-r-t-1", "transport/idl-t-c-1")) in subjects
    assert ox.NamedNode(names.inter_domain_link("urn:ndt:idl:r-t-1")) in subjects
    assert {quad.graph_name for quad in quads} == {ox.NamedNode(names.view_graph("deal"))}


@settings(max_examples=40, deadline=None)
@given(found=networks(), level=st.sampled_from([Level.NODE, Level.MESH]))
def test_no_inner_name_is_in_the_graph_of_a_coarse_view(found: Network, level: Level) -> None:
    grant = grant_of(level)
    text = text_of(view_quads(grant, view_of(grant, found)))

    inner = [*found.nodes, *found.links, *found.functions, *found.cells, *found.termination_points]
    assert not [name for name in inner if name in text]
    assert "_:" not in text


@settings(max_examples=30, deadline=None)
@given(found=networks(), figures=st.sets(st.sampled_from(sorted(FIGURES))))
def test_figures_that_are_not_granted_are_not_in_the_graph(found: Network, figures: set[str]) -> None:
    grant = grant_of(figures=frozenset(figures))
    said = {quad.predicate for quad in view_quads(grant, view_of(grant, found))}

    words = {
        "one_way_delay": "delayMs",
        "delay_variance": "delayVarianceMs2",
        "loss_ratio": "lossRatio",
        "bandwidth": "bandwidthMbps",
    }
    assert not [name for figure, name in words.items() if figure not in figures and ndt(name) in said]
    assert "bandwidth" in figures or ndt("capacityMbps") not in said


def test_figures_are_those_of_the_view_and_rounded_as_it_is() -> None:
    grant = grant_of()
    view = view_of(grant, LAB)
    key = ("transport/idl-r-t-1", "transport/idl-t-c-1")
    current = view.segments[key].current
    subject = ox.NamedNode(names.segment(*key))
    said = {q.predicate: q.object for q in view_quads(grant, view) if q.subject == subject}

    assert current is not None
    assert said[ndt("delayMs")] == ox.Literal(current.delay_ms)
    assert current.delay_ms % 0.5 == 0.0


def test_a_figure_that_is_not_known_is_left_out() -> None:
    unmeasured = network(
        both_ways("a", "b", figures=kpis(None)),
        borders=[border("a", "urn:ndt:idl:r-t-1", "ran"), border("b", "urn:ndt:idl:t-c-1", "core")],
    )
    grant = grant_of()
    text = text_of(view_quads(grant, view_of(grant, unmeasured)))

    assert "INF" not in text
    assert "NaN" not in text


def test_a_node_view_has_one_segment_without_ends() -> None:
    grant = grant_of(Level.NODE)
    quads = view_quads(grant, view_of(grant, LAB))

    assert len({q.subject for q in quads if q.object == ndt("Segment")}) == 1
    assert ndt("hasSource") not in {q.predicate for q in quads}


@st.composite
def histories(draw: st.DrawFn) -> list[Network]:
    first = draw(networks())
    made = [first]
    for _ in range(draw(st.integers(0, 4))):
        identity = draw(st.sampled_from(sorted(made[-1].links)))
        made.append(
            with_link(
                made[-1],
                identity,
                up=draw(st.booleans()),
                metric=draw(st.integers(1, 4)),
                kpis=kpis(draw(st.sampled_from([0.1, 3.0]))),
            )
        )
    last = made[-1]
    if draw(st.booleans()) and last.termination_points:
        gone = draw(st.sampled_from(sorted(last.termination_points)))
        left = {key: point for key, point in last.termination_points.items() if key != gone}
        made.append(replace(last, termination_points=left))
    return made


@settings(max_examples=30, deadline=None)
@given(history=histories(), level=st.sampled_from(list(Level)))
def test_following_a_view_gives_what_making_it_anew_gives(history: list[Network], level: Level) -> None:
    grant = grant_of(level)
    builder, graph = builder_of(grant, history[0]), ViewGraph(grant)
    followed, anew = SemanticStore(), SemanticStore()
    for place, found in enumerate(history):
        builder.update(found, now=place * 10**10)
        assert builder.view is not None
        followed.apply(*graph.update(builder.view))
    assert builder.view is not None
    anew.apply([], view_quads(grant, builder.view))

    assert set(followed.quads()) == set(anew.quads())


def test_two_points_that_claim_one_link_share_it_until_both_are_gone() -> None:
    twice = network(
        both_ways("a", "b"),
        borders=[
            border("a", "urn:ndt:idl:r-t-1", "ran"),
            border("b", "urn:ndt:idl:r-t-1", "ran", suffix="-x"),
        ],
    )
    grant = grant_of()
    both = view_of(grant, twice)
    one = replace(both, points=dict(list(both.points.items())[:1]), segments={})
    graph, store = ViewGraph(grant), SemanticStore()
    store.apply(*graph.update(both))

    store.apply(*graph.update(one))

    joined = ox.NamedNode(names.inter_domain_link("urn:ndt:idl:r-t-1"))
    assert len(list(store.quads(joined))) == 3


async def test_a_closed_view_takes_its_graph_with_it() -> None:
    fine, coarse = grant_of(Level.MESH), grant_of(Level.NODE)
    held = {("deal", grant.level): (grant, view_of(grant, LAB)) for grant in (coarse, fine)}
    store = SemanticStore()
    live = LiveGraph(store)
    live.add(ViewSource(lambda: held))
    await live.write(everything=True)
    level = ndt("level")
    name = names.view_graph("deal")
    shown = ox.NamedNode(names.record("agreement", f"{LAB.domain}/deal") + "/view")
    finest = {q.object for q in store.quads(shown, level)}

    del held["deal", Level.MESH]
    live.note("views")
    await live.write(everything=True)
    left = {q.object for q in store.quads(shown, level)}
    del held["deal", Level.NODE]
    live.note("views")
    await live.write(everything=True)

    assert (finest, left) == ({ox.Literal("mesh")}, {ox.Literal("node")})
    assert name not in store.graphs()
    await live.close()


async def test_views_of_an_earlier_run_are_dropped() -> None:
    store = SemanticStore()
    grant = grant_of(agreement="of-last-year")
    store.apply([], view_quads(grant, view_of(grant, LAB)))
    live = LiveGraph(store)

    live.add(ViewSource(dict))
    await live.write(everything=True)

    assert names.view_graph("of-last-year") not in store.graphs()
    await live.close()


@pytest.mark.parametrize("name", ["a b", 'x"y', "<z>", "ä/ö", "a}b"])
def test_agreements_and_aliases_with_odd_characters_make_iris(name: str) -> None:
    grant = grant_of(agreement=name)
    view = view_of(grant, LAB)
    odd = replace(next(iter(view.points.values())), id=f"transport/{name}", role=name)
    view = replace(view, points={odd.id: odd}, segments={})
    store = SemanticStore()

    store.replace(names.view_graph(name), view_quads(grant, view))

    assert ox.Literal(odd.id) in {q.object for q in store.quads(predicate=ndt("alias"))}
