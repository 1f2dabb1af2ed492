"""For all tests: generated examples are the same on every machine, unless one goes looking for more."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from hypothesis import settings

# A gate says the same of the same code. To look for what it misses: ./dev test --hypothesis-profile=explore
settings.register_profile("gate", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None, print_blob=True)
settings.load_profile("gate")


@pytest.fixture(autouse=True)
def nobody_logs_to_a_stream_that_is_gone() -> Iterator[None]:
    """Take away what a command set up in this process: it would write to streams of an earlier test."""
    root = logging.getLogger()
    level = root.level
    yield
    for handler in [h for h in root.handlers if type(h).__module__ == "federation.cli.logs"]:
        root.removeHandler(handler)
        root.setLevel(level)
