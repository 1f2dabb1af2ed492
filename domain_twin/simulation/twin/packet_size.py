"""Mean packet size, from what interfaces have counted: octets over packets. Fits nothing."""

from __future__ import annotations

import math
from collections.abc import Iterator

from domain_twin.model import Network

__all__ = ["ASSUMED_OCTETS", "packet_octets", "told"]

ASSUMED_OCTETS = 1000.0
"""Where no interface counts packets."""


def packet_octets(network: Network, before: Network | None = None) -> float:
    """Mean size of the packets that interfaces sent since `before`, or ever; NaN where they do not count.

    An interface that counted less than before was reset on the way: all that it counts now is since then.
    """
    known = {name: (sent, count) for name, sent, count in _sent(before)} if before else {}
    octets = packets = 0
    for point, sent, count in _sent(network):
        then = known.get(point, (0, 0))
        fresh = sent < then[0] or count < then[1]
        octets += sent if fresh else sent - then[0]
        packets += count if fresh else count - then[1]
    return octets / packets if packets else math.nan


def _sent(network: Network) -> Iterator[tuple[str, int, int]]:
    """Octets and packets sent, by termination point that counts both."""
    for name, point in network.termination_points.items():
        counted = point.counters
        if counted is not None and counted.out_octets is not None and counted.out_pkts is not None:
            yield name, counted.out_octets, counted.out_pkts


def told(octets: float, counted: bool) -> str:
    """A sentence about it, for reports."""
    if counted:
        return f"a packet has {octets:,.0f} octets on the mean, as interfaces have counted them"
    return f"no interface counts packets; a mean packet of {octets:,.0f} octets is assumed"
