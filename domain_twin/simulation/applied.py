"""What a variant means for the arrays of a network: field by field, or as a network of its own.

The engine takes the fields alone; whole networks are for what needs them (files, outside simulators).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from domain_twin.simulation.checks import check_variant
from domain_twin.simulation.graph import Demand, FloatArray, SimGraph, Variant

__all__ = ["applied", "rate_under", "replaced", "up_under"]


def applied(graph: SimGraph, demand: Demand, variant: Variant) -> tuple[SimGraph, Demand]:
    """The network and demand under a variant. Raises NotFound, ConfigError for what it may not say."""
    check_variant(graph, variant)
    fields: dict[str, Any] = {"up": up_under(graph, variant)}
    for name, values in variant.values.items():
        fields[name] = replaced(getattr(graph, name), values)
    return replace(graph, **fields), Demand(rate_under(demand.rate, variant))


def replaced(array: npt.NDArray[Any], values: Mapping[int, float]) -> npt.NDArray[Any]:
    """A field of a graph after a variant's new values for single edges."""
    if not values:
        return array
    array = array.copy()
    array[list(values)] = list(values.values())
    return array


def up_under(graph: SimGraph, variant: Variant) -> npt.NDArray[np.bool_]:
    """Which edges are up under a variant, [E]; those of nodes that are down are not."""
    up = np.ascontiguousarray(graph.up, np.bool_)
    if not (variant.down or variant.restored or variant.nodes_down):
        return up
    up = up.copy()
    up[list(variant.restored)] = True
    up[list(variant.down)] = False
    if variant.nodes_down:
        gone = list(variant.nodes_down)
        up[np.isin(graph.tail, gone) | np.isin(graph.head, gone)] = False
    return up


def rate_under(base: FloatArray, variant: Variant) -> FloatArray:
    """Offered packets/s under a variant, [C, N, N]; `base` itself where nothing changes."""
    if variant.demand_scale == 1.0 and not variant.class_scale and not variant.pairs:
        return base
    rate = base * variant.demand_scale
    for c, scale in variant.class_scale.items():
        rate[c] *= scale
    for c, s, d, value in variant.pairs:
        rate[c, d, s] = value
    return rate
