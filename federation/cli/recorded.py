"""What an agent recorded, for commands that read it beside the agent. Owns finding it, running or stopped."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from domain_twin.errors import NotFound, Unreachable

if TYPE_CHECKING:
    from domain_twin.datastore.history import History

__all__ = ["Recorded", "Recording"]


@dataclass(frozen=True, slots=True)
class Recording:
    """The history of one domain, open to be read."""

    history: History
    domain: str


@dataclass(frozen=True, slots=True)
class Recorded:
    """An agent's state folder, and the domain as far as the place tells it."""

    state: Path
    domain: str

    @classmethod
    def at(cls, place: str, command: str) -> Recorded:
        """What --at names: an agent's socket, its agent.toml or its state folder. Raises NotFound."""
        from domain_twin.config import load_agent

        path = Path(place) if place else Path()
        if not place or not path.exists():
            raise NotFound(
                f"{place or command}: name an agent with --at: its socket, agent.toml or state folder"
            )
        if path.is_socket():
            return cls(path.resolve().parent, "")
        if path.is_dir():
            return cls(path.absolute(), "")
        config = load_agent(path)
        return cls(config.state.absolute(), config.domain)

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Recording]:
        """The history; of a running agent, a copy that it makes for this. Raises NotFound, ConfigError."""
        from domain_twin.datastore.history import History
        from federation.client import TwinClient

        socket, copy, domain = self.state / "agent.sock", None, self.domain
        if await asyncio.to_thread(socket.is_socket):
            try:
                async with TwinClient(socket, timeout_s=600.0) as twin:
                    domain = (await twin.domains())[0].domain
                    copy = await twin.copy_state(history_only=True)
            except Unreachable:
                copy = None  # the socket of one that was killed
        try:
            history = await History.open((copy or self.state) / "history", read_only=True)
            try:
                yield Recording(history, domain or self.state.parent.name)
            finally:
                await history.close()
        finally:
            if copy:
                shutil.rmtree(copy, ignore_errors=True)
