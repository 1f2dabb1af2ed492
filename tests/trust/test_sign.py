"""Signed statements: what was signed passes, anything else does not."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import OKPKey

from domain_twin.errors import ContractError, CredentialError
from domain_twin.trust.identity import Role, SpiffeId
from domain_twin.trust.roots import VerifiedSigner
from domain_twin.trust.sign import Signer, Verifier

WHO = SpiffeId("longhaul.example", Role.AGENT, "transport")
KEY = Ed25519PrivateKey.generate()
NOW = datetime.now(UTC)
SIGNER = Signer(KEY, key_id=str(WHO))
VERIFIER = Verifier(VerifiedSigner(WHO, KEY.public_key(), NOW + timedelta(hours=1)))


@given(st.binary(max_size=4096))
def test_verify_accepts_what_was_signed(payload: bytes) -> None:
    VERIFIER.verify(payload, SIGNER.sign(payload, kind="answer"), kind="answer", now=NOW)


JOSE_KEY = OKPKey.import_key(KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


@given(st.binary(min_size=1, max_size=4096), st.text(max_size=20))
def test_a_general_jws_library_reads_ours(payload: bytes, kind: str) -> None:
    signature = SIGNER.sign(payload, kind=kind)

    read = jws.deserialize_compact(signature, JOSE_KEY, algorithms=["Ed25519"], payload=payload)

    assert (read.headers()["kid"], read.headers()["typ"]) == (str(WHO), kind)


@given(st.text(min_size=1, max_size=1000), st.text(max_size=20))  # joserfc signs only text this way
def test_we_read_what_a_general_jws_library_makes(payload: str, kind: str) -> None:
    header = {"alg": "Ed25519", "b64": False, "crit": ["b64"], "kid": str(WHO), "typ": kind}

    token = jws.serialize_compact(header, payload, JOSE_KEY, algorithms=["Ed25519"])
    start, *_, end = token.split(".")

    VERIFIER.verify(payload.encode(), f"{start}..{end}", kind=kind, now=NOW)


@given(st.text(max_size=60), st.text(max_size=60))
def test_no_rubbish_passes_or_escapes_as_another_error(header: str, tail: str) -> None:
    good = SIGNER.sign(b"x", kind="answer")
    for signature in (f"{header}..{tail}", good[:-3] + tail, header + good):
        if signature != good:
            with pytest.raises(ContractError):
                VERIFIER.verify(b"x", signature, kind="answer", now=NOW)


@given(st.binary(max_size=256), st.binary(max_size=256))
def test_verify_refuses_other_bytes(payload: bytes, other: bytes) -> None:
    signature = SIGNER.sign(payload, kind="answer")
    if payload != other:
        with pytest.raises(ContractError, match="does not hold"):
            VERIFIER.verify(other, signature, kind="answer", now=NOW)


def test_one_kind_of_statement_is_not_taken_for_another() -> None:
    signature = SIGNER.sign(b"x", kind="view-delta")

    with pytest.raises(ContractError, match="came in the place of its answer"):
        VERIFIER.verify(b"x", signature, kind="answer", now=NOW)


def test_a_token_that_brings_its_own_payload_is_refused() -> None:
    header, _, signature = SIGNER.sign(b"honest", kind="answer").split(".")
    attached = f"{header}.{base64.urlsafe_b64encode(b'honest').decode().rstrip('=')}.{signature}"

    with pytest.raises(ContractError, match="does not hold"):
        VERIFIER.verify(b"forged", attached, kind="answer", now=NOW)


@pytest.mark.parametrize("algorithm", ["none", "HS256", "EdDSA"])
def test_no_other_algorithm_is_accepted(algorithm: str) -> None:
    _, _, signature = SIGNER.sign(b"x", kind="answer").split(".")
    fields = {"alg": algorithm, "b64": False, "crit": ["b64"], "kid": str(WHO), "typ": "answer"}
    header = json.dumps(fields).encode()

    with pytest.raises(ContractError, match="does not hold"):
        VERIFIER.verify(
            b"x",
            f"{base64.urlsafe_b64encode(header).decode().rstrip('=')}..{signature}",
            kind="answer",
            now=NOW,
        )


@pytest.mark.parametrize(
    "changes",
    [{"crit": ["exp"], "exp": 1}, {"b64": True}, {"b64": 0, "jwk": {}}, {"alg": "EdDSA"}, {"kid": 7}],
)
def test_no_other_header_is_accepted(changes: dict[str, object]) -> None:
    fields = {"alg": "Ed25519", "b64": False, "crit": ["b64"], "kid": str(WHO), "typ": "answer", **changes}
    header = base64.urlsafe_b64encode(json.dumps(fields).encode()).rstrip(b"=")
    signature = base64.urlsafe_b64encode(KEY.sign(header + b".x")).rstrip(b"=").decode()

    with pytest.raises(ContractError):
        VERIFIER.verify(b"x", f"{header.decode()}..{signature}", kind="answer", now=NOW)


@pytest.mark.parametrize("rubbish", ["", "..", "a..b", "a.b", "....", "\u00e9..x", "a" * 100_000 + "..b"])
def test_rubbish_is_refused(rubbish: str) -> None:
    with pytest.raises(ContractError, match="does not hold"):
        VERIFIER.verify(b"x", rubbish, kind="answer", now=NOW)


def test_an_expired_signer_is_refused() -> None:
    signature = SIGNER.sign(b"x", kind="answer")

    with pytest.raises(CredentialError, match="expired at"):
        VERIFIER.verify(b"x", signature, kind="answer", now=NOW + timedelta(hours=2))


def test_a_statement_of_another_key_is_refused(tmp_path: Path) -> None:
    signature = Signer(Ed25519PrivateKey.generate(), key_id=str(WHO)).sign(b"x", kind="answer")

    with pytest.raises(ContractError, match="does not hold"):
        VERIFIER.verify(b"x", signature, kind="answer", now=NOW)
