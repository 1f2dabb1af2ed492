"""A report as people read it: words, screens that fit, and a page that is safe, whole and stable."""

from __future__ import annotations

import io
import math
import re
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import forecast_samples as samples
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree, html
from rich.console import Console

from domain_twin.model.job import FlowForecast, PathPart, Report
from domain_twin.model.scenario import Scenario
from domain_twin.simulation.questions.scenario_file import load_scenario
from federation.cli.console import _theme
from federation.cli.forecast import drawings, reading
from federation.cli.forecast.page import MOST_ROWS, render
from federation.cli.forecast.text import report_block

INNER = samples.BEFORE[2:3]
EVIL = "<script>alert('x')</script>\"'&$a_b$\x00\x1b[31m\u202e]]>"
SVG = "{http://www.w3.org/2000/svg}"


def shown(report: Report, width: int = 97, top: int = 10) -> str:
    stream = io.StringIO()
    console = Console(file=stream, width=width, theme=_theme(), highlight=False, color_system=None)
    console.print(report_block(report, top=top))
    return stream.getvalue()


REPORTS = {
    "whole": (samples.report(), ["+3.000 (+52 %)", "8.555 to 9.085", "loses its path", "102.0 %", "seed 17"]),
    "partial": (samples.partial(), ["PARTIAL ANSWER", "core: unreachable (not connected for 12 s)"]),
    "sweep": (samples.report(rows=samples.rows(6), flows=()), ["6 variants, worst first", "r5-r6 fails"]),
    "empty": (
        samples.report(flows=(), elements=(), findings=(), domains=(), assumptions=()),
        ["No flow is reported."],
    ),
}


@pytest.mark.parametrize("width", [80, 100])
@pytest.mark.parametrize("name", REPORTS)
def test_a_report_fits_the_screen_and_says_what_it_must(name: str, width: int) -> None:
    report, words = REPORTS[name]

    text = shown(report, width)

    assert max(len(line.rstrip()) for line in text.splitlines()) <= width
    assert "…" not in text
    for word in words:
        assert word in text


def test_a_silent_domain_takes_no_bar_from_the_others() -> None:
    silent = (samples.segment("ran", math.nan), samples.segment("core", 1.0))

    text = shown(samples.report(flows=(samples.flow(path_before=silent, path_after=silent),)))

    assert [line for line in text.splitlines() if line.split()[:2] == ["ran", "unknown"]]
    assert [line for line in text.splitlines() if line.split()[:1] == ["core"] and "█" in line]


def test_what_is_not_shown_is_counted() -> None:
    flows = tuple(samples.flow(service="", source=f"ran/cell-{n}") for n in range(9))

    text = shown(samples.report(flows=flows), top=5)

    assert "4 flows more, which change less: --top, --json or --report" in text


@pytest.mark.parametrize(
    ("flow", "words"),
    [
        (samples.lost(), "loses its path"),
        (
            samples.flow(before=None, path_before=()),
            "gets a path: ran > poznan - lodz - wroclaw > core > edge",
        ),
        (samples.flow(before=None, after=None), "has no path, before or after"),
        (samples.flow(path_after=samples.BEFORE), "the same points; ways inside the domains are not visible"),
        (samples.flow(path_before=INNER, path_after=INNER), "the same path"),
        (
            samples.flow(),
            "another way inside transport: leaves poznan - wroclaw, takes poznan - lodz, lodz - wroclaw",
        ),
        (
            samples.flow(
                path_before=(samples.segment("core", 1.0),), path_after=(PathPart("core", "", "a", "c", 1),)
            ),
            "another way inside core",
        ),
        (
            samples.flow(path_after=(samples.segment("ran", 1), samples.segment("edge", 1))),
            "now through ran > edge, before through ran > transport > core > edge",
        ),
        (samples.flow(path_before=(), path_after=()), "which path it takes is not disclosed"),
    ],
)
def test_a_path_is_told_in_words(flow: FlowForecast, words: str) -> None:
    assert reading.path_words(flow) == words


def test_flows_that_lose_their_path_come_first_then_those_that_change_most() -> None:
    small = samples.flow(source="a", service="", after=samples.figures(5.9))
    large = samples.flow(source="b", service="", after=samples.figures(1.0))

    assert [flow.source for flow in reading.by_change([small, large, samples.lost()])] == [
        "ran/cell-7",
        "b",
        "a",
    ]


def test_a_ranking_is_worst_first_and_survives_what_is_unknown() -> None:
    rows = [
        *samples.rows(4),
        replace(samples.rows(1)[0], name="x", worst_delay_ms=math.nan, worst_loss=math.nan),
    ]

    ranked = [row.name.removeprefix("urn:ndt:transport:") for row in reading.ranking(rows)]

    assert ranked == ["r2-r3 fails", "r3-r4 fails", "r1-r2 fails", "r0-r1 fails", "x"]


