"""Everything FedTwin raises on purpose. The class says who must act.

TwinError
 |- ConfigError            fix the file; says which key, in which file, and what is accepted
 |- Unreachable            transient: retried with back-off
 |   `- SessionLost        an established session ended; what it carried is stale now
 |- CredentialError        a certificate, host key or password is wrong; says whose, and how to mend it
 |   `- IdentityMismatch   a valid certificate that speaks for somebody else
 |- SchemaError            a YANG module does not parse or lacks an import
 |- SchemaViolation        a device sent what its YANG forbids: quarantined, counted, the rest goes on
 |- OperationRejected      a device refused an operation (rpc-error, gRPC status); says which and why
 |- NotShared              permanent: the domain's policy withholds it
 |- NoPath                 the end points are known, and nothing that meets the request joins them
 |- NotFound               no such element, domain, service or recording
 |- OverCapacity           try again later, or ask for less
 |- StaleVersion           the answer would be about another version: ask again
 |- Conflict               what is asked does not fit the state that the object is in, or it exists already
 `- ContractError          a peer broke the federation contract: oversize, malformed, unsigned
"""

__all__ = [
    "ConfigError",
    "Conflict",
    "ContractError",
    "CredentialError",
    "IdentityMismatch",
    "NoPath",
    "NotFound",
    "NotShared",
    "OperationRejected",
    "OverCapacity",
    "SchemaError",
    "SchemaViolation",
    "SessionLost",
    "StaleVersion",
    "TwinError",
    "Unreachable",
]


class TwinError(Exception):
    """Anything this product raises on purpose: one sentence that names object, place and remedy."""


class ConfigError(TwinError, ValueError):
    """A configuration file cannot be used as it is."""


class Unreachable(TwinError, ConnectionError):
    """A device or peer did not answer; transient."""


class SessionLost(Unreachable):
    """An established session ended."""


class CredentialError(TwinError, PermissionError):
    """A certificate, key, host key or password is missing, expired, unknown or wrong."""


class IdentityMismatch(CredentialError):
    """A valid certificate speaks for somebody other than it was used for."""


class SchemaError(TwinError):
    """A YANG module cannot be loaded."""


class SchemaViolation(TwinError, ValueError):
    """Data that its YANG module forbids."""


class OperationRejected(TwinError):
    """A device refused an operation."""


class NotShared(TwinError, PermissionError):
    """The domain's policy withholds what was asked for; permanent."""


class NoPath(TwinError):
    """Both end points are known, and nothing that meets the request joins them."""


class NotFound(TwinError, LookupError):
    """The named object does not exist, or is not visible to the asker."""


class OverCapacity(TwinError):
    """The peer is working on as much as it accepts at once; transient. `retry_after_s`: 0 is not said."""

    retry_after_s = 0.0


class StaleVersion(TwinError):
    """The version asked about is no longer the one at hand."""


class Conflict(TwinError):
    """What is asked does not fit the state that the object is in, or the object exists already."""


class ContractError(TwinError):
    """A peer broke the federation contract."""
