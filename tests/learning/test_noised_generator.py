"""A generator under `private`: each domain tells noised statistics once, of its own budget."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from learning_parts import DOMAINS
from raw_samples import Scanner
from test_private_rounds import SETUP, Spied, answer, asked, vectors_in, word
from test_synthetic import TASK, telemetry

import federation.learning.noised as server_side
from domain_twin.agent.learner_child import ChildSettings, _Work
from domain_twin.agent.learning_policy import check_amount
from domain_twin.config import LearningConfig
from domain_twin.errors import ConfigError, NotFound, NotShared
from domain_twin.learning.client import Endpoint
from domain_twin.learning.contribution import Absence
from domain_twin.learning.dataset import export_synthetic
from domain_twin.learning.fidelity import quick
from domain_twin.learning.flower import decode
from domain_twin.learning.learner import Arrays, learner
from domain_twin.learning.ledger import Ledger
from domain_twin.learning.models.gan_noised import PLAN, NoisedGenerator
from domain_twin.learning.panel import Panel
from domain_twin.learning.presets import GENERATOR_NOISE
from domain_twin.learning.private import private_app
from domain_twin.learning.secagg import RECORD_KEY_CONFIGS, Stage
from domain_twin.learning.synthetic import generate
from domain_twin.learning.task import Card, Privacy, Profile, Task
from federation.learning.grid import CarriedGrid, InProcess
from federation.learning.reports import Outcome
from federation.learning.rounds import Plan, train
from federation.learning.sums import RoundRefused, Summed

TOLD = replace(
    TASK,
    profile=Profile.PRIVATE,
    rounds=1,
    settings={"scales": 6},
    privacy=Privacy(noise_multiplier=GENERATOR_NOISE),
)
_MASKED = Stage.COLLECT_MASKED_VECTORS
STEPS = (800, 600, 400, 300)
PANELS = {name: telemetry(seed, steps) for seed, (name, steps) in enumerate(zip(DOMAINS, STEPS, strict=True))}


def app(folder: Path, domain: str, **limits: float) -> Any:
    ledger = Ledger(folder / f"{domain}.json", **limits)
    return private_app(lambda _: PANELS[domain], domain=domain, ledger=ledger)


def apps(folder: Path, **limits: float) -> InProcess:
    return InProcess({domain: app(folder, domain, **limits) for domain in DOMAINS})


def trained(carrier: Any, run: str = "run", task: Task = TOLD) -> Outcome:
    return train(task, CarriedGrid(carrier, run), plan=Plan(deadline_s=60.0))


class Seen:
    """One training, and all that was seen of it: inside the domains, on the way, and at the server."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.told: list[Arrays] = []
        self.summed: list[Summed] = []
        tell, add = NoisedGenerator.told, server_side.sum_round

        def telling(model: NoisedGenerator, *asked: Any) -> Arrays:
            self.told.append(tell(model, *asked))
            return self.told[-1]

        def adding(*asked: Any, **more: Any) -> Summed:
            self.summed.append(add(*asked, **more))
            return self.summed[-1]

        patch.setattr(NoisedGenerator, "told", telling)
        patch.setattr(server_side, "sum_round", adding)
        with apps(folder) as inner:
            self.carrier = Spied(inner)
            self.outcome = trained(self.carrier)


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    with pytest.MonkeyPatch.context() as patch:
        return Seen(tmp_path_factory.mktemp("noised"), patch)


def test_a_training_says_what_it_cost_and_how_it_is_protected(seen: Seen) -> None:
    outcome = seen.outcome

    assert (outcome.accepted, outcome.contributors, outcome.scores) == (1, DOMAINS, {})
    assert outcome.privacy_spent == pytest.approx(dict.fromkeys(DOMAINS, 2.0), abs=0.001)
    for domain in DOMAINS:
        (entry,) = Ledger(seen.folder / f"{domain}.json").entries()
        assert (entry.noise_multiplier, entry.rate, entry.steps) == (GENERATOR_NOISE, 1.0, 4)
    (round_,) = outcome.rounds
    assert (round_.strategy, round_.loss) == (server_side.STRATEGY, None)
    (note,) = outcome.notes
    assert "Gaussian noise of 4.3 times what one step of one element can change" in note
    assert "epsilon 2.00 at delta 1e-05" in note


