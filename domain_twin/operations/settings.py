"""The keys of `[metrics]`, the same in every configuration file. Owns that only this machine may read."""

from __future__ import annotations

import ipaddress

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = ["MetricsConfig", "is_loopback", "split_address"]

_SHORTEST_REASON = 10


class MetricsConfig(BaseModel):
    """Where metrics and health can be read, by this machine only unless a reason is written down."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    listen: str = Field(
        "",
        description="host:port of /metrics, /healthz and /readyz on a loopback address, such as"
        " 127.0.0.1:9464; port 0: any free one, written to metrics.address in the state folder; empty: off",
    )
    remote_because: str = Field(
        "",
        description="why other machines may read it too, as a sentence; without it an address that others"
        " can reach is refused, since whoever reaches it may read",
    )
    certificate_margin_s: float = Field(
        600.0, ge=0, description="/readyz says not ready when a certificate ends within this, seconds"
    )

    @model_validator(mode="after")
    def _loopback_unless_reasoned(self) -> MetricsConfig:
        if not self.listen:
            return self
        host, _ = split_address(self.listen)
        if is_loopback(host):
            return self
        if len(self.remote_because.strip()) < _SHORTEST_REASON:
            raise ValueError(
                f"{self.listen} can be reached from other machines, and whoever reaches it may read; listen"
                " on 127.0.0.1 or [::1], or write the reason for more under remote_because"
            )
        return self


def split_address(text: str) -> tuple[str, int]:
    """Host and port of `host:port`. Raises ValueError; a host is an IP address or localhost."""
    host, separator, port = text.rpartition(":")
    if not separator or not host or not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"{text!r} is not host:port, such as 127.0.0.1:9464 or [::1]:9464")
    host = host.removeprefix("[").removesuffix("]")
    if host != "localhost":
        try:
            ipaddress.ip_address(host)
        except ValueError:
            raise ValueError(
                f"{host!r} is no IP address; names may change their meaning, give an address"
            ) from None
    return host, int(port)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches `host`, an IP address or localhost."""
    return host == "localhost" or ipaddress.ip_address(host).is_loopback
