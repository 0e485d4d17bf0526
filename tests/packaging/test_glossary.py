"""The glossary names files that exist, in short sentences, each term once."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROWS = [
    [cell.strip() for cell in line.strip("|\n").split("|")]
    for line in (ROOT / "docs" / "glossary.md").read_text().splitlines()
    if line.startswith("| ") and not line.startswith("| term")
]


@pytest.mark.parametrize(("term", "meaning", "where"), ROWS, ids=[row[0] for row in ROWS])
def test_a_term_is_a_short_sentence_and_a_file(term: str, meaning: str, where: str) -> None:
    assert (ROOT / where.strip("`")).exists()
    assert meaning.endswith(".")
    assert len(meaning.split()) <= 20
    assert [row[0] for row in ROWS].count(term) == 1
