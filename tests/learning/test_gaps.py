"""Completing what is missing: trained federated, never worse than a line, marked, with honest intervals."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from domain_twin.errors import ConfigError, ContractError
from domain_twin.learning.client import Standardised, client_app
from domain_twin.learning.gaps import Filled, Filler
from domain_twin.learning.learner import Arrays, learner
from domain_twin.learning.models import vae
from domain_twin.learning.panel import Panel
from domain_twin.learning.task import Feature, Kind, Profile, Task
from federation.learning.grid import CarriedGrid, InProcess
from federation.learning.rounds import Plan, train

KPIS = ("ndt:carried_rate", "ndt:utilisation", "ndt:one_way_delay")
TASK = Task(
    "complete",
    kind=Kind.VAE,
    features=tuple(Feature(kpi, "1") for kpi in KPIS),
    lags=12,
    rounds=1,
    batch=64,
    learning_rate=2e-3,
    settings={"hidden": 12, "latent": 4},
)


def panel(seed: int, *, steps: int = 700) -> Panel:
    """A load that two other KPIs follow, each with some noise of its own."""
    rng = np.random.default_rng(seed)
    load = 50 + 20 * np.sin(np.arange(steps) / 9 + seed) + rng.normal(0, 8, steps).cumsum() * 0.05
    load = load + rng.normal(0, 6, steps)
    other = 0.01 * load + rng.normal(0, 0.02, steps)
    delay = 1 + 0.05 * load + rng.normal(0, 0.2, steps)
    values = np.stack([load, other, delay], axis=1)[None]
    return Panel((f"link-{seed}",), KPIS, values, 0, TASK.step_s, int(steps * 0.8))


@pytest.fixture(scope="module")
def trained() -> Arrays:
    apps = {f"d{seed}": client_app(lambda _, seed=seed: panel(seed), domain=f"d{seed}") for seed in range(3)}
    with InProcess(apps) as domains:
        outcome = train(TASK, CarriedGrid(domains, "gaps"), plan=Plan(deadline_s=120.0, explain=False))
    assert outcome.accepted
    return outcome.arrays


def damaged(whole: Panel, *, lost: slice, feature: int | slice) -> Panel:
    values = whole.values.copy()
    values[0, lost, feature] = np.nan
    return replace(whole, values=values)


def filled(trained: Arrays, seed: int, lost: slice, feature: int | slice) -> tuple[Panel, Filled]:
    whole = panel(seed)
    return whole, Filler.of(TASK, trained, whole).fill(damaged(whole, lost=lost, feature=feature))


def test_federated_model_beats_lines_where_a_kpi_is_missing(trained: Arrays) -> None:
    whole = panel(1)
    filler = Filler.of(TASK, trained, whole)
    ours, lines = [], []
    for start in range(580, 680, 9):
        lost = slice(start, start + 5)
        made = filler.fill(damaged(whole, lost=lost, feature=1))
        ends = whole.values[0, [start - 1, start + 5], 1]
        line = np.interp(np.arange(start, start + 5), [start - 1, start + 5], ends)
        ours.append(np.abs(made.values[0, lost, 1] - whole.values[0, lost, 1]).mean())
        lines.append(np.abs(line - whole.values[0, lost, 1]).mean())

    assert np.mean(ours) < 0.8 * np.mean(lines)


def test_moments_rest_on_five_values_for_each_number_or_do_not_leave() -> None:
    model = learner(TASK)
    said = model.statistics(panel(1, steps=400))  # type: ignore[attr-defined]
    told = said["moments.mean"].size + np.triu(said["moments.second"]).astype(bool).sum()
    short = panel(1, steps=350)

    with pytest.raises(ContractError, match="3 KPIs are 135 numbers, for which 225 values of each KPI are"):
        model.statistics(short)  # type: ignore[attr-defined]
    with pytest.raises(ContractError, match="a longer history, or fewer KPIs"):
        model.train(model.initial(np.random.default_rng(0)), short, np.random.default_rng(0))

    assert told == 135


def test_what_was_measured_stays_and_what_was_not_is_marked(trained: Arrays) -> None:
    whole, made = filled(trained, 1, slice(600, 605), 1)

    assert made.imputed.sum() == 5
    assert made.imputed[0, 600:605, 1].all()
    np.testing.assert_array_equal(made.values[~made.imputed], whole.values[~made.imputed])
    assert (made.low <= made.values).all()
    assert (made.values <= made.high).all()
    assert (made.low < made.high)[made.imputed].all()


def test_intervals_hold_nine_of_ten(trained: Arrays) -> None:
    whole = panel(2)
    filler = Filler.of(TASK, trained, whole)
    rng = np.random.default_rng(0)
    values = whole.values.copy()
    hidden = np.zeros(values.shape, bool)
    hidden[:, 560:] = rng.random((1, 140, 3)) < 0.2
    values[hidden] = np.nan

    made = filler.fill(replace(whole, values=values))

    inside = ((whole.values >= made.low) & (whole.values <= made.high))[hidden].mean()
    assert 0.75 < inside <= 1.0


def test_live_gap_is_filled_up_to_the_end(trained: Arrays) -> None:
    _, made = filled(trained, 1, slice(696, 700), slice(None))

    assert made.imputed[0, 696:].all()


def test_gap_longer_than_half_a_window_stays(trained: Arrays) -> None:
    _, made = filled(trained, 1, slice(600, 640), slice(None))

    assert np.isnan(made.values[0, 600:640]).all()
    assert not made.imputed.any()


def test_gate_follows_the_line_where_the_model_is_no_good(trained: Arrays) -> None:
    bad = dict(trained)
    bad["decoder.out"] = np.full_like(bad["decoder.out"], 3.0)
    whole = panel(1)

    filler = Filler.of(TASK, bad, whole)

    assert not filler.share.any()
    made = filler.fill(damaged(whole, lost=slice(600, 603), feature=1))
    ends = whole.values[0, [599, 603], 1]
    assert (
        (made.values[0, 600:603, 1] > ends.min() - 0.1) & (made.values[0, 600:603, 1] < ends.max() + 0.1)
    ).all()


def test_gaps_of_other_elements_are_refused(trained: Arrays) -> None:
    filler = Filler.of(TASK, trained, panel(1))

    with pytest.raises(ContractError, match="fit it to these"):
        filler.fill(panel(2))


def test_too_short_a_history_is_refused(trained: Arrays) -> None:
    with pytest.raises(ContractError, match="a longer history"):
        Filler.of(TASK, trained, panel(1, steps=40))
    with pytest.raises(ContractError, match="a longer history"):
        learner(TASK).train(trained, panel(1, steps=20), np.random.default_rng(0))


def test_constant_series_are_trained_on_and_filled() -> None:
    whole = replace(panel(1), values=np.full((1, 700, 3), 4.0))
    model = learner(TASK)

    arrays = model.train(model.initial(np.random.default_rng(0)), whole, np.random.default_rng(0)).arrays
    made = Filler.of(TASK, arrays, whole).fill(damaged(whole, lost=slice(600, 603), feature=1))

    np.testing.assert_allclose(made.values[0, 600:603, 1], 4.0, rtol=0.2)
    assert np.isfinite(model.evaluate(arrays, whole)["loss"])


def test_one_lying_domain_does_not_decide_the_moments() -> None:
    model = learner(TASK)
    assert isinstance(model, Standardised)
    start = model.initial(np.random.default_rng(0))
    said = [model.statistics(panel(seed)) for seed in range(3)]
    honest = model.standardised(start, said)
    lie = {name: array * -1000 for name, array in said[0].items()}

    made = model.standardised(start, [lie, *said[1:]])

    assert np.abs(made["moments.second"] - honest["moments.second"]).max() < 0.5
    assert np.linalg.eigvalsh(honest["moments.second"]).min() > -1e-3


def test_calibration_part_is_never_trained_on() -> None:
    whole = panel(1)
    values = whole.values.copy()
    values[:, int(whole.holdout_from * (1 - vae.CALIBRATION)) :] = 1e6
    model = learner(TASK)
    start = model.initial(np.random.default_rng(0))

    one = model.train(start, whole, np.random.default_rng(0)).arrays
    other = model.train(start, replace(whole, values=values), np.random.default_rng(0)).arrays

    for name, array in one.items():
        np.testing.assert_array_equal(array, other[name])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"settings": {"layers": 3}}, "no setting 'layers'"),
        ({"settings": {"hidden": "wide"}}, "settings are numbers"),
        ({"settings": {"hidden": 0}}, "hidden is 1 to 1024"),
        ({"lags": 3}, "5 lags or more"),
        ({"profile": Profile.PRIVATE}, "profile 'private'"),
    ],
)
def test_tasks_that_cannot_be_are_refused(change: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        learner(replace(TASK, **change))


def test_numpy_says_what_jax_learned(trained: Arrays) -> None:
    import jax
    import jax.numpy as jnp

    rng = np.random.default_rng(0)
    seen, known = rng.normal(size=(5, 12, 3)), rng.random((5, 12, 3)) > 0.3
    weights = {name: jnp.asarray(array) for name, array in trained.items()}

    ours, _, _, _ = vae._network(trained, seen, known.astype(float), None, np, vae._gelu)
    network = jax.jit(lambda p, x, there: vae._network(p, x, there, None, jnp, jax.nn.gelu)[0])
    theirs = network(weights, seen, known.astype(float))

    np.testing.assert_allclose(ours, theirs, atol=1e-4)
