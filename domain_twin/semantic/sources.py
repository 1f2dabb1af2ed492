"""What the graph is told of a domain: its network, its figures. Owns what was said last.

`take` runs on the event loop and only notes what the next round is about; `write` does the work.
"""

from __future__ import annotations

from collections.abc import Callable

from domain_twin.model import Network
from domain_twin.semantic.live import Sink
from domain_twin.semantic.names import figures_graph, topology_graph
from domain_twin.semantic.topology import Topology

__all__ = ["FigureSource", "TopologySource"]


class TopologySource:
    """The network's elements and how they are joined."""

    name = "topology"
    interval_s = 0.0

    def __init__(self, network: Callable[[], Network], *, operator: str = "") -> None:
        self._network = network
        self._operator = operator
        self._taken: Network | None = None
        self._topology: Topology | None = None

    def take(self) -> None:
        """Note the network of now."""
        self._taken = self._network()

    def write(self, sink: Sink, *, whole: bool) -> None:
        """Write what changed, or the whole graph. Raises StoreUnwritable."""
        assert self._taken is not None
        if whole or self._topology is None:
            self._topology = Topology(self._taken.domain, operator=self._operator)
            _, quads = self._topology.update(self._taken)
            sink.replace(topology_graph(self._taken.domain), quads)
        else:
            sink.apply(*self._topology.update(self._taken))


class FigureSource:
    """The figures of the network's elements, the latest of each."""

    name = "figures"

    def __init__(self, network: Callable[[], Network], *, interval_s: float = 1.0) -> None:
        self.interval_s = interval_s
        self._network = network
        self._taken: Network | None = None
        self._topology: Topology | None = None

    def take(self) -> None:
        """Note the network of now."""
        self._taken = self._network()

    def write(self, sink: Sink, *, whole: bool) -> None:
        """Write what changed, or the whole graph. Raises StoreUnwritable."""
        assert self._taken is not None
        if whole or self._topology is None:
            self._topology = Topology(self._taken.domain)
            _, quads = self._topology.update_figures(self._taken)
            sink.replace(figures_graph(self._taken.domain), quads)
        else:
            sink.apply(*self._topology.update_figures(self._taken))
