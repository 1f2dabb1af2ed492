"""Rounds under `private`: the server learns sums, and nothing of one domain; what does not fit is refused."""

from __future__ import annotations

import io
import pickle
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from learning_parts import DOMAINS, TASK, holding, panel

import domain_twin.learning.private as domain_side
from domain_twin.agent.learner_child import ChildSettings, _Work
from domain_twin.config import IdentityConfig
from domain_twin.errors import ContractError
from domain_twin.learning import contribution
from domain_twin.learning.client import Endpoint, client_app
from domain_twin.learning.contribution import Absence
from domain_twin.learning.flower import (
    ConfigRecord,
    Message,
    RecordDict,
    decode,
    encode,
    node_number,
    record_of,
)
from domain_twin.learning.learner import Arrays, Trained, learner
from domain_twin.learning.ledger import Ledger
from domain_twin.learning.private import CONFIG, private_app
from domain_twin.learning.secagg import (
    MAX_WEIGHT,
    RECORD_KEY_CONFIGS,
    VOUCHED,
    Key,
    Stage,
    exposed,
    quantization,
    threshold,
)
from domain_twin.learning.task import Privacy, Profile
from domain_twin.learning.vouching import Vouching
from domain_twin.trust.ca import OperatorCA
from domain_twin.trust.identity import Role
from federation.learning.grid import CarriedGrid, InProcess
from federation.learning.reports import RoundReport
from federation.learning.rounds import Plan, train
from federation.learning.sums import RoundRefused, Summed, sum_round

TOLD = replace(TASK, profile=Profile.PRIVATE, privacy=Privacy(epsilon=50.0), rounds=2, learning_rate=3e-3)
PLAN = Plan(deadline_s=60.0)
STAGES = (Stage.SETUP, Stage.SHARE_KEYS, Stage.COLLECT_MASKED_VECTORS, Stage.UNMASK)


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Arrays, Arrays, int]]:
    """What domains trained: (base, arrays, records) each, as it was before it was masked."""
    seen: list[tuple[Arrays, Arrays, int]] = []
    real = domain_side.train_private

    def watched(task: Any, model: Any, arrays: Arrays, *rest: Any, **named: Any) -> tuple[Trained, float]:
        made, epsilon = real(task, model, arrays, *rest, **named)
        seen.append((arrays, made.arrays, made.samples))
        return made, epsilon

    monkeypatch.setattr(domain_side, "train_private", watched)
    return seen


class Spied:
    """A carrier that keeps all that domains send, and may change or lose it."""

    def __init__(
        self, inner: InProcess, change: Callable[[str, str, bytes, bytes], bytes | None] | None = None
    ) -> None:
        self.inner = inner
        self.change = change
        self.sent: list[tuple[str, str, bytes]] = []
        self.asked: list[tuple[str, bytes]] = []

    def domains(self) -> Sequence[str]:
        return self.inner.domains()

    def carry(self, domain: str, message: bytes, timeout_s: float) -> Future[bytes]:
        self.asked.append((domain, message))
        reply: Future[bytes] = Future()

        def done(answer: Future[bytes]) -> None:
            data: bytes | None = answer.result()
            stage = stage_in(message)
            if self.change is not None:
                data = self.change(domain, stage, message, data or b"")
            if data is None:
                reply.set_exception(ConnectionError("gone"))
                return
            self.sent.append((domain, stage, data))
            reply.set_result(data)

        self.inner.carry(domain, message, timeout_s).add_done_callback(done)
        return reply


def stage_in(message: bytes) -> str:
    return str(decode(message).content.config_records[RECORD_KEY_CONFIGS][Key.STAGE])


def apps(folder: Path, domains: Sequence[str] = DOMAINS, epsilon: float = 50.0) -> InProcess:
    return InProcess(
        {
            domain: private_app(
                holding(panel(index)), domain=domain, ledger=Ledger(folder / domain, epsilon=epsilon)
            )
            for index, domain in enumerate(domains)
        }
    )


def initial() -> Arrays:
    return learner(TOLD).initial(np.random.default_rng(TOLD.seed))


def one_round(carrier: Any, **settings: Any) -> Summed:
    return sum_round(TOLD, CarriedGrid(carrier, "run"), initial(), number=1, timeout_s=60.0, **settings)


