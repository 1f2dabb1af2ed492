import math
from dataclasses import replace
from itertools import pairwise

import networkx as nx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_domains import (
    border,
    both_ways,
    cell,
    function,
    host,
    kpis,
    link,
    link_id,
    network,
    networks,
    node_id,
    published_of,
    with_link,
)

from domain_twin.disclosure import FIGURES, Abstraction, Precision, abstract
from domain_twin.disclosure.plan import agreement_salt
from domain_twin.model import ANY_POINT, CARRIED_RATE, DELAY, LOSS, Level, Network, PointKind, View

IDL_A, IDL_B = "urn:ndt:idl:aaaa", "urn:ndt:idl:bbbb"
A, B = "transport/idl-aaaa", "transport/idl-bbbb"


def view_of(
    found: Network, *, level: Level = Level.MESH, published: dict[str, str] | None = None, **options
) -> View:
    return abstract(
        found,
        level=level,
        published=published_of(found) if published is None else published,
        agreement="partner",
        precision=options.pop("precision", None),
        risk_salt=options.pop("risk_salt", b"secret"),
        **options,
    )


def square(**figures) -> Network:
    """Borders at w and e; by n the metric is less, by s the delay. `figures` are by link, such as wn."""
    given_figures = {"wn": kpis(3.0), "ne": kpis(3.0), "ws": kpis(1.0), "se": kpis(1.0), **figures}
    links = [
        *both_ways("w", "n", figures=given_figures["wn"], capacity=10_000.0),
        *both_ways("n", "e", figures=given_figures["ne"], capacity=10_000.0),
        *both_ways("w", "s", figures=given_figures["ws"], metric=5),
        *both_ways("s", "e", figures=given_figures["se"], metric=5),
    ]
    return network(links, borders=[border("w", IDL_A, "ran"), border("e", IDL_B, "core")])


def test_current_is_the_path_of_least_metric_and_options_are_the_pareto_list():
    segment = view_of(square()).segments[A, B]

    assert segment.current is not None
    assert (segment.current.delay_ms, segment.current.metric) == (6.0, 2)
    assert [(o.delay_ms, o.bandwidth_mbps) for o in segment.options] == [(2.0, 1000.0), (6.0, 10_000.0)]
    assert not segment.truncated


def test_equal_metrics_take_the_least_link_id_as_routers_do():
    links = [*both_ways("w", "n"), *both_ways("n", "e"), *both_ways("w", "m"), *both_ways("m", "e")]
    slow = link_id("w", "m")
    found = network(links, borders=[border("w", IDL_A, "ran"), border("e", IDL_B, "core")])
    found = with_link(found, slow, kpis=kpis(9.0))

    current = view_of(found).segments[A, B].current

    assert slow < link_id("w", "n")
    assert current is not None
    assert current.delay_ms == 10.0


def test_links_of_metric_zero_make_no_loop():
    links = [*both_ways("w", "n", metric=0), *both_ways("n", "e", metric=0), *both_ways("a", "n", metric=0)]
    found = network(links, borders=[border("w", IDL_A, "ran"), border("e", IDL_B, "core")])

    current = view_of(found).segments[A, B].current

    assert current is not None
    assert (current.metric, current.delay_ms) == (0, 2.0)


def test_a_link_that_is_down_takes_its_paths_along():
    found = with_link(square(), link_id("w", "n"), up=False)

    there, back = view_of(found).segments[A, B], view_of(found).segments[B, A]

    assert there.current is not None
    assert there.current.delay_ms == 2.0
    assert len(there.options) == 1
    assert len(back.options) == 2


def test_a_border_point_that_is_down_has_no_segments():
    found = square()
    down = replace(found.termination_points["urn:ndt:transport:w:aaaa"], oper_up=False)
    found = replace(found, termination_points={**found.termination_points, down.id: down})

    view = view_of(found)

    assert not view.points[A].up
    assert view.points[A].outbound is None
    assert not view.segments


