"""The Lua scripts of layout 1, through which every write goes; docs/redis-layout.md has the rules.

Each script makes all its checks before its first write, because Redis undoes no write of a script. It calls
redis.pcall where the server may refuse a write; with redis.call, Redis 6.2 hides the reason. Numbers
stay below 2^53, where Lua's are exact.
"""

from __future__ import annotations

from snapdelta._scripts import Script

CLAIM = Script.load(__package__, "common", "claim")
PUBLISH = Script.load(__package__, "common", "publish")
DELETE = Script.load(__package__, "common", "delete")
MIRROR = Script.load(__package__, "mirror")
REQUEST_RESYNC = Script.load(__package__, "request_resync")
