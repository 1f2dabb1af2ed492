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

__all__ = ["COMPILED", "inlined", "kernel", "step"]

log = logging.getLogger(__name__)

try:
    from numba import njit
except ImportError:  # no wheel for this platform or Python
    njit = None

_MARKS = (b"@kernel", b"@step", b"@inlined", b"@njit")

COMPILED = njit is not None and os.environ.get("NUMBA_DISABLE_JIT", "0") in ("", "0")
"""Whether kernels are compiled."""

if not COMPILED:
    log.warning("numba is missing or disabled: what-if answers are computed hundreds of times slower")


def kernel(function: Any) -> Any:
    """Compile a function for C-contiguous arrays; it lets other threads run, and its code is kept on disk."""
    return _compiled(function, _nrt=True)  # else it would be as its caller is


def step(function: Any) -> Any:
    """Compile what kernels call in their loops: it allocates nothing, keeps nothing, returns no array.

    Nobody counts references in it, which is most of what calls of small functions cost: an atomic step up and
    down for every array at hand.
    """
    return _compiled(function, _nrt=False)


def inlined(function: Any) -> Any:
    """The same for a step so small that every caller has a copy of it."""
    return _compiled(function, _nrt=False, forceinline=True)


def _compiled(function: Any, **options: bool) -> Any:
    if not COMPILED:
        return function
    compiled = njit(nogil=True, cache=True, error_model="numpy", **options)(function)
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
        if any(mark in content for mark in _MARKS):
            digest.update(content)
    return digest.hexdigest()
