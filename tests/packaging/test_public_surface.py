"""Public names and signatures change only together with the accepted list."""

from __future__ import annotations

import difflib
import inspect
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import snapdelta
from tools import public_surface

ACCEPTED = Path(__file__).with_name("public_surface.txt")
TOOL = Path(__file__).parents[2] / "tools" / "public_surface.py"


def changes(accepted: str, present: str) -> str:
    before, after = accepted.splitlines(), present.splitlines()
    return "\n".join(difflib.unified_diff(before, after, "accepted", "present", n=1, lineterm=""))


def test_the_public_surface_is_the_accepted_one() -> None:
    run = subprocess.run([sys.executable, TOOL], capture_output=True, text=True, check=True)
    found = changes(ACCEPTED.read_text(), run.stdout)
    assert not found, f"the public surface has changed; if that is meant: make surface\n{found}"


def test_the_accepted_list_names_what_the_package_exports() -> None:
    section = ACCEPTED.read_text().partition("# snapdelta\n")[2].partition("\n# ")[0]
    for name in {*snapdelta.__all__, "SnapshotManager", "RedisStreamManager"}:
        assert any(line.startswith((f"class {name}", f"def {name}(")) for line in section.splitlines()), name


def test_every_public_name_has_a_docstring() -> None:
    """The reference of `make docs` shows them; a field of a dataclass is described with its class."""
    missing = []
    for module in map(import_module, public_surface.modules()):
        for name in public_surface.names(module):
            value = getattr(module, name)
            if not callable(value) or not str(value.__module__).startswith("snapdelta"):
                continue
            members = vars(value).items() if inspect.isclass(value) else ()
            found = {name: value, **{f"{name}.{key}": member for key, member in members if key[0] != "_"}}
            described = (
                (key, member)
                for key, member in found.items()
                if inspect.isroutine(member) or inspect.isclass(member) or isinstance(member, property)
            )
            place = module.__name__
            missing += [f"{place}: {key}" for key, member in described if not inspect.getdoc(member)]
    assert missing == []


def test_a_changed_signature_shows() -> None:
    accepted = ACCEPTED.read_text()
    assert "level: int=3" in accepted
    assert "+def dumps" in changes(accepted, accepted.replace("level: int=3", "level: int=4"))
