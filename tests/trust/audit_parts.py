"""An operator with a signing key, and audits of its agent."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from domain_twin.config import AuditConfig, IdentityConfig
from domain_twin.trust.audit_log import AuditLog
from domain_twin.trust.ca import OperatorCA
from domain_twin.trust.credentials import Identity, load_identity
from domain_twin.trust.identity import Role
from domain_twin.trust.roots import TrustBundle

OPERATOR = "northcell.example"
WHO = f"spiffe://{OPERATOR}/agent/ran"


@dataclass(frozen=True)
class Keys:
    """What an agent signs with, and whose word counts for it."""

    identity: Identity
    trust: TrustBundle
    root: Path

    def log(self, folder: Path, **settings: Any) -> AuditLog:
        return AuditLog(folder, who=WHO, identity=lambda: self.identity, config=AuditConfig(**settings))


def make_keys(folder: Path) -> Keys:
    """A CA of its own, and an agent's identity."""
    ca = OperatorCA.create(OPERATOR, folder / "ca")
    issued = ca.issue(Role.AGENT, "ran", folder / "ran")
    config = IdentityConfig(
        certificate=issued.certificate,
        key=issued.key,
        signing_certificate=issued.signing_certificate,
        signing_key=issued.signing_key,
    )
    identity = load_identity(config, operator=OPERATOR, role=Role.AGENT, name="ran")
    return Keys(identity, TrustBundle.load({OPERATOR: ca.root}), ca.root)


def fill(log: AuditLog, count: int = 20) -> None:
    """Some disclosures."""
    for number in range(count):
        log.append("disclosed", peer="spiffe://exchange.example/broker/main", action="evaluate", bytes=number)
