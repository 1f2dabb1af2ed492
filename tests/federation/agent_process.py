"""A twin agent's session as a process of its own: `python agent_process.py CONFIG.json`. Ends on SIGTERM."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from session_parts import FAST, Domain

from domain_twin.agent.session import BrokerSession
from domain_twin.config import AgentConfig


async def main(config: AgentConfig) -> None:
    domain = Domain(config.domain)
    domain.session = BrokerSession(config, domain, retry=FAST)
    await domain.session.run()


if __name__ == "__main__":
    asyncio.run(main(AgentConfig.model_validate_json(Path(sys.argv[1]).read_text(encoding="utf-8"))))
