"""The examples of a document, for the tests that run them."""

from __future__ import annotations

import ast
import re
import types
from inspect import iscoroutine
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parent.parent
ROOT = TESTS.parent


def blocks(document: str, language: str) -> list[str]:
    """What stands between ```language and ``` in a document of the repository, in its order."""
    return re.findall(
        rf"^```{language}\n(.*?)^```", (ROOT / document).read_text(encoding="utf-8"), re.S | re.M
    )


def shown_errors() -> dict[str, str]:
    """The text of each class in docs/errors.md, in one line; a root, which nothing raises, has none."""
    page = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
    sections = re.findall(r"^### `(\w+)`\n(.*?)(?=^##|\Z)", page, re.S | re.M)
    texts = {name: re.search(r"^```text\n(.*?)^```", section, re.S | re.M) for name, section in sections}
    return {name: "" if text is None else " ".join(text[1].split()) for name, text in texts.items()}


def check_links(page: Path) -> None:
    """Every link of a page leads to a file of the repository, and to a heading of it."""
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in _anchors(target), link


def _anchors(page: Path) -> set[str]:
    """As GitHub makes them of headings."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    plain = (re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings)
    return {heading.replace(" ", "-") for heading in plain}


async def run(code: str, document: str, names: dict[str, Any] | None = None) -> dict[str, Any]:
    """Run an example, which may use `await` at its top level; the names that it leaves behind."""
    names = {} if names is None else names
    compiled = compile(code, document, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    result = types.FunctionType(compiled, names)()
    if iscoroutine(result):
        await result
    return names
