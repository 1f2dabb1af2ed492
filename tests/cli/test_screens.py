"""Every screen fits 80 and 100 columns (the story indents by 3) and says what it must, uncut."""

from __future__ import annotations

import io
from collections.abc import Callable

import cli_samples as samples
import pytest
from rich.console import Console, RenderableType

from federation.cli import plots, route, tables
from federation.cli.console import _theme
from federation.cli.demo import screens
from federation.cli.demo.account import Account, Phase, Reaction
from federation.cli.demo.inside import Inside, Stretch
from federation.cli.demo.prediction import Prediction, Verdict, none
from federation.cli.demo.screen import Screen


def phase(name: str, transport_ms: float) -> Phase:
    status = samples.service(transport_ms)
    assert status.path
    parts = {"ran": 2.19, "transport": transport_ms - 0.01, "core": 0.6, "edge": 1.1, "inter-domain": 0.05}
    return Phase(
        name=name,
        delay_ms=status.path.total.delay_ms,
        metric=int(transport_ms * 1000),
        met=status.met,
        budget=[{"domain": s.domain, "share_ms": s.share_ms, "used_ms": s.used_ms} for s in status.budget],
        packets=420,
        packets_delay_ms=status.path.total.delay_ms - 0.013,
        packets_std_error_ms=0.004,
        packets_parts_ms=parts,
    )


INSIDES = {domain: Inside(domain, 6, 1204, {}, 6, 12, 18, 0, 0) for domain in samples.OPERATORS}
ROUTE = [Stretch("szczecin", "eth0", "poznan"), Stretch("poznan", "eth2", "wroclaw")]
CUT = Reaction("cut", "poznan", "eth2", samples.NOW, samples.NOW + 12_000_000, samples.NOW + 57_000_000)
SAID = Prediction(
    link="urn:ndt:transport:poznan:eth2:out",
    before_ms=5.85,
    delay_ms=11.31,
    low_ms=11.02,
    high_ms=11.6,
    route=("szczecin", "poznan", "bydgoszcz", "warsaw", "lodz", "wroclaw"),
    rung="tables",
    took_ms=92.3,
    digest="9f" * 32,
)
CAME = Verdict(SAID, 11.85, 11.72, SAID.route)
SERVICE = "urn:service:factory-control"
BEFORE, DURING = phase("before", 1.9), phase("cut", 7.9)
NEWS = samples.events()

SCREENS: dict[str, tuple[Callable[[int], RenderableType], list[str]]] = {
    "domains": (
        lambda _: tables.domains_table(samples.domains(), samples.NOW),
        ["lost", "12 nodes, 36 links"],
    ),
    "devices": (lambda _: tables.devices_table(samples.devices(), samples.NOW), ["stale", "synchronised"]),
    "points": (lambda _: tables.points_table(samples.view()), ["ran (4k2m)", "10,000 Mbit/s"]),
    "segments": (lambda _: tables.segments_table([*samples.view().segments.values()]), ["no path", "2+"]),
    "findings": (lambda _: tables.findings_table(samples.findings(), samples.NOW), ["Remedy: agree on one"]),
    "path": (lambda _: route.answer_block(samples.answer()), ["path 2", "stale", "end to end"]),
    "service": (lambda _: route.service_block(samples.service(7.9)), ["missed", "-4.700 ms", "+0.500 ms"]),
    "services": (
        lambda width: route.services_table([samples.service()], {SERVICE: range(90)}, width),
        ["factory-control", "edge/host-1", "10 ms", "met", "█"],
    ),
    "joined": (lambda _: screens.joined(samples.domains(), {"ran": 9.1}), ["agent/transport", "9.1 s"]),
    "composed": (
        lambda _: screens.composed({d.domain: d for d in samples.domains()}, INSIDES),
        ["together", "26 nodes", "4,816"],
    ),
    "budget": (
        lambda width: screens.service(samples.service(7.9), DURING, width, BEFORE),
        ["missed", "packets say", "1.900 ms", "7.890 ms"],
    ),
    "truth": (lambda _: screens.truth(DURING), ["420 packets timed one by one, none lost", "+0.013 ms"]),
    "route": (lambda _: screens.route(ROUTE, ROUTE[1]), ["szczecin ── poznan ─✕─ wroclaw"]),
    "prediction": (
        lambda _: screens.prediction(SAID),
        ["11.310 ms", "90 % interval 11.020 to 11.600 ms", "bydgoszcz ── warsaw", "92 ms", "queueing tables"],
    ),
    "no prediction": (
        lambda _: screens.prediction(none("poznan:eth2:out", "the agent did not answer within 25 s")),
        ["no prediction", "did not answer within 25 s"],
    ),
    "verdict": (
        lambda _: screens.verdict_on(CAME),
        ["predicted -4.6 % off that", "predicted -3.5 % off that, outside the interval", "as predicted"],
    ),
    "reaction": (lambda _: screens.reaction(CUT), ["12 ms  poznan answers <ok/>", "57 ms  a watcher"]),
    "history": (
        lambda width: screens.history(samples.history(), NEWS, [CUT], width),
        ["one-way delay"],
    ),
    "plot": (lambda width: plots.service_plot(samples.history(), NEWS, width=width), ["one-way delay"]),
}


@pytest.mark.parametrize("width", [77, 97])
@pytest.mark.parametrize("name", SCREENS)
def test_screen_fits_and_says_what_it_must(name: str, width: int) -> None:
    make, words = SCREENS[name]

    text = render(make(width), width)

    assert max(len(line.rstrip()) for line in text.splitlines()) <= width
    assert "…" not in text
    for word in words:
        assert word in text


def test_a_figure_that_no_packet_confirms_is_said_so() -> None:
    nothing = Phase("cut", 9.0, 1, False, [], packets=0, packets_lost=31)

    assert "No packet of the service arrived (31 lost)" in render(screens.truth(nothing), 80)


def test_a_series_with_a_gap_is_drawn_in_parts() -> None:
    second = 10**9
    points = [(0, 1.0), (5 * second, float("nan")), (8 * second, 2.0), (12 * second, 2.0)]

    assert "▀" in str(plots.series_plot(points, width=60)) or "▄" in str(plots.series_plot(points, width=60))
    assert "nothing to draw" in str(plots.series_plot([(0, float("nan"))], width=60))


def test_without_a_terminal_the_story_is_plain_lines() -> None:
    stream = io.StringIO()
    screen = Screen(Console(file=stream, width=100, theme=_theme(), highlight=False))
    account = Account(1)
    account.phases, account.reactions, account.predictions = [BEFORE, DURING], [CUT], [CAME]
    account.first_view_s = 13.2
    account.domains = [{"hidden_nodes": 26}]

    screen.title("FedTwin", "Four operators.")
    screen.act("A link is cut", "One sentence.")
    screens.summary(screen, account)

    assert "\x1b" not in stream.getvalue()
    assert "45 ms" in stream.getvalue()
    assert "-3.5 %" in stream.getvalue()
    (told,) = account.document()["predictions"]
    assert (told["predicted_ms"], told["inside_interval"], told["same_route"]) == (11.31, False, True)
    assert not screen.lively


def render(item: RenderableType, width: int) -> str:
    stream = io.StringIO()
    Console(file=stream, width=width, theme=_theme(), highlight=False, color_system=None).print(item)
    return stream.getvalue()
