"""A feed built to break predictors: columns near a formula, and formulas that switch every frame."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Any

Snapshot = dict[str, Any]
Record = dict[str, Any]

# A power of two: evenly spread samples of 64, 128 or 256 rows then fall on known rows.
ROWS = 2_048
FRAMES = 9

_FORMULAS = (
    lambda a, b: a + b,
    lambda a, b: a - b,
    lambda a, b: a * b,
    lambda a, b: a / b,
    lambda a, b: max(a, b),
)
_TEMPLATES = ("${:,.2f}", "{:.2f}%", "{:.3f}", "USD {:.1f}", "{:+.2f}")
_EDGES = (2**63 - 1, -(2**63), 0, 0.0, -0.0, 5e-324, 1.7976931348623157e308, None)


def frames(rows: int = ROWS) -> Iterator[Snapshot]:
    """The frames; the same in every run."""
    rng = Random(31)
    snapshot: Snapshot = {f"R{row:04d}": {} for row in range(rows)}
    for frame in range(FRAMES):
        records = {
            symbol: _moved(rng, record, frame, row) for row, (symbol, record) in enumerate(snapshot.items())
        }
        snapshot = {symbol: records[symbol] for symbol in _nearly_sorted(rng, records)}
        yield snapshot


def _nearly_sorted(rng: Random, records: dict[str, Record]) -> list[str]:
    """By one column, but for a tenth of the rows."""
    order = sorted(records, key=lambda symbol: records[symbol]["nearly"])
    for symbol in rng.sample(order, len(order) // 10):
        order.remove(symbol)
        order.insert(rng.randrange(len(records)), symbol)
    return order


def _moved(rng: Random, record: Record, frame: int, row: int) -> Record:
    """The next record of a row."""
    moved = not record or rng.random() < 0.6
    a = _walk(rng, record.get("a")) if moved else record["a"]
    b = _walk(rng, record.get("b")) if not record or rng.random() < 0.6 else record["b"]
    y, z = _walk(rng, record.get("y")), _walk(rng, record.get("z"))
    follows = moved if frame % 2 else not moved
    return {
        "a": a,
        "b": b,
        # Right in seven rows of ten.
        "nearly": round(a + b, 2) if rng.random() < 0.7 else round(rng.uniform(0, 1e6), 2),
        "switching": _FORMULAS[frame % len(_FORMULAS)](a, b),
        # Right where a writer is likely to look, random elsewhere.
        "on_samples": round(a - b, 2) if _is_sampled(row) else round(rng.uniform(-1e3, 1e3), 2),
        # Each of the three follows from the other two.
        "x": round(y + z, 2),
        "y": y,
        "z": z,
        # No one factor is the usual one.
        "factor": round(a * rng.choice((1.3, 1.7)), 2),
        "scale": round(rng.uniform(1, 2), frame % 8 * 2),
        # Multiples of 10,000, but for one row.
        "stride": rng.randrange(1_000) * 10_000 + (row == 7 * frame),
        "text": _TEMPLATES[frame % len(_TEMPLATES)].format(a),
        "gap": None if rng.random() < 0.2 else a,
        "gap_or_sum": None if rng.random() < 0.2 else round(a + b, 2),
        # Changes with `a` in one frame, with all other rows in the next.
        "alternating": rng.randrange(10**6) if follows or not record else record["alternating"],
        "words": f"{record.get('words', '')[-6:]}{rng.getrandbits(48):x}",
        "edge": rng.choice(_EDGES),
    }


def _walk(rng: Random, before: float | None) -> float:
    return round(rng.uniform(1, 500) if before is None else abs(before + rng.gauss(0, 0.5)) + 0.01, 2)


def _is_sampled(row: int) -> bool:
    return row % 8 == 4 or row % 16 == 8 or row % 32 == 16
