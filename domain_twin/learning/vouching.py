"""Whose keys mask a private round: each domain signs its own, and takes only those of domains that it knows.

Without it a broker that lies could hand out keys of its own in everybody's name, and unmask whom it likes.
Owns the statement; certificates and signatures are `trust`'s.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from domain_twin.config import IdentityConfig
from domain_twin.errors import ConfigError, ContractError, CredentialError
from domain_twin.trust.credentials import load_identity
from domain_twin.trust.identity import Role, SpiffeId
from domain_twin.trust.roots import TrustBundle
from domain_twin.trust.sign import Verifier

__all__ = ["Vouching"]

_KIND: Final = "secagg-keys"
_MAX_BYTES: Final = 64 << 10


@dataclass(frozen=True, slots=True)
class Vouching:
    """One domain's. `peers` are the agents that it trains privately with, each with its operator's root."""

    operator: str
    domain: str
    identity: IdentityConfig
    peers: Mapping[str, Path]

    def state(self, run: int, round_: int, keys: tuple[bytes, bytes]) -> bytes:
        """That `keys` are its own in this round; takes up renewed certificates. Raises CredentialError."""
        own = load_identity(self.identity, operator=self.operator, role=Role.AGENT, name=self.domain)
        signature = own.signer.sign(_payload(self.domain, run, round_, keys), kind=_KIND)
        return json.dumps({"certificate": own.signing_chain.decode(), "signature": signature}).encode()

    def check(self, domain: str, run: int, round_: int, keys: tuple[bytes, bytes], statement: bytes) -> None:
        """Pass when `domain` stated that. Raises ContractError: it is not a peer, or did not."""
        peer = next(
            (SpiffeId.parse(text) for text in self.peers if SpiffeId.parse(text).name == domain), None
        )
        if peer is None:
            raise ContractError(f"private round: {domain!r} is not among the peers that this domain knows")
        try:
            if len(statement) > _MAX_BYTES:
                raise ValueError("it is too long")
            said = json.loads(statement)
            chain, signature = str(said["certificate"]).encode(), str(said["signature"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ContractError(
                f"private round: no statement of {domain!r} about its keys ({error})"
            ) from None
        bundle = TrustBundle.load({peer.operator: self.peers[str(peer)]})
        try:
            signer = bundle.verify_signing(chain, expected=peer)
            Verifier(signer).verify(
                _payload(domain, run, round_, keys), signature, kind=_KIND, now=datetime.now(UTC)
            )
        except CredentialError as error:
            raise ContractError(f"private round: the keys of {domain!r} are not its own: {error}") from error

    @property
    def names(self) -> tuple[str, ...]:
        """Domains of the peers. Raises ConfigError where two have one name."""
        names = tuple(sorted(SpiffeId.parse(text).name for text in self.peers))
        if len(set(names)) != len(names):
            raise ConfigError("[learning] peers: two agents have the same domain's name")
        return names

    @property
    def operators(self) -> Mapping[str, str]:
        """Whose each peer's domain is: whose CA its identity must be from."""
        return {peer.name: peer.operator for peer in map(SpiffeId.parse, self.peers)}


def _payload(domain: str, run: int, round_: int, keys: tuple[bytes, bytes]) -> bytes:
    first, second = keys
    return json.dumps([domain, run, round_, first.hex(), second.hex()]).encode()
