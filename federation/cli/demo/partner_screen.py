"""How a partner's act looks. Owns its table and sentences; every figure comes from what the api answered."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from federation.cli.console import count, ms
from federation.cli.demo.partner_files import OTHER
from federation.cli.tables import grid, name_of

if TYPE_CHECKING:
    from rich.table import Table

    from federation.cli.demo.partnering import Partnership
    from federation.cli.demo.screen import Screen

__all__ = ["inside", "next_steps", "show"]

_KINDS = {
    "endPoint": "end point",
    "borderPoint": "border point",
    "node": "node",
    "segment": "segment",
    "interDomainLink": "link",
}


def show(screen: Screen, told: Partnership) -> None:
    """All that happened, also where it went wrong in the middle."""
    if told.twin:
        screen.say(
            f"The twin was active [bold]{told.active_ms / 1e3:.1f} s[/] after the order. Inside, at the level"
            " that each domain grants this partner:"
        )
        screen.show(inside(told))
        coarser = [domain for domain, level in told.other_levels.items() if level != told.levels.get(domain)]
        if coarser:
            screen.say(
                f"Another partner, {OTHER.id}, has a twin as well: there {_joined(coarser)} shows itself as"
                f" one {told.other_levels[coarser[0]]}."
            )
    if told.verdict:
        screen.show(verdict(told))
    if told.foreign:
        same = "the very same words" if told.foreign == told.unknown else "other words"
        screen.say(
            f"Asked for {OTHER.id}'s twin by its id, the api answers: [dim]{told.foreign}[/]. For an id that"
            f" nobody has it uses {same}."
        )
    if told.ended:
        screen.say(f"The twin is {told.ended}, every domain has forgotten its part; the verdict stays.")
    if told.problem:
        screen.say(f"It went no further: {told.problem}")


def inside(told: Partnership) -> Table:
    """Each domain's part: level, and how much of what there is."""
    table = grid("domain", "shown as", "inside")
    for domain in [*sorted(name for name in told.inside if name), *([""] if "" in told.inside else [])]:
        kinds = told.inside[domain]
        parts = [count(kinds[kind], word) for kind, word in _KINDS.items() if kinds.get(kind)]
        table.add_row(name_of(domain), told.levels.get(domain, ""), ", ".join(parts))
    return table


def verdict(told: Partnership) -> Text:
    """What the run said, against what it was to keep."""
    style, word = {"pass": ("good", "passed"), "fail": ("bad", "failed")}.get(
        told.verdict, ("warn", told.verdict)
    )
    found = Text.assemble("Scenario: ", (told.link, "dim"), " is cut. Verdict: ", (word, style))
    delay = "none" if told.delay_ms is None else ms(told.delay_ms)
    found.append(f"\n{delay}, to be kept: at most {told.threshold_ms:g} ms")
    if told.measured:
        found.append(f"\n{told.measured}", "dim")
    found.append(f"\nAnswered in {told.run_ms / 1e3:.1f} s, in this partner's twin alone", "dim")
    for remark in told.remarks:
        found.append(f"\n{remark}", "warn")
    return found


def next_steps(profile: str) -> list[tuple[str, str]]:
    """Commands for a kept demo, and what each is about; `profile` is ` --api FILE` where one is needed."""
    return [
        (
            f"fedtwin order create 'our lines' --point ran/cell-1 --point edge/host-1{profile}",
            "order a twin, as a partner",
        ),
        (f"fedtwin twin inside 'our lines'{profile}", "what it holds, at the level that each domain grants"),
        (
            f"fedtwin scenario define busy --demand x1.5 --flow 'ran/cell-1>edge/host-1' --delay 10{profile}",
            "what a busier day would do to that partner",
        ),
        (f"fedtwin scenario run busy --twin 'our lines'{profile}", "the verdict"),
    ]


def _joined(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
