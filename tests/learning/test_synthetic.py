"""Synthetic telemetry: what is made, what is written, and what is refused."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from domain_twin.config import ReplayConfig
from domain_twin.errors import ConfigError, Conflict, ContractError
from domain_twin.learning.dataset import export_synthetic, write_recording
from domain_twin.learning.fidelity import membership, quick
from domain_twin.learning.holding import held, shares, unchanged
from domain_twin.learning.learner import Arrays, learner
from domain_twin.learning.marginals import Marginals, packed
from domain_twin.learning.models.gan_private import noise_multiplier, private_own, products, shortened
from domain_twin.learning.models.gan_start import own
from domain_twin.learning.panel import Panel
from domain_twin.learning.rivals import block_bootstrap, copula
from domain_twin.learning.synthetic import generate
from domain_twin.learning.task import Feature, Kind, Task
from domain_twin.model import Origin
from domain_twin.southbound.replay import ReplaySession, read_recording

TASK = Task(
    "telemetry", Kind.GAN, "link",
    (
        Feature("ndt:utilisation", "1"),
        Feature("ndt:one_way_delay", "ms"),
        Feature("ndt:carried_rate", "Mbit/s"),
    ),
    step_s=60.0, batch=16,
    settings={"window": 32, "scales": 6, "hidden": 16, "critic": 16, "steps": 4},
)  # fmt: skip


def telemetry(seed: int = 0, steps: int = 3000) -> Panel:
    """A link whose load wanders through the day; delay follows it, rate is quantised."""
    rng = np.random.default_rng(seed)
    slow = np.zeros(steps)
    for step in range(1, steps):
        slow[step] = 0.97 * slow[step - 1] + 0.25 * rng.standard_normal()
    day = np.sin(2 * np.pi * np.arange(steps) / 1440)
    load = 1 / (1 + np.exp(-(slow + day - 0.5 + 0.2 * rng.standard_normal(steps))))
    delay = 2 + 1 / (1.05 - load) + rng.exponential(0.1, steps)
    values = np.stack([load, delay, np.round(load * 200)], axis=1)[None]
    return Panel(("link-1",), tuple(f.kpi for f in TASK.features), values, 0, 60.0, int(steps * 0.8))


@pytest.fixture(scope="module")
def panel() -> Panel:
    return telemetry()


@pytest.fixture(scope="module")
def begun(panel: Panel) -> Arrays:
    """A generator as the first round begins it, without jax."""
    pytest.importorskip("jax")
    made = learner(TASK)
    arrays = made.initial(np.random.default_rng(0))
    return own(arrays, panel, 4, np.random.default_rng(0)).arrays


def test_marginals_come_back_from_normal_scores(panel: Panel) -> None:
    values = panel.training()
    marginals = Marginals.fit(values)
    scores = marginals.scores(values, np.random.default_rng(0))
    back = marginals.values(scores)
    assert np.abs(scores.mean((0, 1))).max() < 0.05
    assert np.abs(scores.std((0, 1)) - 1).max() < 0.05
    assert np.allclose(back[..., :2], values[..., :2], rtol=0.02)
    assert marginals.resolution.tolist() == [0.0, 0.0, 1.0]
    assert np.array_equal(back[..., 2], np.round(back[..., 2]))


def test_marginals_survive_being_arrays_of_a_model(panel: Panel) -> None:
    marginals = Marginals.fit(panel.training())
    (again,) = Marginals.unpacked(packed([marginals]))
    assert np.allclose(again.levels, marginals.levels, rtol=1e-4)
    assert np.array_equal(again.resolution, marginals.resolution)


def test_marginals_hold_no_sample(panel: Panel) -> None:
    levels = Marginals.fit(panel.training()).levels[:2]
    samples = panel.training()[0, :, :2].T
    assert not any(np.isin(one, other).any() for one, other in zip(levels, samples, strict=True))


@pytest.mark.parametrize(("step", "told"), [(0.5, 0.5), (20.0, 20.0), (3.0, 1.0), (0.0, 0.0)])
def test_the_grid_of_values_is_told_and_no_difference_of_two(step: float, told: float) -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(3, 40, 2000) * step if step else rng.random(2000)
    assert Marginals.fit(values[:, None]).resolution == pytest.approx(told)


def test_readings_that_a_device_repeats_are_repeated_together() -> None:
    rng = np.random.default_rng(0)
    wanted = np.array([0.65, 0.55, 0.02])
    made = held(rng.standard_normal((9000, 3)), np.array([0.6, 0.5, 0.0]), rng)
    still = made[1:] == made[:-1]
    assert still.mean(0) == pytest.approx([0.6, 0.5, 0.0], abs=0.02)
    assert not (still[:, 1] & ~still[:, 0]).any()
    coarse = np.round(rng.standard_normal((9000, 3)) * 2)
    again = held(coarse, shares(wanted, coarse), np.random.default_rng(2))
    assert unchanged(again[None])[:2] == pytest.approx(wanted[:2], abs=0.03)
    assert shares(wanted, coarse)[2] == 0  # as good as none


def test_too_few_values_are_refused() -> None:
    with pytest.raises(ContractError, match="150 known values and 200 are needed"):
        Marginals.fit(np.random.default_rng(0).random((1, 150, 2)))


def test_generated_series_are_like_the_data(panel: Panel, begun: Arrays) -> None:
    made = generate(begun, TASK, None, 20_000, np.random.default_rng(1)).values
    found = quick(made, panel.training())
    assert found["w1"] < 0.1
    assert found["acf_mse"] < 0.03
    assert found["correlation_error"] < 0.15


def test_any_length_without_seams_and_the_same_for_a_seed(begun: Arrays) -> None:
    one = generate(begun, TASK, None, 25_000, np.random.default_rng(3), elements=2)
    other = generate(begun, TASK, None, 25_000, np.random.default_rng(3), elements=2)
    assert np.array_equal(one.values, other.values)
    assert one.elements == ("synthetic-1", "synthetic-2")
    assert not np.array_equal(one.values[0], one.values[1])
    steps = np.abs(np.diff(one.values[0, :, 0]))
    assert steps[19_999] < np.quantile(steps, 0.9999) + 0.05  # where parts are laid together


@pytest.mark.parametrize(("rows", "elements"), [(0, 1), (1, 0), (1_000_001, 1), (600_000, 2)])
def test_lengths_that_cannot_be_are_refused(begun: Arrays, rows: int, elements: int) -> None:
    with pytest.raises(ContractError, match="at most 1000000 rows in all"):
        generate(begun, TASK, None, rows, np.random.default_rng(0), elements=elements)


def test_a_model_that_was_never_trained_is_refused() -> None:
    pytest.importorskip("jax")
    arrays = learner(TASK).initial(np.random.default_rng(0))
    with pytest.raises(ContractError, match="was never trained"):
        generate(arrays, TASK, None, 10, np.random.default_rng(0))


def test_arrays_of_another_task_are_refused(begun: Arrays) -> None:
    other = replace(TASK, settings={**TASK.settings, "scales": 4})
    with pytest.raises(ContractError, match=r"is \[3, 22, 3\], this task's is \[3, 16, 3\]"):
        generate(begun, other, None, 10, np.random.default_rng(0))


def test_another_kind_of_model_is_refused(begun: Arrays) -> None:
    with pytest.raises(ContractError, match="only a gan makes synthetic series"):
        generate(begun, replace(TASK, kind=Kind.VAE), None, 10, np.random.default_rng(0))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"width": 3}, "setting 'width' is unknown to a GAN"),
        ({"clock": "moon"}, "clock is 'moon'"),
        ({"window": "wide"}, "window is 'wide', not a number"),
        ({"window": 40}, "multiple of 16"),
        ({"hidden": 1e9}, r"hidden is 1e\+09"),
    ],
)
def test_settings_that_a_gan_does_not_know_are_refused(settings: dict[str, float | str], said: str) -> None:
    pytest.importorskip("jax")
    with pytest.raises(ConfigError, match=said):
        learner(replace(TASK, settings=settings))


@pytest.mark.slow
@pytest.mark.timeout(900)  # jax compiles for half a minute of CPU
def test_training_gives_arrays_of_the_same_form_and_judges_them(panel: Panel) -> None:
    pytest.importorskip("jax")
    made = learner(TASK)
    arrays = made.initial(np.random.default_rng(0))
    trained = made.train(arrays, panel, np.random.default_rng(1))
    assert {n: a.shape for n, a in trained.arrays.items()} == {n: a.shape for n, a in arrays.items()}
    assert all(np.isfinite(array).all() for array in trained.arrays.values())
    assert all(array.dtype == np.float32 for array in trained.arrays.values())
    assert trained.samples == 2400 - 32 + 1
    judged = made.evaluate(trained.arrays, panel)
    assert judged["loss"] < judged["naive:copula"] * 3
    assert {"naive:bootstrap", "w1", "acf_mse", "correlation_error"} <= set(judged)
    with pytest.raises(ContractError, match=r"array 'critic\.out' is missing"):
        made.train(
            {n: a for n, a in trained.arrays.items() if n != "critic.out"}, panel, np.random.default_rng(1)
        )


def test_a_history_full_of_gaps_is_refused(panel: Panel) -> None:
    pytest.importorskip("jax")
    values = panel.values.copy()
    values[:, ::20] = np.nan
    made = learner(TASK)
    with pytest.raises(ContractError, match="has 0 windows of 32 steps without gaps"):
        made.train(
            made.initial(np.random.default_rng(0)), replace(panel, values=values), np.random.default_rng(0)
        )


def test_a_bootstrap_is_found_out_and_a_copula_is_not(panel: Panel) -> None:
    rng = np.random.default_rng(5)
    whole = panel.values[0]
    inside = np.concatenate([whole[at : at + 300] for at in range(0, 3000, 600)])[None]
    outside = np.concatenate([whole[at : at + 300] for at in range(300, 3000, 600)])[None]
    copied = membership(block_bootstrap(inside, 6000, rng)[None], inside, outside, window=12)
    drawn = membership(copula(inside, 6000, rng)[None], inside, outside, window=12)
    assert copied.best > 0.8 > np.quantile(copied.chance, 0.99)
    assert copied.ratio < 0.2
    assert drawn.best < 0.65


def test_a_bootstrap_never_joins_over_a_gap(panel: Panel) -> None:
    values: NDArray[np.float64] = panel.values[0].copy()
    values[::50] = np.nan
    assert np.isfinite(block_bootstrap(values, 5000, np.random.default_rng(0))).all()


def test_one_step_changes_private_sums_no_more_than_noise_is_made_for() -> None:
    rng = np.random.default_rng(0)
    whole = rng.standard_t(2, (1, 60, 4)) * 5
    whole[0, 20:40] = whole[0, 20]  # nothing adds up more than equal steps
    lags = [0, 1, 3]
    scores, longest = shortened(whole)
    sums, most = products(scores, lags, longest)
    changes = []
    for step in range(60):
        without = whole.copy()
        without[0, step, 0] = np.nan
        less, _ = products(shortened(without)[0], lags, longest)
        changes.append(np.linalg.norm(sums - less))
    assert 0.9 * most < max(changes) <= most * (1 + 1e-9)


def test_noise_is_for_all_that_is_told_together() -> None:
    import dp_accounting
    from dp_accounting import rdp

    accountant = rdp.RdpAccountant()
    accountant.compose(dp_accounting.GaussianDpEvent(noise_multiplier(2.0)), 4)
    assert 1.99 < accountant.get_epsilon(1e-5) <= 2.0
    with pytest.raises(ConfigError, match=r"epsilon is 0; 0\.05 to 100"):
        noise_multiplier(0.0)


def test_private_statistics_make_series_like_the_data(panel: Panel) -> None:
    pytest.importorskip("jax")
    task = replace(TASK, settings={**TASK.settings, "regimes": 1})
    nothing = learner(task).initial(np.random.default_rng(0))
    told = [private_own(nothing, panel, 4, 8.0, np.random.default_rng(seed)) for seed in (0, 1)]
    found = quick(generate(told[0], task, None, 6_000, np.random.default_rng(1)).values, panel.training())
    assert found["w1"] < 0.15
    assert found["correlation_error"] < 0.2
    for name in ("marginals.levels", "generator.direct"):
        assert not np.allclose(told[0][name], told[1][name], rtol=1e-4)  # of the same data
    with pytest.raises(ContractError, match="one regime, not 3"):
        private_own(learner(TASK).initial(np.random.default_rng(0)), panel, 4, 8.0, np.random.default_rng(0))


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_an_export_says_that_it_is_synthetic(begun: Arrays, tmp_path: Path, form: str) -> None:
    done = export_synthetic(begun, TASK, None, tmp_path / "set", rows=30, elements=2, seed=4, form=form)
    card = json.loads(done.card.read_text())
    assert card["synthetic"] is True
    assert card["fidelity"] == "not measured"
    assert card["seed"] == 4
    assert card["kpis"][1] == {"term": "ndt:one_way_delay", "unit": "ms"}
    if form == "csv":
        rows = list(csv.DictReader(done.data.read_text().splitlines()))
    else:
        from pyarrow import parquet

        rows = parquet.read_table(done.data).to_pylist()
    assert len(rows) == done.rows == 60
    assert {row["origin"] for row in rows} == {"synthetic"}
    assert {row["element"] for row in rows} == {"synthetic-1", "synthetic-2"}


async def test_an_exported_recording_replays_as_a_device(begun: Arrays, tmp_path: Path) -> None:
    done = export_synthetic(begun, TASK, None, tmp_path / "set", rows=5, seed=4)
    assert done.recording is not None
    batches = list(read_recording(done.recording))
    assert {update.origin for batch in batches for update in batch.updates} == {Origin.SYNTHETIC}
    data = list(csv.DictReader(done.data.read_text().splitlines()))
    session = ReplaySession("synthetic", ReplayConfig(file=done.recording, speed=1e6))
    last = await session.get(["/fedtwin-performance:performance"])
    held = {update.path.rpartition("/")[2]: update.value for update in last.updates}
    assert held["link-id"] == "synthetic-1"
    assert held["one-way-delay"] == pytest.approx(float(data[-1]["ndt:one_way_delay"]) * 1000)
    assert held["utilisation"] == pytest.approx(float(data[-1]["ndt:utilisation"]))


def test_an_export_overwrites_nothing(begun: Arrays, tmp_path: Path) -> None:
    (tmp_path / "held").write_text("mine")
    with pytest.raises(Conflict, match="nothing is overwritten"):
        export_synthetic(begun, TASK, None, tmp_path / "held", rows=5)
    panel = generate(begun, TASK, None, 5, np.random.default_rng(0))
    with pytest.raises(Conflict, match="name another file"):
        write_recording(tmp_path / "held", panel, TASK)
    assert (tmp_path / "held").read_text() == "mine"


def test_an_unknown_form_is_refused(begun: Arrays, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="csv or parquet"):
        export_synthetic(begun, TASK, None, tmp_path / "set", rows=5, form="xlsx")


def test_a_kpi_that_no_device_reports_is_not_recorded(begun: Arrays, tmp_path: Path) -> None:
    other = replace(TASK, element_kind="network-function")
    with pytest.raises(ContractError, match="export without a recording"):
        export_synthetic(begun, other, None, tmp_path / "set", rows=5)
    assert not (tmp_path / "set").exists()
    assert export_synthetic(begun, other, None, tmp_path / "set", rows=5, record=False).recording is None
