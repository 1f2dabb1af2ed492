"""A training while it runs: a table on stderr that grows by a row a round. Owns the drawing's life."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from domain_twin.learning.run import Run

__all__ = ["rounds_live"]


@contextlib.contextmanager
def rounds_live() -> Iterator[Callable[[Run], None]]:
    """What to call with every state of the training; without a terminal a line a round."""
    from rich.live import Live

    from federation.cli.console import err
    from federation.cli.learn.screens import round_line, run_screen

    console = err()
    told = 0

    def line(run: Run) -> None:
        nonlocal told
        for entry in run.log[told:]:
            if (words := round_line(entry, run.task.rounds)) is not None:
                console.print(words)
        told = len(run.log)

    if not console.is_terminal:
        yield line
        return
    with Live(console=console, transient=True, refresh_per_second=8) as live:
        yield lambda run: live.update(run_screen(run))
