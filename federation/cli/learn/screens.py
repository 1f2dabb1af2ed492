"""Screens of trainings, models and forecasts. Owns columns and words; takes data, returns renderables."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from federation.cli.console import age, clock, count, domain_style, iso, span
from federation.cli.learn.scores import RAW, scores_rows
from federation.cli.tables import grid

if TYPE_CHECKING:
    from domain_twin.learning.run import Run
    from domain_twin.learning.store import Kept
    from domain_twin.learning.task import Card, Task
    from federation.wire.learning import ElementForecast

__all__ = [
    "card_document", "card_screen", "document", "forecast_document", "forecast_table", "models_screen",
    "round_line", "run_screen", "runs_table",
]  # fmt: skip

_STATES = {"done": "good", "failed": "bad", "stopped": "warn"}
_WORDS = {
    "took-part": "",
    "clipped": "clipped",
    "not-chosen": "left out",
    "judged": "",
}


def document(run: Run) -> dict[str, Any]:
    """A training in JSON's types."""
    from federation.cli.console import plain

    found = {field.name: plain(getattr(run, field.name), field.name) for field in dataclasses.fields(run)}
    return {**found, "task": json.loads(run.task.to_json())}


def runs_table(runs: Sequence[Run], now: int | None = None) -> Table:
    """Trainings, one a row."""
    table = grid(
        "id", "state", "model", "profile", "rounds", "domains", "asked", "took", right=("rounds", "took")
    )
    for run in runs:
        made = f"{run.task.model} {run.version}" if run.version else run.task.model
        table.add_row(
            run.id[:8],
            Text(run.state.value, _STATES.get(run.state.value, "")),
            made,
            _profile(run.task),
            f"{run.round}/{run.task.rounds}",
            Text(" ").join(Text(domain, domain_style(domain)) for domain in run.domains),
            age(run.created_at, now),
            span(run.ended_at - run.created_at) if run.ended_at else "",
        )
    return table


def _profile(task: Task) -> str:
    """With the budget that each domain keeps; what was spent of it is on the card."""
    if task.privacy is None or task.profile.value != "private":
        return task.profile.value
    return f"{task.profile.value}, epsilon ≤ {task.privacy.epsilon:g}"


def run_screen(run: Run) -> RenderableType:
    """One training: what is trained, its rounds, and what came of it."""
    head = Text.assemble(
        (run.id[:8], "bold"),
        "  ",
        (run.state.value, _STATES.get(run.state.value, "number")),
        "  ",
        _what(run.task),
    )
    parts: list[RenderableType] = [head]
    for entry in run.log:
        for domain, why in entry.get("refused", {}).items():
            parts.append(
                Text.assemble(
                    (domain, domain_style(domain)),
                    f" takes no part: {why.removeprefix(f'{domain}: ')}",
                    style="warn",
                )
            )
    # Under `private` a round is judged in the next one: what failed at once stands before it in the log.
    rounds = sorted((entry for entry in run.log if "round" in entry), key=lambda entry: int(entry["round"]))
    if rounds:
        parts.append(_rounds_table(rounds, run.domains))
    for entry in run.log:
        if "result" in entry:
            parts += _result(entry["result"], run)
    if run.problem:
        parts.append(Text(_problem(run), "bad" if run.state.value == "failed" else "warn"))
    return Group(*parts)


def _problem(run: Run) -> str:
    """Why it ended: each domain's reason stands above; what to do where history was too short."""
    refused: dict[str, str] = {}
    for entry in run.log:
        refused |= entry.get("refused", {})
    said = run.problem
    if refused:
        said = said.removesuffix(f": {'; '.join(refused.values())}")
    if said != run.problem and any("no data for this task" in why for why in refused.values()):
        task = run.task
        steps = task.lags + max(task.horizons, default=0)
        said += (
            f". One look of this task is {count(steps, 'step')} of {span(task.step_s * 1e9)} long; where less"
            " was recorded, take shorter steps: --step 1s"
        )
    return said


def round_line(entry: Mapping[str, Any], rounds: int) -> Text | None:
    """A round as one line, for a log; None for entries that are none."""
    if "round" not in entry:
        return None
    verdict = "" if entry["accepted"] else f"  refused: {entry['reason']}"
    said = "".join(f"  {domain} {_cell(entry, domain).plain}".rstrip() for domain in entry.get("domains", {}))
    loss = f"loss {_figure(entry['loss'])}" if entry.get("loss") is not None else "no loss"
    return Text(f"round {entry['round']}/{rounds}  {loss}{said}{verdict}")


def models_screen(kept: Sequence[Kept], now: int | None = None) -> RenderableType:
    """Versions of models, newest first, and below them why each is in service or not."""
    table = grid(
        "model",
        "version",
        "kind",
        "in service",
        "loss",
        "best naive",
        "made",
        "by",
        right=("version", "loss"),
        wraps="by",
    )
    reasons: list[RenderableType] = []
    for each in kept:
        card = each.card
        state = Text("yes", "good") if each.in_service else Text("no", "dim")
        if each.reason:
            reasons.append(Text(f"{card.model} {card.version}: {each.reason}", "dim"))
        name, best = _best_naive(card)
        table.add_row(
            card.model,
            str(card.version),
            card.task.kind.value,
            state,
            _figure(card.scores.get("model", {}).get("loss")),
            f"{_figure(best)} {name}" if name else "",
            age(card.created_at, now),
            Text(" ").join(Text(domain, domain_style(domain)) for domain in card.contributors),
        )
    return Group(table, *reasons)


