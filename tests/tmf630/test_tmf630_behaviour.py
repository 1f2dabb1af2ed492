"""The behaviour that TMF630 asks of all APIs, by HTTP: `pytest -m tmf630 [--base-url URL --token T]`."""

from __future__ import annotations

import pytest
from tmf630_checks import Check
from tmf630_suite import NotHere, Suite
from tmf630_table import Target
from tmf_contract import specifications

pytestmark = pytest.mark.tmf630


def test_behaviour(suite: Suite, check: Check, of: Target) -> None:
    try:
        with suite.tidied():
            check.run(suite, of)
    except NotHere as reason:
        pytest.skip(f"NOT CHECKED: {reason}")


def test_answers_are_held_against_the_official_documents() -> None:
    assert specifications().is_dir()
