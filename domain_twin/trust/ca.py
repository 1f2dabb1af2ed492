"""A certification authority for trials: one per operator, and one for an operator's devices.

Owns what our certificates look like. In production SPIRE, step-ca or Vault write files of the same form.
Leaves live for 24 hours; an agent's or user's certificate has clientAuth only and no DNS name, so that none
of them can pose as the broker. Statements are signed by a second, Ed25519 certificate for the same SPIFFE
identity, whose extended key usage is document signing (RFC 9336): neither certificate is accepted in the
other's place.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.x509.oid import ExtendedKeyUsageOID as Usage
from cryptography.x509.oid import NameOID, ObjectIdentifier

from domain_twin.errors import ConfigError
from domain_twin.trust.identity import Role, SpiffeId, operator_name

DOCUMENT_SIGNING = ObjectIdentifier("1.3.6.1.5.5.7.3.36")  # RFC 9336
LEAF_LIFE = timedelta(hours=24)
ROOT_LIFE = timedelta(days=3650)
_CLOCK_SKEW = timedelta(minutes=5)

_Key = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey


@dataclass(frozen=True, slots=True)
class IssuedIdentity:
    """The files of one identity, as `IdentityConfig` names them."""

    identity: SpiffeId
    certificate: Path
    key: Path
    signing_certificate: Path
    signing_key: Path


@dataclass(frozen=True, slots=True)
class IssuedDevice:
    """The files of one device's server certificate, or of a client of devices."""

    name: str
    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class _Issuer:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey
    chain: tuple[x509.Certificate, ...] = ()  # intermediates that go along with every leaf


@dataclass(frozen=True, slots=True)
class _Form:
    """What a leaf certificate says, and the file names `folder/stem.pem` and `.key` that it gets."""

    folder: Path
    stem: str
    names: tuple[x509.GeneralName, ...]
    usages: tuple[ObjectIdentifier, ...]
    life: timedelta
    now: datetime | None


class OperatorCA:
    """One operator's authority: issues identities `spiffe://OPERATOR/...` and nothing else."""

    def __init__(self, operator: str, folder: Path, issuer: _Issuer) -> None:
        self.operator = operator
        self.folder = folder
        self._issuer = issuer

    @property
    def root(self) -> Path:
        """PEM file with the root certificate: what peers put into their trust bundle."""
        return self.folder / "root.pem"

    @classmethod
    def create(
        cls, operator: str, folder: Path, *, intermediate: bool = False, now: datetime | None = None
    ) -> OperatorCA:
        """Make a new authority in `folder`. Raises ConfigError when there is one already."""
        operator_name(operator)
        issuer = _create(f"{operator} root", folder, uri=f"spiffe://{operator}", depth=1, now=now)
        if intermediate:
            issuer = _create(
                f"{operator} intermediate",
                folder,
                uri=f"spiffe://{operator}",
                depth=0,
                now=now,
                parent=issuer,
                stem="intermediate",
            )
        return cls(operator, folder, issuer)

    @classmethod
    def load(cls, folder: Path) -> OperatorCA:
        """The authority that `create` made in `folder`. Raises ConfigError."""
        root = _load(folder, "root")
        uris = _uris(root.certificate)
        if len(uris) != 1 or not uris[0].startswith("spiffe://"):
            raise ConfigError(
                f"{folder / 'root.pem'}: names no operator, it is not the root of one;"
                " make one with `fedtwin ca init`"
            )
        if not (folder / "intermediate.pem").exists():
            return cls(uris[0].removeprefix("spiffe://"), folder, root)
        below = _load(folder, "intermediate")
        issuer = _Issuer(below.certificate, below.key, (below.certificate,))
        return cls(uris[0].removeprefix("spiffe://"), folder, issuer)

    def issue(
        self,
        role: Role,
        name: str,
        folder: Path,
        *,
        dns: Sequence[str] = (),
        life: timedelta = LEAF_LIFE,
        now: datetime | None = None,
    ) -> IssuedIdentity:
        """Write certificate, key, signing certificate and signing key of one identity into `folder`.

        `dns` are the names (or IP addresses) that a broker is dialled by; only a broker has any. Existing
        files are replaced, each at once: a process that re-reads them never sees half of one. Raises
        ConfigError.
        """
        identity = SpiffeId.parse(f"spiffe://{self.operator}/{role}/{name}")
        if (role is Role.BROKER) != bool(dns):
            raise ConfigError(
                f"{identity}: "
                + (
                    "a broker's certificate needs at least one DNS name that agents dial"
                    if role is Role.BROKER
                    else f"a certificate of role {role} has no DNS name, or it could pose as the broker"
                )
            )
        usages = [Usage.SERVER_AUTH, Usage.CLIENT_AUTH] if role is Role.BROKER else [Usage.CLIENT_AUTH]
        uri: list[x509.GeneralName] = [x509.UniformResourceIdentifier(str(identity))]
        stem = f"{role}-{name}"
        form = _Form(folder, stem, tuple(uri + _names(dns)), tuple(usages), life, now)
        signing = replace(form, stem=f"{stem}-signing", names=tuple(uri), usages=(DOCUMENT_SIGNING,))
        certificate, key = _issue_leaf(self._issuer, form, ec.generate_private_key(ec.SECP256R1()))
        signing_certificate, signing_key = _issue_leaf(
            self._issuer, signing, ed25519.Ed25519PrivateKey.generate()
        )
        return IssuedIdentity(identity, certificate, key, signing_certificate, signing_key)


