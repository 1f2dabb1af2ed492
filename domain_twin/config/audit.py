"""The audit that agent and broker keep, and where it is exported to."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from domain_twin.config.reading import Strict


class SyslogConfig(Strict):
    """Where records of the audit are sent as OCSF events, over syslog (RFC 5424)."""

    address: str = Field(
        description="udp://host:port, tcp://host:port, tls://host:port or unix:/path (a datagram socket)"
    )
    root: Path | None = Field(None, description="PEM file with the receiver's root, for tls; pinned")
    server_name: str = Field("", description="name in the receiver's certificate; default: the host")
    facility: int = Field(13, ge=0, le=23, description="syslog facility; 13 is log audit (RFC 5424 6.2.1)")
    queue: int = Field(10_000, gt=0, description="records that wait in memory; more are read from the files")


class AuditConfig(Strict):
    """The hash-chained audit in the state folder: what was asked, disclosed and refused."""

    enabled: bool = Field(True, description="keep an audit at all")
    sync: Literal["each", "interval"] = Field(
        "each", description="each: on disk before anything leaves; interval: handed to the system before"
    )
    sync_interval_ms: float = Field(200.0, gt=0, description="with interval: written to disk this often")
    sign_interval_s: float = Field(30.0, gt=0, description="new records are signed at least this often")
    segment_bytes: int = Field(16_777_216, ge=4096, description="a file of the audit ends at this size")
    when_unwritable: Literal["refuse", "continue"] = Field(
        "refuse", description="refuse: nothing is disclosed while the audit cannot be written"
    )
    syslog: SyslogConfig | None = Field(None, description="left out: nothing is exported")
