"""Compiles the packet loop into numba's cache: `python -m domain_twin.emulator.warm`, at installation."""

from domain_twin.emulator.commands import FlowPlan, SetCell, SetLink, SetNode
from domain_twin.emulator.engine import CellPlan, LinkPlan, NodePlan, PacketNetwork

__all__ = ["warm"]


def warm() -> None:
    """Call every jitted function once, so that no port is open while numba compiles (15 s when cold)."""
    network = PacketNetwork(
        nodes=[NodePlan(0), NodePlan(0, workers=1, service=1e-4)],
        links=[LinkPlan(0, 1, 1e6, 1e-3, 1e5, 1, 0)],
        cells=[CellPlan(0, 1e6, 0.0)],
        flows=[FlowPlan("warm", 1, "poisson", 100.0, cell=0)],
        seed=0,
    )
    network.advance(0.5)
    commands = (SetLink(0, metric=2), SetNode(1, workers=2), SetCell(0, rate=2e6), SetCell(0, up=False))
    for command in commands:
        network.apply(command)
    network.advance(1.5)


if __name__ == "__main__":
    warm()
