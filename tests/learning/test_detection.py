"""Watching: what normal drift is, told by all domains; thresholds, hysteresis and evidence."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from learning_parts import holding, in_process
from scipy.signal import lfilter

from domain_twin.errors import ConfigError, ContractError
from domain_twin.learning.client import Standardised
from domain_twin.learning.detect import Detection, Onset, Watch, threshold
from domain_twin.learning.learner import Arrays, learner
from domain_twin.learning.models import detector
from domain_twin.learning.panel import Panel
from domain_twin.learning.task import Feature, Kind, Profile, Task
from federation.learning.grid import CarriedGrid
from federation.learning.rounds import Plan, train

KPIS = ("ndt:one_way_delay", "ndt:utilisation", "ndt:carried_rate")
TASK = Task(
    "faults",
    kind=Kind.DETECTOR,
    features=tuple(Feature(kpi, "1") for kpi in KPIS),
    lags=8,
    rounds=1,
    settings={"smooth": 3},
)


def panel(seed: int, *, steps: int = 900, elements: int = 2, drift: float = 0.0) -> Panel:
    """A load that wanders, which the rate follows and the delay does not."""
    rng = np.random.default_rng(seed)
    wander = lfilter([0.15], [1.0, -0.97], rng.normal(0, 1, (elements, steps)))
    wander += drift * rng.normal(0, 1, (elements, steps)).cumsum(axis=1)
    load = 0.5 + 0.1 * wander + rng.normal(0, 0.02, (elements, steps))
    rate = 1000 * load + rng.normal(0, 5, (elements, steps))
    delay = 4 + rng.normal(0, 0.2, (elements, steps))
    names = tuple(f"link-{seed}-{number}" for number in range(elements))
    return Panel(names, KPIS, np.stack([delay, load, rate], axis=2), 0, 60.0, round(steps * 0.8))


@pytest.fixture(scope="module")
def trained() -> Arrays:
    with in_process({f"d{seed}": holding(panel(seed)) for seed in range(3)}) as domains:
        outcome = train(TASK, CarriedGrid(domains, "faults"), plan=Plan(deadline_s=60.0, explain=False))
    assert not outcome.problem
    return outcome.arrays


def shifted(whole: Panel, start: int, length: int, change: np.ndarray, feature: int = 0) -> Panel:
    values = whole.values.copy()
    values[1, start : start + length, feature] += change
    return replace(whole, values=values)


def seen(trained: Arrays, whole: Panel) -> tuple[list[Detection], list[Detection]]:
    return Watch.of(TASK, trained, whole).observe(whole)


def test_model_is_what_all_domains_say_of_drift(trained: Arrays) -> None:
    model = learner(TASK)
    assert isinstance(model, Standardised)

    said = [model.statistics(panel(seed)) for seed in range(3)]

    wanted = model.standardised(model.initial(np.random.default_rng(0)), said)
    for name, array in wanted.items():
        np.testing.assert_allclose(trained[name], array, atol=1e-6)


def test_faults_are_told_from_drift_better_than_by_plain_t2q() -> None:
    model = learner(TASK)

    drifting = [panel(seed, drift=0.1) for seed in range(3)]
    start = model.initial(np.random.default_rng(0))
    arrays = model.standardised(start, [model.statistics(one) for one in drifting])  # type: ignore[attr-defined]

    measures = [model.evaluate(arrays, one) for one in drifting]

    ours, plain = (np.mean([m[name] for m in measures]) for name in ("loss", "naive:t2q"))
    assert ours < plain


def test_jump_is_detected_at_once_with_its_kpi_as_evidence(trained: Arrays) -> None:
    whole = shifted(panel(1), 800, 60, np.full(60, 3.0))

    began, ended = seen(trained, whole)

    (found,) = [one for one in began if one.detected_at > 790 * 60e9]
    assert (found.element, found.onset) == ("link-1-1", Onset.JUMP)
    assert found.started_at == 800 * 60_000_000_000
    assert found.detected_at <= 803 * 60_000_000_000
    assert found.score > 1
    assert found.evidence[0].kpi == KPIS[0]
    assert found.evidence[0].value > 6 > found.evidence[0].expected > 2
    assert found in ended


def test_creeping_change_is_called_a_drift(trained: Arrays) -> None:
    whole = shifted(panel(1), 780, 100, np.linspace(0.0, 4.0, 100))

    began, _ = seen(trained, whole)

    found = [one for one in began if one.element == "link-1-1" and one.detected_at > 780 * 60e9]
    assert found
    assert found[0].onset is Onset.DRIFT
    assert 780 <= found[0].started_at / 60e9 < found[0].detected_at / 60e9


def test_healthy_elements_raise_no_alarms(trained: Arrays) -> None:
    began = [seen(trained, panel(seed))[0] for seed in range(3)]

    assert sum(map(len, began)) <= 5  # 45 hours in all, one false alarm a day wanted


def test_steps_are_taken_once_however_they_come(trained: Arrays) -> None:
    whole = shifted(panel(1), 800, 60, np.full(60, 3.0))
    watch = Watch.of(TASK, trained, whole)
    at_once = watch.alarmed(whole)

    began = []
    for last in range(700, 901, 7):
        part = whole.values[:, max(0, last - 200) : last]
        start = max(0, last - 200) * 60_000_000_000
        began += watch.observe(Panel(whole.elements, KPIS, part, start, 60.0, part.shape[1]))[0]
        began += watch.observe(Panel(whole.elements, KPIS, part, start, 60.0, part.shape[1]))[0]

    assert [one.element for one in began] == ["link-1-1"]
    assert at_once[1, 802:860].all()


def test_one_high_step_raises_nothing_and_one_low_step_clears_nothing(trained: Arrays) -> None:
    watch = Watch.of(TASK, trained, panel(1))
    state = watch._states[0]

    turned = [state.takes(score) for score in (2.0, 0.1, 1.2, 1.1, 0.5, 0.9, 0.5, 0.6, 0.1, 0.1)]

    assert turned == [None, None, None, True, None, None, None, None, False, None]


def test_what_is_not_known_neither_raises_nor_clears(trained: Arrays) -> None:
    whole = shifted(panel(1), 800, 60, np.full(60, 3.0))
    values = whole.values.copy()
    values[1, 830:] = np.nan
    watch = Watch.of(TASK, trained, whole)

    _, ended = watch.observe(replace(whole, values=values))

    assert "link-1-1" in [one.element for one in watch.standing]
    assert not [one for one in ended if one.detected_at > 790 * 60e9]


def test_missing_kpi_is_left_out_of_the_score(trained: Arrays) -> None:
    whole = panel(1)
    values = whole.values.copy()
    values[:, :, 2] = np.nan
    z = detector.reference(whole.values).to_z(values)

    scores = detector.scores(trained, z, 3.0)

    assert np.isfinite(scores).all()
    assert 0.2 < np.median(scores) < 2


def test_value_that_never_changed_is_seen_to_change(trained: Arrays) -> None:
    whole = panel(1)
    values = whole.values.copy()
    values[:, :, 0] = 0.0
    values[1, 800:860, 0] = 0.05

    began, _ = seen(trained, replace(whole, values=values))

    assert "link-1-1" in [one.element for one in began if one.detected_at > 790 * 60e9]


def test_fewer_false_alarms_need_a_higher_threshold() -> None:
    usual = np.abs(np.random.default_rng(0).normal(1, 0.2, (3, 500)))

    limits = [threshold(usual, 60.0, per_day) for per_day in (0.1, 1.0, 10.0)]

    assert limits == sorted(limits, reverse=True)
    assert limits[0] > usual.mean()
    with pytest.raises(ContractError, match="nothing is known"):
        threshold(np.full((1, 9), np.nan), 60.0, 1.0)


def test_one_lying_domain_does_not_blind_the_others() -> None:
    model = learner(TASK)
    assert isinstance(model, Standardised)
    start = model.initial(np.random.default_rng(0))
    said = [model.statistics(panel(seed)) for seed in range(3)]
    honest = model.standardised(start, said)

    made = model.standardised(start, [{name: array + 9 for name, array in said[0].items()}, *said[1:]])

    # The mean would be 3 off.
    assert np.abs(made["drift.log"] - honest["drift.log"]).max() < 1.0


def test_statistics_hold_no_sample() -> None:
    said = learner(TASK).statistics(panel(1))  # type: ignore[attr-defined]

    assert sum(array.size for array in said.values()) == 2 * 3 + 2 * 9


def test_fit_to_other_elements_is_refused(trained: Arrays) -> None:
    with pytest.raises(ContractError, match="fit it to these"):
        Watch.of(TASK, trained, panel(1)).observe(panel(2))


def test_too_short_a_history_is_refused(trained: Arrays) -> None:
    with pytest.raises(ContractError, match="at least 40"):
        Watch.of(TASK, trained, panel(1, steps=30))
    with pytest.raises(ContractError, match="longer history"):
        learner(TASK).train(trained, panel(1, steps=30), np.random.default_rng(0))


def test_forecaster_watches_nothing(trained: Arrays) -> None:
    with pytest.raises(ContractError, match="watches nothing"):
        Watch.of(replace(TASK, kind=Kind.FORECASTER), trained, panel(1))


def test_vae_watches_too() -> None:
    task = replace(TASK, kind=Kind.VAE, settings={"hidden": 4, "latent": 2})
    model = learner(task)
    assert isinstance(model, Standardised)
    whole = shifted(panel(1, steps=500), 440, 30, np.full(30, 4.0))
    arrays = model.initial(np.random.default_rng(0))
    arrays = model.standardised(arrays, [model.statistics(whole)])

    began, _ = Watch.of(task, arrays, whole).observe(whole)

    found = [one for one in began if one.element == "link-1-1" and 439 * 60e9 < one.detected_at < 450 * 60e9]
    assert found
    assert found[0].evidence[0].kpi == KPIS[0]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"settings": {"layers": 3}}, "no setting 'layers'"),
        ({"settings": {"smooth": "much"}}, "settings are numbers"),
        ({"settings": {"smooth": 0}}, "half-life of more than 0"),
        ({"features": ()}, "at least one feature"),
        ({"profile": Profile.PRIVATE}, "profile 'private'"),
    ],
)
def test_tasks_that_cannot_be_are_refused(change: dict, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        learner(replace(TASK, **change))
