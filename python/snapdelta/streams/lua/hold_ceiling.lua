-- Drop the oldest entries above the ceiling.
-- KEYS[1] stream; ARGV[1] ceiling
-- -> {entries dropped, entries dropped unread}

local key, length = KEYS[1], redis.call('XLEN', KEYS[1])
local dropped, lost = oldest_above(key, length - tonumber(ARGV[1]))
if dropped > 0 then redis.call('XTRIM', key, 'MAXLEN', '=', length - dropped) end
return {dropped, lost}
