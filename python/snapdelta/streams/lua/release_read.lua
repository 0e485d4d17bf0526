-- Remove the oldest entries that every group has acknowledged, while the length stays at or above the target.
-- KEYS[1] stream; ARGV[1] target, ARGV[2] most entries to remove by whole nodes, ARGV[3] most one by one,
--         ARGV[4] 1 if the server trims by id as it should
-- -> {entries removed, length now, position of the slowest group or '', 1 if the entry there is unread,
--     1 if it stopped before it was done}

local key, target, most, walk = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local length, removed = redis.call('XLEN', key), 0
if length == 0 then return {0, 0, '', 0, 0} end
local floor, at = position(key)
if length - target >= most and (not floor or ARGV[4] == '1') then
  -- Far above the target: whole nodes, of which at most that many entries may go.
  if floor then
    removed = redis.call('XTRIM', key, 'MINID', '~', floor, 'LIMIT', most)
  else
    removed = redis.call('XTRIM', key, 'MAXLEN', '~', target)
  end
  if removed > 0 then return {removed, length - removed, floor or '', at and 1 or 0, 1} end
end
local more = 0
while length > target do
  if removed >= walk then more = 1 break end
  local oldest = redis.call('XRANGE', key, '-', '+', 'COUNT', math.min(length - target, 16))
  local read = 0
  while read < #oldest and not unread(oldest[read + 1][1], floor, at) do read = read + 1 end
  if read == 0 then break end
  redis.call('XTRIM', key, 'MAXLEN', '=', length - read)
  length, removed = length - read, removed + read
end
return {removed, length, floor or '', at and 1 or 0, more}
