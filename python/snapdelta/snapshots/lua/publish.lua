-- Publishes one save.
-- ARGV:  1 layout  2 epoch  3 sequence  4 writer's identity  5 base's digest  6 target's digest
--        7 delta or empty  8 full frame or empty  9 why a full frame
--       10 full frames to keep at least  11 history in ms  12 most frames  13 most bytes
--          (both without the part that the next chain may fill)  14 milliseconds that the keys live, or 0
--       15 in a handover the base's id, else empty  16 why a full frame where the head is elsewhere
-- Answers: {DELTA | CHECKPOINT | RESTART | WRITTEN, time, resync request or empty, reason} {NEEDFULL, reason}
--          {SUPERSEDED, epoch} {TYPE, key, type} {LAYOUT, layout}, or the server's error

local layout, identity, base, target = ARGV[1], ARGV[4], ARGV[5], ARGV[6]
local epoch, sequence = tonumber(ARGV[2]), tonumber(ARGV[3])
local delta, full, reason = ARGV[7], ARGV[8], ARGV[9]
local handover, behind = ARGV[15], ARGV[16]
local id = ARGV[2] .. '-' .. ARGV[3]
local HOUR, ENTRY_BYTES = 3600000, 128

local problem = wrong_type()
if problem then return problem end
local fields = redis.call('HMGET', head_key, 'layout', 'epoch', 'sequence', 'digest', 'writer', 'time',
  'frames', 'bytes', 'fulls', 'resync_request', 'claim')
if fields[1] and fields[1] ~= layout then return {'LAYOUT', fields[1]} end
local head_epoch, head_sequence = believed(fields[2]), tonumber(fields[3] or nil)
local known = head_epoch and head_sequence
local resync_request = fields[10] or ''

local clock = clock_ms()
local before = known and believed(fields[6]) or clock
local back = before - clock > HOUR
local now = back and clock or math.max(clock, before)

local function newest(key)
  local entry = redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1]
  return entry and entry[1]
end

-- Why the state cannot follow; nil if it can. `crosses`: its base is of an earlier epoch.
local broken, crosses
local here = known and fields[2] .. '-' .. fields[3]
if known then
  if head_epoch == epoch and head_sequence == sequence and fields[5] == identity and fields[4] == target then
    return {'WRITTEN', whole(before), resync_request, ''}
  end
  if head_epoch > epoch or head_epoch == epoch and (fields[5] ~= identity or head_sequence >= sequence) then
    return {'SUPERSEDED', whole(head_epoch)}
  end
  crosses = head_epoch < epoch
  if crosses then
    -- No reader gets over an entry between the two, whoever made it.
    if handover ~= here or fields[4] ~= base or newest(delta_key) ~= here then broken = 'takeover' end
  elseif head_sequence ~= sequence - 1 or fields[4] ~= base then broken = behind end
  if broken then -- as it is
  elseif redis.call('XLEN', full_key) == 0 or redis.call('XLEN', delta_key) == 0 then broken = 'stream_lost'
  elseif back then broken = 'clock' end
else
  for _, key in ipairs({full_key, delta_key}) do
    local tail_epoch, tail_sequence = tail(key)
    if tail_epoch and (tail_epoch > epoch or tail_epoch == epoch and tail_sequence > sequence) then
      return {'SUPERSEDED', whole(tail_epoch)}
    end
  end
  broken = 'head_lost'
end

local function append(key, ...) return redis.pcall('XADD', key, id, 't', whole(now), 'd', target, ...) end
-- The stream has given out a higher id.
local function blocked(answer)
  return string.find(answer.err, 'equal or smaller', 1, true) or string.find(answer.err, 'exhausted', 1, true)
end

local named = broken and {} or {'b', here .. '-' .. base}
local kind
local function append_delta() return append(delta_key, 'f', delta, unpack(crosses and named or {})) end
if delta ~= '' and not broken then
  local answer = append_delta()
  if failed(answer) then
    if not blocked(answer) then return answer end
    broken = 'foreign_entry'
  else
    kind = full == '' and 'DELTA' or 'CHECKPOINT'
  end
