"""A domain's parts of partners' twins: who may have one, what it shows, how it ends, what stays on disk."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest
from order_parts import ACME, BROKER, SECOND, XR, TwinDomain, agreements

from domain_twin.agent import sandboxes
from domain_twin.disclosure.policy import Action, Agreement, Grant, Refusal, decide
from domain_twin.disclosure.precision import Precision
from domain_twin.errors import ContractError, NotFound, NotShared, OverCapacity, TwinError
from domain_twin.model import Level, View
from federation.v1 import fedtwin_pb2 as pb
from federation.wire.convert import decode_view


class Clock:
    def __init__(self) -> None:
        self.now = time.time_ns()

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ran(tmp_path: Path, clock: Clock) -> TwinDomain:
    return TwinDomain("ran", tmp_path, agreed=agreements(ACME), clock=clock)


def view(answer: pb.SandboxAnswer) -> View:
    return decode_view(answer.view)


def end_points(answer: pb.SandboxAnswer) -> set[str]:
    return {name for name, point in view(answer).points.items() if point.kind == "endpoint"}


# --------------------------------------------------------------- policy


@pytest.mark.parametrize(
    ("own", "partners", "granted"),
    [
        ({Action.SANDBOX}, {Action.SANDBOX}, True),
        ({Action.SANDBOX}, {Action.VIEW}, False),
        ({Action.SANDBOX}, None, False),
        ({Action.VIEW}, {Action.SANDBOX}, False),
        (None, {Action.SANDBOX}, False),
    ],
)
def test_a_twin_needs_an_agreement_with_the_broker_and_one_with_the_partner(
    own: set[Action] | None, partners: set[Action] | None, granted: bool
) -> None:
    agreed = [
        Agreement(name, subject, actions=frozenset(actions))
        for name, subject, actions in (("x", str(BROKER), own), ("p", ACME, partners))
        if actions is not None
    ]

    found = decide(agreed, str(BROKER), Action.SANDBOX, now=0, on_behalf_of=ACME)

    assert isinstance(found, Grant) is granted


@pytest.mark.parametrize("partner", ["", str(BROKER)])
def test_a_twin_is_for_a_partner_and_not_for_the_broker(partner: str) -> None:
    agreed = agreements(ACME)

    assert isinstance(decide(agreed, str(BROKER), Action.SANDBOX, now=0, on_behalf_of=partner), Refusal)


def test_a_view_may_still_be_passed_on_to_whom_no_agreement_speaks_of() -> None:
    found = decide(agreements(), str(BROKER), Action.VIEW, now=0, on_behalf_of=ACME)

    assert isinstance(found, Grant)


# --------------------------------------------------------------- what it shows


async def test_a_part_shows_borders_and_the_points_asked_for(ran: TwinDomain) -> None:
    answer = await ran.ask("open", "t1", points=["ran/cell-1"])

    assert set(view(answer).points) == {"ran/cell-1", "ran/idl-a"}
    assert {key for key in view(answer).segments} == {
        ("ran/cell-1", "ran/idl-a"),
        ("ran/idl-a", "ran/cell-1"),
    }
    assert (answer.agreement, answer.level) == ("exchange+acme", "mesh")


async def test_without_points_all_that_are_published_are_shown_and_borders_alone_on_request(
    ran: TwinDomain,
) -> None:
    assert end_points(await ran.ask("open", "t1")) == {"ran/cell-1", "ran/cell-2"}

    assert set(view(await ran.ask("open", "t2", borders_only=True)).points) == {"ran/idl-a"}


async def test_a_hidden_point_is_refused_as_one_that_does_not_exist(ran: TwinDomain) -> None:
    refusals = []
    for name in ("hidden", "h-hidden", "never-was", "idl-a"):
        with pytest.raises(NotShared) as refused:
            await ran.ask("open", f"t-{name}", points=["ran/cell-1", f"ran/{name}"])
        refusals.append(str(refused.value).replace(name, "X"))

    assert len(set(refusals)) == 1
    assert ran.open_twins() == set()


async def test_the_coarser_of_both_agreements_decides(ran: TwinDomain) -> None:
    rough = Precision(delay_ms=5.0)
    ran.agree(agreements(ACME, level=Level.NODE, precision=rough, figures=frozenset({"one_way_delay"})))

    answer = await ran.ask("open", "t1")

    (whole,) = view(answer).segments.values()
    assert answer.level == "node"
    assert whole.current is not None
    assert whole.current.delay_ms == 5.0
    assert whole.current.bandwidth_mbps == 0.0
    assert list(answer.kpis) == ["one_way_delay"]


async def test_a_refresh_shows_the_network_of_now(ran: TwinDomain) -> None:
    first = view(await ran.ask("open", "t1", points=["ran/cell-1"]))
    ran.set_delay(7.0)

    later = view(await ran.ask("refresh", "t1"))

    key = ("ran/cell-1", "ran/idl-a")
    assert first.segments[key].current.delay_ms == pytest.approx(2.0)  # type: ignore[union-attr]
    assert later.segments[key].current.delay_ms == pytest.approx(7.0)  # type: ignore[union-attr]
    assert later.version.sequence > first.version.sequence
    assert later.version.observed_at == ran.network.version.observed_at


async def test_the_networks_age_is_shown_although_nothing_changed(ran: TwinDomain) -> None:
    await ran.ask("open", "t1")
    ran.set_delay(2.0)

    assert view(await ran.ask("refresh", "t1")).version.observed_at == ran.network.version.observed_at


# --------------------------------------------------------------- open, again, and closed


async def test_opening_again_is_idempotent_and_gives_another_scope(ran: TwinDomain) -> None:
    await ran.ask("open", "t1", points=["ran/cell-1"])
    (first,) = ran.sandboxes.open_ones()

    again = await ran.ask("open", "t1", points=["ran/cell-1"])
    assert ran.sandboxes.open_ones() == (first,)
    assert end_points(again) == {"ran/cell-1"}

    other = await ran.ask("open", "t1", points=["ran/cell-2"])
    assert end_points(other) == end_points(await ran.ask("refresh", "t1")) == {"ran/cell-2"}
    assert len(ran.sandboxes.open_ones()) == 1


async def test_a_scope_that_is_refused_leaves_the_old_one(ran: TwinDomain) -> None:
    await ran.ask("open", "t1", points=["ran/cell-1"])

    with pytest.raises(NotShared):
        await ran.ask("open", "t1", points=["ran/hidden"])

    assert end_points(await ran.ask("refresh", "t1")) == {"ran/cell-1"}


async def test_what_is_closed_or_was_never_open_is_not_refreshed(ran: TwinDomain) -> None:
    await ran.ask("open", "t1")
    await ran.ask("close", "t1")
    await ran.ask("close", "t1")

    for name in ("t1", "never"):
        with pytest.raises(NotFound, match="open it again"):
            await ran.ask("refresh", name)


async def test_one_partners_twin_is_unknown_to_the_other(ran: TwinDomain) -> None:
    ran.agree(agreements(ACME, XR))
    await ran.ask("open", "t1")
    answers = []
    for step, name in (("refresh", "t1"), ("open", "t1"), ("close", "t1"), ("refresh", "never")):
        with pytest.raises(NotFound) as refused:
            await ran.ask(step, name, partner=XR)
        answers.append(str(refused.value).replace("'never'", "'t1'"))

    assert len(set(answers)) == 1
    assert ran.open_twins() == {"t1"}


async def test_a_part_ends_by_itself(ran: TwinDomain, clock: Clock) -> None:
    await ran.ask("open", "t1", until=clock.now + SECOND)
    clock.now += SECOND

    assert ran.open_twins() == set()
    assert ran.jobs.findings() == []
    with pytest.raises(NotFound):
        await ran.ask("refresh", "t1")


async def test_a_part_ends_with_its_agreement_and_says_so(tmp_path: Path, clock: Clock) -> None:
    ran = TwinDomain("ran", tmp_path, agreed=agreements(ACME, expires_at=clock.now + SECOND), clock=clock)
    answer = await ran.ask("open", "t1")
    assert answer.expires_at == clock.now + SECOND
    clock.now += SECOND

    assert ran.open_twins() == set()
    with pytest.raises(NotShared):
        await ran.ask("refresh", "t1")


async def test_a_withdrawn_agreement_closes_the_part_and_the_next_refresh_is_told(ran: TwinDomain) -> None:
    await ran.ask("open", "t1")
    ran.agree(agreements())

    assert ran.open_twins() == set()
    with pytest.raises(NotShared, match="withdrawn"):
        await ran.ask("refresh", "t1")
    await ran.ask("close", "t1")


@pytest.mark.parametrize("step", ["open", "refresh"])
async def test_a_part_is_not_shown_when_the_agreement_goes_while_it_is_made(
    ran: TwinDomain, step: str
) -> None:
    await ran.ask("open", "t1")
    making = ran.sandboxes._view

    async def withdrawn_meanwhile(grant: Grant) -> View:
        made = await making(grant)
        ran.agree(agreements())
        return made

    ran.sandboxes._view = withdrawn_meanwhile  # type: ignore[method-assign]
    with pytest.raises(TwinError):
        await ran.ask(step, "t1")


async def test_parts_outlive_the_agent(ran: TwinDomain) -> None:
    await ran.ask("open", "t1", points=["ran/cell-1"])
    await ran.ask("open", "t2")
    await ran.ask("close", "t2")

    ran.start()

    assert ran.open_twins() == {"t1"}
    assert end_points(await ran.ask("refresh", "t1")) == {"ran/cell-1"}


async def test_a_list_that_cannot_be_read_is_begun_anew_and_told(ran: TwinDomain, tmp_path: Path) -> None:
    (tmp_path / "sandboxes-ran.json").write_text('[{"id": 7}]')
    ran.start()

    assert ran.open_twins() == set()
    assert [finding.code for finding in ran.jobs.findings()] == ["sandbox.unwritable"]
    await ran.ask("open", "t1")
    assert [item["id"] for item in json.loads((tmp_path / "sandboxes-ran.json").read_text())] == ["t1"]
    assert [finding.code for finding in ran.jobs.findings()] == ["sandbox.open"]


async def test_the_operator_sees_who_holds_twins_here(ran: TwinDomain) -> None:
    ran.agree(agreements(ACME, XR))
    for name, partner in (("t1", ACME), ("t2", ACME), ("t3", XR)):
        await ran.ask("open", name, partner=partner)

    of_acme, of_xr = ran.jobs.findings()

    assert (of_acme.element, of_xr.element) == (ACME, XR)
    assert "2 twins" in of_acme.message
    assert "t1, t2" in of_acme.message


# --------------------------------------------------------------- limits


async def test_a_partner_has_so_many_twins_here_and_no_more(
    ran: TwinDomain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandboxes, "MOST_OF_ONE", 3)
    ran.agree(agreements(ACME, XR))
    for number in range(3):
        await ran.ask("open", f"t{number}")

    with pytest.raises(OverCapacity, match="at most 3"):
        await ran.ask("open", "t3")
    await ran.ask("open", "t0", points=["ran/cell-1"])
    await ran.ask("open", "t3", partner=XR)


async def test_all_partners_together_have_so_many(
    ran: TwinDomain, monkeypatch: pytest.MonkeyPatch, clock: Clock
) -> None:
    monkeypatch.setattr(sandboxes, "MOST", 2)
    ran.agree(agreements(ACME, XR))
    await ran.ask("open", "t1", until=clock.now + SECOND)
    await ran.ask("open", "t2", partner=XR)
    with pytest.raises(OverCapacity):
        await ran.ask("open", "t3")
    clock.now += SECOND

    await ran.ask("open", "t3")


async def test_opening_at_once_does_not_pass_the_limit(
    ran: TwinDomain, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sandboxes, "MOST_OF_ONE", 2)

    ends = await asyncio.gather(*(ran.ask("open", f"t{n}") for n in range(5)), return_exceptions=True)

    assert sum(isinstance(end, OverCapacity) for end in ends) == 3
    assert len(ran.open_twins()) == 2


@pytest.mark.parametrize(
    "ask",
    [
        {"step": "open", "sandbox": ""},
        {"step": "open", "sandbox": "x" * 256},
        {"step": "open", "sandbox": "a\nb"},
        {"step": "opened", "sandbox": "t1"},
        {"step": "open", "sandbox": "t1", "until": 1},
        {"step": "open", "sandbox": "t1", "until": -1},
    ],
)
async def test_what_makes_no_sense_is_refused(ran: TwinDomain, ask: dict[str, object]) -> None:
    with pytest.raises(ContractError):
        await ran.ask(**ask)  # type: ignore[arg-type]
    assert ran.open_twins() == set()


async def test_too_many_points_are_refused(ran: TwinDomain) -> None:
    with pytest.raises(OverCapacity, match="1001 points"):
        await ran.ask("open", "t1", points=[f"ran/p{number}" for number in range(1001)])


async def test_asking_faster_than_agreed_is_refused(tmp_path: Path, clock: Clock) -> None:
    ran = TwinDomain("ran", tmp_path, agreed=agreements(ACME, asks_per_second=2.0), clock=clock)
    await ran.ask("open", "t1")

    with pytest.raises(OverCapacity, match="asks a second"):
        await ran.ask("refresh", "t1")
