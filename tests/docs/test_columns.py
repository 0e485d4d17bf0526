"""What docs/columns.md shows runs."""

from __future__ import annotations

import pytest

from support.documents import blocks

_EXAMPLES = blocks("docs/columns.md", "python")


@pytest.mark.parametrize("code", _EXAMPLES, ids=range(1, len(_EXAMPLES) + 1))
def test_the_examples(code: str) -> None:
    exec(compile(code, "docs/columns.md", "exec"), {})
