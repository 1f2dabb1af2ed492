"""Which modules a device implements, and how: revisions, features, deviations (RFC 8525). Data only."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["EVERYTHING", "ModuleSet"]


@dataclass(frozen=True, slots=True)
class ModuleSet:
    """How a schema is made: devices with equal sets share one schema.

    A module that `features` does not name has all its features; one that `revisions` does not name, its
    newest revision. Only the modules in `deviating` have their deviations applied.
    """

    revisions: Mapping[str, str] = field(default_factory=dict)
    features: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    deviating: frozenset[str] = frozenset()

    @property
    def key(self) -> str:
        """What equal sets have in common, and no others."""
        return json.dumps(
            [
                sorted(self.revisions.items()),
                sorted((name, sorted(features)) for name, features in self.features.items()),
                sorted(self.deviating),
            ]
        )


EVERYTHING = ModuleSet()
"""All features, newest revisions, no deviations: what is read where a device says nothing of itself."""
