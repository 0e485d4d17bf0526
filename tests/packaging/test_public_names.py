"""What a user meets first: names, the command, errors."""

from __future__ import annotations

import inspect
import subprocess
import sys
from collections import ChainMap, OrderedDict, UserDict
from collections.abc import Callable, Mapping
from importlib.metadata import version
from types import MappingProxyType
from typing import Any

import pytest
from redis.asyncio import Redis

import snapdelta
from snapdelta import StreamPolicy, decode_fields, errors, initialize_stream_manager
from snapdelta.errors import SnapdeltaError, StreamArgumentError, UnsupportedTypeError
from snapdelta.redis_stream_manager import RedisStreamManager
from snapdelta.streams.registry import StreamOptions
from support.servers import Server


def test_dir_shows_public_names_only() -> None:
    shown = dir(snapdelta)
    assert set(snapdelta.__all__) < set(shown)
    assert [name for name in shown if name.startswith("_")] == ["__version__"]
    assert {"SnapshotManager", "SnapshotReader", "RedisStreamManager", "EmbeddedServer"} <= set(shown)
    for name in shown:
        assert getattr(snapdelta, name) is not None
    assert not {"import_module", "version", "TYPE_CHECKING", "annotations"} & set(shown)


@pytest.mark.parametrize("module", ["snapdelta", "snapdelta.cli"])
def test_the_command_as_a_module(module: str) -> None:
    for option, expected in (("--version", f"snapdelta {version('snapdelta-rs')}\n"), ("--help", "migrate")):
        ran = subprocess.run([sys.executable, "-m", module, option], capture_output=True, text=True)
        assert (ran.returncode, ran.stderr) == (0, "")
        assert expected in ran.stdout


def test_initialize_stream_manager_takes_the_arguments_of_the_manager() -> None:
    ours = inspect.signature(initialize_stream_manager).parameters
    theirs = inspect.signature(RedisStreamManager).parameters
    by_name = {name for name, parameter in theirs.items() if parameter.kind is parameter.KEYWORD_ONLY}
    assert set(StreamOptions.__annotations__) == by_name
    assert [*ours][:-1] == [name for name in theirs if name not in by_name]
    for name in by_name:
        assert StreamOptions.__annotations__[name].__forward_arg__ == theirs[name].annotation


def test_every_error_is_one_of_ours() -> None:
    for name, error in vars(errors).items():
        if isinstance(error, type) and issubclass(error, Exception):
            assert issubclass(error, SnapdeltaError), name


@pytest.mark.parametrize("fields", [None, 5, "text", [("a", 1)], b"x"])
async def test_fields_that_are_no_mapping(fields: Any) -> None:
    streams = RedisStreamManager(Redis(port=1))
    with pytest.raises(UnsupportedTypeError, match="stream 's': fields must be a mapping"):
        await streams.xadd("s", fields)
    with pytest.raises(UnsupportedTypeError, match="stream 's': fields must be a mapping"):
        await streams.xadd_many("s", [fields])


@pytest.mark.parametrize("made", [MappingProxyType, UserDict, ChainMap, OrderedDict])
async def test_every_mapping_is_taken_where_the_types_say_so(
    server: Server, made: Callable[[dict[str, int]], Mapping[str, int]]
) -> None:
    async with server.client() as redis:
        streams = RedisStreamManager(redis, MappingProxyType({"s": StreamPolicy(maxlen=5)}))
        await streams.xadd("s", made({"a": 1}))
        await streams.xadd_many("s", [made({"a": 2})])
        assert [fields for _, fields in await redis.xrange("s") or []] == [{b"a": b"1"}, {b"a": b"2"}]
    assert decode_fields(made({"a": 1})) == {"a": 1}


async def test_arguments_of_a_stream_are_value_errors() -> None:
    streams = RedisStreamManager(Redis(port=1))
    for arguments in (("", {"a": 1}), ("s", {})):
        with pytest.raises(StreamArgumentError) as raised:
            await streams.xadd(*arguments)
        assert isinstance(raised.value, ValueError)