def mean_of(seen: Sequence[tuple[Arrays, Arrays, int]]) -> Arrays:
    """The weighted mean of clipped updates, computed in the open."""
    weights = [min(samples, MAX_WEIGHT) for *_, samples in seen]
    updates = [contribution.clipped(contribution.update(made, base), 1.0) for base, made, _ in seen]
    return {
        name: sum(w * one[name] for w, one in zip(weights, updates, strict=True)) / sum(weights)
        for name in seen[0][0]
    }


def vectors_in(data: bytes) -> list[np.ndarray]:
    said = decode(data).content.config_records[RECORD_KEY_CONFIGS][Key.MASKED_PARAMETERS]
    return [np.load(io.BytesIO(part)) for part in said]  # type: ignore[union-attr]


def edited(data: bytes, change: Callable[[Message], None]) -> bytes:
    message = decode(data)
    change(message)
    return encode(message, run="run", message_id=message.metadata.message_id)


def test_sum_is_the_mean_of_what_the_domains_trained(tmp_path: Path, trained: list[Any]) -> None:
    with apps(tmp_path) as carrier:
        summed = one_round(carrier)

    assert len(summed.contributors) == 4
    for name, expected in mean_of(trained).items():
        np.testing.assert_allclose(summed.changes[name], expected, atol=1e-6)


def test_what_a_domain_sends_says_nothing_of_its_update(tmp_path: Path, trained: list[Any]) -> None:
    with apps(tmp_path) as inner:
        carrier = Spied(inner)
        one_round(carrier)

    everything = b"".join(data for _, _, data in carrier.sent)
    for base, made, samples in trained:
        for name in base:
            change = contribution.update(made, base)[name]
            for secret in (made[name], change, change.astype(np.float32)):
                raw = np.ascontiguousarray(secret).tobytes()
                assert raw[: min(len(raw), 64)] not in everything
            steps = quantization(4) / 2 * (change * (samples / MAX_WEIGHT) + 1)
            for number in np.round(steps).astype(np.int64).ravel()[:20]:
                assert number.tobytes() not in everything
    masked = [vectors_in(data) for _, stage, data in carrier.sent if stage == Stage.COLLECT_MASKED_VECTORS]
    for vectors in masked:
        numbers = np.concatenate([vector.ravel() for vector in vectors]) / 2**32
        assert np.abs(np.histogram(numbers, 4, (0, 1))[0] / len(numbers) - 0.25).max() < 0.15  # uniform
        mine = np.concatenate([vector.ravel() for vector in vectors[1:-1]])
        for base, made, _ in trained:
            changes = contribution.update(made, base)
            flat = np.concatenate([changes[name].ravel() for name in sorted(base)])
            assert abs(np.corrcoef(mine, flat)[0, 1]) < 0.3


def test_messages_hold_no_counts_and_no_measures(tmp_path: Path) -> None:
    with apps(tmp_path) as inner:
        carrier = Spied(inner)
        one_round(carrier)

    for _, stage, data in carrier.sent:
        content = decode(data).content
        for name, record in content.metric_records.items():
            assert set(record.values()) <= {0, 1}, name  # a status and a count that says nothing
        for record in content.array_records.values():
            assert not record
        for name, record in content.config_records.items():
            if name != RECORD_KEY_CONFIGS:
                assert set(record) <= {"epsilon", "message", "code"}, (stage, name)


def test_masks_are_not_those_of_flower(tmp_path: Path) -> None:
    """Flower's have 32 bits of seed: whoever holds the private seed's fold knows the mask."""
    from flwr.common.secure_aggregation.secaggplus_utils import pseudo_rand_gen

    from domain_twin.learning.secagg import MASKING, keystream

    for module in MASKING:
        assert module.pseudo_rand_gen is keystream
    same_fold = (b"\0" * 28 + b"\1\0\0\0", b"\1\0\0\0" + b"\0" * 28)
    flowers = [pseudo_rand_gen(seed, 1 << 32, [(8,)])[0] for seed in same_fold]
    ours = [keystream(seed, 1 << 32, [(8,)])[0] for seed in same_fold]
    assert (flowers[0] == flowers[1]).all()
    assert not (ours[0] == ours[1]).any()


