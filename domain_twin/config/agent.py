"""agent.toml: a twin agent."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from domain_twin.config.agreements import AgreementConfig, PublishConfig
from domain_twin.config.audit import AuditConfig
from domain_twin.config.devices import ControllerConfig, DeviceConfig, IntakeConfig, Inventory, YangConfig
from domain_twin.config.identity import BrokerAddress, IdentityConfig
from domain_twin.config.learning import LearningConfig
from domain_twin.config.reading import Strict, load
from domain_twin.errors import ConfigError
from domain_twin.operations.settings import MetricsConfig


class HistoryConfig(Strict):
    """How long history is kept, and in which pieces."""

    enabled: bool = Field(True, description="keep history at all")
    raw_days: float = Field(
        14.0, gt=0, description="every change is kept so long; of older figures, a value a minute"
    )
    minute_days: float = Field(
        180.0, gt=0, description="a value a minute is kept so long; of older figures, one an hour"
    )
    retention_days: float = Field(
        1095.0,
        gt=0,
        description="history older than this is deleted, days; shorter than the others: all of it",
    )
    flush_s: float = Field(1.0, gt=0, description="longest time a change waits before it is written")


class SemanticConfig(Strict):
    """The twin as a graph: what can be asked in SPARQL, derived by rules and checked by shapes."""

    enabled: bool = Field(True, description="keep a graph at all")
    rules: Path | None = Field(None, description="folder with rules of your own, one CONSTRUCT per .rq file")
    shapes: Path | None = Field(None, description="folder with SHACL shapes of your own, .ttl files")
    kpis: bool = Field(True, description="have the latest figures and counters in the graph")
    max_rows: int = Field(100_000, gt=0, description="rows or triples that one query may answer with")
    timeout_s: float = Field(10.0, gt=0, description="a query is stopped after this time, seconds")
    memory_mb: int = Field(512, gt=0, description="memory that one query may take, in MB")


class WhatIfConfig(Strict):
    """What the agent answers what-ifs with, beside its calibration."""

    residual: Path | None = Field(
        None, description="correction for the rung residual, made by `fedtwin residual`"
    )


class AgentConfig(Strict):
    """A twin agent: `fedtwin agent agent.toml`."""

    domain: str = Field(description="name of the domain", pattern=r"^[a-z][a-z0-9-]*$")
    operator: str = Field(description="the operator's trust domain, such as longhaul.example")
    state: Path = Field(description="folder of the agent's state: checkpoint, history, audit, socket")
    services: Path | None = Field(None, description="records of fedtwin-service, RFC 7951 JSON")
    inventory: tuple[Path, ...] = Field((), description="further files with [[device]] and [[controller]]")
    device: tuple[DeviceConfig, ...] = Field((), description="devices to mirror")
    controller: tuple[ControllerConfig, ...] = Field((), description="controllers that speak for devices")
    intake: IntakeConfig = IntakeConfig()
    yang: YangConfig = YangConfig()
    history: HistoryConfig = HistoryConfig()
    semantic: SemanticConfig = SemanticConfig()
    what_if: WhatIfConfig = WhatIfConfig()
    learning: LearningConfig = LearningConfig()
    metrics: MetricsConfig = MetricsConfig()
    audit: AuditConfig = AuditConfig()
    broker: BrokerAddress | None = Field(None, description="left out: the agent works alone")
    identity: IdentityConfig | None = Field(None, description="needed with a broker")
    agreement: tuple[AgreementConfig, ...] = ()
    publish: tuple[PublishConfig, ...] = ()
    view_interval_ms: float = Field(20.0, ge=0, description="changes within this time leave as one delta")
    figures_interval_ms: float = Field(200.0, ge=0, description="the same for changes of figures alone")


def load_agent(path: Path) -> AgentConfig:
    """Read agent.toml and the inventories it names. Raises ConfigError."""
    config = load(path, AgentConfig)
    devices, controllers = list(config.device), list(config.controller)
    for inventory in config.inventory:
        found = load(inventory, Inventory)
        devices += found.device
        controllers += found.controller
    names = [device.name for device in devices]
    for name in sorted({n for n in names if names.count(n) > 1}):
        raise ConfigError(f"{path}: device {name!r} is declared twice; give each device one [[device]] table")
    names += [name for controller in controllers for name in {controller.name, *controller.devices}]
    for name in sorted({n for n in names if names.count(n) > 1}):
        raise ConfigError(
            f"{path}: {name!r} would be mirrored twice; name it once: as a [[device]], a [[controller]], or"
            " among the devices of one controller"
        )
    if config.broker and not config.identity:
        raise ConfigError(f"{path}: [broker] needs [identity]; make one with `fedtwin ca agent`")
    return config.model_copy(update={"device": tuple(devices), "controller": tuple(controllers)})
