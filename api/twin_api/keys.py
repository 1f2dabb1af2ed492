"""Public keys of identity providers (JWKS, RFC 7517): from a file or an address. Owns when they are read.

The last good set stays in use while a new one cannot be read. Only keys that can check an accepted signature
are taken: P-256 and Ed25519, never a secret one. Keys that `fedtwin token` made are for trials, and are taken
where the issuer is declared to be one.
"""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import httpx
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, OKPKey

from domain_twin.config import IssuerConfig
from domain_twin.errors import ConfigError
from domain_twin.trust.files import stamp

__all__ = ["TRIAL", "KeyRing", "KeysMissing", "UnknownKey", "parse_keys", "read_keys"]

log = logging.getLogger(__name__)

TRIAL: Final = "trial-"
"""Key ids that `fedtwin token` makes begin so."""
MAX_OCTETS: Final = 256 << 10
MAX_KEYS: Final = 100
FETCH_WITHIN_S: Final = 5.0
ANEW_AFTER_S: Final = 30.0
"""A key that nobody knows has the set fetched at most so often."""
OLD_AFTER_S: Final = 600.0
"""A set is fetched again after this time in any case: a withdrawn key is not used for longer."""
LOOK_EVERY_S: Final = 1.0

_KINDS: Final = {("EC", "P-256"): ("ES256", ECKey), ("OKP", "Ed25519"): ("EdDSA", OKPKey)}
Keys = Mapping[tuple[str, str], Any]  # by key id and algorithm; joserfc's keys


class UnknownKey(LookupError):
    """The issuer has no such key."""


class KeysMissing(LookupError):
    """The issuer's keys could not be read yet."""


class KeyRing:
    """The keys of one issuer, followed where they come from."""

    def __init__(self, config: IssuerConfig, clock: Callable[[], float] = time.monotonic) -> None:
        """Reads a file at once. Raises ConfigError where it is of no use."""
        self.generation = 0
        """Grows when the keys change: what was verified by former ones is to be verified again."""
        self.problem = ""
        """Why the keys at hand are not the newest; empty while they are."""
        self._config = config
        self._clock = clock
        self._keys: Keys | None = None
        self._tried: float | None = None
        self._read: float | None = None
        self._turn = asyncio.Lock()
        self._verify: ssl.SSLContext | None = None
        if config.jwks:
            self._seen = stamp(config.jwks)
            self._put(read_keys(config))
        elif config.jwks_root:
            try:
                self._verify = ssl.create_default_context(cafile=str(config.jwks_root))
            except OSError as error:
                raise ConfigError(f"{config.jwks_root}: no PEM file with a root ({error})") from error

    @property
    def age_s(self) -> float | None:
        """Seconds since the keys were read well; None: never."""
        return None if self._read is None else self._clock() - self._read

    async def find(self, kid: str, algorithm: str) -> Any:
        """The key of that id and algorithm; an empty id: the only one. Raises UnknownKey, KeysMissing."""
        if self._config.jwks:
            self.look()
        elif self._keys is None or (kid and (kid, algorithm) not in self._keys):
            await self.fetch(ANEW_AFTER_S)
        if self._keys is None:
            raise KeysMissing(self.problem)
        if kid:
            found = self._keys.get((kid, algorithm))
        else:
            suiting = [key for (_, each), key in self._keys.items() if each == algorithm]
            found = suiting[0] if len(suiting) == 1 else None
        if found is None:
            raise UnknownKey(kid)
        return found

    async def follow(self) -> None:
        """Keep the keys fresh until cancelled."""
        while True:
            if self._config.jwks:
                self.look()
                await asyncio.sleep(LOOK_EVERY_S)
            else:
                await self.fetch(ANEW_AFTER_S if self.problem else OLD_AFTER_S)
                await asyncio.sleep(ANEW_AFTER_S)

    async def fetch(self, after_s: float) -> None:
        """Ask for the keys anew, unless tried less than `after_s` ago. Never raises: see `problem`."""
        async with self._turn:
            now = self._clock()
            if self._tried is not None and now - self._tried < after_s:
                return
            self._tried = now
            try:
                async with asyncio.timeout(FETCH_WITHIN_S):
                    self._put(parse_keys(await self._get(), trial=self._config.trial))
            except (httpx.HTTPError, OSError, ValueError) as error:  # TimeoutError is an OSError
                self._explain(str(error) or type(error).__name__)

    async def _get(self) -> bytes:
        verify: ssl.SSLContext | bool = self._verify or True
        async with (
            httpx.AsyncClient(verify=verify, follow_redirects=False, trust_env=False) as client,
            client.stream("GET", self._config.jwks_url, headers={"accept": "application/json"}) as answer,
        ):
            if answer.status_code != 200:
                raise ValueError(f"answered with status {answer.status_code}")
            body = bytearray()
            async for piece in answer.aiter_bytes():
                body += piece
                if len(body) > MAX_OCTETS:
                    raise ValueError(f"a key set of more than {MAX_OCTETS} bytes")
            return bytes(body)

    def look(self) -> None:
        """Read the file again if it changed; the last good keys stay where it is of no use."""
        assert self._config.jwks
        if (seen := stamp(self._config.jwks)) == self._seen:
            return
        self._seen = seen
        try:
            self._put(read_keys(self._config))
        except ConfigError as error:
            self._explain(str(error))

    def _put(self, keys: Keys) -> None:
        self._read, self.problem = self._clock(), ""
        if self._keys is None or _prints(keys) != _prints(self._keys):
            self._keys = keys
            self.generation += 1
            log.info("keys of an issuer read", extra={"issuer": self._config.iss, "keys": len(keys)})

    def _explain(self, reason: str) -> None:
        if reason != self.problem:
            self.problem = reason
            log.warning("keys of an issuer not read", extra={"issuer": self._config.iss, "reason": reason})


