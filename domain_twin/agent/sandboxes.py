"""The partners' twins that this domain has a part in: which are open, what each shows, until when.

Owns the list, which outlives the agent, and the views that parts are cut from; whether a partner may have a
part at all was decided by its agreements. A part shows border points and the end points that were asked
for: one that is hidden is refused in the same words as one that does not exist.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import secrets
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from domain_twin.disclosure.policy import Grant
from domain_twin.disclosure.views import ViewBuilder
from domain_twin.errors import ContractError, NotFound, NotShared, OverCapacity
from domain_twin.model import ANY_POINT, Finding, Nanoseconds, Network, PointKind, Severity, Version, View

__all__ = ["Sandbox", "Sandboxes"]

log = logging.getLogger(__name__)

MOST = 512
MOST_OF_ONE = 64
MOST_POINTS = 1000
_LONGEST_NAME = 255
_MOST_VIEWS = 64


@dataclass(frozen=True, slots=True)
class Sandbox:
    """This domain's part of one partner's twin. `points` None: all that the partner may see."""

    id: str
    partner: str
    peer: str
    points: frozenset[str] | None
    opened_at: Nanoseconds
    until: Nanoseconds = 0

    def over(self, now: Nanoseconds) -> bool:
        """Whether its time has come."""
        return 0 < self.until <= now


class _Views:
    """The view of one grant, made for all the parts that are cut from it."""

    def __init__(self, grant: Grant, published: Mapping[str, str], salt: bytes) -> None:
        self.grant = grant
        self._builder = ViewBuilder(
            grant, published=published, risk_salt=salt, epoch=secrets.token_hex(8), ring=1
        )
        self._network: Network | None = None

    def current(self, network: Network, now: Nanoseconds) -> View:
        """The view of `network`; for one thread at a time."""
        due_at = self._builder.due_at
        if self._network is not network or (due_at is not None and due_at <= now):
            self._builder.update(network, now=now)
            self._network = network
        view = self._builder.view
        assert view is not None
        # Nothing visible may have changed for long; what it is known of is as new as the network.
        return replace(view, version=replace(view.version, observed_at=network.version.observed_at))


class Sandboxes:
    """Open parts, kept in one file. All methods are for the agent's event loop."""

    def __init__(
        self,
        path: Path,
        *,
        domain: str,
        network: Callable[[], Network],
        published: Mapping[str, str],
        clock: Callable[[], Nanoseconds] = time.time_ns,
    ) -> None:
        self._path = path
        self._domain = domain
        self._network = network
        self._published = published
        self._clock = clock
        self._salt = secrets.token_bytes(16)
        self._views: dict[str, _Views] = {}
        self._working = asyncio.Lock()
        self.problem = ""
        """Why the list cannot be read or written, in words."""
        self._open: dict[str, Sandbox] = {}
        self._withdrawn: dict[str, Sandbox] = {}
        self._load()

    def open_ones(self) -> tuple[Sandbox, ...]:
        """Those that are open, oldest first; whose time has come are not."""
        now = self._clock()
        return tuple(held for held in self._open.values() if not held.over(now))

    async def open(
        self,
        grant: Grant,
        identity: str,
        *,
        partner: str,
        peer: str,
        points: frozenset[str] | None,
        until: Nanoseconds,
    ) -> View:
        """Open a part, or give an open one another scope or end; what it shows.

        Raises NotShared for a point that the partner does not see, OverCapacity, NotFound for a twin of
        somebody else, ContractError.
        """
        self._check(identity, points, until)
        async with self._working:
            held = self._held(identity, partner, peer)
            if held is None:
                self._check_room(partner)
            part = _part(await self._view(grant), points)
            opened_at = held.opened_at if held else self._clock()
            new = Sandbox(identity, partner, peer, points, opened_at, until)
            if new != held:
                self._open[identity] = new
                await self._save()
            return part

    async def refresh(self, grant: Grant, identity: str, *, partner: str, peer: str) -> View:
        """What an open part shows now. Raises NotFound where it is not open (any more)."""
        async with self._working:
            held = self._held(identity, partner, peer)
            if held is None:
                raise NotFound(f"no twin {identity!r} of {partner} is open at {self._domain}; open it again")
            view = await self._view(grant)
            # An end point that is not published any more leaves a part; it does not end it.
            points = None if held.points is None else held.points & view.points.keys()
            return _part(view, points)

    def held_by(self, partner: str, peer: str) -> bool:
        """Whether a part of any twin of this partner is open for this peer."""
        return any((held.partner, held.peer) == (partner, peer) for held in self.open_ones())

    async def version(self, grant: Grant) -> Version:
        """The version of what parts under this grant show now."""
        async with self._working:
            return (await self._view(grant)).version

    async def close(self, identity: str, *, partner: str, peer: str) -> bool:
        """Forget a part; whether there was one."""
        async with self._working:
            if self._held(identity, partner, peer) is None:
                return False
            del self._open[identity]
            await self._save()
            return True

    def withdraw(self, still_granted: Callable[[Sandbox], bool]) -> list[Sandbox]:
        """Close the parts that no agreement grants any more; those that were closed."""
        ended = [held for held in self._open.values() if not still_granted(held)]
        for held in ended:
            del self._open[held.id]
            self._withdrawn[held.id] = held
        while len(self._withdrawn) > MOST:
            del self._withdrawn[next(iter(self._withdrawn))]
        if ended:
            self._written(_try_write(self._path, self._open.values()))
        return ended

    def withdrawn(self, identity: str, *, partner: str, peer: str) -> bool:
        """Whether a part was closed because its agreement was withdrawn, since the agent began."""
        held = self._withdrawn.get(identity)
        return held is not None and (held.partner, held.peer) == (partner, peer)

    def findings(self) -> list[Finding]:
        """Which partners hold twins here, for the domain's operator; never leaves the domain."""
        found = [
            Finding(
                "sandbox.unwritable",
                Severity.WARNING,
                self._domain,
                "sandboxes",
                self.problem,
                "make the state folder writable; partners' twins are opened again by themselves",
            )
        ] * bool(self.problem)
        by_partner: dict[str, list[Sandbox]] = {}
        for held in self.open_ones():
            by_partner.setdefault(held.partner, []).append(held)
        for partner, held_by in sorted(by_partner.items()):
            ids = ", ".join(held.id for held in held_by[:5]) + (", ..." if len(held_by) > 5 else "")
            number = f"{len(held_by)} twins" if len(held_by) > 1 else "a twin"
            found.append(
                Finding(
                    "sandbox.open",
                    Severity.INFO,
                    self._domain,
                    partner,
                    f"{partner} holds {number} with a part of this domain: {ids}",
                    "nothing to do; to end this, take `sandbox` out of the partner's [[agreement]]",
                    since=min(held.opened_at for held in held_by),
                )
            )
        return found

    async def _view(self, grant: Grant) -> View:
        kept = self._views.pop(grant.agreement, None)
        if kept is None or kept.grant != grant:
            kept = _Views(grant, self._published, self._salt)
        while len(self._views) >= _MOST_VIEWS:
            del self._views[next(iter(self._views))]
        self._views[grant.agreement] = kept  # the one used last is dropped last
        return await asyncio.to_thread(kept.current, self._network(), self._clock())

    def _held(self, identity: str, partner: str, peer: str) -> Sandbox | None:
        """The open part. Raises NotFound for that of another partner, as if there were none."""
        held = self._open.get(identity)
        if held is None or held.over(self._clock()):
            return None
        if (held.partner, held.peer) != (partner, peer):
            raise NotFound(f"no twin {identity!r} of {partner} is open at {self._domain}; open it again")
        return held

    def _check(self, identity: str, points: frozenset[str] | None, until: Nanoseconds) -> None:
        if not identity or len(identity) > _LONGEST_NAME or not identity.isprintable():
            raise ContractError(
                f"SandboxAsk.sandbox: an id has 1 to {_LONGEST_NAME} printable characters"
                f" (was {identity[:40]!r})"
            )
        if points is not None and len(points) > MOST_POINTS:
            raise OverCapacity(f"{len(points)} points were asked for; a twin has at most {MOST_POINTS} here")
        if until < 0 or 0 < until <= self._clock():
            raise ContractError("SandboxAsk.until: this time has passed already")

    def _check_room(self, partner: str) -> None:
        held = self.open_ones()
        if len(held) < len(self._open):  # time has come for some
            self._open = {one.id: one for one in held}
        own = Counter(one.partner for one in held)[partner]
        if own >= MOST_OF_ONE or len(held) >= MOST:
            error = OverCapacity(
                f"{self._domain} has a part in {own} twins of {partner} and takes at most {MOST_OF_ONE};"
                " retire one"
                if own >= MOST_OF_ONE
                else f"{self._domain} takes part in no more twins now; try again later"
            )
            error.retry_after_s = 60.0
            raise error

    # ------------------------------------------------------------ the file

    def _load(self) -> None:
        try:
            listed = json.loads(self._path.read_text(encoding="utf-8"))
            held = [_sandbox(item) for item in listed]
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError) as error:
            self.problem = f"{self._path}: the list of partners' twins cannot be read ({error}); begun anew"
            log.warning("list of partners' twins not read", extra={"reason": str(error)})
            return
        self._open = {one.id: one for one in held}

    async def _save(self) -> None:
        now = self._clock()
        self._open = {key: held for key, held in self._open.items() if not held.over(now)}
        self._written(await asyncio.to_thread(_try_write, self._path, tuple(self._open.values())))

    def _written(self, problem: str) -> None:
        # A restart forgets what is not on disk, and the broker opens it again: no reason to refuse a part.
        self.problem = f"{self._path}: the list of partners' twins cannot be written ({problem})" * bool(
            problem
        )


