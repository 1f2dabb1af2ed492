"""Access tokens: each thing that can be wrong has one refused; what is good is remembered for a while."""

from __future__ import annotations

import hashlib
import hmac
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, OKPKey
from token_parts import PUBLIC, api_config, claims, part

from domain_twin.config import ApiConfig
from twin_api.caller import Caller
from twin_api.issuer import DEFAULT_ISSUER, TrialIssuer
from twin_api.tokens import LEEWAY_S, MAX_REMEMBERED, MAX_TOKEN, TokenRefused, Tokens

NOW = 1_800_000_000.0
Made = Callable[[TrialIssuer], str]


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def trusted(tmp_path: Path, clock: Clock) -> tuple[Tokens, TrialIssuer]:
    config, issuer = api_config(tmp_path)
    return Tokens(config, clock), issuer


def with_claims(**changed: Any) -> Made:
    return lambda issuer: issuer.sign(claims(NOW, **changed))


def with_header(**changed: Any) -> Made:
    return lambda issuer: issuer.sign(claims(NOW), **changed)


def unsigned(issuer: TrialIssuer) -> str:
    header = {"typ": "at+jwt", "alg": "none", "kid": issuer.public_keys()["keys"][0]["kid"]}
    return f"{part(header)}.{part(claims(NOW))}."


def unsigned_with_something(issuer: TrialIssuer) -> str:
    return f"{unsigned(issuer)}AAAA"


def signed_with_the_public_key(issuer: TrialIssuer) -> str:
    """The oldest trick: HS256 with the public key, which everybody has, as the secret."""
    key = issuer.public_keys()["keys"][0]
    head = f"{part({'typ': 'at+jwt', 'alg': 'HS256', 'kid': key['kid']})}.{part(claims(NOW))}"
    mac = hmac.new(json.dumps(key).encode(), head.encode(), hashlib.sha256).digest()
    import base64

    return f"{head}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}"


def signed_by_a_stranger(issuer: TrialIssuer) -> str:
    """Another key under the issuer's key id."""
    kid = issuer.public_keys()["keys"][0]["kid"]
    key = ECKey.generate_key("P-256", {"kid": kid})
    return str(jwt.encode({"typ": "at+jwt", "alg": "ES256", "kid": kid}, claims(NOW), key))


def signed_by_the_key_within(issuer: TrialIssuer) -> str:
    """The issuer's own signature, with a key in the header: never even looked at."""
    key = ECKey.generate_key("P-256", {"kid": "mine"})
    return issuer.sign(claims(NOW), jwk=key.as_dict(private=False))


def of_another_family(issuer: TrialIssuer) -> str:
    """Ed25519 under the key id of an EC key."""
    kid = issuer.public_keys()["keys"][0]["kid"]
    key = OKPKey.generate_key("Ed25519", {"kid": kid})
    return str(
        jwt.encode({"typ": "at+jwt", "alg": "Ed25519", "kid": kid}, claims(NOW), key, algorithms=["Ed25519"])
    )


def altered(issuer: TrialIssuer) -> str:
    head, _, signature = issuer.sign(claims(NOW)).split(".")
    return f"{head}.{part(claims(NOW, tenant='other'))}.{signature}"