@pytest.mark.parametrize("stage", STAGES)
def test_domain_that_drops_out_at_a_stage_is_tolerated(
    tmp_path: Path, trained: list[Any], stage: str
) -> None:
    with apps(tmp_path) as inner:
        carrier = Spied(inner, lambda domain, at, _, data: None if (domain, at) == ("ran", stage) else data)
        summed = one_round(carrier)

    after = stage == Stage.UNMASK  # its masked update had arrived
    assert (node_number("ran") in summed.contributors) is after
    assert summed.absent[node_number("ran")] == (stage, Absence.UNREACHABLE)
    in_it = trained if after else [one for one in trained if same_as(one, summed, trained)]
    for name, expected in mean_of(in_it).items():
        np.testing.assert_allclose(summed.changes[name], expected, atol=1e-6)


def same_as(one: Any, summed: Summed, seen: Sequence[Any]) -> bool:
    """Whether `one` is in the sum: of four trained and three in it, one is not."""
    if len(seen) == len(summed.contributors):
        return True
    rest = [other for other in seen if other is not one]
    name = next(iter(summed.changes))
    return not np.allclose(mean_of(rest)[name], summed.changes[name], atol=1e-6)


@pytest.mark.parametrize("stage", STAGES)
def test_round_with_too_few_is_refused_in_words(tmp_path: Path, stage: str) -> None:
    gone = ("ran", "core")
    with apps(tmp_path) as inner:
        carrier = Spied(inner, lambda domain, at, _, data: None if domain in gone and at == stage else data)
        with pytest.raises(
            RoundRefused, match=r"2 of 4 domains answered at .*, 3 must|did not come out|at unmasking"
        ):
            one_round(carrier)


def test_fewer_than_three_domains_are_refused(tmp_path: Path) -> None:
    with (
        apps(tmp_path, DOMAINS[:2]) as carrier,
        pytest.raises(RoundRefused, match="each learns the other's part"),
    ):
        one_round(carrier)


def test_threshold_is_more_than_half_and_three_at_least() -> None:
    assert [threshold(n) for n in (3, 4, 5, 6, 7, 8)] == [3, 3, 3, 4, 4, 5]


def test_wrong_shares_end_the_round(tmp_path: Path) -> None:
    def lie(message: Message) -> None:
        said = message.content.config_records[RECORD_KEY_CONFIGS]
        shares = list(said[Key.SHARE_LIST])  # type: ignore[arg-type]
        said[Key.SHARE_LIST] = [share[:4] + bytes(len(share) - 4) for share in shares]

    with apps(tmp_path) as inner:
        carrier = Spied(
            inner,
            lambda domain, at, _, data: edited(data, lie) if (domain, at) == ("ran", Stage.UNMASK) else data,
        )
        with pytest.raises(RoundRefused, match="nothing of the round is used"):
            one_round(carrier)


def test_sum_of_random_numbers_is_no_model(tmp_path: Path) -> None:
    """A domain that does not mask as agreed: what is left is noise, which no sum of clipped updates is."""

    def scramble(message: Message) -> None:
        said = message.content.config_records[RECORD_KEY_CONFIGS]
        made = []
        for part in said[Key.MASKED_PARAMETERS]:  # type: ignore[union-attr]
            vector = np.load(io.BytesIO(part))  # type: ignore[arg-type]
            out = io.BytesIO()
            np.save(out, np.random.default_rng(1).integers(0, 1 << 32, vector.shape))
            made.append(out.getvalue())
        said[Key.MASKED_PARAMETERS] = made

    with apps(tmp_path) as inner:
        at = Stage.COLLECT_MASKED_VECTORS
        carrier = Spied(
            inner,
            lambda domain, stage, _, data: edited(data, scramble) if (domain, stage) == ("ran", at) else data,
        )
        with pytest.raises(RoundRefused, match="the masks did not come off"):
            one_round(carrier)


