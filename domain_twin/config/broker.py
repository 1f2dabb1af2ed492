"""broker.toml: a federation broker."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from domain_twin.config.audit import AuditConfig
from domain_twin.config.identity import IdentityConfig
from domain_twin.config.learning import BrokerLearningConfig
from domain_twin.config.partners import EventsConfig, PartnerConfig
from domain_twin.config.reading import Strict, load
from domain_twin.errors import ConfigError
from domain_twin.model import Level
from domain_twin.operations.settings import MetricsConfig


class MemberConfig(Strict):
    """A domain that may join, and the operator it belongs to."""

    domain: str = Field(description="name of the domain")
    operator: str = Field(description="the operator whose certificates speak for it")
    level: Level = Field(Level.MESH, description="level that the broker asks for")


class AccessConfig(Strict):
    """Who may read the composed twin."""

    subject: str = Field(description="SPIFFE identity, or spiffe://OPERATOR/user/*")
    operate: bool = Field(False, description="may also acknowledge, close and shelve alarms")
    learn: bool = Field(False, description="may also start and stop trainings, get models and put them back")
    partners: bool = Field(False, description="may speak for partners: the HTTP api, and nobody else")


class BrokerConfig(Strict):
    """A federation broker: `fedtwin broker broker.toml`."""

    id: str = Field("main", description="last part of the broker's SPIFFE identity")
    operator: str = Field(description="the operator's trust domain, such as exchange.example")
    listen: str = Field(description="host:port that agents and engineers dial")
    state: Path = Field(description="folder of the broker's state")
    database: str = Field("", description="SQLAlchemy URL; default: SQLite in the state folder")
    services: Path | None = Field(None, description="records of fedtwin-service, RFC 7951 JSON")
    identity: IdentityConfig
    trust: dict[str, Path] = Field(description="operator = PEM file with that operator's roots")
    member: tuple[MemberConfig, ...] = Field((), description="domains that may join")
    access: tuple[AccessConfig, ...] = Field((), description="who may read the composed twin")
    partner: tuple[PartnerConfig, ...] = Field((), description="partners that may order twins")
    events: EventsConfig = EventsConfig()
    learning: BrokerLearningConfig = BrokerLearningConfig()
    metrics: MetricsConfig = MetricsConfig()
    heartbeat_s: float = Field(5.0, gt=0, description="agents say something at least this often, seconds")
    dead_after_s: float = Field(15.0, gt=0, description="a silent agent's session ends after this, seconds")
    sample_interval_s: float = Field(1.0, gt=0, description="services are evaluated at least this often")
    audit: AuditConfig = AuditConfig()
    reads_per_second: float = Field(500.0, gt=0, description="questions a second that one subject may ask")
    attaches_per_minute: float = Field(300.0, gt=0, description="sessions a minute that one peer may open")


def load_broker(path: Path) -> BrokerConfig:
    """Read broker.toml. Raises ConfigError."""
    config = load(path, BrokerConfig)
    for member in config.member:
        if member.operator not in config.trust:
            raise ConfigError(
                f"{path}: member {member.domain!r} belongs to {member.operator!r}, which [trust] has"
                f' no roots for; add {member.operator!r} = "its-root.pem" under [trust]'
            )
    return config
