"""How a check of the TMF630 suite is written down: a function of a server and a resource of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tmf630_suite import Suite
from tmf630_table import Target

Asserts = Callable[[Suite, Target], None]


@dataclass(frozen=True)
class Check:
    """One thing that TMF630 asks of a server; it raises AssertionError, or NotHere."""

    name: str
    run: Asserts
    concerns: Callable[[Target], bool]


CHECKS: list[Check] = []


def check(concerns: Callable[[Target], bool] = lambda _: True) -> Callable[[Asserts], Asserts]:
    """Enter a function in the list; `concerns` says of which resources it can be asked."""

    def entered(run: Asserts) -> Asserts:
        CHECKS.append(Check(run.__name__, run, concerns))
        return run

    return entered


def every_check() -> list[Check]:
    """All checks of all files."""
    import tmf630_hubs  # noqa: F401
    import tmf630_queries  # noqa: F401
    import tmf630_refusals  # noqa: F401
    import tmf630_writes  # noqa: F401

    return CHECKS


def changes(of: Target) -> bool:
    """Whether a resource takes PATCH."""
    return of.changeable


def goes(of: Target) -> bool:
    """Whether a resource takes DELETE."""
    return of.removable
