"""What one domain, operator or task could do to everybody's training, and what a domain gives away."""

from __future__ import annotations

import io
import math
import struct
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from learning_parts import (
    DOMAINS,
    FEATURE,
    TASK,
    Tampering,
    answer_to,
    holding,
    in_process,
    panel,
    run,
    shorter,
)

from domain_twin.agent.learner_child import _an_app, own_app
from domain_twin.errors import ConfigError, ContractError, OverCapacity
from domain_twin.learning.arrays import decode_arrays, encode_arrays
from domain_twin.learning.client import ALONE, STATISTICS, Endpoint, client_app, generator
from domain_twin.learning.contribution import norm
from domain_twin.learning.flower import (
    ConfigRecord,
    Message,
    MetricRecord,
    RecordDict,
    arrays_in,
    decode,
    encode,
    record_of,
)
from domain_twin.learning.learner import Arrays, learner
from domain_twin.learning.marginals import LEAST_VALUES, Marginals
from domain_twin.learning.panel import Panel
from domain_twin.learning.task import Card, Kind, Privacy, Profile, Task
from federation.cli.demo.learning_files import FACTOR, MALICIOUS
from federation.learning.contributions import brought
from federation.learning.gate import Gate
from federation.learning.grid import CarriedGrid, InProcess
from federation.learning.registry import Made, ModelRegistry
from federation.learning.reports import scores
from federation.learning.rounds import Plan
from federation.learning.strategies import Update, joining, voices
from federation.learning.sums import RoundRefused

RNG = np.random.default_rng(3)
TRUE = RNG.normal(0, 1, 40)
EVIL = {f"evil-{number}": "evil.example" for number in range(4)}
OPERATORS = {"a": "a.example", "b": "b.example", "c": "c.example"} | EVIL
"""Three operators that have a domain each, and one that has four."""


def update(change: np.ndarray, samples: int = 100) -> Update:
    return Update({"w": change}, samples, norm({"w": change}))


def contributed() -> dict[str, Update]:
    honest = {name: update(TRUE + RNG.normal(0, 0.1, 40)) for name in "abc"}
    return honest | {name: update(-TRUE + RNG.normal(0, 0.01, 40), 10_000) for name in EVIL}


def test_an_operator_with_many_domains_has_one_voice_in_a_round() -> None:
    joined = joining(TASK, operators=OPERATORS).join(contributed())

    assert np.linalg.norm(joined.changes["w"] - TRUE) < 0.5 * np.linalg.norm(TRUE)
    assert joined.strategy == "FedMedian"  # of four contributions, not of seven
    assert set(joined.used) == {*"abc", *EVIL}


def test_the_domains_of_an_operator_that_were_not_chosen_are_named() -> None:
    operators = {name: f"{name}.example" for name in "abcdefg"} | EVIL
    honest = {name: update(TRUE + RNG.normal(0, 0.1, 40)) for name in "abcdefg"}
    bad = {name: update(-20 * TRUE) for name in EVIL}

    joined = joining(TASK, operators=operators).join(honest | bad)

    assert joined.strategy == "MultiKrum"
    assert not set(EVIL) & set(joined.used)
    assert set(joined.clipped) >= set(EVIL)


def test_domains_of_one_operator_alone_each_have_a_voice() -> None:
    whose = dict.fromkeys("abc", "one.example")

    assert voices("abc", whose) == {"a": ("a",), "b": ("b",), "c": ("c",)}
    assert voices("abd", whose) == {"operator one.example": ("a", "b"), "d": ("d",)}


def test_an_operator_with_many_domains_has_one_voice_in_the_gate() -> None:
    losses = dict.fromkeys(OPERATORS, 1.0)
    lies = {name: 0.1 if name in EVIL else 3.0 for name in OPERATORS}
    gates = [Gate(tolerance=0.05, judges=2), Gate(tolerance=0.05, judges=2, operators=OPERATORS)]
    for gate in gates:
        gate.begin(losses)

    believed, one_voice = (gate.judge(lies) for gate in gates)

    assert believed.accepted  # what many domains of one operator could do
    assert not one_voice.accepted


def test_operators_reach_the_rounds() -> None:
    whose = dict.fromkeys(DOMAINS[:3], "one.example") | {DOMAINS[3]: "other.example"}
    held = {domain: holding(panel(index)) for index, domain in enumerate(DOMAINS)}
    with in_process(held) as carrier:
        outcome = run(carrier, task=shorter(rounds=1), plan=Plan(30.0, explain=False, operators=whose))

    assert any("median of 2 contributions" in note for note in outcome.notes)


