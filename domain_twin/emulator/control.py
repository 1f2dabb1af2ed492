"""The emulator's control face: JSON lines over a Unix socket that only its owner may open. Server and client.

A request is `{"op": NAME, ...}`, its answer `{"ok": true, "result": ...}` or `{"ok": false, "error": CLASS,
"message": TEXT}`. Owns the framing; what an operation does is the handler's.
"""

import asyncio
import contextlib
import json
import logging
import os
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from domain_twin import errors
from domain_twin.errors import ConfigError, NotFound, TwinError, Unreachable

__all__ = ["SOCKET", "ControlServer", "EmulatorControl", "Operation", "claim"]

log = logging.getLogger(__name__)

Operation = Callable[[Mapping[str, Any]], Awaitable[Any]]
SOCKET = "control.sock"  # in the state folder
_LIMIT = 4 * 1024 * 1024  # octets of one line
_PATH_LIMIT = 100  # sun_path holds 108 octets


async def claim(path: Path) -> None:
    """See that a control socket can be opened at `path`; removes a dead one. Raises ConfigError."""
    if len(os.fsencode(path)) > _PATH_LIMIT:
        raise ConfigError(f"state: {path} is too long a name for a Unix socket; choose a shorter folder")
    try:
        _, writer = await asyncio.open_unix_connection(path)
    except FileNotFoundError:
        return
    except OSError:
        _remove(path)
        return
    writer.close()
    raise ConfigError(f"{path}: an emulator runs with this state folder already; stop it or choose another")


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


class ControlServer:
    """Answers requests on a Unix socket with the given operations."""

    def __init__(self, path: Path, operations: Mapping[str, Operation]) -> None:
        self.path = path
        self._operations = operations
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen. Raises ConfigError where another emulator does, or where the path cannot be used."""
        await claim(self.path)
        before = os.umask(0o177)
        try:
            self._server = await asyncio.start_unix_server(self._connected, self.path, limit=_LIMIT)
        except OSError as error:
            raise ConfigError(f"{self.path}: cannot listen there: {error.strerror}") from error
        finally:
            os.umask(before)

    async def close(self) -> None:
        """Stop listening, end all connections, remove the socket."""
        if self._server is None:
            return
        self._server.close()
        for task in list(self._connections):
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        await self._server.wait_closed()
        self.path.unlink(missing_ok=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            while line := await reader.readline():
                writer.write(json.dumps(await self._answer(line)).encode() + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError, asyncio.CancelledError):
            pass  # gone, or a line beyond the limit: nothing to tell
        finally:
            self._connections.discard(task)
            writer.close()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            request = json.loads(line)
            if not isinstance(request, dict):
                raise ConfigError("a request is an object with an 'op'")
            operation = self._operations.get(str(request.get("op")))
            if operation is None:
                raise NotFound(f"no operation {request.get('op')!r}; there are {', '.join(self._operations)}")
            return {"ok": True, "result": await operation(request)}
        except TwinError as error:
            return {"ok": False, "error": type(error).__name__, "message": str(error)}
        except (ValueError, TypeError, KeyError) as error:
            return {"ok": False, "error": "ConfigError", "message": f"not a valid request: {error}"}


class EmulatorControl:
    """A client of a running emulator: `async with EmulatorControl(path) as control: ...`.

    Every method raises Unreachable where no emulator answers, and the error the emulator gives.
    """

    def __init__(self, path: Path, *, timeout_s: float = 10.0) -> None:
        self.path = path
        self._timeout = timeout_s
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> Self:
        await self._connect()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Hang up."""
        if self._streams is not None:
            self._streams[1].close()
            with contextlib.suppress(OSError):
                await self._streams[1].wait_closed()
            self._streams = None

    async def kinds(self) -> list[dict[str, Any]]:
        """The kinds of fault, with their fields."""
        return await self.request("kinds")  # type: ignore[no-any-return]

    async def inject(self, kind: str, **fields: Any) -> dict[str, Any]:
        """Make a fault happen: `{"id", "at_ns"}`, the second when it took effect."""
        return await self.request("inject", fault={"kind": kind, **fields})  # type: ignore[no-any-return]

    async def clear(self, name: str) -> dict[str, Any]:
        """End an active fault, or with `all` every one."""
        return await self.request("clear", id=name)  # type: ignore[no-any-return]

    async def faults(self) -> list[dict[str, Any]]:
        """The active faults."""
        return await self.request("faults")  # type: ignore[no-any-return]

    async def truth(
        self,
        flow: str | None = None,
        *,
        seconds: float | None = None,
        since_ns: int | None = None,
        until_ns: int | None = None,
    ) -> dict[str, Any]:
        """What became of the packets of a watched flow (default: the service's), see `packet_log.Truth`."""
        fields = {"flow": flow, "seconds": seconds, "since_ns": since_ns, "until_ns": until_ns}
        return await self.request("truth", **fields)  # type: ignore[no-any-return]

    async def flows(self) -> list[dict[str, Any]]:
        """Every flow with its counts."""
        return await self.request("flows")  # type: ignore[no-any-return]

    async def devices(self) -> list[dict[str, Any]]:
        """Every served device: name, domain, ports (0: no such server), whether its servers are up."""
        return await self.request("devices")  # type: ignore[no-any-return]

    async def changes(self, since_ns: int = 0) -> list[dict[str, Any]]:
        """What was changed in the network since then, configuration and faults alike, with the time."""
        return await self.request("changes", since_ns=since_ns)  # type: ignore[no-any-return]

    async def stats(self) -> dict[str, Any]:
        """Packet-hops per second, processor and memory use, time."""
        return await self.request("stats")  # type: ignore[no-any-return]

    async def shutdown(self) -> None:
        """End the emulator."""
        await self.request("shutdown")

    async def request(self, op: str, **fields: Any) -> Any:
        """Send one request and wait for its answer."""
        async with self._turn:
            if self._streams is None:
                await self._connect()
            assert self._streams is not None
            reader, writer = self._streams
            wanted = {name: value for name, value in fields.items() if value is not None}
            try:
                async with asyncio.timeout(self._timeout):
                    writer.write(json.dumps({"op": op, **wanted}).encode() + b"\n")
                    await writer.drain()
                    line = await reader.readline()
            except TimeoutError:
                await self.close()
                raise Unreachable(f"{self.path}: no answer to {op} within {self._timeout:g} s") from None
            except OSError as error:
                await self.close()
                raise Unreachable(f"{self.path}: the emulator went away: {error}") from None
            if not line:
                await self.close()
                raise Unreachable(f"{self.path}: the emulator went away")
        answer = json.loads(line)
        if answer["ok"]:
            return answer["result"]
        kind = getattr(errors, str(answer["error"]), TwinError)
        raise kind(answer["message"])

    async def _connect(self) -> None:
        try:
            self._streams = await asyncio.open_unix_connection(self.path, limit=_LIMIT)
        except OSError as error:
            raise Unreachable(
                f"{self.path}: no emulator answers ({error.strerror or error}); is it running? "
                "Start one with: fedtwin emulate network.toml"
            ) from None
