"""The wheel, built once, installed into a fresh environment and used outside the checkout."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

INSIDE = """
import domain_twin, federation
from domain_twin.resources import data_folder, standard_yang_folders
from federation.partners.store import RecordStore
from pathlib import Path
import asyncio, sys, tempfile
assert "site-packages" in domain_twin.__file__, domain_twin.__file__
assert (data_folder("yang") / "fedtwin-inter-domain.yang").is_file()
assert "_data" in str(data_folder("ontology")) and (data_folder("ontology") / "ndt.ttl").is_file()
assert all(any((data_folder("ontology") / name).iterdir()) for name in ("rules", "shapes", "cq", "context"))
assert data_folder("examples").is_dir()
assert any((folder / "ietf-network.yang").is_file() for folder in standard_yang_folders())
assert not any("fedtwin" in p and "site-packages" not in p for p in sys.path if p), sys.path
async def keep():
    store = await RecordStore.open(Path(tempfile.mkdtemp()), "", ["acme"])
    await store.close()
asyncio.run(keep())
print(domain_twin.__version__)
"""


def run(command: list[str | Path], cwd: Path) -> str:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run(
        [str(c) for c in command],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        timeout=600,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_wheel_works_without_the_checkout(tmp_path: Path) -> None:
    run([sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path / "dist"], ROOT)
    (wheel,) = (tmp_path / "dist").glob("fedtwin-*.whl")
    uv = [sys.executable, "-m", "uv"]
    run([*uv, "venv", "--quiet", "--python", sys.executable, tmp_path / "fresh"], tmp_path)
    fresh = tmp_path / "fresh" / "bin"
    run(
        [*uv, "pip", "install", "--quiet", "-p", fresh / "python", "-c", ROOT / "requirements.lock", wheel],
        tmp_path,
    )

    version = run([fresh / "python", "-c", INSIDE], tmp_path).strip()
    help_text = run([fresh / "fedtwin", "--help"], tmp_path)

    assert wheel.name.startswith(f"fedtwin-{version}-")
    assert "broker" in help_text
    assert "agent" in help_text
