"""Commands that run a long-lived process: emulate, agent, broker. Owns its start, its log and its end.

SIGTERM and SIGINT end it in good order, within `END_WITHIN_S` or else at once with status 3; SIGUSR1 switches
its log between the level that was asked for and debug; SIGHUP is for what it can take up anew, and ends none.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Awaitable, Callable
from logging import Logger
from pathlib import Path
from typing import Annotated, TypeAlias

import typer

from federation.cli.options import LogFormat, LogLevel
from federation.cli.register import command

Run: TypeAlias = Callable[..., Awaitable[None]]

END_WITHIN_S = 30.0
OVERDUE = 3
"""Exit status of a process that did not end in time."""


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    command(app, "agent", section="Run", example="fedtwin agent agent.toml")(agent)
    command(app, "broker", section="Run", example="fedtwin broker broker.toml")(broker)
    command(app, "emulate", section="Run", example="fedtwin emulate network.toml")(emulate)


def emulate(
    *,
    network: Annotated[Path, typer.Argument(metavar="NETWORK_TOML", help="The network to emulate.")],
    log_level: LogLevel = "info",
    log_format: LogFormat = "text",
) -> None:
    """Run an emulated network: real protocols, packets behind them.

    Its devices speak NETCONF over SSH and gNMI over TLS. It stands for the devices in the
    demo, in tests and in trials. Ends by Ctrl-C.
    """

    def load() -> Run:
        from domain_twin.emulator.main import emulate as run
        from domain_twin.emulator.network import load_network

        return lambda path, **told: run(load_network(path), **told)

    run_process("emulated network", load, network, log_level, log_format)


def agent(
    *,
    config: Annotated[Path, typer.Argument(metavar="AGENT_TOML", help="Configuration of the agent.")],
    log_level: LogLevel = "info",
    log_format: LogFormat = "text",
) -> None:
    """Run the twin agent of one domain.

    It mirrors the domain's devices and discloses what its policy permits. It opens no port: it dials the
    broker, and serves its own operator on a Unix socket in its state folder.
    """

    def load() -> Run:
        from domain_twin.agent.main import run_agent

        return run_agent

    run_process("agent", load, config, log_level, log_format)


def broker(
    *,
    config: Annotated[Path, typer.Argument(metavar="BROKER_TOML", help="Configuration of the broker.")],
    log_level: LogLevel = "info",
    log_format: LogFormat = "text",
) -> None:
    """Run the broker that composes the domains' twins into one."""

    def load() -> Run:
        from domain_twin.trust.tls import enforce_tls13_floor

        enforce_tls13_floor()  # before anything imports grpc
        from functools import partial

        from domain_twin.yang.records import load_services
        from federation.broker import run_broker

        return partial(run_broker, load_records=load_services)

    run_process("broker", load, config, log_level, log_format)


def run_process(
    title: str,
    load: Callable[[], Run],
    config: Path | str,
    log_level: str,
    log_format: str,
    *,
    fast_loop: bool = False,
) -> None:
    """Run what `load` gives until it ends or is ended; `config` is what it is given, and told in the log.

    With `fast_loop` in uvloop's event loop, for who answers many small requests.
    """
    import asyncio
    import logging

    from domain_twin.operations.notify import Notifier
    from federation.cli import lifeline, logs

    line, manager = lifeline.take(), Notifier.take()
    logs.to_stderr(log_level, log_format)
    log = logging.getLogger("fedtwin")
    ending = _Ending(log)

    def ready(*_: object) -> None:
        # More signals than the loop reads at once are one and the same news: Python would write its own words
        # about them between the lines of the log.
        if (descriptor := signal.set_wakeup_fd(-1)) >= 0:
            signal.set_wakeup_fd(descriptor, warn_on_full_buffer=False)
        line.ready()
        manager.ready(f"{title} serves")
        log.info("%s is ready", title, extra={"config": str(config)})

    def stopping() -> None:
        manager.stopping()
        ending.begin()

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, _switch_level, log, log_level.upper())
        # An agent sets its own: it takes up changed agreements.
        loop.add_signal_handler(signal.SIGHUP, log.info, "nothing to take up without a new start")
        async with manager.beating():
            await run(config, ready=ready, stopping=stopping)

    run = load()
    if sys.stderr.isatty():
        typer.echo(f"{title} {config}: starting; Ctrl-C ends it", err=True)
    try:
        if fast_loop:
            import uvloop

            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                runner.run(serve())
        else:
            asyncio.run(serve())
    finally:
        ending.done()
        logs.close()


class _Ending:
    """Sees that a process which was asked to end does."""

    def __init__(self, log: Logger) -> None:
        self._log = log
        self._timer: threading.Timer | None = None

    def begin(self) -> None:
        """It was asked to; asking again changes nothing."""
        if self._timer is None:
            self._timer = threading.Timer(END_WITHIN_S, self._overdue)
            self._timer.daemon = True
            self._timer.start()

    def done(self) -> None:
        """It has ended by itself."""
        if self._timer:
            self._timer.cancel()

    def _overdue(self) -> None:
        self._log.error("not ended in time", extra={"within_s": END_WITHIN_S})
        os._exit(OVERDUE)


def _switch_level(log: Logger, asked: str) -> None:
    """Debug, and back: SIGUSR1 at run time."""
    import logging

    root = logging.getLogger()
    root.setLevel(asked if root.level == logging.DEBUG and asked != "DEBUG" else "DEBUG")
    log.warning("log level switched", extra={"to": logging.getLevelName(root.level).lower()})
