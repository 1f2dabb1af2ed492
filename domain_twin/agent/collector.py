"""How the agent's process collects garbage. Owns the thresholds, and the number that decided them.

A mirror makes many small tuples and hardly a cycle. With Python's thresholds (700 objects) a young collection
runs at every few notifications and the oldest generation is walked again and again: 40 % of the time that an
update takes (benchmarks/ingest.py). Reference counts free nearly all of it anyway.
"""

from __future__ import annotations

import gc

__all__ = ["release", "settle"]

YOUNG_OBJECTS = 20_000
"""New objects before a young collection: some 4 MB, and about 5 ms of work."""
YOUNG_BEFORE_MIDDLE = 4
"""Young collections before the middle generation is walked, which stops the event loop for up to 25 ms.

With 20, that is a million objects after a large resync and 0.3 s (benchmarks/snapshot.py).
"""
MIDDLE_BEFORE_OLD = 1_000
"""The same for everything: a mirror's cycles die young."""


def settle() -> None:
    """Leave what was loaded so far out of collections, and collect less often from now on."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG_OBJECTS, YOUNG_BEFORE_MIDDLE, MIDDLE_BEFORE_OLD)


def release() -> None:
    """Before the process ends: what lies in cycles is freed, or extension modules complain of leaks."""
    gc.unfreeze()