@pytest.mark.parametrize("wrong", ["shape", "dtype", "count", "bytes", "missing"])
def test_masked_vector_of_another_form_leaves_its_domain_out(tmp_path: Path, wrong: str) -> None:
    def change(message: Message) -> None:
        said = message.content.config_records[RECORD_KEY_CONFIGS]
        vectors: list[bytes] = list(said[Key.MASKED_PARAMETERS])  # type: ignore[arg-type]
        out = io.BytesIO()
        first = np.load(io.BytesIO(vectors[1]))
        if wrong == "shape":
            np.save(out, first.reshape(-1, 1))
        elif wrong == "dtype":
            np.save(out, first.astype(np.float64))
        elif wrong == "bytes":
            out.write(b"\x93NUMPY\x01\x00junk" + bytes(8 * first.size))
        else:
            out.write(vectors[1])
        vectors[1] = out.getvalue()
        said[Key.MASKED_PARAMETERS] = vectors[:-1] if wrong == "count" else vectors
        if wrong == "missing":
            del said[Key.MASKED_PARAMETERS]

    with apps(tmp_path) as inner:
        at = Stage.COLLECT_MASKED_VECTORS
        carrier = Spied(
            inner,
            lambda domain, stage, _, data: edited(data, change) if (domain, stage) == ("ran", at) else data,
        )
        summed = one_round(carrier)

    assert summed.absent[node_number("ran")] == (at, Absence.MALFORMED)
    assert len(summed.contributors) == 3


def test_training_gets_better_and_the_card_shows_what_each_domain_spent(tmp_path: Path) -> None:
    reports: list[RoundReport] = []
    with apps(tmp_path) as carrier:
        outcome = train(TOLD, CarriedGrid(carrier, "run"), plan=PLAN, on_round=reports.append)

    assert [report.round for report in reports] == [0, 1, 2]
    assert outcome.scores["model"]["loss"] < outcome.scores["first"]["loss"]
    assert outcome.contributors == DOMAINS
    assert set(outcome.privacy_spent) == set(DOMAINS)
    for domain, epsilon in outcome.privacy_spent.items():
        assert epsilon == pytest.approx(Ledger(tmp_path / domain).spent(TOLD.model))
    assert not any(row.startswith("operator:") for row in outcome.scores)
    assert all(domain.loss is None for report in reports for domain in report.domains.values())


def test_spent_budget_ends_the_training_with_the_last_good_model(tmp_path: Path) -> None:
    told = replace(TOLD, rounds=6, privacy=Privacy(epsilon=6.0))
    with apps(tmp_path) as carrier:
        outcome = train(told, CarriedGrid(carrier, "run"), plan=PLAN)
    with apps(tmp_path) as carrier:
        again = train(told, CarriedGrid(carrier, "another run"), plan=PLAN)

    assert 0 < outcome.accepted < 6
    assert "the domain's privacy budget is spent" in outcome.problem
    assert again.accepted == 0
    assert "the domain's privacy budget is spent" in again.problem
    assert all(0 < epsilon <= 6.0 for epsilon in outcome.privacy_spent.values())


def test_model_that_domains_call_worse_is_dropped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = domain_side.train_private

    def turned(task: Any, model: Any, arrays: Arrays, *rest: Any, **named: Any) -> tuple[Trained, float]:
        made, epsilon = real(task, model, arrays, *rest, **named)
        if named["round_number"] == 2:  # all of them, since one alone cannot move the mean by much
            away = {name: base - 1e3 * (made.arrays[name] - base) for name, base in arrays.items()}
            made = Trained(away, made.samples)
        return made, epsilon

    monkeypatch.setattr(domain_side, "train_private", turned)
    with apps(tmp_path) as carrier:
        outcome = train(replace(TOLD, rounds=4), CarriedGrid(carrier, "run"), plan=PLAN)

    by_round = {report.round: report for report in outcome.rounds}
    assert by_round[1].accepted
    assert not by_round[2].accepted
    assert "worse on the domains' own holdouts" in by_round[2].reason
    assert "which was dropped" in by_round[3].reason
    assert by_round[4].accepted
    assert outcome.scores["model"]["loss"] <= by_round[1].loss  # type: ignore[operator]


# What a domain refuses, whoever asks.


def asked(
    stage: str, configs: Mapping[str, Any], *, round_: int = 1, told: Any = TOLD, **records: Any
) -> Message:
    content = RecordDict({CONFIG: ConfigRecord({"task": told.to_json().decode(), "server-round": round_})})
    content[RECORD_KEY_CONFIGS] = ConfigRecord({Key.STAGE: stage, **configs})
    for name, record in records.items():
        content[name] = record
    return Message(content, node_number("ran"), "train", group_id=str(round_))


