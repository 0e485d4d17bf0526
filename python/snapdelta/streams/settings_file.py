"""Policies from a TOML file: a table [streams], or [tool.snapdelta.streams] in a pyproject.toml."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from snapdelta._settings_file import hint, read_table
from snapdelta.errors import StreamPolicyError
from snapdelta.streams.policy import StreamPolicy

_POLICY_SETTINGS = [item.name for item in fields(StreamPolicy)]
_TABLE_SETTINGS = ["default", "policies", "strict", "discover"]


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """The content of a settings file; None for missing settings."""

    policies: dict[str, StreamPolicy] = field(default_factory=dict)
    default: StreamPolicy | None = None
    strict: bool | None = None
    discover: str | None = None


def load_settings(path: str | Path) -> StreamSettings:
    """Read the table [streams], or [tool.snapdelta.streams], of a TOML file.

    Raises StreamPolicyError that names the file and the setting.
    """
    found = read_table(path, "streams", StreamPolicyError)
    if found is None:
        raise StreamPolicyError(f"{path}: has neither a table [streams] nor [tool.snapdelta.streams]")
    values, table = found
    return _settings(values, f"{path}: [{table}]")


def _settings(table: Any, location: str) -> StreamSettings:
    _check_keys(table, _TABLE_SETTINGS, location)
    strict, discover = table.get("strict"), table.get("discover")
    if strict is not None and type(strict) is not bool:
        raise StreamPolicyError(f"{location}: strict must be true or false, not {strict!r}")
    if discover is not None and not isinstance(discover, str):
        raise StreamPolicyError(f"{location}: discover must be a pattern, not {discover!r}")
    policies = table.get("policies", {})
    if not isinstance(policies, dict):
        raise StreamPolicyError(f"{location}: policies must be a table of streams, not {policies!r}")
    return StreamSettings(
        policies={
            name: _read_policy(values, f"{location}: policies.{name!r}") for name, values in policies.items()
        },
        default=_read_policy(table["default"], f"{location}: default") if "default" in table else None,
        strict=strict,
        discover=discover,
    )


def _read_policy(values: Any, location: str) -> StreamPolicy:
    _check_keys(values, _POLICY_SETTINGS, location)
    # TOML has no null: a length of 0 is how a file says "no bound on the length".
    values = {name: None if name == "maxlen" and value == 0 else value for name, value in values.items()}
    try:
        return StreamPolicy(**values)
    except StreamPolicyError as error:
        raise StreamPolicyError(f"{location}: {error}") from error


def _check_keys(table: Any, known: list[str], location: str) -> None:
    if not isinstance(table, dict):
        raise StreamPolicyError(f"{location}: must be a table, not {table!r}")
    for name in table:
        if name not in known:
            raise StreamPolicyError(f"{location}: unknown setting {name!r}; {hint(name, known)}")
