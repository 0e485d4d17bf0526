"""What `at()` and `replay()` make of the model's kept entries."""

from __future__ import annotations

from collections.abc import Iterator

from support.protocol_clients import FULLS_TRIED, Reader
from support.protocol_model import Entry, Id, Server


def state_at(server: Server, place: Id) -> int | None:
    """As `at()` finds it; None if nothing leads there."""
    data, reader = server.data, Reader("at", server.rules)
    before = (place[0], place[1] + 1)
    for _ in range(FULLS_TRIED):
        ids = [at for at in data.full.entries if at < before]
        if not ids:
            break
        before = at = max(ids)
        state = reader.whole(at, data.full.entries[at])
        for next_at, entry in data.delta.entries.items():
            if state is not None and at < next_at <= place:
                state = state_after(server, at, state, next_at, entry)
                at = next_at
        if state is not None and at == place:
            return state
    return None


def replay(server: Server) -> Iterator[tuple[Id, int | None, int | None]]:
    """The id of each kept entry of a writer, the state there, and the one by a step from the entry before."""
    last: tuple[Id, int] | None = None
    for place, entry in server.data.delta.entries.items():
        if entry.time is None:
            continue
        state = state_at(server, place)
        yield place, state, None if last is None else state_after(server, *last, place, entry)
        last = None if state is None else (place, state)


def state_after(server: Server, at: Id, state: int, next_at: Id, entry: Entry) -> int | None:
    """The state that a reader comes to by one entry; None if it does not follow."""
    steps = Reader("step", server.rules).step(at, state, next_at, entry)
    try:
        command = next(steps)
        while True:
            command = steps.send(server.execute(command))
    except StopIteration as end:
        result: int | None = end.value
        return result
