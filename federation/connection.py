"""A client's connection: a channel with mutual TLS or a Unix socket, asks on it, and what failures mean.

Makes a new channel when the certificate's files change; what was begun on the one before goes on there. grpc
is imported on connecting.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from domain_twin.config import ClientConfig
from domain_twin.errors import CredentialError, TwinError, Unreachable
from domain_twin.trust.files import Stamp, stamp

if TYPE_CHECKING:
    import grpc

__all__ = ["Connection"]

MAX_MESSAGE_BYTES = 64 << 20
_FORMER = 2


class Connection:
    """A connection to one service of a twin, open as long as its `async with` block lasts."""

    use = "`async with`"
    """How it is opened, for who forgot to."""

    def __init__(self, profile: ClientConfig | Path, *, timeout_s: float = 30.0) -> None:
        """`profile` is a broker's profile, or the path of an agent's Unix socket."""
        self._profile = profile
        self._timeout_s = timeout_s
        self._channel: grpc.aio.Channel | None = None
        self._former: list[grpc.aio.Channel] = []  # with what was begun on them
        self._closing: set[asyncio.Task[None]] = set()
        self._seen: Stamp = ()
        self._stub: Any = None

    async def __aenter__(self) -> Self:
        self._open()
        return self

    def _open(self) -> None:
        """Make a channel; what was begun on the one before goes on there."""
        import grpc

        options: list[tuple[str, str | int]] = [
            ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
            ("grpc.enable_http_proxy", 0),
            ("grpc.use_local_subchannel_pool", 1),  # else a new client inherits an old one's back-off
        ]
        if isinstance(self._profile, Path):
            self._channel = grpc.aio.insecure_channel(f"unix:{self._profile.resolve()}", options)
        else:
            from domain_twin.trust.credentials import load_tls
            from domain_twin.trust.tls import channel_credentials, channel_options

            profile = self._profile
            seen = stamp(profile.certificate, profile.key, profile.root)
            credentials = channel_credentials(profile.root, load_tls(profile.certificate, profile.key))
            options += channel_options(profile.server_name)
            if self._channel is not None:
                self._former.append(self._channel)
            if len(self._former) > _FORMER:  # its certificate has ended long ago
                task = asyncio.get_running_loop().create_task(self._former.pop(0).close())
                self._closing.add(task)
                task.add_done_callback(self._closing.discard)
            self._channel = grpc.aio.secure_channel(profile.address, credentials, options)
            self._seen = seen
        self._stub = self._make_stub(self._channel)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for channel in (*self._former, self._channel):
            if channel is not None:
                await channel.close()

    @property
    def address(self) -> str:
        """Where the twin is: the broker's host:port or the agent's socket."""
        return str(self._profile if isinstance(self._profile, Path) else self._profile.address)

    def _make_stub(self, channel: Any) -> Any:
        """The service's stub on a channel; its questions are asked by name."""
        raise NotImplementedError

    def _connected(self) -> Any:
        if self._stub is None:
            raise Unreachable(f"{self.address}: not connected; use {self.use}")
        if not isinstance(self._profile, Path):
            profile = self._profile
            if stamp(profile.certificate, profile.key, profile.root) != self._seen:
                with contextlib.suppress(CredentialError):  # half written: the next question looks again
                    self._open()
        return self._stub

    async def _ask(self, method: str, request: Any, *, timeout_s: float = 0.0) -> Any:
        import grpc

        limit_s = timeout_s or self._timeout_s
        try:
            return await getattr(self._connected(), method)(request, timeout=limit_s)
        except grpc.aio.AioRpcError as error:
            raise await self.error_of(error, limit_s) from None

    async def _messages(self, call: Any) -> AsyncGenerator[Any, None]:
        """The messages of a streaming call until either side ends it; what fails is raised as a TwinError."""
        import grpc

        try:
            async with contextlib.aclosing(aiter(call)) as messages:  # left open it keeps the connection
                async for message in messages:
                    yield message
        except grpc.aio.AioRpcError as error:
            raise await self.error_of(error) from None
        finally:
            call.cancel()

    async def error_of(self, failure: Any, limit_s: float = 0.0) -> TwinError:
        """What a failed call means, in the server's sentence; where no server spoke, the cause of that."""
        import grpc

        from domain_twin.trust.refusal import error_of

        if failure.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            return Unreachable(f"{self.address}: no answer within {limit_s or self._timeout_s:g} s")
        error = error_of(failure, self.address)
        if failure.code() is not grpc.StatusCode.UNAVAILABLE or failure.trailing_metadata():
            return error
        if isinstance(self._profile, Path):
            return Unreachable(f"{self._profile}: nobody answers on this socket; is the agent running?")
        from domain_twin.trust.probe import explain_handshake

        profile = self._profile
        cause = await explain_handshake(
            profile.address,
            root=profile.root,
            certificate=profile.certificate,
            key=profile.key,
            server_name=profile.server_name,
        )
        return cause or error