SETUP: dict[str, Any] = {
    Key.SAMPLE_NUMBER: 4,
    Key.SHARE_NUMBER: 4,
    Key.THRESHOLD: 3,
    Key.CLIPPING_RANGE: 1.0,
    Key.TARGET_RANGE: quantization(4),
    Key.MOD_RANGE: 1 << 32,
    Key.MAX_WEIGHT: MAX_WEIGHT,
}


def endpoint(folder: Path, **settings: Any) -> Endpoint:
    ledger = Ledger(folder / "ran", epsilon=50.0)
    return Endpoint(private_app(holding(panel(0)), domain="ran", ledger=ledger, **settings))


def answer(of: Endpoint, message: Message, message_id: str = "") -> Message:
    return decode(of.answer(encode(message, run="run", message_id=message_id)))


def word(reply: Message) -> str:
    return str(reply.error.reason) if reply.has_error() else ""


def test_setup_as_agreed_is_answered_with_keys_only(tmp_path: Path) -> None:
    reply = answer(endpoint(tmp_path), asked(Stage.SETUP, SETUP))

    assert set(reply.content.config_records[RECORD_KEY_CONFIGS]) == {Key.PUBLIC_KEY_1, Key.PUBLIC_KEY_2}
    assert not reply.content.array_records


@pytest.mark.parametrize(
    "weaker",
    [
        {Key.THRESHOLD: 2},
        {Key.THRESHOLD: 0},
        {Key.SAMPLE_NUMBER: 2, Key.SHARE_NUMBER: 2, Key.THRESHOLD: 2, Key.TARGET_RANGE: quantization(2)},
        {Key.SAMPLE_NUMBER: 9, Key.SHARE_NUMBER: 4},
        {Key.SAMPLE_NUMBER: 9, Key.SHARE_NUMBER: 5, Key.THRESHOLD: 5, Key.TARGET_RANGE: quantization(9)},
        {Key.THRESHOLD: True},
        {Key.MOD_RANGE: 1 << 8},
        {Key.CLIPPING_RANGE: 1e9},
        {Key.TARGET_RANGE: 1 << 31},
        {Key.MAX_WEIGHT: 1.0},
    ],
)
def test_weaker_setup_is_refused(tmp_path: Path, weaker: dict[str, Any]) -> None:
    assert word(answer(endpoint(tmp_path), asked(Stage.SETUP, SETUP | weaker))) == Absence.MALFORMED


def test_stage_before_its_time_is_refused(tmp_path: Path) -> None:
    side = endpoint(tmp_path)

    for stage in STAGES[1:]:
        assert word(answer(side, asked(stage, {}))) == Absence.MALFORMED


def test_replayed_message_is_refused(tmp_path: Path) -> None:
    side = endpoint(tmp_path)

    assert word(answer(side, asked(Stage.SETUP, SETUP), "once")) == ""
    assert word(answer(side, asked(Stage.SETUP, SETUP), "once")) == Absence.REPLAYED
    assert word(answer(side, asked(Stage.SETUP, SETUP, round_=2))) == ""
    assert word(answer(side, asked(Stage.SETUP, SETUP, round_=1))) == Absence.REPLAYED


@pytest.mark.parametrize("stage", STAGES)
def test_stage_that_is_asked_for_twice_is_answered_once(tmp_path: Path, stage: str) -> None:
    """Again with an id of its own, as a server would that wants two vectors under one mask."""
    with apps(tmp_path) as inner:
        carrier = Spied(inner)
        one_round(carrier)
        message = next(data for to, data in carrier.asked if to == "ran" and stage_in(data) == stage)
        again = decode(message)
        reply = decode(inner.carry("ran", encode(again, run="run"), 30.0).result(30))
        if stage == Stage.SETUP:  # a new beginning: new keys, and no second training of this round
            assert not reply.has_error()
            assert len(Ledger(tmp_path / "ran").entries()) == 1
        else:
            assert reply.has_error()


def test_round_is_not_trained_twice_with_new_masks(tmp_path: Path) -> None:
    with apps(tmp_path) as inner:
        one_round(Spied(inner))
        with pytest.raises(RoundRefused, match="a message was seen before"):
            one_round(Spied(inner))

        assert len(Ledger(tmp_path / "ran").entries()) == 1


