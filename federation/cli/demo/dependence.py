"""What is said to depend on the link before it is cut, and what then changed. Owns questions and sets.

The owner's agent follows the chain inside its domain, the broker goes on from the points and segments at
which it comes out. What changed is not asked of either graph: it is read off the services' own paths.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from domain_twin.errors import TwinError
from federation.cli.impact_tree import outcome

if TYPE_CHECKING:
    from pathlib import Path

    from domain_twin.model import Element, ServiceStatus
    from domain_twin.model.query import Impact

__all__ = ["Compared", "Said", "both_ways", "changed", "compare", "dependents"]

PATIENCE_S = 10.0


@dataclass(frozen=True, slots=True)
class Said:
    """What was said to depend on a link; `problem`: why nothing was."""

    link: str
    impact: Impact | None
    took_ms: float
    problem: str = ""

    def names(self, kind: str) -> tuple[str, ...]:
        """What of one kind is affected, by name."""
        found = outcome(self.impact, kind) if self.impact else []
        return tuple(sorted(each.name or each.id for each in found))

    @property
    def services(self) -> frozenset[str]:
        """Ids of the services."""
        return frozenset(each.id for each in outcome(self.impact, "service")) if self.impact else frozenset()


@dataclass(frozen=True, slots=True)
class Compared:
    """What was said beside what came: ids of services whose path changed, and of all that there are."""

    said: Said
    changed: frozenset[str]
    asked: frozenset[str]

    @property
    def same(self) -> bool:
        """Whether exactly those changed that were said to depend on it."""
        return self.said.services == self.changed


async def dependents(socket: Path, broker: Path, link: str) -> Said:
    """Ask the owner's agent and the broker what depends on a link, both ways. Raises no TwinError."""
    from federation.cli.impact import asked
    from federation.client import TwinClient

    began = time.monotonic()
    try:
        async with asyncio.timeout(PATIENCE_S), TwinClient.connect(socket) as own:
            links = both_ways(await own.elements(kind="link"), link)
            began = time.monotonic()
            found = await asked(own, links, broker)
    except TimeoutError:
        return Said(link, None, PATIENCE_S * 1e3, f"no answer within {PATIENCE_S:.0f} s")
    except TwinError as error:
        return Said(link, None, (time.monotonic() - began) * 1e3, str(error))
    return Said(link, found, (time.monotonic() - began) * 1e3)


def both_ways(links: Sequence[Element], link: str) -> tuple[str, ...]:
    """A link and the one back: an interface that is switched off ends both."""
    ends = {
        each.id: (each.attributes.get("source-tp", ""), each.attributes.get("dest-tp", "")) for each in links
    }
    back = ends.get(link, ("", ""))[::-1]
    return (link, *(name for name, pair in ends.items() if pair == back and all(back)))


def compare(said: Said, before: Sequence[ServiceStatus], after: Sequence[ServiceStatus]) -> Compared:
    """What was said, beside the services whose paths are others now than before the cut."""
    return Compared(said, changed(before, after), frozenset(each.service.id for each in after))


def changed(before: Sequence[ServiceStatus], after: Sequence[ServiceStatus]) -> frozenset[str]:
    """Services that take another path, or have none any more: by what their hops cost and lead over."""
    old = {each.service.id: _way(each) for each in before}
    return frozenset(each.service.id for each in after if old.get(each.service.id) != _way(each))


def _way(status: ServiceStatus) -> object:
    if status.path is None:
        return None
    return tuple((hop.source, hop.target, hop.link_id, hop.kpis.metric) for hop in status.path.hops)
