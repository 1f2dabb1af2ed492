"""Whose word counts: each operator's roots, for that operator only. Owns verification of certificate chains.

gRPC's TLS sees one flat bundle of all operators' roots, so it would accept a certificate of one operator's CA
in another operator's name. Here a chain is verified against only the roots of the operator that its SPIFFE
URI names.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from domain_twin.errors import ConfigError, CredentialError, IdentityMismatch
from domain_twin.trust.ca import DOCUMENT_SIGNING
from domain_twin.trust.files import Stamp, stamp
from domain_twin.trust.identity import SpiffeId, operator_name

log = logging.getLogger(__name__)

_MAX_CHAIN = 5
# X.509 extensions that `_follow` honours; another critical one refuses the chain (RFC 5280 4.2).
_UNDERSTOOD = {
    x509.BasicConstraints.oid,
    x509.KeyUsage.oid,
    x509.ExtendedKeyUsage.oid,
    x509.SubjectAlternativeName.oid,
}


@dataclass(frozen=True, slots=True)
class VerifiedPeer:
    """Who presented a TLS certificate, and until when it holds."""

    identity: SpiffeId
    not_after: datetime


@dataclass(frozen=True, slots=True)
class VerifiedSigner:
    """Whose statements a key makes, and until when."""

    identity: SpiffeId
    public_key: Ed25519PublicKey
    not_after: datetime


class TrustBundle:
    """Operators and their roots. One that was loaded from files can be renewed from them."""

    def __init__(self, roots: Mapping[str, bytes]) -> None:
        """`roots` holds PEM by operator. Raises ConfigError for rubbish and for a root that two share."""
        self.generation = 0
        """Grows whenever other roots count than before: what was verified is to be verified anew."""
        self.problem = ""
        """Why the files are not used as they are now; empty while they are."""
        self._paths: Mapping[str, Path] = {}
        self._seen: Stamp = ()
        self._roots = self._checked(roots)

    @staticmethod
    def _checked(roots: Mapping[str, bytes]) -> dict[str, list[x509.Certificate]]:
        found: dict[str, list[x509.Certificate]] = {}
        owner: dict[bytes, str] = {}
        for operator, pem in roots.items():
            try:
                certificates = x509.load_pem_x509_certificates(pem)
            except ValueError as error:
                raise ConfigError(
                    f"trust: the roots of {operator} are not PEM certificates ({error})"
                ) from error
            for certificate in certificates:
                spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
                if (other := owner.setdefault(spki, operator)) != operator:
                    raise ConfigError(
                        f"trust: {operator} and {other} have a root with the same key, so each could speak"
                        " for the other; every operator needs a CA of its own"
                    )
            found[operator_name(operator)] = certificates
        return found

    @classmethod
    def load(cls, paths: Mapping[str, Path]) -> TrustBundle:
        """Read the roots from PEM files, by operator. Raises ConfigError."""
        seen = stamp(*paths.values())
        bundle = cls(_read(paths))
        bundle._paths, bundle._seen = dict(paths), seen
        return bundle

    def renew(self) -> bool:
        """Take up changed files; True when other roots count now. What cannot be used leaves the old ones.

        A root is replaced in three steps: old and new one in the file, new certificates, old one out of it.
        """
        if (seen := stamp(*self._paths.values())) == self._seen and not self.problem:
            return False
        try:
            roots = self._checked(_read(self._paths))
            if stamp(*self._paths.values()) != seen:
                raise ConfigError("trust: the roots are being written at this moment")
        except ConfigError as error:
            if str(error) != self.problem:
                self.problem = str(error)
                log.warning("renewed roots not used", extra={"reason": self.problem})
            return False
        self._seen, self.problem = seen, ""
        if roots == self._roots:
            return False
        self._roots = roots
        self.generation += 1
        log.info("roots renewed", extra={"operators": sorted(roots)})
        return True

    @property
    def operators(self) -> tuple[str, ...]:
        """Operators that have roots here."""
        return tuple(self._roots)

    @property
    def flat_pem(self) -> bytes:
        """All roots as one PEM: for the TLS handshake only, which cannot tell operators apart."""
        return b"".join(c.public_bytes(Encoding.PEM) for group in self._roots.values() for c in group)

    def verify(self, chain: bytes, *, now: datetime | None = None) -> VerifiedPeer:
        """Who a TLS client is, by its PEM chain (leaf first). Raises CredentialError, IdentityMismatch."""
        leaf, *rest = _parse(chain)
        intermediates = [certificate for certificate in rest if certificate != leaf]
        identity = identity_of(leaf)
        at = now or datetime.now(UTC)
        _in_time(identity, [leaf, *intermediates], at)
        if self._verified(self._of(identity), leaf, intermediates, at):
            return VerifiedPeer(identity, leaf.not_valid_after_utc)
        self._refuse_foreign(
            identity,
            [o for o, roots in self._roots.items() if self._verified(roots, leaf, intermediates, at)],
        )
        raise CredentialError(
            f"{identity}: its certificate does not chain to the roots that are trusted for"
            f" {identity.operator}, or is not meant for a TLS client; have that operator's CA issue it"
        )

    def verify_signing(
        self, chain: bytes, *, expected: SpiffeId, now: datetime | None = None
    ) -> VerifiedSigner:
        """Whose Ed25519 signing certificate this PEM chain is. Raises CredentialError, IdentityMismatch.

        The chain is followed here, as WebPKI policy knows no Ed25519: signatures, validity, basic
        constraints, key usage and path length (RFC 5280 6.1), the leaf's extended key usage (RFC 9336),
        exactly one SPIFFE URI.
        """
        certificates = _parse(chain)
        identity = identity_of(certificates[0])
        if identity != expected:
            raise IdentityMismatch(
                f"{expected} presented a signing certificate of {identity}; both certificates of a process"
                " must carry one identity"
            )
        at = now or datetime.now(UTC)
        _in_time(identity, certificates, at)
        key = certificates[0].public_key()
        if not isinstance(key, Ed25519PublicKey) or DOCUMENT_SIGNING not in _usages(certificates[0]):
            raise CredentialError(
                f"{identity}: its signing certificate is not an Ed25519 one for document signing (RFC 9336);"
                " issue it with `fedtwin ca`"
            )
        roots = self._of(identity)
        if not any(_follow(certificates, root, at) for root in roots):
            self._refuse_foreign(
                identity,
                [o for o, others in self._roots.items() if any(_follow(certificates, r, at) for r in others)],
            )
            raise CredentialError(
                f"{identity}: its signing certificate does not chain to the roots that are trusted for"
                f" {identity.operator}; have that operator's CA issue it"
            )
        return VerifiedSigner(identity, key, certificates[0].not_valid_after_utc)

    def _of(self, identity: SpiffeId) -> list[x509.Certificate]:
        if roots := self._roots.get(identity.operator):
            return roots
        raise CredentialError(
            f"{identity}: no roots are known for operator {identity.operator}; known are"
            f" {', '.join(self._roots) or 'none'}; add its root under [trust]"
        )

    @staticmethod
    def _verified(
        roots: list[x509.Certificate],
        leaf: x509.Certificate,
        intermediates: list[x509.Certificate],
        at: datetime,
    ) -> bool:
        try:
            PolicyBuilder().store(Store(roots)).time(at).build_client_verifier().verify(leaf, intermediates)
        except VerificationError:
            return False
        return True

    @staticmethod
    def _refuse_foreign(identity: SpiffeId, vouching: Sequence[str]) -> None:
        if vouching:
            raise IdentityMismatch(
                f"{identity}: the certificate was issued by the CA of {vouching[0]}, which may not vouch for"
                f" {identity.operator}; a certificate in that name comes from that operator's own CA"
            )


def _read(paths: Mapping[str, Path]) -> dict[str, bytes]:
    roots = {}
    for operator, path in paths.items():
        try:
            roots[operator] = path.read_bytes()
        except OSError as error:
            raise ConfigError(
                f"trust: {path}, the roots of {operator}, cannot be read ({error.strerror})"
            ) from error
    return roots


def identity_of(certificate: x509.Certificate) -> SpiffeId:
    """The one SPIFFE identity in a certificate, unverified. Raises CredentialError (X509-SVID 2)."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    except (x509.ExtensionNotFound, ValueError):
        uris = []
    if len(uris) != 1:
        raise CredentialError(
            f"certificate {certificate.subject.rfc4514_string()}: has {len(uris)} URIs"
            f" ({', '.join(map(str, uris)) or 'none'}), and exactly one SPIFFE URI is needed;"
            " issue it with `fedtwin ca`"
        )
    return SpiffeId.parse(uris[0])


