"""Strings of the old C interface, which Python 3.11 still has: made ready when they are read, or an error."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import ctypes, resource, sys
import snapdelta

def legacy(length):
    make = ctypes.pythonapi.PyUnicode_FromUnicode
    make.restype, make.argtypes = ctypes.py_object, [ctypes.c_void_p, ctypes.c_ssize_t]
    return make(None, length)

snapdelta.dumps({"a": {"x": "warm"}})
snapshot = {"a": {"x": legacy(64 << 20)}}
with open("/proc/self/statm") as statm:
    size = int(statm.read().split()[0]) * 4096
resource.setrlimit(resource.RLIMIT_AS, (size + (20 << 20), -1))
encoder = snapdelta.Encoder()
try:
    encoder.encode(snapshot)
except MemoryError:
    encoder.encode({"a": {"x": 1}})
    print("MemoryError")
"""


def test_a_string_that_cannot_be_made_ready_is_an_error() -> None:
    if sys.version_info >= (3, 12):
        return  # there are no such strings any more
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
    assert done.stdout.strip() == "MemoryError", done.stderr
