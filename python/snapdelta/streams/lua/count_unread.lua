-- Counts entries of a range, and those that some group has not acknowledged. Changes nothing.
-- KEYS: stream
-- ARGV: first id, last id, most entries
-- Answers: {entries, unread ones, id of the last one or nil}

local entries = redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[2], 'COUNT', ARGV[3])
local floor, at = position(KEYS[1])
local waiting = 0
for _, entry in ipairs(entries) do
  if unread(entry[1], floor, at) then waiting = waiting + 1 end
end
return {#entries, waiting, #entries > 0 and entries[#entries][1]}