@pytest.mark.parametrize(
    ("part", "said"),
    [
        ('"seed": -1', "seed"),
        ('"seed": 9223372036854775808', "seed"),
        ('"step_s": 1e-10', "step_s"),
        ('"window": {"length_s": 1e300}', "window.length_s"),
        ('"window": {"start": -5}', "window.start"),
        ('"quantiles": []', "quantiles"),
        ('"quantiles": [' + ",".join(["0.5"] * 65) + "]", "quantiles"),
        ('"settings": {"x": "' + "y" * 257 + '"}', "settings"),
        ('"features": [{"kpi": "' + "y" * 257 + '", "unit": "1"}]', "features.0.kpi"),
    ],
)
def test_tasks_that_would_end_a_broker_or_an_agent_are_none(part: str, said: str) -> None:
    with pytest.raises(ContractError, match=f"task: {said}"):
        Task.from_json(f'{{"model": "m", {part}}}'.encode())


@pytest.mark.parametrize(
    "settings",
    [{"lags": 10_000}, {"horizons": tuple(range(1, 65)), "features": (FEATURE, replace(FEATURE, kpi="b"))}],
)
def test_a_model_larger_than_any_message_is_not_even_begun(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="4,000,000 at most"):
        learner(shorter(settings={"hidden": 1024}, **settings))


def test_a_share_that_no_number_holds_is_left_out() -> None:
    said = {"a": {"b": 1e308, "c": 2.0}, "b": {"c": 1e308}}

    assert brought({"a": 1.0, "b": 0.0, "c": 1.0}, said) == {"a": 1.0, "b": 1e308}
    assert brought({"b": 0.0}, {"a": {"b": 1e308}}) == {}


async def test_who_does_not_say_what_it_spent_ends_no_training(tmp_path: Path) -> None:
    registry = ModelRegistry(tmp_path, who="test", identity=lambda: None, max_bytes=1 << 20, kept=3)
    arrays = {"w": np.zeros(3, np.float32)}
    spent = {"ran": 1.5, "core": math.inf, "edge": math.nan}
    made = Made(arrays, 1, ("core", "edge", "ran"), {}, {}, privacy_spent=spent)

    card, _ = await registry.add(TASK, "run", made)
    registry.close()

    assert card.privacy_spent == {"ran": 1.5}
    assert card.notes == ("core does not say what it spent", "edge does not say what it spent")


def test_alone_counts_the_best_round_as_together_does() -> None:
    task = shorter(rounds=6, learning_rate=0.4)
    held, model = panel(0), learner(task)
    arrays = model.initial(np.random.default_rng(task.seed))
    losses = []
    trained = arrays
    for number in range(1, task.rounds + 1):
        trained = model.train(trained, held, generator(task, number, "ran")).arrays
        losses.append(model.evaluate(trained, held)["loss"])
    assert min(losses) < losses[-1]  # else it would say nothing

    with InProcess({"ran": client_app(holding(held), domain="ran")}) as carrier:
        grid = CarriedGrid(carrier, "a-run")
        (node,) = grid.get_node_ids()
        config = ConfigRecord({"task": task.to_json(), "server-round": 7})
        content = RecordDict({"arrays": record_of(arrays), "config": config})
        (reply,) = grid.send_and_receive([grid.create_message(content, ALONE, node, "7")], timeout=60)

    assert reply.content["metrics"]["loss"] == pytest.approx(min(losses))


def test_a_loss_is_never_of_a_few_windows() -> None:
    model = learner(TASK)
    arrays = model.initial(np.random.default_rng(0))
    held = panel(0, steps=100)

    with pytest.raises(ContractError, match="9 windows of 6 steps in the holdout of 9 steps, 10 at least"):
        model.evaluate(arrays, replace(held, holdout_from=91))
    assert model.evaluate(arrays, replace(held, holdout_from=90))["windows"] == 10


def test_no_level_of_a_marginal_is_a_sample() -> None:
    values = np.sort(RNG.normal(100, 10, LEAST_VALUES))[:, None]
    higher = values.copy()
    higher[0] -= 50
    higher[-1] += 50

    change = np.abs(Marginals.fit(higher).levels - Marginals.fit(values).levels)

    assert change.max() == pytest.approx(2.5)  # of twenty values at least


