"""The act in which four domains learn together, and one of them turns against the others.

Owns the calls, to the broker like any trainer's, and when which file of its own the liar's agent reads.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from domain_twin.errors import TwinError
from federation.cli.demo.files import DemoFiles
from federation.cli.demo.learning_files import APP, FACTOR, HONEST, LIAR, MALICIOUS

if TYPE_CHECKING:
    from domain_twin.learning.run import Run
    from domain_twin.learning.task import Task
    from federation.cli.demo.screen import Steps
    from federation.learning_client import LearningClient
    from federation.wire.learning import ElementForecast

__all__ = ["STEPS", "Learned", "Training", "learn_together", "task"]

PATIENCE_S = 240.0
TOGETHER, ATTACKED, AVERAGED, EXPECTED = "four together", "one lies", "no defence", "a forecast"
STEPS = (TOGETHER, ATTACKED, AVERAGED, EXPECTED)


@dataclass(slots=True)
class Training:
    """One training as the broker tells it. Losses are medians over the domains; before: the first model's."""

    run: str = ""
    profile: str = ""
    version: int = 0
    rounds: int = 0
    accepted: int = 0
    took_s: float = 0.0
    before: float | None = None
    after: float | None = None
    worst: float | None = None
    """Loss of the worst aggregate, accepted or not."""
    naive: str = ""
    naive_loss: float | None = None
    domains: dict[str, float] = field(default_factory=dict)
    """Loss of the last accepted model at each domain."""
    left_out: dict[str, int] = field(default_factory=dict)
    """Rounds in which a domain's contribution did not count, or was cut back."""
    used_by: list[str] = field(default_factory=list)
    without: dict[str, str] = field(default_factory=dict)
    """Domains that took no part, with why."""
    problem: str = ""


@dataclass(slots=True)
class Learned:
    """What was learned; `problem`: why it got no further."""

    together: Training = field(default_factory=Training)
    attacked: Training = field(default_factory=Training)
    averaged: Training = field(default_factory=Training)
    forecaster: str = ""
    """The domain whose own agent foretells, the first one that uses the model."""
    forecast: list[dict[str, Any]] = field(default_factory=list)
    problem: str = ""


def task(model: str = "demand") -> Task:
    """What is trained: demand of all links one and five seconds ahead, from what was recorded so far."""
    from domain_twin.learning.presets import preset
    from domain_twin.learning.task import Window

    return replace(
        preset("demand"),
        model=model,
        step_s=1.0,
        lags=6,
        horizons=(1, 5),
        window=Window(180.0),
        rounds=4,
        epochs=2,
        explain=False,
    )


async def learn_together(files: DemoFiles, steps: Steps) -> Learned:
    """Train, train once more with a liar among the four, and without defence. Raises no TwinError."""
    from domain_twin.learning.task import Profile
    from federation.learning_client import LearningClient

    told = Learned()
    own = files.agent(LIAR).parent / APP
    try:
        async with LearningClient.connect(files.client) as learning, asyncio.timeout(PATIENCE_S):
            steps.begin(TOGETHER, "each on its own history")
            told.together = await _trained(learning, task())
            steps.done(TOGETHER, _words(told.together))
            steps.begin(ATTACKED, f"{LIAR} sends its update turned around, times {-FACTOR}")
            await asyncio.to_thread(own.write_text, MALICIOUS, encoding="utf-8")
            told.attacked = await _trained(learning, task())
            steps.done(ATTACKED, _words(told.attacked))
            steps.begin(AVERAGED, "the same, joined by FedAvg")
            told.averaged = await _trained(
                learning, replace(task("demand-fedavg"), profile=Profile.TRUSTED, rounds=2)
            )
            steps.done(AVERAGED, _words(told.averaged))
            await asyncio.to_thread(own.write_text, HONEST, encoding="utf-8")
            steps.begin(EXPECTED, "of one link, for its own operator only")
            await _foretold(files, told)
            steps.done(EXPECTED, f"by {told.forecaster}'s own agent" if told.forecast else "none")
    except TimeoutError:
        told.problem = f"no answer within {PATIENCE_S:.0f} s"
    except TwinError as error:
        told.problem = str(error)
    finally:
        own.write_text(HONEST, encoding="utf-8")
    return told


