"""What a domain lets its peers see and ask."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from domain_twin.config.reading import Strict
from domain_twin.model import Level

Action = Literal["view", "evaluate", "describe", "query", "train", "what-if", "sandbox"]


class PrecisionConfig(Strict):
    """Rounding to the safe side: delay, variance and loss up, bandwidth down. 0 is exact."""

    delay_ms: float = Field(0.01, ge=0, description="step of delays, milliseconds")
    bandwidth_mbps: float = Field(1.0, ge=0, description="step of bandwidths, Mbit/s")
    loss: float = Field(1e-6, ge=0, description="step of loss ratios")


class AgreementConfig(Strict):
    """What one peer may see and ask. Whatever no agreement grants is refused."""

    id: str = Field(description="name of the agreement; travels with every view made under it")
    peer: str = Field(
        description="SPIFFE identity, or all people or partners: spiffe://OPERATOR/user/*, .../partner/*"
    )
    level: Level = Field(Level.MESH, description="finest level of view: node, mesh or native")
    actions: tuple[Action, ...] = Field(("view", "describe"), description="what the peer may ask")
    kpis: tuple[str, ...] = Field(
        ("one_way_delay", "delay_variance", "loss_ratio", "bandwidth"),
        description="figures that are disclosed",
    )
    precision: PrecisionConfig = PrecisionConfig()
    asks_per_second: float = Field(100.0, gt=0, description="rate beyond which asks are refused")
    expires: datetime | None = Field(None, description="the agreement ends then; default: never")


class PublishConfig(Strict):
    """An element that peers may name, under an alias."""

    element: str = Field(description="id of a cell, network function or host of this domain")
    alias: str = Field(description="name that peers see", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")
