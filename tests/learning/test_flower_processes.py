"""A real SuperLink and SuperNodes train what we train in process and over sessions, and end whole."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.minutes
@pytest.mark.timeout(1800)
def test_losses_are_equal_in_the_three_ways_and_nobody_leaves_loopback() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.learning_superlink", "--quick"],
        cwd=ROOT,
        capture_output=True,
        check=False,
        timeout=1700,
    )
    assert done.returncode == 0, done.stderr.decode()[-4000:]
    found = json.loads(done.stdout)

    assert found["same losses"], found
    assert found["superlink"]["losses"] == found["in process"]["losses"] == found["session"]["losses"]
    assert len(found["superlink"]["losses"]) == 3
    assert found["superlink"]["socket_samples"] > 20
    assert found["superlink"]["processes"] > 6
    assert found["superlink"]["beyond_loopback"] == []
    assert found["superlink"]["left_behind"] == []
