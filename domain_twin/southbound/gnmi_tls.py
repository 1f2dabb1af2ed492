"""TLS towards a device's gNMI server: pinned root, optional client certificate, and why it was refused.

grpcio reports every failed handshake as UNAVAILABLE; `diagnose` dials once more with `ssl` to name the cause.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from pathlib import Path
from typing import Any

from domain_twin.config import GnmiConfig
from domain_twin.errors import CredentialError, IdentityMismatch, TwinError, Unreachable

__all__ = ["channel_credentials", "diagnose"]

_EXPIRED, _NOT_YET_VALID = 10, 9  # X509_V_ERR_*
_WRONG_NAME = {62, 64}

_ALERTS = {
    "UNKNOWN_CA": "does not know the CA of our certificate; have it trust that CA, or set gnmi.certificate"
    " to one of the device's CA",
    "CERTIFICATE_REQUIRED": "demands a client certificate; set gnmi.certificate and gnmi.key",
    "CERTIFICATE_EXPIRED": "refuses our certificate as expired; renew the file in gnmi.certificate",
    "CERTIFICATE_REVOKED": "refuses our certificate as revoked; replace the file in gnmi.certificate",
    "BAD_CERTIFICATE": "refuses our certificate; set gnmi.certificate to one that it accepts",
    "CERTIFICATE_UNKNOWN": "refuses our certificate; set gnmi.certificate to one that it accepts",
    "ACCESS_DENIED": "refuses our certificate; set gnmi.certificate to one that it accepts",
    "HANDSHAKE_FAILURE": "refuses the handshake; if it wants a client certificate, set gnmi.certificate"
    " and gnmi.key",
}


def channel_credentials(device: str, config: GnmiConfig) -> Any:
    """grpc channel credentials from the files of `config`. Raises CredentialError naming the file."""
    import grpc

    return grpc.ssl_channel_credentials(
        root_certificates=_read(device, "root", config.root),
        private_key=_read(device, "key", config.key) if config.key else None,
        certificate_chain=_read(device, "certificate", config.certificate) if config.certificate else None,
    )


def _read(device: str, role: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CredentialError(
            f"device {device}: gnmi.{role} {path} cannot be read ({error.strerror}); check the path"
        ) from error


async def diagnose(device: str, config: GnmiConfig, timeout_s: float) -> TwinError | None:
    """Why a TLS session with the device cannot be made; None where it can."""
    host, _, port = config.address.rpartition(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["h2"])
    try:
        context.load_verify_locations(config.root)
    except (OSError, ssl.SSLError) as error:
        return CredentialError(
            f"device {device}: gnmi.root {config.root} is no PEM certificate file ({error})"
        )
    if config.certificate and config.key:
        try:
            context.load_cert_chain(config.certificate, config.key)
        except (OSError, ssl.SSLError) as error:
            return CredentialError(
                f"device {device}: gnmi.certificate {config.certificate} and gnmi.key {config.key} are no"
                f" PEM certificate and its private key ({error})"
            )
    name = config.server_name or device
    try:
        async with asyncio.timeout(timeout_s):
            reader, writer = await asyncio.open_connection(
                host.strip("[]"), int(port), ssl=context, server_hostname=name
            )
            try:
                # TLS 1.3: the server judges our certificate after our side has finished. If it is content, an
                # HTTP/2 server speaks first; some (gRPC's own) hang up without an alert if not.
                with contextlib.suppress(TimeoutError):
                    try:
                        heard = await asyncio.wait_for(reader.read(1), min(1.0, timeout_s / 2))
                    except ConnectionResetError:
                        heard = b""
                    if not heard:
                        return _hung_up(device, config)
            finally:
                writer.transport.abort()  # a gRPC server answers no close_notify: do not wait for it
    except ssl.SSLCertVerificationError as error:
        return _certificate(device, config, name, error)
    except ssl.SSLError as error:
        return _alert(device, config, error)
    except TimeoutError:
        return Unreachable(f"device {device}: {config.address} did not answer within {timeout_s:g} s")
    except (OSError, ValueError) as error:
        return Unreachable(f"device {device}: cannot connect to {config.address} ({error})")
    return None


def _certificate(
    device: str, config: GnmiConfig, name: str, error: ssl.SSLCertVerificationError
) -> CredentialError:
    if error.verify_code == _EXPIRED:
        return CredentialError(
            f"device {device}: the certificate of {config.address} has expired; renew it there"
        )
    if error.verify_code == _NOT_YET_VALID:
        return CredentialError(
            f"device {device}: the certificate of {config.address} is not valid yet; check both clocks"
        )
    if error.verify_code in _WRONG_NAME:
        return IdentityMismatch(
            f"device {device}: the certificate of {config.address} is not for {name!r}; set gnmi.server_name"
            f" to a name in it, or check that the address is that of {device}"
        )
    return CredentialError(
        f"device {device}: the certificate of {config.address} is not signed by gnmi.root {config.root}"
        f" ({error.verify_message}); set gnmi.root to the CA of the device"
    )


def _hung_up(device: str, config: GnmiConfig) -> CredentialError:
    ours = (
        f"our certificate {config.certificate}" if config.certificate else "us without a client certificate"
    )
    return CredentialError(
        f"device {device}: {config.address} hangs up after the handshake, so it does not accept {ours}; set"
        " gnmi.certificate and gnmi.key to ones of a CA that the device trusts"
    )


def _alert(device: str, config: GnmiConfig, error: ssl.SSLError) -> TwinError:
    reason = (error.reason or str(error)).upper().replace(" ", "_")
    for alert, words in _ALERTS.items():
        if alert in reason:
            return CredentialError(f"device {device}: {config.address} {words}")
    if reason in {"WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE"}:
        return CredentialError(
            f"device {device}: {config.address} does not speak TLS; gNMI without TLS is refused here"
        )
    # Octets that were damaged on the way look like this; no credential does, so it is tried again soon.
    return Unreachable(f"device {device}: the TLS handshake with {config.address} failed ({reason})")
