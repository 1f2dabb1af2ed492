"""The engine's residual: fitted together from sums, as if all rows lay in one place, and safe from lies."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np
import pytest
from learning_parts import Tampering, answer_to, holding, in_process, run
from raw_samples import Scanner

from domain_twin.errors import ConfigError, ContractError
from domain_twin.learning.flower import MetricRecord, RecordDict, arrays_in, decode, record_of
from domain_twin.learning.learner import Arrays, learner
from domain_twin.learning.models import residual
from domain_twin.learning.panel import Panel
from domain_twin.learning.presets import preset
from domain_twin.learning.task import Profile, Task
from domain_twin.simulation.learned.load_curve import BINS, LoadCurve, Rows, solved, sums
from federation.learning.rounds import Plan

TASK = dataclasses.replace(preset("residual"), step_s=1.0)
TRUSTED = dataclasses.replace(TASK, profile=Profile.TRUSTED)
PLAN = Plan(deadline_s=30.0, explain=False)
SERVICE_MS = 20 * 1000 * 8 / 1e6  # trains of 20 packets of 1,000 octets at 1 Gbit/s
CALIBRATED = dict(zip(residual.TRAFFIC, (1000.0, 20.0, 1.0), strict=True))
LOADS = {"core": (0.2, 0.35), "edge": (0.05, 0.15), "ran": (0.1, 0.3), "transport": (0.3, 0.6)}


def panel(domain: str, *, grows: float = 0.8, steps: int = 400, links: int = 4) -> Panel:
    """Links as M/M/1 queues of trains, whose waits are more than the law's by `grows` times the load."""
    rng = np.random.default_rng(sum(map(ord, domain)))
    low, high = LOADS[domain]
    values = np.empty((links, steps, 4))
    for link, middle in enumerate(np.linspace(low, high, links)):
        wave = middle * (1 + 0.5 * np.sin(2 * np.pi * np.arange(steps) / 150 + link))
        load = np.clip(wave * (1 + 0.03 * rng.standard_normal(steps)), 0.01, 0.92)
        wait = SERVICE_MS * load / (1 - load)
        noise = 1 + 0.01 * rng.standard_normal((2, steps))
        delay = (link + 1.0 + SERVICE_MS + wait * (1 + grows * load)) * noise[0]
        columns = load, load * 1000, delay, (SERVICE_MS / (1 - load)) ** 2 * noise[1]
        values[link] = np.stack(columns, axis=1)
    names = tuple(f"secret-link-{domain}-{link}" for link in range(links))
    kpis = tuple(feature.kpi for feature in TASK.features)
    return Panel(names, kpis, values, 0, 1.0, int(steps * 0.75), CALIBRATED)


PANELS = {domain: panel(domain) for domain in LOADS}
SOURCES = {domain: holding(held) for domain, held in PANELS.items()}
LEARNER = residual.make(TASK)
TOLD = {domain: LEARNER.sums(held) for domain, held in PANELS.items()}


def lying(change: Callable[[Arrays], Arrays]) -> Callable[[bytes, bytes], bytes]:
    """Tells `change(sums)` where sums are asked for; all else stays."""

    def tamper(message: bytes, reply: bytes) -> bytes:
        asked, said = decode(message), decode(reply)
        if said.has_error() or asked.metadata.message_type != "query.sums":
            return reply
        made = change(arrays_in(next(iter(said.content.array_records.values()))))
        metrics = MetricRecord(dict(next(iter(said.content.metric_records.values()))))
        return answer_to(asked, RecordDict({"arrays": record_of(made), "metrics": metrics}))

    return tamper


def test_the_fit_of_all_sums_is_that_of_all_rows() -> None:
    with in_process(SOURCES) as carrier:
        outcome = run(carrier, task=TRUSTED, plan=PLAN)

    parts = [LEARNER.rows(held) for held in PANELS.values()]
    pooled = Rows(*(np.concatenate([getattr(part, name) for part in parts]) for name in Rows.__slots__))
    wanted = solved(*sums(pooled), least=residual.LEAST_IN_BIN)
    assert outcome.accepted == 1
    assert outcome.arrays["coefficients"] == pytest.approx(wanted.coefficients, rel=1e-9)
    assert float(outcome.arrays["reach"][0]) == wanted.reach


