"""What an agent that cannot begin leaves behind: nothing."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from domain_twin.agent.main import run_agent
from domain_twin.config import load_agent
from domain_twin.datastore.history import History
from domain_twin.errors import ConfigError


async def test_an_agent_that_cannot_serve_lets_go_of_its_history(tmp_path: Path) -> None:
    config = tmp_path / "agent.toml"
    config.write_text(f'domain = "ran"\noperator = "northcell.example"\nstate = "{"deep" * 30}"\n')

    with pytest.raises(ConfigError, match="choose a shorter state folder"):
        await run_agent(config)

    assert "history" not in {thread.name for thread in threading.enumerate()}
    again = await History.open(load_agent(config).state / "history", read_only=True)
    await again.close()
