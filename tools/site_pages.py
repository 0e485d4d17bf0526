"""Hooks of mkdocs: the site's pages are files of the repository, and one page for each public module.

Each page keeps its path in the repository, so its links work there and in the site. The site has a copy of
each other file that a page links to.
"""

from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from tools import public_surface

ROOT = Path(__file__).resolve().parent.parent
# Pages that are not below docs/, and where the site has them.
_OTHERS = {
    "README.md": "index.html",
    "FORMAT.md": "format/index.html",
    "CONTRIBUTING.md": "contributing/index.html",
    "CHANGELOG.md": "changelog/index.html",
    "SECURITY.md": "security/index.html",
    "examples/scanner/README.md": "example/index.html",
}
_LINK = re.compile(r"\]\(([^)#\s]+)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """All files of the site: pages, what they link to, and the reference."""
    docs = Path(config.docs_dir)
    found = [file for file in files if not _is_page(file, docs)]
    pages = [*_OTHERS, *(str(path.relative_to(ROOT)) for path in sorted((ROOT / "docs").rglob("*.md")))]
    linked: set[str] = set()
    for page in pages:
        file = File.generated(config, page, abs_src_path=str(ROOT / page))
        file.dest_uri = _OTHERS.get(page) or file.dest_uri.removeprefix("docs/")
        found.append(file)
        linked |= _linked(page)
    others = sorted(linked - {*pages})
    found += [File.generated(config, path, abs_src_path=str(ROOT / path)) for path in others]
    found += [File.generated(config, uri, content=text) for uri, text in reference().items()]
    return Files(found)


def _is_page(file: File, docs: Path) -> bool:
    """False for what the theme brings, and for the site's own assets."""
    inside = file.abs_src_path is not None and Path(file.abs_src_path).is_relative_to(docs)
    return inside and not file.src_uri.startswith("assets/")


def _linked(page: str) -> set[str]:
    """Files of the repository that a page links to, by their paths."""
    text = (ROOT / page).read_text(encoding="utf-8")
    targets = ((ROOT / page).parent / link for link in _LINK.findall(text) if "://" not in link)
    return {str(path.resolve().relative_to(ROOT)) for path in targets if path.is_file()}


def reference() -> dict[str, str]:
    """Path -> text of a page for each public module: every public name, from its docstring and stub.

    A name that several modules have is described once, and linked elsewhere.
    """
    pages: dict[str, str] = {}
    described: set[str] = set()
    for module in public_surface.modules():
        names = public_surface.names(import_module(module))
        paths = {name: _home(module, name) for name in names}
        elsewhere = [f"[`{name}`][{path}]" for name, path in paths.items() if path in described]
        lines = [f"# {module}"]
        lines += [f"Described elsewhere: {', '.join(elsewhere)}."] if elsewhere else []
        lines += [f"::: {path}" for path in paths.values() if path not in described]
        described |= {*paths.values()}
        if names:
            pages[f"reference/{module}.md"] = "\n\n".join(lines) + "\n"
    return pages


def _home(module: str, name: str) -> str:
    """The path under which a public name is defined."""
    value: Any = getattr(import_module(module), name)
    home = getattr(value, "__module__", None) or module
    return f"{home if callable(value) and home.startswith('snapdelta') else module}.{name}"
