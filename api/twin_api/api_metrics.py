"""What the API process shows of itself: requests, tokens, the age of what it reads from. Owns the names.

Labels are routes that exist and words of fixed lists: whoever asks cannot add a series.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from domain_twin.operations.endpoint import Face
from domain_twin.operations.health import Check
from domain_twin.operations.instruments import Distribution, Instrument, Kind, Sheet

if TYPE_CHECKING:
    from twin_api.access_log import AccessLog
    from twin_api.tokens import Tokens

__all__ = ["INSTRUMENTS", "ApiMetrics", "Counts"]

_COUNTER, _GAUGE = Kind.COUNTER, Kind.GAUGE
INSTRUMENTS = (
    Instrument("fedtwin_api_requests_total", _COUNTER, "Requests by route and status", ("route", "status")),
    Instrument(
        "fedtwin_api_request_duration_seconds",
        Kind.HISTOGRAM,
        "Seconds from a request's head to the end of its answer",
        ("route",),
    ),
    Instrument(
        "fedtwin_api_refused_total",
        _COUNTER,
        "Requests refused before their route: no token, token, failures, tenant, scope, rate, keys",
        ("reason",),
    ),
    Instrument("fedtwin_api_failures_total", _COUNTER, "Requests that ended in an error of the program"),
    Instrument("fedtwin_api_connections", _GAUGE, "Connections that are open"),
    Instrument(
        "fedtwin_api_token_lookups_total",
        _COUNTER,
        "Tokens that came: hit, verified before; miss, looked at anew",
        ("outcome",),
    ),
    Instrument("fedtwin_api_tokens_remembered", _GAUGE, "Verified tokens that are remembered"),
    Instrument(
        "fedtwin_api_issuer_keys_age_seconds",
        _GAUGE,
        "Seconds since an issuer's keys were read well; absent: never",
        ("issuer",),
    ),
    Instrument(
        "fedtwin_api_read_model_age_seconds",
        _GAUGE,
        "Seconds since the broker was last heard; absent: not yet",
    ),
    Instrument(
        "fedtwin_api_read_model_sequence", _GAUGE, "The broker's number of the last change that is read"
    ),
    Instrument(
        "fedtwin_api_access_log_dropped_total", _COUNTER, "Lines of the access log that nobody took in time"
    ),
)


class Counts:
    """Counted as requests end. For one thread."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()
        self.durations: dict[str, Distribution] = {}
        self.refused: Counter[str] = Counter()
        self.failed = 0

    def note(self, route: str, status: int, took_s: float) -> None:
        """One request ended."""
        self.requests[route, status] += 1
        duration = self.durations.get(route)
        if duration is None:
            duration = self.durations[route] = Distribution()
        duration.observe(took_s)


class ApiMetrics:
    """Reads a running API process."""

    def __init__(
        self,
        counts: Counts,
        tokens: Tokens,
        *,
        checks: Callable[[], Sequence[Check]],
        read_model: Callable[[], tuple[float | None, int]],
        connections: Callable[[], int],
        access_log: AccessLog | None,
    ) -> None:
        self._counts = counts
        self._tokens = tokens
        self._checks = checks
        self._read_model = read_model
        self._connections = connections
        self._access_log = access_log

    @property
    def face(self) -> Face:
        """What the endpoint serves."""
        return Face("api", INSTRUMENTS, self.fill, self.checks)

    def checks(self) -> Iterable[Check]:
        """What it takes to be ready."""
        return self._checks()

    def fill(self, sheet: Sheet) -> None:
        """Show the figures of now."""
        for (route, status), number in self._counts.requests.items():
            sheet.put("fedtwin_api_requests_total", number, route, status)
        for route, duration in self._counts.durations.items():
            sheet.put("fedtwin_api_request_duration_seconds", duration, route)
        for reason in ("no token", "token", "scope", "rate", "keys"):
            sheet.put("fedtwin_api_refused_total", self._counts.refused[reason], reason)
        sheet.put("fedtwin_api_failures_total", self._counts.failed)
        sheet.put("fedtwin_api_connections", self._connections())
        sheet.put("fedtwin_api_token_lookups_total", self._tokens.hits, "hit")
        sheet.put("fedtwin_api_token_lookups_total", self._tokens.misses, "miss")
        sheet.put("fedtwin_api_tokens_remembered", len(self._tokens))
        for issuer, ring in self._tokens.rings.items():
            if ring.age_s is not None:
                sheet.put("fedtwin_api_issuer_keys_age_seconds", ring.age_s, issuer)
        age_s, sequence = self._read_model()
        if age_s is not None:
            sheet.put("fedtwin_api_read_model_age_seconds", age_s)
        sheet.put("fedtwin_api_read_model_sequence", sequence)
        sheet.put("fedtwin_api_access_log_dropped_total", self._access_log.dropped if self._access_log else 0)