def test_shares_add_up_to_the_path() -> None:
    shares = reading.shares(samples.AFTER)

    assert list(shares) == ["ran", "", "transport", "core", "edge"]
    assert sum(shares.values()) == pytest.approx(sum(part.delay_ms for part in samples.AFTER))


def test_every_kind_of_change_has_words() -> None:
    changes = [
        {"kind": "element-down", "element": "a"},
        {"kind": "element-up", "element": "b"},
        {"kind": "capacity", "element": "c", "mbps": 100},
        {"kind": "metric", "element": "d", "value": 7},
        {"kind": "buffer", "element": "e", "packets": 64},
        {"kind": "scheduler", "element": "f", "discipline": "wfq"},
        {"kind": "demand", "factor": 2},
        {"kind": "demand", "source": "g", "target": "h", "mbps": 3},
        {"kind": "cell-load", "element": "i", "factor": 2},
        {"kind": "workers", "element": "j", "delta": -1},
        {"kind": "service", "name": "k", "source": "l", "target": "m", "mbps": 5},
        {"kind": "config", "device": "n", "path": "/p", "value": False},
        {"kind": "config", "device": "n", "path": "/q", "delete": True},
    ]

    lines = reading.change_lines(Scenario.model_validate({"changes": changes}))

    assert lines == [
        "a fails", "b comes back", "c gets 100 Mbit/s", "d gets metric 7", "e gets a queue of 64 packets",
        "f serves its classes by wfq", "all demand: times 2", "g to h: 3 Mbit/s", "the load of i times 2",
        "j gets -1 workers", "new: k, l to m, 5 Mbit/s poisson", "n: /p set to False", "n: /q deleted",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("sweep", "words"),
    [
        ({"kind": "failures"}, "each of the links fails"),
        (
            {"kind": "failures", "of": "risk-groups", "simultaneous": 2},
            "each of the risk groups fails, 2 at once",
        ),
        ({"kind": "failures", "elements": ["a", "b"]}, "each of a, b fails"),
        (
            {"kind": "grid", "demand": [1, 2], "options": [[{"kind": "element-down", "element": "a"}]]},
            "demand times 1, 2; with and without: a fails",
        ),
        (
            {"kind": "monte-carlo", "draws": 9, "link_failure": 0.1, "demand_sigma": 0.2},
            "9 random draws; each link is down with probability 0.1; demand spreads by 0.2 (logarithm)",
        ),
    ],
)
def test_every_kind_of_sweep_has_words(sweep: dict[str, object], words: str) -> None:
    assert reading.sweep_words(Scenario.model_validate({"sweep": sweep})) == words


ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = [
    file
    for file in sorted((ROOT / "examples" / "whatif").glob("*.yaml"))
    if "fedtwin simulate" not in file.read_text()  # that asks no twin
]


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_examples_are_scenarios_that_say_how_to_ask_them(file: Path) -> None:
    scenario = load_scenario(file)

    assert reading.change_lines(scenario) or reading.sweep_words(scenario)
    command = "sweep" if scenario.sweep else "whatif"
    text = file.read_text()
    assert f"#   fedtwin {command} examples/whatif/{file.name}" in text
    assert f"whatif/{file.name}" in (ROOT / "docs" / "whatif.md").read_text()


# --- the page


def evil_report() -> Report:
    part = PathPart(EVIL, EVIL, EVIL, EVIL, 1.0)
    other = replace(part, domain=f"2{EVIL}")
    flow = samples.flow(
        source=EVIL,
        target=EVIL,
        traffic_class=EVIL,
        service=EVIL,
        path_before=(part,),
        path_after=(part, other),
    )
    made = samples.report(
        job=EVIL,
        flows=(flow,),
        elements=tuple(replace(each, element=EVIL, domain=EVIL, kind=EVIL) for each in samples.elements()),
        rows=tuple(
            replace(row, name=EVIL, worst_flow=EVIL, busiest=EVIL, missed=(EVIL,)) for row in samples.rows()
        ),
        findings=tuple(
            replace(each, code=EVIL, message=EVIL, remedy=EVIL, element=EVIL) for each in samples.findings()
        ),
        assumptions=(EVIL,),
        domains=tuple(replace(each, domain=EVIL, reason=EVIL) for each in samples.partial().domains),
        rung=EVIL,
        digest=EVIL,
    )
    scenario = made.scenario.model_copy(update={"name": EVIL, "description": EVIL})
    return replace(made, scenario=scenario, versions={EVIL: made.versions["ran"]})


def test_names_from_the_network_do_not_reach_the_terminal_as_commands() -> None:
    text = shown(replace(evil_report(), scenario=samples.report().scenario))

    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "<script>" in text