def test_bandwidth_is_free_capacity_and_never_negative():
    view = view_of(square(ws=kpis(1.0, carried=1200.0), ne=kpis(3.0, carried=4000.0)))

    assert [o.bandwidth_mbps for o in view.segments[A, B].options] == [0.0, 6000.0]


def radio() -> Network:
    """A cell at g, an UPF at u, an AMF at a, a host at h, in a row; a border at h."""
    links = [*both_ways("g", "u"), *both_ways("u", "a"), *both_ways("a", "h")]
    return network(
        links,
        cells=[cell("g")],
        functions=[function("u", "UPF", delay=0.25), function("a", "AMF", delay=7.0)],
        hosts=[host("h", delay=0.5)],
        borders=[border("h", IDL_A, "core")],
    )


ALIASES = {"cell": "g:cell-1", "upf": "u:nf", "amf": "a:nf", "host": "h:host"}
PUBLISHED = {alias: node_id(name) for alias, name in ALIASES.items()}


@pytest.mark.parametrize(
    ("source", "target", "delay_ms"),
    [
        ("cell", "upf", 2.0 + 1 + 0.25),
        ("upf", "cell", 1 + 2.0),
        ("cell", "host", 2.0 + 3 + 0.25 + 0.5),
        ("host", "cell", 3 + 0.25 + 2.0),
        ("cell", "amf", 2.0 + 2 + 0.25 + 7.0),
        ("amf", "host", 1 + 0.5),
        ("upf", "host", 2 + 0.5),
        ("cell", "idl-aaaa", 2.0 + 3 + 0.25),
        ("idl-aaaa", "upf", 2 + 0.25),
        ("idl-aaaa", "host", 0.5),
    ],
)
def test_processing_counts_where_packets_meet_it(source, target, delay_ms):
    view = view_of(radio(), published=PUBLISHED)

    current = view.segments[f"transport/{source}", f"transport/{target}"].current

    assert current is not None
    assert current.delay_ms == pytest.approx(delay_ms, abs=1e-12)


def test_the_air_interface_bounds_the_bandwidth():
    view = view_of(radio(), published=PUBLISHED)

    assert view.segments["transport/cell", "transport/upf"].options[0].bandwidth_mbps == 300.0


def test_a_locked_cell_is_down_and_a_locked_upf_cannot_be_crossed():
    found = radio()
    upf = replace(found.functions[PUBLISHED["upf"]], unlocked=False)
    locked = replace(found.cells[PUBLISHED["cell"]], unlocked=False)
    cut = view_of(replace(found, functions={**found.functions, upf.id: upf}), published=PUBLISHED)
    dark = view_of(replace(found, cells={locked.id: locked}), published=PUBLISHED)

    assert not cut.points["transport/upf"].up
    assert ("transport/cell", "transport/host") not in cut.segments
    assert ("transport/amf", "transport/host") in cut.segments
    assert not dark.points["transport/cell"].up
    assert not [key for key in dark.segments if "transport/cell" in key]


def test_paths_go_around_a_locked_upf():
    upf = function("n", "UPF", up=False)
    found = square(wn=kpis(0.1), ne=kpis(0.1))
    # A third way, which devices take: what could be provisioned is the second one.
    slow = [*both_ways("w", "m", figures=kpis(4.0)), *both_ways("m", "e", figures=kpis(4.0))]
    found = network(
        [*found.links.values(), *slow], borders=found.termination_points.values(), functions=[upf]
    )

    for level in (Level.MESH, Level.NATIVE):
        view = view_of(found, level=level, published={"upf": upf.id})
        assert not [key for key in view.segments if "transport/upf" in key or "transport/n" in key]
    segment = view_of(found, published={}).segments[A, B]
    assert segment.current is not None
    assert segment.current.delay_ms == 8.0
    assert [option.delay_ms for option in segment.options] == [2.0]


