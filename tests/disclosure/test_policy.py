import pytest
from hypothesis import given
from hypothesis import strategies as st

from domain_twin.disclosure import (
    BANDWIDTH,
    FIGURES,
    Action,
    Agreement,
    Grant,
    Precision,
    RateLimiter,
    Refusal,
    decide,
)
from domain_twin.errors import ConfigError
from domain_twin.model import Level

BROKER = "spiffe://exchange.example/broker/main"
ALICE = "spiffe://northcell.example/user/alice"
PEOPLE = "spiffe://northcell.example/user/*"
FEDERATION = Agreement("federation", BROKER)
OWN = Agreement("own", PEOPLE, level=Level.NATIVE, actions=frozenset(Action))


def test_whoever_no_agreement_speaks_of_gets_nothing():
    answer = decide([FEDERATION, OWN], "spiffe://stranger.example/broker/main", Action.VIEW, now=0)

    assert isinstance(answer, Refusal)
    assert "spiffe://stranger.example/broker/main" in answer.reason


def test_no_agreements_grant_nothing():
    assert all(isinstance(decide([], BROKER, action, now=0), Refusal) for action in Action)


def test_an_action_that_is_not_named_is_refused():
    answer = decide([FEDERATION], BROKER, Action.TRAIN, now=0)

    assert answer == Refusal(f"the agreement of {BROKER} (federation) does not grant 'train'")


def test_a_coarser_level_can_be_asked_for_and_a_finer_one_not():
    coarser = decide([FEDERATION], BROKER, Action.VIEW, now=0, level=Level.NODE)
    finer = decide([FEDERATION], BROKER, Action.VIEW, now=0, level=Level.NATIVE)
    default = decide([FEDERATION], BROKER, Action.VIEW, now=0)

    assert isinstance(coarser, Grant)
    assert coarser.level is Level.NODE
    assert isinstance(finer, Refusal)
    assert "'mesh'" in finer.reason
    assert "'native'" in finer.reason
    assert isinstance(default, Grant)
    assert default.level is Level.MESH


def test_an_expired_agreement_grants_nothing_from_its_last_moment_on():
    agreement = Agreement("short", BROKER, expires_at=100)

    assert isinstance(decide([agreement], BROKER, Action.VIEW, now=99), Grant)
    assert isinstance(decide([agreement], BROKER, Action.VIEW, now=100), Refusal)


@pytest.mark.parametrize(
    ("subject", "peer", "covered"),
    [
        (PEOPLE, ALICE, True),
        (PEOPLE, "spiffe://northcell.example/user/", False),
        (PEOPLE, "spiffe://northcell.example/user/a/b", False),
        (PEOPLE, "spiffe://northcell.example/agent/ran", False),
        (PEOPLE, "spiffe://northcell.example.evil/user/alice", False),
        (PEOPLE, "spiffe://evil/northcell.example/user/alice", False),
        (ALICE, ALICE, True),
        (ALICE, "spiffe://northcell.example/user/alice2", False),
        (BROKER, BROKER.upper(), False),
    ],
)
def test_subjects_cover_exactly_whom_they_name(subject, peer, covered):
    assert Agreement("a", subject).covers(peer) is covered


@pytest.mark.parametrize(
    "subject",
    [
        "*",
        "spiffe://*",
        "spiffe://*/user/*",
        "spiffe://op/*",
        "spiffe://op",
        "spiffe:///user/*",
        "",
        "op/user/a",
    ],
)
def test_wider_patterns_are_refused_when_written(subject):
    with pytest.raises(ConfigError, match="spiffe://OPERATOR"):
        Agreement("wide", subject)


def test_an_unknown_kpi_is_refused_when_written():
    with pytest.raises(ConfigError, match=r"jitter.*accepted are bandwidth"):
        Agreement("a", BROKER, figures=frozenset({"jitter"}))


def test_the_finest_live_agreement_decides():
    listed = [
        Agreement("b-native", BROKER, level=Level.NATIVE),
        Agreement("a-native", BROKER, level=Level.NATIVE),
        Agreement("node", BROKER, level=Level.NODE),
    ]

    answer = decide(listed, BROKER, Action.VIEW, now=0)

    assert isinstance(answer, Grant)
    assert answer.agreement == "a-native"


def test_a_relayed_view_is_never_finer_than_either_grant():
    broker = Agreement(
        "broker", BROKER, precision=Precision(0.1, 1.0, 0.0), figures=FIGURES - {"loss_ratio"}, expires_at=50
    )
    partner = Agreement(
        "partner",
        PEOPLE,
        level=Level.NODE,
        precision=Precision(0.01, 9.0, 0.1),
        figures=FIGURES - {BANDWIDTH},
    )

    answer = decide([broker, partner], BROKER, Action.VIEW, now=0, on_behalf_of=ALICE)

    assert isinstance(answer, Grant)
    assert answer.level is Level.NODE
    assert answer.precision == Precision(0.1, 9.0, 0.1)
    assert answer.figures == {"one_way_delay", "delay_variance"}
    assert answer.expires_at == 50


def test_on_behalf_of_never_widens():
    answer = decide([FEDERATION, OWN], BROKER, Action.VIEW, now=0, level=Level.NATIVE, on_behalf_of=ALICE)
    denied = decide([FEDERATION, OWN], BROKER, Action.QUERY, now=0, on_behalf_of=ALICE)

    assert isinstance(answer, Refusal)
    assert isinstance(denied, Refusal)


LEVELS = [Level.NODE, Level.MESH, Level.NATIVE]
AGREEMENTS = st.lists(
    st.builds(
        Agreement,
        id=st.sampled_from(["a", "b", "c"]),
        subject=st.sampled_from([BROKER, ALICE, PEOPLE]),
        level=st.sampled_from(LEVELS),
        actions=st.frozensets(st.sampled_from(list(Action))),
        figures=st.frozensets(st.sampled_from(sorted(FIGURES))),
        expires_at=st.one_of(st.none(), st.integers(0, 10)),
    ),
    max_size=4,
)


@given(
    AGREEMENTS,
    st.sampled_from([BROKER, ALICE]),
    st.sampled_from(list(Action)),
    st.sampled_from([None, *LEVELS]),
    st.sampled_from(["", ALICE]),
    st.integers(0, 12),
)
def test_a_grant_always_rests_on_a_live_agreement_that_says_as_much(
    agreements, peer, action, level, on_behalf_of, now
):
    answer = decide(agreements, peer, action, now=now, level=level, on_behalf_of=on_behalf_of)

    if isinstance(answer, Grant):
        assert any(
            agreement.covers(peer)
            and action in agreement.actions
            and (agreement.expires_at is None or now < agreement.expires_at)
            and LEVELS.index(answer.level) <= LEVELS.index(agreement.level)
            and answer.figures <= agreement.figures
            for agreement in agreements
        )
        if level is not None and action is Action.VIEW:
            assert answer.level is level


def test_the_rate_is_kept_over_time():
    grant = decide([Agreement("slow", BROKER, asks_per_second=2.0)], BROKER, Action.VIEW, now=0)
    assert isinstance(grant, Grant)
    limiter = RateLimiter()

    at_once = [limiter.admit(grant, 0) for _ in range(4)]
    wait_s = limiter.waiting_s(grant)
    later = [limiter.admit(grant, 500_000_000) for _ in range(2)]

    assert at_once == [True, True, False, False]
    assert wait_s == pytest.approx(0.5)
    assert later == [True, False]