def test_names_from_the_network_stay_text_in_the_page() -> None:
    page = render(evil_report())

    root = html.fromstring(page)
    assert root.xpath("//script") == []
    assert [each for each in root.iter() if any(name.startswith("on") for name in each.attrib)] == []
    assert "<script" not in page.lower()
    assert "\x00" not in page
    assert "\x1b" not in page
    assert "\u202e" not in page
    assert "alert('x')" in root.findtext(".//title")
    assert len(root.xpath("//svg")) == 4
    for drawing in root.xpath("//svg"):
        assert "alert('x')" in "".join(drawing.itertext())


def test_the_page_needs_nothing_from_outside() -> None:
    page = render(samples.report(rows=samples.rows()))

    root = html.fromstring(page)
    assert root.xpath("//link | //img | //iframe | //object | //script | //@src") == []
    references = [str(value) for value in root.xpath("//@href | //@*[name()='xlink:href']")]
    assert [value for value in references if not value.startswith("#")] == []
    assert re.findall(r"url\((?!#)", page) == []
    policy = root.xpath("//meta[@http-equiv='Content-Security-Policy']/@content")
    assert policy == ["default-src 'none'; style-src 'unsafe-inline'"]


def test_the_page_is_well_formed_and_says_all_in_tables_and_words() -> None:
    page = render(samples.report(rows=samples.rows()))

    parser = etree.HTMLParser(recover=False)  # refuses what a browser would have to guess
    errors = [
        str(each) for each in _errors(page, parser) if "Tag " not in str(each)
    ]  # it knows no HTML 5 tags
    assert errors == []
    root = html.fromstring(page)
    ids = root.xpath("//@id")
    assert len(ids) == len(set(ids))
    for target in re.findall(r"url\(#([^)]+)\)", page) + [
        str(value)[1:] for value in root.xpath("//@*[name()='xlink:href']")
    ]:
        assert target in ids
    assert root.get("lang") == "en"
    for table in root.xpath("//table"):
        assert table.xpath("caption")
        assert table.xpath("thead/tr/th[@scope='col']")
    for drawing in root.xpath("//figure/svg"):
        assert drawing.get("role") == "img"
        assert root.xpath(f"//*[@id='{drawing.get('aria-labelledby')}']")[0].text
    text = root.text_content()
    for words in (
        "Cut poznan - wroclaw",
        "8.820",
        "8.555 to 9.085",
        "102.0 %",
        "factory-control",
        "Remedy:",
        "17",
    ):
        assert words in text


def _errors(page: str, parser: etree.HTMLParser) -> list[object]:
    try:
        etree.fromstring(page.encode(), parser)
    except etree.XMLSyntaxError as error:
        return list(error.error_log)
    return list(parser.error_log)


def test_the_same_report_is_the_same_page() -> None:
    report = samples.report(rows=samples.rows())

    assert render(report) == render(samples.report(rows=samples.rows()))


def test_colours_are_the_page_s_own_so_that_it_is_right_in_light_and_dark() -> None:
    page = render(samples.report(rows=samples.rows()))

    drawn = "".join(re.findall(r"<svg.*?</svg>", page, re.DOTALL))
    named = set(re.findall(r"var\(--([a-z0-9-]+)\)", drawn))
    light, dark = page.split("prefers-color-scheme: dark", 1)
    assert re.findall(r"#0[1-6]0[0-9]{3}\b", drawn) == []
    assert {"ink", "before", "after", "bad"} <= named
    for name in named:
        assert f"--{name}:" in light
        assert f"--{name}:" in dark


@pytest.mark.parametrize("name", REPORTS)
def test_every_report_has_a_page(name: str) -> None:
    report, _ = REPORTS[name]

    root = html.fromstring(render(report))

    assert bool(root.xpath("//*[@role='alert']")) == report.partial


def test_a_very_long_table_is_cut_and_says_so() -> None:
    rows = samples.rows(1) * (MOST_ROWS + 5)

    page = render(samples.report(rows=rows, flows=(), elements=()))

    assert "5 more variants are in the JSON document" in page
    assert len(html.fromstring(page).xpath("//section[@aria-labelledby='variants']//tbody/tr")) == MOST_ROWS


@settings(max_examples=15, deadline=None)
@given(
    name=st.text(max_size=60),
    value=st.floats(min_value=0, max_value=1e12) | st.just(math.nan),
)
def test_a_drawing_is_always_xml(name: str, value: float) -> None:
    flow = samples.flow(source=name, service="", before=samples.figures(value))
    element = replace(samples.elements()[0], element=name, utilisation_after=value)

    for drawing in (
        drawings.delays([flow], name),
        drawings.parts([flow], ["ran", "transport", "core", "edge"], name),
        drawings.utilisations([element], name),
        drawings.ranks([replace(samples.rows(1)[0], name=name, worst_delay_ms=value)], name),
    ):
        assert not drawing or ElementTree.fromstring(drawing).tag == f"{SVG}svg"
