"""Orders while the api and the broker are killed: the benchmark in short, with two domains."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))

import partner_crash
from _partner_network import partner_network


@pytest.mark.e2e
@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_nothing_is_lost_when_the_api_and_the_broker_are_killed() -> None:
    async with partner_network(domains=("ran", "edge")) as network:
        found = await partner_crash.measure(network, 8, seed=3, kills_every_s=(0.1, 0.4), most_kills=3)

    assert found["met"], json.dumps(found, indent=1)
    assert found["acknowledged"] == 8
    assert sum(found["kills"].values()) == 3
