"""The command line `fedtwin`: the composition root. Owns words and screens; decides nothing about networks.

Nothing heavy is imported before a command runs: `fedtwin --help` answers within 0.3 s.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status: 0 done, 1 a clear message was shown, 2 wrong usage."""
    from federation.cli.app import run

    return run(argv)
