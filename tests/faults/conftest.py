"""Options of the fault harness: `pytest tests/faults --fault-seed=7 --faults=40`, `--fault-step=NAME`."""

from __future__ import annotations

import warnings

import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)  # typer's own use of what click 8.5 deprecates
    import typer  # noqa: F401


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("faults")
    group.addoption("--fault-seed", type=int, default=1, help="seed of the faults that are drawn")
    group.addoption("--faults", type=int, default=20, help="at least so many faults")
    group.addoption("--fault-step", action="append", default=[], help="run this step alone; may be repeated")
