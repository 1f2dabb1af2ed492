"""No sample leaves a domain: every message that does is looked through, and what is planted is found."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
from learning_parts import DOMAINS, PLAN, TASK, Tampering, answer_to, in_process, panel, run, shorter, sources
from raw_samples import Scanner

from domain_twin.learning.flower import (
    Error,
    Message,
    MetricRecord,
    RecordDict,
    arrays_in,
    decode,
    encode,
    record_of,
)
from domain_twin.learning.task import Profile, Task
from domain_twin.learning.windows import local_scale

PANELS = {domain: panel(index) for index, domain in enumerate(DOMAINS)}
SCANNERS = {domain: Scanner(held, TASK) for domain, held in PANELS.items()}
SERIES = PANELS["edge"].values[0, :, 0]


def found(sent: list[tuple[str, bytes]]) -> dict[str, list[str]]:
    """By domain, what of whichever domain is in its messages."""
    found: dict[str, list[str]] = {}
    for domain, data in sent:
        for whose, scanner in SCANNERS.items():
            if said := scanner.findings(data):
                found.setdefault(domain, []).extend(f"{whose}: {one}" for one in said)
    return found


@pytest.mark.parametrize("profile", [Profile.MISTRUSTFUL, Profile.TRUSTED])
def test_no_message_of_a_training_carries_a_sample(profile: Profile) -> None:
    task = shorter(profile=profile, rounds=1)
    with in_process(sources()) as inner:
        carrier = Tampering(inner, {})
        outcome = run(carrier, task=task, plan=replace(PLAN, explain=True))

    kinds = {decode(data).metadata.message_type for _, data in carrier.sent}
    assert outcome.accepted == 1
    assert kinds == {"train", "evaluate", "query.alone"}
    assert {domain for domain, _ in carrier.sent} == set(DOMAINS)
    assert found(carrier.sent) == {}


def test_no_message_of_a_training_that_fails_carries_a_sample() -> None:
    def failing(_: Task) -> object:
        raise ValueError(f"could not use {SERIES[0]!r} of {PANELS['edge'].elements[0]}")

    with in_process({**sources(), "edge": failing}) as inner:  # type: ignore[dict-item]
        carrier = Tampering(inner, {})
        run(carrier, task=shorter(rounds=1))

    assert "edge" in {domain for domain, _ in carrier.sent}
    assert found(carrier.sent) == {}


def plants() -> Iterator[tuple[str, Callable[[Message, Message], bytes]]]:
    def in_arrays(samples: np.ndarray) -> Callable[[Message, Message], bytes]:
        def plant(asked: Message, said: Message) -> bytes:
            arrays = arrays_in(next(iter(said.content.array_records.values())))
            arrays["first"].ravel()[3 : 3 + len(samples)] = samples
            metrics = MetricRecord(dict(said.content["metrics"]))
            return answer_to(asked, RecordDict({"arrays": record_of(arrays), "metrics": metrics}))

        return plant

    def in_metrics(value: float) -> Callable[[Message, Message], bytes]:
        def plant(asked: Message, said: Message) -> bytes:
            content = said.content
            content["metrics"] = MetricRecord({**dict(content["metrics"]), "loss": float(value)})
            return answer_to(asked, content)

        return plant

    def in_error(text: str) -> Callable[[Message, Message], bytes]:
        return lambda asked, said: encode(Message(Error(0, text), reply_to=asked))

    scale = local_scale(PANELS["edge"].training()).to_z(PANELS["edge"].values)[0, :, 0]
    yield "a run of samples among the weights", in_arrays(SERIES[40:44])
    yield "two samples among the weights", in_arrays(SERIES[100:102])
    yield "scaled samples among the weights", in_arrays(scale[40:44])
    yield "standardised samples", in_arrays(((SERIES - SERIES.mean()) / SERIES.std())[10:13])
    yield "one sample as a loss", in_metrics(SERIES[7])
    yield "the largest sample as a loss", in_metrics(SERIES.max())
    yield "one scaled sample as a loss", in_metrics(scale[7])
    yield "a sample in an error's text", in_error(f"cannot use {SERIES[9]:.8g}")
    yield "a name in an error's text", in_error(f"cannot use {PANELS['edge'].elements[0]}")


@pytest.mark.parametrize(("what", "plant"), list(plants()), ids=[name for name, _ in plants()])
def test_what_is_planted_is_found(what: str, plant: Callable[[Message, Message], bytes]) -> None:
    planted: list[bytes] = []

    def tamper(asked: bytes, reply: bytes) -> bytes:
        message = decode(asked)
        if message.metadata.message_type != "train":
            return reply
        planted.append(plant(message, decode(reply)))
        return planted[-1]

    with in_process(sources(DOMAINS[:2])) as inner:
        carrier = Tampering(inner, {"edge": tamper})
        run(carrier, task=shorter(rounds=1))

    said = found(carrier.sent)
    assert planted
    assert set(said) == {"edge"}
    assert all(one.startswith("edge: ") for one in said["edge"])


def test_chance_finds_nothing_in_many_weights() -> None:
    weights = np.random.default_rng(1).normal(0, 1, 1 << 15).astype(np.float32).tobytes()

    assert [scanner.findings(weights) for scanner in SCANNERS.values()] == [[]] * len(DOMAINS)
