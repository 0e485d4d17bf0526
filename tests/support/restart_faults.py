"""Writers that restart in the simulator: in order, killed, quickly, by turns, two at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from support.protocol_clients import Writer
from support.protocol_model import Entry, Publish

if TYPE_CHECKING:
    from support.simulator import World

# Chance that a writer ends after its claim, before its first publish.
_ENDS_EARLY = 0.15


def finish(world: World, writer: Writer) -> None:
    """Let its save come to its end."""
    while world.writers.get(writer) is not None:
        world.step_writer(writer)


def save(world: World, writer: Writer) -> None:
    world.step_writer(writer)
    finish(world, writer)


def restart(world: World, writer: Writer) -> Writer:
    """It ends after its save, and another one begins; some end before their first publish."""
    finish(world, writer)
    world.writers.pop(writer, None)
    new = world.add_writer()
    if world.random.random() < _ENDS_EARLY:
        for _ in range(world.random.randrange(1, 5)):
            task = world.writers[new]
            if task is not None and isinstance(task.command, Publish):
                break
            world.step_writer(new)
        del world.writers[new]
        new = world.add_writer()
    return new


def _any_writer(world: World) -> Writer:
    return world.random.choice(list(world.writers)) if world.writers else world.add_writer()


def _orderly(world: World) -> None:
    restart(world, _any_writer(world))


def _killed(world: World) -> None:
    """What it has sent last may still come."""
    writer = _any_writer(world)
    task = world.writers.pop(writer)
    if task is not None and task.command is not None and world.random.random() < 0.5:
        world.limbo.append(task.command)
    world.add_writer()


def _quick(world: World) -> None:
    writer = _any_writer(world)
    for _ in range(world.random.randrange(2, 6)):
        writer = restart(world, writer)
        save(world, writer)


def _alternating(world: World) -> None:
    """Two save by turns; each comes back as a new one when it is superseded."""
    for writer in list(world.writers)[:-1]:
        del world.writers[writer]
    pair = [_any_writer(world), world.add_writer()]
    for turn in range(world.random.randrange(3, 7)):
        writer = pair[turn % 2]
        if writer.superseded:
            world.writers.pop(writer, None)
            writer = pair[turn % 2] = world.add_writer()
        save(world, writer)


def _two_at_once(world: World) -> None:
    pair = [world.add_writer(), world.add_writer()]
    for writer in pair:
        world.step_writer(writer)
    while running := [writer for writer in pair if world.writers.get(writer) is not None]:
        world.step_writer(world.random.choice(running))
        if world.random.random() < 0.3:
            world.step_writer(_any_writer(world))
    for writer in list(world.writers):
        if writer.superseded and len(world.writers) > 3:
            del world.writers[writer]


def _half_done(world: World) -> None:
    """A right is missing: the entry of :delta is written, the rest of the save is not."""
    for writer in list(world.writers):
        if writer.superseded or not writer.has_sent:
            continue
        if world.writers[writer] is None:
            world.begin_save(writer)
        task = world.writers[writer]
        assert task is not None
        p, head = task.command, world.server.data.head
        if not isinstance(p, Publish) or p.delta is None or head is None or head.id is None:
            continue
        next_of_its_own = head.id == (p.id[0], p.id[1] - 1) and head.writer == p.writer
        data = world.change()
        if not next_of_its_own or head.digest != p.base or data.delta.last_generated >= p.id:
            continue
        data.delta.add(p.id, Entry(head.time, p.delta.target, p.delta))
        # Followers may see it.
        world.note_accepted(p, head)
        world.note(f"half done: {p}")
        task.fail()
        world.writers[writer] = None
        return


RESTARTS: dict[str, Callable[[World], None]] = {
    "restart_in_order": _orderly,
    "restart_after_kill": _killed,
    "restart_quickly": _quick,
    "restart_alternating": _alternating,
    "restart_two_at_once": _two_at_once,
    "half_done_save": _half_done,
}
