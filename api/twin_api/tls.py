"""TLS 1.3 of the API process: its certificate, followed when renewed, and the roots of clients' ones."""

from __future__ import annotations

import asyncio
import logging
import ssl
from datetime import UTC, datetime

from cryptography import x509

from domain_twin.config import ApiTlsConfig
from domain_twin.errors import ConfigError
from domain_twin.trust.files import stamp

__all__ = ["ServerTls"]

log = logging.getLogger(__name__)

_LOOK_EVERY_S = 1.0


class ServerTls:
    """A context for a listener; `follow` puts a renewed certificate into it, for connections from then on."""

    def __init__(self, config: ApiTlsConfig) -> None:
        """Raises ConfigError where the files are of no use."""
        self._config = config
        self._seen = stamp(config.certificate, config.key)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_3
        self.context.set_alpn_protocols(["http/1.1"])
        self.not_after = self._load(self.context)
        """When the certificate in use ends."""
        if config.client_roots:
            try:
                self.context.load_verify_locations(cafile=str(config.client_roots))
            except OSError as error:
                raise ConfigError(
                    f"{config.client_roots}: no PEM file with roots ({error.strerror or error})"
                ) from error
            self.context.verify_mode = ssl.CERT_OPTIONAL  # whoever has a bound token must show one

    async def follow(self) -> None:
        """Look for a renewed certificate until cancelled; one of no use leaves the last good one."""
        while True:
            await asyncio.sleep(_LOOK_EVERY_S)
            seen = stamp(self._config.certificate, self._config.key)
            if seen == self._seen:
                continue
            self._seen = seen
            try:
                self._load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))  # a pair that fits, before it is used
                self.not_after = self._load(self.context)
            except ConfigError as error:
                log.warning("renewed certificate not used", extra={"reason": str(error)})
            else:
                log.info("certificate renewed", extra={"until": self.not_after.isoformat()})

    def _load(self, context: ssl.SSLContext) -> datetime:
        certificate, key = self._config.certificate, self._config.key
        try:
            if key.stat().st_mode & 0o077:
                raise ConfigError(f"{key}: others may read this private key; run chmod 600 on it")
            leaf = x509.load_pem_x509_certificates(certificate.read_bytes())[0]
            if leaf.not_valid_after_utc <= datetime.now(UTC):
                raise ConfigError(f"{certificate}: expired at {leaf.not_valid_after_utc:%Y-%m-%d %H:%M} UTC")
            context.load_cert_chain(certificate, key, password="")
        except ConfigError:
            raise
        except (OSError, ValueError) as error:  # an ssl.SSLError is an OSError
            raise ConfigError(
                f"{certificate}, {key}: not a PEM certificate with its unencrypted PEM key ({error})"
            ) from error
        return leaf.not_valid_after_utc
