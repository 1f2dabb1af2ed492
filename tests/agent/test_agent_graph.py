"""The agent's graph in a running agent: checked over its face; where it cannot be kept, the twin goes on."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from pathlib import Path

import pyoxigraph as ox
import pytest
from emulated_domain import Domain, eventually

from domain_twin.agent.semantics import _opened
from domain_twin.errors import NotFound, Unreachable
from domain_twin.model import Finding
from domain_twin.model.query import GraphCheck
from domain_twin.semantic.names import NDT, element, inferred_graph, topology_graph
from domain_twin.semantic.store import SemanticStore

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]


async def test_graph_follows_the_devices_and_keeps_to_its_shapes(tmp_path: Path) -> None:
    folder = tmp_path / "state" / "graph"
    held = SemanticStore(folder)  # somebody else has it
    domain = Domain(tmp_path, "edge")
    try:
        await domain.emulated()
        domain.start_agent()
        await domain.synchronised()  # all the same

        async def told() -> Finding | None:
            async with domain.twin() as twin:
                found = await twin.findings()
            return next((finding for finding in found if finding.code == "graph.behind"), None)

        finding = await eventually(told, what="finding that the graph cannot be kept")
        async with domain.twin() as twin:
            with pytest.raises(Unreachable, match="not open"):
                await twin.check_graph()
        assert str(os.getpid()) in finding.message
        assert str(folder) in finding.message

        assert domain.agent is not None
        assert domain.agent.end(signal.SIGTERM) == 0
        held.close()
        domain.start_agent()
        await domain.synchronised()

        async def checked() -> GraphCheck | None:
            try:
                async with domain.twin() as twin:
                    return await twin.check_graph()
            except Unreachable:
                return None

        check = await eventually(checked, what="check of the graph")
        async with domain.twin() as twin:
            some = await twin.check_graph("Host")
            with pytest.raises(NotFound, match="did you mean"):
                await twin.check_graph("Hots")
            links = [item.id for item in await twin.elements(kind="link")]
        assert domain.agent.end(signal.SIGTERM) == 0
        assert check.shapes > some.shapes > 0
        assert [f for f in check.findings if f.code.startswith("shape.")] == []

        store = SemanticStore(folder)
        names = {
            q.subject
            for q in store.quads(graph=topology_graph("edge"))
            if q.object == ox.NamedNode(NDT + "Link")
        }
        assert names == {ox.NamedNode(element("edge", "link", identity)) for identity in links}
        assert inferred_graph("direct-dependence") in store.graphs()
        store.close()
    finally:
        held.close()
        domain.end()


async def test_a_store_that_is_opened_while_the_agent_ends_is_closed(tmp_path: Path) -> None:
    go, opened = threading.Event(), []

    def slow(folder: Path) -> SemanticStore:
        go.wait(30)
        opened.append(SemanticStore(folder))
        return opened[0]

    opening = asyncio.create_task(_opened(slow, tmp_path / "graph"))
    await asyncio.sleep(0)
    opening.cancel()
    asyncio.get_running_loop().call_later(0.1, go.set)
    with pytest.raises(asyncio.CancelledError):
        await opening

    assert opened
    SemanticStore(tmp_path / "graph").close()  # nobody holds it
