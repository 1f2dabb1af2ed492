"""ns-3 as the most faithful rung: our own small runner, compiled once against the `ns3` wheel.

`build` finds ns-3 and compiles, `scenario` writes what the runner reads, `driver` runs it, `result` reads
what it measured.
"""

from domain_twin.simulation.outside.ns3.build import Ns3, find_ns3, runner
from domain_twin.simulation.outside.ns3.driver import simulate
from domain_twin.simulation.outside.ns3.result import QUANTILES, PacketRun
from domain_twin.simulation.outside.ns3.scenario import Window

__all__ = ["QUANTILES", "Ns3", "PacketRun", "Window", "find_ns3", "runner", "simulate"]