def test_the_model_makes_series_like_the_domains_data(seen: Seen) -> None:
    made = generate(seen.outcome.arrays, TOLD, None, 4_000, np.random.default_rng(0)).values

    found = [quick(made, panel.values) for panel in PANELS.values()]
    assert np.mean([one["w1"] for one in found]) < 1.0  # noise of little data, and of no seed
    assert np.mean([one["correlation_error"] for one in found]) < 0.6


def test_nothing_leaves_but_keys_shares_masked_numbers_and_epsilon(seen: Seen) -> None:
    """No sample, and no count, loss or statistic of one domain either."""
    messages = [data for _, _, data in seen.carrier.sent]
    assert len(messages) == 4 * len(DOMAINS)
    everything = b"".join(messages)
    for panel in PANELS.values():
        scanner = Scanner(replace(panel, values=panel.values[:, :150], holdout_from=150), TOLD)
        assert scanner.findings(everything) == []
        assert scanner.findings(messages[0] + panel.values[0, 5:7, 0].astype("<f4").tobytes())
    for data in messages:
        content = decode(data).content
        assert all(set(record.values()) <= {0, 1} for record in content.metric_records.values())
        assert not any(content.array_records.values())
        for name, record in content.config_records.items():
            assert name == RECORD_KEY_CONFIGS or set(record) <= {"epsilon", "message", "code"}
    for _, stage, data in seen.carrier.sent:
        if stage == _MASKED:
            numbers = np.concatenate([vector.ravel() for vector in vectors_in(data)]) / 2**32
            assert np.abs(np.histogram(numbers, 4, (0, 1))[0] / len(numbers) - 0.25).max() < 0.15


def test_how_much_a_domain_has_and_how_good_it_is_are_not_in_the_sum(seen: Seen) -> None:
    """Every domain counts as one, and nobody's loss is in the sum: neither bears noise."""
    (summed,) = seen.summed

    assert summed.measures == {"loss": 0.0, "naive": 0.0, "worse": 0.0}
    assert len(seen.told) == len(DOMAINS)
    for name, mean in summed.changes.items():
        np.testing.assert_allclose(mean, np.mean([told[name] for told in seen.told], axis=0), atol=1e-6)


def test_what_is_told_twice_bears_other_noise_and_is_of_all_steps(seen: Seen) -> None:
    model, panel = learner(TOLD), PANELS["ran"]
    assert isinstance(model, NoisedGenerator)
    one, other, held = (
        model.told(each, np.random.default_rng(seed))
        for each, seed in ((panel, 0), (panel, 1), (replace(panel, holdout_from=0), 0))
    )

    known = model.told(panel, np.random.default_rng(TOLD.seed))["mixing"]  # everybody knows the task's seed
    assert not any(np.isclose(told["mixing"], known).all() for told in seen.told)
    for name in ("levels", "mixing"):
        assert not np.isclose(one[name], other[name], rtol=1e-4).all()
        assert np.array_equal(one[name], held[name])  # where a holdout would begin plays no part


def test_a_spent_budget_refuses_whatever_the_broker_says_and_after_a_restart(tmp_path: Path) -> None:
    def again(run: str, noise: float) -> Outcome:
        task = replace(TOLD, model=run, privacy=Privacy(epsilon=1e6, noise_multiplier=noise))
        with apps(tmp_path, epsilon=2.5) as carrier:  # other processes, the same files
            return trained(carrier, run, task)

    assert again("first", GENERATOR_NOISE).accepted == 1
    for name, noise in (("another-name", GENERATOR_NOISE), ("little-noise", 0.5)):
        with pytest.raises(
            RoundRefused, match=r"at keys: the domain's privacy budget is spent.*with more noise"
        ) as said:
            again(name, noise)
        assert said.value.spent
    ledger = Ledger(tmp_path / "ran.json", epsilon=2.5)
    assert len(ledger.entries()) == 1
    ledger.check("more-noise", Privacy(noise_multiplier=20.0), PLAN)  # what the refusal says helps


