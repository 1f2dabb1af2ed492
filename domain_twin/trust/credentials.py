"""A process's own identity, read from files. Owns the checks that fail at start, not at the first peer."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from domain_twin.config import IdentityConfig
from domain_twin.errors import CredentialError, IdentityMismatch
from domain_twin.trust.identity import Role, SpiffeId
from domain_twin.trust.roots import identity_of
from domain_twin.trust.sign import Signer

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TlsIdentity:
    """A TLS certificate (PEM, leaf first) with its key, and whom they stand for."""

    identity: SpiffeId
    chain: bytes
    key: bytes
    not_after: datetime


@dataclass(frozen=True, slots=True)
class Identity:
    """All a process needs to say who it is: over TLS, and in signed statements."""

    tls: TlsIdentity
    signer: Signer
    signing_chain: bytes  # PEM, leaf first
    not_after: datetime  # the earlier end of both certificates

    @property
    def id(self) -> SpiffeId:
        """Whom the process stands for."""
        return self.tls.identity


def load_identity(
    config: IdentityConfig, *, operator: str, role: Role, name: str, now: datetime | None = None
) -> Identity:
    """Read and check a process's own certificates and keys. Raises CredentialError, IdentityMismatch."""
    expected = SpiffeId.parse(f"spiffe://{operator}/{role}/{name}")
    tls = load_tls(config.certificate, config.key, now=now)
    signing, key = _pair(config.signing_certificate, config.signing_key, now or datetime.now(UTC))
    if not isinstance(key, ed25519.Ed25519PrivateKey):
        raise CredentialError(f"{config.signing_key}: not an Ed25519 key; issue one with `fedtwin ca {role}`")
    for path, found in (
        (config.certificate, tls.identity),
        (config.signing_certificate, identity_of(signing)),
    ):
        if found != expected:
            raise IdentityMismatch(
                f"{path}: is the certificate of {found}, and this process is {expected} by its configuration;"
                f" issue the right one with `fedtwin ca {role}`, or correct the configuration"
            )
    return Identity(
        tls,
        Signer(key, key_id=str(expected)),
        config.signing_certificate.read_bytes(),
        min(tls.not_after, signing.not_valid_after_utc),
    )


class RenewingIdentity:
    """An identity that is read again when its files change; what cannot be read leaves the last good one."""

    def __init__(self, config: IdentityConfig, first: Identity) -> None:
        self._config = config
        self._identity = first
        self._seen = stamp(*self._files)

    def current(self) -> Identity:
        """The identity of now."""
        if (seen := stamp(*self._files)) != self._seen:
            who = self._identity.id
            try:
                self._identity = load_identity(
                    self._config, operator=who.operator, role=who.role, name=who.name
                )
                self._seen = seen
            except CredentialError as error:
                log.warning("renewed identity not used", extra={"reason": str(error)})
        return self._identity

    @property
    def _files(self) -> tuple[Path, ...]:
        c = self._config
        return c.certificate, c.key, c.signing_certificate, c.signing_key


def stamp(*paths: Path) -> tuple[tuple[int, int], ...]:
    """What changes when one of the files does: modification time and inode; zeros for a missing one."""
    result = []
    for path in paths:
        try:
            status = path.stat()
            result.append((status.st_mtime_ns, status.st_ino))
        except OSError:
            result.append((0, 0))
    return tuple(result)


def load_tls(certificate: Path, key: Path, *, now: datetime | None = None) -> TlsIdentity:
    """Read and check a TLS certificate and its key. Raises CredentialError."""
    leaf, private = _pair(certificate, key, now or datetime.now(UTC))
    if not isinstance(private, ec.EllipticCurvePrivateKey):
        raise CredentialError(
            f"{certificate}: its key is {_kind(private)}, and only ECDSA (P-256) certificates are accepted"
            " here: the TLS 1.3 floor rests on it; issue one with `fedtwin ca`"
        )
    return TlsIdentity(
        identity_of(leaf), certificate.read_bytes(), key.read_bytes(), leaf.not_valid_after_utc
    )


def _pair(certificate_path: Path, key_path: Path, now: datetime) -> tuple[x509.Certificate, PrivateKeyTypes]:
    try:
        certificate = x509.load_pem_x509_certificate(certificate_path.read_bytes())
        mode = key_path.stat().st_mode
        key = load_pem_private_key(key_path.read_bytes(), None)
    except OSError as error:
        raise CredentialError(
            f"{error.filename}: cannot be read ({error.strerror}); check the path, or issue it with `fedtwin"
            " ca`"
        ) from error
    except (ValueError, TypeError) as error:
        raise CredentialError(
            f"{certificate_path}, {key_path}: not a PEM certificate with an unencrypted PEM key ({error})"
        ) from error
    if mode & 0o077:  # raised outside the `try`: a CredentialError is an OSError
        raise CredentialError(f"{key_path}: others may read this private key; run chmod 600 on it")
    if _spki(certificate.public_key()) != _spki(key.public_key()):
        raise CredentialError(
            f"{key_path}: is not the key of {certificate_path}; they are issued as a pair, keep them together"
        )
    if now > certificate.not_valid_after_utc:
        raise CredentialError(
            f"{certificate_path}: expired at {certificate.not_valid_after_utc:%Y-%m-%d %H:%M:%S} UTC; renew"
            " it, for trials with `fedtwin ca`"
        )
    if now < certificate.not_valid_before_utc:
        raise CredentialError(
            f"{certificate_path}: not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M:%S} UTC;"
            " check this machine's clock"
        )
    return certificate, key


def _spki(key: PublicKeyTypes) -> bytes:
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _kind(key: PrivateKeyTypes) -> str:
    return "RSA" if isinstance(key, rsa.RSAPrivateKey) else "no ECDSA key"
