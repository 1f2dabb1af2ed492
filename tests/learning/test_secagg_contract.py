"""Flower's secure aggregation as it is used here: what is private in it, and the masks that we put in."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain_twin.errors import ContractError
from domain_twin.learning import secagg
from domain_twin.learning.secagg import (
    LEAST_DOMAINS,
    MASKING,
    MODULUS,
    Key,
    SecAggPlusWorkflow,
    Stage,
    keystream,
    quantization,
    threshold,
)


def test_stages_and_steps_are_as_they_are_used() -> None:
    assert Stage.all() == ("setup", "share_keys", "collect_masked_vectors", "unmask")
    for step in ("setup_stage", "share_keys_stage", "collect_masked_vectors_stage", "unmask_stage"):
        assert list(inspect.signature(getattr(SecAggPlusWorkflow, step)).parameters) == [
            *("self", "grid", "context", "state"),
        ]
    state = secagg.WorkflowState()
    for name in ("nid_to_proxies", "nid_to_neighbours", "sampled_node_ids", "active_node_ids", "threshold"):
        assert hasattr(state, name)
    assert Key.THRESHOLD in {"threshold"}


def test_both_sides_draw_their_masks_from_us() -> None:
    names = [module.__name__.rpartition(".")[2] for module in MASKING]

    assert names == ["secaggplus_mod", "secaggplus_workflow"]
    for module in MASKING:
        assert inspect.ismodule(module)  # the package has a function of the same name
        assert module.pseudo_rand_gen is keystream
        assert inspect.getsource(module).count("pseudo_rand_gen(") >= 2


def test_flower_still_needs_the_domains_that_left_early_to_be_taken_out() -> None:
    """Where this fails, Flower has mended it, and `_Workflow` need not any more."""
    source = inspect.getsource(SecAggPlusWorkflow.unmask_stage)

    assert "state.sampled_node_ids - active_nids" in source


@settings(max_examples=30, deadline=None)
@given(seed=st.binary(min_size=1, max_size=64), bits=st.integers(1, 32))
def test_masks_are_below_the_modulus_and_the_same_for_the_same_seed(seed: bytes, bits: int) -> None:
    shapes: list[tuple[int, ...]] = [(), (3,), (2, 4)]

    masks = keystream(seed, 1 << bits, shapes)

    assert [mask.shape for mask in masks] == shapes
    for mask, again in zip(masks, keystream(seed, 1 << bits, shapes), strict=True):
        np.testing.assert_array_equal(mask, again)
        assert mask.dtype == np.int64
        assert (mask >= 0).all()
        assert (mask < 1 << bits).all()


def test_masks_are_uniform_and_of_another_seed_another() -> None:
    one, other = (keystream(seed, MODULUS, [(100_000,)])[0] for seed in (b"a", b"b"))

    shares = np.histogram(one / MODULUS, 16, (0, 1))[0] / 100_000
    assert np.abs(shares - 1 / 16).max() < 0.005
    assert abs(np.corrcoef(one, other)[0, 1]) < 0.02


@pytest.mark.parametrize("modulus", [0, 1, 3, 1 << 33])
def test_modulus_that_is_not_uniform_is_refused(modulus: int) -> None:
    with pytest.raises(ContractError, match="no power of 2"):
        keystream(b"x", modulus, [(1,)])


@given(domains=st.integers(LEAST_DOMAINS, 500))
def test_sum_of_all_parts_stays_below_the_modulus(domains: int) -> None:
    assert domains * (quantization(domains) + 1) < MODULUS
    assert domains / 2 < threshold(domains) <= domains
