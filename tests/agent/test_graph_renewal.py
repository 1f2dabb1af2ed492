"""A store that is set aside while the agent runs: what is asked afterwards is answered from the new one."""

from __future__ import annotations

import asyncio
import contextlib
import time
from pathlib import Path

from file_limits import full_disk, until

from domain_twin.agent.semantics import FOLDER, Semantics
from domain_twin.config import SemanticConfig
from domain_twin.datastore.live import LiveStore
from domain_twin.model import Delete, Network, ServiceRecords, Update, UpdateBatch, Version
from domain_twin.semantic.guard import guarded
from domain_twin.semantic.names import inferred_graph
from domain_twin.semantic.workers import OPERATOR
from domain_twin.yang.schema import SchemaSet

ENABLED = guarded("SELECT ?i { ?i <https://fedtwin.example/ns/yang/ietf-interfaces#enabled> ?e } ORDER BY ?i")


async def test_copies_are_made_anew_when_the_store_was_set_aside(tmp_path: Path) -> None:
    state, schema = LiveStore(), SchemaSet.load(["ietf-interfaces"])
    network = Network("lab", Version("e", 1), {}, {}, {}, {}, {}, {})
    semantics = Semantics(
        SemanticConfig(),
        domain="lab",
        operator="lab.example",
        state=tmp_path,
        network=lambda: network,
        published={},
        records=ServiceRecords(),
        schema_of=lambda _: schema,
        snapshot=state.snapshot,
        views=dict,
    )

    def say(names: range, *gone: int) -> None:
        now = time.time_ns()
        base = "/ietf-interfaces:interfaces/interface[name='eth{}']"
        updates = tuple(Update("r1", f"{base.format(n)}/enabled", True, now) for n in names)
        deletes = tuple(Delete("r1", base.format(n), now) for n in gone)
        delta = state.apply(UpdateBatch("s", now, updates, deletes))
        semantics.note(delta, restructured=True)

    async def interfaces() -> int:
        pool = semantics.queries
        assert pool is not None
        return (await pool.query(OPERATOR, ENABLED)).rows

    running = asyncio.create_task(semantics.run())
    try:
        await until(lambda: semantics.live)
        assert semantics.live is not None
        store = semantics.live.store
        say(range(2))
        await until(lambda: [name for name in store.graphs() if name.endswith("/config")])
        assert await interfaces() == 2
        rules = {name for name in store.graphs() if name.startswith(inferred_graph(""))}

        with full_disk(150_000):
            say(range(2, 2000))  # more than the disk takes
            await until(semantics.findings)
            next((tmp_path / FOLDER).glob("quads-*/CURRENT")).write_text("this is no name of a file\n")
            say(range(0), *range(1, 2000))
        await until(lambda: semantics.findings() == [] and store.given_up)

        assert await interfaces() == 1
        assert {name for name in store.graphs() if name.startswith(inferred_graph(""))} >= rules
    finally:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
