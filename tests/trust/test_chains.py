"""Certificates of the trial CA, and what the trust bundle makes of them."""

from __future__ import annotations

import stat
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID as Usage
from hypothesis import given
from hypothesis import strategies as st

from domain_twin.config import IdentityConfig
from domain_twin.errors import ConfigError, CredentialError, IdentityMismatch
from domain_twin.trust.ca import DOCUMENT_SIGNING, DeviceCA, OperatorCA
from domain_twin.trust.credentials import load_identity, load_tls
from domain_twin.trust.identity import Role, SpiffeId
from domain_twin.trust.roots import TrustBundle

RAN = "northcell.example"
TRANSPORT = "longhaul.example"


@pytest.fixture
def ran(tmp_path: Path) -> OperatorCA:
    return OperatorCA.create(RAN, tmp_path / "ran-ca")


@pytest.fixture
def transport(tmp_path: Path) -> OperatorCA:
    return OperatorCA.create(TRANSPORT, tmp_path / "transport-ca", intermediate=True)


@pytest.fixture
def trust(ran: OperatorCA, transport: OperatorCA) -> TrustBundle:
    return TrustBundle.load({RAN: ran.root, TRANSPORT: transport.root})


def forge(
    ca: OperatorCA,
    uris: Sequence[str],
    *,
    usage: x509.ObjectIdentifier = Usage.CLIENT_AUTH,
    signing: bool = False,
    authority: bool = False,
) -> bytes:
    """A certificate that the CA's owner can make with its own key, against our rules. PEM, leaf first."""
    key = ed25519.Ed25519PrivateKey.generate() if signing else ec.generate_private_key(ec.SECP256R1())
    issuer = x509.load_pem_x509_certificate(ca.root.read_bytes())
    issuer_key = serialization.load_pem_private_key(ca.root.with_suffix(".key").read_bytes(), None)
    assert isinstance(issuer_key, ec.EllipticCurvePrivateKey)
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.KeyUsage(True, *[False] * 8), critical=True)
        .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key()),  # type: ignore[arg-type]
            critical=False,
        )
    )
    if uris:
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(uri) for uri in uris])
        builder = builder.add_extension(names, critical=True)
    return builder.sign(issuer_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@pytest.mark.parametrize("operator", [RAN, TRANSPORT])
def test_bundle_knows_an_agent_by_its_own_operators_roots(
    operator: str, ran: OperatorCA, transport: OperatorCA, trust: TrustBundle, tmp_path: Path
) -> None:
    ca = {RAN: ran, TRANSPORT: transport}[operator]
    issued = OperatorCA.load(ca.folder).issue(Role.AGENT, "a", tmp_path)

    peer = trust.verify(issued.certificate.read_bytes())
    signer = trust.verify_signing(issued.signing_certificate.read_bytes(), expected=issued.identity)

    assert peer.identity == signer.identity == SpiffeId(operator, Role.AGENT, "a")
    assert timedelta(hours=23) < peer.not_after - datetime.now(UTC) <= timedelta(hours=24)


def test_keys_are_for_their_owner_only(ran: OperatorCA, tmp_path: Path) -> None:
    issued = ran.issue(Role.USER, "alice", tmp_path)

    keys = [issued.key, issued.signing_key, ran.folder / "root.key"]

    assert {stat.S_IMODE(key.stat().st_mode) for key in keys} == {0o600}


def test_one_operators_ca_cannot_speak_in_anothers_name(ran: OperatorCA, trust: TrustBundle) -> None:
    uri = f"spiffe://{TRANSPORT}/agent/transport"

    with pytest.raises(IdentityMismatch, match=f"issued by the CA of {RAN}"):
        trust.verify(forge(ran, [uri]))
    with pytest.raises(IdentityMismatch, match=f"issued by the CA of {RAN}"):
        trust.verify_signing(
            forge(ran, [uri], signing=True, usage=DOCUMENT_SIGNING), expected=SpiffeId.parse(uri)
        )


@pytest.mark.parametrize("uris", [(), (f"spiffe://{RAN}/agent/ran", f"spiffe://{TRANSPORT}/agent/transport")])
def test_exactly_one_uri_is_needed(uris: Sequence[str], ran: OperatorCA, trust: TrustBundle) -> None:
    with pytest.raises(CredentialError, match="exactly one SPIFFE URI"):
        trust.verify(forge(ran, uris))


def test_an_unknown_operator_is_named(trust: TrustBundle, tmp_path: Path) -> None:
    stranger = OperatorCA.create("stranger.example", tmp_path / "s").issue(Role.AGENT, "x", tmp_path)

    with pytest.raises(CredentialError, match=r"no roots are known for operator stranger\.example"):
        trust.verify(stranger.certificate.read_bytes())


def test_a_root_with_the_operators_name_but_another_key_is_refused(
    trust: TrustBundle, tmp_path: Path
) -> None:
    impostor = OperatorCA.create(RAN, tmp_path / "fake").issue(Role.AGENT, "ran", tmp_path)

    with pytest.raises(CredentialError, match="does not chain to the roots"):
        trust.verify(impostor.certificate.read_bytes())
    with pytest.raises(CredentialError, match="does not chain to the roots"):
        trust.verify_signing(impostor.signing_certificate.read_bytes(), expected=impostor.identity)


def test_an_expired_certificate_is_refused_with_its_end(
    ran: OperatorCA, trust: TrustBundle, tmp_path: Path
) -> None:
    issued = ran.issue(Role.AGENT, "ran", tmp_path, now=datetime(2020, 1, 1, tzinfo=UTC))

    with pytest.raises(CredentialError, match="expired at 2020-01-02 00:00:00 UTC"):
        trust.verify(issued.certificate.read_bytes())
    with pytest.raises(CredentialError, match="expired at 2020-01-02 00:00:00 UTC"):
        trust.verify_signing(issued.signing_certificate.read_bytes(), expected=issued.identity)


def test_tls_and_signing_certificates_do_not_stand_in_for_each_other(
    ran: OperatorCA, trust: TrustBundle, tmp_path: Path
) -> None:
    issued = ran.issue(Role.AGENT, "ran", tmp_path)

    with pytest.raises(CredentialError):
        trust.verify(issued.signing_certificate.read_bytes())
    with pytest.raises(CredentialError, match="document signing"):
        trust.verify_signing(issued.certificate.read_bytes(), expected=issued.identity)


def test_a_signing_certificate_of_somebody_else_is_refused(
    ran: OperatorCA, trust: TrustBundle, tmp_path: Path
) -> None:
    other = ran.issue(Role.AGENT, "other", tmp_path)

    with pytest.raises(IdentityMismatch, match="must carry one identity"):
        trust.verify_signing(
            other.signing_certificate.read_bytes(), expected=SpiffeId(RAN, Role.AGENT, "ran")
        )


def test_a_leaf_cannot_act_as_a_ca(ran: OperatorCA, trust: TrustBundle, tmp_path: Path) -> None:
    agent = ran.issue(Role.AGENT, "ran", tmp_path)
    (tmp_path / "below").mkdir()
    below = OperatorCA.load(ran.folder)
    (tmp_path / "below/root.pem").write_bytes(agent.certificate.read_bytes())
    (tmp_path / "below/root.key").write_bytes(agent.key.read_bytes())
    below.folder = tmp_path / "below"
    uri = f"spiffe://{RAN}/broker/main"
    chain = forge(below, [uri], signing=True, usage=DOCUMENT_SIGNING) + agent.certificate.read_bytes()

    with pytest.raises(CredentialError, match="does not chain"):
        trust.verify_signing(chain, expected=SpiffeId.parse(uri))


def test_two_operators_cannot_share_a_root(ran: OperatorCA) -> None:
    with pytest.raises(ConfigError, match="a root with the same key"):
        TrustBundle.load({RAN: ran.root, TRANSPORT: ran.root})


def test_only_a_broker_has_dns_names(ran: OperatorCA, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="could pose as the broker"):
        ran.issue(Role.AGENT, "ran", tmp_path, dns=["localhost"])
    with pytest.raises(ConfigError, match="at least one DNS name"):
        ran.issue(Role.BROKER, "main", tmp_path)


def test_an_authority_is_not_overwritten(ran: OperatorCA) -> None:
    with pytest.raises(ConfigError, match="there is an authority already"):
        OperatorCA.create(RAN, ran.folder)


def test_a_device_is_no_peer(trust: TrustBundle, tmp_path: Path) -> None:
    device = DeviceCA.create(RAN, tmp_path).issue_device("gnb-1", tmp_path, dns=["127.0.0.1"])

    with pytest.raises(CredentialError, match="exactly one SPIFFE URI"):
        trust.verify(device.certificate.read_bytes())


def config_of(folder: Path, ca: OperatorCA, role: Role, name: str, **more: object) -> IdentityConfig:
    issued = ca.issue(role, name, folder, **more)  # type: ignore[arg-type]
    return IdentityConfig(
        certificate=issued.certificate,
        key=issued.key,
        signing_certificate=issued.signing_certificate,
        signing_key=issued.signing_key,
    )


def test_identity_loads_what_was_issued(ran: OperatorCA, tmp_path: Path) -> None:
    config = config_of(tmp_path, ran, Role.BROKER, "main", dns=["localhost"])

    identity = load_identity(config, operator=RAN, role=Role.BROKER, name="main")

    assert str(identity.id) == f"spiffe://{RAN}/broker/main"


def test_identity_of_somebody_else_is_refused_at_start(ran: OperatorCA, tmp_path: Path) -> None:
    config = config_of(tmp_path, ran, Role.AGENT, "ran")

    with pytest.raises(
        IdentityMismatch, match=r"is the certificate of .*/agent/ran, and this process is .*/core"
    ):
        load_identity(config, operator=RAN, role=Role.AGENT, name="core")


def test_readable_mismatched_and_missing_keys_are_refused_at_start(ran: OperatorCA, tmp_path: Path) -> None:
    one = ran.issue(Role.AGENT, "one", tmp_path)
    two = ran.issue(Role.AGENT, "two", tmp_path)

    with pytest.raises(CredentialError, match="is not the key of"):
        load_tls(one.certificate, two.key)
    with pytest.raises(CredentialError, match=r"missing\.key: cannot be read"):
        load_tls(one.certificate, tmp_path / "missing.key")
    one.key.chmod(0o644)
    with pytest.raises(CredentialError, match="chmod 600"):
        load_tls(one.certificate, one.key)


def test_an_rsa_certificate_is_refused_at_start(tmp_path: Path) -> None:
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(1), now + timedelta(1))
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier(f"spiffe://{RAN}/broker/main")]),
            False,
        )
        .sign(key, hashes.SHA256())
    )
    (tmp_path / "c.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (tmp_path / "c.key").touch(0o600)
    (tmp_path / "c.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )

    with pytest.raises(CredentialError, match=r"RSA, and only ECDSA \(P-256\)"):
        load_tls(tmp_path / "c.pem", tmp_path / "c.key")


NAME = st.from_regex(r"\A[A-Za-z0-9_-][A-Za-z0-9._-]{0,20}\Z")
OPERATOR = st.from_regex(r"\A[a-z0-9]{1,8}(\.[a-z0-9]{1,8}){0,3}\Z")


@given(OPERATOR, st.sampled_from(Role), NAME)
def test_identity_survives_text(operator: str, role: Role, name: str) -> None:
    identity = SpiffeId(operator, role, name)

    assert SpiffeId.parse(str(identity)) == identity
    assert identity.matches(str(identity))
    assert identity.matches(f"spiffe://{operator}/{role}/*")
    assert not identity.matches(f"spiffe://{operator}x/{role}/*")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "spiffe://",
        "https://a.example/agent/ran",
        "spiffe://A.example/agent/ran",
        "spiffe://a.example/agent",
        "spiffe://a.example/agent/",
        "spiffe://a.example/agent/..",
        "spiffe://a.example/agent/ran/x",
        "spiffe://a.example/admin/ran",
        "spiffe://a.example:1/agent/ran",
        "spiffe://a.example/agent/ran?x",
        "spiffe://a.example/agent/*",
    ],
)
def test_identity_refuses_other_spellings(text: str) -> None:
    with pytest.raises(CredentialError, match="spiffe://OPERATOR/ROLE/NAME"):
        SpiffeId.parse(text)
