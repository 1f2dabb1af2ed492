"""What a flow's mean delay may be off by beside the errors of its elements, and how parts of a way add up.

Owns two figures: a flow does not meet the mean of the packets that cross an element (`FLOW_ERROR`), and a
mean over a limited time has noise of its own. Fits nothing.
"""

from __future__ import annotations

import numpy as np

from domain_twin.simulation.graph import FloatArray

__all__ = ["FLOW_ERROR", "LEAST_PPS", "OVER_S", "Z90", "across", "noise_s"]

FLOW_ERROR = 0.01
"""Relative standard error of a flow's delay as the sum of its elements' means; from benchmarks.fidelity on
seeds 3 and 4, which its figures are not taken on."""
OVER_S = 30.0
"""A predicted mean across domains is one over so long a time; inside a domain calibration says how long."""
LEAST_PPS = 7.0
"""Arrivals/s from where on that time is enough; of flows with fewer it is a mean over as many arrivals."""
Z90 = 1.645


def noise_s(variance_s2: FloatArray | float, arrivals_per_s: FloatArray | float) -> FloatArray:
    """Standard error of a mean delay over the packets of one second, seconds."""
    return np.sqrt(np.maximum(variance_s2, 0.0) / np.maximum(arrivals_per_s, LEAST_PPS))


def across(
    squares_s2: FloatArray,
    delay_s: FloatArray,
    delay_squares_s2: FloatArray,
    *,
    variance_s2: FloatArray,
    arrivals_per_s: FloatArray,
) -> FloatArray:
    """Half of the 90 % interval of a whole way, seconds; NaN where a part has none.

    `squares_s2` are sums of squares of the parts' half widths, `delay_squares_s2` of their delays. Each part
    has counted FLOW_ERROR of itself; it is the same flow in all of them, so it is counted of the whole. A
    variance that a domain withholds (NaN) leaves the noise out.
    """
    whole = (Z90 * FLOW_ERROR) ** 2 * np.maximum(delay_s**2 - delay_squares_s2, 0.0)
    noise = Z90 * noise_s(np.nan_to_num(variance_s2), arrivals_per_s) / np.sqrt(OVER_S)
    return np.asarray(np.sqrt(squares_s2 + whole + noise**2))