def test_an_unmeasured_link_promises_nothing_and_is_found():
    found = square(wn=kpis(None))
    abstraction = Abstraction(level=Level.MESH, published={}, precision=None, risk_salt=b"s", figures=FIGURES)

    abstraction.update(found)
    segment = abstraction.segments[A, B]

    # Devices still forward by it: leaving it out would make another path look like the one in use.
    assert segment.current is not None
    assert (segment.current.delay_ms, segment.current.metric) == (math.inf, 2)
    assert [option.delay_ms for option in segment.options] == [2.0]
    assert {f.element for f in abstraction.findings()} == {link_id("w", "n"), link_id("n", "w")}
    assert all(f.code == "measurement.missing" for f in abstraction.findings())


@pytest.mark.parametrize(
    ("name", "field", "worst"), [(LOSS, "loss", 1.0), (CARRIED_RATE, "bandwidth_mbps", 0.0)]
)
def test_an_unknown_figure_is_the_worst_case(name, field, worst):
    figures = {key: kpi for key, kpi in kpis(3.0).items() if key != name}

    current = view_of(square(wn=figures)).segments[A, B].current

    assert getattr(current, field) == worst
    assert current is not None
    assert current.delay_ms == 6.0


def test_stale_elements_mark_points_and_segments():
    found = with_link(square(), link_id("w", "s"), stale=True)

    view = view_of(found)

    assert view.segments[A, B].stale
    assert not view.segments[B, A].stale


def test_a_mesh_reveals_no_inner_name():
    view = view_of(radio(), published={"one": PUBLISHED["cell"], "two": PUBLISHED["host"]})

    told = repr(view)

    assert (view.hidden_nodes, view.hidden_links) == (4, 3)
    for hidden in (*radio().nodes, *radio().links, "gnb", "urn:ndt:transport"):
        assert hidden not in told


def test_risks_are_the_same_both_ways_and_differ_by_salt_and_agreement():
    view, other = view_of(square()), view_of(square(), risk_salt=b"other")
    peer = abstract(
        square(), level=Level.MESH, published={}, agreement="rival", precision=None, risk_salt=b"secret"
    )
    there, back = view.segments[A, B], view.segments[B, A]

    assert {o.shared_risks for o in there.options} == {o.shared_risks for o in back.options}
    assert there.options[0].shared_risks.isdisjoint(there.options[1].shared_risks)
    assert there.options[0].shared_risks != other.segments[A, B].options[0].shared_risks
    assert there.options[0].shared_risks != peer.segments[A, B].options[0].shared_risks


def test_a_native_view_has_nodes_and_links():
    found = radio()
    view = view_of(found, level=Level.NATIVE, published={"u": PUBLISHED["upf"], "cell": PUBLISHED["cell"]})

    assert (view.hidden_nodes, view.hidden_links) == (0, 0)
    assert view.points["transport/h"].kind is PointKind.NODE
    assert view.points["transport/h"].role == "host"
    # The alias u is taken, so the node of that name gives way.
    assert view.points["transport/u.node"].role == "upf"
    entering = view.segments["transport/g", "transport/u.node"]
    assert entering.current is not None
    assert entering.current.delay_ms == 1.25
    leaving = view.segments["transport/u.node", "transport/g"]
    assert leaving.current is not None
    assert leaving.current.delay_ms == 1.0


def test_a_native_view_lists_parallel_links_as_options():
    links = [
        *both_ways("w", "e", metric=2, figures=kpis(1.0)),
        *both_ways("w", "e", metric=1, figures=kpis(4.0), capacity=9000.0, plane="b"),
    ]

    segment = view_of(network(links), level=Level.NATIVE).segments["transport/w", "transport/e"]

    assert segment.current is not None
    assert segment.current.delay_ms == 4.0
    assert [o.delay_ms for o in segment.options] == [1.0, 4.0]