BAD: dict[str, tuple[Made, str]] = {
    "nothing": (lambda _: "", "no signed JWT"),
    "rubbish": (lambda _: "a.b", "no signed JWT"),
    "four parts": (lambda issuer: issuer.sign(claims(NOW)) + ".x", "no signed JWT"),
    "not base64": (lambda _: "A.B.C", "no signed JWT"),
    "list as header": (lambda _: f"{part([])}.{part({})}.AA", "no signed JWT"),
    "list as claims": (lambda issuer: f"{part({'typ': 'at+jwt'})}.{part([1])}.AA", "no signed JWT"),
    "deep": (lambda _: f"{part({'typ': 'at+jwt'})}.{'W' * 4000}.AA", "no signed JWT"),
    "too long": (with_claims(more="x" * MAX_TOKEN), f"longer than {MAX_TOKEN}"),
    "alg none": (unsigned_with_something, "not taken here; ES256 and EdDSA are"),
    "alg none, no signature": (unsigned, "no signed JWT"),
    "HS256": (signed_with_the_public_key, "not taken here; ES256 and EdDSA are"),
    "stranger": (signed_by_a_stranger, "signature does not hold"),
    "altered": (altered, "signature does not hold"),
    "own key": (signed_by_the_key_within, "brings a key of its own"),
    "own address of keys": (with_header(jku="https://keys.example"), "brings a key of its own"),
    "own chain": (with_header(x5c=["AAAA"]), "brings a key of its own"),
    "another family": (of_another_family, "a key that its issuer does not publish"),
    "unknown key": (with_header(kid="nobody"), "a key that its issuer does not publish"),
    "key id a list": (with_header(kid="x" * 300), "key id is no text"),
    "plain JWT": (with_header(typ="JWT"), "no access token"),
    "id token": (with_header(typ="id+jwt"), "no access token"),
    "issuer": (with_claims(iss="https://elsewhere.example"), "issuer is not known"),
    "issuer a list": (with_claims(iss=[DEFAULT_ISSUER]), "issuer is not known"),
    "audience": (with_claims(aud="https://other.example"), "aud is wrong"),
    "audiences": (with_claims(aud=["https://a.example", "https://b.example"]), "aud is wrong"),
    "audience within": (with_claims(aud=f"{PUBLIC}/more"), "aud is wrong"),
    "expired": (with_claims(exp=NOW - LEEWAY_S, iat=NOW - 900), "expired"),
    "never ends": (with_claims(exp=math.inf), "exp is wrong"),
    "no end at all": (with_claims(exp=math.nan), "exp is wrong"),
    "exp as text": (with_claims(exp="4000000000"), "exp is wrong"),
    "exp as truth": (with_claims(exp=True), "exp is wrong"),
    "exp of many digits": (with_claims(exp=10**400, iat=NOW - 0.5), "issued for longer"),
    "not yet": (with_claims(iat=NOW + LEEWAY_S + 1, exp=NOW + 900), "iat is wrong"),
    "not before": (with_claims(nbf=NOW + LEEWAY_S + 1), "nbf is wrong"),
    "a year": (with_claims(exp=NOW + 365 * 86400), "issued for longer than 86400 s"),
    "tenant missing": (with_claims(tenant=None), "names no tenant"),
    "tenant empty": (with_claims(tenant=""), "names no tenant"),
    "tenant a list": (with_claims(tenant=["acme", "other"]), "names no tenant"),
    "tenant a path": (with_claims(tenant="../acme"), "names no tenant"),
    "tenant in two lines": (with_claims(tenant="acme\n"), "names no tenant"),
    "tenant too long": (with_claims(tenant="a" * 65), "names no tenant"),
    "scope a list": (with_claims(scope=["ndt.order"]), "scope is no text"),
    "sub too long": (with_claims(sub="s" * 257), "sub is no text"),
    "sub a number": (with_claims(sub=7), "sub is wrong"),
    "client a number": (with_claims(client_id=7), "client_id is no text"),
    "jti empty": (with_claims(jti=""), "jti is wrong"),
    "bound by another way": (with_claims(cnf={"jkt": "x"}), "bound in a way that is not known"),
    "bound in two ways": (with_claims(cnf={"x5t#S256": "x" * 43, "jkt": "x"}), "bound in a way that is not"),
    "bound to nothing": (with_claims(cnf={"x5t#S256": "x"}), "no SHA-256"),
    **{
        f"without {name}": (with_claims(**{name: None}), f"lacks {name}")
        for name in ("aud", "exp", "iat", "sub", "client_id", "jti")
    },
    "without iss": (with_claims(iss=None), "issuer is not known"),
}


@pytest.mark.parametrize("name", BAD)
async def test_a_bad_token_is_refused(trusted: tuple[Tokens, TrialIssuer], name: str) -> None:
    tokens, issuer = trusted
    make, sentence = BAD[name]

    with pytest.raises(TokenRefused, match=sentence):
        await tokens.verify(make(issuer))
    assert len(tokens) == 0


def test_a_token_that_demands_extensions_is_not_made_by_joserfc_but_refused_here() -> None:
    from twin_api.tokens import _checked_header

    for demanded in ({"crit": ["exp"]}, {"b64": False}):
        with pytest.raises(TokenRefused, match="demands extensions"):
            _checked_header({"typ": "at+jwt", "alg": "ES256", **demanded})


@pytest.mark.parametrize("algorithm", ["ES256", "EdDSA"])
@pytest.mark.parametrize("typ", ["at+jwt", "AT+JWT", "application/at+jwt"])
async def test_a_good_token_says_who_asks(tmp_path: Path, algorithm: str, typ: str) -> None:
    config, _ = api_config(tmp_path)
    issuer = TrialIssuer.create(tmp_path / "second", algorithm)
    (tmp_path / "issuer" / "jwks.json").write_text(json.dumps(issuer.public_keys()))
    tokens = Tokens(config, Clock())
    token = issuer.sign(
        claims(NOW, aud=["https://x.example", PUBLIC], scope="ndt.order ndt.query", exp=NOW - 29), typ=typ
    )

    verified = await tokens.verify(token)

    assert verified.caller == Caller("acme", "s", frozenset(("ndt.order", "ndt.query")))


async def test_an_issuer_signs_as_it_is_declared_to(tmp_path: Path) -> None:
    keys = {"iss": DEFAULT_ISSUER, "jwks": tmp_path / "issuer" / "jwks.json", "trial": True}
    config, issuer = api_config(tmp_path, issuer=({**keys, "algorithms": ("EdDSA",)},))

    with pytest.raises(TokenRefused, match="in a way that its issuer does not sign"):
        await Tokens(config, Clock()).verify(issuer.sign(claims(NOW)))


