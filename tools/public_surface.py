"""Print every public name of snapdelta with its signature: what a release may not change in silence.

python tools/public_surface.py      `make surface` writes it to tests/packaging/

Signatures are read from the source, and those of the native module from its stub.
"""

from __future__ import annotations

import ast
import inspect
import pkgutil
import re
import textwrap
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import typer

import snapdelta
from snapdelta import _native

# Special methods that a caller uses by syntax.
SYNTAX = re.compile("__(init|new|call|a?enter|a?exit|a?iter|a?next|len|getitem|contains|eq|hash|repr)__")
STUB = ast.parse(Path(snapdelta.__file__).with_name("_native.pyi").read_text())
ALIASES = [ast.unparse(node) for node in STUB.body if isinstance(node, ast.Assign | ast.AnnAssign)]
NATIVE = {node.name: node for node in STUB.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}


def modules() -> list[str]:
    """The package, the modules on its first level, and all that people test with."""
    packages = [snapdelta, import_module("snapdelta.testing")]
    found = [f"{p.__name__}.{info.name}" for p in packages for info in pkgutil.iter_modules(p.__path__)]
    public = (name for name in found if not name.rpartition(".")[2].startswith("_"))
    return ["snapdelta", *sorted(public)]


def names(module: ModuleType) -> list[str]:
    """`__all__` and what is imported on first use; without an `__all__`, what the module itself defines."""
    if hasattr(module, "__all__"):
        return sorted({*module.__all__, *getattr(module, "_LAZY", ())})
    public = {name: value for name, value in vars(module).items() if not name.startswith("_")}
    own = (name for name in public if getattr(public[name], "__module__", None) == module.__name__)
    return sorted(own)


def node_of(value: Any) -> ast.AST | None:
    """The definition of a class or function, from the stub or the source; None of anything else."""
    value = inspect.unwrap(value) if callable(value) else value
    if not (inspect.isclass(value) or inspect.isroutine(value)):
        return None
    if getattr(_native, value.__name__, None) is value:
        return NATIVE[value.__name__]
    return ast.parse(textwrap.dedent(inspect.getsource(value))).body[0]


def signature(node: ast.FunctionDef | ast.AsyncFunctionDef, name: str) -> str:
    decorators = {ast.unparse(decorator) for decorator in node.decorator_list}
    known = decorators & {"property", "cached_property", "staticmethod", "classmethod"}
    lead = "".join(f"@{decorator} " for decorator in sorted(known))
    lead += "async def" if isinstance(node, ast.AsyncFunctionDef) else "def"
    returns = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    return f"{lead} {name}({ast.unparse(node.args)}){returns}"


def members(node: ast.ClassDef) -> Iterator[tuple[str, str]]:
    """(name, line) of each public member that a class itself defines."""
    for item in node.body:
        match item:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                line = signature(item, name)
            case ast.AnnAssign(target=ast.Name(id=name)):
                line = ast.unparse(item)
            case ast.Assign(targets=[ast.Name(id=name)]):
                line = ast.unparse(item)
            case _:
                continue
        if not name.startswith("_") or SYNTAX.fullmatch(name):
            yield name, line


def described(name: str, value: Any) -> Iterator[str]:
    """The lines of one public name; a class brings along what it inherits within the package."""
    node = node_of(value)
    if isinstance(node, ast.ClassDef):
        bases = ", ".join(base.__name__ for base in value.__bases__ if base is not object)
        yield f"class {name}({bases})" if bases else f"class {name}"
        found: dict[str, str] = {}
        for base in reversed(value.__mro__):
            if base.__module__.startswith("snapdelta") and isinstance(defined := node_of(base), ast.ClassDef):
                found.update(members(defined))
        yield from (f"    {found[member]}" for member in sorted(found))
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        yield signature(node, name)
    else:
        yield f"{name} = {value!r}"


def commands(command: Any, path: str) -> Iterator[str]:
    """One line a command of the command line, with its arguments and options."""
    for name, inner in sorted(getattr(command, "commands", {}).items()):
        yield from commands(inner, f"{path} {name}")
    if not hasattr(command, "commands"):
        options = (" | ".join([*option.opts, *option.secondary_opts]) for option in command.params)
        yield " ".join([path, *(f"[{option}]" for option in sorted(options))])


def surface() -> str:
    lines: list[str] = []
    described_in: dict[int, str] = {}
    for module_name in modules():
        module = import_module(module_name)
        app = getattr(module, "app", None)
        # The aliases that the signatures of the native module use.
        found = [alias for alias in ALIASES if not alias.startswith("__")] if module is snapdelta else []
        found += [] if app is None else list(commands(typer.main.get_command(app), "snapdelta"))
        for name in names(module) if app is None else ():
            value = getattr(module, name)
            first = described_in.setdefault(id(value), module_name)
            found += described(name, value) if first == module_name else [f"{name}: see {first}"]
        if found:
            lines += ["", f"# {module_name}", "", *found]
    return "\n".join(lines).lstrip() + "\n"


if __name__ == "__main__":
    print(surface(), end="")
