"""The agent's graph in a running agent: checked over its face; where it cannot be kept, the twin goes on."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pyoxigraph as ox
import pytest
from emulated_domain import Domain, eventually

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
