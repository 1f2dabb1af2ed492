"""api.toml: the HTTP APIs for partners."""

from __future__ import annotations

from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from domain_twin.config.reading import Strict, load
from domain_twin.operations.settings import MetricsConfig, is_loopback, split_address


class IssuerConfig(Strict):
    """An identity provider whose access tokens are taken (RFC 9068)."""

    iss: str = Field(description="the issuer as its tokens name it", min_length=1)
    jwks: Path | None = Field(None, description="file with its public keys, a JWKS; followed when it changes")
    jwks_url: str = Field(
        "", description="https address of its JWKS instead; http on a loopback address only"
    )
    jwks_root: Path | None = Field(
        None, description="PEM file with the root for that address; default: those of the system"
    )
    algorithms: tuple[Literal["ES256", "EdDSA"], ...] = Field(
        ("ES256", "EdDSA"), description="signatures that are taken", min_length=1
    )
    tenants: tuple[str, ...] = Field(
        (), description="tenants that it may speak for; default: all, which only a single issuer may"
    )
    trial: bool = Field(
        False, description="also take keys made by `fedtwin token`, which are for trials only"
    )

    @model_validator(mode="after")
    def _keys_from_one_place(self) -> IssuerConfig:
        if (self.jwks is None) == (not self.jwks_url):
            raise ValueError("give its keys once: jwks, a file, or jwks_url")
        if self.jwks_url:
            _web_address("jwks_url", self.jwks_url)
        return self


class ApiTlsConfig(Strict):
    """TLS of the API process itself; 1.3 only."""

    certificate: Path = Field(description="PEM file with the server's certificate, then intermediates")
    key: Path = Field(description="PEM file with its private key, mode 0600")
    client_roots: Path | None = Field(
        None, description="PEM file with roots of clients' certificates, for tokens bound to one (RFC 8705)"
    )


class ApiLimitsConfig(Strict):
    """What one caller, or all of them, may take of the API process."""

    body_bytes: int = Field(
        1_000_000,
        ge=1024,
        le=1_000_000,
        description="largest body of a request; the broker takes no larger ones",
    )
    head_bytes: int = Field(65_536, ge=4096, description="longest request line and headers together")
    head_s: float = Field(10.0, gt=0, description="the head of a request is there within this, seconds")
    body_s: float = Field(30.0, gt=0, description="its body is there within this, seconds")
    connections: int = Field(512, ge=1, description="connections at once, of all callers")
    requests_per_second: float = Field(
        200.0, gt=0, description="requests a second of one tenant, in the long run"
    )
    burst: int = Field(400, ge=1, description="requests of one tenant that may come at once")
    failures_per_minute: float = Field(
        60.0,
        ge=1,
        description="tokens that do not hold, of one address; of more, only those that are known already are"
        " taken (behind a proxy nobody has an address: it has to limit them)",
    )


class ApiConfig(Strict):
    """The HTTP APIs for partners: `fedtwin api api.toml`."""

    listen: str = Field(
        "127.0.0.1:8080",
        description="host:port to serve on; another address than a loopback one needs [tls] or behind_proxy",
    )
    public_address: str = Field(
        description="address that partners use, such as https://twins.exchange.example; every href begins"
        " with it; http on a loopback address only"
    )
    behind_proxy: bool = Field(
        False, description="a proxy in front ends TLS and is the only one who reaches the address listened on"
    )
    proxy_certificate: bool = Field(
        False,
        description="that proxy tells the client's certificate in Client-Cert (RFC 9440), and takes away what"
        " clients send under that name",
    )
    tls: ApiTlsConfig | None = Field(None, description="left out: plain HTTP, for a proxy on this machine")
    broker: Path = Field(
        description="client profile by which the broker is asked, with a certificate of"
        " spiffe://OPERATOR/api/ID (`fedtwin ca api`)"
    )
    state: Path | None = Field(
        None, description="folder that metrics.address is written to; default: nowhere"
    )
    issuer: tuple[IssuerConfig, ...] = Field(description="identity providers", min_length=1)
    audience: str = Field("", description="whom tokens must be meant for (aud); default: public_address")
    tenant_claim: str = Field("tenant", description="claim of a token that names the tenant", min_length=1)
    token_life_s: float = Field(
        86_400.0, gt=0, description="tokens issued for longer than this are refused, seconds"
    )
    mtls_bound: bool = Field(
        False,
        description="take only tokens that are bound to the client's certificate (RFC 8705); a token that is"
        " bound is held to it in any case",
    )
    limits: ApiLimitsConfig = ApiLimitsConfig()
    max_age_s: float = Field(
        5.0, gt=0, description="/readyz says not ready when the broker was last heard before this, seconds"
    )
    docs: bool = Field(True, description="serve the interactive API documents at /docs")
    access_log: bool = Field(True, description="write a line of JSON on stdout for every request")
    dialects: tuple[Literal["tmf-v3"], ...] = Field(
        (), description="older forms to speak besides; tmf-v3: for conformance kits that know nothing newer"
    )
    metrics: MetricsConfig = MetricsConfig()

    @model_validator(mode="after")
    def _safe(self) -> ApiConfig:
        host, _ = split_address(self.listen)
        if not is_loopback(host) and not self.tls and not self.behind_proxy:
            raise ValueError(
                f"{self.listen} can be reached from other machines, and tokens would travel in the clear;"
                " give [tls] a certificate and a key, listen on 127.0.0.1, or say behind_proxy = true where a"
                " proxy with TLS stands in front"
            )
        if self.proxy_certificate and not self.behind_proxy:
            raise ValueError(
                "proxy_certificate is for a proxy in front: say behind_proxy = true, or leave it out"
            )
        scheme = _web_address("public_address", self.public_address, path=False)
        if self.tls and scheme == "http":
            raise ValueError(
                f"public_address {self.public_address}: this process speaks TLS; begin it with https"
            )
        names = [issuer.iss for issuer in self.issuer]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"issuer {twice[0]!r} is declared twice; give each one [[issuer]] table")
        if len(names) > 1 and (open_ := [each.iss for each in self.issuer if not each.tenants]):
            raise ValueError(
                f"issuer {open_[0]!r}: with several issuers each lists the tenants that it may speak for, or"
                " one could speak for the tenants of another"
            )
        return self

    @property
    def expected_audience(self) -> str:
        """Whom tokens must be meant for."""
        return self.audience or self.public_address.rstrip("/")


def _web_address(key: str, text: str, *, path: bool = True) -> str:
    """The scheme of an http(s) address. Raises ValueError."""
    parts = urlsplit(text)
    try:
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        raise ValueError(f"{key} {text!r}: {error}") from None
    if (
        parts.scheme not in ("http", "https")
        or not host
        or "@" in parts.netloc
        or parts.query
        or parts.fragment
    ):
        raise ValueError(f"{key} {text!r} is not an address such as https://twins.exchange.example")
    if not path and parts.path.strip("/"):
        raise ValueError(f"{key} {text!r}: has a path of its own; the APIs' own paths begin at the root")
    if parts.scheme == "http":
        try:
            loopback = is_loopback(host)
        except ValueError:
            loopback = False
        if not loopback:
            raise ValueError(f"{key} {text!r}: http is for loopback addresses only; use https")
    return parts.scheme


def load_api(path: Path) -> ApiConfig:
    """Read api.toml. Raises ConfigError."""
    return load(path, ApiConfig)
