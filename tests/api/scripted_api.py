"""An HTTP server on loopback that answers as a test scripts it: for what a real api seldom does."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Asked:
    """One request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Answer:
    """What is answered; status 0: the connection is cut instead."""

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)

    def text(self) -> bytes:
        data = self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()
        if self.body is None:
            data = b""
        lines = [f"HTTP/1.1 {self.status} x", f"Content-Length: {len(data)}", "Connection: close"]
        lines += [f"{name}: {value}" for name, value in self.headers.items()]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + data


class Scripted:
    """Answers in turn; the last answer stays."""

    def __init__(self, answers: list[Answer] | Callable[[Asked], Answer]) -> None:
        self.answers = answers
        self.asked: list[Asked] = []
        self.url = ""

    def _next(self, asked: Asked) -> Answer:
        if callable(self.answers):
            return self.answers(asked)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            first, *rest = head.strip().split("\r\n")
            method, path, _ = first.split(" ")
            headers = {
                name.lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)
            }
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            asked = Asked(method, path, headers, body)
            self.asked.append(asked)
            answer = self._next(asked)
            if answer.status:
                writer.write(answer.text())
                await writer.drain()
        finally:
            writer.close()


@asynccontextmanager
async def scripted(answers: list[Answer] | Callable[[Asked], Answer]) -> AsyncIterator[Scripted]:
    """Serve on a free port."""
    script = Scripted(answers)
    server = await asyncio.start_server(script.serve, "127.0.0.1", 0)
    script.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield script
    finally:
        server.close()
        await server.wait_closed()
