"""Keep up with certificates and roots that are renewed while the broker runs. Owns when sessions open anew.

Files that cannot be used change nothing but the findings: the last good ones stay until their end.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import NoReturn

from domain_twin.errors import CredentialError
from domain_twin.model import Finding, Severity
from domain_twin.trust.roots import TrustBundle
from federation.attach import FederationService
from federation.events import FindingBoard
from federation.session import Session

__all__ = ["Renewal"]

_LOOK_EVERY_S = 1.0
_PEER_SOON = timedelta(minutes=10)


class Renewal:
    """Watches the broker's own files and its roots; `run` never ends."""

    def __init__(
        self,
        federation: FederationService,
        trust: TrustBundle,
        findings: FindingBoard,
        *,
        roots_grace_s: float = 60.0,
    ) -> None:
        """A session whose agent did not attach anew `roots_grace_s` after the roots changed ends."""
        self._federation = federation
        self._trust = trust
        self._findings = findings
        self._roots_grace_s = roots_grace_s
        self._identity = federation.identity.current()
        self._generation = trust.generation
        self._on_trial: dict[Session, float] = {}

    async def run(self) -> NoReturn:
        """Look at the files every second."""
        while True:
            self.look()
            await asyncio.sleep(_LOOK_EVERY_S)

    def look(self) -> None:
        """Take up what changed, and report what a person should see."""
        identity = self._federation.identity.current()
        self._trust.renew()
        if self._trust.generation != self._generation:
            self._generation = self._trust.generation
            self._federation.reattach_all("the roots that the broker trusts were renewed")
            until = time.monotonic() + self._roots_grace_s
            self._on_trial |= dict.fromkeys(self._federation.sessions.values(), until)
        elif identity is not self._identity:
            self._federation.reattach_all("the broker's certificates were renewed")
        self._identity = identity
        self._end_untrusted()
        self._findings.report("certificates", list(self._found(datetime.now(UTC))))

    def _end_untrusted(self) -> None:
        now = time.monotonic()
        for session, until in list(self._on_trial.items()):
            if not session.open:
                del self._on_trial[session]
            elif now >= until:
                del self._on_trial[session]
                reason = (
                    f"{session.peer}: did not open a new session when the broker's roots were renewed; have a"
                    " certificate issued under a root that is trusted now"
                )
                session.end(reason, CredentialError(reason))

    def _found(self, now: datetime) -> Iterable[Finding]:
        yield from self._federation.identity.findings("", now=now)
        if self._trust.problem:
            yield Finding(
                "trust.not-renewed",
                Severity.WARNING,
                "",
                "[trust]",
                f"the roots that changed are not used, the last good ones are: {self._trust.problem}",
                "mend the file; it is taken up within a second, without a restart",
            )
        for session in self._federation.sessions.values():
            if session.peer_expires_at - now <= _PEER_SOON:
                yield Finding(
                    "domain.certificate-ends",
                    Severity.WARNING,
                    session.domain,
                    str(session.peer),
                    f"the certificates of {session.peer} expire at"
                    f" {session.peer_expires_at:%Y-%m-%d %H:%M:%S} UTC, and it has not renewed them; its"
                    " session ends then",
                    f"the operator of {session.domain} puts renewed files in place, without a restart",
                )
