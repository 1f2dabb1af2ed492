"""Queries across real agents and a real broker."""

from __future__ import annotations

from pathlib import Path

from query_parts import POINTS, PREFIX, federation, rows, running


async def test_query_joins_what_several_domains_show(tmp_path: Path) -> None:
    fed = federation(tmp_path)
    async with running(fed) as (twin, _):
        reply = await twin.query(POINTS)

    assert [row["a"] for row in rows(reply.data)] == [
        "edge/idl-b", "ran/idl-a1", "ran/idl-a2", "transport/idl-a1", "transport/idl-a2", "transport/idl-b",
    ]  # fmt: skip
    assert {part.domain: part.outcome.value for part in reply.parts} == dict.fromkeys(
        ("edge", "ran", "transport"), "ok"
    )


async def test_query_figures_are_asked_of_the_domains_on_behalf_of_the_asker(tmp_path: Path) -> None:
    fed = federation(tmp_path)
    async with running(fed) as (twin, _):
        reply = await twin.query(
            PREFIX
            + "SELECT ?s ?d { ?s a ndt:Segment ; ndt:hasSource ?p ; ndt:delayMs ?d . ?p ndt:alias 'ran/cell-1' }"
        )

    print(reply.plan)
    assert {row["s"].rpartition("/")[2] for row in rows(reply.data)} == {"idl-a1", "idl-a2"}
