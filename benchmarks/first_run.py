"""From a clone to the story: seconds to clone, to install, to the first end-to-end view, as a newcomer would.

Clones this checkout's HEAD into an empty folder and runs `./dev setup` and `./dev demo --quick` there. What
pip or uv has cached on this machine counts: the JSON says which of the two installed, and how long it took.
`--quick` is accepted and changes nothing.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
AIMS = {"start_to_first_view_s": 30.0}


def timed(command: list[str], folder: Path) -> float:
    """Seconds that the command takes; raises when it fails."""
    started = time.monotonic()
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return round(time.monotonic() - started, 1)


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="changes nothing: a first run is a first run")
    parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fedtwin-") as name:
        folder, account = Path(name) / "fedtwin", Path(name) / "account.json"
        clone_s = timed(["git", "clone", "--quiet", str(ROOT), str(folder)], Path(name))
        install_s = timed(["./dev", "setup"], folder)
        story_s = timed(
            ["./dev", "demo", "--quick", "--folder", f"{name}/run", "--json", str(account)], folder
        )
        story = json.loads(account.read_text(encoding="utf-8"))
    print(
        json.dumps(
            {
                "benchmark": "first_run",
                "installer": "uv" if shutil.which("uv") else "pip",
                "clone_s": clone_s,
                "install_s": install_s,
                "start_to_first_view_s": story["first_view_s"],
                "clone_to_first_view_s": round(clone_s + install_s + story["first_view_s"], 1),
                "whole_quick_demo_s": story_s,
                "aims": AIMS,
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
