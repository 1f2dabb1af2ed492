"""How contributions are joined, judged and valued: arithmetic only, on a few numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from learning_parts import TASK, shorter

from domain_twin.errors import ConfigError
from domain_twin.learning.contribution import norm
from domain_twin.learning.task import Profile
from federation.learning.contributions import Without, brought, gains
from federation.learning.gate import Gate
from federation.learning.strategies import Aggregation, Joining, Update, joining

RNG = np.random.default_rng(7)
TRUE = RNG.normal(0, 1, 40)


def updates(honest: int, bad: Mapping[str, np.ndarray] | None = None) -> dict[str, Update]:
    made = {f"honest-{index}": TRUE + RNG.normal(0, 0.1, 40) for index in range(honest)}
    made |= bad or {}
    return {name: Update({"w": change}, 100, norm({"w": change})) for name, change in made.items()}


def robust(aggregation: Aggregation | None = None, malicious: int | None = None) -> Joining:
    return joining(TASK, aggregation, malicious=malicious)


BAD = {
    "scaled": -20 * TRUE,
    "flipped": -TRUE,
    "huge": np.full(40, 1e30),
    "noise": RNG.normal(0, 50, 40),
}


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("aggregation", [None, Aggregation.MEDIAN, Aggregation.MULTIKRUM])
def test_one_bad_contribution_of_four_moves_the_joined_change_little(
    bad: str, aggregation: Aggregation | None
) -> None:
    joined = robust(aggregation).join(updates(3, {"z-bad": BAD[bad]}))

    assert np.linalg.norm(joined.changes["w"] - TRUE) < 0.25 * np.linalg.norm(TRUE)


@pytest.mark.parametrize("bad", BAD)
def test_two_bad_contributions_of_eight_are_not_chosen(bad: str) -> None:
    joined = robust().join(updates(6, {"a-bad": BAD[bad], "z-bad": BAD[bad] * 1.001}))

    assert joined.strategy == "MultiKrum"
    assert not {"a-bad", "z-bad"} & set(joined.used)
    assert joined.notes == ()


def test_a_plain_average_follows_one_bad_contribution_anywhere() -> None:
    trusted = joining(shorter(profile=Profile.TRUSTED))

    joined = trusted.join(updates(3, {"bad": BAD["huge"]}))

    assert joined.strategy == "FedAvg"
    assert np.linalg.norm(joined.changes["w"]) > 1e20


@pytest.mark.parametrize(
    ("n", "strategy"), [(1, "FedMedian"), (4, "FedMedian"), (5, "MultiKrum"), (8, "MultiKrum")]
)
def test_the_default_is_krum_only_inside_its_guarantee(n: int, strategy: str) -> None:
    assert robust().join(updates(n)).strategy == strategy


def test_krum_outside_its_guarantee_says_so() -> None:
    joined = robust(Aggregation.MULTIKRUM).join(updates(4))

    assert "outside its guarantee (n >= 2 f + 3, f = 1)" in joined.notes[0]
    assert len(joined.used) == 2


def test_a_median_that_cannot_hold_says_so() -> None:
    assert "outside its guarantee" in robust().join(updates(2)).notes[0]
    assert robust().join(updates(3)).notes == ()


def test_clipping_is_by_the_median_norm_and_the_next_round_is_told() -> None:
    made = robust(Aggregation.MEDIAN)
    four = updates(3, {"long": 50 * TRUE})

    joined = made.join(four)

    assert "long" in joined.clipped
    assert made.limit == joined.limit == pytest.approx(np.median([one.norm for one in four.values()]))
    assert made.join(updates(3), remember=False).limit != made.limit


def test_a_claimed_weight_is_capped_between_operators() -> None:
    turned = np.roll(TRUE, 1)
    claimed = updates(3) | {"liar": Update({"w": turned}, 10**12, norm({"w": turned}))}
    fair = Joining(Aggregation.AVERAGE, robust=True, malicious=None).join(claimed).changes["w"]
    believed = Joining(Aggregation.AVERAGE, robust=False, malicious=None).join(claimed).changes["w"]

    assert np.linalg.norm(fair - TRUE) < 0.5 * np.linalg.norm(turned - TRUE)
    assert np.linalg.norm(believed - turned) < 1e-6


def test_joining_does_not_depend_on_who_came_first() -> None:
    made = updates(5)
    turned = dict(reversed(made.items()))

    one, other = robust().join(made), robust().join(turned)

    np.testing.assert_array_equal(one.changes["w"], other.changes["w"])
    assert one.used == other.used


def test_small_changes_of_large_models_are_told_apart() -> None:
    """MultiKrum of whole float32 models would drown in rounding; that of updates does not."""
    tiny = {f"d{index}": 1e-7 * (TRUE + RNG.normal(0, 0.1, 40)) for index in range(6)}
    tiny |= {"bad-1": -1e-7 * TRUE, "bad-2": -1e-7 * TRUE * 1.01}
    joined = robust().join({name: Update({"w": one}, 1, norm({"w": one})) for name, one in tiny.items()})

    assert not {"bad-1", "bad-2"} & set(joined.used)


def test_private_and_unsafe_choices_are_refused() -> None:
    with pytest.raises(ConfigError, match="sums only"):
        joining(shorter(profile=Profile.PRIVATE))
    with pytest.raises(ConfigError, match="holds against no bad contribution"):
        robust(Aggregation.AVERAGE)


def test_the_proximal_term_makes_it_fedprox_between_trusted_domains() -> None:
    task = shorter(profile=Profile.TRUSTED, settings={"proximal_mu": 0.1})

    assert joining(task).join(updates(2)).strategy == "FedProx"


# The gate


def gate(best: Mapping[str, float], *, tolerance: float = 0.05, judges: int = 2) -> Gate:
    made = Gate(tolerance=tolerance, judges=judges)
    made.begin(best)
    return made


FOUR = {"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0}


def times(by: float) -> dict[str, float]:
    return {name: loss * by for name, loss in FOUR.items()}


def test_a_better_aggregate_is_the_one_to_beat() -> None:
    made = gate(FOUR)

    assert made.judge(times(0.5)).best
    assert made.judge(times(0.52)).accepted
    assert not made.judge(times(0.9)).accepted


def test_small_steps_do_not_add_up_to_a_bad_model() -> None:
    made = gate(FOUR)

    verdicts = [made.judge(times(1.04**step)).accepted for step in range(1, 6)]

    assert verdicts == [True, False, False, False, False]


def test_the_reason_says_how_much_worse() -> None:
    verdict = gate(FOUR).judge(times(1.5))

    assert verdict.reason == "50.0% worse than the best so far, by the median over 4 domains"
    assert not verdict.accepted


@given(
    st.floats(0.5, 1.5),
    st.sampled_from([0.0, -1e300, math.inf, math.nan, 1e300]),
    st.sampled_from(sorted(FOUR)),
    st.booleans(),
)
def test_one_liar_of_four_decides_nothing(change: float, lie: float, liar: str, before: bool) -> None:
    """Whatever one domain says, the verdict is one that the honest domains' changes allow."""
    made = gate({**FOUR, liar: lie} if before and not math.isnan(lie) else FOUR)

    verdict = made.judge({**times(change), liar: lie})

    assert verdict.accepted == (change - 1 <= 0.05 or math.isclose(change - 1, 0.05))


