"""The truth about watched flows, from the ring of their finished packets. Owns figures, not packets."""

from dataclasses import dataclass

import numpy as np

from domain_twin.emulator.engine import PacketNetwork
from domain_twin.emulator.network import DOMAINS
from domain_twin.emulator.state import Records
from domain_twin.errors import NotFound

__all__ = ["PARTS", "Truth", "finished_packets", "truth_of"]

PARTS = (*DOMAINS, "inter-domain")


@dataclass(frozen=True, slots=True)
class Truth:
    """What became of the packets of one flow that were born in a span of simulated time.

    Delays in milliseconds, None where no packet was delivered; `parts_ms` is the mean delay by domain;
    `first_born`, `first_delivered` (s) are of the packet that was delivered first.
    """

    flow: str
    since: float
    until: float
    count: int
    lost: int
    mean_ms: float | None
    std_error_ms: float | None
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    parts_ms: dict[str, float]
    first_born: float | None
    first_delivered: float | None
    complete: bool  # false where the ring no longer holds the whole span


def finished_packets(network: PacketNetwork, flow: str) -> Records:
    """Finished packets (birth, end, lost, parts) of a watched flow, oldest first. Raises NotFound."""
    row = network.watches.get(flow)
    if row is None:
        raise NotFound(f"flow '{flow}' is not watched; watched are {', '.join(sorted(network.watches))}")
    ring: Records = network.state.finished[row]
    written = int(network.state.flows[network.flows[flow]]["written"])
    if written <= len(ring):
        kept: Records = ring[:written].copy()
        return kept
    return np.roll(ring, -(written % len(ring)))


def truth_of(network: PacketNetwork, flow: str, *, since: float, until: float) -> Truth:
    """The truth about packets of `flow` born in [since, until), simulated seconds. Raises NotFound.

    Packets still under way are in nobody's count: end the span a few tens of milliseconds before now.
    """
    packets = finished_packets(network, flow)
    row = len(network.state.finished[network.watches[flow]])
    complete = len(packets) < row or float(packets["birth"].min()) < since
    chosen = packets[(packets["birth"] >= since) & (packets["birth"] < until)]
    arrived = chosen[chosen["lost"] == 0]
    lost = len(chosen) - len(arrived)
    if not len(arrived):
        return Truth(flow, since, until, 0, lost, None, None, None, None, None, {}, None, None, complete)
    delay = (arrived["end"] - arrived["birth"]) * 1e3
    first = arrived[int(np.argmin(arrived["end"]))]
    p50, p95, p99 = (float(q) for q in np.percentile(delay, (50, 95, 99)))
    return Truth(
        flow, since, until, len(arrived), lost, float(delay.mean()),
        float(delay.std(ddof=1) / np.sqrt(len(delay))) if len(delay) > 1 else None, p50, p95, p99,
        dict(zip(PARTS, (float(x) for x in arrived["parts"].mean(0) * 1e3), strict=True)),
        float(first["birth"]), float(first["end"]), complete,
    )  # fmt: skip
