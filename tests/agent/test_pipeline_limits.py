"""A device that invents list entries without end does not fill the agent's memory."""

from __future__ import annotations

import time

from domain_twin.agent.pipeline import Pipeline
from domain_twin.datastore.live import LiveStore
from domain_twin.mapping.mapper import Mapper
from domain_twin.model import Delete, Sync, Update, UpdateBatch
from domain_twin.yang.quarantine import Typer
from domain_twin.yang.schema import SchemaSet

LIST = "/ietf-interfaces:interfaces/interface"


def pipeline(max_leaves: int) -> Pipeline:
    schema = SchemaSet.load(["ietf-interfaces", "iana-if-type"])
    return Pipeline(
        devices=["a", "b"],
        typer=Typer(schema),
        store=LiveStore(),
        mapper=Mapper("ran"),
        history=None,
        on_change=lambda *_: None,
        max_leaves=max_leaves,
    )


def batch(device: str, names: range, text: str = "x", sync: Sync = Sync.NONE) -> UpdateBatch:
    now = time.time_ns()
    updates = [Update(device, f"{LIST}[name='{n}']/description", text, now) for n in names]
    return UpdateBatch(device, now, tuple(updates), sync=sync)


def count(of: Pipeline, device: str) -> int:
    freshness = of.store.freshness(device)
    return freshness.leaves if freshness else 0


def test_what_a_device_invents_beyond_the_limit_is_left_out_and_said() -> None:
    # Arrange
    twin = pipeline(max_leaves=100)
    twin.ingest(batch("a", range(100)))
    twin.limit()

    # Act
    for start in range(100, 2000, 100):
        twin.ingest(batch("a", range(start, start + 100)))
        twin.limit()
    twin.ingest(batch("a", range(10), text="still heard"))
    twin.ingest(batch("b", range(50)))

    # Assert
    assert (count(twin, "a"), count(twin, "b")) == (100, 50)
    assert {leaf.value for leaf in twin.store.get(f"{LIST}[name='7']", "a").values()} == {"still heard"}
    (finding,) = [item for item in twin.findings(0) if item.code == "device.too-many-leaves"]
    assert finding.element == "a"
    assert "1,900 updates" in finding.message


def test_a_device_that_has_fewer_again_is_heard_again() -> None:
    twin = pipeline(max_leaves=100)
    twin.ingest(batch("a", range(100)))
    twin.limit()
    now = time.time_ns()

    twin.ingest(UpdateBatch("a", now, deletes=(Delete("a", "/ietf-interfaces:interfaces", now),)))
    twin.limit()
    twin.ingest(batch("a", range(500, 550)))

    assert count(twin, "a") == 50
    assert [item for item in twin.findings(0) if item.code == "device.too-many-leaves"] == []
