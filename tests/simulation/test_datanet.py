"""The benchmark on packet-level samples: what it prints, and that a test folder stays unseen."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bnn_folder import measure, write_folder

from domain_twin.simulation.flows import solve_flows
from domain_twin.simulation.outside.bnn_upc import Sample

ROOT = Path(__file__).resolve().parents[2]
FIGURES = {
    "flows", "delay_mape", "delay_mape_residual", "delay_variance_mape", "delay_variance_mape_residual",
    "loss_mae",
}  # fmt: skip


def off_by(delay: float, variance: float, noise: float = 0.0) -> object:
    def off(sample: Sample) -> tuple[np.ndarray, np.ndarray]:
        found = solve_flows(sample.graph, sample.flows)
        rng = np.random.default_rng(sample.flows.count)
        return (
            found.delay_s / (1 + delay) * (1 + noise * rng.standard_normal(sample.flows.count)),
            found.variance_s2 / (1 + variance),
        )

    return off


def datanet(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.datanet", *map(str, arguments)],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip


def in_process(monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    monkeypatch.syspath_prepend(str(ROOT))
    return importlib.import_module("benchmarks.datanet").run  # type: ignore[no-any-return]


def test_errors_are_means_over_flows_in_percent(tmp_path: Path) -> None:
    train = write_folder(tmp_path / "train", loads=(0.3, 0.6, 0.9, 1.2))
    measure(train, off_by(0.0, 0.0, noise=0.01))
    one = write_folder(tmp_path / "setting-1" / "50", loads=(0.4,))
    measure(one, off_by(0.02, 0.10))
    two = write_folder(tmp_path / "setting-2" / "50", loads=(0.4, 0.7, 0.8), archive=False)
    measure(two, off_by(0.06, 0.30))

    ran = datanet("--train", train.parent, "--test", one.parent, two.parent)

    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert set(found["folders"]) == {"setting-1/50", "setting-2/50"}
    assert set(found["pooled"]) == FIGURES
    for figures in found["folders"].values():
        assert set(figures) == FIGURES
    assert found["pooled"]["flows"] == 36
    assert found["folders"]["setting-1/50"]["delay_mape"] == pytest.approx(2.0, abs=1e-3)
    assert found["folders"]["setting-2/50"]["delay_variance_mape"] == pytest.approx(30.0, abs=1e-2)
    assert found["pooled"]["delay_mape"] == pytest.approx((2.0 + 3 * 6.0) / 4, abs=1e-3)
    assert found["pooled"]["loss_mae"] == pytest.approx(0.0, abs=1e-6)
    assert found["trained_on"] == {**found["trained_on"], "samples": 4, "flows": 36}
    # No correction can know of an error that no training sample has.
    assert found["folders"]["setting-2/50"]["delay_mape_residual"] > 3.0


def test_the_fit_does_not_depend_on_the_test_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = in_process(monkeypatch)
    train = write_folder(tmp_path / "train", loads=(0.3, 0.6, 0.9))
    measure(train, off_by(0.03, 0.1, noise=0.01))
    fits = []
    for name, miss in (("a", 0.0), ("b", 0.5)):
        test = write_folder(tmp_path / name, loads=(0.5,))
        measure(test, off_by(miss, miss))
        fits.append(run([train.parent], [test.parent], robust=False, most=None)["trained_on"])

    assert fits[0] == fits[1]


@pytest.mark.parametrize(
    ("tests", "says"), [(["train"], "never fitted on"), (["other", "other"], "named twice")]
)
def test_folders_that_would_make_figures_worthless_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tests: list[str], says: str
) -> None:
    run = in_process(monkeypatch)
    for name in ("train", "other"):
        write_folder(tmp_path / name)

    with pytest.raises(SystemExit, match=says):
        run([tmp_path / "train"], [tmp_path / name for name in tests], robust=False, most=None)


def test_a_folder_that_is_none_ends_without_figures(tmp_path: Path) -> None:
    ran = datanet("--train", tmp_path / "none", "--test", tmp_path)

    assert ran.returncode == 1
    assert "has no folder graphs/" in ran.stderr
    assert not ran.stdout
