"""ns-3 as the most faithful rung: our own small runner, compiled once against the `ns3` wheel.

`build` finds ns-3 and compiles, `scenario` writes what the runner reads, `driver` runs it, `result` reads the table.
"""

from domain_twin.simulation.ns3.build import Ns3, find_ns3, runner
from domain_twin.simulation.ns3.driver import simulate
from domain_twin.simulation.ns3.result import QUANTILES, PacketRun
from domain_twin.simulation.ns3.scenario import Flows, Window, flows_of

__all__ = ["QUANTILES", "Flows", "Ns3", "PacketRun", "Window", "find_ns3", "flows_of", "runner", "simulate"]
