"""The parts of a real broker with partners, as tests of the federation and of partners have them."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path

with warnings.catch_warnings():  # typer's own use of what click 8.5 deprecates
    warnings.simplefilter("ignore", DeprecationWarning)
    import typer  # noqa: F401

ROOT = Path(__file__).resolve().parent.parent.parent
sys.path[:0] = [str(ROOT / "tests" / name) for name in ("federation", "partners")]

from federation_parts import EXCHANGE, Federation, local, until  # noqa: E402
from partner_broker import PARTNERS  # noqa: E402

__all__ = ["EXCHANGE", "PARTNERS", "ROOT", "Federation", "local", "until"]
