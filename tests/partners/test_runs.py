"""Scenarios that partners run on their twins: asked as TMF653 tests, answered by real agents."""

import pytest
from run_parts import ACME, CUT, CUT_BOTH, FLOW, desks, limit, made, twin_over, until, value

from domain_twin.simulation.solve import Engine
from domain_twin.simulation.twin.compile import compile_network
from domain_twin.simulation.warm import warm

pytestmark = pytest.mark.timeout(400)  # the kernels may have to be compiled


@pytest.fixture(scope="module", autouse=True)
def kernels():
    """Compiled before any session: an agent that compiles while it should answer would be taken for dead."""
    from what_if_parts import networks

    warm()
    network = compile_network(networks()["edge"])
    Engine(network.graph, network.demand).solve()


async def connected(broker):
    async def all_there():
        return len(broker.sessions) == 3

    await until(all_there)


async def test_a_cut_is_run_on_a_partners_twin_and_judged_by_its_thresholds(tmp_path):
    parts = made(tmp_path)
    async with parts.broker() as broker, parts.agents(broker):
        await connected(broker)
        async with desks(tmp_path / "desks", broker) as at:
            await at.add_twin(ACME, "t1", await twin_over(broker, ACME, "t1"))
            wanted = [
                limit("delay", conformanceTargetUpper="50"),
                limit("reachable", conformanceTargetExact="1"),
            ]
            specification = await at.specification(testMeasureDefinition=wanted)

            around = await at.ended(
                await at.test(
                    specification, scenario=CUT, endPointPairs=[["ran/cell-1", "edge/app"]], deadline=110
                )
            )
            gone = await at.ended(
                await at.test(
                    specification, scenario=CUT_BOTH, endPointPairs=[["ran/cell-1", "edge/app"]], deadline=110
                )
            )

    assert around["state"] == "completed"
    assert value(around, "verdict") == "pass"
    assert {item["outcome"] for item in value(around, "domains")} == {"ok"}
    assert value(gone, "verdict") == "fail"
    delay, reachable = gone["testMeasure"]
    assert delay["value"] == {"name": FLOW, "valueType": "number", "value": None}
    assert reachable["value"]["value"] == 0
    assert reachable["ruleViolation"][0]["name"] == "reachable limit"
