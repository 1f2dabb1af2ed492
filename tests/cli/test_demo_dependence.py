"""Who was said to depend on the link, beside whose path changed: sets, screens, a twin that is silent."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import cli_samples as samples
from rich.console import Console

from domain_twin.model import Element, Outcome, ServiceStatus
from domain_twin.model.query import Affected, Dependency, Impact, QueryPart
from federation.cli.console import _theme
from federation.cli.demo import screens
from federation.cli.demo.account import Account
from federation.cli.demo.dependence import Said, both_ways, changed, compare, dependents

LINK = "urn:ndt:transport:poznan:eth2:out"


def plain(renderable: Any) -> str:
    stream = io.StringIO()
    Console(file=stream, width=97, theme=_theme(), highlight=False, color_system=None).print(renderable)
    return stream.getvalue()


def status(name: str, *, metric: int = 3000) -> ServiceStatus:
    found = samples.service()
    return replace(
        found,
        service=replace(found.service, id=f"urn:service:{name}", name=name),
        path=samples.path(metric=metric),
    )


def said(*services: str) -> Said:
    way = "transport/idl-4k2m>transport/idl-p8q1"
    first = Dependency(way, "usesLink", LINK, "transport")
    affected = [Affected("segment", way, "", "transport", (first,))]
    for name in services:
        chain = (first, Dependency(f"urn:service:{name}", "usesSegment", way))
        affected.append(Affected("service", f"urn:service:{name}", name, "", chain))
    parts = (QueryPart("transport", Outcome.OK), QueryPart("ran", Outcome.OK))
    return Said(LINK, Impact(LINK, tuple(affected), parts), 12.3)


def test_what_changed_is_read_off_the_services_paths() -> None:
    before = [status("a"), status("b"), status("c"), status("d")]
    after = [
        status("a"),
        status("b", metric=4000),
        replace(status("c"), path=None),
        replace(status("d"), path=samples.path(9.9)),  # the same way, only slower
    ]

    assert changed(before, after) == {"urn:service:b", "urn:service:c"}


def test_as_was_said_and_not_as_was_said() -> None:
    before, after = [status("a"), status("b")], [status("a", metric=4000), status("b")]

    told = compare(said("a"), before, after)
    wrong = compare(said("a", "b"), before, after)

    assert told.same
    assert "as was said" in plain(screens.compared(told, before))
    assert re.search(r"it did not +b *\n", plain(screens.compared(told, before)))
    assert not wrong.same
    assert "not as was said" in plain(screens.compared(wrong, before))


def test_the_screen_shows_chain_and_who_is_not_affected() -> None:
    shown = plain(screens.dependents(said("a"), [status("a"), status("b")]))

    assert "1 service is affected" in shown
    assert "└── a  service" in shown
    assert "not affected" in shown
    assert "the broker of transport, ran" in shown


def test_a_link_is_asked_about_in_both_directions() -> None:
    def link(name: str, source: str, target: str) -> Element:
        return Element(name, "link", "transport", attributes={"source-tp": source, "dest-tp": target})

    links = [link("ab", "a", "b"), link("ba", "b", "a"), link("bc", "b", "c"), link("x", "", "")]

    assert both_ways(links, "ab") == ("ab", "ba")
    assert both_ways(links, "bc") == ("bc",)
    assert both_ways(links, "x") == ("x",)
    assert both_ways(links, "none") == ("none",)


async def test_no_answer_is_told_and_the_story_goes_on(tmp_path: Path) -> None:
    nothing = await dependents(tmp_path / "none.sock", tmp_path / "none.toml", LINK)

    assert nothing.impact is None
    assert "no such file" in nothing.problem
    assert "no answer" in plain(screens.dependents(nothing, []))
    told = compare(nothing, [status("a")], [status("a")])
    account = Account(1)
    account.impacts.append(told)
    (document,) = account.document()["impacts"]
    assert (document["problem"], document["same"], document["services"]) == (nothing.problem, None, [])


def test_the_document_has_what_was_said_and_what_came() -> None:
    before, after = [status("a"), status("b")], [status("a", metric=4000), status("b")]
    account = Account(1)
    account.impacts.append(compare(said("a"), before, after))

    (document,) = account.document()["impacts"]

    assert document == {
        "link": LINK,
        "problem": None,
        "services": ["urn:service:a"],
        "slices": [],
        "customers": [],
        "changed": ["urn:service:a"],
        "unchanged": ["urn:service:b"],
        "same": True,
        "domains": ["transport", "ran"],
        "answered_in_ms": 12.3,
    }