def test_everyone_errs_less_together_and_the_one_with_little_load_most_on_loads_it_never_had() -> None:
    with in_process(SOURCES) as carrier:
        outcome = run(carrier, task=TASK, plan=dataclasses.replace(PLAN, explain=True))

    assert outcome.contributors == tuple(sorted(LOADS))
    for held in PANELS.values():
        said = LEARNER.evaluate(outcome.arrays, held)
        assert said["loss"] < said["naive:tables"]
    # What edge would make of links as busy as transport's:
    alone = LEARNER.train({}, PANELS["edge"], np.random.default_rng(0)).arrays
    busy = LEARNER.evaluate(alone, PANELS["transport"])["loss"]
    assert LEARNER.evaluate(outcome.arrays, PANELS["transport"])["loss"] < 0.5 * busy
    assert set(outcome.gains) == set(outcome.brought) == set(LOADS)
    assert outcome.brought["transport"] == max(outcome.brought.values()) > 0


def _contradicting(told: Arrays) -> Arrays:
    return told | {"moment": told["moment"] * 1e3}


@pytest.mark.parametrize(
    ("change", "state"),
    [
        (lambda told: told | {"gram": np.full_like(told["gram"], np.nan)}, "malformed"),
        (lambda told: told | {"moment": told["moment"][:2]}, "malformed"),
        (_contradicting, "malformed"),
        (lambda told: told | {"rows": np.array([3.0]), "bins": np.zeros(BINS)}, "malformed"),
        (lambda told: told | {"moment": -20 * told["moment"], "gram": 400 * told["gram"]}, "not-chosen"),
        (lambda told: {name: 1e4 * array for name, array in (told | {"moment": -told["moment"]}).items()},
         "not-chosen"),
    ],
    ids=["nan", "shape", "contradicting", "too few rows", "scaled", "many rows and turned around"],
)  # fmt: skip
def test_one_that_lies_is_left_out(change: Callable[[Arrays], Arrays], state: str) -> None:
    with in_process(SOURCES) as inner:
        outcome = run(Tampering(inner, {"transport": lying(change)}), task=TASK, plan=PLAN)

    assert outcome.rounds[1].domains["transport"].state == state
    assert outcome.contributors == ("core", "edge", "ran")
    for domain in outcome.contributors:
        said = LEARNER.evaluate(outcome.arrays, PANELS[domain])
        assert said["loss"] < said["naive:tables"]


def test_a_fit_that_helps_nobody_is_refused() -> None:
    turned = lying(lambda told: told | {"moment": -told["moment"]})
    with in_process(SOURCES) as inner:
        outcome = run(Tampering(inner, dict.fromkeys(LOADS, turned)), task=TRUSTED, plan=PLAN)

    assert outcome.accepted == 0
    assert "worse than the best so far" in outcome.rounds[1].reason
    assert not outcome.arrays["coefficients"].any()


def test_a_domain_counts_for_a_few_medians_of_rows_at_most() -> None:
    many = {name: 1e5 * array for name, array in TOLD["core"].items()}
    parts = [TOLD["edge"], TOLD["ran"], many]
    robust, used = LEARNER.summed(parts, robust=True)
    plain, _ = LEARNER.summed(parts, robust=False)
    alone, _ = LEARNER.summed([TOLD["core"]], robust=False)
    few, _ = LEARNER.summed([*parts[:2], *[TOLD["core"]] * 4], robust=False)

    assert used == (0, 1, 2)
    assert plain["coefficients"] == pytest.approx(alone["coefficients"], rel=1e-2)
    assert robust["coefficients"] == pytest.approx(few["coefficients"])


def test_several_that_lie_are_left_out_of_many_without_trying_all_choices() -> None:
    honest = [TOLD[domain] for domain in sorted(TOLD)] * 5
    liar = TOLD["transport"] | {
        "moment": -20 * TOLD["transport"]["moment"],
        "gram": 400 * TOLD["transport"]["gram"],
    }
    arrays, used = LEARNER.summed([*honest, liar, liar, liar, liar], robust=True)

    assert used == tuple(range(20))
    said = LEARNER.evaluate(arrays, PANELS["core"])
    assert said["loss"] < said["naive:tables"]