UNMASK: dict[str, Callable[[list[int], int], tuple[list[int], list[int]]]] = {
    "both of one's secrets": lambda nodes, own: (nodes, [one for one in nodes if one != own][:1]),
    "twice the same": lambda nodes, own: ([own, own, own], []),
    "too few": lambda nodes, own: ([own, nodes[0] if nodes[0] != own else nodes[1]], []),
    "without oneself": lambda nodes, own: ([one for one in nodes if one != own], [own]),
}


@pytest.mark.parametrize("how", UNMASK)
def test_unmasking_that_reveals_a_domain_is_refused(tmp_path: Path, how: str) -> None:
    """A server that lies asks one domain for what it may not learn; this domain says nothing."""

    class Lying(Spied):
        def carry(self, domain: str, message: bytes, timeout_s: float) -> Future[bytes]:
            if domain == "ran" and stage_in(message) == Stage.UNMASK:
                told = decode(message)
                configs = told.content.config_records[RECORD_KEY_CONFIGS]
                nodes = list(configs[Key.ACTIVE_NODE_ID_LIST])  # type: ignore[arg-type]
                active, dead = UNMASK[how](nodes, node_number("ran"))  # type: ignore[arg-type]
                configs[Key.ACTIVE_NODE_ID_LIST], configs[Key.DEAD_NODE_ID_LIST] = active, dead
                message = encode(told, run="run", message_id=told.metadata.message_id)
            return super().carry(domain, message, timeout_s)

    with apps(tmp_path) as inner:
        summed = one_round(Lying(inner))

    assert summed.absent[node_number("ran")] == (Stage.UNMASK, Absence.MALFORMED)


def test_agents_own_process_keeps_the_ledger_in_its_state(tmp_path: Path) -> None:
    settings = ChildSettings("ran", str(tmp_path), 4 << 30, 1 << 24, epsilon=0.001, delta=1e-5)
    work = _Work(settings)
    work.open("run", TOLD.to_json(), panel(0))

    def ask(side: _Work) -> str:
        return word(decode(side.message("run", encode(asked(Stage.SETUP, SETUP), run="run")) or b""))

    assert ask(work) == Absence.SPENT  # no round fits the domain's own limit, whatever the task says
    generous = _Work(replace(settings, epsilon=50.0))
    generous.open("run", TOLD.to_json(), panel(0))
    assert ask(generous) == ""
    (tmp_path / "privacy.json").write_text("{")
    assert ask(generous) == Absence.SPENT


def test_domains_that_come_late_are_waited_for(tmp_path: Path) -> None:
    with apps(tmp_path) as inner:

        class Late(Spied):
            asked_for = 0

            def domains(self) -> Sequence[str]:
                self.asked_for += 1
                return DOMAINS[:1] if self.asked_for < 6 else DOMAINS

        outcome = train(replace(TOLD, rounds=1), CarriedGrid(Late(inner), "run"), plan=PLAN)

    assert outcome.accepted == 1


def test_plain_training_is_refused_on_both_sides(tmp_path: Path) -> None:
    plain = RecordDict({CONFIG: ConfigRecord({"task": TOLD.to_json().decode(), "server-round": 1})})
    plain["arrays"] = record_of(initial())
    message = Message(plain, node_number("ran"), "train", group_id="1")

    assert word(answer(endpoint(tmp_path), message)) == Absence.MALFORMED
    for kind in ("train", "evaluate"):
        message = Message(plain, node_number("ran"), kind, group_id="1")
        plainly = Endpoint(client_app(holding(panel(0)), domain="ran"))
        assert word(answer(plainly, message)) == Absence.NOT_SHARED


@pytest.mark.parametrize("kind", ["evaluate", "query.statistics", "query.alone"])
def test_judgements_and_statistics_are_not_told_under_private(tmp_path: Path, kind: str) -> None:
    content = RecordDict({CONFIG: ConfigRecord({"task": TOLD.to_json().decode(), "server-round": 1})})
    content["arrays"] = record_of(initial())

    assert word(answer(endpoint(tmp_path), Message(content, node_number("ran"), kind))) == Absence.NOT_SHARED


