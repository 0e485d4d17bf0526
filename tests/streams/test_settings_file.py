"""Policies from a TOML file."""

from __future__ import annotations

from pathlib import Path

import pytest

from snapdelta.errors import StreamPolicyError
from snapdelta.redis_stream_manager import StreamPolicy
from snapdelta.streams.settings_file import load_settings

_TABLE = """
[{table}]
discover = "session:*"
[{table}.default]
maxlen = 500
[{table}.policies."snapshots:raw"]
maxlen = 50
approximate = false
[{table}.policies."events:*"]
maxlen = 0
max_age = 86400.0
"""


@pytest.mark.parametrize("table", ["streams", "tool.snapdelta.streams"])
def test_a_table_of_policies(tmp_path: Path, table: str) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(_TABLE.format(table=table))
    settings = load_settings(path)
    assert settings.default == StreamPolicy(maxlen=500)
    assert settings.policies == {
        "snapshots:raw": StreamPolicy(maxlen=50, approximate=False),
        "events:*": StreamPolicy(maxlen=None, max_age=86400.0),
    }
    assert (settings.strict, settings.discover) == (None, "session:*")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = ", "is not TOML"),
        ("[other]", "neither a table"),
        ("streams = 5", "must be a table"),
        ("[streams]\nstrikt = true", "did you mean 'strict'"),
        ("[streams]\nstrict = 1", "strict must be"),
        ("[streams]\ndiscover = true", "discover must be"),
        ("[streams]\npolicies = []", "policies must be"),
        ("[streams.default]\nmax_len = 5", "default: unknown setting 'max_len'; did you mean 'maxlen'"),
        ('[streams.policies."a:*"]\nmaxlen = -1', "policies.'a:*': maxlen"),
    ],
)
def test_a_wrong_file_is_named_with_its_setting(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(text)
    with pytest.raises(StreamPolicyError) as raised:
        load_settings(path)
    assert str(path) in str(raised.value)
    assert said in str(raised.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(StreamPolicyError, match=r"nowhere\.toml"):
        load_settings(tmp_path / "nowhere.toml")
