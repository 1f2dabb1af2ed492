"""What the agent's audit is told: every disclosure before it leaves, every refusal, every session.

Owns the words of the records; the chain is `trust.audit_log`'s. Without an audit (an agent whose operator has
switched it off) nothing is recorded and nothing is held back.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from cryptography import x509

from domain_twin.model import Finding, Severity, Version, ViewDelta
from federation.v1 import fedtwin_pb2 as pb

if TYPE_CHECKING:
    from domain_twin.agent.attachment import Asked
    from domain_twin.disclosure.policy import Grant
    from domain_twin.trust.audit_log import AuditLog

__all__ = ["Auditor"]


class Auditor:
    """Writes the agent's records; `trail` None: there is no audit."""

    def __init__(self, trail: AuditLog | None = None) -> None:
        self._trail = trail

    def findings(self, domain: str) -> list[Finding]:
        """That the audit cannot be written, while it cannot."""
        if not self._trail or not self._trail.problem:
            return []
        return [
            Finding(
                "audit.unwritable",
                Severity.ERROR,
                domain,
                "audit",
                f"the audit cannot be written: {self._trail.problem}; nothing is disclosed to peers",
                "make room on the disk and the folder writable; the agent goes on by itself",
            )
        ]

    def head(self) -> pb.AuditHead | None:
        """How far the audit reaches, for the other side to note."""
        if not self._trail or not self._trail.head.seq:
            return None
        head = self._trail.head
        return pb.AuditHead(trail=head.trail, seq=head.seq, sha256=head.sha256)

    async def answered(self, ask: Asked, grant: Grant, payload: bytes, **more: Any) -> None:
        """An answer is about to leave. Raises OverCapacity: then it must not."""
        if self._trail:
            await self._trail.record(
                "disclosed",
                peer=str(ask.peer),
                on_behalf_of=ask.on_behalf_of,
                ask=ask.id,
                job=ask.job_id,
                action=grant.action.value,
                agreement=grant.agreement,
                level=grant.level.value,
                figures=sorted(grant.figures),
                bytes=len(payload),
                answer_sha256=hashlib.sha256(payload).hexdigest(),
                **more,
            )

    async def view_sent(self, ask: Asked, delta: ViewDelta, payload: bytes) -> None:
        """A step of a view is about to leave. Raises OverCapacity: then it must not."""
        if self._trail:
            await self._trail.record(
                "view",
                peer=str(ask.peer),
                on_behalf_of=ask.on_behalf_of,
                ask=ask.id,
                action="view",
                agreement=delta.agreement,
                level=delta.level.value,
                since=_place(delta.source),
                version=_place(delta.target),
                points=len(delta.points),
                segments=len(delta.segments),
                bytes=len(payload),
                answer_sha256=hashlib.sha256(payload).hexdigest(),
            )

    def refused(
        self, peer: str, ask: int, *, on_behalf_of: str, action: str | None, outcome: str, reason: str
    ) -> None:
        """A question was not answered."""
        if self._trail:
            self._trail.note(
                "refused",
                peer=peer,
                on_behalf_of=on_behalf_of,
                ask=ask,
                action=action or "unknown",
                outcome=outcome,
                reason=reason,
            )

    def attached(self, peer: str, session: str, certificate: bytes) -> None:
        """The broker welcomed this agent, signing with this certificate (PEM, leaf first)."""
        if self._trail:
            leaf = x509.load_pem_x509_certificates(certificate)[0]
            self._trail.note(
                "attached",
                peer=peer,
                session=session,
                certificate=f"{leaf.serial_number:x}",
                issuer=leaf.issuer.rfc4514_string(),
            )

    def detached(self, peer: str, reason: str, *, welcomed: bool) -> None:
        """A session ended, or came to none."""
        if self._trail:
            self._trail.note("detached" if welcomed else "session-refused", peer=peer, reason=reason)

    def agreement_ended(self, agreement: str, peer: str, level: str, reason: str) -> None:
        """A view was taken back: its agreement expired, was withdrawn or changed."""
        if self._trail:
            self._trail.note("agreement-ended", agreement=agreement, peer=peer, level=level, reason=reason)

    def sandbox_ended(self, sandbox: str, *, partner: str, peer: str, reason: str) -> None:
        """This domain's part of a partner's twin was closed."""
        if self._trail:
            self._trail.note("sandbox-ended", sandbox=sandbox, on_behalf_of=partner, peer=peer, reason=reason)

    def configured(self, file: str, content: bytes, agreements: list[str]) -> None:
        """A configuration was loaded, at the start or anew."""
        if self._trail:
            digest = hashlib.sha256(content).hexdigest()
            self._trail.note("configured", file=file, file_sha256=digest, agreements=agreements)

    def exported(self, rpc: str, **what: Any) -> None:
        """The domain's own operator took something out over the local socket."""
        if self._trail:
            self._trail.note("exported", peer="operator", rpc=rpc, **what)


def _place(version: Version | None) -> str:
    return f"{version.epoch}/{version.sequence}" if version else ""
