"""A variant of a network as a network of its own: for what takes whole ones (files, outside simulators).

The engine never does this: it reads variants as deltas. Owns nothing of what a variant means (`graph`).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from domain_twin.simulation.checks import check_variant
from domain_twin.simulation.graph import Demand, SimGraph, Variant

__all__ = ["applied"]


def applied(graph: SimGraph, demand: Demand, variant: Variant) -> tuple[SimGraph, Demand]:
    """The network and demand under a variant. Raises NotFound, ConfigError for what it may not say."""
    check_variant(graph, variant)
    up = graph.up.copy()
    up[list(variant.restored)] = True
    up[list(variant.down)] = False
    gone = list(variant.nodes_down)
    up[np.isin(graph.tail, gone) | np.isin(graph.head, gone)] = False
    fields: dict[str, Any] = {"up": up}
    for name, values in variant.values.items():
        column = getattr(graph, name).copy()
        for edge, value in values.items():
            column[edge] = value
        fields[name] = column
    rate = demand.rate * variant.demand_scale
    for c, scale in variant.class_scale.items():
        rate[c] *= scale
    for c, s, d, value in variant.pairs:
        rate[c, d, s] = value
    return replace(graph, **fields), Demand(rate)
