-- Removes a name.
-- KEYS: full stream, delta stream, head, rows
-- ARGV: layout; the writer's epoch or empty; its identity
-- Answers: {DELETED, keys removed} {SUPERSEDED, epoch} {TYPE, key, type} {LAYOUT, layout},
--          or the server's error

local problem = wrong_type()
if problem then return problem end
local head = redis.call('HMGET', head_key, 'layout', 'epoch', 'writer', 'claim')
if head[1] and head[1] ~= ARGV[1] then return {'LAYOUT', head[1]} end
local own, epoch = tonumber(ARGV[2]), believed(head[2])
if own and epoch and (epoch > own or epoch == own and head[3] ~= ARGV[3]) then
  return {'SUPERSEDED', whole(epoch)}
end
local ahead = (believed(head[4]) or 0) - clock_ms()
local removed
if ahead < 0 then
  removed = redis.pcall('DEL', full_key, delta_key, KEYS[4], head_key)
  if failed(removed) then return removed end
else
  -- The clock would give this epoch out again.
  removed = redis.pcall('DEL', full_key, delta_key, KEYS[4])
  if failed(removed) then return removed end
  redis.call('HDEL', head_key, 'epoch', 'sequence', 'digest', 'writer', 'time', 'frames', 'bytes', 'fulls',
    'resync_request')
  redis.call('PEXPIRE', head_key, ahead + 60000)
end
return {'DELETED', removed}
