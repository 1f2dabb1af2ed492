import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from small_views import kpis

from domain_twin.model import BudgetShare, ComposedPath, Hop, Outcome
from domain_twin.model.algebra import serial
from federation.budget import resplit, share_of, split, with_use


def path_of(*delays: tuple[str, float]) -> ComposedPath:
    hops = tuple(Hop(domain, "s", "t", kpis(delay)) for domain, delay in delays)
    return ComposedPath(hops, serial(hop.kpis for hop in hops))


DELAYS = st.lists(
    st.tuples(st.sampled_from(["ran", "", "transport", "core"]), st.floats(0, 50)), min_size=1, max_size=8
)
OBJECTIVES = st.floats(0.01, 1000)


@given(OBJECTIVES, DELAYS)
def test_shares_add_up_to_the_objective_and_none_is_negative(objective, delays):
    shares = split(objective, path_of(*delays))

    assert math.fsum(share.share_ms for share in shares) == pytest.approx(objective)
    assert all(share.share_ms > 0 for share in shares)
    assert {share.domain for share in shares} == {domain for domain, _ in delays}


@given(OBJECTIVES, DELAYS)
def test_whoever_keeps_an_objective_that_is_met_keeps_every_share(objective, delays):
    path = path_of(*delays)
    assume(path.total.delay_ms <= objective * 0.9)

    assert all(share.slack_ms >= 0 for share in split(objective, path))


def test_headroom_is_in_proportion_to_use():
    shares = split(10.0, path_of(("ran", 2.0), ("", 0.5), ("transport", 2.0), ("", 0.5)))

    assert [(s.domain, s.share_ms, s.used_ms) for s in shares] == [
        ("ran", pytest.approx(4.0), 2.0),
        ("", pytest.approx(2.0), 1.0),
        ("transport", pytest.approx(4.0), 2.0),
    ]


def test_history_outweighs_the_moment():
    shares = split(10.0, path_of(("ran", 9.0), ("core", 1.0)), history={"ran": 1.0, "core": 1.0})

    assert [share.share_ms for share in shares] == [5.0, 5.0]
    assert shares[0].slack_ms == -4.0


def test_an_unknown_use_counts_as_the_average_and_says_so():
    shares = split(9.0, path_of(("ran", 2.0), ("core", math.inf), ("edge", 4.0)))

    assert [share.share_ms for share in shares] == pytest.approx([2.0, 3.0, 4.0])
    assert [share.outcome for share in shares] == [Outcome.OK, Outcome.NO_DATA, Outcome.OK]


@pytest.mark.parametrize("objective", [0.0, -1.0, math.nan])
def test_an_impossible_objective_is_refused(objective):
    with pytest.raises(ValueError, match="above 0"):
        split(objective, path_of(("ran", 1.0)))


SHARES = st.lists(
    st.builds(
        BudgetShare,
        domain=st.sampled_from(["a", "b", "c", "d", ""]),
        share_ms=st.floats(0, 100),
        used_ms=st.floats(0, 100),
    ),
    min_size=1,
    unique_by=lambda share: share.domain,
)
REFUSALS = st.dictionaries(st.sampled_from(["a", "b", "c", "d", ""]), st.floats(0, 150), max_size=3)


@given(SHARES, REFUSALS)
def test_a_resplit_keeps_the_sum_and_everybody_s_use(shares, refusals):
    assume(refusals.keys() <= {share.domain for share in shares})
    whole = math.fsum(share.share_ms for share in shares)

    result = resplit(shares, refusals)

    assert math.fsum(share.share_ms for share in result.shares) == pytest.approx(whole, abs=1e-9)
    assert all(share.share_ms >= 0 for share in result.shares)
    for before, after in zip(shares, result.shares, strict=True):
        if not result.feasible:
            assert before == after
        elif before.domain in refusals:
            assert after.share_ms >= refusals[before.domain] - 1e-9
            assert after.share_ms >= before.share_ms
        else:
            assert after.share_ms >= min(before.share_ms, before.used_ms) - 1e-9
            assert after.share_ms <= before.share_ms + 1e-9


@given(SHARES, REFUSALS)
def test_a_resplit_is_infeasible_only_when_the_slack_is_too_small(shares, refusals):
    assume(refusals.keys() <= {share.domain for share in shares})
    extra = math.fsum(max(0.0, refusals.get(s.domain, 0.0) - s.share_ms) for s in shares)
    slack = math.fsum(max(0.0, s.slack_ms) for s in shares if s.domain not in refusals)
    assume(not math.isclose(extra, slack))

    assert resplit(shares, refusals).feasible == (extra <= slack)


def test_an_infeasible_resplit_says_how_much_is_missing():
    shares = (BudgetShare("ran", 5.0, 4.0), BudgetShare("core", 5.0, 4.5))

    result = resplit(shares, {"ran": 6.0})

    assert not result.feasible
    assert "ran by 1.000 ms" in result.verdict
    assert "0.500 ms too little" in result.verdict


def test_a_refusal_of_somebody_else_is_refused():
    with pytest.raises(ValueError, match="no share of mars"):
        resplit((BudgetShare("ran", 5.0, 4.0),), {"mars": 6.0})


def test_a_domain_is_told_its_own_share_only():
    shares = split(10.0, path_of(("ran", 2.0), ("core", 3.0)))

    told = share_of(shares, "ran")

    assert told == BudgetShare("ran", 4.0, 2.0)
    assert "core" not in repr(told)
    assert share_of(shares, "edge") is None


def test_agreed_shares_take_over_new_use():
    shares = split(10.0, path_of(("ran", 2.0), ("core", 3.0)))

    later = with_use(shares, path_of(("ran", 5.0), ("core", 3.0)))

    assert [share.share_ms for share in later] == [4.0, 6.0]
    assert later[0].slack_ms == -1.0
