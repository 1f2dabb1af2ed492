"""A broker with partners, and those who call it: the api, a person, an agent. Over real mTLS."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "federation"))

from federation_parts import EXCHANGE, Federation, local

from domain_twin.config import AccessConfig, ClientConfig, PartnerConfig, QuotaConfig
from domain_twin.trust.identity import Role
from federation.broker import Broker
from federation.client import TwinClient
from federation.partners_client import PartnersClient

API = f"spiffe://{EXCHANGE}/user/api"
PARTNERS = (
    PartnerConfig(id="acme", quota=QuotaConfig(records=500)),
    PartnerConfig(id="globex"),
)


def federation_with_partners(folder: Path, **more: Any) -> Federation:
    access = (
        AccessConfig(subject=API, partners=True),
        AccessConfig(subject=f"spiffe://{EXCHANGE}/user/*"),
    )
    return Federation.make(folder, **{"partner": PARTNERS, "access": access, **more})


def profile(
    federation: Federation, broker: Broker, name: str, role: Role = Role.USER, **more: Any
) -> ClientConfig:
    issued = federation.pki.identity(EXCHANGE, role, name, **more)
    return ClientConfig(
        address=local(broker),
        identity=f"spiffe://{EXCHANGE}/broker/main",
        root=federation.pki.roots[EXCHANGE],
        certificate=issued.certificate,
        key=issued.key,
    )


@asynccontextmanager
async def partners_client(
    federation: Federation, broker: Broker, name: str = "api", role: Role = Role.USER, **more: Any
) -> AsyncIterator[PartnersClient]:
    async with PartnersClient(profile(federation, broker, name, role, **more), timeout_s=20.0) as client:
        yield client


@asynccontextmanager
async def twin_client(
    federation: Federation, broker: Broker, name: str = "api", role: Role = Role.USER
) -> AsyncIterator[TwinClient]:
    async with TwinClient(profile(federation, broker, name, role), timeout_s=20.0) as client:
        yield client
