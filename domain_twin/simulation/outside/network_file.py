"""The network file: what a network with its traffic looks like as JSON. Owns the words and their meaning.

`docs/network.schema.json` is the schema, made from here by `./dev docs`. Numbers have their unit in their
name. What needs more than one entry to be judged (ids, ends, paths) is judged by `files`, which reads it.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

__all__ = [
    "CellEntry", "ClassEntry", "DemandEntry", "LinkEntry", "NetworkFile", "NodeEntry", "StationEntry",
]  # fmt: skip

_Id = Annotated[str, Field(min_length=1, max_length=512)]
_Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
_NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
_Share = Annotated[float, Field(ge=0, le=1)]
_Words = Literal["fifo", "strict-priority", "wfq", "drr"]
_Buffer = Annotated[
    float | None, Field(ge=0, description="packets that may wait beside those in service; left out: no bound")
]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NodeEntry(_Strict):
    """A place that forwards packets, or only sends and receives them."""

    id: _Id
    transit: bool = Field(True, description="whether paths may cross it")


class LinkEntry(_Strict):
    """A link, both ways alike unless it is directed."""

    id: _Id
    source: _Id = Field(description="id of a node")
    target: _Id = Field(description="id of another node")
    capacity_mbps: _Positive = Field(description="of each way")
    delay_ms: _NotNegative = Field(0.0, description="propagation")
    metric: _Positive = Field(1.0, description="of the routing protocol")
    buffer_packets: _Buffer = None
    scheduler: _Words = "fifo"
    loss: _Share = Field(0.0, description="probability that a packet is lost whatever the queue")
    up: bool = True
    directed: bool = Field(False, description="it leads from source to target only")


class CellEntry(_Strict):
    """A radio cell: its rate is shared by all packets present. Traffic begins and ends at its id."""

    id: _Id
    node: _Id = Field(description="id of the node that it hangs on")
    capacity_mbps: _Positive = Field(description="of the air interface, of each way")
    delay_ms: _NotNegative = 0.0
    buffer_packets: _Buffer = None
    up: bool = True


class StationEntry(_Strict):
    """A network function or host behind a node: packets to its id wait for one of its servers."""

    id: _Id
    node: _Id = Field(description="id of the node that it runs on")
    servers: Annotated[int, Field(ge=1, le=100_000)] = 1
    service_ms: _Positive = Field(description="mean service time of a packet on one server")
    service_scv: _NotNegative = Field(1.0, description="squared coefficient of variation of it")
    delay_ms: _NotNegative = 0.0
    buffer_packets: _Buffer = None
    up: bool = True


class ClassEntry(_Strict):
    """Packets that look alike."""

    name: _Id
    octets: _Positive | Annotated[tuple[_Positive, ...], Field(min_length=1)] = Field(
        1000.0, description="packet size, or several with their probabilities"
    )
    probabilities: tuple[_Share, ...] = Field((), description="of each size; left out: equally likely")
    exponential: bool = Field(False, description="sizes are exponential with this mean")
    arrivals: Literal["poisson", "on-off", "cbr-on-off", "cbr", "elastic"] = "poisson"
    on_s: _NotNegative = Field(0.0, description="mean on period of a bursty class")
    off_s: _NotNegative = Field(0.0, description="mean off period of a bursty class")
    priority: Annotated[int, Field(ge=0, le=7)] = Field(0, description="lower is served first")
    weight: _Positive = Field(1.0, description="share under wfq and drr")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        sizes = self.octets if isinstance(self.octets, tuple) else (self.octets,)
        if self.probabilities and len(self.probabilities) != len(sizes):
            raise ValueError(f"{len(sizes)} sizes with {len(self.probabilities)} probabilities")
        if self.probabilities and not math.isclose(sum(self.probabilities), 1.0, abs_tol=1e-6):
            raise ValueError(f"the probabilities add up to {sum(self.probabilities):g}, not 1")
        if self.arrivals in ("on-off", "cbr-on-off") and not (self.on_s > 0 and self.off_s > 0):
            raise ValueError(f"arrivals {self.arrivals} need on_s and off_s above 0")
        return self


class DemandEntry(_Strict):
    """What one place sends to another; exactly one of `mbps` and `packets_per_s`."""

    source: _Id
    target: _Id
    traffic_class: str = Field("", description="name of a class; left out where there is one only")
    mbps: _NotNegative | None = None
    packets_per_s: _NotNegative | None = None

    @model_validator(mode="after")
    def _one_rate(self) -> Self:
        if (self.mbps is None) == (self.packets_per_s is None):
            raise ValueError("exactly one of mbps and packets_per_s is needed")
        return self


class NetworkFile(_Strict):
    """A network with its traffic."""

    format: Literal["fedtwin-network"]
    version: Literal[1]
    name: str = ""
    nodes: Annotated[tuple[NodeEntry, ...], Field(min_length=1)]
    links: tuple[LinkEntry, ...] = ()
    cells: tuple[CellEntry, ...] = ()
    stations: tuple[StationEntry, ...] = ()
    classes: tuple[ClassEntry, ...] = Field((), description="left out: one of 1000 octets, Poisson")
    demands: tuple[DemandEntry, ...] = ()
    risk_groups: dict[str, tuple[_Id, ...]] = Field(
        default_factory=dict, description="ids of links that fail together"
    )
