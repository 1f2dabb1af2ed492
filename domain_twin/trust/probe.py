"""Why a TLS handshake with a server fails: a second look with `ssl`, as grpcio hides the reason.

Owns the sentences. Called only after a dial failed; it never decides that a peer is trusted.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from pathlib import Path

from cryptography import x509

from domain_twin.errors import CredentialError, IdentityMismatch, TwinError, Unreachable

_ALERTS = {
    "UNKNOWN_CA": "does not know the CA of our certificate {certificate}; have the CA that issued it added"
    " to the broker's [trust], or use a certificate of the CA that is there",
    "CERTIFICATE_EXPIRED": "says that our certificate {certificate} has expired; renew it, for trials with"
    " `fedtwin ca`",
    "CERTIFICATE_REQUIRED": "needs a client certificate, and none was sent; check {certificate}",
    "BAD_CERTIFICATE": "does not accept our certificate {certificate}; have it issued for a TLS client by a"
    " CA that the broker trusts",
    "CERTIFICATE_UNKNOWN": "does not accept our certificate {certificate}; have it issued by a CA that the"
    " broker trusts",
    "UNSUPPORTED_CERTIFICATE": "does not accept the kind of our certificate {certificate}; it must be ECDSA"
    " P-256 for a TLS client",
    "PROTOCOL_VERSION": "does not speak TLS 1.3, or refuses the TLS version of this side; TLS 1.3 is the"
    " least accepted, update the TLS library that is older",
    "HANDSHAKE_FAILURE": "found no cipher suite in common; TLS 1.3 is the least accepted, update the TLS"
    " library that is older",
    "INSUFFICIENT_SECURITY": "refuses the cipher suites of this side; TLS 1.3 is the least accepted",
}


async def explain_handshake(
    address: str,
    *,
    root: Path,
    certificate: Path,
    key: Path,
    server_name: str = "",
    timeout_s: float = 5.0,
    minimum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    maximum: ssl.TLSVersion = ssl.TLSVersion.MAXIMUM_SUPPORTED,
) -> TwinError | None:
    """Why dialling `address` (host:port) fails, as the error to show; None when the handshake succeeds."""
    host, _, port = address.rpartition(":")
    name = server_name or host.strip("[]")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = minimum
    context.maximum_version = maximum
    context.set_alpn_protocols(["h2"])
    try:
        context.load_verify_locations(root)
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        return CredentialError(
            f"{root}, {certificate}, {key}: cannot be used for TLS ({error}); check the files of [broker]"
            " root and [identity]"
        )
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(
                host.strip("[]"), int(port), ssl=context, server_hostname=name
            )
            try:
                # In TLS 1.3 the client is done before the server has judged its certificate, and grpcio's
                # server closes without an alert: whoever is accepted gets HTTP/2 settings at once.
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(timeout_s / 2):
                        if not await reader.read(1):
                            return _not_accepted(address, certificate)
            finally:
                writer.transport.abort()
    except ssl.SSLCertVerificationError as error:
        return _server_certificate(address, name, root, error)
    except ssl.SSLEOFError:
        return _cut_short(address, maximum)
    except ssl.SSLError as error:
        return _alert(address, certificate, error)
    except ConnectionResetError:
        return _cut_short(address, maximum)
    except TimeoutError:
        return Unreachable(f"{address}: no answer to a TLS handshake within {timeout_s:g} s")
    except (OSError, ValueError) as error:
        return Unreachable(f"{address}: {getattr(error, 'strerror', None) or error}; is the broker running?")
    return None


def _cut_short(address: str, maximum: ssl.TLSVersion) -> TwinError:
    # grpcio's server ends such a handshake without an alert, so the offer is all there is to judge by.
    if maximum is not ssl.TLSVersion.MAXIMUM_SUPPORTED and maximum < ssl.TLSVersion.TLSv1_3:
        return CredentialError(
            f"{address}: the broker refuses the TLS version of this side, {maximum.name}; TLS 1.3 is the"
            " least accepted, update the TLS library of this side"
        )
    return Unreachable(
        f"{address}: the other side ended the TLS handshake without saying why; is that the broker's port?"
    )


def _not_accepted(address: str, certificate: Path) -> TwinError:
    try:
        issuer = x509.load_pem_x509_certificate(certificate.read_bytes()).issuer.rfc4514_string()
    except (OSError, ValueError) as error:
        issuer = f"unreadable: {error}"
    return CredentialError(
        f"{address}: the broker does not accept our certificate {certificate}, issued by {issuer}: it does"
        " not know that CA, or the certificate has expired by its clock; have the CA's root added to the"
        " broker's [trust], or use a certificate of the CA that is there"
    )


def _server_certificate(
    address: str, name: str, root: Path, error: ssl.SSLCertVerificationError
) -> TwinError:
    reason = error.verify_message
    if error.verify_code == 10:  # X509_V_ERR_CERT_HAS_EXPIRED
        return CredentialError(f"{address}: the broker's certificate has expired; its operator must renew it")
    if error.verify_code in {62, 64}:  # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
        return IdentityMismatch(
            f"{address}: the certificate there is not one for {name!r}, so it is not the broker's (an agent's"
            " certificate, for one, carries no DNS name); check the address, or set server_name to the name"
            " that the broker's certificate carries"
        )
    if error.verify_code == 26:  # X509_V_ERR_INVALID_PURPOSE
        return IdentityMismatch(
            f"{address}: the certificate there is not one for a server: somebody, perhaps an agent, poses as"
            " the broker; check the address"
        )
    return CredentialError(
        f"{address}: the certificate there was not issued under {root} ({reason}); the root of the broker's"
        " operator is needed, ask that operator for it"
    )


def _alert(address: str, certificate: Path, error: ssl.SSLError) -> TwinError:
    reason = (error.reason or str(error)).upper()
    for alert, sentence in _ALERTS.items():
        if alert in reason:
            return CredentialError(f"{address}: the broker {sentence.format(certificate=certificate)}")
    # Octets that were damaged on the way look like this; no credential does, so it is tried again soon.
    return Unreachable(
        f"{address}: the TLS handshake fails ({error.reason or error}); is that the broker's port?"
    )
