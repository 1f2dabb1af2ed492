"""What the graph is told of a domain: its network, its figures, its records. Owns what was said last.

`take` runs on the event loop and only notes what the next round is about; `write` does the work.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from domain_twin.model import Network, ServiceRecords
from domain_twin.semantic.live import Sink
from domain_twin.semantic.names import (
    domain_node,
    element,
    figures_graph,
    point,
    records_graph,
    topology_graph,
)
from domain_twin.semantic.records import record_quads
from domain_twin.semantic.topology import WORDS, Topology

__all__ = ["FigureSource", "RecordSource", "TopologySource"]


class TopologySource:
    """The network's elements and how they are joined."""

    name = "topology"
    interval_s = 0.0

    def __init__(self, network: Callable[[], Network], *, operator: str = "") -> None:
        self._network = network
        self._operator = operator
        self._taken: Network | None = None
        self._topology: Topology | None = None

    def take(self, *, whole: bool) -> None:
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
        _tell(sink, topology_graph(self._taken.domain), self._taken)


class FigureSource:
    """The figures of the network's elements, the latest of each."""

    name = "figures"

    def __init__(self, network: Callable[[], Network], *, interval_s: float = 1.0) -> None:
        self.interval_s = interval_s
        self._network = network
        self._taken: Network | None = None
        self._topology: Topology | None = None

    def take(self, *, whole: bool) -> None:
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
        _tell(sink, figures_graph(self._taken.domain), self._taken)


class RecordSource:
    """Services, slices and customers. What slices are made of is looked up in the network."""

    name = "records"
    interval_s = 1.0

    def __init__(self, records: ServiceRecords, network: Callable[[], Network], published: Mapping[str, str]):
        """`published` maps aliases to element ids."""
        self._records = records
        self._network = network
        self._published = published
        self._taken: Network | None = None

    def take(self, *, whole: bool) -> None:
        """Note the network of now."""
        self._taken = self._network()

    def write(self, sink: Sink, *, whole: bool) -> None:
        """Write the graph; only what differs is a change. Raises StoreUnwritable."""
        sink.replace(records_graph(), list(record_quads(self._records, resolve=self._resolve)))

    def _resolve(self, name: str) -> str | None:
        network = self._taken
        if network is None:
            return None
        if name in self._published:
            return point(f"{network.domain}/{name}")
        for collection, word in WORDS.items():
            if name in getattr(network, collection):
                return element(network.domain, word, name)
        return point(name) if "/" in name else None


def _tell(sink: Sink, graph: str, network: Network) -> None:
    version = f"{network.version.epoch}/{network.version.sequence}"
    sink.made_of(graph, domain_node(network.domain), version)
