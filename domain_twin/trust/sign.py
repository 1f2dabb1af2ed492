"""Statements and who made them: detached JWS with unencoded payload (RFC 7797), Ed25519 (RFC 9864).

Owns the header. The signature covers exactly the bytes that are sent, and is checked before anybody parses
them. `typ` says what kind of statement it is, so that one is never taken for another. A header with anything
else than this module writes is refused. Base64url over the payload (RFC 7515 3) would double the CPU of a
large statement.
"""

from __future__ import annotations

import base64
import binascii
import json
from datetime import datetime

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from domain_twin.errors import ContractError, CredentialError
from domain_twin.trust.roots import VerifiedSigner

_FIXED = {"alg": "Ed25519", "b64": False, "crit": ["b64"]}
_FIELDS = {*_FIXED, "kid", "typ"}
_MAX_SIGNATURE_CHARS = 4096
_KNOWN_HEADERS = 16


class Signer:
    """Makes statements in the name of one identity."""

    def __init__(self, key: Ed25519PrivateKey, *, key_id: str) -> None:
        self._key = key
        self._key_id = key_id
        self._headers: dict[str, bytes] = {}

    def sign(self, payload: bytes, *, kind: str) -> str:
        """Sign `payload` as a statement of `kind`; 60 us for 2 kB, 4 ms for 1 MB."""
        if (header := self._headers.get(kind)) is None:
            fields = {**_FIXED, "kid": self._key_id, "typ": kind}
            header = self._headers[kind] = _encode(json.dumps(fields, separators=(",", ":")).encode())
        signature = self._key.sign(header + b"." + payload)
        return f"{header.decode()}..{_encode(signature).decode()}"


class Verifier:
    """Checks statements of one verified signer."""

    def __init__(self, signer: VerifiedSigner) -> None:
        self.signer = signer
        self._name = str(signer.identity)
        self._known: dict[bytes, dict[str, object]] = {}  # headers that were found right, as they were read

    def verify(self, payload: bytes, signature: str, *, kind: str, now: datetime) -> None:
        """Pass when the signer stated `payload`. Raises ContractError, or CredentialError when it expired."""
        who = self.signer.identity
        if now > self.signer.not_after:
            raise CredentialError(
                f"{who}: its signing certificate expired at {self.signer.not_after:%Y-%m-%d %H:%M:%S} UTC;"
                " renew it, for trials with `fedtwin ca`"
            )
        try:
            # The middle is empty: a token that brought its own payload would be checked against that instead.
            header, middle, tail = signature[:_MAX_SIGNATURE_CHARS].encode("ascii").split(b".")
            if middle:
                raise ValueError("it is not detached")
            fields = self._known.get(header) or _header(header)
            self.signer.public_key.verify(_decode(tail), header + b"." + payload)
        except (InvalidSignature, ValueError, RecursionError) as error:
            raise ContractError(
                f"{who}: the signature of its {kind} does not hold ({error or 'it is of other bytes'}); it"
                " was altered on the way, or signed with another key than that of the signing certificate"
            ) from error
        if len(self._known) < _KNOWN_HEADERS:  # one a kind, from a signer that is no enemy of itself
            self._known[header] = fields
        if fields["typ"] != kind or fields["kid"] != self._name:
            raise ContractError(
                f"{who}: a signed {fields['typ']!r} of {fields['kid']!r} came in the place of its {kind}"
            )


def _encode(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")  # RFC 7515 2: base64url without padding


def _header(encoded: bytes) -> dict[str, object]:
    """The fields of a header. Raises ValueError, RecursionError."""
    fields = json.loads(_decode(encoded))
    if not isinstance(fields, dict) or fields != {**fields, **_FIXED} or fields.keys() != _FIELDS:
        raise ValueError(f"its header must have {_FIXED}, kid and typ, and nothing else")
    return fields


def _decode(text: bytes) -> bytes:
    if b"=" in text:
        raise ValueError("its base64url is padded")
    return binascii.a2b_base64(text.translate(_STANDARD) + b"=" * (-len(text) % 4), strict_mode=True)


_STANDARD = bytes.maketrans(b"-_+/", b"+/!!")
