"""Domains within this process: what they learn from, and what a bad one sends instead."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace

import numpy as np

from domain_twin.learning.client import Source, client_app
from domain_twin.learning.flower import (
    Message,
    MetricRecord,
    RecordDict,
    arrays_in,
    decode,
    encode,
    record_of,
)
from domain_twin.learning.learner import Arrays
from domain_twin.learning.panel import Panel
from domain_twin.learning.task import Feature, Task
from federation.learning.grid import CarriedGrid, InProcess
from federation.learning.reports import Outcome
from federation.learning.rounds import OnRound, Plan, train

FEATURE = Feature("ndt:utilisation", "1")
TASK = Task(
    "load",
    features=(FEATURE,),
    lags=6,
    rounds=3,
    batch=64,
    learning_rate=1e-2,
    settings={"hidden": 4},
)
PLAN = Plan(deadline_s=30.0, explain=False)
DOMAINS = ("core", "edge", "ran", "transport")


def panel(seed: int, *, elements: int = 1, steps: int = 160, levels: np.ndarray | None = None) -> Panel:
    """Daily waves of 48 steps with noise, of their own level in each domain."""
    rng = np.random.default_rng(seed)
    wave = 2 * np.sin(2 * np.pi * np.arange(steps) / 48 + seed)
    values = 5 + seed + wave[None, :, None] + rng.normal(0, 0.3, (elements, steps, 1))
    if levels is not None:
        values = levels
    names = tuple(f"secret-link-{seed}-{index}" for index in range(values.shape[0]))
    return Panel(names, (FEATURE.kpi,), values, 0, TASK.step_s, int(values.shape[1] * 0.8))


def sources(domains: Sequence[str] = DOMAINS) -> dict[str, Source]:
    return {domain: holding(panel(index)) for index, domain in enumerate(domains)}


def holding(held: Panel) -> Source:
    return lambda _: held


def in_process(made: Mapping[str, Source], **settings: float) -> InProcess:
    return InProcess(
        {domain: client_app(source, domain=domain, **settings) for domain, source in made.items()}
    )


class Tampering:
    """A carrier on which some domains do not send what their ClientApp made."""

    def __init__(self, inner: InProcess, tamper: Mapping[str, Callable[[bytes, bytes], bytes]]) -> None:
        self.inner = inner
        self.tamper = tamper
        self.sent: list[tuple[str, bytes]] = []

    def domains(self) -> Sequence[str]:
        return self.inner.domains()

    def carry(self, domain: str, message: bytes, timeout_s: float) -> Future[bytes]:
        reply = self.inner.carry(domain, message, timeout_s)
        wanted: Future[bytes] = Future()

        def done(answer: Future[bytes]) -> None:
            try:
                data = answer.result()
                if domain in self.tamper:
                    data = self.tamper[domain](message, data)
            except BaseException as error:
                wanted.set_exception(error)
            else:
                self.sent.append((domain, data))
                wanted.set_result(data)

        reply.add_done_callback(done)
        return wanted


def poison(change: Callable[[Arrays, Arrays], Arrays]) -> Callable[[bytes, bytes], bytes]:
    """Sends `change(base, trained)` where training is asked for; all else stays."""

    def tamper(message: bytes, reply: bytes) -> bytes:
        asked, said = decode(message), decode(reply)
        if said.has_error() or asked.metadata.message_type != "train":
            return reply
        base = arrays_in(next(iter(asked.content.array_records.values())))
        made = change(base, arrays_in(next(iter(said.content.array_records.values()))))
        metrics = MetricRecord(dict(next(iter(said.content.metric_records.values()))))
        return answer_to(asked, RecordDict({"arrays": record_of(made), "metrics": metrics}))

    return tamper


def says(name: str, value: float, kind: str = "evaluate") -> Callable[[bytes, bytes], bytes]:
    """Sends `value` as the measure `name` in all replies of a kind."""

    def tamper(message: bytes, reply: bytes) -> bytes:
        asked, said = decode(message), decode(reply)
        if said.has_error() or asked.metadata.message_type != kind:
            return reply
        content = said.content
        metrics = MetricRecord(dict(next(iter(content.metric_records.values()))))
        metrics[name] = value
        content["metrics"] = metrics
        return answer_to(asked, content)

    return tamper


def answer_to(asked: Message, content: RecordDict) -> bytes:
    return encode(Message(content, reply_to=asked))


def scaled(by: float) -> Callable[[Arrays, Arrays], Arrays]:
    return lambda base, made: {
        name: (base[name] + by * (made[name] - base[name])).astype(base[name].dtype) for name in base
    }


def filled(value: float) -> Callable[[Arrays, Arrays], Arrays]:
    return lambda base, _: {name: np.full_like(array, value) for name, array in base.items()}


def run(
    carrier: InProcess | Tampering,
    *,
    task: Task = TASK,
    plan: Plan = PLAN,
    on_round: OnRound | None = None,
    initial: Arrays | None = None,
    stop: threading.Event | None = None,
) -> Outcome:
    grid = CarriedGrid(carrier, uuid.uuid4().hex, stop=stop)
    return train(task, grid, plan=plan, on_round=on_round, initial=initial, stop=stop)


def shorter(task: Task = TASK, **changes: object) -> Task:
    return replace(task, **changes)
