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
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from domain_twin.errors import ConfigError, CredentialError
from domain_twin.trust.credentials import TlsIdentity, load_tls, stamp
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
    *,
    on_renewal: Callable[[TlsIdentity], None] = lambda _: None,
) -> grpc.ServerCredentials:
    """mTLS with these files, which are read again when they change: a renewed certificate needs no restart.

    Raises CredentialError when they cannot be used now; later, the last good ones stay and the log says why.
    """
    import grpc

    load_tls(certificate, key)
    roots = trust.flat_pem
    seen = stamp(certificate, key)

    def configuration(tls: TlsIdentity) -> grpc.ServerCertificateConfiguration:
        return grpc.ssl_server_certificate_configuration([(tls.key, tls.chain)], roots)

    def renewed() -> grpc.ServerCertificateConfiguration | None:
        nonlocal seen
        now = stamp(certificate, key)
        if now == seen:
            return None
        try:
            tls = load_tls(certificate, key)
        except CredentialError as error:
            log.warning("renewed certificate not used", extra={"reason": str(error)})
            return None
        seen = now
        on_renewal(tls)
        return configuration(tls)

    return grpc.dynamic_ssl_server_credentials(
        configuration(load_tls(certificate, key)), renewed, require_client_authentication=True
    )


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
