"""Issuers with keys of their own, configurations that trust them, and tokens as a test needs them."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from domain_twin.config import ApiConfig
from twin_api.issuer import DEFAULT_ISSUER, TrialIssuer

PUBLIC = "https://twins.exchange.example"
SCOPES = ("ndt.catalog.read", "ndt.order", "ndt.twin.read", "ndt.scenario.run", "ndt.events", "ndt.query")


def api_config(folder: Path, **changed: Any) -> tuple[ApiConfig, TrialIssuer]:
    """A configuration that trusts one issuer with a key in `folder`."""
    issuer = TrialIssuer.create(folder / "issuer")
    given: dict[str, Any] = {
        "listen": "127.0.0.1:0",
        "public_address": PUBLIC,
        "broker": folder / "client.toml",
        "issuer": ({"iss": DEFAULT_ISSUER, "jwks": folder / "issuer" / "jwks.json", "trial": True},),
        "access_log": False,
        **changed,
    }
    return ApiConfig.model_validate(given), issuer


def part(document: object) -> str:
    """One part of a token."""
    return base64.urlsafe_b64encode(json.dumps(document).encode()).rstrip(b"=").decode()


def claims(now: float, **changed: Any) -> dict[str, Any]:
    """Claims of a good token for acme; a claim that is None is left out."""
    good = {
        "iss": DEFAULT_ISSUER,
        "aud": PUBLIC,
        "sub": "s",
        "client_id": "c",
        "iat": int(now),
        "exp": int(now) + 600,
        "jti": "j",
        "scope": "ndt.order",
        "tenant": "acme",
    }
    return {name: value for name, value in {**good, **changed}.items() if value is not None}