def test_task_that_was_not_agreed_to_is_refused(tmp_path: Path) -> None:
    side = endpoint(tmp_path, task=TOLD)
    weaker = replace(TOLD, privacy=Privacy(epsilon=50.0, noise_multiplier=0.01))

    assert word(answer(side, asked(Stage.SETUP, SETUP, told=weaker))) == Absence.MALFORMED
    assert word(answer(side, asked(Stage.SETUP, SETUP))) == ""


# Keys that domains sign, so that a broker cannot put its own in their place.


def vouchings(folder: Path, whose: Mapping[str, str] | None = None) -> dict[str, Vouching]:
    """Of all DOMAINS, each with an operator and a CA of its own, where `whose` does not say another."""
    operators = {domain: f"{domain}.example" for domain in DOMAINS} | dict(whose or {})
    cas = {name: OperatorCA.create(name, folder / name) for name in set(operators.values())}
    made = {}
    for domain in DOMAINS:
        ca = cas[operators[domain]]
        made[domain] = (ca, ca.issue(Role.AGENT, domain, folder / domain))
    return {
        domain: Vouching(
            operators[domain],
            domain,
            IdentityConfig(
                certificate=issued.certificate,
                key=issued.key,
                signing_certificate=issued.signing_certificate,
                signing_key=issued.signing_key,
            ),
            {str(other.identity): authority.root for authority, other in made.values()},
        )
        for domain, (_, issued) in made.items()
    }


def vouched_apps(folder: Path, vouching: Mapping[str, Vouching]) -> InProcess:
    return InProcess(
        {
            domain: private_app(
                holding(panel(index)),
                domain=domain,
                ledger=Ledger(folder / f"{domain}.json", epsilon=50.0),
                vouching=vouching.get(domain),
            )
            for index, domain in enumerate(DOMAINS)
        }
    )


def test_round_with_signed_keys_comes_to_a_sum(tmp_path: Path, trained: list[Any]) -> None:
    with vouched_apps(tmp_path, vouchings(tmp_path)) as carrier:
        summed = one_round(carrier)

    assert len(summed.contributors) == 4
    for name, expected in mean_of(trained).items():
        np.testing.assert_allclose(summed.changes[name], expected, atol=1e-6)


LIES = ("another's statement", "no statement", "its own keys", "another round's")


@pytest.mark.parametrize("lie", LIES)
def test_keys_that_a_domain_did_not_sign_are_refused(tmp_path: Path, lie: str) -> None:
    """A broker that shows `ran` keys of its own in the place of `core`'s."""
    from flwr.supercore.primitives.asymmetric import generate_key_pairs, public_key_to_bytes

    core = str(node_number("core"))

    class Lying(Spied):
        def carry(self, domain: str, message: bytes, timeout_s: float) -> Future[bytes]:
            if domain == "ran" and stage_in(message) == Stage.SHARE_KEYS:
                told = decode(message)
                configs = told.content.config_records[RECORD_KEY_CONFIGS]
                vouched = told.content.config_records[VOUCHED]
                if lie == "another's statement":
                    vouched[core] = vouched[str(node_number("edge"))]
                elif lie == "no statement":
                    del vouched[core]
                elif lie == "another round's":
                    vouched[core] = vouching["core"].state(
                        told.metadata.run_id,
                        7,
                        tuple(configs[core]),  # type: ignore[arg-type]
                    )
                else:
                    configs[core] = [public_key_to_bytes(generate_key_pairs()[1]) for _ in range(2)]
                message = encode(told, run="run", message_id=told.metadata.message_id)
            return super().carry(domain, message, timeout_s)

    vouching = vouchings(tmp_path)
    with vouched_apps(tmp_path, vouching) as inner:
        summed = one_round(Lying(inner))

    assert summed.absent[node_number("ran")] == (Stage.SHARE_KEYS, Absence.MALFORMED)
    assert len(summed.contributors) == 3


def test_domain_that_is_no_peer_is_refused(tmp_path: Path) -> None:
    """Somebody whom the broker brought along, with good certificates of nobody's operator."""
    vouching = vouchings(tmp_path)
    known = {name: root for name, root in vouching["ran"].peers.items() if "core" not in name}
    vouching["ran"] = replace(vouching["ran"], peers=known)

    with vouched_apps(tmp_path, vouching) as inner:
        summed = one_round(Spied(inner))

    assert summed.absent[node_number("ran")] == (Stage.SHARE_KEYS, Absence.MALFORMED)


