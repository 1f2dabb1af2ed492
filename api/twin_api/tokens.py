"""Access tokens (RFC 9068): whether one is good, and for whom. Owns every check; knows nothing of HTTP.

Only ES256 and Ed25519 signatures by keys of a declared issuer count; what a token says of its own key (jwk,
jku, x5c, x5u) is refused. The tenant is a claim of the verified token. A verified token is remembered, by its
hash, until it ends or its issuer's keys change.
"""

from __future__ import annotations

import binascii
import hashlib
import json
import logging
import re
import time
from base64 import urlsafe_b64decode
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from joserfc import jwt
from joserfc.errors import ExpiredTokenError, InvalidClaimError, JoseError, MissingClaimError
from joserfc.jws import JWSRegistry
from joserfc.jwt import JWTClaimsRegistry

from domain_twin.config import ApiConfig, IssuerConfig
from twin_api.caller import Caller
from twin_api.keys import KeyRing, UnknownKey

__all__ = ["LEEWAY_S", "MAX_TOKEN", "TokenRefused", "Tokens", "Verified"]

log = logging.getLogger(__name__)

MAX_TOKEN: Final = 8192
LEEWAY_S: Final = 30
MAX_REMEMBERED: Final = 10_000
_MAX_NAME: Final = 256  # characters of sub, client_id, jti
_NEVER: Final = 1e12  # seconds since 1970; numbers of any length are JSON
_TYPES: Final = frozenset(("at+jwt", "application/at+jwt"))  # RFC 9068 2.1
_OWN_KEY: Final = frozenset(("jwk", "jku", "x5c", "x5u", "x5t", "x5t#S256"))
_NAMES: Final = {"ES256": "ES256", "EdDSA": "EdDSA", "Ed25519": "EdDSA"}  # RFC 9864 renames EdDSA
_FORM = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_TENANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_THUMBPRINT = re.compile(r"[A-Za-z0-9_-]{43}")


class TokenRefused(Exception):
    """A token is of no use here: one sentence for whoever sent it."""


@dataclass(frozen=True, slots=True)
class Verified:
    """What a verified token says. `certificate`: SHA-256 of the one it is bound to; empty: none."""

    caller: Caller
    expires: float  # seconds since 1970
    certificate: str = ""


class _Registry(JWSRegistry):  # type: ignore[misc]
    """Allows what is listed. joserfc's own warns at each use of EdDSA's former name."""

    def get_alg(self, name: str) -> Any:
        """The algorithm of that name. Raises UnsupportedAlgorithmError."""
        if name not in self.allowed:
            return super().get_alg(name)
        return self.algorithms[name]