def _part(view: View, points: frozenset[str] | None) -> View:
    """What of a view is in a part: border points, inner nodes of a native one, the end points asked for."""
    if points is None:
        return view
    for name in sorted(points):
        seen = view.points.get(name)
        if seen is None or seen.kind is not PointKind.ENDPOINT:
            raise NotShared(f"{name} is not shared with you")
    kept = {
        name: point
        for name, point in view.points.items()
        if point.kind is not PointKind.ENDPOINT or name in points
    }
    within = kept.keys() | {ANY_POINT}
    segments = {
        key: segment for key, segment in view.segments.items() if key[0] in within and key[1] in within
    }
    return replace(view, points=kept, segments=segments)


def _sandbox(item: Mapping[str, Any]) -> Sandbox:
    points: Iterable[str] | None = item["points"]
    return Sandbox(
        str(item["id"]),
        str(item["partner"]),
        str(item["peer"]),
        None if points is None else frozenset(map(str, points)),
        int(item["opened_at"]),
        int(item["until"]),
    )


def _jsonable(held: Sandbox) -> dict[str, Any]:
    return {**asdict(held), "points": None if held.points is None else sorted(held.points)}


def _try_write(path: Path, held: Iterable[Sandbox]) -> str:
    """Replace the file at once and for good; why that failed, in words."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8") as file:
            json.dump([_jsonable(one) for one in held], file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        return str(error.strerror or error)
    return ""
