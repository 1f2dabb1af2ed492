"""Intervals: the share that they hold, and what they say where nothing was calibrated."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain_twin.errors import ConfigError
from domain_twin.simulation.learned.intervals import (
    BANDS,
    Intervals,
    Misses,
    Quantity,
    calibrate,
    misses_of,
)

DELAY = Quantity.DELAY


def drawn(seed: int, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predictions, measured values (off by more at high load) and loads."""
    rng = np.random.default_rng(seed)
    load = rng.uniform(0.0, 1.2, count)
    predicted = rng.uniform(0.01, 1.0, count)
    measured = predicted * (1 + (0.01 + 0.1 * load) * rng.standard_normal(count))
    return predicted, measured, load


def test_the_quantile_is_the_one_that_a_finite_sample_needs() -> None:
    # 19 misses 0.01 .. 0.19: the ceil(20 * 0.9) = 18th.
    predicted = np.ones(19)
    misses = misses_of(DELAY, predicted, predicted + np.arange(1, 20) / 100, np.zeros(19))

    found = calibrate(misses)

    assert found.bands[DELAY][0].quantile == pytest.approx(0.18)
    low, high = found.bounds(DELAY, np.array([2.0]), np.array([0.1]))
    assert (low[0], high[0]) == pytest.approx((1.64, 2.36))


@pytest.mark.parametrize(("count", "known"), [(0, False), (8, False), (9, True), (10, True)])
def test_too_few_misses_give_no_interval(count: int, known: bool) -> None:
    predicted = np.ones(count)

    found = calibrate(misses_of(DELAY, predicted, predicted * 1.1, np.zeros(count)))

    assert found.calibrated is known
    low, high = found.bounds(DELAY, np.array([1.0]), np.array([0.1]))
    assert np.isfinite([low[0], high[0]]).all() == known


def test_a_band_with_too_few_borrows_from_all() -> None:
    predicted, measured, load = drawn(1, 200)
    load = np.where(np.arange(200) < 5, 1.0, np.minimum(load, 0.29))

    found = calibrate(misses_of(DELAY, predicted, measured, load)).bands[DELAY]

    assert not found[0].borrowed
    assert found[4].borrowed
    assert found[4].count == 5
    overall = calibrate(misses_of(DELAY, predicted, measured, np.zeros(200))).bands[DELAY][0].quantile
    assert found[4].quantile == pytest.approx(overall)


def test_nothing_calibrated_says_so() -> None:
    nothing = Intervals()

    low, high = nothing.bounds(DELAY, np.array([1.0, 2.0]), np.array([0.1, 0.9]))

    assert not nothing.calibrated
    assert "nothing was calibrated" in nothing.note
    assert np.isnan(low).all()
    assert np.isnan(high).all()
    seen = nothing.coverage(DELAY, np.ones(2), np.ones(2), np.zeros(2))
    assert math.isnan(seen.share)
    assert (seen.count, seen.without) == (0, 2)


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.sampled_from([0.8, 0.9, 0.95]))
def test_the_share_within_is_the_level_for_flows_of_the_same_kind(seed: int, level: float) -> None:
    predicted, measured, load = drawn(seed, 4000)
    half = 2000

    found = calibrate(misses_of(DELAY, predicted[:half], measured[:half], load[:half]), level=level)
    seen = found.coverage(DELAY, predicted[half:], measured[half:], load[half:])

    # Five standard deviations of calibration and count together.
    slack = 5 * math.sqrt(level * (1 - level) * 2 / half)
    assert abs(seen.share - level) < slack
    assert seen.count == half
    assert sum(count for _, count in seen.by_band) == half


def test_bands_are_apart_so_that_low_loads_have_narrow_intervals() -> None:
    found = calibrate(misses_of(DELAY, *drawn(3, 5000)))

    widths = [band.quantile for band in found.bands[DELAY]]
    assert widths == sorted(widths)
    assert widths[-1] > 2 * widths[0]


@given(st.integers(0, 100), st.integers(1, 199))
def test_misses_add_up(seed: int, cut: int) -> None:
    predicted, measured, load = drawn(seed, 200)

    parts = misses_of(DELAY, predicted[:cut], measured[:cut], load[:cut]) + misses_of(
        DELAY, predicted[cut:], measured[cut:], load[cut:]
    )

    assert calibrate(parts) == calibrate(misses_of(DELAY, predicted, measured, load))


