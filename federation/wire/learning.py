"""Trainings, models and forecasts as messages and back. Owns the JSON inside; knows no service."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from domain_twin.errors import ContractError
from domain_twin.learning.run import Run, RunState
from domain_twin.learning.store import Kept
from domain_twin.learning.task import Card, Task
from domain_twin.model import DomainOutcome, Nanoseconds
from federation.v1 import fedtwin_pb2 as pb
from federation.wire.answers import decode_domain_outcome, encode_domain_outcome

__all__ = [
    "ElementForecast",
    "RolledBack",
    "decode_forecast",
    "decode_model",
    "decode_rolled_back",
    "decode_run",
    "encode_forecast",
    "encode_model",
    "encode_rolled_back",
    "encode_run",
]


@dataclass(frozen=True, slots=True)
class ElementForecast:
    """What one KPI of one element is expected to be: `values` [times][quantiles], in `unit`."""

    element: str
    kpi: str
    unit: str
    at: Nanoseconds
    """The end of what it is made from."""
    times: tuple[Nanoseconds, ...]
    quantiles: tuple[float, ...]
    values: tuple[tuple[float, ...], ...]
    truth: tuple[float, ...] = ()
    """With hindsight: what came true at each of `times`, each foretold `times[0] - at` before."""


@dataclass(frozen=True, slots=True)
class RolledBack:
    """A version that was put back into service, and what each domain made of that."""

    model: Kept
    outcomes: tuple[DomainOutcome, ...]


def encode_run(run: Run, *, log: bool = True) -> pb.LearningRun:
    """A training; without its log where many are listed."""
    return pb.LearningRun(
        id=run.id,
        task=run.task.to_json(),
        domains=run.domains,
        state=run.state.value,
        round=run.round,
        rounds=run.task.rounds,
        created_at=run.created_at,
        ended_at=run.ended_at,
        problem=run.problem,
        owner=run.owner,
        log=json.dumps(list(run.log), allow_nan=False).encode() if log else b"",
        version=run.version,
    )


def decode_run(message: pb.LearningRun) -> Run:
    """The training that a message is. Raises ContractError."""
    try:
        state = RunState(message.state)
        log: list[Mapping[str, Any]] = json.loads(message.log) if message.log else []
        entries = tuple(dict(entry) for entry in log)
    except (ValueError, TypeError, RecursionError) as error:
        raise ContractError(f"LearningRun: {error}") from None
    return Run(
        id=message.id,
        task=Task.from_json(message.task),
        domains=tuple(message.domains),
        state=state,
        created_at=message.created_at,
        owner=message.owner,
        round=message.round,
        ended_at=message.ended_at,
        problem=message.problem,
        log=entries,
        version=message.version,
    )


def encode_model(kept: Kept) -> pb.LearnedModel:
    """A version of a model."""
    return pb.LearnedModel(card=kept.card.to_json(), in_service=kept.in_service, reason=kept.reason)


def decode_model(message: pb.LearnedModel) -> Kept:
    """The version that a message is. Raises ContractError."""
    return Kept(Card.from_json(message.card), message.in_service, message.reason)


def encode_rolled_back(done: RolledBack) -> pb.RollBackResponse:
    """What became of a roll-back."""
    return pb.RollBackResponse(
        model=encode_model(done.model), outcomes=[encode_domain_outcome(item) for item in done.outcomes]
    )


def decode_rolled_back(message: pb.RollBackResponse) -> RolledBack:
    """The roll-back that a message tells of. Raises ContractError."""
    return RolledBack(
        decode_model(message.model), tuple(decode_domain_outcome(item) for item in message.outcomes)
    )


def encode_forecast(forecast: ElementForecast) -> pb.Forecast:
    """One element's forecast."""
    return pb.Forecast(
        element=forecast.element,
        kpi=forecast.kpi,
        unit=forecast.unit,
        at=forecast.at,
        times=forecast.times,
        quantiles=forecast.quantiles,
        values=[value for row in forecast.values for value in row],
        truth=forecast.truth,
    )


def decode_forecast(message: pb.Forecast) -> ElementForecast:
    """The forecast that a message is. Raises ContractError where its numbers are too few or too many."""
    width = len(message.quantiles)
    if len(message.values) != width * len(message.times):
        raise ContractError(
            f"Forecast: {len(message.values)} values for {len(message.times)} times, {width} levels"
        )
    if len(message.truth) not in (0, len(message.times)):
        raise ContractError(f"Forecast: {len(message.truth)} truths for {len(message.times)} times")
    rows = tuple(
        tuple(message.values[first : first + width]) for first in range(0, len(message.values), max(1, width))
    )
    return ElementForecast(
        message.element,
        message.kpi,
        message.unit,
        message.at,
        tuple(message.times),
        tuple(message.quantiles),
        rows,
        tuple(message.truth),
    )