def test_losses_below_zero_are_compared_too() -> None:
    made = gate({"a": -10.0, "b": -10.0})

    assert made.judge({"a": -11.0, "b": -11.0}).best
    assert not made.judge({"a": -9.0, "b": -9.0}).accepted


def test_too_few_judges_accept_nothing() -> None:
    assert gate(FOUR).judge({"a": 0.1}).reason == "1 domains judged it, 2 must"
    assert not gate({}).judge(FOUR).accepted


def test_who_was_absent_is_compared_with_the_last_of_theirs() -> None:
    made = gate(FOUR)
    made.judge({"a": 0.5, "b": 1.0})

    assert made.judge({"c": 1.5, "d": 2.0}).best


# Who brought and who gained what


def test_what_a_domain_brings_is_what_the_others_lose_without_it() -> None:
    start = {"w": np.zeros(40, np.float32)}
    made = Without(start, ("honest-0", "honest-1", "honest-2", "good"))
    trusted = Joining(Aggregation.AVERAGE, robust=False, malicious=None)
    special = {f"honest-{index}": np.zeros(40) for index in range(3)} | {"good": TRUE}
    round_ = {name: Update({"w": one}, 1, norm({"w": one})) for name, one in special.items()}
    made.follow(round_, trusted, best=True)
    made.follow(round_, trusted, best=False)  # which is trained on, and not kept

    models = made.models()

    assert models["good"]["w"].dtype == np.float32
    np.testing.assert_allclose(models["good"]["w"], 0)
    np.testing.assert_allclose(models["honest-0"]["w"], TRUE / 3, rtol=1e-5)


def test_what_a_domain_says_of_itself_does_not_count_for_what_it_brings() -> None:
    losses = {"a": 1.0, "b": 1.0, "c": 1.0}
    without = {"a": {"a": 99.0, "b": 1.1, "c": 1.3}}

    assert brought(losses, without) == {"a": pytest.approx(0.2)}
    assert brought(losses, {"a": {"a": 99.0}}) == {}


def test_gain_is_beside_what_a_domain_learned_alone() -> None:
    assert gains({"a": 0.5, "b": 1.2, "c": math.inf}, {"a": 1.0, "b": 1.0, "c": 1.0, "d": 1.0}) == {
        "a": pytest.approx(0.5),
        "b": pytest.approx(-0.2),
    }
