"""Fail if an identifier of the code is on the list of given-up words (forbidden_identifiers.txt).

python tools/check_identifiers.py [FILE ...]      without files: all that git tracks

Checks names in Python, Rust and Lua code and the names of files, never strings, comments or documents. A word
matches an identifier as a whole, whatever its case; a line `word in path/` applies below that path only.
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

LIST = Path(__file__).with_name("forbidden_identifiers.txt")
_RUST_NOISE = re.compile(r'//[^\n]*|/\*.*?\*/|b?r#*".*?"#*|b?"(?:\\.|[^"\\])*"', re.DOTALL)
_LUA_NOISE = re.compile(r"--[^\n]*|'(?:\\.|[^'\\])*'|\"(?:\\.|[^\"\\])*\"")
_WORD = re.compile(r"[A-Za-z_]\w*")


def rules() -> list[tuple[re.Pattern[str], str, str]]:
    """(pattern, path prefix, the line) of each line of the list."""
    made = []
    for line in LIST.read_text().splitlines():
        rule, _, _ = line.partition("#")
        word, _, prefix = rule.strip().partition(" in ")
        if word:
            made.append((re.compile(word), prefix.strip(), line.strip()))
    return made


def identifiers(path: Path) -> Iterator[tuple[int, str]]:
    """(line, identifier) of each name in a file's code; line 0 is the file's own name."""
    yield 0, path.stem
    if path.suffix in (".py", ".pyi"):
        tokens = tokenize.generate_tokens(io.StringIO(path.read_text()).readline)
        yield from ((t.start[0], t.string) for t in tokens if t.type == tokenize.NAME)
    elif path.suffix in (".rs", ".lua"):
        noise = _RUST_NOISE if path.suffix == ".rs" else _LUA_NOISE
        text = noise.sub(lambda match: "\n" * match[0].count("\n"), path.read_text())
        for number, line in enumerate(text.splitlines(), 1):
            yield from ((number, word) for word in _WORD.findall(line))


def main(arguments: list[str]) -> int:
    listed = subprocess.run(["git", "ls-files"], capture_output=True, text=True, check=True).stdout
    files = [Path(name) for name in arguments or listed.splitlines()]
    files = [file for file in files if file.suffix in (".py", ".pyi", ".rs", ".lua") and file.exists()]
    known, found = rules(), set()
    for file in files:
        for line, name in identifiers(file):
            for pattern, prefix, rule in known:
                if file.as_posix().startswith(prefix) and pattern.fullmatch(name):
                    found.add(f"{file}:{line}: {name}  (forbidden: {rule})")
    print("\n".join(sorted(found)) or f"no forbidden identifier in {len(files)} files")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
