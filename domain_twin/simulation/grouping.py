"""How many packets count as one arrival, and traffic of other domains told in a domain's own arrivals.

Queues and stations are calibrated for trains of packets that travel together; each domain finds its own
length of them. What crosses from one domain to another are octets and packets, so these are what is kept
when an arrival of one becomes an arrival of the other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from domain_twin.simulation.graph import TrafficClass

__all__ = ["as_here", "packets_together"]


def packets_together(classes: Iterable[TrafficClass]) -> float:
    """How many packets travel as one in measured traffic: a new service's do the same.

    A packet alone would count as a whole train of them.
    """
    return max((kind.packets for kind in classes if kind.measured), default=1.0)


def as_here(asked: TrafficClass, own: Sequence[TrafficClass]) -> tuple[TrafficClass, float]:
    """A class of elsewhere as a network of the classes `own` sees it; arrivals of it for each one asked.

    Measured traffic is the same traffic here, so the network's own description of it stands. Other packets
    keep their sizes and travel together as those that were measured here do.
    """
    measured = [kind for kind in own if kind.measured]
    if asked.measured and measured:
        here = next((kind for kind in measured if kind.arrivals is asked.arrivals), measured[0])
        return here, asked.mean_octets / here.mean_octets
    together = packets_together(own)
    if asked.measured or asked.packets == together:
        return asked, 1.0
    scale = together / asked.packets
    sizes = tuple(size * scale for size in asked.sizes)
    return replace(asked, sizes=sizes, packets=together), 1.0 / scale
