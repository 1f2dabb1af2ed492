"""What every process shows of itself: its event loop, its collections, its build. Owns their measurement."""

from __future__ import annotations

import asyncio
import gc
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from domain_twin.operations.instruments import OMITTED, Distribution, Instrument, Kind, Sheet

__all__ = ["INSTRUMENTS", "LIBRARY_METRICS", "ProcessWatch"]

_EVERY_S = 0.25

INSTRUMENTS = (
    Instrument(
        "fedtwin_build_info",
        Kind.GAUGE,
        "Always 1; what runs here",
        ("process", "version", "python"),
    ),
    Instrument("fedtwin_uptime_seconds", Kind.GAUGE, "Seconds since the process began to serve"),
    Instrument("fedtwin_ready", Kind.GAUGE, "1 where /readyz says ready, for each of its checks", ("check",)),
    Instrument(
        "fedtwin_event_loop_lag_seconds",
        Kind.HISTOGRAM,
        "How late the event loop came to work that was due, looked at four times a second",
    ),
    Instrument(
        "fedtwin_gc_pause_seconds", Kind.HISTOGRAM, "How long collections of garbage stopped the process"
    ),
    Instrument(OMITTED, Kind.GAUGE, "Series left out of this scrape, as one figure had more than 10,000"),
    Instrument(
        "fedtwin_log_records_total",
        Kind.COUNTER,
        "Log records by level, those held back included",
        ("level",),
    ),
    Instrument(
        "fedtwin_log_suppressed_total", Kind.COUNTER, "Log records held back since the same came too often"
    ),
)

LIBRARY_METRICS = (
    "process_virtual_memory_bytes",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_cpu_seconds_total",
    "process_open_fds",
    "process_max_fds",
    "python_gc_objects_collected_total",
    "python_gc_objects_uncollectable_total",
    "python_gc_collections_total",
)
"""What prometheus_client's own collectors show besides."""


class ProcessWatch:
    """Measures the event loop and the collections while `running` lasts."""

    def __init__(self, process: str) -> None:
        self.lag = Distribution()
        self.gc_pause = Distribution((0.0001, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0))
        self._process = process
        self._began = time.monotonic()
        self._collecting = 0.0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Measure as long as the block lasts; it runs in the event loop that is measured."""
        gc.callbacks.append(self._collection)
        timer = asyncio.get_running_loop().create_task(self._look())
        try:
            yield
        finally:
            timer.cancel()
            gc.callbacks.remove(self._collection)

    def fill(self, sheet: Sheet) -> None:
        """Show what was measured."""
        sheet.put("fedtwin_build_info", 1, self._process, software_version(), platform.python_version())
        sheet.put("fedtwin_uptime_seconds", self.up_s)
        sheet.put("fedtwin_event_loop_lag_seconds", self.lag)
        sheet.put("fedtwin_gc_pause_seconds", self.gc_pause)

    @property
    def up_s(self) -> float:
        """Seconds since the watch began."""
        return time.monotonic() - self._began

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + _EVERY_S
            await asyncio.sleep(_EVERY_S)
            self.lag.observe(max(0.0, loop.time() - due))

    def _collection(self, phase: str, _info: dict[str, Any]) -> None:
        if phase == "start":
            self._collecting = time.perf_counter()
        elif self._collecting:
            self.gc_pause.observe(time.perf_counter() - self._collecting)


def software_version() -> str:
    """The installed version; empty in a bare checkout."""
    try:
        return version("fedtwin")
    except PackageNotFoundError:
        return ""
