"""Who a peer is: SPIFFE identities and the roles they name. Owns their syntax; verifies nothing.

An identity is `spiffe://OPERATOR/ROLE/NAME`. The operator is the SPIFFE trust domain: only that operator's
own roots may vouch for it (see `domain_twin.trust.roots`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

from domain_twin.errors import CredentialError

_OPERATOR = re.compile(r"[a-z0-9]([a-z0-9._-]{0,253}[a-z0-9])?")  # SPIFFE-ID 2.1
_NAME = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,128}")  # SPIFFE-ID 2.2: no empty, `.` or `..` segment


class Role(StrEnum):
    """What an identity stands for; the first segment of its path."""

    AGENT = "agent"
    BROKER = "broker"
    API = "api"
    USER = "user"
    PARTNER = "partner"
    """A client of the exchange's HTTP APIs: spoken for by the broker, never the owner of a certificate."""


@dataclass(frozen=True, slots=True, order=True)
class SpiffeId:
    """`spiffe://OPERATOR/ROLE/NAME`; the name of an agent is its domain."""

    operator: str
    role: Role
    name: str

    @classmethod
    def parse(cls, text: str) -> SpiffeId:
        """The identity that `text` spells. Raises CredentialError when it is not one of ours."""
        scheme, separator, rest = text.partition("://")
        operator, _, path = rest.partition("/")
        role, _, name = path.partition("/")
        if (
            scheme != "spiffe"
            or not separator
            or not _OPERATOR.fullmatch(operator)
            or role not in set(Role)
            or not _NAME.fullmatch(name)
        ):
            raise CredentialError(
                f"{text!r} is not an identity of this federation; it is spelled spiffe://OPERATOR/ROLE/NAME,"
                f" where ROLE is one of {', '.join(Role)}"
            )
        return cls(operator, Role(role), name)

    def __str__(self) -> str:
        return f"spiffe://{self.operator}/{self.role}/{self.name}"

    def matches(self, pattern: str) -> bool:
        """Whether `pattern` names this identity: itself, or `spiffe://OPERATOR/ROLE/*`."""
        if pattern.endswith("/*"):
            return pattern == f"spiffe://{self.operator}/{self.role}/*"
        return pattern == str(self)


def operator_name(text: str) -> str:
    """`text` when it can be an operator's trust domain. Raises CredentialError."""
    if not _OPERATOR.fullmatch(text):
        raise CredentialError(
            f"{text!r} cannot name an operator; use a DNS-like name in lower case, such as longhaul.example"
        )
    return text
