"""For all tests: generated examples are the same on every machine, unless one goes looking for more."""

from __future__ import annotations

from hypothesis import settings

# A gate says the same of the same code. To look for what it misses: ./dev test --hypothesis-profile=explore
settings.register_profile("gate", derandomize=True, deadline=None)
settings.register_profile("explore", deadline=None, print_blob=True)
settings.load_profile("gate")
