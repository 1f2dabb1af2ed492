"""`python -m domain_twin.emulator network.toml`: run the emulated network until a signal."""

import argparse
import sys
from pathlib import Path

from domain_twin.emulator.main import Running, run_emulator
from domain_twin.errors import TwinError


def _ready(running: Running) -> None:
    sys.stdout.write(f"{running.devices} devices, control socket {running.socket}\n")
    for inventory in running.inventories:
        sys.stdout.write(f"inventory {inventory}\n")
    sys.stdout.flush()


def main() -> int:
    """Parse arguments, run, and turn an error into one line and exit status 2."""
    parser = argparse.ArgumentParser(prog="python -m domain_twin.emulator", description=__doc__)
    parser.add_argument("config", type=Path, help="network file")
    arguments = parser.parse_args()
    try:
        run_emulator(arguments.config, ready=_ready)
    except TwinError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
