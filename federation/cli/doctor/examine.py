"""Every look that doctor takes, in order. Owns which looks a file calls for; each look owns its rows."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

from domain_twin.config import (
    AgentConfig,
    BrokerConfig,
    ClientConfig,
    load_agent,
    load_broker,
    load_client,
)
from domain_twin.errors import NotFound, TwinError
from federation.cli.checks import Report, Rows, check_file
from federation.cli.doctor import broker, certificates, host, state
from federation.cli.doctor.device import devices

__all__ = ["examine"]


def examine(files: Sequence[Path], *, device_name: str = "", free_mb: float = 1024.0) -> list[Report]:
    """Look at the installation and at all that the files name. `device_name`: of the devices only this one.

    `free_mb` is how much space a state folder's disk should have left. Raises NotFound for an unknown device.
    """
    rows = Rows()
    host.installation(rows)
    reports = [Report(Path("installation"), "this machine", tuple(rows.rows))]
    return [*reports, *(_file(path, device_name, free_mb) for path in files)]


def _file(path: Path, device_name: str, free_mb: float) -> Report:
    static = check_file(path, live=True)
    rows = Rows()
    config = _load(path, static.kind)
    match config:
        case AgentConfig():
            _agent(rows, path, config, device_name, free_mb)
        case BrokerConfig():
            running = broker.is_running(config.listen, config.identity.certificate)
            host.space(rows, config.state, free_mb)
            host.open_files(rows, 4 * len(config.member) + 256)
            certificates.identity(rows, config.identity, "broker", config.id)
            certificates.own_chain(rows, config)
            host.port(rows, "listen", config.listen, running=running)
            host.metrics(rows, config.metrics, config.state, "broker", running=running)
            state.broker(rows, config, running=running)
        case ClientConfig():
            certificates.pair(rows, config.certificate, config.key, "user", path.parent.name or "NAME")
            asyncio.run(broker.client(rows, config, path))
    return Report(path, static.kind, (*static.rows, *rows.rows))


def _load(path: Path, kind: str) -> AgentConfig | BrokerConfig | ClientConfig | None:
    try:
        match kind:
            case "agent":
                return load_agent(path)
            case "broker":
                return load_broker(path)
            case "client":
                return load_client(path)
    except TwinError:  # told by the check of the file already
        return None
    return None


def _agent(rows: Rows, path: Path, config: AgentConfig, device_name: str, free_mb: float) -> None:
    chosen = tuple(item for item in config.device if device_name in ("", item.name))
    if device_name and not chosen:
        known = ", ".join(item.name for item in config.device) or "none"
        raise NotFound(f"{path}: no device {device_name!r}; there are {known}")
    running = state.answers(config.state / "agent.sock")
    if not device_name:
        host.space(rows, config.state, free_mb)
        host.open_files(rows, 8 * len(config.device) + 256)
        if config.identity:
            certificates.identity(rows, config.identity, "agent", config.domain)
        host.metrics(rows, config.metrics, config.state, "agent", running=running)
        state.agent(rows, config, running=running)
    asyncio.run(_over_the_network(rows, config.model_copy(update={"device": chosen}), running, device_name))


async def _over_the_network(rows: Rows, config: AgentConfig, running: bool, device_name: str) -> None:
    if config.broker and config.identity and not device_name:
        await broker.agent(rows, config, running=running)
    await devices(rows, config)
