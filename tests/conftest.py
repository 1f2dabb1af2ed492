"""For all tests: generated examples are the same on every machine, unless one goes looking for more."""

from __future__ import annotations

import gc
import logging
import os
import signal
from collections.abc import Callable, Iterator

import outside
import psutil
import pytest
from hypothesis import settings

# A gate says the same of the same code. To look for what it misses: ./dev test --hypothesis-profile=explore
settings.register_profile("gate", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None, print_blob=True)
settings.load_profile("gate")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a run in the background; commands would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


LONGEST = "test_demo.py"  # two and a half minutes

# Here, since tests of several folders import them: the first import decides.
TMF630 = ("checks", "hubs", "queries", "refusals", "suite", "writes")
pytest.register_assert_rewrite("tmf_contract", *(f"tmf630_{part}" for part in TMF630))


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of the TMF630 suite; pytest reads them only from here when no folder is named."""
    group = parser.getgroup("tmf630", "behaviour of TM Forum APIs (pytest -m tmf630)")
    group.addoption("--base-url", default="", help="address of the server to check; default: our own")
    group.addoption("--token", default="", help="access token to send, with all scopes")
    group.addoption("--tmf630-all", action="store_true", help="all checks of all our resources (slow)")
    group.addoption("--tmf630-bodies", default="", help="JSON file with what that server takes instead")


def pytest_configure(config: pytest.Config) -> None:
    """Refuse to begin where a variable names a folder that is not there: hundreds of tests would fail."""
    if told := outside.broken(os.environ):
        raise pytest.UsageError(told)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let side by side workers begin with the longest file; at the end the others would wait for it."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: item.path.name != LONGEST)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was not tried, so that nobody takes a green run for more than it is."""
    skipped = terminalreporter.stats.get("skipped", ())
    reasons = [report.longrepr[2] for report in skipped if isinstance(report.longrepr, tuple)]
    for line in outside.untried(os.environ, reasons):
        terminalreporter.write_line(line, yellow=True, bold=True)


@pytest.fixture
def connections_to() -> Iterator[Callable[[int], int]]:
    """How many TCP connections this process has to a port of its own; what is garbage stays meanwhile."""

    def count(port: int) -> int:
        open_ = psutil.Process().net_connections("tcp")
        return sum(bool(each.raddr) and each.raddr.port == port for each in open_)

    gc.collect()
    gc.disable()
    try:
        yield count
    finally:
        gc.enable()


@pytest.fixture(autouse=True)
def nobody_logs_to_a_stream_that_is_gone() -> Iterator[None]:
    """Take away what a command set up in this process: it would write to streams of an earlier test."""
    _as_at_first()
    yield
    _as_at_first()


def _as_at_first() -> None:
    root = logging.getLogger()
    ours = [handler for handler in root.handlers if type(handler).__module__ == "federation.cli.logs"]
    for handler in ours:
        root.removeHandler(handler)
    root.setLevel(logging.WARNING)
