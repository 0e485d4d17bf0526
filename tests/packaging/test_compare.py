"""The comparison that the demo relies on finds every difference, and names where it is."""

from __future__ import annotations

import copy
import math
import struct
from itertools import islice
from typing import Any

import pytest

from snapdelta.testing.compare import first_difference
from snapdelta.testing.feed import Feed

QUIET, SIGNALING = (struct.unpack("<d", struct.pack("<Q", bits))[0] for bits in (0x7FF8 << 48, 0x7FF4 << 48))


def test_equal_snapshots_have_no_difference() -> None:
    for frame in islice(Feed("enriched", 50), 3):
        assert first_difference(frame, copy.deepcopy(frame)) is None
    same = {"A": {"n": QUIET, "z": -0.0, "c": [1, [math.inf]], "t": (), "b": b"x"}}
    assert first_difference(same, copy.deepcopy(same)) is None


@pytest.mark.parametrize(
    ("a", "b", "says"),
    [
        ({"A": {"x": 1}}, {"A": {"x": 1.0}}, "A.x: int became float"),
        ({"A": {"x": 1}}, {"A": {"x": True}}, "A.x: int became bool"),
        ({"A": {"x": 0.0}}, {"A": {"x": -0.0}}, "A.x: 0.0 became -0.0"),
        ({"A": {"x": QUIET}}, {"A": {"x": SIGNALING}}, "A.x: nan became nan"),
        ({"A": {"x": 1.5}}, {"A": {"x": 2.5}}, "A.x: 1.5 became 2.5"),
        ({"A": {"x": "a"}}, {"A": {"x": "b"}}, "A.x: 'a' became 'b'"),
        ({"A": {"x": None}}, {"A": {}}, "A: 1 keys became 0"),
        ({"A": {"x": {}}}, {"A": {"x": None}}, "A.x: dict became NoneType"),
        ({"A": {"x": [1, 2]}}, {"A": {"x": [1]}}, "A.x: 2 items became 1"),
        ({"A": {"x": [1, (2.0,)]}}, {"A": {"x": [1, (2,)]}}, "A.x[1][0]: float became int"),
        ({"A": {"x": [1]}}, {"A": {"x": (1,)}}, "A.x: list became tuple"),
        ({"A": {"x": 1, "y": 2}}, {"A": {"y": 2, "x": 1}}, "A: key 0 'x' became 'y'"),
        ({"A": {}, "B": {}}, {"B": {}, "A": {}}, "snapshot: key 0 'A' became 'B'"),
        ({"A": {}}, {}, "snapshot: 1 keys became 0"),
        ({}, [], "snapshot: dict became list"),
    ],
)
def test_a_difference_is_named(a: Any, b: Any, says: str) -> None:
    assert first_difference(a, b) == says
