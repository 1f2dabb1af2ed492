"""`python -m federation.cli`: the same as `fedtwin`, in the environment of this very interpreter."""

import sys

from federation.cli import main

sys.exit(main())