class DeviceCA:
    """The authority behind an operator's devices: plain server certificates, no SPIFFE identity.

    It has a root of its own, so that no device's certificate is ever taken for a peer of the federation.
    """

    def __init__(self, folder: Path, issuer: _Issuer) -> None:
        self.folder = folder
        self._issuer = issuer

    @property
    def root(self) -> Path:
        """PEM file with the root certificate: what an agent pins."""
        return self.folder / "devices.pem"

    @classmethod
    def create(cls, operator: str, folder: Path, *, now: datetime | None = None) -> DeviceCA:
        """Make a new authority in `folder` (the operator's may live there too). Raises ConfigError."""
        return cls(folder, _create(f"{operator} devices", folder, depth=0, now=now, stem="devices"))

    @classmethod
    def load(cls, folder: Path) -> DeviceCA:
        """The authority that `create` made in `folder`. Raises ConfigError."""
        return cls(folder, _load(folder, "devices"))

    def issue_device(
        self,
        name: str,
        folder: Path,
        *,
        dns: Sequence[str] = (),
        life: timedelta = LEAF_LIFE,
        now: datetime | None = None,
    ) -> IssuedDevice:
        """Write a server certificate for the device called `name`, valid for that name and for `dns` too."""
        names = tuple(_names([name, *dns]))
        form = _Form(folder, f"device-{name}", names, (Usage.SERVER_AUTH,), life, now)
        return self._issue(name, form)

    def issue_client(
        self, name: str, folder: Path, *, life: timedelta = LEAF_LIFE, now: datetime | None = None
    ) -> IssuedDevice:
        """Write a client certificate by which devices know the twin agent called `name`."""
        names = tuple(_names([name]))
        form = _Form(folder, f"device-client-{name}", names, (Usage.CLIENT_AUTH,), life, now)
        return self._issue(name, form)

    def _issue(self, name: str, form: _Form) -> IssuedDevice:
        return IssuedDevice(name, *_issue_leaf(self._issuer, form, ec.generate_private_key(ec.SECP256R1())))


def _create(
    title: str,
    folder: Path,
    *,
    depth: int,
    now: datetime | None,
    uri: str = "",
    parent: _Issuer | None = None,
    stem: str = "root",
) -> _Issuer:
    path = folder / f"{stem}.pem"
    if path.exists():
        raise ConfigError(
            f"{path}: there is an authority already; replacing it would cut off all it vouched for"
        )
    start = now or datetime.now(UTC)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, title[:64])])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(parent.certificate.subject if parent else subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start - _CLOCK_SKEW)
        .not_valid_after(start + ROOT_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=depth), critical=True)
        .add_extension(_key_usage(authority=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if uri:
        # X509-SVID 3.1: a signing certificate carries the trust domain itself, without a path
        builder = builder.add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri)]), critical=False
        )
    if parent:
        builder = builder.add_extension(_authority_key(parent), critical=False)
    certificate = builder.sign(parent.key if parent else key, hashes.SHA256())
    folder.mkdir(parents=True, exist_ok=True)
    _write(folder / f"{stem}.key", _key_pem(key), private=True)
    _write(path, certificate.public_bytes(serialization.Encoding.PEM))
    return _Issuer(certificate, key, (certificate,) if parent else ())


def _load(folder: Path, stem: str) -> _Issuer:
    certificate_path, key_path = folder / f"{stem}.pem", folder / f"{stem}.key"
    try:
        certificate = x509.load_pem_x509_certificate(certificate_path.read_bytes())
        key = serialization.load_pem_private_key(key_path.read_bytes(), None)
    except OSError as error:
        raise ConfigError(
            f"{error.filename}: cannot be read ({error.strerror}); make an authority with `fedtwin ca init`"
        ) from error
    except ValueError as error:
        raise ConfigError(f"{folder}: {stem}.pem and {stem}.key are not PEM files of an authority") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigError(f"{key_path}: not an elliptic-curve key; make an authority with `fedtwin ca init`")
    return _Issuer(certificate, key)


def _issue_leaf(issuer: _Issuer, form: _Form, key: _Key) -> tuple[Path, Path]:
    start = form.now or datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, form.stem[:64])]))
        .issuer_name(issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start - _CLOCK_SKEW)
        .not_valid_after(start + form.life)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(authority=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage(form.usages), critical=False)
        .add_extension(x509.SubjectAlternativeName(form.names), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(_authority_key(issuer), critical=False)
        .sign(issuer.key, hashes.SHA256())
    )
    form.folder.mkdir(parents=True, exist_ok=True)
    certificate_path, key_path = form.folder / f"{form.stem}.pem", form.folder / f"{form.stem}.key"
    # The key first: who watches the certificate finds the key that belongs to it.
    _write(key_path, _key_pem(key), private=True)
    chain = (certificate, *issuer.chain)
    _write(certificate_path, b"".join(each.public_bytes(serialization.Encoding.PEM) for each in chain))
    return certificate_path, key_path


def _names(names: Sequence[str]) -> list[x509.GeneralName]:
    result: list[x509.GeneralName] = []
    for name in names:
        try:
            result.append(x509.IPAddress(ipaddress.ip_address(name)))
        except ValueError:
            result.append(x509.DNSName(name))
    return result


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _authority_key(issuer: _Issuer) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())


def _uris(certificate: x509.Certificate) -> list[str]:
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return []
    return list(names.get_values_for_type(x509.UniformResourceIdentifier))


def _key_pem(key: _Key) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _write(path: Path, content: bytes, *, private: bool = False) -> None:
    """Replace `path` in one step; a private file is 0600 from its first byte."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o644)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    temporary.replace(path)
