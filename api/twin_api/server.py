"""Serves the application on a loopback address, from an open connection to the twin until it is stopped."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator

import uvicorn

from domain_twin.errors import ConfigError
from domain_twin.operations.settings import is_loopback, split_address
from federation.client import TwinClient
from twin_api.app import create_app

__all__ = ["run_api"]

log = logging.getLogger(__name__)

_CONNECTIONS = 64
_HEAD_OCTETS = 128 << 10  # a query may stand in the address
_END_WITHIN_S = 5


class _Server(uvicorn.Server):
    """Leaves signals to the process, and tells when it serves."""

    def __init__(self, config: uvicorn.Config, serving: Callable[[], None]) -> None:
        super().__init__(config)
        self._serving = serving

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve."""
        await super().startup(sockets)
        self._serving()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Nothing to capture."""
        yield


async def run_api(
    at: str,
    *,
    listen: str,
    ready: Callable[[str, str], None] | None = None,
    stopping: Callable[[], None] | None = None,
) -> None:
    """Serve the twin at `at` until SIGINT or SIGTERM; `ready` is told the address, and whom it asks.

    Raises ConfigError for an address that others could reach or that is taken, NotFound where no twin is.
    """
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)  # it tells of its own start and end
    listener = _listener(listen)
    loop = asyncio.get_running_loop()
    host, port = listener.getsockname()[:2]
    address = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    async with TwinClient.connect(at) as twin:

        def serving() -> None:
            if ready:
                ready(address, twin.address)

        def stop() -> None:
            if stopping:
                stopping()
            server.should_exit = True

        config = uvicorn.Config(
            create_app(twin),
            log_config=None,
            access_log=False,
            ws="none",
            lifespan="off",
            proxy_headers=False,
            server_header=False,
            limit_concurrency=_CONNECTIONS,
            timeout_graceful_shutdown=_END_WITHIN_S,
            h11_max_incomplete_event_size=_HEAD_OCTETS,
            http="h11",
        )
        server = _Server(config, serving)
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop)
        try:
            await server.serve([listener])
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)
            listener.close()
    log.info("api ended")


def _listener(listen: str) -> socket.socket:
    """A socket that listens there. Raises ConfigError."""
    try:
        host, port = split_address(listen)
    except ValueError as error:
        raise ConfigError(f"--listen: {error}") from None
    if not is_loopback(host):
        raise ConfigError(
            f"--listen {listen}: other machines could reach it, and every request is answered as the client"
            " whose profile is used; listen on 127.0.0.1 or [::1], and let others in through an SSH tunnel or"
            " a proxy that knows them"
        )
    host = "127.0.0.1" if host == "localhost" else host
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sends at once (TCP_NODELAY) only where the protocol is named: 45 ms an answer else.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_CONNECTIONS)
    except OSError as error:
        listener.close()
        what = os.strerror(error.errno) if error.errno else str(error)
        raise ConfigError(
            f"--listen {listen}: cannot listen there ({what}); choose another port, or 0 for any free one"
        ) from error
    return listener
