"""What events are signed with: an ES256 key of the broker's own, and detached signatures (RFC 7515, 7797).

The key is made at the first start and lies in the broker's state. Its public half is a public record, so that
the api publishes it; a key that was replaced stays published for a month.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from domain_twin.errors import ConfigError
from domain_twin.model import Nanoseconds
from federation.partners.record import Kind, Repository

__all__ = ["FILE_NAME", "HEADER", "EventKey", "publish_key"]

FILE_NAME: Final = "events-key.pem"
HEADER: Final = "Fedtwin-Signature"
_RETIRED_S: Final = 30 * 86_400.0


class EventKey:
    """Signs. Made by `load`."""

    def __init__(self, pem: bytes) -> None:
        """Raises ValueError for what is no P-256 key in PEM."""
        from joserfc.jwk import ECKey

        key = ECKey.import_key(pem)
        if key.curve_name != "P-256" or not key.is_private:
            raise ValueError("not a private key on P-256")
        self._key = key
        self.kid: str = key.thumbprint()  # RFC 7638
        self.public: dict[str, Any] = {
            **key.as_dict(private=False),
            "kid": self.kid,
            "use": "sig",
            "alg": "ES256",
        }
        """The public half, as a JWK."""

    @classmethod
    def load(cls, state: Path) -> EventKey:
        """The key in a folder; made there where there is none. Raises ConfigError."""
        path = state / FILE_NAME
        try:
            if not path.exists():
                _make(path)
            return cls(path.read_bytes())
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"{path}: events cannot be signed with it ({error}); give back the file, or delete it and a"
                " new key is made"
            ) from error

    def sign(self, octets: bytes, *, event_id: str, hub_id: str, at: Nanoseconds) -> str:
        """A signature over just these octets, and who signed them when, for which event and subscription."""
        from joserfc import jws

        protected = {
            "alg": "ES256",
            "kid": self.kid,
            "b64": False,
            "crit": ["b64"],
            "iat": at // 1_000_000_000,
            "eventId": event_id,
            "hubId": hub_id,
        }
        registry = jws.JWSRegistry(algorithms=["ES256"], strict_check_header=False)
        signed = jws.serialize_compact(protected, octets, self._key, registry=registry)
        header, _, rest = signed.partition(".")
        return f"{header}..{rest.rpartition('.')[2]}"


async def publish_key(
    records: Repository, key: EventKey, clock: Callable[[], Nanoseconds] = time.time_ns
) -> None:
    """Have the public half among the public records, and those before it for a while. Raises TwinError."""
    now = clock()
    held = {record.id: record for record in records.list(Kind.SIGNING_KEY)}
    if key.kid not in held:
        await records.create(Kind.SIGNING_KEY, {"id": key.kid, "jwk": key.public})
    for identity, record in held.items():
        retired = record.body.get("retiredAt", 0)
        if identity == key.kid:
            if retired:
                await records.update(record, {"id": identity, "jwk": key.public})
        elif not retired:
            await records.update(record, {**record.body, "retiredAt": now})
        elif now - retired > _RETIRED_S * 1e9:
            await records.remove(record)


def _make(path: Path) -> None:
    from joserfc.jwk import ECKey

    pem = ECKey.generate_key("P-256", private=True).as_pem(private=True)
    made = path.with_suffix(".new")
    made.unlink(missing_ok=True)
    with os.fdopen(os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(pem)
        file.flush()
        os.fsync(file.fileno())
    made.replace(path)
