"""A card's scores as rows that a screen and a page show. Owns their order and names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from domain_twin.learning.task import Card

__all__ = ["RAW", "scores_rows"]

RAW: Final = "raw: of the model alone, as rounds show it. loss: of what is said, which follows recent errors."


def scores_rows(card: Card) -> tuple[list[str], dict[str, dict[str, float]]]:
    """Measures, and a row a model, rival or operator; what is said of rivals (`nmae:mean-5`) is in theirs."""
    rows = {
        name: {key: value for key, value in row.items() if ":" not in key}
        for name, row in card.scores.items()
    }
    for key, value in card.scores.get("model", {}).items():
        measure, _, rival = key.partition(":")
        if measure != "naive" and f"naive:{rival}" in rows:
            rows[f"naive:{rival}"][measure] = value
    measures = sorted(
        {name for row in rows.values() for name in row}, key=lambda name: (name != "loss", name)
    )
    return measures, {
        name.replace("operator:", "at ").replace("naive:", "naive: "): row for name, row in rows.items()
    }
