"""What a domain has spent of its privacy: counted as published, refused beyond a limit, never forgotten."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
from pathlib import Path

import dp_accounting
import pytest
from dp_accounting import rdp

from domain_twin.errors import ConfigError, NotShared
from domain_twin.learning.ledger import BudgetSpent, Ledger, Plan, Spent, epsilon_of, noise_for
from domain_twin.learning.task import Privacy

PLAN = Plan(records=5_000, batch=128, steps=40)
PRIVACY = Privacy(epsilon=4.0, noise_multiplier=1.0)


def spend(ledger: Ledger, times: int, *, model: str = "load", privacy: Privacy = PRIVACY) -> int:
    """How many rounds the ledger allows for, of `times`."""
    for done in range(times):
        try:
            ledger.spend(model, privacy, PLAN, run="run", round_number=done)
        except BudgetSpent:
            return done
    return times


@pytest.mark.parametrize("noise_multiplier", [0.8, 1.0, 2.5])
def test_epsilon_is_that_of_dp_accounting(noise_multiplier: float) -> None:
    spent = [Spent("m", "r", n, noise_multiplier, PLAN.rate, PLAN.steps) for n in range(10)]
    accountant = rdp.RdpAccountant()
    step = dp_accounting.PoissonSampledDpEvent(PLAN.rate, dp_accounting.GaussianDpEvent(noise_multiplier))
    accountant.compose(dp_accounting.SelfComposedDpEvent(step, 10 * PLAN.steps))

    # Fewer orders are tried here: never less than the truth, and hardly more.
    reference = accountant.get_epsilon(1e-5)
    assert reference - 1e-9 <= epsilon_of(spent, 1e-5) <= 1.01 * reference


def test_nothing_spent_is_nothing() -> None:
    assert epsilon_of([], 1e-5) == 0.0


def test_noise_for_an_epsilon_stays_within_it() -> None:
    noise = noise_for(PLAN, 30, epsilon=3.0, delta=1e-5)

    spent = epsilon_of([Spent("m", "", 0, noise, PLAN.rate, PLAN.steps * 30)], 1e-5)
    assert 2.8 < spent <= 3.0


def test_noise_that_is_not_enough_is_refused_in_words() -> None:
    with pytest.raises(ConfigError, match="take fewer rounds"):
        noise_for(Plan(100, 100, 100_000), 100, epsilon=0.01, delta=1e-5)


def test_round_beyond_the_models_budget_is_refused_and_not_entered(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "privacy.json", epsilon=100.0)

    rounds = spend(ledger, 1_000)
    before = ledger.spent("load")

    assert rounds > 3
    assert before <= 4.0
    with pytest.raises(BudgetSpent, match=r"model 'load' is epsilon 4; 3\.\d+ is spent"):
        ledger.spend("load", PRIVACY, PLAN, run="run", round_number=rounds)
    with pytest.raises(BudgetSpent):
        ledger.check("load", PRIVACY, PLAN)
    assert ledger.spent("load") == before


def test_budget_holds_after_a_restart(tmp_path: Path) -> None:
    rounds = spend(Ledger(tmp_path / "privacy.json"), 1_000)

    assert rounds
    assert spend(Ledger(tmp_path / "privacy.json"), 1) == 0


def test_another_models_name_does_not_renew_the_domains_own_budget(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "privacy.json", epsilon=2.0)
    wide = Privacy(epsilon=50.0, noise_multiplier=1.0)

    first = spend(ledger, 1_000, model="load", privacy=wide)

    assert first
    assert spend(ledger, 1, model="load-2", privacy=wide) == 0
    assert ledger.spent() <= 2.0


def test_delta_above_the_domains_is_refused(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "privacy.json", delta=1e-6)

    with pytest.raises(NotShared, match="counted at delta 1e-05"):
        ledger.spend("load", PRIVACY, PLAN, run="run", round_number=1)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 0.99])
def test_file_cut_short_counts_as_all_spent(tmp_path: Path, share: float) -> None:
    path = tmp_path / "privacy.json"
    spend(Ledger(path), 2)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share)])

    assert Ledger(path).spent() == math.inf
    with pytest.raises(BudgetSpent, match="not whole, so everything counts as spent"):
        Ledger(path).spend("load", PRIVACY, PLAN, run="run", round_number=3)


def test_entry_taken_out_counts_as_all_spent(tmp_path: Path) -> None:
    path = tmp_path / "privacy.json"
    spend(Ledger(path), 2)
    document = json.loads(path.read_bytes())
    del document["entries"][0]
    path.write_text(json.dumps(document), encoding="utf-8")

    assert Ledger(path).spent() == math.inf


def _dies_while_training(path: Path) -> None:
    Ledger(path).spend("load", PRIVACY, PLAN, run="run", round_number=1)
    os._exit(9)  # as a process that is killed in the midst of training


def test_crash_between_training_and_the_result_counts_as_spent(tmp_path: Path) -> None:
    path = tmp_path / "privacy.json"

    process = multiprocessing.get_context("spawn").Process(target=_dies_while_training, args=(path,))
    process.start()
    process.join(60)

    assert process.exitcode == 9
    assert [entry.round for entry in Ledger(path).entries()] == [1]


def _spends(path: Path, count: int) -> None:
    spend(Ledger(path, epsilon=1e6), count, privacy=Privacy(epsilon=1e6))


def test_processes_side_by_side_lose_no_entry(tmp_path: Path) -> None:
    path = tmp_path / "privacy.json"
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_spends, args=(path, 5)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(100)

    assert len(Ledger(path).entries()) == 10
