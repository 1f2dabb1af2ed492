"""A process's own identity, read from files. Owns the checks that fail at start, not at the first peer."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from domain_twin.config import IdentityConfig
from domain_twin.errors import CredentialError, IdentityMismatch
from domain_twin.model import Finding, Severity
from domain_twin.trust.files import Stamp, stamp
from domain_twin.trust.identity import Role, SpiffeId
from domain_twin.trust.roots import identity_of
from domain_twin.trust.sign import Signer

log = logging.getLogger(__name__)

_SOON = 0.25  # of a certificate's life: with less than that left, somebody should have renewed it


@dataclass(frozen=True, slots=True)
class TlsIdentity:
    """A TLS certificate (PEM, leaf first) with its key, and whom they stand for."""

    identity: SpiffeId
    chain: bytes
    key: bytes
    not_before: datetime
    not_after: datetime


@dataclass(frozen=True, slots=True)
class Identity:
    """All a process needs to say who it is: over TLS, and in signed statements."""

    tls: TlsIdentity
    signer: Signer
    signing_chain: bytes  # PEM, leaf first
    not_before: datetime  # the later start of both certificates
    not_after: datetime  # the earlier end of both certificates

    @property
    def id(self) -> SpiffeId:
        """Whom the process stands for."""
        return self.tls.identity

    def same_as(self, other: Identity) -> bool:
        """Whether both hold the same certificates."""
        return (self.tls.chain, self.signing_chain) == (other.tls.chain, other.signing_chain)


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
        max(tls.not_before, signing.not_valid_before_utc),
        min(tls.not_after, signing.not_valid_after_utc),
    )


class RenewingIdentity:
    """An identity that is read again when its files change; what cannot be used leaves the last good one.

    Files may be replaced in any order and in place: what does not fit together is looked at again. `accept`
    may raise a CredentialError for an identity that is sound in itself and of no use here.
    """

    def __init__(
        self, config: IdentityConfig, first: Identity, accept: Callable[[Identity], None] = lambda _: None
    ) -> None:
        self.problem = ""
        """Why what the files hold now is not used; empty while it is."""
        self._config = config
        self._identity = first
        self._accept = accept
        self._former: Identity | None = None
        self._refused = False
        self._seen = stamp(*identity_files(config))

    def current(self, *, again: bool = False) -> Identity:
        """The identity of now; with `again` also one that a peer refused before."""
        seen = stamp(*identity_files(self._config))
        if seen != self._seen or (self.problem and (again or not self._refused)):
            self._renew(seen)
        return self._identity

    def refuse(self, reason: str) -> bool:
        """A peer does not take the renewed identity: go back to the one before, if that holds still."""
        former = self._former
        if former is None or former.not_after <= datetime.now(UTC):
            return False
        self._identity, self._former = former, None
        self._refused = True
        self._explain(reason)
        return True

    def findings(self, domain: str, *, now: datetime | None = None) -> list[Finding]:
        """What a person should see: a renewal that failed, an end that comes near. Named by what is used."""
        identity, at = self._identity, now or datetime.now(UTC)
        left = identity.not_after - at
        life = identity.not_after - identity.not_before
        if left > life * _SOON and not self.problem:
            return []
        ended = left <= timedelta(0)
        when = f"{identity.not_after:%Y-%m-%d %H:%M:%S} UTC"
        code = "identity.not-renewed" if self.problem else "identity.ends-soon"
        message = f"the certificates of {identity.id} {'expired' if ended else 'expire'} at {when}"
        if not ended:
            message += f", which is in {_coarse(left)}"
        if self.problem:
            message += f"; the files that are to take their place are not used: {self.problem}"
        return [
            Finding(
                code,
                Severity.ERROR if ended else Severity.WARNING,
                domain,
                str(identity.id),
                message,
                f"put valid files at {', '.join(map(str, identity_files(self._config)))}; they are taken up"
                " within a second, without a restart",
            )
        ]

    def _renew(self, seen: Stamp) -> None:
        who = self._identity.id
        try:
            renewed = load_identity(self._config, operator=who.operator, role=who.role, name=who.name)
            if stamp(*identity_files(self._config)) != seen:
                raise CredentialError(f"{self._config.certificate}: is being written at this moment")
            self._accept(renewed)
        except (OSError, ValueError) as error:  # a CredentialError, or a file that changed while it was read
            self._explain(str(error))
            return
        self._seen = seen
        self._refused, self.problem = False, ""
        if renewed.same_as(self._identity):
            return
        self._former, self._identity = self._identity, renewed
        log.info("identity renewed", extra={"identity": str(who), "until": renewed.not_after.isoformat()})

    def _explain(self, reason: str) -> None:
        if reason != self.problem:
            self.problem = reason
            log.warning(
                "renewed identity not used", extra={"identity": str(self._identity.id), "reason": reason}
            )


def identity_files(config: IdentityConfig) -> tuple[Path, ...]:
    """The four files of an identity."""
    return config.certificate, config.key, config.signing_certificate, config.signing_key


def _coarse(left: timedelta) -> str:
    minutes = int(left.total_seconds() // 60)
    if minutes < 1:
        return "less than a minute"
    if minutes < 120:
        return f"{minutes} min"
    return f"{minutes // 60} h" if minutes < 48 * 60 else f"{minutes // 1440} days"


def load_tls(certificate: Path, key: Path, *, now: datetime | None = None) -> TlsIdentity:
    """Read and check a TLS certificate and its key. Raises CredentialError."""
    leaf, private = _pair(certificate, key, now or datetime.now(UTC))
    if not isinstance(private, ec.EllipticCurvePrivateKey):
        raise CredentialError(
            f"{certificate}: its key is {_kind(private)}, and only ECDSA (P-256) certificates are accepted"
            " here: the TLS 1.3 floor rests on it; issue one with `fedtwin ca`"
        )
    return TlsIdentity(
        identity_of(leaf),
        certificate.read_bytes(),
        key.read_bytes(),
        leaf.not_valid_before_utc,
        leaf.not_valid_after_utc,
    )


def _pair(certificate_path: Path, key_path: Path, now: datetime) -> tuple[x509.Certificate, PrivateKeyTypes]:
    try:
        certificate, *_ = x509.load_pem_x509_certificates(certificate_path.read_bytes())  # all must be whole
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