async def test_one_issuer_does_not_speak_for_the_tenants_of_another(tmp_path: Path) -> None:
    config, first = api_config(tmp_path)
    second = TrialIssuer.create(tmp_path / "second")
    both = ApiConfig.model_validate(
        {
            **config.model_dump(),
            "issuer": (
                {**config.issuer[0].model_dump(), "tenants": ("acme",)},
                {
                    "iss": "urn:second",
                    "jwks": tmp_path / "second" / "jwks.json",
                    "trial": True,
                    "tenants": ("other",),
                },
            ),
        }
    )
    tokens = Tokens(both, Clock())

    assert (await tokens.verify(first.sign(claims(NOW)))).caller.tenant == "acme"
    with pytest.raises(TokenRefused, match="does not speak for the tenant"):
        await tokens.verify(second.sign(claims(NOW, iss="urn:second")))
    with pytest.raises(TokenRefused, match="a key that its issuer does not publish"):
        await tokens.verify(second.sign(claims(NOW)))


async def test_the_tenant_is_where_the_configuration_says(tmp_path: Path) -> None:
    config, issuer = api_config(tmp_path, tenant_claim="org")
    tokens = Tokens(config, Clock())

    assert (await tokens.verify(issuer.sign(claims(NOW, org="b", tenant="a")))).caller.tenant == "b"
    with pytest.raises(TokenRefused, match="claim org"):
        await tokens.verify(issuer.sign(claims(NOW)))


async def test_a_verified_token_is_remembered_until_it_ends(
    trusted: tuple[Tokens, TrialIssuer], clock: Clock
) -> None:
    tokens, issuer = trusted
    token = issuer.sign(claims(NOW))

    first = await tokens.verify(token)
    assert await tokens.verify(token) is first
    assert (tokens.hits, tokens.misses) == (1, 1)
    clock.now += 600  # its end: looked at anew, and still within the leeway
    assert await tokens.verify(token) is not first
    clock.now += LEEWAY_S
    with pytest.raises(TokenRefused, match="expired"):
        await tokens.verify(token)


async def test_a_remembered_token_is_looked_at_anew_when_its_key_is_withdrawn(
    trusted: tuple[Tokens, TrialIssuer], tmp_path: Path, clock: Clock
) -> None:
    tokens, issuer = trusted
    token = issuer.sign(claims(NOW))
    await tokens.verify(token)
    other = TrialIssuer.create(tmp_path / "other")

    (tmp_path / "issuer" / "jwks.json").write_text(json.dumps(other.public_keys()))
    tokens.rings[DEFAULT_ISSUER].look()

    with pytest.raises(TokenRefused, match="does not publish"):
        await tokens.verify(token)


async def test_no_more_tokens_are_remembered_than_there_is_room_for(
    trusted: tuple[Tokens, TrialIssuer], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens, issuer = trusted
    monkeypatch.setattr("twin_api.tokens.MAX_REMEMBERED", 3)

    for number in range(5):
        await tokens.verify(issuer.sign(claims(NOW, jti=str(number))))

    assert len(tokens) == 3 < MAX_REMEMBERED


async def test_a_bound_token_is_of_use_with_its_certificate_alone(tmp_path: Path) -> None:
    config, issuer = api_config(tmp_path)
    tokens = Tokens(config, Clock())
    bound = issuer.sign(claims(NOW, cnf={"x5t#S256": "A" * 43}))

    assert (await tokens.verify(bound, "A" * 43)).certificate == "A" * 43
    for shown in ("", "B" * 43):  # remembered, and still held to it
        with pytest.raises(TokenRefused, match="bound to a certificate"):
            await tokens.verify(bound, shown)


async def test_only_bound_tokens_are_taken_where_they_are_demanded(tmp_path: Path) -> None:
    config, issuer = api_config(tmp_path, mtls_bound=True)

    with pytest.raises(TokenRefused, match="only tokens that are bound"):
        await Tokens(config, Clock()).verify(issuer.sign(claims(NOW)), "A" * 43)


async def test_a_secret_key_in_a_set_checks_nothing(tmp_path: Path) -> None:
    """A set with an HMAC key beside the good one: the good one counts, the other is left aside."""
    config, issuer = api_config(tmp_path)
    secret = OctKey.generate_key(256, {"kid": "shared"})
    document = issuer.public_keys()
    document["keys"].append(secret.as_dict(private=True))
    (tmp_path / "issuer" / "jwks.json").write_text(json.dumps(document))
    tokens = Tokens(config, Clock())
    forged = jwt.encode({"typ": "at+jwt", "alg": "HS256", "kid": "shared"}, claims(NOW), secret)

    assert (await tokens.verify(issuer.sign(claims(NOW)))).caller.tenant == "acme"
    with pytest.raises(TokenRefused, match="not taken here"):
        await tokens.verify(forged)


@given(
    st.text(max_size=300) | st.from_regex(r"[A-Za-z0-9_-]{0,80}\.[A-Za-z0-9_-]{0,80}\.[A-Za-z0-9_-]{0,20}")
)
def test_any_text_is_refused_in_words(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    import asyncio

    tokens = _shared(tmp_path_factory)

    with pytest.raises(TokenRefused):
        asyncio.run(tokens.verify(text))


_made: list[Tokens] = []


def _shared(factory: pytest.TempPathFactory) -> Tokens:
    if not _made:
        _made.append(Tokens(api_config(factory.mktemp("keys"))[0], Clock()))
    return _made[0]