def npz(header: str) -> bytes:
    """A file with one array whose header says `header`, and twelve bytes."""
    text = header.encode() + b" " * (-(len(header) + 11) % 64) + b"\n"
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as made:
        made.writestr("w.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + bytes(12))
    return file.getvalue()


def encrypted() -> bytes:
    data = bytearray(encode_arrays({"w": np.zeros(3, np.float32)}))
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    return bytes(data)


@pytest.mark.parametrize(
    "data",
    [
        npz("-" * 9_000 + "1"),
        npz("{'descr': '<f4', 'fortran_order': False, 'shape': (" + "-" * 5_000 + "3,), }"),
        npz("{'descr': '<f4', 'fortran_order': False, 'shape': (True, 3), }"),
        encrypted(),
    ],
    ids=["deep", "deep-shape", "truth", "encrypted"],
)
def test_arrays_that_make_a_reader_fail_are_refused_in_words(data: bytes) -> None:
    with pytest.raises(ContractError, match="arrays: not as they were written"):
        decode_arrays(data, 1 << 20)


def test_a_naive_rival_that_one_domain_thought_up_is_no_row_of_the_card() -> None:
    said = {name: {"loss": 1.0, "naive:persistence": 2.0} for name in "abc"}
    said["c"] |= {"naive:magic": 1e-9}

    assert set(scores(said, {})) == {"model", "naive:persistence", *(f"operator:{name}" for name in "abc")}


def test_two_operators_are_too_few_for_sums_however_many_domains_they_have() -> None:
    held = {domain: holding(panel(index)) for index, domain in enumerate(DOMAINS)}
    whose = dict.fromkeys(DOMAINS[:3], "one.example") | {DOMAINS[3]: "other.example"}
    task = shorter(profile=Profile.PRIVATE, privacy=Privacy())
    with in_process(held) as carrier, pytest.raises(RoundRefused) as refused:
        run(carrier, task=task, plan=Plan(30.0, explain=False, operators=whose))

    assert "the domains are two operators': one.example, other.example; `private` needs 3" in str(
        refused.value
    )


async def test_models_of_no_end_of_names_are_not_kept(tmp_path: Path) -> None:
    registry = ModelRegistry(tmp_path, who="test", identity=lambda: None, max_bytes=1 << 20, kept=3)
    made = Made({"w": np.zeros(3, np.float32)}, 1, ("core", "ran"), {}, {})
    for number in range(100):
        await registry.add(shorter(model=f"m-{number}"), "run", made)

    with pytest.raises(OverCapacity, match="model 'one-more': 100 others are kept"):
        await registry.add(shorter(model="one-more"), "run", made)
    assert (await registry.add(shorter(model="m-0"), "run", made))[0].version == 2
    registry.close()


def test_versions_have_numbers_that_others_can_count_on_from() -> None:
    card = Card("m", 1, replace(TASK, model="m"), (), 1, "run", 1, ("ran",))

    with pytest.raises(ContractError, match="card: version"):
        Card.from_json(replace(card, version=1 << 31).to_json())


WATCH = Task("watch", Kind.DETECTOR, features=(FEATURE, replace(FEATURE, kpi="b")), rounds=1, batch=64)


def watched(seed: int) -> Panel:
    values = np.random.default_rng(seed).normal(5, 1, (2, 200, 2))
    return Panel(("one", "two"), tuple(feature.kpi for feature in WATCH.features), values, 0, 60.0, 160)


def statistics(change: Callable[[Arrays], Arrays]) -> Callable[[bytes, bytes], bytes]:
    """Sends something else where statistics are asked for."""

    def tamper(message: bytes, reply: bytes) -> bytes:
        asked, said = decode(message), decode(reply)
        if asked.metadata.message_type != STATISTICS:
            return reply
        arrays = change(arrays_in(next(iter(said.content.array_records.values()))))
        metrics = MetricRecord(dict(next(iter(said.content.metric_records.values()))))
        return answer_to(asked, RecordDict({"arrays": record_of(arrays), "metrics": metrics}))

    return tamper


def test_statistics_of_another_form_are_left_out_whoever_comes_first() -> None:
    held = {domain: holding(watched(index)) for index, domain in enumerate(DOMAINS)}
    with in_process(held) as carrier:
        first = carrier.domains()[0]
        odd = Tampering(carrier, {first: statistics(lambda _: {"x": np.zeros(3, np.float32)})})
        outcome = run(odd, task=WATCH)

    assert outcome.rounds
    assert np.isfinite(outcome.arrays["drift.log"]).all()


def test_an_operator_with_many_domains_has_one_voice_in_statistics() -> None:
    held = {domain: holding(watched(index % 2)) for index, domain in enumerate([*"ab", *EVIL])}
    lie = statistics(lambda said: said | {"drift.log": np.full_like(said["drift.log"], 9.0)})
    with in_process(held) as carrier:
        lying = Tampering(carrier, dict.fromkeys(EVIL, lie))
        outcome = run(lying, task=WATCH, plan=Plan(30.0, explain=False, operators=OPERATORS))

    assert np.abs(outcome.arrays["drift.log"]).max() < 2


def test_the_liar_of_the_demo_is_an_app_and_lies(tmp_path: Path) -> None:
    file = tmp_path / "own.py"
    file.write_text(MALICIOUS)
    lying = _an_app(own_app(file)(holding(panel(1)), domain="ran", task=TASK))
    honest = client_app(holding(panel(1)), domain="ran")
    start = learner(TASK).initial(np.random.default_rng(0))
    config = ConfigRecord({"task": TASK.to_json(), "server-round": 1})
    content = RecordDict({"arrays": record_of(start), "config": config})
    message = encode(Message(content, dst_node_id=7, message_type="train"), run="a")

    said = [
        arrays_in(next(iter(decode(Endpoint(app).answer(message)).content.array_records.values())))
        for app in (honest, lying)
    ]

    moved, lied = (one["out_bias"] - start["out_bias"] for one in said)
    np.testing.assert_allclose(lied, FACTOR * moved, rtol=1e-3, atol=1e-5)
