"""States that name themselves, for the tests of the snapshots.

A market's states are a function of its name and a number, and each carries both. So whoever reads a state,
anywhere, knows which one it must be. Not more than the writer's process needs.
"""

from __future__ import annotations

import random
from typing import Any

State = dict[str, Any]
# The symbol that says whose state it is, and which one.
MARK = "#"


class Market:
    """Small states in a row: a few records change, one comes or goes, the order moves now and then."""

    def __init__(self, writer: str = "A", symbols: int = 40) -> None:
        self.writer = writer
        self.saved = 0
        self._random = random.Random(writer)
        self._records = {f"S{n}": self._record() for n in range(symbols)}
        self._states: list[State] = []

    def next(self) -> State:
        """The state that is to be saved next; a copy of its own."""
        self.saved += 1
        return copied(self.state(self.saved))

    def state(self, number: int) -> State:
        """The state of this number, from 1 on; to be read only."""
        while len(self._states) < number:
            self._advance()
            mark = {"writer": self.writer, "n": len(self._states) + 1}
            self._states.append(copied({MARK: mark, **self._records}))
        return self._states[number - 1]

    def _advance(self) -> None:
        rng, records = self._random, self._records
        for symbol in rng.sample(list(records), 4):
            records[symbol] = {
                **records[symbol],
                "price": rng.uniform(1, 500),
                "volume": rng.randrange(10**6),
            }
        if rng.random() < 0.3:
            records[f"N{len(self._states)}"] = self._record()
        if rng.random() < 0.3 and len(records) > 20:
            del records[rng.choice(list(records))]
        if rng.random() < 0.3:
            self._records = dict(sorted(records.items(), key=lambda item: item[1]["price"], reverse=True))

    def _record(self) -> dict[str, Any]:
        rng = self._random
        return {
            "price": rng.uniform(1, 500),
            "volume": rng.randrange(10**6),
            "quote": {"bid": 1.5, "note": None},
        }


def copied(state: State) -> State:
    """The same with dicts of its own."""
    return {key: copied(value) if isinstance(value, dict) else value for key, value in state.items()}
