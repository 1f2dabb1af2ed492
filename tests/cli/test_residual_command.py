"""`fedtwin residual --sums`: operators fit together, and nothing but sums is handed over."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from domain_twin.simulation.learned.features import DELAY_FEATURES, VARIANCE_FEATURES
from domain_twin.simulation.learned.residual import Evidence, Hull, Residual, Statistics, fit
from federation.cli import main


def _statistics(seed: int) -> Statistics:
    rng = np.random.default_rng(seed)
    delay, variance = rng.random((40, len(DELAY_FEATURES))), rng.random((40, len(VARIANCE_FEATURES)))
    return Evidence(
        delay, rng.random(40), variance, rng.random(40), Hull(0.1 * seed, (5.0, 50.0), (0.5, 1.0))
    ).statistics()


@pytest.fixture
def sums(tmp_path: Path) -> list[Path]:
    """Files of two operators."""
    files = [tmp_path / "mine.json", tmp_path / "theirs.json"]
    for seed, file in enumerate(files, 1):
        file.write_text(_statistics(seed).to_json())
    return files


def test_files_of_sums_are_added_and_fitted(
    tmp_path: Path, sums: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "residual.json"
    assert main(["residual", *map(str, sums), "--out", str(out), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["flows"] == 80
    assert Residual.load(out).digest == fit(_statistics(1) + _statistics(2)).digest


def test_sums_are_not_mixed_with_other_sources(
    tmp_path: Path, sums: list[Path], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "samples").mkdir()
    out = tmp_path / "residual.json"
    assert main(["residual", str(sums[0]), str(tmp_path / "samples"), "--out", str(out)]) == 1
    assert "sums are added to sums only" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("options", [[], ["--out", "a", "--sums", "b"], ["--out", "a", "--after", "c"]])
def test_one_result_is_asked_for(
    sums: list[Path], options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["residual", str(sums[0]), *options]) == 2
    assert "--sums" in capsys.readouterr().err
