"""Who a process is, and how it reaches a broker or the APIs."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from domain_twin.config.reading import Strict, load


class IdentityConfig(Strict):
    """Who this process is: a TLS certificate, and a key that signs what it says."""

    certificate: Path = Field(description="PEM file: TLS certificate with one SPIFFE URI, then intermediates")
    key: Path = Field(description="PEM file: its P-256 private key, mode 0600")
    signing_certificate: Path = Field(description="PEM file: Ed25519 certificate of the same SPIFFE URI")
    signing_key: Path = Field(description="PEM file: its Ed25519 private key, mode 0600")


class BrokerAddress(Strict):
    """The broker that an agent dials."""

    address: str = Field(description="host:port of the broker")
    root: Path = Field(description="PEM file with the root of the broker's operator; pinned")
    identity: str = Field(description="SPIFFE identity of the broker: spiffe://OPERATOR/broker/ID")
    server_name: str = Field("", description="name in the broker's certificate; default: the address's host")


class ClientConfig(Strict):
    """How the command line reaches a broker: the file behind `--at`."""

    address: str = Field(description="host:port of the broker")
    identity: str = Field(description="SPIFFE identity of the broker")
    root: Path = Field(description="PEM file with the root of the broker's operator; pinned")
    certificate: Path = Field(description="PEM file: the user's TLS certificate")
    key: Path = Field(description="PEM file: its private key, mode 0600")
    server_name: str = Field("", description="name in the broker's certificate; default: the address's host")


class ApiClientConfig(Strict):
    """How a partner reaches the service APIs: the file that FEDTWIN_API names."""

    url: str = Field(description="where the api is: https://host:port")
    token: str = Field(description="env:NAME or file:PATH of the access token; read anew for every request")
    root: Path | None = Field(
        None, description="PEM file with the root of the api's certificate; default: the system's roots"
    )
    certificate: Path | None = Field(
        None, description="PEM file: the partner's own, if tokens are bound to it"
    )
    key: Path | None = Field(None, description="PEM file: its private key, mode 0600")


def load_client(path: Path) -> ClientConfig:
    """Read a client profile. Raises ConfigError."""
    return load(path, ClientConfig)


def load_api_client(path: Path) -> ApiClientConfig:
    """Read a partner's profile. Raises ConfigError."""
    return load(path, ApiClientConfig)
