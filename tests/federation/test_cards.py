"""Cards follow what domains show: nothing that appeared is overlooked for long, nothing is asked twice."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from domain_twin.model import Level, PathKpis, Segment, Version, View, ViewDelta
from federation.query.cards import KEPT_S, SETTLED_S, Card, CardBook
from federation.registry import _shows_others

HERE, THERE = "ran/a", "ran/b"
KNOWN = PathKpis(2.0, 0.1, 0.0, 100.0)


class Time:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def book() -> tuple[CardBook, Time]:
    clock = Time()

    async def ask(domain: str, _asker: str) -> Card:
        return Card(domain)

    return CardBook(ask, clock=clock), clock


async def test_a_card_is_kept_until_its_domain_changes() -> None:
    cards, clock = book()
    for _ in range(3):
        await cards.card("ran", "me")
        clock.now += KEPT_S / 4
    assert cards.asked == 1

    cards.changed("ran")
    await cards.card("ran", "me")
    assert cards.asked == 2


async def test_a_card_of_a_domain_that_has_just_changed_is_not_kept_long() -> None:
    cards, clock = book()
    cards.changed("ran")
    await cards.card("ran", "me")
    clock.now += SETTLED_S
    await cards.card("ran", "me")  # that of the settled domain
    clock.now += KEPT_S / 2
    await cards.card("ran", "me")

    assert cards.asked == 2


@pytest.mark.parametrize(
    ("before", "after", "others"),
    [
        (KNOWN, replace(KNOWN, delay_ms=7.0), False),
        (replace(KNOWN, delay_ms=math.inf), KNOWN, True),
        (KNOWN, replace(KNOWN, bandwidth_mbps=math.inf), True),
        (None, KNOWN, True),
    ],
)
def test_a_figure_that_becomes_known_is_another_view(
    before: PathKpis | None, after: PathKpis, others: bool
) -> None:
    version = Version("e", 1, 1)
    view = View("ran", "deal", Level.MESH, version, {}, {(HERE, THERE): Segment(HERE, THERE, before)})
    delta = ViewDelta(
        "ran", "deal", Level.MESH, version, Version("e", 2, 2), segments=(Segment(HERE, THERE, after),)
    )

    assert _shows_others(view, delta) is others
