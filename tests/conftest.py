"""For all tests: generated examples are the same on every machine, unless one goes looking for more."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator

import pytest
from hypothesis import settings

# A gate says the same of the same code. To look for what it misses: ./dev test --hypothesis-profile=explore
settings.register_profile("gate", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None, print_blob=True)
settings.load_profile("gate")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a run in the background; commands would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)


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
