"""Scenario files: what is read, what is refused, and that every refusal names file, place and remedy."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from domain_twin.errors import ConfigError
from domain_twin.model import scenario as language
from domain_twin.model.job_json import canonical
from domain_twin.simulation.questions.scenario_file import (
    MAX_BYTES,
    load_scenario,
    make_scenario,
    parse_scenario,
)

ROOT = Path(__file__).resolve().parents[2]
EVERY_KIND = """
name: evening peak
description: what the stadium does
at: 2026-03-01T20:00:00Z
seed: 7
window: {start: 2026-03-01T18:00:00Z, end: 2026-03-01T20:00:00Z}
flows: [[a, b], [b, a]]
changes:
- {kind: element-down, element: urn:ndt:ran:r1}
- {kind: element-up, element: urn:ndt:ran:r2}
- {kind: capacity, element: l1, mbps: 2500}
- {kind: capacity, element: l2, factor: 0.5}
- {kind: metric, element: l1, value: 7}
- {kind: buffer, element: l1, packets: 100}
- {kind: scheduler, element: l1, discipline: strict-priority}
- {kind: demand, factor: 1.2}
- {kind: demand, factor: 1e1, traffic_class: voice}
- {kind: demand, mbps: 3.5, source: a, target: b}
- {kind: cell-load, element: c1, factor: 2}
- {kind: workers, element: upf-1, delta: -1}
- {kind: service, name: slice-9, source: a, target: b, mbps: 10, delay_ms: 5, arrivals: on-off}
- {kind: config, device: r9, path: "/a:b/c", value: true}
- {kind: config, device: r9, path: "/a:b/d", value: [x, 1]}
- {kind: config, device: r9, path: "/a:b/e", delete: true}
sweep: {kind: monte-carlo, draws: 10, link_failure: 0.01, demand_sigma: 0.3}
"""


def refused(text: str | bytes) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_scenario(text, "s.yaml")
    assert str(caught.value).startswith("s.yaml: ")
    return str(caught.value).removeprefix("s.yaml: ")


def test_every_kind_of_change_is_read_from_yaml_and_json(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(EVERY_KIND)
    scenario = load_scenario(tmp_path / "s.yaml")
    (tmp_path / "s.json").write_text(scenario.model_dump_json(exclude_none=True))

    assert load_scenario(tmp_path / "s.json") == scenario
    kinds = {change.kind for change in scenario.changes}
    assert kinds == {
        member.model_fields["kind"].default
        for member in (getattr(language, name) for name in language.__all__)
        if isinstance(member, type)
        and issubclass(member, language._Strict)
        and "kind" in member.model_fields
        and not member.__name__.endswith("Sweep")
    }


def test_scenarios_are_made_in_python_too() -> None:
    made = language.Scenario(
        changes=(language.ElementDown(element="r1"), language.CapacityChange(element="l1", factor=2))
    )

    changes = [
        {"kind": "element-down", "element": "r1"},
        {"kind": "capacity", "element": "l1", "factor": 2},
    ]
    assert make_scenario({"changes": changes}) == made
    with pytest.raises(ValidationError, match="exactly one of mbps and factor"):
        language.CapacityChange(element="l1")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "nothing found"),
        ("[]", "a list found"),
        ("changes: []", "nothing is changed; add at least one entry"),
        ("name: x", "nothing is changed; add at least one entry"),
        ("changes: [{kind: element-down, element: ''}]", "line 1: changes[0].element: string should have"),
    ],
)
def test_an_empty_scenario_is_refused(text: str, words: str) -> None:
    assert words in refused(text)


def test_an_unknown_key_is_named_with_the_one_that_was_meant() -> None:
    said = refused("changes:\n- kind: element-down\n  elemnt: r1\n")

    assert (
        "line 3: changes[0].elemnt: no such key; did you mean 'element'? Accepted here: element, kind" in said
    )
    assert "line 2: changes[0].element: this key is missing: id of the element" in said
    assert "line 2: naem: no such key; did you mean 'name'" in refused("seed: 1\nnaem: x\nchanges: []")


def test_an_unknown_kind_is_named_with_the_one_that_was_meant() -> None:
    assert "no such kind 'capacty'; did you mean 'capacity'?" in refused(
        "changes: [{kind: capacty, element: a}]"
    )
    assert "the key `kind` is missing" in refused("changes:\n- element: a\n")
    assert "sweep: no such kind 'failure'" in refused("sweep: {kind: failure}")


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (".nan", "only finite numbers"),
        (".inf", "only finite numbers"),
        ("-.inf", "only finite numbers"),
        ("1e999", "is too large for a number"),
    ],
)
def test_numbers_that_are_none_are_refused(number: str, words: str) -> None:
    said = refused(f"changes: [{{kind: demand, factor: {number}}}]")

    assert said.startswith("line 1: changes[0].factor:")
    assert words in said


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_are_none_are_refused_in_json(word: str) -> None:
    assert "only finite numbers are accepted" in refused(
        f'{{"changes": [{{"kind": "demand", "factor": {word}}}]}}'
    )


def test_numbers_that_are_none_are_refused_in_python() -> None:
    for value in (float("nan"), float("inf"), -1.0):
        with pytest.raises(ValidationError):
            language.DemandChange(factor=value)


def test_a_key_that_stands_twice_is_refused() -> None:
    said = refused("changes:\n- kind: demand\n  factor: 2\n  factor: 3\n")
    assert said.startswith("line 4: the key 'factor' occurs twice in one mapping (first in line 3)")
    assert "the key 'changes' occurs twice" in refused('{"changes": [], "changes": []}')


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("{kind: capacity, element: a, factor: '2'}", "changes[0].factor: input should be a valid number"),
        ("{kind: capacity, element: a, factor: true}", "changes[0].factor: input should be a valid number"),
        ("{kind: capacity, element: a, factor: yes}", "changes[0].factor: input should be a valid number"),
        ("{kind: capacity, element: a, factor: 0}", "changes[0].factor: input should be greater than 0"),
        ("{kind: capacity, element: a, mbps: -5}", "changes[0].mbps: input should be greater than 0"),
        ("{kind: metric, element: a, value: 1.5}", "changes[0].value: input should be a valid integer"),
        ("{kind: metric, element: [a], value: 1}", "changes[0].element: input should be a valid string"),
        (
            "{kind: config, device: d, path: /a, value: {b: 1}}",
            "changes[0].value: text, a number, true, false",
        ),
        ("{kind: scheduler, element: a, discipline: lifo}", "changes[0].discipline: input should be 'fifo'"),
        ("nothing", "changes[0]: input should be an object"),
    ],
)
def test_wrong_types_are_refused_by_place(change: str, words: str) -> None:
    assert f"line 2: {words}" in refused(f"changes:\n- {change}\n")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("{kind: capacity, element: a}", "exactly one of mbps and factor is needed, and none is given"),
        ("{kind: capacity, element: a, mbps: 1, factor: 2}", "both mbps and factor are given"),
        ("{kind: demand}", "exactly one of factor and mbps"),
        ("{kind: demand, mbps: 3}", "mbps is the rate of one pair: add source and target"),
        ("{kind: demand, factor: 3, source: a}", "a pair needs source and target"),
        ("{kind: demand, factor: 3, source: a, target: a}", "source and target are both 'a'"),
        ("{kind: workers, element: a}", "exactly one of count and delta"),
        ("{kind: config, device: d, path: /a}", "exactly one of value and delete is needed, and none"),
        ("{kind: config, device: d, path: /a, value: 1, delete: true}", "both are given"),
        ("{kind: service, name: s, source: a, target: a, mbps: 1}", "source and target are both 'a'"),
        ("{kind: service, name: s, source: a, target: b, mbps: 1, arrivals: on-off, on_s: 0}", "need on_s"),
    ],
)
def test_a_change_says_one_thing(change: str, words: str) -> None:
    said = refused(f"changes:\n- {change}\n")

    assert said.startswith("line 2: changes[0]: ")
    assert words in said


CONTRADICTIONS = [
    ("{kind: element-down, element: a}", "{kind: element-up, element: a}", "one takes 'a' down"),
    ("{kind: element-down, element: a}", "{kind: element-down, element: a}", "both change the element-down"),
    ("{kind: capacity, element: a, mbps: 1}", "{kind: capacity, element: a, factor: 2}", "capacity of 'a'"),
    ("{kind: metric, element: a, value: 1}", "{kind: metric, element: a, value: 1}", "metric of 'a'"),
    (
        "{kind: element-down, element: a}",
        "{kind: metric, element: a, value: 1}",
        "'a' goes down, and its metric",
    ),
    (
        "{kind: workers, element: a, count: 1}",
        "{kind: element-down, element: a}",
        "'a' goes down, and its workers",
    ),
    (
        "{kind: config, device: d, path: '/x:y', delete: true}",
        "{kind: config, device: d, path: '/x:y/z', value: 1}",
        "lies in what '/x:y' deletes",
    ),
    (
        "{kind: config, device: d, path: '/x:y', delete: true}",
        "{kind: config, device: d, path: '/x:y', value: 1}",
        "both edit '/x:y' of 'd'",
    ),
    (
        "{kind: demand, factor: 2, source: a, target: b}",
        "{kind: demand, mbps: 2, source: a, target: b}",
        "both set the demand from 'a' to 'b'",
    ),
    ("{kind: demand, factor: 2}", "{kind: demand, factor: 3}", "both set the demand of all pairs"),
    (
        "{kind: service, name: s, source: a, target: b, mbps: 1}",
        "{kind: service, name: s, source: c, target: b, mbps: 1}",
        "both add a service called 's'",
    ),
]


@pytest.mark.parametrize(("first", "second", "words"), CONTRADICTIONS)
def test_contradictory_changes_are_refused_with_both_places(first: str, second: str, words: str) -> None:
    said = refused(f"changes:\n- {first}\n- {{kind: buffer, element: other, packets: 3}}\n- {second}\n")

    assert "changes[0] (line 2)" in said
    assert "changes[2] (line 4)" in said
    assert words in said


def test_the_same_edit_of_two_devices_is_no_contradiction() -> None:
    parse_scenario(
        "changes:\n- {kind: config, device: d, path: /x, delete: true}\n"
        "- {kind: config, device: e, path: /x/y, value: 1}\n- {kind: capacity, element: a, factor: 2}\n"
        "- {kind: metric, element: a, value: 2}\n"
    )


OPTIONS = ", ".join(["[{kind: demand, factor: 2}]"] * 20)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("sweep: {kind: grid}", "a grid of one variant"),
        ("sweep: {kind: grid, demand: [1, 2], options: [[]]}", "options[0] holds no change"),
        (f"sweep: {{kind: grid, demand: [1, 2], options: [{OPTIONS}]}}", "100000 at most"),
        ("sweep: {kind: grid, options: [[{kind: config, device: d, path: /a, delete: true}]]}", "config"),
        ("sweep: {kind: monte-carlo, draws: 3}", "nothing is drawn"),
        ("sweep: {kind: monte-carlo, draws: 0, link_failure: 0.1}", "sweep.draws"),
        ("sweep: {kind: failures, of: nodes, elements: [a]}", "leave one out"),
        ("sweep: {kind: failures, elements: [a, a]}", "names 'a' twice"),
        ("sweep: {kind: failures, elements: [a], simultaneous: 2}", "2 cannot fail together where 1"),
        ("sweep: {kind: failures}\nrung: packets", "not simulated packet by packet"),
        ("sweep: {kind: failures}\nat: yesterday", "'yesterday' names no state; accepted are live"),
        ("sweep: {kind: failures}\nat: 2026-03-01T20:00:00", "names no state"),
        ("sweep: {kind: failures}\nwindow: {start: 2026-03-01T20:00:00Z, end: 2026-03-01T20:00:00Z}",
         "is not before end"),
        ("sweep: {kind: failures}\nwindow: {start: 2026-03-01T20:00:00, end: now}", "names no time zone"),
        ("sweep: {kind: failures}\nflows: [[a, a]]", "source and target are both 'a'"),
        ("sweep: {kind: failures}\nflows: [[a, b], [a, b]]", "are the same pair"),
        ("sweep: {kind: failures}\nseed: -1", "seed: input should be greater than or equal to 0"),
        ("changes: [{kind: element-down, element: a}]\n"
         "sweep: {kind: grid, options: [[{kind: element-up, element: a}]]}", "sweep.options[0][0]"),
    ],
)  # fmt: skip
def test_sweeps_times_and_flows_make_sense(text: str, words: str) -> None:
    assert words in refused(text)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("changes: [", "not valid YAML"),
        ("changes:\n\t- x", "line 2"),
        ("a: &x 1\nb: *x", "line 1: anchors and aliases are not accepted"),
        ("a: !!python/object/apply:os.system [x]", "nothing"),
        ("a: !secret x", "is not accepted; write text, a number"),
        ("[" * 100, "nested too deeply"),
        ('{"a": ' * 100_000, "nested too deeply"),
        ("? [1, 2]\n: 3", "a key that is no word"),
        ("3: 4", "a key that is no word"),
        ('{"changes": [}', "not valid JSON"),
        ("a: " + "9" * 5000, "is not accepted"),
        (b"\xff\xfe\x00", "not UTF-8, at byte 0"),
        ("name: x\n---\nname: y", "not valid YAML"),
    ],
)
def test_text_that_is_no_scenario_is_refused(text: str | bytes, words: str) -> None:
    if words == "nothing":
        assert "python/object" in refused(text) or "no such key" in refused(text)
        return
    assert words in refused(text)


def test_words_are_read_as_in_yaml_1_2() -> None:
    scenario = parse_scenario("name: no\nat: e:12\nchanges: [{kind: element-down, element: 12:30}]")

    assert scenario.name == "no"  # neither false, nor 750 seconds
    assert scenario.changes == (language.ElementDown(element="12:30"),)


def test_files_that_cannot_be_read_say_why(tmp_path: Path) -> None:
    (tmp_path / "large.yaml").write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(ConfigError, match=rf"large.yaml: {MAX_BYTES + 1} bytes; a scenario has {MAX_BYTES}"):
        load_scenario(tmp_path / "large.yaml")
    with pytest.raises(ConfigError, match=r"none.yaml: cannot be read \(No such file"):
        load_scenario(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="a scenario has"):
        parse_scenario("#" * (MAX_BYTES + 1))


def test_lines_are_told_in_json_too() -> None:
    said = refused('{\n  "changes": [\n    {"kind": "capacity",\n     "elemnt": "a"}\n  ]\n}')

    assert "line 4: changes[0].elemnt: no such key" in said


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=60) | st.binary(max_size=60))
def test_rubbish_is_refused_and_nothing_else(text: str | bytes) -> None:
    with pytest.raises(ConfigError):
        parse_scenario(text)


def test_a_scenario_survives_its_canonical_form() -> None:
    scenario = parse_scenario(EVERY_KIND)

    assert parse_scenario(canonical(scenario)) == scenario
    assert canonical(parse_scenario(canonical(scenario))) == canonical(scenario)


def test_the_published_schema_is_current_and_accepts_what_is_read() -> None:
    published = ROOT / "docs" / "scenario.schema.json"
    pages = runpy.run_path(str(ROOT / "docs" / "generate.py"))["PAGES"]

    assert published.read_text(encoding="utf-8") == pages["scenario.schema.json"](), "run ./dev docs"
    schema: dict[str, Any] = json.loads(published.read_text(encoding="utf-8"))
    for name, definition in schema["$defs"].items():
        if "kind" in definition.get("properties", {}):
            assert "kind" in definition["required"], name
        for field, property_ in definition.get("properties", {}).items():
            assert field == "kind" or property_.get("description"), f"{name}.{field} says nothing"


def test_the_scenarios_of_the_documentation_are_read() -> None:
    page = (ROOT / "docs" / "scenarios.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)

    kinds = {change.kind for block in blocks for change in parse_scenario(block).changes}

    assert len(blocks) == 5
    assert kinds == {each for each in re.findall(r"kind: ([a-z-]+)", EVERY_KIND) if each != "monte-carlo"}
    code = re.search(r"```python\n(.*?)```", page, re.DOTALL)
    assert code is not None
    compile(code[1], "scenarios.md", "exec")
