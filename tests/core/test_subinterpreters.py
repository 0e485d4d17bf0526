"""The core keeps types for the whole process: it is imported in the main interpreter alone."""

from __future__ import annotations

import subprocess
import sys

import pytest

IN_OTHER = """
try:
    import snapdelta
except ImportError as error:
    assert "subinterpreters" in str(error), error
else:
    raise SystemExit("imported")
"""

PROGRAM = """
import importlib, sys, gc
interpreters = importlib.import_module(sys.argv[2])
if sys.argv[1] == "after":
    import snapdelta
other = interpreters.create()
failed = interpreters.run_string(other, sys.argv[3])
assert failed is None, failed
interpreters.destroy(other)
gc.collect()
import snapdelta, uuid, enum
class E(enum.Enum):
    A = 1
frame = snapdelta.dumps({"a": {"u": uuid.UUID(int=1), "e": E.A}})
assert snapdelta.loads(frame) == {"a": {"u": uuid.UUID(int=1), "e": 1}}
try:
    snapdelta.loads(b"x")
except snapdelta.CorruptDeltaError:
    print("as it should be")
"""


@pytest.mark.parametrize("order", ["before", "after"])
def test_a_subinterpreter_is_refused_and_does_no_harm(order: str) -> None:
    module = "_xxsubinterpreters" if sys.version_info < (3, 13) else "_interpreters"
    command = [sys.executable, "-c", PROGRAM, order, module, IN_OTHER]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout.strip() == "as it should be", done.stderr


def test_import_loads_no_datetime() -> None:
    """CPython 3.12 corrupts memory where a subinterpreter is the first to load it (python/cpython#117953)."""
    code = "import sys, snapdelta; print({'datetime', 'decimal', 'importlib.metadata'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
