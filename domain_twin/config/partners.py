"""Partners that may order twins, and how events reach them."""

from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

from pydantic import Field, field_validator

from domain_twin.config.reading import Strict


class QuotaConfig(Strict):
    """What a partner may have at once."""

    twins: int = Field(5, ge=0, description="active twins")
    runs: int = Field(2, ge=0, description="scenario runs at once")
    cpu_s_per_day: float = Field(3600.0, ge=0, description="seconds that its scenario runs may take a day")
    hubs: int = Field(20, ge=0, description="subscriptions to events")
    records: int = Field(50_000, ge=1, description="orders, twins, tests and specifications that are kept")


class PartnerConfig(Strict):
    """A partner that may order twins: the tenant that its access tokens name."""

    id: str = Field(
        description="name of the tenant, as in its tokens; domains know it as spiffe://OPERATOR/partner/ID",
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
    )
    name: str = Field("", description="name for people")
    specifications: tuple[str, ...] = Field((), description="what it may order; default: all that are public")
    quota: QuotaConfig = QuotaConfig()


class EventsConfig(Strict):
    """How events reach the callbacks of partners."""

    allow_networks: tuple[str, ...] = Field(
        (),
        description="networks that callbacks may be in though they are not public, such as 10.1.0.0/16: for"
        " trials",
    )
    allow_http_loopback: bool = Field(
        False, description="take http too where the callback is on this machine: for trials"
    )
    roots: Path | None = Field(
        None, description="PEM file with roots of callbacks' certificates, beside those of the system"
    )
    timeout_s: float = Field(5.0, gt=0, description="a callback answers within this, seconds")
    attempts: int = Field(20, ge=1, description="tries before an event is a dead letter")
    first_retry_s: float = Field(
        1.0, gt=0, description="pause after the first failure, doubled each time, seconds"
    )
    longest_retry_s: float = Field(3600.0, gt=0, description="longest pause between tries, seconds")
    suspend_after_s: float = Field(
        86_400.0, gt=0, description="a subscription that fails for so long is suspended, seconds"
    )
    waiting: int = Field(
        10_000, ge=1, description="events that may wait for one subscription; with more it is suspended"
    )
    dead_letters: int = Field(1_000, ge=1, description="dead letters kept for one subscription, the newest")
    at_once: int = Field(256, ge=1, description="deliveries at once, of all partners")

    @field_validator("allow_networks")
    @classmethod
    def _networks(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            try:
                ip_network(text)
            except ValueError as error:
                raise ValueError(f"{text!r} is not a network such as 10.1.0.0/16 ({error})") from None
        return value
