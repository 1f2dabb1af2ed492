"""What is checked of arrays and measures, on both sides."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from domain_twin.errors import ContractError
from domain_twin.learning import contribution
from domain_twin.learning.contribution import Replays, check, clipped, fingerprint, measures, norm, update

LIKE = {"w": np.zeros((2, 3), np.float32), "b": np.zeros(3, np.float64)}


def like(**changes: Any) -> dict[str, Any]:
    return {**{name: array.copy() for name, array in LIKE.items()}, **changes}


def test_arrays_of_the_model_pass() -> None:
    check(like(), LIKE)


@pytest.mark.parametrize(
    ("arrays", "said"),
    [
        ({"w": LIKE["w"]}, "'b' is missing"),
        (like(x=np.zeros(1)), "'x' is not of this model"),
        (like(w=np.zeros((3, 2), np.float32)), r"shape \[3, 2\], not \[2, 3\]"),
        (like(w=np.zeros((2, 3), np.float64)), "dtype float64, not float32"),
        (like(b=np.array([0, np.nan, 0])), "NaN or infinite"),
        (like(b=np.array([0, np.inf, 0])), "NaN or infinite"),
        (like(b=np.array([0, -np.inf, 0])), "NaN or infinite"),
        ({str(index): np.zeros(1) for index in range(contribution.MAX_ARRAYS + 1)}, "at most"),
    ],
)
def test_arrays_that_are_not_of_the_model_are_refused(arrays: dict[str, Any], said: str) -> None:
    with pytest.raises(ContractError, match=said):
        check(arrays, LIKE)


FINITE = hnp.arrays(np.float64, 5, elements=st.floats(-1e150, 1e150))


@given(FINITE, st.floats(1e-6, 1e6))
def test_clipping_keeps_the_direction_and_never_lengthens(change: np.ndarray, limit: float) -> None:
    made = clipped({"w": change}, limit)["w"]

    assert norm({"w": made}) <= max(limit * (1 + 1e-9), 0)
    if norm({"w": change}) <= limit:
        np.testing.assert_array_equal(made, change)
    else:
        np.testing.assert_array_equal(np.sign(made), np.sign(change) * (made != 0))


def test_an_update_too_long_for_a_float_is_clipped_too() -> None:
    huge = {"w": np.array([1e200, -1e200])}

    assert math.isinf(norm(huge))
    np.testing.assert_allclose(clipped(huge, 1.0)["w"], np.array([1, -1]) / math.sqrt(2))


def test_an_update_is_what_training_changed() -> None:
    base = {"w": np.ones(2, np.float32)}

    made = update({"w": np.array([1.5, 1], np.float32)}, base)

    assert made["w"].dtype == np.float64
    assert made["w"].tolist() == [0.5, 0]


def test_of_measures_numbers_with_plain_names_stay() -> None:
    said = {"loss": 0.5, "naive:last": np.float32(2), "text": "secret", "a\n": 1.0, "x": math.nan, "l": [1.0]}

    assert measures(said) == {"loss": 0.5, "naive:last": 2.0}


def test_a_loss_that_is_no_number_is_the_worst_one() -> None:
    assert measures({"loss": math.nan}) == {"loss": math.inf}
    assert measures({"loss": -math.inf, "x": 1}) == {"loss": math.inf, "x": 1.0}


def test_measures_without_end_are_cut() -> None:
    assert len(measures({f"m{index}": 1.0 for index in range(10_000)})) == contribution.MAX_MEASURES


def test_fingerprints_tell_arrays_apart() -> None:
    same = fingerprint({"b": LIKE["b"], "w": LIKE["w"]})

    assert fingerprint(LIKE) == same
    assert fingerprint(like(b=np.array([0, 0, 1e-300]))) != same
    assert fingerprint(like(w=np.zeros((3, 2), np.float32))) != same
    assert fingerprint({"W": LIKE["w"], "b": LIKE["b"]}) != same


def test_a_message_is_taken_once() -> None:
    replays = Replays()
    replays.admit(1, 1, "a")

    with pytest.raises(ContractError, match="seen before"):
        replays.admit(1, 1, "a")
    replays.admit(1, 1, "b")
    replays.admit(2, 1, "a")


def test_a_round_that_is_over_does_not_come_back() -> None:
    replays = Replays()
    replays.admit(1, 2, "a")

    with pytest.raises(ContractError, match="round 1"):
        replays.admit(1, 1, "b")


def test_a_message_without_an_id_is_refused() -> None:
    with pytest.raises(ContractError, match="seen before"):
        Replays().admit(1, 1, "")


def test_what_is_remembered_of_messages_is_bounded() -> None:
    replays = Replays()
    for index in range(contribution._KEPT_IDS + 10):
        replays.admit(1, 1, str(index))
    for run in range(100):
        replays.admit(run, 1, "x")

    assert len(replays._runs) == contribution._KEPT_RUNS
    assert all(len(seen.ids) <= contribution._KEPT_IDS for seen in replays._runs.values())
