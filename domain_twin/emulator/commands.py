"""What can be done to the running packet network: one record per change, so that a run can be replayed.

Links, nodes, cells and flows are given by their index. Fields left None stay as they are. Figures are those
of the simulation, after scaling: octets, octets per second, seconds.
"""

from dataclasses import dataclass, field

__all__ = ["AddFlow", "Command", "FlowPlan", "SetCell", "SetLink", "SetNode", "StopFlow"]


@dataclass(frozen=True, slots=True)
class FlowPlan:
    """One traffic source: where it enters (one of `node`, `cell`, `link`), where it ends, and its law."""

    name: str
    target: int
    kind: str  # poisson, cbr, on-off, elastic, probe
    rate: float  # packets/s while on; ignored by elastic flows
    size: float = 1000.0
    exponential: bool = False  # packet size
    node: int = -1
    cell: int = -1
    link: int = -1
    on: float = 1.0
    off: float = 1.0
    window: float = 8.0  # elastic: packets in flight at most
    acknowledge: float = 0.005  # elastic: time of the way back
    daily: bool = False
    watched: bool = False


@dataclass(frozen=True, slots=True)
class SetLink:
    """Change one directed link; going down loses what is on it."""

    link: int
    up: bool | None = None
    metric: int | None = None
    rate: float | None = None
    propagation: float | None = None
    loss: float | None = None


@dataclass(frozen=True, slots=True)
class SetNode:
    """Change a node's packet processing; `transit` says whether routes may cross the node."""

    node: int
    serving: bool | None = None
    transit: bool | None = None
    workers: int | None = None
    service: float | None = None


@dataclass(frozen=True, slots=True)
class SetCell:
    """Change a cell; going down loses what it holds."""

    cell: int
    up: bool | None = None
    rate: float | None = None


@dataclass(frozen=True, slots=True)
class AddFlow:
    """Start one more flow."""

    flow: FlowPlan = field()


@dataclass(frozen=True, slots=True)
class StopFlow:
    """Stop a flow by name."""

    name: str


Command = SetLink | SetNode | SetCell | AddFlow | StopFlow