class Tokens:
    """Verifies tokens for one audience."""

    def __init__(self, config: ApiConfig, clock: Callable[[], float] = time.time) -> None:
        """Raises ConfigError where an issuer's key file is of no use."""
        self.hits = 0
        self.misses = 0
        self.rings = {each.iss: KeyRing(each) for each in config.issuer}
        self._issuers = {each.iss: each for each in config.issuer}
        self._claim = config.tenant_claim
        self._life_s = config.token_life_s
        self._bound = config.mtls_bound
        self._clock = clock
        self._remembered: OrderedDict[bytes, tuple[Verified, KeyRing, int]] = OrderedDict()
        essential = {"essential": True}
        self._claims = JWTClaimsRegistry(
            now=lambda: int(clock()),
            leeway=LEEWAY_S,
            iss=essential,
            aud={"essential": True, "value": config.expected_audience},
            exp=essential,
            iat=essential,
            sub=essential,
            client_id=essential,
            jti=essential,
        )

    async def verify(self, token: str, certificate: str = "") -> Verified:
        """What `token` says; `certificate`: SHA-256 of the client's, base64url, where it showed one.

        Raises TokenRefused, KeysMissing.
        """
        name = _name(token)
        verified = self._recall(name)
        if verified is None:
            self.misses += 1
            verified, ring = await self._read(token)
            self._remember(name, verified, ring)
        else:
            self.hits += 1
        if verified.certificate and verified.certificate != certificate:
            raise TokenRefused("the token is bound to a certificate that the client did not show (RFC 8705)")
        if self._bound and not verified.certificate:
            raise TokenRefused("only tokens that are bound to a client certificate are taken here (RFC 8705)")
        return verified

    def knows(self, token: str) -> bool:
        """Whether a token was verified before and counts still: to look at it again costs nothing."""
        return self._recall(_name(token)) is not None

    def __len__(self) -> int:
        """How many tokens are remembered."""
        return len(self._remembered)

    def _recall(self, name: bytes) -> Verified | None:
        found = self._remembered.get(name)
        if found is None:
            return None
        verified, ring, generation = found
        if self._clock() >= verified.expires or ring.generation != generation:
            del self._remembered[name]
            return None
        self._remembered.move_to_end(name)
        return verified

    def _remember(self, name: bytes, verified: Verified, ring: KeyRing) -> None:
        self._remembered[name] = (verified, ring, ring.generation)
        if len(self._remembered) > MAX_REMEMBERED:
            self._remembered.popitem(last=False)

    async def _read(self, token: str) -> tuple[Verified, KeyRing]:
        if len(token) > MAX_TOKEN:
            raise TokenRefused(f"the token is longer than {MAX_TOKEN} characters")
        if not _FORM.fullmatch(token):
            raise TokenRefused("the token is no signed JWT")
        first, second, _ = token.split(".")
        header, unverified = _json(first), _json(second)
        algorithm, kid = _checked_header(header)
        named = unverified.get("iss")
        issuer = self._issuers.get(named) if isinstance(named, str) else None
        if issuer is None:
            raise TokenRefused("the token's issuer is not known here")
        if algorithm not in issuer.algorithms:
            raise TokenRefused("the token is signed in a way that its issuer does not sign")
        ring = self.rings[issuer.iss]
        try:
            key = await ring.find(kid, algorithm)
        except UnknownKey:
            raise TokenRefused("the token is signed by a key that its issuer does not publish") from None
        try:
            claims = jwt.decode(token, key, registry=_Registry(algorithms=[header["alg"]])).claims
        except (JoseError, ValueError) as error:
            log.debug("token not verified", extra={"reason": str(error)})
            raise TokenRefused("the token's signature does not hold") from None
        return self._believe(claims, issuer), ring

    def _believe(self, claims: Mapping[str, Any], issuer: IssuerConfig) -> Verified:
        """What verified claims say. Raises TokenRefused."""
        try:
            self._claims.validate(dict(claims))
        except ExpiredTokenError:
            raise TokenRefused("the token expired; ask its issuer for another") from None
        except MissingClaimError as error:
            raise TokenRefused(f"the token lacks {error.claim} (RFC 9068 2.2)") from None
        except InvalidClaimError as error:
            raise TokenRefused(
                f"the token is not meant for here: {error.claim or 'a claim'} is wrong"
            ) from None
        if claims["exp"] > _NEVER or claims["exp"] - claims["iat"] > self._life_s:
            raise TokenRefused(f"the token is issued for longer than {self._life_s:g} s")
        for name in ("sub", "client_id", "jti"):
            if not isinstance(claims[name], str) or not 0 < len(claims[name]) <= _MAX_NAME:
                raise TokenRefused(f"the token's {name} is no text of at most {_MAX_NAME} characters")
        tenant = claims.get(self._claim)
        if not isinstance(tenant, str) or not _TENANT.fullmatch(tenant):
            raise TokenRefused(f"the token names no tenant (claim {self._claim})")
        if issuer.tenants and tenant not in issuer.tenants:
            raise TokenRefused("the token's issuer does not speak for the tenant that it names")
        scope = claims.get("scope", "")
        if not isinstance(scope, str):
            raise TokenRefused("the token's scope is no text (RFC 8693 4.2)")
        caller = Caller(tenant, claims["sub"], frozenset(scope.split()))
        return Verified(caller, float(claims["exp"]), _bound_to(claims.get("cnf")))


def _name(token: str) -> bytes:
    return hashlib.sha256(token.encode("latin-1", "replace")).digest()


def _checked_header(header: Mapping[str, Any]) -> tuple[str, str]:
    """The algorithm's family and the key's id. Raises TokenRefused."""
    if str(header.get("typ", "")).lower() not in _TYPES:
        raise TokenRefused("the token is no access token: its typ is not at+jwt (RFC 9068 2.1)")
    algorithm = _NAMES.get(str(header.get("alg")))
    if algorithm is None:
        raise TokenRefused("the token is signed in a way that is not taken here; ES256 and EdDSA are")
    if _OWN_KEY & header.keys():
        raise TokenRefused("the token brings a key of its own; only keys that its issuer publishes count")
    if "crit" in header or "b64" in header:
        raise TokenRefused("the token demands extensions that are not known here (RFC 7515 4.1.11)")
    kid = header.get("kid", "")
    if not isinstance(kid, str) or len(kid) > _MAX_NAME:
        raise TokenRefused("the token's key id is no text")
    return algorithm, kid


def _bound_to(confirmation: object) -> str:
    """The certificate that a token is bound to; empty: none. Raises TokenRefused."""
    if confirmation is None:
        return ""
    thumbprint = confirmation.get("x5t#S256") if isinstance(confirmation, dict) else None
    if not isinstance(confirmation, dict) or len(confirmation) != 1 or not isinstance(thumbprint, str):
        raise TokenRefused("the token is bound in a way that is not known here; x5t#S256 is (RFC 8705 3.1)")
    if not _THUMBPRINT.fullmatch(thumbprint):
        raise TokenRefused("the token is bound to something that is no SHA-256")
    return thumbprint


def _json(part: str) -> dict[str, Any]:
    """One part of a token, before anything is believed of it. Raises TokenRefused."""
    try:
        document = json.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (ValueError, RecursionError, binascii.Error):
        raise TokenRefused("the token is no signed JWT") from None
    if not isinstance(document, dict):
        raise TokenRefused("the token is no signed JWT")
    return document
