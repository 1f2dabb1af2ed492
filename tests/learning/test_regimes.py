"""Regimes of an element: found, numbered alike in every domain, and drawn as they followed each other."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from domain_twin.learning.regimes import found, path, shares, transitions

COUNT = 3
NONE = np.zeros((COUNT, 2))
NOBODY = np.zeros((COUNT, COUNT))


def record(seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.intp]]:
    """[1, T, 2] of three levels that last for hundreds of steps, and which is when."""
    rng = np.random.default_rng(seed)
    true = np.repeat(rng.permutation(np.repeat(np.arange(COUNT), 4)), 150)
    levels = np.array([[-2.0, -1.0], [0.0, 0.0], [1.0, 2.0]])
    return (levels[true] + 0.3 * rng.standard_normal((len(true), 2)))[None], true


def test_regimes_are_found_and_numbered_by_level() -> None:
    scores, true = record()
    labels, centres = found(scores, NONE)
    assert (labels[0] == true).mean() > 0.95
    assert np.all(np.diff(centres.sum(1)) > 0)


def test_regimes_keep_the_numbers_that_the_model_brings() -> None:
    scores, true = record()
    _, centres = found(scores, NONE)
    labels, _ = found(record(1)[0], centres[::-1])
    assert (labels[0] == COUNT - 1 - record(1)[1]).mean() > 0.95
    assert (found(scores, centres)[0][0] == true).mean() > 0.95


def test_a_regime_of_few_steps_goes_to_the_nearest() -> None:
    scores, _ = record()
    scores[0, :60] = 30.0  # fewer than the 200 that marginals need
    labels, _ = found(scores, NONE)
    assert all(count == 0 or count >= 200 for count in np.bincount(labels[0], minlength=COUNT))


def test_unknown_steps_have_no_regime() -> None:
    scores, _ = record()
    scores[0, 100:140] = np.nan
    labels, _ = found(scores, NONE)
    assert (labels[0, 100:140] == -1).all()
    assert (np.delete(labels[0], slice(100, 140)) >= 0).all()


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 40)), min_size=1, max_size=12))
def test_a_chain_stays_in_each_regime_as_long_as_the_record(stays: list[tuple[int, int]]) -> None:
    labels = np.concatenate([np.full(length, regime) for regime, length in stays])
    moves = transitions(labels[None], NOBODY)
    held = np.bincount(labels, minlength=COUNT) / len(labels)
    assert np.allclose(shares(moves), held, atol=1e-6)
    drawn = path(moves, 500, np.random.default_rng(0))
    assert held[np.unique(drawn)].min() > 0


def test_a_long_path_has_the_shares_of_the_record() -> None:
    _, true = record()
    drawn = path(transitions(true[None], NOBODY), 20_000, np.random.default_rng(5))
    assert np.bincount(drawn, minlength=COUNT) / 20_000 == pytest.approx([1 / 3] * 3, abs=0.05)


def test_whoever_saw_few_changes_borrows_from_others() -> None:
    others = np.array([[0.99, 0.01, 0], [0.01, 0.99, 0], [0, 0, 1]])  # half of the time in each of two
    few = np.repeat([0, 1], [900, 100])[None]
    many = np.tile(np.repeat([0, 1], [9, 1]), 1000)[None]
    assert shares(transitions(few, others))[1] == pytest.approx(0.43, abs=0.02)
    assert shares(transitions(many, others))[1] < 0.25
    assert transitions(few, others)[:2, 2].max() == 0  # a regime that is not here


def test_a_path_of_a_chain_that_knows_nothing_stays() -> None:
    assert np.unique(path(np.zeros((3, 3)), 50, np.random.default_rng(0))).tolist() == [0]
