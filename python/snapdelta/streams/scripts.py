"""The Lua scripts that trim, or that know which entries every group has acknowledged; each has one key."""

from __future__ import annotations

from snapdelta._scripts import Script

WRITE_UNDER_CEILING = Script.load(__package__, "position", "oldest_above", "write_under_ceiling")
# Lua passes at most 8,000 values on; an entry with more names and values is added by an XADD of its own, and
# this script follows it.
MOST_VALUES = 7_900
HOLD_CEILING = Script.load(__package__, "position", "oldest_above", "hold_ceiling")
RELEASE_READ = Script.load(__package__, "position", "release_read")
DROP_OLDER = Script.load(__package__, "drop_older")
COUNT_UNREAD = Script.load(__package__, "position", "count_unread")
