"""What a packet-level run measured, each figure with its standard error. Owns the runner's table."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from domain_twin.errors import ContractError
from domain_twin.simulation.graph import FloatArray, IntArray

__all__ = ["QUANTILES", "PacketRun", "parse"]

QUANTILES = (0.5, 0.9, 0.95, 0.99)

_FLOW = 2 + 2 * 4 + 2 + 2 * len(QUANTILES)  # counts, estimates with errors, extremes, quantiles with errors
_EDGE = 6


@dataclass(frozen=True, slots=True, eq=False)
class PacketRun:
    """F flows and E edges, as they were seen between warm-up and end. NaN: no packet to say it by.

    Jitter is the mean of |d_i - d_(i-1)| over packets of a flow that arrive one after the other (what ns-3's
    FlowMonitor calls jitter); it is not the variance of the delay, which has a field of its own. Standard
    errors are by batch means (Law, Simulation Modeling and Analysis, 9.5.3).
    """

    traffic_class: IntArray  # [F]
    source: IntArray  # [F]
    target: IntArray  # [F]
    sent: FloatArray  # [F] packets
    received: FloatArray  # [F]
    delay_s: FloatArray  # [F] mean one-way delay
    delay_error_s: FloatArray
    variance_s2: FloatArray  # [F]
    variance_error_s2: FloatArray
    loss: FloatArray  # [F] share
    loss_error: FloatArray
    jitter_s: FloatArray  # [F] mean |d_i - d_(i-1)|
    jitter_error_s: FloatArray
    least_s: FloatArray  # [F]
    most_s: FloatArray  # [F]
    percentile_s: FloatArray  # [F, len(QUANTILES)]
    percentile_error_s: FloatArray
    edge_offered: FloatArray  # [E] packets
    edge_dropped: FloatArray  # [E] for want of a place in the queue
    edge_lost: FloatArray  # [E] by the edge's own loss
    edge_utilisation: FloatArray  # [E]
    edge_delay_s: FloatArray  # [E] mean time from entering to leaving
    edge_variance_s2: FloatArray  # [E]
    simulated_s: float
    events: int
    packet_hops: int
    late: int  # packets still under way at the end; they count as lost
    seed: int = 0
    run: int = 0
    wall_s: float = 0.0
    assumptions: tuple[str, ...] = ()

    def matrix(self, values: FloatArray, *, classes: int, nodes: int) -> FloatArray:
        """`values` [F] as [class, destination, source]; NaN where there is no flow."""
        whole = np.full((classes, nodes, nodes), np.nan)
        whole[self.traffic_class, self.target, self.source] = values
        return whole


def parse(text: str, *, traffic_class: IntArray, source: IntArray, target: IntArray, edges: int) -> PacketRun:
    """The runner's table. Raises ContractError where it is cut short or is not one."""
    lines = text.splitlines()
    flows = len(source)
    if len(lines) != 3 + flows + edges or lines[0] != "fedtwin-ns3-table 1" or lines[-1] != "end":
        raise ContractError(
            f"the ns-3 runner wrote {len(lines)} lines for {flows} flows and {edges} edges, not its table; "
            "remove it from the cache (fedtwin/ns3-runner-*) and run again"
        )
    head = lines[1].split()
    flow = _rows(lines[2 : 2 + flows], "flow", _FLOW)
    edge = _rows(lines[2 + flows : -1], "edge", _EDGE)
    names = (
        "sent", "received", "delay_s", "delay_error_s", "variance_s2", "variance_error_s2", "loss",
        "loss_error", "jitter_s", "jitter_error_s", "least_s", "most_s",
    )  # fmt: skip
    edge_names = ("offered", "dropped", "lost", "utilisation", "delay_s", "variance_s2")
    columns = {name: flow[:, i] for i, name in enumerate(names)}
    columns |= {f"edge_{name}": edge[:, i] for i, name in enumerate(edge_names)}
    return PacketRun(
        traffic_class=traffic_class,
        source=source,
        target=target,
        percentile_s=flow[:, len(names) :: 2],
        percentile_error_s=flow[:, len(names) + 1 :: 2],
        simulated_s=float(head[1]),
        events=int(head[2]),
        packet_hops=int(head[3]),
        late=int(head[4]),
        **columns,  # type: ignore[arg-type]  # mypy takes them for any of the fields
    )


def _rows(lines: list[str], word: str, width: int) -> FloatArray:
    rows = np.empty((len(lines), width))
    for i, line in enumerate(lines):
        first, index, *values = line.split()
        if first != word or int(index) != i or len(values) != width:
            raise ContractError(f"the ns-3 runner wrote {line[:80]!r} where its row {i} of {word}s belongs")
        rows[i] = [float(value) for value in values]
    return rows
