"""An extension of griffe: members of the native module get the docstrings that the built module has.

The stub has signatures and types. The docstrings of methods are written in Rust, beside the code.
"""

from __future__ import annotations

import inspect
from typing import Any

import griffe

from snapdelta import _native


class NativeDocstrings(griffe.Extension):
    """Fills in what the stub leaves out."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring is not None or not obj.path.startswith("snapdelta._native."):
            return
        value: Any = _native
        for name in obj.path.split(".")[2:]:
            value = getattr(value, name, None)
        text = inspect.getdoc(value) if callable(value) or inspect.isdatadescriptor(value) else None
        if text:
            obj.docstring = griffe.Docstring(text, parent=obj)
