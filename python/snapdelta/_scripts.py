"""Lua scripts in files of their own, sent by their digest (EVALSHA)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib.resources import files
from typing import Any


@dataclass(frozen=True, slots=True)
class Script:
    """A script's text, and the SHA-1 by which a server that has run it knows it."""

    text: str
    sha: str

    @classmethod
    def load(cls, package: str, *names: str) -> Script:
        """The files `lua/NAME.lua` of a package, one after the other."""
        folder = files(package) / "lua"
        text = "\n".join((folder / f"{name}.lua").read_text(encoding="utf-8") for name in names)
        # What names it in the protocol; nothing is kept safe by it.
        return cls(text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest())

    def by_sha(self, *arguments: Any) -> tuple[Any, ...]:
        """The command for a server that knows the script."""
        return ("EVALSHA", self.sha, *arguments)

    def by_text(self, *arguments: Any) -> tuple[Any, ...]:
        """The command for any server, which knows the script from then on."""
        return ("EVAL", self.text, *arguments)


def pipelined(calls: Iterable[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """The commands of one pipeline; a call whose first item is a Script becomes EVAL once, then EVALSHA.

    A pipeline goes to one server in order, so the text of the first call serves the others. Resending a call
    that the server did not know would put it behind later ones.
    """
    sent: set[Script] = set()
    for first, *arguments in calls:
        if not isinstance(first, Script):
            yield (first, *arguments)
            continue
        yield first.by_sha(*arguments) if first in sent else first.by_text(*arguments)
        sent.add(first)
