"""The examples of docs/semantic-store.md run, and what it says of graphs and shapes is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from domain_twin.model import Severity
from domain_twin.semantic.derive import READS, load_rules
from domain_twin.semantic.shapes import load_shapes
from domain_twin.semantic.store import SemanticStore

PAGE = (Path(__file__).parents[2] / "docs" / "semantic-store.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", PAGE, re.DOTALL)
    assert found
    return found[1]


def test_the_python_example_runs() -> None:
    exec(compile(block("python"), "semantic-store.md", "exec"), {})


def test_the_rule_can_be_added(tmp_path: Path) -> None:
    (tmp_path / "site-nodes.rq").write_text(block("sparql"))

    rule = next(rule for rule in load_rules(tmp_path) if rule.name == "site-nodes")

    assert (rule.reads, rule.own) == (("topo",), True)
    assert rule.derives == "the nodes that carry a cell."


def test_the_shape_can_be_added(tmp_path: Path) -> None:
    (tmp_path / "own.ttl").write_text(block("turtle"))

    shape = next(item for item in load_shapes(tmp_path) if item.shape.endswith("/Node-vendor"))

    assert (shape.severity, shape.remedy) == (Severity.WARNING, "mirror its chassis")


@pytest.mark.parametrize("word", READS)
def test_everything_that_a_rule_can_read_is_named(word: str) -> None:
    assert f"`{word}`" in PAGE


def test_the_folder_of_the_quads_is_the_one_that_is_set_aside(tmp_path: Path) -> None:
    SemanticStore(tmp_path).close()

    assert (tmp_path / "quads-1").is_dir()
    assert "`quads-1.damaged-" in PAGE
