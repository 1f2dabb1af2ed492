"""gRPC credentials and the TLS 1.3 floor. Owns what grpcio is told; who the peer is, `guard` decides.

grpcio has no setting for the TLS version, and its server accepts TLS 1.2 (grpc#37305). Two controls make the
floor: `enforce_tls13_floor`, which leaves a TLS 1.2 client no cipher suite to agree on, and the guard, which
looks at the version of every connection. The first is for broker processes only: in an agent's process it
would cut off devices that speak TLS 1.2.
"""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from domain_twin.errors import ConfigError, CredentialError, IdentityMismatch
from domain_twin.trust.credentials import TlsIdentity, load_tls
from domain_twin.trust.files import stamp
from domain_twin.trust.roots import TrustBundle

if TYPE_CHECKING:
    import grpc

log = logging.getLogger(__name__)

_SUITES = "GRPC_SSL_CIPHER_SUITES"
# The one TLS 1.2 suite needs an RSA certificate, and `load_tls` refuses those: nothing is left to agree on.
# TLS 1.3 suites are not affected by this setting (and must not be named in it).
_RSA_ONLY = "ECDHE-RSA-AES256-GCM-SHA384"


def enforce_tls13_floor() -> None:
    """Leave TLS 1.2 no cipher suite in this process; called before `import grpc`. Raises ConfigError."""
    if os.environ.get(_SUITES) == _RSA_ONLY:
        return
    if "grpc._cython.cygrpc" in sys.modules:
        raise ConfigError(
            f"grpc was imported before the TLS 1.3 floor was set, so {_SUITES} would have no effect;"
            " call enforce_tls13_floor() first"
        )
    os.environ[_SUITES] = _RSA_ONLY


def server_credentials(
    certificate: Path,
    key: Path,
    trust: TrustBundle,
) -> grpc.ServerCredentials:
    """mTLS with these files and roots, which are read again when they change: a renewal needs no restart.

    Raises CredentialError when they cannot be used now; later, the last good ones stay and the log says why.
    """
    import grpc

    seen = stamp(certificate, key)
    tls = load_tls(certificate, key)
    generation, reason = trust.generation, ""

    def configuration() -> grpc.ServerCertificateConfiguration:
        return grpc.ssl_server_certificate_configuration([(tls.key, tls.chain)], trust.flat_pem)

    def renewed() -> grpc.ServerCertificateConfiguration | None:
        nonlocal seen, tls, generation, reason
        trust.renew()
        changed = trust.generation != generation
        generation = trust.generation
        if (now := stamp(certificate, key)) != seen or reason:
            try:
                new = load_tls(certificate, key)
                check_renewal(tls, new, trust)
                if stamp(certificate, key) != now:
                    raise CredentialError(f"{certificate}: is being written at this moment")
            except (OSError, ValueError) as error:  # CredentialError is the first of them
                if str(error) != reason:  # once, and not at every handshake
                    reason = str(error)
                    log.warning("renewed certificate not used", extra={"reason": reason})
            else:
                seen, tls, reason, changed = now, new, "", True
        return configuration() if changed else None

    return grpc.dynamic_ssl_server_credentials(configuration(), renewed, require_client_authentication=True)


def check_renewal(old: TlsIdentity, new: TlsIdentity, trust: TrustBundle) -> None:
    """Pass when `new` may take the place of `old`: one identity, issued by the operator's own CA.

    Raises CredentialError, IdentityMismatch.
    """
    if new.identity != old.identity:
        raise IdentityMismatch(
            f"the renewed certificate is one of {new.identity}, and this process is {old.identity}; issue it"
            f" with `fedtwin ca {old.identity.role}`"
        )
    if new.identity.operator in trust.operators:
        trust.verify(new.chain)


def channel_credentials(root: Path, tls: TlsIdentity) -> grpc.ChannelCredentials:
    """mTLS as `tls`, to a server whose certificate chains to `root` alone. Raises CredentialError."""
    import grpc

    try:
        pem = root.read_bytes()
    except OSError as error:
        raise CredentialError(
            f"{root}: the root of the broker's operator cannot be read ({error.strerror});"
            " ask that operator for it"
        ) from error
    return grpc.ssl_channel_credentials(pem, tls.key, tls.chain)


def channel_options(server_name: str) -> list[tuple[str, str | int]]:
    """Channel arguments by which `server_name` is looked for in the server's certificate; empty: none."""
    if not server_name:
        return []
    return [("grpc.ssl_target_name_override", server_name), ("grpc.default_authority", server_name)]