def test_agents_own_process_signs_its_keys(tmp_path: Path) -> None:
    vouching = pickle.loads(pickle.dumps(vouchings(tmp_path)["ran"]))  # as it reaches that process
    work = _Work(ChildSettings("ran", str(tmp_path), 4 << 30, 1 << 24, epsilon=50.0, vouching=vouching))
    work.open("run", TOLD.to_json(), panel(0))

    reply = decode(work.message("run", encode(asked(Stage.SETUP, SETUP), run="run")) or b"")

    said = reply.content.config_records[RECORD_KEY_CONFIGS]
    keys = (said[Key.PUBLIC_KEY_1], said[Key.PUBLIC_KEY_2])
    statement = reply.content.config_records[VOUCHED]["statement"]
    others = vouchings(tmp_path / "others")
    vouching.check("ran", reply.metadata.run_id, 1, keys, statement)
    with pytest.raises(ContractError, match="are not its own"):
        others["core"].check("ran", reply.metadata.run_id, 1, keys, statement)  # type: ignore[arg-type]
    for broken in (b"", b"{}", b"[1]", b'{"certificate": "x", "signature": "y"}', b"x" * 100_000):
        with pytest.raises(ContractError):
            vouching.check("ran", reply.metadata.run_id, 1, keys, broken)


@pytest.mark.parametrize(
    ("operators", "said"),
    [
        ("abc", ""),
        ("aaaa", ""),
        ("aabc", ""),
        ("aabb", r"two operators': a, b; `private` needs 3"),
        ("aaabc", r"3 of 5 domains are a's, which hold shares enough to unmask the others'; fewer than 3"),
        ("aaabcd", ""),
        ("", ""),
    ],
)
def test_a_sum_hides_parts_of_three_operators_of_which_none_has_the_shares(operators: str, said: str) -> None:
    found = exposed(operators, threshold(len(operators)))

    assert bool(found) is bool(said)
    assert re.search(said, found)


ONE = "one.example"


def test_domains_that_know_each_other_count_operators(tmp_path: Path) -> None:
    """Whatever the broker says, who may not know: here it counts each domain as an operator of its own."""
    pairs = dict.fromkeys(DOMAINS[:2], ONE) | dict.fromkeys(DOMAINS[2:], "other.example")
    with vouched_apps(tmp_path, vouchings(tmp_path, pairs)) as inner:
        carrier = Spied(inner)
        with pytest.raises(RoundRefused, match=r"0 of 4 domains answered at shares.*policy does not let"):
            one_round(carrier)

    assert not any(stage == Stage.COLLECT_MASKED_VECTORS for _, stage, _ in carrier.sent)


@pytest.mark.parametrize("broker_knows", [True, False])
def test_nothing_is_unmasked_where_two_operators_are_left(tmp_path: Path, broker_knows: bool) -> None:
    """Three operators share keys, and the third's update does not come."""
    whose = dict.fromkeys(DOMAINS[:2], ONE)
    gone, at = DOMAINS[3], Stage.COLLECT_MASKED_VECTORS
    names = {node_number(domain): whose.get(domain, domain) for domain in DOMAINS}
    with vouched_apps(tmp_path, vouchings(tmp_path, whose)) as inner:
        carrier = Spied(inner, lambda domain, stage, _, data: None if (domain, stage) == (gone, at) else data)
        said = (
            "of those whose masked updates came, the domains are two" if broker_knows else "policy does not"
        )
        with pytest.raises(RoundRefused, match=said):
            one_round(carrier, **({"whose": names.__getitem__} if broker_knows else {}))

    unmasked = [decode(data) for _, stage, data in carrier.sent if stage == Stage.UNMASK]
    assert (unmasked == []) is broker_knows
    assert all(reply.has_error() for reply in unmasked)


def test_domains_that_sign_do_not_go_on_with_one_that_does_not(tmp_path: Path) -> None:
    vouching = vouchings(tmp_path)
    del vouching["core"]

    with vouched_apps(tmp_path, vouching) as inner, pytest.raises(RoundRefused, match="1 of 4 domains"):
        one_round(Spied(inner))
