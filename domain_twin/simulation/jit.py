"""How the engine's kernels are compiled: by numba, or not at all where numba is missing or disabled.

Uncompiled kernels compute the same, hundreds of times slower; that is said once, in the log. Compiled code is
kept on disk between processes, and made anew when the source of any kernel changes, not only its own.
"""

from __future__ import annotations

import hashlib
import logging
import os
from functools import lru_cache
from pathlib import Path
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
    if not COMPILED:
        return function
    compiled = njit(nogil=True, cache=True, error_model="numpy")(function)
    # numba looks at the file of the function alone: a kernel that calls one of another file would go on with
    # the other's old code. The stamp is numba's own means of telling; only what it covers is widened.
    compiled._cache._cache_file._source_stamp = _stamp()
    return compiled


@lru_cache(maxsize=1)
def _stamp() -> str:
    """Digest of every file of this package that has kernels."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.rglob("*.py")):
        content = path.read_bytes()
        if b"@kernel" in content or b"@njit" in content:
            digest.update(content)
    return digest.hexdigest()
