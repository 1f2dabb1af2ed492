"""One domain's ClientApp: what it answers, and what never leaves."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest
from learning_parts import DOMAINS, PLAN, TASK, in_process, panel, run, shorter

from domain_twin.errors import ContractError, NotFound, NotShared
from domain_twin.learning import contribution
from domain_twin.learning.client import ALONE, Endpoint, Source, client_app
from domain_twin.learning.contribution import WORDS, Absence
from domain_twin.learning.flower import (
    ConfigRecord,
    Message,
    RecordDict,
    arrays_in,
    decode,
    encode,
    record_of,
)
from domain_twin.learning.learner import Arrays, learner
from domain_twin.learning.models.forecaster import Forecaster
from domain_twin.learning.panel import Panel
from domain_twin.learning.task import Task

START = learner(TASK).initial(np.random.default_rng(TASK.seed))


def asked(
    kind: str = "train",
    *,
    task: Task = TASK,
    arrays: Arrays = START,
    round_: int = 1,
    message_id: str = "",
    name: str = "a-run",
    **settings: float,
) -> bytes:
    config = ConfigRecord({"task": task.to_json(), "server-round": round_, **settings})
    content = RecordDict({"arrays": record_of(arrays), "config": config})
    return encode(Message(content, dst_node_id=7, message_type=kind), run=name, message_id=message_id)


def endpoint(source: Source | None = None, **settings: object) -> Endpoint:
    held = panel(0)
    return Endpoint(client_app(source or (lambda _: held), domain="ran", **settings))


def answer(data: bytes, of: Endpoint | None = None) -> Message:
    return decode((of or endpoint()).answer(data))


def trained(reply: Message) -> Arrays:
    return arrays_in(next(iter(reply.content.array_records.values())))


def word(reply: Message) -> str:
    return str(reply.error.reason)


def test_training_answers_with_the_model_and_two_numbers() -> None:
    reply = answer(asked())

    assert contribution.norm(contribution.update(trained(reply), START)) > 0
    assert set(reply.content["metrics"]) == {"num-examples", "loss"}


def test_training_is_the_same_wherever_it_runs_and_differs_by_domain_and_round() -> None:
    made = contribution.fingerprint(trained(answer(asked())))

    assert contribution.fingerprint(trained(answer(asked(name="another-run")))) == made
    assert contribution.fingerprint(trained(answer(asked(round_=2)))) != made
    other = Endpoint(client_app(lambda _: panel(0), domain="core"))
    assert contribution.fingerprint(trained(answer(asked(), other))) != made


def test_the_proximal_term_keeps_a_domain_near_what_it_began_with() -> None:
    def length(mu: float) -> float:
        task = shorter(settings={**TASK.settings, "proximal_mu": mu})
        return contribution.norm(contribution.update(trained(answer(asked(task=task))), START))

    assert length(100.0) < 0.7 * length(0.0)


def test_judging_answers_with_numbers_only() -> None:
    reply = answer(asked("evaluate"))

    assert not reply.content.array_records
    assert {"loss", "num-examples", "naive:persistence"} <= set(reply.content["metrics"])


def test_alone_a_domain_trains_all_rounds_and_says_how_good_it_became() -> None:
    of = endpoint()
    first = answer(asked("evaluate"), of).content["metrics"]["loss"]

    reply = answer(asked(ALONE, task=TASK), of)

    assert reply.content["metrics"]["loss"] < first
    assert not reply.content.array_records


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        (NotFound("no history of secret-link-9"), Absence.NO_DATA),
        (NotShared("the policy keeps 99.25 to itself"), Absence.NOT_SHARED),
        (ValueError("could not convert 99.25"), Absence.FAILED),
        (panel(0, steps=12), Absence.TOO_LITTLE),
        (panel(0, levels=np.full((1, 200, 1), np.nan)), Absence.NO_DATA),
        (panel(0, levels=np.empty((0, 200, 1))), Absence.NO_DATA),
    ],
)
def test_a_domain_that_cannot_train_says_one_word_and_nothing_of_the_error(
    source: Exception | Panel, expected: Absence, caplog: pytest.LogCaptureFixture
) -> None:
    def held(_: Task) -> Panel:
        if isinstance(source, Exception):
            raise source
        return source

    with caplog.at_level(logging.WARNING):
        data = endpoint(held).answer(asked())

    assert word(decode(data)) == expected.value
    assert expected in WORDS
    assert b"99.25" not in data
    assert b"secret" not in data
    assert any("no contribution" in record.message for record in caplog.records)


def test_one_constant_series_neither_fails_nor_sends_what_is_not_finite() -> None:
    held = panel(0, levels=np.full((1, 240, 1), 3.0))

    reply = answer(asked(), endpoint(lambda _: held))

    if reply.has_error():
        assert word(reply) in {Absence.TOO_LITTLE, Absence.BROKEN}
    else:
        contribution.check(trained(reply), START)


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda arrays: {**arrays, "out": np.full_like(arrays["out"], np.nan)}, Absence.BROKEN),
        (lambda arrays: {**arrays, "out": arrays["out"].astype(np.float64)}, Absence.BROKEN),
        (lambda arrays: {**arrays, "raw": np.zeros(3)}, Absence.BROKEN),
    ],
)
def test_a_contribution_that_is_no_model_is_held_back_at_home(
    monkeypatch: pytest.MonkeyPatch, spoil: object, expected: Absence
) -> None:
    train = Forecaster.train
    monkeypatch.setattr(
        Forecaster,
        "train",
        lambda *arguments: replace(made := train(*arguments), arrays=spoil(made.arrays)),  # type: ignore[operator]
    )

    assert word(answer(asked())) == expected.value


@pytest.mark.parametrize("limits", [{"clip-norm": 0.01}, {"norm_limit": 0.01}])
def test_an_update_leaves_no_longer_than_either_side_allows(limits: dict[str, float]) -> None:
    server = {key: value for key, value in limits.items() if key == "clip-norm"}
    home = {key: value for key, value in limits.items() if key != "clip-norm"}

    reply = answer(asked(**server), endpoint(**home))

    assert contribution.norm(contribution.update(trained(reply), START)) <= 0.01 * 1.001


def test_a_broken_model_from_the_server_is_refused() -> None:
    for arrays in (
        {**START, "out": np.full_like(START["out"], np.inf)},
        {name: array for name, array in START.items() if name != "out"},
        {**START, "out": np.zeros((9, 9), np.float32)},
    ):
        assert word(answer(asked(arrays=arrays))) == Absence.MALFORMED


def test_another_task_than_the_one_agreed_to_is_refused() -> None:
    agreed = endpoint(task=TASK)

    assert (
        word(answer(asked(task=shorter(window=replace(TASK.window, length_s=1e9))), agreed))
        == Absence.MALFORMED
    )
    assert answer(asked(task=TASK), agreed).has_content()


def test_a_message_of_another_run_than_the_one_agreed_to_is_refused() -> None:
    agreed = endpoint(run="a-run")

    assert word(answer(asked(name="a-run-before"), agreed)) == Absence.REPLAYED
    assert answer(asked(name="a-run"), agreed).has_content()


def test_a_message_that_comes_again_is_refused() -> None:
    of = endpoint()
    data = asked(message_id="one")

    assert answer(data, of).has_content()
    assert word(answer(data, of)) == Absence.REPLAYED


def test_a_message_of_a_round_that_is_over_is_refused() -> None:
    of = endpoint()
    answer(asked(round_=2), of)

    assert word(answer(asked(round_=1), of)) == Absence.REPLAYED


@pytest.mark.parametrize("kind", ["train.other", "query", "query.nothing"])
def test_what_nobody_answers_is_refused(kind: str) -> None:
    assert word(answer(asked(kind))) == Absence.MALFORMED


def test_a_message_without_a_task_is_refused() -> None:
    content = RecordDict({"arrays": record_of(START), "config": ConfigRecord({"server-round": 1})})

    assert word(answer(encode(Message(content, dst_node_id=7, message_type="train")))) == Absence.MALFORMED
    assert (
        word(answer(encode(Message(RecordDict(), dst_node_id=7, message_type="train")))) == Absence.MALFORMED
    )


def test_bytes_that_are_no_message_raise() -> None:
    with pytest.raises(ContractError, match="no message"):
        endpoint().answer(b"\xff" * 40)


def test_a_run_sees_one_panel_in_all_its_rounds() -> None:
    calls: list[Task] = []

    def source(task: Task) -> Panel:
        calls.append(task)
        return panel(len(calls))

    with in_process({domain: source for domain in DOMAINS[:1]}) as carrier:
        run(carrier, plan=replace(PLAN, min_domains=1))

    assert len(calls) == 1
