"""A uvicorn server on one socket, ended by whoever runs it. Owns the socket and how it ends; no routes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import Callable, Iterator
from typing import Any, Final

import uvicorn

from domain_twin.config import ApiConfig
from domain_twin.errors import ConfigError
from domain_twin.operations.settings import split_address
from twin_api.protocol import protocol_for

__all__ = ["Server", "listener", "server_for"]

_END_WITHIN_S: Final = 10
_IDLE_S: Final = 30
_HANDSHAKE_WITHIN_S: Final = 10.0


class Server(uvicorn.Server):
    """Leaves signals to the process, and tells when it serves."""

    def __init__(
        self, config: uvicorn.Config, serving: Callable[[], None], tls: ssl.SSLContext | None = None
    ) -> None:
        super().__init__(config)
        self._serving = serving
        self._tls = tls

    @property
    def open(self) -> int:
        """Connections that are open."""
        return len(self.server_state.connections)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to serve: as uvicorn does, with a bound on TLS handshakes."""
        loop = asyncio.get_running_loop()
        config = self.config
        protocol: Any = config.http_protocol_class
        within_s = _HANDSHAKE_WITHIN_S if self._tls else None
        self.servers = [
            await loop.create_server(
                lambda: protocol(config=config, server_state=self.server_state, app_state={}),
                sock=each,
                ssl=self._tls,
                ssl_handshake_timeout=within_s,
                backlog=config.backlog,
            )
            for each in sockets or []
        ]
        self.started = True
        self._serving()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Nothing to capture."""
        yield


def server_for(
    app: Any, config: ApiConfig, serving: Callable[[], None], tls: ssl.SSLContext | None = None
) -> Server:
    """A server of `app` within the configuration's limits; `serving` is told when it takes connections."""
    settings = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        ws="none",
        lifespan="off",
        interface="asgi3",
        proxy_headers=False,
        server_header=False,
        backlog=min(config.limits.connections, 2048),
        timeout_keep_alive=_IDLE_S,
        timeout_graceful_shutdown=_END_WITHIN_S,
        http=protocol_for(config.limits),
    )
    return Server(settings, serving, tls)


def listener(listen: str, backlog: int) -> socket.socket:
    """A socket that listens there. Raises ConfigError."""
    host, port = split_address(listen)
    host = "127.0.0.1" if host == "localhost" else host
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sends at once (TCP_NODELAY) only where the protocol is named: 45 ms an answer else.
    made = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((host, port))
        made.listen(min(backlog, 2048))
    except OSError as error:
        made.close()
        what = os.strerror(error.errno) if error.errno else str(error)
        raise ConfigError(
            f"listen = {listen!r}: cannot listen there ({what}); choose another port, or 0 for any free one"
        ) from error
    return made
