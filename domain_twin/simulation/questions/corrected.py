"""The learned correction on a solution: the rung residual. Owns who gets it, and says where it is silent.

The correction knows queues of links in order of arrival, within what it was fitted on (`learned.residual`).
Elsewhere tables stand, and a finding names where.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from domain_twin.model.network import Finding, Severity
from domain_twin.simulation.applied import applied
from domain_twin.simulation.flows import Flows, solve_flows
from domain_twin.simulation.graph import Demand, Law, Rung
from domain_twin.simulation.laws.edges import compile_laws
from domain_twin.simulation.learned.residual import Residual, correct
from domain_twin.simulation.solve import Solution

__all__ = ["ASSUMED", "corrected", "outside"]

ASSUMED = (
    "delays and variances are corrected by what was learned of other networks; the shares of elements on a"
    " path are those of the tables, and figures have no intervals: none were calibrated at this rung"
)
_SHOWN = 5


def corrected(solution: Solution, residual: Residual) -> tuple[Solution, tuple[str, ...]]:
    """The solution with corrected delays and variances, and the links with traffic that it is silent on."""
    offered = solution.edges.offered
    flows = [
        (c, d, s)
        for c, d, s in np.argwhere(offered > 0.0).tolist()
        if s != d and np.isfinite(solution.delay_s[c, d, s])
    ]
    if not flows:
        return replace(solution, rung=Rung.RESIDUAL), ()
    graph, _ = applied(solution.graph, Demand(solution.state.rate), replace(solution.variant, pairs=()))
    told = Flows.of(
        [(s, d) for _, d, s in flows],
        [list(solution.path(s, d)) for _, d, s in flows],
        [float(offered[flow]) for flow in flows],
        [c for c, _, _ in flows],
    )
    found = solve_flows(graph, told, compile_laws(graph))
    fixed = correct(residual, graph, told, found)
    at = tuple(np.array(flows).T)
    delay, variance = solution.delay_s.copy(), solution.variance_s2.copy()
    delay[at] += np.nan_to_num(fixed.delay_s - found.delay_s)
    variance[at] = np.maximum(variance[at] + np.nan_to_num(fixed.variance_s2 - found.variance_s2), 0.0)
    silent = tuple(graph.edges[e] for e in np.flatnonzero(fixed.silent & (graph.law == Law.LINK)).tolist())
    return replace(solution, rung=Rung.RESIDUAL, delay_s=delay, variance_s2=variance), silent


def outside(silent: Sequence[str], residual: Residual, domain: str) -> tuple[Finding, ...]:
    """What a person should know of links unlike those of the fit; none: nothing."""
    if not silent:
        return ()
    hull = residual.hull
    more = len(silent) - _SHOWN
    named = ", ".join(silent[:_SHOWN]) + (f" and {more} more" if more > 0 else "")
    return (
        Finding(
            "what-if.outside-training",
            Severity.WARNING,
            domain,
            silent[0],
            f"{len(silent)} links are unlike those that the correction was fitted on (busy up to"
            f" {hull.utilisation:.0%}, room for {hull.rooms[0]:g} to {hull.rooms[1]:g} packets, sizes with a"
            f" squared coefficient of variation of {hull.size_scvs[0]:.2g} to {hull.size_scvs[1]:.2g}):"
            f" tables stand there: {named}",
            "fit the correction on networks like this one (fedtwin residual)",
        ),
    )
