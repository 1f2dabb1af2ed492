"""The page of a model's card: what is on it, that nothing else is, and that names are text."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

from domain_twin.learning.presets import preset
from domain_twin.learning.run import Run, RunState
from domain_twin.learning.store import Kept
from domain_twin.learning.task import Array, Card, Privacy, Profile
from federation.cli.learn.report import Material, render
from federation.wire.learning import ElementForecast

SECOND = 10**9


def _card(**changes: Any) -> Card:
    card = Card(
        "demand",
        3,
        preset("demand"),
        (Array("first", (4, 2)),),
        1_700_000_000 * SECOND,
        "run-1",
        2,
        ("ran", "core"),
        scores={
            "model": {"loss": 0.21, "nmae:mean-5": 0.4, "coverage": 0.9, "raw": 0.2},
            "naive:mean-5": {"loss": 0.26},
            "operator:ran": {"loss": 0.22},
        },
        gains={"ran": 0.12, "core": -0.01},
        digest="ab" * 32,
    )
    return replace(card, **changes)


def _run() -> Run:
    def entry(number: int, loss: float | None, *, accepted: bool) -> dict[str, Any]:
        domains = {"ran": {"loss": loss, "state": "took-part"}, "core": {"loss": None, "state": "too-late"}}
        return {"round": number, "loss": loss, "accepted": accepted, "reason": "", "domains": domains}

    log: tuple[dict[str, Any], ...] = (
        {"refused": {"edge": "no"}},
        entry(0, 0.4, accepted=True),
        entry(1, None, accepted=False),
    )
    log += (entry(2, 0.3, accepted=True), entry(3, 0.9, accepted=False))
    return Run("run-1", preset("demand"), ("ran", "core"), RunState.DONE, 1, log=log)


def _past(**changes: Any) -> ElementForecast:
    times = tuple((100 + step) * SECOND for step in range(5))
    values = tuple((1.0 + step, 2.0 + step, 3.0 + step) for step in range(5))
    past = ElementForecast(
        "urn:ndt:ran:gnb-1:eth0:out",
        "ndt:carried_rate",
        "Mbit/s",
        99 * SECOND,
        times,
        (0.05, 0.5, 0.95),
        values,
    )
    return replace(past, truth=(2.0, 9.0, math.nan, 4.0, 6.0), **changes)


def _pictures(page: str) -> list[ElementTree.Element]:
    body = page[page.index("<main>") : page.index("</main>")] + "</main>"
    return list(ElementTree.fromstring(body).iter("figure"))


def test_the_page_shows_rounds_gains_and_rivals() -> None:
    page = render(Material(Kept(_card(), in_service=True), _run()))
    assert len(_pictures(page)) == 3
    assert page.count("ran") > 2
    assert "+12.0%" in page
    assert ">0.21<" in page
    assert "naive: mean-5" in page
    assert "refused" in page
    assert "raw: of the model alone" in page


def test_a_forecast_is_shown_beside_what_came() -> None:
    page = render(Material(Kept(_card(), in_service=True), None, [_past()]))
    assert "4 values of 1 series came true; 75.0 % of them inside the band of 90 %." in page
    assert "urn:ndt:ran:gnb-1:eth0:out" in page
    assert len(_pictures(page)) == 3


def test_a_private_model_says_why_nobody_knows_who_gained() -> None:
    task = replace(preset("demand"), profile=Profile.PRIVATE, privacy=Privacy())
    card = _card(task=task, gains={}, privacy_spent={"ran": 3.25})
    page = render(Material(Kept(card, in_service=False, reason="worse here")))
    assert "the broker saw sums only" in page
    assert "3.25" in page
    assert "not in service: worse here" in page


def test_names_from_others_are_text_and_nothing_is_fetched() -> None:
    hostile = "<script>alert(1)</script>"
    card = _card(contributors=(hostile,), notes=(hostile,), gains={hostile: 0.1})
    page = render(Material(Kept(card, in_service=True), None, [_past(element=hostile, kpi=hostile)]))
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "http://" not in page.replace("http://www.w3.org/", "")
    assert "https://" not in page


def test_the_same_material_gives_the_same_page() -> None:
    assert render(Material(Kept(_card(), True), _run())) == render(Material(Kept(_card(), True), _run()))