def card_screen(kept: Kept) -> RenderableType:
    """A model's card: how it came about, how good it is beside its naive rivals, who gained what."""
    card = kept.card
    state = Text("in service", "good") if kept.in_service else Text("not in service", "warn")
    numbers = sum(math.prod(array.shape) for array in card.arrays)
    lines: list[RenderableType] = [
        Text.assemble(
            (f"{card.model} {card.version}", "bold"), "  ", state, f"  {kept.reason}" if kept.reason else ""
        ),
        _what(card.task),
        Text(
            f"made {clock(card.created_at)} by training {card.run[:8]},"
            f" {count(card.rounds, 'accepted round')}, {numbers:,} numbers",
            "dim",
        ),
    ]
    if card.scores:
        lines.append(_scores_table(card))
        if any("raw" in row for row in card.scores.values()):
            lines.append(Text(RAW, "dim"))
    if card.gains:
        gains = Text("gain over learning alone: ")
        for domain, gain in sorted(card.gains.items()):
            gains.append(f"{domain} ", domain_style(domain))
            gains.append(f"{gain:+.1%}  ", "good" if gain > 0 else "warn")
        lines.append(gains)
    if card.privacy_spent and card.task.privacy:
        lines.append(_spent(card.privacy_spent, card.task.privacy.delta))
    lines += [Text(f"note: {note}", "warn") for note in card.notes]
    return Group(*lines)


def card_document(kept: Kept) -> dict[str, Any]:
    """A version with its card in JSON's types."""
    return {
        "in_service": kept.in_service,
        "reason": kept.reason,
        "card": json.loads(kept.card.to_json()),
    }


def forecast_table(forecasts: Sequence[ElementForecast]) -> Table:
    """What is expected, one row an element, KPI and time."""
    levels = forecasts[0].quantiles if forecasts else ()
    names = [f"{level:.0%}" for level in levels]
    table = grid("element", "KPI", "at", *names, "unit", right=names)
    for each in forecasts:
        for at, row in zip(each.times, each.values, strict=True):
            table.add_row(
                each.element, each.kpi, clock(at)[:8], *(_figure(value) for value in row), each.unit
            )
    return table


def forecast_document(forecast: ElementForecast) -> dict[str, Any]:
    """A forecast in JSON's types; looked back on, with what came true and how good it was."""
    document: dict[str, Any] = {
        "element": forecast.element,
        "kpi": forecast.kpi,
        "unit": forecast.unit,
        "at": forecast.at,
        "times": [iso(time) for time in forecast.times],
        "quantiles": forecast.quantiles,
        "values": forecast.values,
    }
    if forecast.truth:
        from federation.cli.learn.hindsight import judged

        document |= {"truth": forecast.truth, "judged": dataclasses.asdict(judged(forecast))}
    return document


def _what(task: Task) -> Text:
    kpis = ", ".join(feature.kpi.removeprefix("ndt:") for feature in task.features)
    return Text(
        f"{task.model}: a {task.kind.value} of {kpis} of {task.element_kind}s,"
        f" steps of {span(task.step_s * 1e9)}, profile {task.profile.value}"
    )


def _rounds_table(rounds: Sequence[Mapping[str, Any]], domains: Sequence[str]) -> Table:
    table = grid(
        "round",
        "loss",
        "change",
        *domains,
        "took",
        "",
        right=("round", "loss", "change", *domains, "took"),
        wraps="",
    )
    for entry in rounds:
        verdict = Text() if entry["accepted"] else Text(f"refused: {entry['reason']}", "warn")
        table.add_row(
            str(entry["round"]),
            _figure(entry.get("loss")),
            "" if entry.get("change") is None else f"{entry['change']:+.1%}",
            *(_cell(entry, domain) for domain in domains),
            span(entry["took_s"] * 1e9) if entry.get("took_s") else "",
            verdict,
        )
    return table


def _cell(entry: Mapping[str, Any], domain: str) -> Text:
    did = entry.get("domains", {}).get(domain)
    if did is None:
        return Text("")
    state = str(did.get("state", ""))
    word = _WORDS.get(state, state)
    loss = did.get("loss")
    text = Text("" if loss is None else _figure(loss), domain_style(domain))
    if word:
        text.append(f" {word}".strip() if loss is None else f" {word}", "warn")
    return text


def _result(result: Mapping[str, Any], run: Run) -> list[RenderableType]:
    lines: list[RenderableType] = []
    made = f"{run.task.model} {run.version}"
    for domain, answer in result.get("domains", {}).items():
        if isinstance(answer, Mapping):
            used = answer.get("in_service")
            words = "uses it" if used else f"does not use it: {answer.get('reason', '')}"
            lines.append(
                Text.assemble(
                    f"{made}: ", (domain, domain_style(domain)), (f" {words}", "good" if used else "warn")
                )
            )
    if (spent := result.get("privacy_spent")) and run.task.privacy:
        lines.append(_spent(spent, run.task.privacy.delta))
    return lines


def _spent(by_domain: Mapping[str, float], delta: float) -> Text:
    spent = ", ".join(f"{domain} {epsilon:.2f}" for domain, epsilon in sorted(by_domain.items()))
    return Text(f"privacy spent, epsilon at delta {delta:g}: {spent}")


def _scores_table(card: Card) -> Table:
    measures, rows = scores_rows(card)
    table = grid("on the holdouts", *measures, right=measures)
    for name, row in rows.items():
        words = Text(name, "bold" if name == "model" else "")
        table.add_row(words, *(_figure(row.get(measure)) for measure in measures))
    return table


def _best_naive(card: Card) -> tuple[str, float | None]:
    rows = [
        (row["loss"], name.removeprefix("naive:"))
        for name, row in card.scores.items()
        if name.startswith("naive:") and "loss" in row
    ]
    return (min(rows)[1], min(rows)[0]) if rows else ("", None)


def _figure(value: float | None) -> str:
    return "" if value is None or not math.isfinite(value) else f"{value:.4g}"
