r"""Parses the part of psql's language that our SQL files use, so that they run without psql.

Statements end at `;`, `\gexec` (run what it returns) or `\gset` (drop what it returns). `:'name'` is a
variable as a literal; a line `\if :{?name} \else \set name 'value' \endif` gives its default. It refuses any
other backslash command, rather than run only part of a file.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from snapdelta.errors import MigrationError, MigrationSettingError

Ending = Literal["", "gexec", "gset"]

_DEFAULT = re.compile(r"\\if :\{\?(\w+)\}\s*\\else\s*\\set (\w+)\s+'([^']*)'\s*\\endif[ \t]*$", re.MULTILINE)
_TOKEN = re.compile(
    r"""
      (?P<comment> --[^\n]* | /\*.*?\*/ )
    | (?P<dollar>  \$(?P<tag>\w*)\$ .*? \$(?P=tag)\$ )
    | (?P<variable> :'(?P<name>\w+)' )
    | (?P<string>  '(?:[^']|'')*' | "(?:[^"]|"")*" )
    | (?P<meta>    \\[^\n]* )
    | (?P<end>     ; )
    | (?P<other>   . )
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Variable:
    """A `:'name'` in a statement."""

    name: str


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement with the line it begins on (from 1) and what is done with its result."""

    parts: tuple[str | Variable, ...]
    line: int
    ending: Ending

    def render(self, values: Mapping[str, str]) -> str:
        """The statement as the server receives it."""
        return "".join(
            part if isinstance(part, str) else "'" + values[part.name].replace("'", "''") + "'"
            for part in self.parts
        )


@dataclass(frozen=True, slots=True)
class Script:
    """A parsed file: the defaults of its variables, and its statements in order."""

    name: str
    defaults: Mapping[str, str]
    statements: tuple[Statement, ...]

    def values(self, given: Mapping[str, str]) -> dict[str, str]:
        """The defaults with `given` over them.

        Raises MigrationSettingError for a name that the file does not know.
        """
        unknown = sorted(given.keys() - self.defaults.keys())
        if unknown:
            raise MigrationSettingError(
                f"{self.name} has no setting {unknown[0]!r}; it has: {', '.join(self.defaults) or 'none'}"
            )
        return {**self.defaults, **given}


@dataclass(slots=True)
class _Reader:
    name: str
    defaults: dict[str, str] = field(default_factory=dict)
    statements: list[Statement] = field(default_factory=list)
    parts: list[str | Variable] = field(default_factory=list)
    line: int = 0

    def add(self, part: str | Variable, line: int) -> None:
        if not self.parts:
            if isinstance(part, str) and not part.strip():
                return
            self.line = line
        if isinstance(part, str) and self.parts and isinstance(self.parts[-1], str):
            self.parts[-1] += part
        else:
            self.parts.append(part)

    def finish(self, ending: Ending) -> None:
        if self.parts:
            if isinstance(self.parts[-1], str):
                self.parts[-1] = self.parts[-1].rstrip()
            self.statements.append(Statement(tuple(self.parts), self.line, ending))
        self.parts = []

    def command(self, text: str, line: int) -> None:
        default = _DEFAULT.match(text)
        word = text.split()[0]
        if default is not None and default[1] == default[2]:
            self.defaults[default[1]] = default[3]
        elif word == "\\gexec":
            self.finish("gexec")
        elif word == "\\gset":
            self.finish("gset")
        elif text.strip() != "\\set ON_ERROR_STOP on":
            raise MigrationError(f"{self.name}, line {line}: only psql understands {text.strip()!r}")


def parse(text: str, name: str) -> Script:
    """Reads a file's text; `name` is for messages. Raises MigrationError for commands only for psql."""
    reader = _Reader(name)
    line = 1
    for token in _TOKEN.finditer(text):
        found = token[0]
        match token.lastgroup:
            case "comment":
                pass
            case "meta":
                reader.command(found, line)
            case "end":
                reader.finish("")
            case "variable":
                reader.add(Variable(token["name"]), line)
            case _:
                reader.add(found, line)
        line += found.count("\n")
    if reader.parts:
        raise MigrationError(f"{name}, line {reader.line}: the last statement is incomplete")
    return Script(name, reader.defaults, tuple(reader.statements))
