"""How often a peer may ask: buckets by name, bounded in number. Time comes in as an argument; no I/O."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from domain_twin.errors import OverCapacity
from domain_twin.model import Nanoseconds
from domain_twin.trust.identity import SpiffeId

__all__ = ["Buckets", "Rates"]

_MOST = 4096
_COSTS = {"FindPath": 2.0, "GetHistory": 2.0, "GetView": 2.0}
"""What the dearer questions count, by the time that they take beside the others."""


@dataclass(slots=True)
class _Bucket:
    left: float
    since: Nanoseconds


class Buckets:
    """One bucket a name: `burst` at once, then `per_second`. The longest unused makes room for another."""

    def __init__(self, per_second: float, burst: float, *, most: int = _MOST) -> None:
        self._per_second = per_second
        self._burst = max(1.0, burst)
        self._most = most
        self._held: dict[str, _Bucket] = {}

    def __len__(self) -> int:
        return len(self._held)

    def take(self, name: str, now: Nanoseconds, *, cost: float = 1.0) -> float:
        """Seconds to wait until `name` may ask; 0: it may now, and this was counted."""
        left = self.left(name, now)
        admitted = left >= 1.0
        self._held.pop(name, None)
        if len(self._held) >= self._most:
            del self._held[next(iter(self._held))]
        self._held[name] = _Bucket(left - cost if admitted else left, now)
        return 0.0 if admitted else (1.0 - left) / self._per_second

    def left(self, name: str, now: Nanoseconds) -> float:
        """What is left in a bucket now."""
        held = self._held.get(name)
        if held is None:
            return self._burst
        return min(self._burst, held.left + max(0, now - held.since) * self._per_second / 1e9)


class Rates:
    """The broker's limits: questions and sessions by identity, failed greetings by address."""

    def __init__(
        self, *, reads_per_second: float, attaches_per_minute: float, clock: Callable[[], Nanoseconds]
    ) -> None:
        self.refused = 0
        self._clock = clock
        self._reads = Buckets(reads_per_second, reads_per_second)
        self._attaches = Buckets(attaches_per_minute / 60, attaches_per_minute)
        self._failures = Buckets(attaches_per_minute / 60, attaches_per_minute)

    def check(self, inner: Callable[[str, SpiffeId], None]) -> Callable[[str, SpiffeId], None]:
        """A check for `Guard` that first asks `inner`, then counts. Raises what that raises, OverCapacity."""
        return partial(self._check, inner)

    def check_address(self, address: str) -> None:
        """Refuse an address from which too many callers failed to prove who they are. Raises OverCapacity."""
        now = self._clock()
        if self._failures.left(address, now) < 1.0:
            self._refuse(f"{address}: too many callers from there failed to prove who they are", 1.0)

    def failed(self, address: str) -> None:
        """A caller from this address did not prove who it is."""
        self._failures.take(address, self._clock())

    def _check(self, inner: Callable[[str, SpiffeId], None], method: str, caller: SpiffeId) -> None:
        inner(method, caller)
        service, _, rpc = method.rpartition("/")
        if service.endswith(".Federation"):
            if wait_s := self._attaches.take(str(caller), self._clock()):
                self._refuse(f"{caller}: opens sessions more often than is taken here", wait_s)
        elif wait_s := self._reads.take(str(caller), self._clock(), cost=_COSTS.get(rpc, 1.0)):
            self._refuse(f"{caller}: asks more often than is answered here", wait_s)

    def _refuse(self, reason: str, wait_s: float) -> None:
        self.refused += 1
        error = OverCapacity(f"{reason}; ask again in {wait_s:.1f} s")
        error.retry_after_s = wait_s
        raise error
