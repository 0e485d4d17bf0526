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


async def run(code: str, document: str, names: dict[str, Any] | None = None) -> dict[str, Any]:
    """Run an example, which may use `await` at its top level; the names that it leaves behind."""
    names = {} if names is None else names
    compiled = compile(code, document, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    result = types.FunctionType(compiled, names)()
    if iscoroutine(result):
        await result
    return names
