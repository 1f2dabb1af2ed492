"""Orders from end to end: what becomes of them, and what they say about it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from exchange_parts import Exchange, Pki, add, exchange, modify, order_of, parts, retire, value

from federation.partners.record import Kind


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture
async def running(tmp_path: Path, pki: Pki) -> AsyncIterator[Exchange]:
    async with exchange(tmp_path, pki) as at_work:
        yield at_work


async def test_an_order_becomes_a_twin_that_is_retired_again(running: Exchange) -> None:
    taken_in = await running.order(add("ran/cell-1", "edge/app", name="my twin"), externalId="po-1")
    assert taken_in["state"] == "acknowledged"

    ended = await running.ended(taken_in)

    assert ended["state"] == "completed"
    assert [milestone["name"] for milestone in ended["milestone"]] == [
        "scopeAgreed",
        "domainsJoined",
        "synced",
    ]
    (item,) = ended["serviceOrderItem"]
    assert (item["state"], item["service"]["state"]) == ("completed", "active")
    twin = item["service"]["id"]
    service = running.service(twin)
    assert service["name"] == "my twin"
    assert parts(service) == dict.fromkeys(("ran", "transport", "edge"), "active running")
    assert value(service, "fidelity") == dict.fromkeys(("ran", "transport", "edge"), "mesh")
    assert value(service, "scope")["endPoints"] == ["edge/app", "ran/cell-1"]
    sandbox = running.twins.sandbox("acme", twin)
    assert sandbox is not None
    assert sandbox.points == ("edge/app", "ran/cell-1")
    assert len(sandbox.graph.crossings) == 4
    names = {r.body["name"] for r in running.records().list(Kind.RESOURCE)}
    assert {"ran/cell-1", "edge/app", "ran/cell-1 to ran/idl-a", "ran/idl-a to transport/idl-a"} <= names

    gone = await running.ended(await running.order(retire(twin)))

    assert gone["state"] == "completed"
    assert running.service(twin)["state"] == "terminated"
    await running.until(lambda: running.operating(twin) == "terminated stopped")
    assert running.records().list(Kind.RESOURCE) == []
    assert running.twins.sandbox("acme", twin) is None
    assert not any(domain.open_twins() for domain in running.domains.values())
    assert order_of(running, ended["id"])["state"] == "completed"
