"""`snapdelta mirror NAME`: keep the newest state as JSON in Redis, for programs without snapdelta."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from typing import Annotated

import typer

from snapdelta.cli.console import console
from snapdelta.cli.redis import PREFIX, URL, Json, Name, Prefix, Url, connected, run, run_until_stopped


def mirror(
    name: Name,
    url: Url = URL,
    key_prefix: Prefix = PREFIX,
    plain_key: Annotated[
        str | None, typer.Option(help="Also write the whole snapshot as one JSON object to this key.")
    ] = None,
    once: Annotated[bool, typer.Option("--once", help="Write the newest state once, then exit.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Log every update.")] = False,
    as_json: Json = False,
) -> None:
    """Keep NAME's newest state as JSON: a hash of symbol -> record, until you stop it.

    Needs the extra `mirror`. Exit status 1: with --once, nothing was saved under the name.
    """
    # Imported here: it needs orjson.
    from snapdelta.snapshots.mirror import SnapshotMirror

    async def follow() -> None:
        async with connected(url) as redis:
            await SnapshotMirror(redis, name, key_prefix=key_prefix, plain_key=plain_key).run()

    async def write_once() -> bool:
        async with connected(url) as redis:
            one = SnapshotMirror(redis, name, key_prefix=key_prefix, plain_key=plain_key)
            written = await one.sync()
            if as_json:
                print(json.dumps({"written": written, "key": one.rows_key, **asdict(one.stats())}))
            elif written:
                console().print(f"{one.rows_key}: {one.stats().rows_written} rows written", highlight=False)
            else:
                console().print(f"nothing was saved under {name!r}", markup=False)
            return written

    if once:
        if not run(write_once()):
            raise typer.Exit(1)
        return
    level = logging.DEBUG if verbose else logging.INFO
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("snapdelta").setLevel(level)
    run_until_stopped(follow())
