"""Commands that run a long-lived process: emulate, agent, broker. Owns its start, log and lifeline."""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from federation.cli.options import LogLevel
from federation.cli.register import command

Run: TypeAlias = Callable[..., Awaitable[None]]


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    command(app, "agent", section="Run", example="fedtwin agent agent.toml")(agent)
    command(app, "broker", section="Run", example="fedtwin broker broker.toml")(broker)
    command(app, "emulate", section="Run", example="fedtwin emulate network.toml")(emulate)


def emulate(
    *,
    network: Annotated[Path, typer.Argument(metavar="NETWORK_TOML", help="The network to emulate.")],
    log_level: LogLevel = "info",
) -> None:
    """Run an emulated network: real protocols, packets behind them.

    Its devices speak NETCONF over SSH and gNMI over TLS. It stands for the devices in the
    demo, in tests and in trials. Ends by Ctrl-C.
    """

    def load() -> Run:
        from domain_twin.emulator.main import emulate as run
        from domain_twin.emulator.network import load_network

        return lambda path, ready: run(load_network(path), ready=ready)

    _serve("emulated network", load, network, log_level)


def agent(
    *,
    config: Annotated[Path, typer.Argument(metavar="AGENT_TOML", help="Configuration of the agent.")],
    log_level: LogLevel = "info",
) -> None:
    """Run the twin agent of one domain.

    It mirrors the domain's devices and discloses what its policy permits. It opens no port: it dials the
    broker, and serves its own operator on a Unix socket in its state folder.
    """

    def load() -> Run:
        from domain_twin.agent.main import run_agent

        return run_agent

    _serve("agent", load, config, log_level)


def broker(
    *,
    config: Annotated[Path, typer.Argument(metavar="BROKER_TOML", help="Configuration of the broker.")],
    log_level: LogLevel = "info",
) -> None:
    """Run the broker that composes the domains' twins into one."""

    def load() -> Run:
        from domain_twin.trust.tls import enforce_tls13_floor

        enforce_tls13_floor()  # before anything imports grpc
        from functools import partial

        from domain_twin.yang.records import load_services
        from federation.broker import run_broker

        return partial(run_broker, load_records=load_services)

    _serve("broker", load, config, log_level)


def _serve(title: str, load: Callable[[], Run], config: Path, log_level: str) -> None:
    import asyncio
    import logging

    from federation.cli import lifeline, logs

    line = lifeline.take()
    logs.to_stderr(log_level)
    log = logging.getLogger("fedtwin")

    def ready(*_: object) -> None:
        line.ready()
        log.info("%s is ready", title, extra={"config": str(config)})

    run = load()
    if sys.stderr.isatty():
        typer.echo(f"{title} {config}: starting; Ctrl-C ends it", err=True)
    asyncio.run(run(config, ready=ready))  # type: ignore[arg-type]
