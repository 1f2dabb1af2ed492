"""Configuration files of agent, broker and api. Owns keys, defaults and messages; secrets only by reference.

Paths in a file are relative to that file. An unknown key is refused, with the place and what is accepted.
"""

from __future__ import annotations

from domain_twin.config.agent import AgentConfig, HistoryConfig, SemanticConfig, WhatIfConfig, load_agent
from domain_twin.config.agreements import AgreementConfig, PrecisionConfig, PublishConfig
from domain_twin.config.api import ApiConfig, ApiLimitsConfig, ApiTlsConfig, IssuerConfig, load_api
from domain_twin.config.audit import AuditConfig, SyslogConfig
from domain_twin.config.broker import AccessConfig, BrokerConfig, MemberConfig, load_broker
from domain_twin.config.devices import (
    ControllerConfig,
    DeviceConfig,
    GnmiConfig,
    IntakeConfig,
    NetconfConfig,
    ReplayConfig,
    YangConfig,
)
from domain_twin.config.identity import (
    ApiClientConfig,
    BrokerAddress,
    ClientConfig,
    IdentityConfig,
    load_api_client,
    load_client,
)
from domain_twin.config.learning import BrokerLearningConfig, LearningConfig
from domain_twin.config.partners import EventsConfig, PartnerConfig, QuotaConfig
from domain_twin.config.reading import load, secret

__all__ = [
    "AccessConfig",
    "AgentConfig",
    "AgreementConfig",
    "ApiClientConfig",
    "ApiConfig",
    "ApiLimitsConfig",
    "ApiTlsConfig",
    "AuditConfig",
    "BrokerAddress",
    "BrokerConfig",
    "BrokerLearningConfig",
    "ClientConfig",
    "ControllerConfig",
    "DeviceConfig",
    "EventsConfig",
    "GnmiConfig",
    "HistoryConfig",
    "IdentityConfig",
    "IntakeConfig",
    "IssuerConfig",
    "LearningConfig",
    "MemberConfig",
    "NetconfConfig",
    "PartnerConfig",
    "PrecisionConfig",
    "PublishConfig",
    "QuotaConfig",
    "ReplayConfig",
    "SemanticConfig",
    "SyslogConfig",
    "WhatIfConfig",
    "YangConfig",
    "load",
    "load_agent",
    "load_api",
    "load_api_client",
    "load_broker",
    "load_client",
    "secret",
]
