"""The network as triples: what an element makes, and that following changes gives what making anew gives."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pyoxigraph as ox
from hypothesis import given, settings
from hypothesis import strategies as st

from domain_twin.model import DELAY, Host, Kpi, Network
from domain_twin.semantic.names import (
    domain_node,
    element,
    figures_graph,
    inter_domain_link,
    topology_graph,
)
from domain_twin.semantic.store import SemanticStore
from domain_twin.semantic.topology import Topology, figure_quads, ndt, network_quads

sys.path.insert(0, str(Path(__file__).parents[1] / "disclosure"))
from small_domains import border, both_ways, cell, function, host, kpis, link_id, network, networks, with_link

TYPE = ox.NamedNode("http://www.w3.org/1999/02/22-rdf-syntax-ns#type")
LAB = network(
    both_ways("a", "b"),
    borders=[border("a", "urn:ndt:idl:r-t-1", "ran")],
    cells=[cell("b")],
    functions=[function("b", "UPF")],
    hosts=[replace(host("b"), site="riverside", applications=("cache",))],
)


def objects(quads: list[ox.Quad], subject: str, name: str) -> set[str]:
    return {
        quad.object.value
        for quad in quads
        if quad.subject == ox.NamedNode(subject)
        and quad.predicate == ndt(name)
        and isinstance(quad.object, (ox.NamedNode, ox.Literal))
    }


def test_a_link_joins_its_termination_points() -> None:
    quads = network_quads(LAB)
    name = link_id("a", "b")
    subject = element("transport", "link", name)

    assert ox.Quad(
        ox.NamedNode(subject), TYPE, ndt("Link"), ox.NamedNode(topology_graph("transport"))
    ) in set(quads)
    assert objects(quads, subject, "hasSource") == {
        element("transport", "termination-point", LAB.links[name].source_tp)
    }
    assert objects(quads, subject, "inDomain") == {domain_node("transport")}
    assert objects(quads, subject, "metric") == {"1"}
    assert objects(quads, subject, "up") == {"true"}


def test_functions_cells_and_hosts_sit_on_their_nodes() -> None:
    quads = network_quads(LAB)
    for kind, items in (("cell", LAB.cells), ("network-function", LAB.functions), ("host", LAB.hosts)):
        (item,) = items.values()
        assert objects(quads, element("transport", kind, item.id), "onNode") == {
            element("transport", "node", item.node)
        }
    assert "upf" in {value for q in quads if q.predicate == ndt("role") for value in [q.object.value]}  # type: ignore[union-attr]


def test_an_application_runs_on_its_host_at_a_site() -> None:
    (item,) = LAB.hosts.values()
    quads = network_quads(LAB)

    assert objects(quads, element("transport", "application", f"{item.id}/cache"), "hostedOn") == {
        element("transport", "host", item.id)
    }
    assert objects(quads, element("transport", "host", item.id), "atSite") == {
        element("transport", "site", "riverside")
    }


def test_figures_are_in_a_graph_of_their_own() -> None:
    topology = Topology("transport")
    _, quads = topology.update(LAB)
    _, figures = topology.update_figures(LAB)
    name = link_id("a", "b")
    subject = element("transport", "link", name)

    assert not [quad for quad in quads if quad.predicate == ndt("hasKpi")]
    assert f"{subject}/kpi/{DELAY}" in objects(figures, subject, "hasKpi")
    assert objects(figures, f"{subject}/kpi/{DELAY}", "value") == {"1"}
    assert {quad.graph_name for quad in figures if quad.subject == ox.NamedNode(subject)} == {
        ox.NamedNode(figures_graph("transport"))
    }


def test_figures_that_are_no_numbers_are_doubles_of_xsd() -> None:
    item = replace(LAB.links[link_id("a", "b")], kpis={"x": Kpi("x", float("inf"), "ms", observed_at=10**18)})

    said = {quad.predicate: quad.object for quad in figure_quads("transport", "links", item)}

    assert str(said[ndt("value")]) == '"INF"^^<http://www.w3.org/2001/XMLSchema#double>'
    assert str(said[ndt("observedAt")]).startswith('"2001-09-09T01:46:40Z"')


def test_figures_alone_do_not_touch_the_topology() -> None:
    topology = Topology("transport")
    topology.update(LAB)
    topology.update_figures(LAB)
    after = with_link(LAB, link_id("a", "b"), kpis=kpis(9.0))

    assert topology.update(after) == ([], [])
    gone, new = topology.update_figures(after)
    assert len(gone) == len(new) == 1


def test_a_site_stays_while_one_of_its_hosts_does() -> None:
    one = replace(host("a"), site="riverside")
    other = replace(host("b"), site="riverside")
    both = network(both_ways("a", "b"), hosts=[one, other])
    less = replace(both, hosts={other.id: other})
    topology = Topology("transport")
    _, quads = topology.update(both)
    site = element("transport", "site", "riverside")

    gone, new = topology.update(less)

    assert objects(quads, site, "name") == {"riverside"}
    assert not objects(gone, site, "name")
    assert objects(topology.update(replace(less, hosts={}))[0], site, "name") == {"riverside"}
    assert not new


def test_an_inter_domain_link_has_one_name_for_both_sides() -> None:
    quads = network_quads(LAB)

    assert objects(quads, inter_domain_link("urn:ndt:idl:r-t-1"), "linkId") == {"urn:ndt:idl:r-t-1"}


SITES = st.sampled_from(["", "riverside", "hill"])


@st.composite
def histories(draw: st.DrawFn) -> list[Network]:
    """Networks one after the other, with hosts at sites that they share."""
    made = []
    for number in range(draw(st.integers(1, 4))):
        found = draw(networks(most_nodes=4))
        hosts: dict[str, Host] = {}
        for node in list(found.nodes)[: draw(st.integers(0, 3))]:
            item = Host(f"{node}:host", node, "d", site=draw(SITES), applications=("a",))
            hosts[item.id] = item
        made.append(replace(found, hosts=hosts, version=replace(found.version, sequence=number + 1)))
    return made


@settings(max_examples=40, deadline=None)
@given(history=histories())
def test_following_changes_gives_what_making_anew_gives(history: list[Network]) -> None:
    topology, store = Topology("transport"), SemanticStore()
    for found in history:
        store.apply(*topology.update(found))
        store.apply(*topology.update_figures(found))

    fresh = Topology("transport")
    anew = SemanticStore()
    anew.apply([], fresh.update(history[-1])[1])
    anew.apply([], fresh.update_figures(history[-1])[1])
    assert set(store.quads()) == set(anew.quads())


@settings(max_examples=25, deadline=None)
@given(name=st.text(min_size=1, max_size=12))
def test_names_with_any_characters_make_iris(name: str) -> None:
    item = Host(f"urn:{name}", f"urn:node:{name}", "d", site=name, applications=(name,))
    found = replace(LAB, hosts={item.id: item})

    store = SemanticStore()
    store.replace(topology_graph("transport"), network_quads(found))

    assert objects(list(store.quads()), element("transport", "host", item.id), "identifier") == {item.id}