def test_no_message_carries_a_sample_and_planted_ones_are_found() -> None:
    scanners = {domain: Scanner(held, TASK) for domain, held in PANELS.items()}
    with in_process(SOURCES) as inner:
        carrier = Tampering(inner, {})
        run(carrier, task=TASK, plan=dataclasses.replace(PLAN, explain=True))
    with in_process(SOURCES) as inner:
        leaky = lying(lambda told: told | {"moment": PANELS["edge"].values[0, :5, 2]})
        leaking = Tampering(inner, {"edge": leaky})
        run(leaking, task=TASK, plan=PLAN)

    kinds = {decode(data).metadata.message_type for _, data in carrier.sent}
    assert kinds == {"query.sums", "evaluate", "query.alone"}
    assert not [s.findings(data) for _, data in carrier.sent for s in scanners.values() if s.findings(data)]
    assert {domain for domain, data in leaking.sent if scanners["edge"].findings(data)} == {"edge"}


def test_sums_are_over_many_rows_and_name_no_rare_load() -> None:
    rare = PANELS["edge"].values.copy()
    rare[0, 100:110] = [0.9, 900.0, 12.0, 3.0]  # one point of ten intervals
    told = LEARNER.sums(dataclasses.replace(PANELS["edge"], values=rare))
    assert not told["bins"][12:].any()

    short = dataclasses.replace(PANELS["edge"], values=PANELS["edge"].values[:, :160], holdout_from=120)
    with pytest.raises(ContractError, match="points to sum over, 60 at least"):
        LEARNER.sums(short)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rounds": 2}, "one round"),
        ({"element_kind": "cell"}, "is of links"),
        ({"features": TASK.features[:2]}, "needs the feature ndt:one_way_delay"),
        ({"profile": Profile.PRIVATE}, "no noise is added"),
        ({"settings": {"ridge": 1.0}}, "no settings"),
    ],
)
def test_tasks_that_cannot_be_are_refused(changes: Mapping[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        learner(dataclasses.replace(TASK, **changes))


def test_nothing_is_corrected_before_a_round_and_beyond_its_loads() -> None:
    start = LEARNER.initial(np.random.default_rng(0))
    said = LEARNER.evaluate(start, PANELS["core"])
    assert said["loss"] == said["naive:tables"]

    rows = LEARNER.rows(PANELS["transport"])
    curve = LoadCurve(np.full(5, 0.1), 0.3)
    beyond = rows.load > 0.3
    assert np.ptp(((rows.miss - curve.missed(rows)) / rows.unit)[beyond & (rows.reference > 0.3)]) < 1e-9
    assert (curve.missed(rows)[~beyond] != rows.miss[~beyond]).any()


def test_a_share_of_one_is_the_fit_of_all_and_a_share_of_none_the_domains_own() -> None:
    everyone = residual.curve_of(LEARNER.summed(list(TOLD.values()), robust=False)[0])
    alone = residual.curve_of(LEARNER.train({}, PANELS["edge"], np.random.default_rng(0)).arrays)
    half = residual._mixed(alone, everyone, 0.5)

    assert residual._mixed(alone, everyone, 1.0) is everyone
    assert (residual._mixed(alone, everyone, 0.0).coefficients == alone.coefficients).all()
    assert 2 * half.coefficients == pytest.approx(alone.coefficients + everyone.coefficients)
    assert half.reach == alone.reach


def test_a_domain_that_is_like_others_takes_theirs_and_one_that_is_not_goes_its_own_way() -> None:
    everyone, _ = LEARNER.summed(list(TOLD.values()), robust=True)
    odd = panel("ran", grows=-0.6)
    short = dataclasses.replace(PANELS["edge"], values=PANELS["edge"].values[:, 280:], holdout_from=20)
    alike = LEARNER.fitted_here(everyone, PANELS["core"])
    apart = LEARNER.fitted_here(everyone, odd)
    little = LEARNER.fitted_here(everyone, short)

    theirs = LEARNER.evaluate(everyone, PANELS["core"])["loss"]
    assert LEARNER.evaluate(alike, PANELS["core"])["loss"] < 1.05 * theirs
    assert residual.share_of(apart) < 0.5
    loss = LEARNER.evaluate(apart, odd)["loss"]
    assert loss < 0.7 * LEARNER.evaluate(everyone, odd)["loss"]
    assert residual.share_of(little) == residual.share_of(everyone) == 1.0
    assert (little["coefficients"] == everyone["coefficients"]).all()
    assert little["reach"] == everyone["reach"]


def test_rounds_know_tasks_as_everyone_has_them() -> None:
    assert Task.from_json(TASK.to_json()) == TASK