def parse_keys(text: bytes, *, trial: bool) -> Keys:
    """The keys of a JWKS that can check a signature here. Raises ValueError where there is none."""
    if len(text) > MAX_OCTETS:
        raise ValueError(f"a key set of more than {MAX_OCTETS} bytes")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"no JSON ({error})") from None
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list) or len(listed) > MAX_KEYS:
        raise ValueError(f'no JWKS: an object with at most {MAX_KEYS} keys in "keys" (RFC 7517 5)')
    keys: dict[tuple[str, str], Any] = {}
    for each in listed:
        if not isinstance(each, dict):
            raise ValueError("no JWKS: a key is an object")
        kind = _KINDS.get((str(each.get("kty")), str(each.get("crv"))))
        if kind is None or each.get("use", "sig") != "sig":
            continue  # RFC 7517 5: keys that are not understood are ignored
        algorithm, form = kind
        if "d" in each:
            raise ValueError(
                "a key set with a private key; take it off the net, and give the public keys alone"
            )
        if each.get("alg", algorithm) not in (algorithm, "Ed25519" if algorithm == "EdDSA" else algorithm):
            continue
        kid = each.get("kid", "")
        if not isinstance(kid, str):
            raise ValueError("a key id (kid) is text")
        if kid.startswith(TRIAL) and not trial:
            log.warning("key for trials not used", extra={"kid": kid[:80]})
            continue
        if (kid, algorithm) in keys:
            raise ValueError(f"two keys have the id {kid[:80]!r}")
        try:
            keys[kid, algorithm] = form.import_key(
                {name: value for name, value in each.items() if name != "alg"}  # it has two names for one
            )
        except (JoseError, ValueError) as error:
            raise ValueError(f"the key {kid[:80]!r} cannot be read ({error})") from None
    if not keys:
        raise ValueError("no key that is taken here: P-256 or Ed25519, for signatures")
    return keys


def _prints(keys: Keys) -> dict[tuple[str, str], str]:
    return {name: str(key.thumbprint()) for name, key in keys.items()}


def read_keys(config: IssuerConfig) -> Keys:
    """The keys in an issuer's file. Raises ConfigError."""
    path = config.jwks
    assert path
    try:
        with path.open("rb") as file:
            return parse_keys(file.read(MAX_OCTETS + 1), trial=config.trial)
    except OSError as error:
        raise ConfigError(f"{path}: the keys of {config.iss} cannot be read ({error.strerror})") from error
    except ValueError as error:
        hint = "; a trial issuer's keys need `trial = true` under [[issuer]]" if not config.trial else ""
        raise ConfigError(f"{path}: the keys of {config.iss}: {error}{hint}") from error
