import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain_twin.errors import ConfigError
from domain_twin.simulation.laws.elastic import max_min

LINE = {"flow": np.array([0, 0, 1, 2]), "edge": np.array([0, 1, 0, 1]), "use": np.ones(4)}  # 0 crosses both


def test_a_long_flow_shares_each_edge_with_a_short_one() -> None:
    rate = max_min(wanted=np.full(3, 100.0), capacity=np.array([10.0, 4.0]), **LINE)
    assert rate == pytest.approx([2.0, 8.0, 2.0])


def test_who_wants_little_leaves_the_rest() -> None:
    rate = max_min(wanted=np.array([1.0, 100.0, math.inf]), capacity=np.array([10.0, 4.0]), **LINE)
    assert rate == pytest.approx([1.0, 9.0, 3.0])


def test_weights_and_use_count() -> None:
    rate = max_min(
        wanted=np.full(2, 100.0), capacity=np.array([9.0]), flow=np.array([0, 1]), edge=np.array([0, 0]),
        use=np.array([1.0, 2.0]), weight=np.array([1.0, 4.0]),
    )  # fmt: skip
    assert rate == pytest.approx([1.0, 4.0])


def test_a_full_edge_carries_nothing_and_nothing_wanted_is_nothing_given() -> None:
    rate = max_min(wanted=np.array([5.0, 5.0, 0.0]), capacity=np.array([10.0, -1.0]), **LINE)
    assert rate == pytest.approx([0.0, 5.0, 0.0])


@pytest.mark.parametrize(
    "bad", [{"wanted": np.array([math.nan, 1, 1])}, {"capacity": np.array([1.0, math.nan])},
            {"use": np.full(4, -1.0)}, {"weight": np.zeros(3)}],
)  # fmt: skip
def test_what_is_no_number_is_refused(bad: dict[str, np.ndarray]) -> None:
    given_values = {"wanted": np.ones(3), "capacity": np.ones(2), **LINE} | bad
    with pytest.raises(ConfigError, match="elastic flows"):
        max_min(**given_values)


@settings(max_examples=100, deadline=None)
@given(seed=st.integers(0, 10**6), flows=st.integers(1, 25), edges=st.integers(1, 12))
def test_rates_are_max_min_fair(seed: int, flows: int, edges: int) -> None:
    rng = np.random.default_rng(seed)
    crossing = rng.random((flows, edges)) < 0.4
    flow, edge = np.nonzero(crossing)
    use = rng.uniform(0.1, 2.0, len(flow))
    wanted, capacity = rng.choice([0.5, 3.0, 1e9], flows), rng.uniform(0.0, 10.0, edges)

    rate = max_min(wanted=wanted, capacity=capacity, flow=flow, edge=edge, use=use)

    spent = np.bincount(edge, use * rate[flow], edges)
    assert (spent <= capacity * (1 + 1e-9) + 1e-12).all()
    assert (rate <= wanted * (1 + 1e-12)).all()
    # Fair: who has less than it wants crosses a full edge on which nobody has more (Bertsekas, 6.5).
    for f in np.flatnonzero(rate < wanted * (1 - 1e-9)):
        full = [e for e in edge[flow == f] if spent[e] >= capacity[e] * (1 - 1e-9) - 1e-12]
        assert any(rate[flow[edge == e]].max() <= rate[f] * (1 + 1e-6) + 1e-9 for e in full)