end
if not kind then
  if full == '' then return {'NEEDFULL', broken} end
  kind = 'RESTART'
  -- The writer knows more than that the head is missing.
  if broken and not (reason == 'first' and broken == 'head_lost') then reason = broken end
end

local frames_before, bytes_before = tonumber(fields[7] or nil) or 0, tonumber(fields[8] or nil) or 0
local frames, bytes = frames_before + 1, bytes_before + #delta + #full + ENTRY_BYTES
if full ~= '' then
  local fulls, kept = {}, {}
  if known and not back then
    for part in string.gmatch(fields[9] or '', '[^;]+') do
      local at, time, frames_then, bytes_then = string.match(part, '^(%d+%-%d+) (%d+) (%d+) (%d+)$')
      if at then fulls[#fulls + 1] = {at, tonumber(time), tonumber(frames_then), tonumber(bytes_then)} end
    end
  end
  -- Appends; a stream with a higher id is removed first, and then none of the kept full frames is left.
  local function insist(key, ...)
    local answer = append(key, ...)
    if failed(answer) and blocked(answer) then
      fulls = {}
      redis.call('DEL', key)
      answer = append(key, ...)
    end
    return answer
  end
  local marked = delta == '' and named or {}
  local answer = insist(full_key, 'f', full, 'r', reason)
  if failed(answer) then return answer end
  if kind == 'RESTART' then
    answer = insist(delta_key, 'r', reason, unpack(marked))
    if failed(answer) then return answer end
  end
  if redis.call('XLEN', full_key) == 1 then fulls = {} end
  fulls[#fulls + 1] = {id, now, frames_before, bytes_before}
  while #fulls > tonumber(ARGV[10]) do
    local held_frames, held_bytes = frames - fulls[1][3], bytes - fulls[1][4]
    local fits = held_frames <= tonumber(ARGV[12]) and held_bytes <= tonumber(ARGV[13])
    if fits and now - fulls[2][2] < tonumber(ARGV[11]) then break end
    table.remove(fulls, 1)
  end
  -- Followers of a checkpoint may still need the deltas before it, if it is the only full frame.
  if kind == 'RESTART' or #fulls > 1 or redis.call('XLEN', delta_key) > tonumber(ARGV[12]) then
    local oldest = fulls[1][1]
    local function holds(key, at) return redis.call('XREVRANGE', key, at, at)[1] end
    -- Redis before 6.2.7 removes later entries too, where a node's ids are 2^31 ms apart (its issue 9410). It goes
    -- from the oldest on, so the rest is there if the first one is that should stay.
    local function trim(key)
      local first = holds(key, oldest) and oldest or id
      redis.call('XTRIM', key, 'MINID', '=', oldest)
      return holds(key, first)
    end
    local fulls_left, deltas_left = trim(full_key), trim(delta_key)
    if not (fulls_left and deltas_left) then
      redis.call('DEL', full_key, delta_key)
      append(full_key, 'f', full, 'r', reason)
      if kind == 'RESTART' then append(delta_key, 'r', reason, unpack(marked)) else append_delta() end
      fulls = {{id, now, frames_before, bytes_before}}
    end
  end
  for number, entry in ipairs(fulls) do
    kept[number] = entry[1] .. ' ' .. whole(entry[2]) .. ' ' .. whole(entry[3]) .. ' ' .. whole(entry[4])
  end
  redis.call('HSET', head_key, 'fulls', table.concat(kept, ';'))
  redis.call('HDEL', head_key, 'resync_request')
end
redis.call('HSET', head_key, 'layout', layout, 'epoch', ARGV[2], 'sequence', ARGV[3], 'digest', target,
  'writer', identity, 'claim', whole(math.max(epoch, believed(fields[11]) or 0)), 'time', whole(now),
  'frames', whole(frames), 'bytes', whole(bytes))
for _, key in ipairs(KEYS) do
  if tonumber(ARGV[14]) > 0 then redis.call('PEXPIRE', key, ARGV[14])
  elseif full ~= '' then redis.call('PERSIST', key) end
end
return {kind, whole(now), full == '' and resync_request or '', reason}