def test_a_node_view_is_one_worst_case():
    found = radio()
    mesh, node = view_of(found, published=PUBLISHED), view_of(found, level=Level.NODE, published=PUBLISHED)

    assert set(node.segments) == {(ANY_POINT, ANY_POINT)}
    worst = node.segments[ANY_POINT, ANY_POINT].current
    assert worst is not None
    assert worst.delay_ms == max(s.current.delay_ms for s in mesh.segments.values() if s.current)
    assert worst.bandwidth_mbps == 300.0
    assert node.points.keys() == mesh.points.keys()


def test_a_node_view_never_joins_what_is_apart():
    links = [*both_ways("a", "b"), *both_ways("c", "d")]
    borders = [
        border("a", IDL_A, "ran"),
        border("b", IDL_B, "ran"),
        border("c", "urn:ndt:idl:cccc", "core"),
    ]

    view = view_of(network(links, borders=borders), level=Level.NODE)

    assert {name for name, point in view.points.items() if point.up} == {A, B}
    assert view.points["transport/idl-cccc"].outbound is None


def test_a_cut_list_keeps_both_ends_and_says_so():
    planes = [
        both_ways("w", "e", plane=f"-{i}", figures=kpis(1.0 + i), capacity=100.0 * (i + 1)) for i in range(12)
    ]
    found = network(
        [item for plane in planes for item in plane],
        borders=[border("w", IDL_A, "ran"), border("e", IDL_B, "core")],
    )

    segment = view_of(found, cap=4).segments[A, B]

    assert segment.truncated
    assert len(segment.options) == 4
    assert (segment.options[0].delay_ms, segment.options[-1].delay_ms) == (1.0, 12.0)


def test_withheld_figures_are_the_worst_case():
    view = view_of(square(), figures=frozenset({"one_way_delay"}))

    for segment in view.segments.values():
        assert len(segment.options) == 1
        for told in (segment.current, *segment.options, view.points[A].outbound):
            assert told is not None
            assert (told.loss, told.bandwidth_mbps, told.delay_variance_ms2) == (1.0, 0.0, math.inf)
            assert math.isfinite(told.delay_ms)


def test_wrong_publications_are_findings_and_the_rest_goes_on():
    abstraction = Abstraction(
        level=Level.MESH,
        published={
            "ghost": "urn:ndt:transport:nowhere",
            "idl-aaaa": PUBLISHED["host"],
            "cell": PUBLISHED["cell"],
        },
        precision=None,
        risk_salt=b"s",
    )

    abstraction.update(radio())

    assert {f.code for f in abstraction.findings()} == {"published.unknown", "published.name-taken"}
    assert set(abstraction.points) == {A, "transport/cell"}


def test_a_link_claimed_twice_by_one_domain_stays_visible_as_two_points():
    found = network(
        both_ways("w", "e"), borders=[border("w", IDL_A, "ran"), border("e", IDL_A, "ran", suffix="x")]
    )

    view = view_of(found)

    assert [point.link_id for point in view.points.values()] == [IDL_A, IDL_A]


def test_a_link_to_a_node_that_is_not_there_is_not_used():
    found = square()
    nodes = {name: node for name, node in found.nodes.items() if not name.endswith(":n")}

    assert [o.delay_ms for o in view_of(replace(found, nodes=nodes)).segments[A, B].options] == [2.0]


