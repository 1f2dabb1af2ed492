"""How the engine's kernels are compiled: by numba, or not at all where numba is missing or disabled.

Uncompiled kernels compute the same, hundreds of times slower; that is said once, in the log.
"""

from __future__ import annotations

import logging
import os
from typing import Any

__all__ = ["COMPILED", "kernel"]

log = logging.getLogger(__name__)

try:
    from numba import njit
except ImportError:  # no wheel for this platform or Python
    njit = None

COMPILED = njit is not None and os.environ.get("NUMBA_DISABLE_JIT", "0") in ("", "0")
"""Whether kernels are compiled."""

if not COMPILED:
    log.warning("numba is missing or disabled: what-if answers are computed hundreds of times slower")


def kernel(function: Any) -> Any:
    """Compile a function for C-contiguous arrays; it lets other threads run, and its code is kept on disk."""
    if njit is None:
        return function
    return njit(nogil=True, cache=True, error_model="numpy")(function)