def test_quantities_are_kept_apart() -> None:
    predicted, measured, load = drawn(1, 100)

    found = calibrate(
        Misses({})
        + misses_of(DELAY, predicted, measured, load)
        + misses_of(Quantity.VARIANCE, predicted, 3 * measured, load)
    )

    assert found.bands[Quantity.VARIANCE][0].quantile > found.bands[DELAY][0].quantile
    assert Quantity.LOSS not in found.bands
    assert np.isnan(found.bounds(Quantity.LOSS, predicted, load)[0]).all()
    assert found.note == "90% intervals from measured misses: 100 of delay, 100 of variance"


def test_bounds_stay_possible() -> None:
    zeros = np.zeros(50)
    found = calibrate(misses_of(Quantity.LOSS, zeros, np.full(50, 0.01), zeros))

    low, high = found.bounds(Quantity.LOSS, np.array([0.0, 0.5, 1.0]), np.zeros(3))

    assert (low >= 0).all()
    assert (high <= 1).all()
    assert high[0] == pytest.approx(0.01)  # the floor makes room where no loss is predicted
    wide = calibrate(misses_of(DELAY, np.ones(50), np.full(50, 4.0), zeros))
    assert wide.bounds(DELAY, np.array([1.0]), np.zeros(1))[0][0] == 0.0


def test_flows_without_figures_neither_calibrate_nor_count() -> None:
    predicted, measured, load = drawn(1, 100)
    measured[:10] = np.nan
    predicted[10:20] = np.nan

    misses = misses_of(DELAY, predicted, measured, load)

    assert sum(len(part) for part in misses.found[DELAY]) == 80
    assert calibrate(misses).coverage(DELAY, predicted, measured, load).count == 80


def test_a_load_that_is_not_known_counts_as_the_highest() -> None:
    found = calibrate(misses_of(DELAY, *drawn(3, 5000)))

    unknown, highest = (found.bounds(DELAY, np.ones(1), np.array([load])) for load in (np.nan, 2.0))

    assert unknown == highest


@pytest.mark.parametrize("level", [0.0, 1.0, -1.0, 2.0, float("nan")])
def test_a_level_that_is_none_is_refused(level: float) -> None:
    with pytest.raises(ConfigError, match="between 0 and 1"):
        calibrate(Misses({}), level=level)


def test_saved_intervals_are_the_same_when_loaded(tmp_path: Path) -> None:
    few = misses_of(Quantity.LOSS, np.zeros(3), np.zeros(3), np.zeros(3))
    found = calibrate(misses_of(DELAY, *drawn(3, 500)) + few)
    path = tmp_path / "intervals.json"

    found.save(path)
    loaded = Intervals.load(path)

    assert loaded.bands[DELAY] == found.bands[DELAY]
    assert all(math.isnan(band.quantile) for band in loaded.bands[Quantity.LOSS])
    assert loaded.calibrated


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d.__setitem__("schema", "x"), "another schema"),
        (lambda d: d.__setitem__("bands_from", [0.0]), "other bands"),
        (lambda d: d.__setitem__("level", 1.5), "between 0 and 1"),
        (lambda d: d["quantities"]["delay"].pop(), f"{len(BANDS)} quantiles"),
        (lambda d: d["quantities"]["delay"][0].__setitem__("quantile", -1.0), "0 or more"),
        (lambda d: d["quantities"]["delay"][0].__setitem__("quantile", "wide"), "holds no intervals"),
        (lambda d: d["quantities"].__setitem__("colour", []), "holds no intervals"),
        (lambda d: d.pop("quantities"), "holds no intervals"),
    ],
)
def test_a_file_that_is_not_whole_is_refused(tmp_path: Path, change: object, says: str) -> None:
    path = tmp_path / "intervals.json"
    calibrate(misses_of(DELAY, *drawn(3, 500))).save(path)
    document = json.loads(path.read_text(encoding="utf-8"))
    change(document)  # type: ignore[operator]
    path.write_text(json.dumps(document), encoding="utf-8")

    with pytest.raises(ConfigError, match=says):
        Intervals.load(path)
    with pytest.raises(ConfigError, match="holds no intervals"):
        Intervals.load(tmp_path / "none.json")
