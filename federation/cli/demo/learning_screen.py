"""How the act of learning looks. Owns its table and sentences; every figure comes from the trainings."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.text import Text

from federation.cli.console import count
from federation.cli.demo.learning_files import LIAR
from federation.cli.tables import grid, name_of

if TYPE_CHECKING:
    from rich.table import Table

    from federation.cli.demo.learning import Learned, Training
    from federation.cli.demo.screen import Screen

__all__ = ["show"]


def show(screen: Screen, told: Learned) -> None:
    """All that was trained, also where it went wrong in the middle."""
    if told.together.rounds:
        screen.show(trainings(told))
    attacked, averaged = told.attacked, told.averaged
    for name, training in _named(told):
        if training.without:
            many, why = count(len(training.without), "domain"), "; ".join(training.without.values())
            screen.say(f"{name}: {many} took no part. {escape(why)}")
    if LIAR in attacked.without:
        screen.say(f"So {LIAR} told no lies this time, and nothing is shown of what they would do.")
    elif attacked.rounds and told.together.rounds:
        hurt = told.attacked.left_out.get(LIAR, 0)
        screen.say(
            f"What {LIAR} sent was cut back or left out in {count(hurt, 'round')} of {attacked.rounds}. The"
            f" model of all four {_compared(told.together, attacked)}."
        )
    if averaged.rounds and LIAR not in averaged.without:
        refused = averaged.rounds - averaged.accepted
        screen.say(
            f"Plain averaging (FedAvg, for one operator's own domains) made a model whose loss is"
            f" [bold]{_loss(averaged.worst)}[/]; the domains' own holdouts refused {count(refused, 'round')}"
            " of it, and nobody uses it."
            if refused
            else f"Plain averaging (FedAvg) made a model whose loss is [bold]{_loss(averaged.worst)}[/]."
        )
    if told.forecast:
        first = told.forecast[0]
        screen.say(f"And what {told.forecaster}'s own agent expects of its busiest link, {first['element']}:")
        screen.show(forecast(told))
    if told.problem:
        screen.say(f"It went no further: {escape(told.problem)}")


def trainings(told: Learned) -> Table:
    """Loss of each training on the domains' own holdouts, beside the best naive rival."""
    domains = sorted({*told.together.domains, *told.attacked.domains})
    table = grid(
        "", "loss before", "after", *domains, "took", right=("loss before", "after", *domains, "took")
    )
    for name, training in _named(told):
        if training.rounds:
            table.add_row(
                name,
                _loss(training.before),
                Text(_loss(training.after), "good" if _better(training) else "warn"),
                *(_loss(training.domains.get(domain)) for domain in domains),
                f"{training.took_s:.1f} s",
            )
    if told.together.naive_loss is not None:
        table.add_row(
            Text(f"naive: {told.together.naive}", "dim"), "", Text(_loss(told.together.naive_loss), "dim")
        )
    return table


def forecast(told: Learned) -> Table:
    """Median and 90 % band, one row a horizon."""
    table = grid("in", "expected", "nine times of ten", "domain", right=("in", "expected"))
    for row in told.forecast:
        levels = row["quantiles"]
        low, high = min(levels, key=float), max(levels, key=float)
        middle = min(levels, key=lambda level: abs(float(level) - 0.5))
        table.add_row(
            f"{row['ahead_s']:g} s",
            f"{levels[middle]:.1f} {row['unit']}",
            f"{levels[low]:.1f} to {levels[high]:.1f}",
            name_of(told.forecaster),
        )
    return table


def _named(told: Learned) -> tuple[tuple[str, Training], ...]:
    return (
        ("four together", told.together),
        (f"{LIAR} lies", told.attacked),
        ("lies, no defence", told.averaged),
    )


def _compared(honest: Training, attacked: Training) -> str:
    if not honest.after or attacked.after is None:
        return "did not come about"
    change = attacked.after / honest.after - 1
    if attacked.before is not None and attacked.after < attacked.before:
        return f"still became better: its loss is {change:+.1%} beside the one without a liar"
    return f"became no better; its loss is {change:+.1%} beside the one without a liar"


def _better(training: Training) -> bool:
    return training.before is not None and training.after is not None and training.after < training.before


def _loss(value: float | None) -> str:
    if value is None:
        return "none"
    return "not finite" if math.isinf(value) else f"{value:.3g}"
