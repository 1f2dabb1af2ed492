"""`fedtwin token`: access tokens for trials. Owns words; `twin_api.issuer` makes them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from federation.cli.options import Json
from federation.cli.register import command, subgroup

if TYPE_CHECKING:
    from domain_twin.config import ApiConfig

SECTION = "Operate"
Keys: TypeAlias = Annotated[
    Path, typer.Option("--keys", help="Folder of the issuer's key, made by `fedtwin token keys`.")
]
_ALL = "ndt.catalog.read ndt.order ndt.twin.read ndt.scenario.run ndt.events ndt.query"


def add_to(app: typer.Typer) -> None:
    """Add `token` with its sub-commands."""
    part = subgroup(
        app,
        "token",
        section=SECTION,
        help_text="Make access tokens for trials, without an identity provider.",
    )
    command(part, "keys", group="token", section=SECTION, example="fedtwin token keys issuer/")(keys)
    command(
        part,
        "issue",
        group="token",
        section=SECTION,
        example=(
            "fedtwin token issue --tenant acme --api api.toml --keys issuer/",
            'fedtwin token issue --tenant acme --scope "ndt.catalog.read ndt.order" --api api.toml',
        ),
    )(issue)
    command(part, "jwks", group="token", section=SECTION, example="fedtwin token jwks --keys issuer/ --json")(
        jwks
    )


def keys(
    *,
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder that the key and its JWKS go to.")],
    algorithm: Annotated[str, typer.Option("--algorithm", help="ES256 or EdDSA.")] = "ES256",
    as_json: Json = False,
) -> None:
    """Make the key of an issuer for trials.

    Whoever reads the key speaks for every tenant: use it for trials only. An api takes its tokens where
    [[issuer]] says `trial = true`.
    """
    from federation.cli.console import emit, out, short_path
    from twin_api.issuer import DEFAULT_ISSUER, KEY_FILE, SET_FILE, TrialIssuer

    if algorithm not in ("ES256", "EdDSA"):
        raise typer.BadParameter(f"{algorithm!r}: accepted are ES256 and EdDSA", param_hint="--algorithm")
    TrialIssuer.create(folder, algorithm)
    key, document = folder / KEY_FILE, folder / SET_FILE
    if as_json:
        emit({"iss": DEFAULT_ISSUER, "key": key, "jwks": document})
        return
    out().print(f"{short_path(key)}: the key, for trials only; keep it to yourself")
    out().print("in api.toml:\n", highlight=False)
    out().print(
        f'\\[\\[issuer]]\niss = "{DEFAULT_ISSUER}"\njwks = "{short_path(document)}"\ntrial = true',
        highlight=False,
    )


def issue(
    *,
    tenant: Annotated[str, typer.Option("--tenant", help="The tenant that the token speaks for.")],
    scope: Annotated[str, typer.Option("--scope", help="Scopes, with blanks between them.")] = _ALL,
    api: Annotated[
        Path | None,
        typer.Option("--api", metavar="API_TOML", help="Take audience, issuer, key from there."),
    ] = None,
    keys: Annotated[
        Path | None,
        typer.Option("--keys", help="Folder of the key. Default: where the JWKS of --api is."),
    ] = None,
    audience: Annotated[str, typer.Option("--audience", help="Whom it is meant for; else of --api.")] = "",
    iss: Annotated[str, typer.Option("--iss", help="The issuer's name; else of --api.")] = "",
    client: Annotated[str, typer.Option("--client", help="The client's id. Default: TENANT-client.")] = "",
    certificate: Annotated[
        Path | None,
        typer.Option("--bind", metavar="PEM", help="Bind the token to this client certificate (RFC 8705)."),
    ] = None,
    hours: Annotated[float, typer.Option("--hours", help="How long it is valid.", min=0.001)] = 1.0,
    as_json: Json = False,
) -> None:
    """Issue an access token, on stdout. For trials only: nobody is asked who they are."""
    from domain_twin.config import load_api
    from domain_twin.errors import ConfigError
    from federation.cli.console import emit
    from twin_api.caller import Scope
    from twin_api.issuer import DEFAULT_ISSUER, TrialIssuer

    scopes = scope.split()
    if unknown := sorted(set(scopes) - set(Scope)):
        raise typer.BadParameter(
            f"{unknown[0]!r} is no scope; there are {', '.join(Scope)}", param_hint="--scope"
        )
    config = load_api(api) if api else None
    folder, named = _trial_issuer(config, keys)
    audience = audience or (config.expected_audience if config else "")
    if not audience:
        raise ConfigError("whom is the token for? name the api's configuration with --api, or --audience")
    token = TrialIssuer.load(folder).issue(
        tenant,
        scopes,
        audience=audience,
        iss=iss or named or DEFAULT_ISSUER,
        client=client,
        life_s=hours * 3600,
        tenant_claim=config.tenant_claim if config else "tenant",
        certificate=_thumbprint(certificate) if certificate else "",
    )
    if as_json:
        emit(
            {"access_token": token, "token_type": "Bearer", "expires_in": round(hours * 3600), "scope": scope}
        )
        return
    typer.echo(token)


def jwks(*, keys: Keys = Path("issuer"), as_json: Json = False) -> None:
    """Show the issuer's public key; with --json the JWKS that an api reads."""
    from federation.cli.console import emit, out
    from federation.cli.tables import attributes_table
    from twin_api.issuer import TrialIssuer

    document = TrialIssuer.load(keys).public_keys()
    if as_json:
        emit(document)
        return
    for key in document["keys"]:
        out().print(attributes_table({name: str(value) for name, value in key.items()}))


def _trial_issuer(config: ApiConfig | None, keys: Path | None) -> tuple[Path, str]:
    """The folder of the key, and the issuer's name; an empty name: the usual one. Raises ConfigError."""
    from domain_twin.errors import ConfigError

    found = [each for each in config.issuer if each.trial and each.jwks] if config else []
    if keys is None:
        if config and not found:
            raise ConfigError("no [[issuer]] there has `trial = true` and a jwks; name a key with --keys")
        keys = found[0].jwks.parent if found and found[0].jwks else Path("issuer")
    return keys, found[0].iss if found else ""


def _thumbprint(path: Path) -> str:
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding

    from domain_twin.errors import ConfigError
    from twin_api.protocol import thumbprint

    try:
        leaf = x509.load_pem_x509_certificates(path.read_bytes())[0]
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: no PEM file with a certificate ({error})") from error
    return thumbprint(leaf.public_bytes(Encoding.DER))