async def _trained(learning: LearningClient, wanted: Task) -> Training:
    run = await learning.start(wanted)
    async for now in learning.watch(run.id):
        run = now
    training = _told(run)
    if run.version:
        kept = await learning.card(wanted.model, run.version)
        rivals = {
            name.removeprefix("naive:"): row["loss"]
            for name, row in kept.card.scores.items()
            if name.startswith("naive:") and "loss" in row
        }
        if rivals:
            training.naive, training.naive_loss = min(rivals.items(), key=lambda item: item[1])
    return training


def _told(run: Run) -> Training:
    rounds = [entry for entry in run.log if "round" in entry]
    told = Training(run.id, run.task.profile.value, run.version, problem=run.problem)
    told.took_s = max(0.0, (run.ended_at - run.created_at) / 1e9)
    trained = [entry for entry in rounds if entry["round"]]
    told.rounds, told.accepted = len(trained), sum(bool(entry["accepted"]) for entry in trained)
    if rounds:
        told.before = rounds[0].get("loss")
    good = [entry for entry in rounds if entry["accepted"] and entry.get("loss") is not None]
    if good:
        best = min(good, key=lambda entry: float(entry["loss"]))
        told.after, told.domains = best["loss"], _losses(best)
    losses = [entry["loss"] for entry in trained if entry.get("loss") is not None]
    unknown = any(entry.get("loss") is None for entry in trained)
    told.worst = math.inf if unknown else max(losses, default=None)
    for entry in trained:
        for domain, did in entry.get("domains", {}).items():
            if did.get("state") not in ("took-part", "judged"):
                told.left_out[domain] = told.left_out.get(domain, 0) + 1
    for entry in run.log:
        told.without |= entry.get("refused", {})
        for domain, answer in entry.get("result", {}).get("domains", {}).items():
            if isinstance(answer, Mapping) and answer.get("in_service"):
                told.used_by.append(domain)
    return told


def _losses(entry: Mapping[str, Any]) -> dict[str, float]:
    found = {domain: did.get("loss") for domain, did in entry.get("domains", {}).items()}
    return {domain: loss for domain, loss in found.items() if loss is not None}


def _words(training: Training) -> str:
    if training.problem:
        return training.problem
    without = f", without {' and '.join(training.without)}" if training.without else ""
    return f"{training.accepted} of {training.rounds} rounds accepted{without}"


async def _foretold(files: DemoFiles, told: Learned) -> None:
    """One link's rate, from the agent of a domain that uses the model."""
    from federation.learning_client import LearningClient

    users = [domain for domain in told.attacked.used_by or told.together.used_by if domain != LIAR]
    users += [domain for domain in told.together.used_by if domain not in users]
    if not users:
        return
    async with LearningClient.connect(files.socket(users[0])) as own:
        forecasts, _ = await own.forecast("demand")
    rates = [each for each in forecasts if each.kpi == "ndt:carried_rate"]
    if not rates:
        return
    busiest = max(rates, key=lambda each: max(map(max, each.values)))
    told.forecaster, told.forecast = users[0], _rows(busiest)


def _rows(forecast: ElementForecast) -> list[dict[str, Any]]:
    return [
        {
            "element": forecast.element,
            "kpi": forecast.kpi,
            "unit": forecast.unit,
            "at": at,
            "ahead_s": round((at - forecast.at) / 1e9, 3),
            "quantiles": dict(zip(map(str, forecast.quantiles), row, strict=True)),
        }
        for at, row in zip(forecast.times, forecast.values, strict=True)
    ]
