import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain_twin.model import Origin, PathKpis
from domain_twin.model.algebra import (
    IDENTITY,
    claims_bandwidth,
    claims_delay,
    claims_loss,
    meets,
    qualified,
    serial,
)

FIGURES = st.floats(0, 1e6)
PARTS = st.builds(
    PathKpis,
    delay_ms=st.one_of(FIGURES, st.just(math.inf)),
    delay_variance_ms2=FIGURES,
    loss=st.floats(0, 1),
    bandwidth_mbps=st.one_of(FIGURES, st.just(math.inf)),
    metric=st.integers(0, 2**32),
    availability=st.floats(0, 1),
    delay_std_error_ms=FIGURES,
    origin=st.sampled_from(list(Origin)),
    shared_risks=st.frozensets(st.sampled_from("abcd")),
)


def same(one: PathKpis, other: PathKpis) -> bool:
    numbers = ("delay_ms", "delay_variance_ms2", "loss", "availability", "delay_std_error_ms")
    exact = ("bandwidth_mbps", "metric", "origin", "shared_risks")
    return all(
        math.isclose(getattr(one, name), getattr(other, name), rel_tol=1e-9, abs_tol=1e-12)
        for name in numbers
    ) and all(getattr(one, name) == getattr(other, name) for name in exact)


@given(PARTS, PARTS, PARTS)
def test_composition_is_associative(a, b, c):
    assert same(serial([serial([a, b]), c]), serial([a, serial([b, c])]))
    assert same(serial([a, b, c]), serial([serial([a, b]), c]))


@given(PARTS)
def test_the_identity_is_neutral_on_both_sides(part):
    assert same(serial([part, IDENTITY]), part)
    assert same(serial([IDENTITY, part]), part)
    assert serial([part]) == part
    assert serial([]) == IDENTITY


@given(st.lists(PARTS, min_size=1))
def test_a_whole_is_never_better_than_a_part(parts):
    whole = serial(parts)

    for part in parts:
        assert whole.delay_ms >= part.delay_ms
        assert whole.loss >= part.loss * (1 - 1e-9)
        assert whole.bandwidth_mbps <= part.bandwidth_mbps
        assert whole.availability <= part.availability
        assert whole.delay_std_error_ms >= part.delay_std_error_ms * (1 - 1e-9)
        assert whole.shared_risks >= part.shared_risks


@given(PARTS, PARTS)
def test_order_does_not_matter(a, b):
    assert same(serial([a, b]), serial([b, a]))


def test_the_rules_on_numbers_worked_by_hand():
    whole = serial(
        [
            PathKpis(2.0, 0.09, 0.1, 100.0, 3, 0.99, 0.3, Origin.MEASURED),
            PathKpis(3.0, 0.16, 0.2, 50.0, 4, 0.9, 0.4, Origin.MODELLED),
        ]
    )

    assert (whole.delay_ms, whole.bandwidth_mbps, whole.metric) == (5.0, 50.0, 7)
    assert whole.delay_variance_ms2 == pytest.approx(0.25)
    assert whole.loss == pytest.approx(1 - 0.9 * 0.8)
    assert whole.availability == pytest.approx(0.891)
    assert whole.delay_std_error_ms == pytest.approx(0.5)
    assert whole.origin is Origin.MODELLED


def test_small_losses_are_not_lost_in_rounding():
    assert serial([PathKpis(0, loss=1e-18)] * 3).loss == pytest.approx(3e-18)


def test_what_is_not_known_is_not_claimed():
    silent = PathKpis(math.inf, loss=1.0, bandwidth_mbps=0.0)
    whole = serial([PathKpis(1.0), silent])

    assert not claims_delay(whole)
    assert not claims_loss(whole)
    assert not claims_bandwidth(whole)
    assert not meets(whole, delay_ms=1e9)
    assert not meets(whole, loss=0.999)
    assert not meets(whole, bandwidth_mbps=1.0)
    assert meets(whole)


def test_risks_of_two_domains_are_kept_apart():
    one, other = PathKpis(1.0, shared_risks=frozenset({"7f"})), PathKpis(1.0, shared_risks=frozenset({"7f"}))

    whole = serial([qualified(one, "a"), qualified(other, "b")])

    assert whole.shared_risks == {"a/7f", "b/7f"}
