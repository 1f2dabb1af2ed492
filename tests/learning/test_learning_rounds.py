"""Rounds over four domains within this process: who fails, who is late, who lies, and who is gone."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from itertools import count

import numpy as np
import pytest
from learning_parts import (
    DOMAINS,
    PLAN,
    TASK,
    Tampering,
    answer_to,
    filled,
    holding,
    in_process,
    panel,
    poison,
    run,
    says,
    scaled,
    shorter,
    sources,
)

from domain_twin.errors import ConfigError, ContractError, NotFound, Unreachable
from domain_twin.learning import contribution
from domain_twin.learning.flower import ConfigRecord, MetricRecord, RecordDict, decode, record_of
from domain_twin.learning.learner import Arrays, learner
from domain_twin.learning.panel import Panel
from domain_twin.learning.task import Profile, Task
from federation.learning.grid import CarriedGrid, InProcess
from federation.learning.reports import RoundReport
from federation.learning.rounds import Plan, train
from federation.learning.strategies import Aggregation

FIRST = learner(TASK).initial(np.random.default_rng(TASK.seed))


def padded(content: RecordDict) -> RecordDict:
    """A contribution with a good deal more beside it."""
    content["more"] = ConfigRecord({"padding": bytes(1 << 21)})
    return content


def states(report: RoundReport) -> dict[str, str]:
    return {domain: row.state for domain, row in report.domains.items()}


def test_four_domains_train_a_model_and_see_who_gained_what() -> None:
    seen: list[RoundReport] = []
    with in_process(sources()) as carrier:
        outcome = run(carrier, plan=replace(PLAN, explain=True), on_round=seen.append)

    assert tuple(seen) == outcome.rounds
    assert [report.round for report in seen] == [0, 1, 2, 3]
    assert outcome.accepted == 3
    assert outcome.contributors == DOMAINS
    assert outcome.scores["model"]["loss"] < 0.8 * outcome.scores["first"]["loss"]
    assert "naive:persistence" in outcome.scores
    assert set(outcome.gains) == set(outcome.brought) == set(DOMAINS)
    assert outcome.scores["operator:ran"]["raw"] == seen[-1].domains["ran"].loss
    assert all(report.bytes_out > 1000 and report.bytes_in > 100 for report in seen)
    assert outcome.problem == ""
    contribution.check(outcome.arrays, FIRST)


def test_the_same_task_gives_the_same_model() -> None:
    with in_process(sources()) as carrier:
        one, other = (run(carrier, task=shorter(rounds=1)) for _ in range(2))

    assert contribution.fingerprint(one.arrays) == contribution.fingerprint(other.arrays)
    assert [report.digest for report in one.rounds] == [report.digest for report in other.rounds]


def test_a_report_is_json() -> None:
    with in_process(sources()) as carrier:
        outcome = run(Tampering(carrier, {"ran": says("loss", float("nan"))}), task=shorter(rounds=1))

    for report in outcome.rounds:
        record = json.loads(json.dumps(report.as_record(), allow_nan=False))
        assert set(record["domains"]) == set(DOMAINS)


BAD: dict[str, tuple[Callable[[bytes, bytes], bytes], str]] = {
    "nan": (poison(filled(np.nan)), "malformed"),
    "infinite": (poison(filled(np.inf)), "malformed"),
    "shape": (poison(lambda base, made: {**made, "out": made["out"].T.copy()}), "malformed"),
    "dtype": (poison(lambda base, made: {**made, "out": made["out"].astype(np.float64)}), "malformed"),
    "missing": (poison(lambda base, made: {"out": made["out"]}), "malformed"),
    "unknown": (poison(lambda base, made: {**made, "more": made["out"]}), "malformed"),
    "noise": (lambda asked, reply: b"\xff" * 1000, "malformed"),
    "empty": (lambda asked, reply: b"", "malformed"),
    "oversize": (lambda asked, reply: answer_to(decode(asked), padded(decode(reply).content)), "malformed"),
    "no-samples": (says("num-examples", 0, "train"), "malformed"),
    "nan-samples": (says("num-examples", float("nan"), "train"), "malformed"),
    "no-records": (lambda asked, reply: answer_to(decode(asked), RecordDict()), "malformed"),
    "list": (
        lambda asked, reply: answer_to(
            decode(asked), RecordDict({"metrics": MetricRecord({"num-examples": [1, 2], "loss": 1.0})})
        ),
        "malformed",
    ),
    "echo": (lambda asked, reply: asked, "replayed"),
}


def test_a_round_goes_on_without_contributions_that_are_none() -> None:
    made = {**sources(DOMAINS[:3]), **{name: holding(panel(0)) for name in BAD}}
    with in_process(made) as carrier:
        tampering = Tampering(carrier, {name: tamper for name, (tamper, _) in BAD.items()})
        outcome = train(shorter(rounds=1), CarriedGrid(tampering, "a-run", limit_bytes=1 << 20), plan=PLAN)

    assert outcome.accepted == 1
    said = states(outcome.rounds[1])
    assert {name: said[name] for name in BAD} == {name: word for name, (_, word) in BAD.items()}
    assert outcome.contributors == DOMAINS[:3]


def test_a_reply_of_an_earlier_message_is_refused() -> None:
    kept: list[bytes] = []

    def again(asked: bytes, reply: bytes) -> bytes:
        if decode(asked).metadata.message_type == "train":
            kept.append(reply)
            return kept[0]
        return reply

    with in_process(sources()) as carrier:
        outcome = run(Tampering(carrier, {"edge": again}), task=shorter(rounds=2))

    assert states(outcome.rounds[1])["edge"] != "replayed"
    assert states(outcome.rounds[2])["edge"] == "replayed"


def test_a_reply_in_the_name_of_another_domain_is_refused() -> None:
    def as_ran(asked: bytes, reply: bytes) -> bytes:
        message = decode(reply)
        message.metadata.__dict__["_src_node_id"] = 12345
        from domain_twin.learning.flower import encode

        return encode(message)

    with in_process(sources()) as carrier:
        outcome = run(Tampering(carrier, {"edge": as_ran}), task=shorter(rounds=1))

    assert states(outcome.rounds[1])["edge"] == "malformed"


class Gone(InProcess):
    """Domains that are not there in some rounds."""

    def __init__(self, inner: InProcess) -> None:
        self.inner = inner
        self.away: set[str] = set()
        self.failing: set[str] = set()

    def domains(self) -> tuple[str, ...]:
        return tuple(domain for domain in self.inner.domains() if domain not in self.away)

    def carry(self, domain: str, message: bytes, timeout_s: float) -> Future[bytes]:
        if domain in self.failing:
            raise Unreachable("the session ended")
        return self.inner.carry(domain, message, timeout_s)


def test_domains_that_drop_out_are_left_out_and_taken_back() -> None:
    with in_process(sources()) as inner:
        carrier = Gone(inner)

        def after(report: RoundReport) -> None:
            carrier.failing = {"core"} if report.round == 0 else set()
            carrier.away = {"edge"} if report.round == 1 else set()

        outcome = run(carrier, on_round=after)

    assert states(outcome.rounds[1])["core"] == "unreachable"
    assert "edge" not in states(outcome.rounds[2])
    assert states(outcome.rounds[2])["core"] in {"took-part", "clipped"}
    assert states(outcome.rounds[3])["edge"] in {"took-part", "clipped"}
    assert outcome.accepted == 3


def test_a_straggler_is_cut_off_and_counts_again_when_it_is_back() -> None:
    release = threading.Event()

    def slow(_: Task) -> Panel:
        release.wait(60)
        return panel(1)

    with in_process({**sources(), "edge": slow}) as carrier:
        try:
            outcome = run(
                carrier,
                task=shorter(rounds=6),
                plan=replace(PLAN, deadline_s=3.0),
                on_round=lambda report: release.set() if report.round == 1 else None,
            )
        finally:
            release.set()

    assert "edge" not in outcome.rounds[0].domains or outcome.rounds[0].domains["edge"].loss is None
    assert outcome.rounds[1].accepted
    assert "edge" not in outcome.rounds[1].domains
    assert states(outcome.rounds[-1])["edge"] in {"took-part", "clipped"}


def test_a_domain_without_data_and_one_with_a_constant_series_stop_nobody() -> None:
    def nothing(_: Task) -> Panel:
        raise NotFound("no history")

    made = {**sources(), "core": nothing, "edge": holding(panel(0, levels=np.full((1, 240, 1), 5.0)))}
    with in_process(made) as carrier:
        outcome = run(carrier)

    assert outcome.accepted == 3
    assert states(outcome.rounds[1])["core"] == "no-data"
    assert outcome.scores["model"]["loss"] < outcome.scores["first"]["loss"]


def test_too_few_contributions_make_a_round_void_and_the_training_ends_with_a_reason() -> None:
    tamper = {domain: poison(filled(np.nan)) for domain in DOMAINS[:3]}
    with in_process(sources()) as carrier:
        outcome = run(Tampering(carrier, tamper), task=shorter(rounds=10))

    assert outcome.accepted == 0
    assert len(outcome.rounds) == 1 + PLAN.patience
    assert "1 domains contributed, 2 must" in outcome.problem
    assert contribution.fingerprint(outcome.arrays) == contribution.fingerprint(FIRST)


def test_without_enough_domains_nothing_begins() -> None:
    with (
        in_process(sources(DOMAINS[:1])) as carrier,
        pytest.raises(Unreachable, match="1 domains are there, 2 must"),
    ):
        run(carrier, plan=replace(PLAN, deadline_s=0.2))


def test_domains_that_all_leave_end_the_training_and_the_last_good_model_stays() -> None:
    with in_process(sources()) as inner:
        carrier = Gone(inner)

        def after(report: RoundReport) -> None:
            if report.round == 1:
                carrier.away = set(DOMAINS)

        outcome = run(carrier, plan=replace(PLAN, deadline_s=3.0), on_round=after)

    assert outcome.accepted == 1
    assert outcome.problem == "round 2: 0 domains are there, 2 must be"
    assert contribution.fingerprint(outcome.arrays) == outcome.rounds[1].digest


def test_a_stop_ends_the_training_at_once_and_keeps_what_there_is() -> None:
    stop = threading.Event()
    calls: list[int] = []

    class Hanging(Gone):
        def carry(self, domain: str, message: bytes, timeout_s: float) -> Future[bytes]:
            if len(calls) >= 2:
                threading.Timer(0.3, stop.set).start()
                return Future()
            return super().carry(domain, message, timeout_s)

    with in_process(sources()) as inner:
        outcome = run(
            Hanging(inner),
            plan=replace(PLAN, deadline_s=3600.0),
            on_round=lambda report: calls.append(report.round),
            stop=stop,
        )

    assert "stopped" in outcome.problem or not outcome.rounds[-1].accepted
    assert outcome.accepted == 1
    assert contribution.fingerprint(outcome.arrays) == outcome.rounds[1].digest


@pytest.mark.parametrize("profile", [Profile.MISTRUSTFUL, Profile.TRUSTED])
def test_a_model_that_gets_worse_is_refused_and_the_last_good_one_stays(profile: Profile) -> None:
    with in_process(sources()) as carrier:
        good = run(carrier).arrays
        tamper = {domain: poison(scaled(-30.0)) for domain in DOMAINS}
        outcome = run(
            Tampering(carrier, tamper), task=shorter(profile=profile, learning_rate=0.05), initial=good
        )

    assert outcome.accepted == 0
    assert "worse than the best so far" in outcome.problem
    assert contribution.fingerprint(outcome.arrays) == contribution.fingerprint(good)


def test_training_goes_on_from_a_model_that_is_given() -> None:
    with in_process(sources()) as carrier:
        good = run(carrier)
        outcome = run(carrier, initial=good.arrays, task=shorter(rounds=1))

    assert outcome.rounds[0].loss == good.rounds[-1].loss
    assert outcome.rounds[0].digest == contribution.fingerprint(good.arrays)


def test_a_model_of_other_shapes_is_no_beginning() -> None:
    with in_process(sources()) as carrier, pytest.raises(ContractError, match="shape"):
        run(carrier, initial={**FIRST, "out": np.zeros((1, 1), np.float32)})


@pytest.mark.parametrize("lie", [0.0, -1e300, float("inf"), float("nan")])
def test_one_lying_judge_neither_stops_training_nor_hurts_it(lie: float) -> None:
    with in_process(sources()) as carrier:
        outcome = run(Tampering(carrier, {"edge": says("raw", lie)}))

    assert outcome.accepted == 3


def test_one_lying_judge_does_not_bring_a_bad_model_through() -> None:
    with in_process(sources()) as carrier:
        good = run(carrier).arrays
        tamper = {domain: poison(scaled(-30.0)) for domain in DOMAINS[:3]} | {
            "transport": says("raw", -1e300)
        }
        outcome = run(Tampering(carrier, tamper), task=shorter(learning_rate=0.05), initial=good)

    assert outcome.accepted == 0


def test_what_domains_make_up_for_does_not_hide_that_a_model_decays() -> None:
    growing = count(1.0)

    def worse(asked: bytes, reply: bytes) -> bytes:
        return says("raw", next(growing))(asked, reply)

    with in_process(sources()) as carrier:
        outcome = run(Tampering(carrier, dict.fromkeys(DOMAINS, worse)))

    assert outcome.accepted == 0
    assert "worse than the best so far" in outcome.rounds[-1].reason


def test_how_many_samples_a_domain_claims_decides_nothing() -> None:
    claims = says("num-examples", 1e18, "train")
    flip = poison(scaled(-1.0))
    plan = replace(PLAN, aggregation=Aggregation.MULTIKRUM, malicious=0)
    with in_process(sources()) as carrier:
        outcome = run(
            Tampering(carrier, {"edge": lambda asked, reply: claims(asked, flip(asked, reply))}), plan=plan
        )

    assert outcome.accepted == 3


def test_a_plain_average_is_not_offered_between_operators() -> None:
    for aggregation in (Aggregation.AVERAGE, Aggregation.PROX):
        with (
            in_process(sources()) as carrier,
            pytest.raises(ConfigError, match="holds against no bad contribution"),
        ):
            run(carrier, plan=Plan(aggregation=aggregation))


def test_statistics_make_the_scaler_before_the_first_round(monkeypatch: pytest.MonkeyPatch) -> None:
    from domain_twin.learning.models.forecaster import Forecaster

    def statistics(self: Forecaster, held: Panel) -> Arrays:
        if held.values.mean() < 5.6:
            raise ContractError("too few samples of secret-link")
        return {"mean": np.array([held.values.mean()])}

    def standardised(self: Forecaster, arrays: Arrays, said: list[Arrays]) -> Arrays:
        middle = np.median([float(one["mean"][0]) for one in said])
        return {**arrays, "out_bias": np.full_like(arrays["out_bias"], middle)}

    monkeypatch.setattr(Forecaster, "statistics", statistics, raising=False)
    monkeypatch.setattr(Forecaster, "standardised", standardised, raising=False)

    def spoil(asked: bytes, reply: bytes) -> bytes:
        message = decode(asked)
        if message.metadata.message_type != "query.statistics":
            return reply
        content = RecordDict(
            {"arrays": record_of({"mean": np.array([np.nan])}), "metrics": MetricRecord({"n": 1})}
        )
        return answer_to(message, content)

    with in_process(sources()) as carrier:
        outcome = run(Tampering(carrier, {"transport": spoil}), task=shorter(rounds=1))

    made = {
        **FIRST,
        "out_bias": np.full_like(
            FIRST["out_bias"], np.median([panel(1).values.mean(), panel(2).values.mean()])
        ),
    }
    assert outcome.rounds[0].digest == contribution.fingerprint(made)