@settings(max_examples=60, deadline=None)
@given(networks())
def test_a_mesh_equals_enumeration_of_all_paths(found):
    published = published_of(found)
    view = view_of(found, published=published, cap=50)

    graph = nx.DiGraph()
    graph.add_nodes_from(found.nodes)
    usable = [item for item in found.links.values() if item.up]
    graph.add_edges_from((item.source_node, item.dest_node, {"link": item}) for item in usable)
    upf = {f.node: f for f in found.functions.values() if f.type == "UPF"}
    blocked = {node for node, f in upf.items() if not f.up}
    where = {f"transport/{alias}": found.cells.get(i) or found.functions[i] for alias, i in published.items()}
    where |= {f"transport/idl-{tp.inter_domain.link_id[-4:]}": tp for tp in found.termination_points.values()}
    alive = {
        name: end
        for name, end in where.items()
        if end.up and not (end.node in blocked and name.startswith("transport/idl"))
    }
    for source, start in alive.items():
        for target, end in alive.items():
            if source == target:
                continue
            paths = []
            for nodes in (
                [[start.node]] if start.node == end.node else nx.all_simple_paths(graph, start.node, end.node)
            ):
                if any(node in blocked for node in nodes[1:-1]):
                    continue
                links = [graph[u][v]["link"] for u, v in pairwise(nodes)]
                met = [upf[node] for node in nodes if node in upf]
                if start in met:
                    met.remove(start)
                met += [e for e in (start,) if e.id in found.cells]
                met += [
                    e
                    for e in (end,)
                    if e.id in found.cells or (e.id in found.functions and e not in upf.values())
                ]
                parts = [*links, *met]
                delay = sum(part.kpis[DELAY].value for part in parts)
                loss = 1 - math.prod(1 - part.kpis[LOSS].value for part in parts)
                free = [max(0.0, item.capacity_mbps - item.kpis[CARRIED_RATE].value) for item in links]
                free += [300.0 for e in met if e.id in found.cells]
                paths.append((delay, -min(free, default=math.inf), loss, sum(item.metric for item in links)))
            segment = view.segments.get((source, target))
            assert (segment is not None) == bool(paths)
            if segment is None:
                continue
            assert segment.current is not None
            assert segment.current.metric == min(path[3] for path in paths)
            assert not segment.truncated
            listed = [(o.delay_ms, -o.bandwidth_mbps, o.loss) for o in segment.options]
            for path in paths:  # nothing better is missing
                assert any(all(a <= b + 1e-9 for a, b in zip(o, path, strict=False)) for o in listed)
            for option in listed:  # and nothing is made up
                assert any(
                    all(math.isclose(a, b, abs_tol=1e-9) for a, b in zip(option, path, strict=False))
                    for path in paths
                )


STEPS = st.builds(
    Precision,
    delay_ms=st.sampled_from([0.0, 0.01, 0.3, 7.0]),
    bandwidth_mbps=st.sampled_from([0.0, 1.0, 250.0]),
    loss=st.sampled_from([0.0, 1e-6, 0.015]),
)


@settings(max_examples=60, deadline=None)
@given(networks(), STEPS, st.sampled_from([Level.MESH, Level.NATIVE]))
def test_rounding_is_never_optimistic(found, step, level):
    exact = view_of(found, level=level)
    rounded = view_of(found, level=level, precision=step)

    assert exact.segments.keys() == rounded.segments.keys()
    for key, segment in rounded.segments.items():
        truth = exact.segments[key]
        assert segment.current is not None
        assert truth.current is not None
        assert _no_better(segment.current, truth.current)
        assert segment.current.delay_ms <= truth.current.delay_ms + step.delay_ms * (1 + 1e-9)
        for option in segment.options:  # of paths that tie, another one's variance may be told
            assert any(_no_better(option, _without_spread(other)) for other in truth.options)
    for name, point in rounded.points.items():
        if point.outbound is not None:
            assert _no_better(point.outbound, exact.points[name].outbound)


@settings(max_examples=60, deadline=None)
@given(networks(), STEPS)
def test_a_node_view_holds_for_every_pair(found, step):
    mesh = view_of(found)
    node = view_of(found, level=Level.NODE, precision=step)
    shown = [name for name, point in node.points.items() if point.up]

    (whole,) = node.segments.values()

    for source in shown:
        for target in shown:
            if source != target:
                truth = mesh.segments[source, target]
                assert whole.current is not None
                assert _no_better(whole.current, truth.current)
                assert all(
                    any(_no_better(told, _without_spread(one)) for one in truth.options)
                    for told in whole.options
                )


