"""The demo's calibration: of all agents or of none, and no error where it cannot be."""

from __future__ import annotations

import asyncio
from pathlib import Path

from federation.cli.demo.calibrating import calibrate_all


async def test_where_one_agent_cannot_be_read_none_is_calibrated(tmp_path: Path) -> None:
    (tmp_path / "ran" / "state").mkdir(parents=True)

    why = await calibrate_all([tmp_path / "ran" / "state", tmp_path / "edge" / "state"])

    assert why
    assert not await asyncio.to_thread(lambda: list(tmp_path.rglob("calibration.json")))