def _parse(chain: bytes) -> list[x509.Certificate]:
    try:
        certificates = x509.load_pem_x509_certificates(chain)
    except ValueError as error:
        raise CredentialError(
            f"a peer's certificate is not PEM ({error}); issue it with `fedtwin ca`"
        ) from error
    if len(certificates) > _MAX_CHAIN:
        raise CredentialError(
            f"a peer's chain has {len(certificates)} certificates; at most {_MAX_CHAIN} are accepted"
        )
    return certificates


def _in_time(identity: SpiffeId, certificates: Sequence[x509.Certificate], at: datetime) -> None:
    for certificate in certificates:
        what = "certificate" if certificate is certificates[0] else "intermediate certificate"
        if at > certificate.not_valid_after_utc:
            raise CredentialError(
                f"{identity}: its {what} expired at {certificate.not_valid_after_utc:%Y-%m-%d %H:%M:%S} UTC;"
                " renew it, for trials with `fedtwin ca`"
            )
        if at < certificate.not_valid_before_utc:
            raise CredentialError(
                f"{identity}: its {what} is not valid before"
                f" {certificate.not_valid_before_utc:%Y-%m-%d %H:%M:%S} UTC; check the clocks of both sides"
            )


def _usages(certificate: x509.Certificate) -> set[x509.ObjectIdentifier]:
    try:
        return set(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except (x509.ExtensionNotFound, ValueError):
        return set()


def _follow(chain: Sequence[x509.Certificate], root: x509.Certificate, at: datetime) -> bool:
    """Whether `chain`, leaf first and in order, leads to `root` (RFC 5280 6.1 without policies and CRLs)."""
    path = list(chain)
    if path[-1] != root:
        path.append(root)
    try:
        if any(e.critical and e.oid not in _UNDERSTOOD for c in path for e in c.extensions):
            return False
        if not path[0].extensions.get_extension_for_class(x509.KeyUsage).value.digital_signature:
            return False
        for depth, (certificate, issuer) in enumerate(pairwise(path)):
            basic = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value
            usage = issuer.extensions.get_extension_for_class(x509.KeyUsage).value
            if not basic.ca or not usage.key_cert_sign:
                return False
            if basic.path_length is not None and basic.path_length < depth:
                return False
            if not issuer.not_valid_before_utc <= at <= issuer.not_valid_after_utc:
                return False
            certificate.verify_directly_issued_by(issuer)
    except (x509.ExtensionNotFound, InvalidSignature, ValueError, TypeError):
        return False
    return True
