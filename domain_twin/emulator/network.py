"""The emulated network's settings: `network.toml`, its keys and defaults. Owns the messages for wrong ones.

Scale. Capacities are nominal everywhere a person or a device reports them (a 10 Gbit/s link, a 570 Mbit/s
cell). The packets are simulated at nominal * `scale`, and one simulated packet stands for a train of
1/`scale` packets that stay together: octet, packet and discard counters and queue occupancies are reported
times 1/`scale` (exact integers, so 1/`scale` must be one), utilisations and delays as simulated. A queue of
trains of 100 packets of 1,000 octets at 2.5 Gbit/s waits as long as a queue of single packets at 25 Mbit/s:
queueing delays stay in the range of tens to hundreds of microseconds at a packet rate that a laptop can
simulate.

The default network carries a 10 ms service from cell 1 of gnb-1 to host-1; its watched flow is called
`gnb-1.cell-1:host-1`. Its transport path is szczecin, poznan, wroclaw; when the link between poznan and
wroclaw is cut the traffic goes szczecin, poznan, bydgoszcz, warsaw, lodz, wroclaw.
"""

import difflib
import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from domain_twin.errors import ConfigError
from domain_twin.operations.settings import MetricsConfig

__all__ = ["DOMAINS", "Domain", "NetworkSpec", "ServerSpec", "TrafficSpec", "load_network"]

Domain = Literal["ran", "transport", "core", "edge"]
DOMAINS: tuple[Domain, ...] = ("ran", "transport", "core", "edge")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ServerSpec(_Strict):
    """Where the devices' servers listen, and who may log in."""

    host: str = Field("127.0.0.1", description="address that every server listens on")
    port_base_netconf: int = Field(
        0,
        ge=0,
        le=65000,
        description="NETCONF port of the first device, then counting up; 0: any free",
    )
    port_base_gnmi: int = Field(
        0,
        ge=0,
        le=65000,
        description="gNMI port of the first device, then counting up; 0: any free",
    )
    username: str = Field("twin", min_length=1, description="NETCONF account of every device")
    password: str = Field("", description="its password by reference, env:NAME or file:PATH; empty: made up")

    @field_validator("password")
    @classmethod
    def _by_reference(cls, value: str) -> str:
        if value and not value.startswith(("env:", "file:")):
            raise ValueError("a secret is given by reference: env:NAME or file:PATH")
        return value


class TrafficSpec(_Strict):
    """How much traffic there is, in nominal figures."""

    cell_mbps: float = Field(200.0, ge=0, description="mean uplink traffic of a cell, Mbit/s")
    downlink_mbps: float = Field(24.0, ge=0, description="mean traffic from each host to each gNB, Mbit/s")
    background_mbps: float = Field(2800.0, ge=0, description="all traffic between the routers, Mbit/s")
    packet_octets: int = Field(1000, ge=64, le=9000, description="mean packet size")
    probe_pps: float = Field(20.0, gt=0, description="probe packets per second on every link (not scaled)")
    start_hour: float = Field(10.0, ge=0, lt=24, description="time of day at which the emulation starts")
    hourly: tuple[float, ...] = Field(
        (0.95,) * 6 + (1.0,) * 14 + (1.02,) * 3 + (0.98,),
        min_length=24, max_length=24, description="demand factor of each hour of the day, linear in between",
    )  # fmt: skip

    @field_validator("hourly")
    @classmethod
    def _positive(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if min(value) < 0:
            raise ValueError("a demand factor is 0 or more")
        return value


class NetworkSpec(_Strict):
    """The emulated network: `fedtwin emulate network.toml`."""

    state: Path = Field(Path("emulator"), description="folder of keys, inventories and the control socket")
    seed: int = Field(1, ge=0, description="same seed and same commands: same packets")
    scale: float = Field(
        0.01, gt=0, le=1, description="simulated share of nominal rates, one over an integer"
    )
    convergence_ms: float = Field(200.0, ge=0, le=60000, description="time until routes follow a change")
    interval_ms: float = Field(1000.0, ge=100, le=60000, description="measuring interval of the devices")
    gnbs: int = Field(6, ge=1, le=64, description="gNBs, in a ring")
    cells_per_gnb: int = Field(3, ge=1, le=12, description="cells of each gNB")
    hosts: int = Field(4, ge=1, le=64, description="edge hosts, in a ring")
    topology: str = Field(
        "sndlib/polska", pattern=r"^\w[\w-]*(/\w[\w.-]*)+$", description="routers: a name of topohub"
    )
    attachments: dict[str, str] = Field(
        default_factory=dict, description="router that a gNB or UPF is attached to, by device name"
    )
    domains: tuple[Domain, ...] = Field(DOMAINS, min_length=1, description="domains whose devices are served")
    servers: ServerSpec = ServerSpec()
    traffic: TrafficSpec = TrafficSpec()
    metrics: MetricsConfig = MetricsConfig()

    @model_validator(mode="after")
    def _whole_trains(self) -> "NetworkSpec":
        if abs(round(1 / self.scale) * self.scale - 1) > 1e-9:
            raise ValueError(
                f"scale: {self.scale} is not one over an integer; nearest is {1 / round(1 / self.scale)!r}"
            )
        return self

    @property
    def train(self) -> int:
        """Packets that one simulated packet stands for."""
        return round(1 / self.scale)


def load_network(file: Path) -> NetworkSpec:
    """Read a network file; paths in it are relative to it. Raises ConfigError naming each wrong key."""
    try:
        raw = tomllib.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{file}: no such file; name the network file to emulate") from None
    except IsADirectoryError:
        raise ConfigError(f"{file} is a folder; name the network file in it") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{file}: not TOML: {error}") from None
    try:
        spec = NetworkSpec.model_validate(raw)
    except ValidationError as error:
        raise ConfigError("; ".join(_explain(file, problem) for problem in error.errors())) from None
    servers = spec.servers
    if servers.password.startswith("file:"):
        place = (file.parent / servers.password.removeprefix("file:")).resolve()
        servers = servers.model_copy(update={"password": f"file:{place}"})
    return spec.model_copy(update={"state": (file.parent / spec.state).resolve(), "servers": servers})


def _explain(file: Path, problem: Any) -> str:
    """One sentence for one problem: file, key, what is wrong, what is accepted."""
    place = ".".join(str(part) for part in problem["loc"])
    if problem["type"] != "extra_forbidden":
        message = str(problem["msg"]).removeprefix("Value error, ")
        given = "" if place in ("", "servers.password") else f" (given: {problem['input']!r})"
        return f"{file}: {place}: {message}{given}" if place else f"{file}: {message}"
    sections: dict[str, type[BaseModel]] = {
        "servers": ServerSpec,
        "traffic": TrafficSpec,
        "metrics": MetricsConfig,
    }
    accepted = sorted(sections.get(str(problem["loc"][0]), NetworkSpec).model_fields)
    near = difflib.get_close_matches(str(problem["loc"][-1]), accepted, 1)
    hint = f" Did you mean {near[0]}?" if near else ""
    return f"{file}: unknown key {place}.{hint} Accepted: {', '.join(accepted)}"
