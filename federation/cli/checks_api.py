"""Checks of api.toml: what it names is there and fits together. Rows come in; `checks` owns their form."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from domain_twin.config import ApiTlsConfig, IssuerConfig, load_api, load_client
from domain_twin.errors import IdentityMismatch

if TYPE_CHECKING:
    from federation.cli.checks import Rows

__all__ = ["check_api"]


def check_api(path: Path, rows: Rows) -> None:
    """Look at everything that api.toml says. Raises ConfigError where it cannot be read."""
    config = load_api(path)
    rows.fine("keys", f"the APIs at {config.public_address}, listening on {config.listen}")
    rows.attempt("broker", lambda: _identity(config.broker))
    if config.tls:
        rows.attempt("tls", partial(_tls, config.tls))
    for issuer in config.issuer:
        subject = f"issuer {issuer.iss}"
        if issuer.jwks:
            rows.attempt(subject, partial(_keys, issuer))
        else:
            rows.fine(subject, f"its keys are read from {issuer.jwks_url}; not asked now")
        if issuer.trial:
            rows.doubtful(
                subject, "takes keys for trials, whose holder speaks for every tenant; not for real partners"
            )
    if config.dialects:
        rows.doubtful("dialects", f"{', '.join(config.dialects)}: for conformance kits")


def _identity(profile: Path) -> str:
    from domain_twin.trust.credentials import load_tls
    from domain_twin.trust.identity import Role

    client = load_client(profile)
    tls = load_tls(client.certificate, client.key)
    if tls.identity.role is not Role.API:
        raise IdentityMismatch(
            f"{client.certificate}: is the certificate of {tls.identity}, and an api is"
            " spiffe://OPERATOR/api/ID; issue one with `fedtwin ca api`"
        )
    return f"asked at {client.address} as {tls.identity}, valid until {tls.not_after:%Y-%m-%d %H:%M} UTC"


def _tls(config: ApiTlsConfig) -> str:
    from twin_api.tls import ServerTls

    return f"{config.certificate}, valid until {ServerTls(config).not_after:%Y-%m-%d %H:%M} UTC"


def _keys(config: IssuerConfig) -> str:
    from twin_api.keys import read_keys

    return f"{len(read_keys(config))} keys in {config.jwks}"
