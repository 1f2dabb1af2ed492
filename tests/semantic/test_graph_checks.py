"""Checks of a graph in the processes that answer questions: the same findings, killed at their end."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pyoxigraph as ox
import pytest

from domain_twin.errors import OverCapacity
from domain_twin.semantic.checks import asked_findings, chosen, rule_findings, shape_findings
from domain_twin.semantic.names import NDT, device_graph, element, inferred_graph, topology_graph, view_graph
from domain_twin.semantic.shapes import load_shapes
from domain_twin.semantic.store import SemanticStore
from domain_twin.semantic.workers import PoolLimits, QueryPool

TYPE = "http://www.w3.org/1999/02/22-rdf-syntax-ns#type"
RULES = inferred_graph("loops")


def said(subject: str, predicate: str, value: ox.NamedNode | ox.Literal, graph: str) -> ox.Quad:
    return ox.Quad(ox.NamedNode(subject), ox.NamedNode(predicate), value, ox.NamedNode(graph))


@pytest.fixture
def store() -> SemanticStore:
    """Links that lack what a link has, half said by devices; a view of them; and what a rule found."""
    store, quads = SemanticStore(), []
    for number in range(5):
        link = element("lab", "link", f"l{number}")
        for graph in (topology_graph("lab"), view_graph("peer")):
            quads.append(said(link, TYPE, ox.NamedNode(NDT + "Link"), graph))
        state = device_graph("lab", f"r{number}", "state")
        quads.append(said(link, NDT + "metric", ox.Literal("\u00fcber \n viel"), state))
    found = "https://fedtwin.example/finding/1"
    quads += [
        said(found, TYPE, ox.NamedNode(NDT + "Finding"), RULES),
        said(found, NDT + "code", ox.Literal("loop"), RULES),
        said(found, NDT + "severity", ox.Literal("error"), RULES),
        said(found, NDT + "concerns", ox.NamedNode(element("lab", "link", "l1")), RULES),
        said(found, NDT + "message", ox.Literal("it leads to itself"), RULES),
    ]
    store.apply((), quads)
    return store


async def test_processes_find_what_the_store_finds(store: SemanticStore) -> None:
    checks = chosen(load_shapes(), "Link")
    graphs = [name for name in store.graphs() if not name.startswith(view_graph(""))]
    expected = shape_findings(store, checks, "lab", graphs) + rule_findings(store, "lab", graphs)

    async with QueryPool(store) as pool:
        found = await asked_findings(pool, checks, "lab", [RULES])

    assert sorted(found, key=str) == sorted(expected, key=str)
    assert {each.code for each in found} > {"loop", "shape.Link-metric"}


async def test_a_view_is_not_checked(store: SemanticStore) -> None:
    store.apply((), [said("https://x.example/seen", TYPE, ox.NamedNode(NDT + "Link"), view_graph("peer"))])

    async with QueryPool(store) as pool:
        found = await asked_findings(pool, chosen(load_shapes(), "Link"), "lab")

    assert found
    assert not any("seen" in each.element for each in found)


async def test_a_shape_that_takes_too_long_is_named_and_its_process_killed(store: SemanticStore) -> None:
    wide = " ".join(f"?a{n} ?b{n} ?c{n} ." for n in range(9))
    endless = replace(load_shapes()[0], shape=f"{NDT}Endless", query=f"SELECT (COUNT(*) AS ?v) {{ {wide} }}")

    async with QueryPool(store, PoolLimits(timeout_s=0.5)) as pool:
        with pytest.raises(OverCapacity, match=r"Endless: the time limit of 0.5 s .*semantic.timeout_s"):
            await asked_findings(pool, [endless], "lab")
        assert pool.replaced == 1


async def test_whoever_gives_up_ends_the_check(store: SemanticStore) -> None:
    async with QueryPool(store, PoolLimits(workers=1)) as pool:
        await asked_findings(pool, [], "lab", [RULES])  # a worker is there
        checking = asyncio.create_task(asked_findings(pool, load_shapes() * 1000, "lab"))
        await asyncio.sleep(0.1)
        checking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await checking
        async with asyncio.timeout(30):
            assert len(await asked_findings(pool, [], "lab", [RULES])) == 1
