"""An issuer of access tokens for trials: a key in a folder, its JWKS, tokens of RFC 9068. For trials only.

It knows no clients and asks for no secret: whoever reads the key speaks for every tenant. Its key ids say so
(`trial-`), and an api takes them only where `trial = true`. Real partners come with an identity provider.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey
from joserfc.jws import JWSRegistry

from domain_twin.errors import ConfigError
from twin_api.keys import TRIAL

__all__ = ["DEFAULT_ISSUER", "KEY_FILE", "SET_FILE", "TrialIssuer"]

DEFAULT_ISSUER: Final = "urn:fedtwin:trial-issuer"
KEY_FILE: Final = "issuer.key.json"
SET_FILE: Final = "jwks.json"


class _Registry(JWSRegistry):  # type: ignore[misc]
    """joserfc warns of EdDSA's name, which RFC 9864 changes and everybody still uses."""

    def get_alg(self, name: str) -> Any:
        """The algorithm of that name."""
        return self.algorithms[name]


class TrialIssuer:
    """Signs tokens with the key of a folder."""

    def __init__(self, key: Any, algorithm: str) -> None:
        self._key = key
        self._algorithm = algorithm

    @classmethod
    def create(cls, folder: Path, algorithm: str = "ES256") -> TrialIssuer:
        """Make a key (mode 0600) and its JWKS in `folder`. Raises ConfigError where there is one already."""
        parameters = {"kid": TRIAL + secrets.token_hex(6), "use": "sig", "alg": algorithm}
        form, curve = (ECKey, "P-256") if algorithm == "ES256" else (OKPKey, "Ed25519")
        key = form.generate_key(curve, parameters)
        issuer = cls(key, algorithm)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            file = os.open(folder / KEY_FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(file, "w", encoding="utf-8") as out:
                json.dump(key.as_dict(private=True), out)
            (folder / SET_FILE).write_text(json.dumps(issuer.public_keys(), indent=1) + "\n", "utf-8")
        except FileExistsError as error:
            raise ConfigError(f"{folder}: has a key already; tokens of that key would end with it") from error
        except OSError as error:
            raise ConfigError(f"{folder}: no key can be written there ({error.strerror})") from error
        return issuer

    @classmethod
    def load(cls, folder: Path) -> TrialIssuer:
        """The issuer that `create` made in `folder`. Raises ConfigError."""
        path = folder / KEY_FILE
        try:
            if path.stat().st_mode & 0o077:
                raise ConfigError(f"{path}: others may read this private key; run chmod 600 on it")
            document = json.loads(path.read_text("utf-8"))
            algorithm = str(document["alg"])
            form = ECKey if algorithm == "ES256" else OKPKey
            return cls(form.import_key(document), algorithm)
        except ConfigError:
            raise
        except OSError as error:
            raise ConfigError(
                f"{path}: cannot be read ({error.strerror}); make one with `fedtwin token keys {folder}`"
            ) from error
        except (ValueError, KeyError, TypeError, JoseError) as error:
            raise ConfigError(f"{path}: no key of a trial issuer ({error})") from error

    def public_keys(self) -> dict[str, Any]:
        """The JWKS by which the tokens are verified."""
        return {"keys": [self._key.as_dict(private=False)]}

    def issue(
        self,
        tenant: str,
        scopes: Iterable[str],
        *,
        audience: str,
        iss: str = DEFAULT_ISSUER,
        client: str = "",
        life_s: float = 3600.0,
        tenant_claim: str = "tenant",
        certificate: str = "",
        now: float | None = None,
    ) -> str:
        """A token for one tenant; `certificate`: the thumbprint that it is bound to (RFC 8705)."""
        at = int(time.time() if now is None else now)
        claims: dict[str, Any] = {
            "iss": iss,
            "aud": audience,
            "sub": client or f"{tenant}-client",
            "client_id": client or f"{tenant}-client",
            "iat": at,
            "exp": at + int(life_s),
            "jti": secrets.token_urlsafe(12),
            "scope": " ".join(scopes),
            tenant_claim: tenant,
        }
        if certificate:
            claims["cnf"] = {"x5t#S256": certificate}
        return self.sign(claims)

    def sign(self, claims: dict[str, Any], **header: Any) -> str:
        """A token with exactly these claims; `header` adds to typ, alg and kid, or replaces them."""
        head = {"typ": "at+jwt", "alg": self._algorithm, "kid": self._key.kid, **header}
        registry = _Registry(algorithms=[self._algorithm])
        return str(jwt.encode(head, claims, self._key, registry=registry))
