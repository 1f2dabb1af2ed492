"""The twenty example queries: allowed, explained, each for somebody; that they answer is the demo's test."""

from __future__ import annotations

from pathlib import Path

import pytest

from domain_twin.semantic.guard import guarded

QUERIES = sorted((Path(__file__).resolve().parents[2] / "examples" / "queries").glob("*.rq"))


def test_there_are_twenty() -> None:
    assert len(QUERIES) == 20


@pytest.mark.parametrize("path", QUERIES, ids=lambda path: path.stem)
def test_each_is_allowed_and_says_what_it_answers(path: Path) -> None:
    title, asked, words, *_ = path.read_text(encoding="utf-8").splitlines()

    assert title.startswith("# ")
    assert title.endswith(("?", "tool"))
    assert asked.removeprefix("# ask: ") in {"broker", "ran", "transport", "core", "edge"}
    assert words.startswith("# ")
    guarded(path.read_text(encoding="utf-8"))