def _no_better(told, truth) -> bool:
    return (
        told.delay_ms >= truth.delay_ms
        and told.delay_variance_ms2 >= truth.delay_variance_ms2
        and told.loss >= truth.loss
        and told.bandwidth_mbps <= truth.bandwidth_mbps
        and told.delay_std_error_ms >= truth.delay_std_error_ms
    )


def _without_spread(told):
    return replace(told, delay_variance_ms2=0.0, delay_std_error_ms=0.0)


EDITS = ["up", "metric", "delay", "stale", "gone", "cell", "function", "rewired"]
CHANGES = st.lists(
    st.tuples(
        st.integers(0, 100),
        st.sampled_from(EDITS),
        st.sampled_from([0.1, 0.9, 3.3]),
    ),
    min_size=1,
    max_size=6,
)


def changed(found: Network, which: int, what: str, value: float) -> Network:
    if not found.links:
        return found
    item = found.links[sorted(found.links)[which % len(found.links)]]
    if what == "gone":
        return replace(found, links={k: v for k, v in found.links.items() if k != item.id})
    if what == "cell":
        (one,) = found.cells.values()
        return replace(found, cells={one.id: replace(one, unlocked=not one.unlocked)})
    if what == "function":
        (nf,) = found.functions.values()
        return replace(found, functions={nf.id: replace(nf, unlocked=not nf.unlocked)})
    edits = {
        "up": {"up": not item.up},
        "metric": {"metric": item.metric + 1},
        "delay": {"kpis": {**item.kpis, DELAY: replace(item.kpis[DELAY], value=value)}},
        "stale": {"stale": not item.stale},
        "rewired": {"dest_node": sorted(found.nodes)[which % len(found.nodes)]},
    }
    return with_link(found, item.id, **edits[what])


@settings(max_examples=60, deadline=None)
@given(networks(), CHANGES, st.sampled_from(list(Level)))
def test_an_updated_abstraction_equals_a_fresh_one(found, changes, level):
    published = published_of(found)
    abstraction = Abstraction(
        level=level, published=published, precision=None, risk_salt=agreement_salt(b"secret", "partner")
    )
    abstraction.update(found)

    for change in changes:
        found = changed(found, *change)
        abstraction.update(found)

        fresh = view_of(found, level=level, published=published)
        assert abstraction.view(found, "partner") == fresh


@settings(max_examples=60, deadline=None)
@given(networks(), CHANGES)
def test_without_a_search_current_is_right_and_options_are_real(found, changes):
    published = published_of(found)
    abstraction = Abstraction(
        level=Level.MESH, published=published, precision=None, risk_salt=agreement_salt(b"secret", "partner")
    )
    abstraction.update(found)

    for change in changes:
        found = changed(found, *change)
        abstraction.update(found, search_now=False)
    fresh = view_of(found, published=published)

    assert abstraction.points == fresh.points
    assert abstraction.segments.keys() == fresh.segments.keys()
    for key, segment in abstraction.segments.items():
        truth = fresh.segments[key]
        assert segment.current == truth.current
        assert segment.options
        for option in segment.options:
            assert any(_no_better(option, _without_spread(o)) for o in truth.options)
    abstraction.update(found)
    assert abstraction.segments == fresh.segments


def test_unchanged_segments_stay_the_same_objects():
    found = square()
    abstraction = Abstraction(level=Level.MESH, published={}, precision=None, risk_salt=b"s")
    abstraction.update(found)
    before = dict(abstraction.segments)

    abstraction.update(with_link(found, link_id("w", "s"), kpis=kpis(1.5)))

    assert abstraction.segments[B, A] is before[B, A]
    assert abstraction.segments[A, B] is not before[A, B]


def test_a_lone_directed_link_joins_one_way_only():
    found = network([link("w", "e")], borders=[border("w", IDL_A, "ran"), border("e", IDL_B, "core")])

    assert set(view_of(found).segments) == {(A, B)}
