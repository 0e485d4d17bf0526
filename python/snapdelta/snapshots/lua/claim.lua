-- Takes the next epoch for a writer.
-- ARGV: layout; lowest epoch to take
-- Answers: {CLAIMED, epoch} {TYPE, key, type} {LAYOUT, layout}, or the server's error

local problem = wrong_type()
if problem then return problem end
local head = redis.call('HMGET', head_key, 'layout', 'epoch', 'claim')
if head[1] and head[1] ~= ARGV[1] then return {'LAYOUT', head[1]} end
local epoch = math.max(clock_ms(), tonumber(ARGV[2]) - 1, believed(head[2]) or 0, believed(head[3]) or 0,
  tail(full_key) or 0, tail(delta_key) or 0) + 1
local stranger = head[2] and not believed(head[2])
local answer
if stranger then
  answer = redis.pcall('DEL', head_key)
  if failed(answer) then return answer end
end
answer = redis.pcall('HSET', head_key, 'layout', ARGV[1], 'claim', whole(epoch))
if failed(answer) then return answer end
return {'CLAIMED', whole(epoch)}
