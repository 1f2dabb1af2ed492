"""The Partners service as a Python API, for the process that serves partners over HTTP.

A create says whether its key was known. Following gives the state, then news; it ends with the connection,
and goes on from `News.epoch` and `News.sequence` as they were sent last.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any

from domain_twin.config import load_client
from federation.connection import Connection
from federation.partners import wire
from federation.partners.record import Body, Kind, Made, News, Record
from federation.v1 import fedtwin_pb2 as pb

__all__ = ["PartnersClient"]


class PartnersClient(Connection):
    """A connection to one broker's partners, used as `async with PartnersClient.connect(at) as partners`."""

    use = "`async with PartnersClient.connect(…)`"

    @classmethod
    def connect(cls, at: str | Path, *, timeout_s: float = 30.0) -> PartnersClient:
        """A client of the broker behind a client profile (TOML). Raises ConfigError."""
        return cls(load_client(Path(at)), timeout_s=timeout_s)

    def _make_stub(self, channel: Any) -> Any:
        from federation.v1.fedtwin_pb2_grpc import PartnersStub

        return PartnersStub(channel)

    async def create(self, tenant: str, kind: Kind, body: Body, *, key: str = "") -> Made:
        """Keep a new record, once for each key of a tenant; durable when it returns.

        Raises ContractError, Conflict, OverCapacity, NotShared, Unreachable. After Unreachable it may have
        been kept: ask again with the same key.
        """
        request = pb.CreateRecordRequest(tenant=tenant, kind=kind, body=_json(body), key=key)
        answer = await self._ask("Create", request)
        return Made(wire.decode_record(answer.record), answer.repeated_key)

    async def change(
        self, tenant: str, kind: Kind, identity: str, patch: Body, *, if_version: int = 0
    ) -> Record:
        """Merge a patch (RFC 7396) into a record; durable when it returns.

        Raises StaleVersion at another version than `if_version` (0: any), NotFound, Conflict, ContractError,
        NotShared, OverCapacity, Unreachable.
        """
        request = pb.ChangeRecordRequest(
            tenant=tenant, kind=kind, id=identity, patch=_json(patch), if_version=if_version
        )
        return wire.decode_record((await self._ask("Change", request)).record)

    async def remove(self, tenant: str, kind: Kind, identity: str, *, if_version: int = 0) -> int:
        """Forget a record; the sequence of that change. Raises as `change` does."""
        request = pb.RemoveRecordRequest(tenant=tenant, kind=kind, id=identity, if_version=if_version)
        return int((await self._ask("Remove", request)).sequence)

    async def follow(self, after: int = 0, epoch: str = "") -> AsyncGenerator[News, None]:
        """All records of all tenants, then every change; something comes at least every second.

        Raises Unreachable when the connection is lost, CredentialError when the certificate ended: follow
        again with what was sent last. Close it (`aclose`) where it is left before its end.
        """
        call = self._connected().Follow(pb.FollowRecordsRequest(after=after, epoch=epoch))
        async with aclosing(self._messages(call)) as messages:
            async for message in messages:
                yield wire.decode_news(message)


def _json(body: Body) -> bytes:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()
