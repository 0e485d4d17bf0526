"""What all pages share: links lead somewhere, and files that they name are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from support.documents import ROOT, check_links

PAGES = [
    *(ROOT / name for name in ("README.md", "FORMAT.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md")),
    *(ROOT / "examples").rglob("*.md"),
    *(ROOT / "docs").rglob("*.md"),
]


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_every_link_leads_somewhere(page: Path) -> None:
    check_links(page)


@pytest.mark.parametrize("page", ["CONTRIBUTING.md", "docs/architecture.md"])
def test_every_file_that_is_named_is_there(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    named = re.findall(r"`((?:rust|python|tests|docs|clients|deploy|tools|benches)/[\w/.-]+)`", text)
    assert len(named) > 10
    assert [path for path in named if "NAME" not in path and not (ROOT / path).exists()] == []
