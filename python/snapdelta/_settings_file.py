"""One table of a TOML file: [tool.snapdelta.NAME] of a pyproject.toml, or [NAME] in a file of its own."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from snapdelta.errors import SnapdeltaError


def read_table(path: str | Path, name: str, error_class: type[SnapdeltaError]) -> tuple[Any, str] | None:
    """What stands there, and its whole name; None without either. Raises `error_class`."""
    try:
        document = tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise error_class(f"{path}: cannot be read: {error.strerror or error}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise error_class(f"{path}: is not TOML: {error}") from error
    for table in (f"tool.snapdelta.{name}", name):
        found: Any = document
        for key in table.split("."):
            found = found.get(key) if isinstance(found, dict) else None
        if found is not None:
            return found, table
    return None


def hint(name: str, known: Sequence[str]) -> str:
    """What an unknown name may have meant."""
    near = difflib.get_close_matches(name, known, 1)
    return f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
