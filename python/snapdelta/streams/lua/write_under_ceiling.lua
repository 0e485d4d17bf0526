-- Add one entry, and make room for it at the ceiling by dropping the oldest, read or not.
-- KEYS[1] stream; ARGV[1] ceiling, ARGV[2] id, ARGV[3..] fields and values
-- -> {id, entries dropped, entries dropped unread}
-- Never more than 100 are dropped at once: a larger backlog is for the background task.

local key, length = KEYS[1], redis.call('XLEN', KEYS[1])
local dropped, lost = oldest_above(key, length + 1 - tonumber(ARGV[1]))
local id = redis.pcall('XADD', key, unpack(ARGV, 2))
if type(id) == 'table' and id.err then return id end
if dropped > 0 then redis.call('XTRIM', key, 'MAXLEN', '=', length - dropped + 1) end
return {id, dropped, lost}
