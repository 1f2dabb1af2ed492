"""How the agent's process collects garbage. Owns the thresholds, and the number that decided them.

A mirror makes many small tuples and hardly a cycle. With Python's thresholds (700 objects) a young collection
runs at every few notifications and the oldest generation is walked again and again: 40 % of the time that an
update takes (benchmarks/ingest.py). Reference counts free nearly all of it anyway.
"""

from __future__ import annotations

import gc

__all__ = ["settle"]

YOUNG_OBJECTS = 50_000
"""New objects before a young collection: some 10 MB, and about 10 ms of work."""


def settle() -> None:
    """Leave what was loaded so far out of collections, and collect less often from now on."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, 20, 20)