def test_statistics_that_are_none_do_not_leave_their_domain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tell = NoisedGenerator.told

    def telling(model: NoisedGenerator, panel: Panel, rng: np.random.Generator) -> Arrays:
        told = tell(model, panel, rng)
        if panel is PANELS["ran"]:
            told["mixing"][0, 0] = np.nan
        elif panel is PANELS["core"]:
            told["levels"][0, 0] = 1.5
        return told

    monkeypatch.setattr(NoisedGenerator, "told", telling)
    with apps(tmp_path) as inner:
        carrier = Spied(inner)
        with pytest.raises(RoundRefused, match="2 of 4 domains answered at masked updates"):
            trained(carrier)

    sent = [(domain, decode(data)) for domain, stage, data in carrier.sent if stage == _MASKED]
    assert {domain: word(reply) for domain, reply in sent} == {
        name: str(Absence.MALFORMED) if name in {"ran", "core"} else "" for name in DOMAINS
    }
    assert len(Ledger(tmp_path / "ran.json").entries()) == 1  # told of or not, it was made


def test_judgements_are_refused_and_short_windows_cost_nothing(tmp_path: Path) -> None:
    """A loss in a sum would bear no noise."""
    message = asked(Stage.SETUP, SETUP, told=TOLD)
    message.content["config"]["judge"] = True  # type: ignore[index]
    assert word(answer(Endpoint(app(tmp_path, "ran")), message)) == Absence.NOT_SHARED

    short = replace(PANELS["ran"], values=PANELS["ran"].values[:, :150], holdout_from=150)
    ledger = Ledger(tmp_path / "short.json")
    side = Endpoint(private_app(lambda _: short, domain="ran", ledger=ledger))
    assert word(answer(side, asked(Stage.SETUP, SETUP, told=TOLD))) == Absence.TOO_LITTLE
    assert ledger.entries() == ()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rounds": 3}, "has one round, not 3: statistics that are told again cost their epsilon again"),
        ({"settings": {"steps": 5}}, "has no nets: it does not know the setting 'steps'"),
        ({"settings": {"regimes": 3}}, "has one regime, not 3"),
        ({"privacy": Privacy(noise_multiplier=1.0)}, r"spends epsilon 10\.77.*set noise_multiplier to 1\.2"),
    ],
)
def test_tasks_that_a_private_generator_cannot_do_are_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        learner(replace(TOLD, **changes))


def test_an_agent_that_cannot_afford_it_says_so_before_a_round_begins(tmp_path: Path) -> None:
    work = _Work(ChildSettings("ran", str(tmp_path), 4 << 30, 1 << 24, epsilon=2.5))
    work.check(TOLD.to_json())
    Ledger(tmp_path / "privacy.json").spend(
        "demand", Privacy(), replace(PLAN, steps=1), run="r", round_number=1
    )

    with pytest.raises(NotShared, match=r"ran has too little of its privacy left.*ask with more noise"):
        work.check(TOLD.to_json())
    lax = replace(TOLD, privacy=Privacy(delta=1e-3, noise_multiplier=GENERATOR_NOISE))
    with pytest.raises(NotShared, match=r"at delta 1e-05 at most, and the task at 0\.001"):
        work.check(lax.to_json())
    (tmp_path / "privacy.json").write_text("{")
    with pytest.raises(NotShared) as said:
        work.check(TOLD.to_json())
    assert str(tmp_path) not in str(said.value)  # it goes to the broker


def test_a_window_without_holdout_is_enough(tmp_path: Path) -> None:
    panel = replace(PANELS["ran"], holdout_from=PANELS["ran"].steps)

    check_amount(LearningConfig(), "ran", panel, judges=False)
    with pytest.raises(NotFound, match="0 values of a KPI to judge on"):
        check_amount(LearningConfig(), "ran", panel)


def test_an_export_says_what_its_statistics_cost(seen: Seen, tmp_path: Path) -> None:
    outcome = seen.outcome
    card = Card(
        "telemetry", 1, TOLD, (), 0, "run", 1, outcome.contributors, privacy_spent=outcome.privacy_spent
    )
    done = export_synthetic(outcome.arrays, TOLD, card, tmp_path / "set", rows=20, record=False)

    stated = json.loads(done.card.read_text())["differential_privacy"]
    assert stated["record"] == "one step of one element"
    assert stated["epsilon"] == pytest.approx(dict.fromkeys(DOMAINS, 2.0), abs=0.001)
    assert (stated["delta"], stated["noise_multiplier"]) == (1e-5, GENERATOR_NOISE)
