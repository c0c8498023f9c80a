"""Cuts of a text that is too long for a model."""

from __future__ import annotations

import pytest

from compressor.text.clauses import split_at_clauses


def fits(text: str) -> bool:
    """A model of 40 characters."""
    return len(text) <= 40


@pytest.mark.parametrize(
    "parts",
    [
        "",
        "Kurz.",
        "Ein Satz steht hier. |Und noch einer, der länger ist.",
        "Der Hund bellt laut; |die Katze, die alt ist, ruht.",
        "Der Hund bellt laut, |die Katze schläft gerade lange.",
        "Der Hund bellt sehr laut |und die Katze ruht länger.",
        "Der alte Hund bellt heute wieder einmal |laut genug.",
        "Es kostet heute 1,5 Euro mehr als |gestern im Laden.",
        "|".join(["x" * 40, "x" * 40, "x" * 10]),
    ],
)
def test_a_text_is_cut_at_the_best_boundary(parts: str) -> None:
    assert "|".join(split_at_clauses(parts.replace("|", ""), fits, 1000)) == parts


@pytest.mark.parametrize("text", ["x" * 20_000, "wort " * 4_000, " " * 5_000 + "a", "a," * 10_000, "a b. " * 4_000])
def test_parts_of_any_text_fit_and_join_to_it(text: str) -> None:
    parts = split_at_clauses(text, fits, 200)
    assert "".join(parts) == text
    assert all(map(fits, parts)) and len(parts) < len(text) / 5
