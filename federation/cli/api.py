"""`fedtwin api`: the HTTP face. A client of the twin like any other command, that serves what it may ask."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from federation.cli.options import At, LogFormat, LogLevel
from federation.cli.processes import Run, run_process
from federation.cli.register import command


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file."""
    examples = (
        "fedtwin api",
        "fedtwin api api.toml",
        "fedtwin api --at .fedtwin/demo/ran/state/agent.sock --listen 127.0.0.1:8081",
    )
    command(app, "api", section="Run", example=examples)(api)


def api(
    *,
    config: Annotated[
        Path | None,
        typer.Argument(
            metavar="[API_TOML]",
            help="Configuration of the APIs for partners; without one: SPARQL for this machine alone.",
        ),
    ] = None,
    at: At = "",
    listen: Annotated[
        str,
        typer.Option(
            "--listen", metavar="HOST:PORT", help="Loopback address to serve on; port 0: any free one."
        ),
    ] = "127.0.0.1:8080",
    log_level: LogLevel = "info",
    log_format: LogFormat = "text",
) -> None:
    """Serve partners over HTTP, or SPARQL for this machine.

    With API_TOML: the TM Forum APIs, scenarios and SPARQL for partners, each with an access token and its own
    view of its twins. Without: SPARQL for a broker or an agent; every request is asked with the identity of
    the profile, so only this machine is served. In front of an agent's socket it is the operator's own
    endpoint, over the whole graph of the domain.
    """
    if config is not None:
        if at:
            raise typer.BadParameter("which broker is asked is said in API_TOML", param_hint="--at")
        run_process("api", _for_partners, config, log_level, log_format, fast_loop=True)
        return

    def load() -> Run:
        from twin_api.server import run_api

        async def run(_: str, *, ready: Any, stopping: Any) -> None:
            def told(address: str, twin: str) -> None:
                ready()
                typer.echo(f"serving {address}/sparql, asking {twin}; Ctrl-C ends it", err=True)

            await run_api(at, listen=listen, ready=told, stopping=stopping)

        return run

    run_process("api", load, at or "the twin in use", log_level, log_format)


def _for_partners() -> Run:
    from twin_api.serving import run_partners_api

    async def run(path: Path, *, ready: Any, stopping: Any) -> None:
        def told(address: str) -> None:
            ready()
            typer.echo(f"serving partners at {address}; Ctrl-C ends it", err=True)

        await run_partners_api(path, ready=told, stopping=stopping)

    return run
