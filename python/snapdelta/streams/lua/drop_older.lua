-- Remove the entries below an id by their number: MINID may take newer ones too before Redis 6.2.7 (its issue 9410).
-- KEYS[1] stream; ARGV[1] lowest id that stays, ARGV[2] most entries to remove
-- -> {entries removed, length now}

local key, length = KEYS[1], redis.call('XLEN', KEYS[1])
local older = #redis.call('XRANGE', key, '-', '(' .. ARGV[1], 'COUNT', ARGV[2])
if older > 0 then redis.call('XTRIM', key, 'MAXLEN', '=', length - older) end
return {older, length - older}
