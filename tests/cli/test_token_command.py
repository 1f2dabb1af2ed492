"""`fedtwin token`: a key that others cannot read, tokens that an api takes, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from domain_twin.config import load_api
from domain_twin.trust.ca import OperatorCA
from domain_twin.trust.identity import Role
from federation.cli.app import run
from twin_api.issuer import KEY_FILE, SET_FILE
from twin_api.tokens import Tokens

API_TOML = """\
public_address = "https://twins.exchange.example"
broker = "client.toml"
tenant_claim = "org"

[[issuer]]
iss = "urn:fedtwin:trial-issuer"
jwks = "issuer/jwks.json"
trial = true
"""


@pytest.fixture
def folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    (tmp_path / "api.toml").write_text(API_TOML)
    assert run(["token", "keys", str(tmp_path / "issuer")]) == 0
    shown = capsys.readouterr().out
    assert "for trials only" in " ".join(shown.split())
    assert "[[issuer]]" in shown
    assert "trial = true" in shown
    return tmp_path


def test_the_key_is_for_its_owner_alone(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    key = folder / "issuer" / KEY_FILE

    assert key.stat().st_mode & 0o777 == 0o600
    assert "d" in json.loads(key.read_text())
    assert "d" not in json.loads((folder / "issuer" / SET_FILE).read_text())["keys"][0]
    assert run(["token", "keys", str(folder / "issuer")]) == 1  # tokens of the first key would end with it
    assert "has a key already" in capsys.readouterr().err
    key.chmod(0o644)
    assert run(["token", "issue", "--tenant", "acme", "--api", str(folder / "api.toml")]) == 1
    assert "others may read this private key; run chmod 600" in capsys.readouterr().err


@pytest.mark.parametrize("algorithm", ["ES256", "EdDSA"])
async def test_an_api_takes_its_tokens(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], algorithm: str
) -> None:
    (tmp_path / "api.toml").write_text(API_TOML)
    run(["token", "keys", str(tmp_path / "issuer"), "--algorithm", algorithm])
    issued = OperatorCA.create("partner.example", tmp_path / "ca").issue(Role.USER, "ada", tmp_path)
    capsys.readouterr()

    words = ["token", "issue", "--tenant", "acme", "--api", str(tmp_path / "api.toml"), "--hours", "2"]
    assert run(words) == 0
    token = capsys.readouterr().out.strip()
    run([*words, "--scope", "ndt.order", "--client", "x", "--bind", str(issued.certificate), "--json"])
    told = json.loads(capsys.readouterr().out)
    tokens = Tokens(load_api(tmp_path / "api.toml"))
    verified = await tokens.verify(token)

    assert verified.caller.tenant == "acme"
    assert "ndt.twin.read" in verified.caller.scopes
    assert "ndt.operator" not in verified.caller.scopes
    assert (told["token_type"], told["expires_in"], told["scope"]) == ("Bearer", 7200, "ndt.order")
    from twin_api.tokens import TokenRefused

    with pytest.raises(TokenRefused, match="bound to a certificate"):
        await tokens.verify(told["access_token"])


def test_the_public_key_is_shown(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run(["token", "jwks", "--keys", str(folder / "issuer"), "--json"])
    document = json.loads(capsys.readouterr().out)
    run(["token", "jwks", "--keys", str(folder / "issuer")])

    assert document == json.loads((folder / "issuer" / SET_FILE).read_text())
    assert document["keys"][0]["kid"] in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            ["issue", "--tenant", "a", "--keys", "{}/none", "--audience", "x"],
            "make one with `fedtwin token keys",
        ),
        (["issue", "--tenant", "a", "--keys", "{}/issuer"], "whom is the token for?"),
        (
            ["issue", "--tenant", "a", "--scope", "ndt.orders", "--api", "{}/api.toml"],
            "'ndt.orders' is no scope",
        ),
        (["issue", "--tenant", "a", "--api", "{}/api.toml", "--bind", "{}/api.toml"], "with a certificate"),
        (["keys", "{}/more", "--algorithm", "RS256"], "accepted are ES256 and EdDSA"),
    ],
)
def test_what_cannot_be_done_is_told(
    folder: Path, capsys: pytest.CaptureFixture[str], words: list[str], sentence: str
) -> None:
    assert run(["token", *(word.format(folder) for word in words)]) != 0
    assert sentence in capsys.readouterr().err


def test_a_file_without_a_trial_issuer_names_no_key(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "api.toml").write_text(API_TOML.replace("trial = true", ""))

    assert run(["token", "issue", "--tenant", "a", "--api", str(folder / "api.toml")]) == 1
    assert "name a key with --keys" in capsys.readouterr().err


def test_the_file_of_an_api_is_checked(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    authority = OperatorCA.create("exchange.example", folder / "ca")
    assert run(["ca", "api", "main", "--ca", str(folder / "ca"), "-o", str(folder / "pki")]) == 0
    (folder / "client.toml").write_text(
        'address = "b.example:1"\nidentity = "spiffe://exchange.example/broker/main"\n'
        f'root = "{authority.root}"\n'
        'certificate = "pki/api-main.pem"\nkey = "pki/api-main.key"\n'
    )
    capsys.readouterr()

    assert run(["config", "check", str(folder / "api.toml"), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    (folder / "issuer" / SET_FILE).unlink()
    assert run(["config", "check", str(folder / "api.toml")]) == 1
    assert "spiffe://exchange.example/api/main" in json.dumps(rows)
    assert "cannot be read" in capsys.readouterr().out
