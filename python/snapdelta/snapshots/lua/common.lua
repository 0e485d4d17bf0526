-- What the scripts over a name's three keys share; put before each of them.
-- KEYS: full stream, delta stream, head

-- Entries with an epoch from ENTRY_BOUND on (the year 5138) were not made by a writer. The head, which only
-- scripts write, is believed up to twice as much, so that a claim above any entry can be believed as well.
local ENTRY_BOUND, HEAD_BOUND = 1e14, 2e14
local full_key, delta_key, head_key = KEYS[1], KEYS[2], KEYS[3]

-- The first key that holds another type, as an answer.
local function wrong_type()
  for number, expected in ipairs({'stream', 'stream', 'hash'}) do
    local found = redis.call('TYPE', KEYS[number]).ok
    if found ~= 'none' and found ~= expected then return {'TYPE', KEYS[number], found} end
  end
end

-- A field of the head as a number that a writer can have made; else nil.
local function believed(text)
  local number = tonumber(text or nil)
  if number and number >= 0 and number < HEAD_BOUND then return number end
end

-- Epoch and sequence of the newest entry that a writer made: theirs begin with the field t.
local function tail(key)
  local highest = string.format('%.0f-18446744073709551615', ENTRY_BOUND - 1)
  for _, entry in ipairs(redis.call('XREVRANGE', key, highest, '-', 'COUNT', 16)) do
    if entry[2][1] == 't' then
      local epoch, sequence = string.match(entry[1], '^(%d+)-(%d+)$')
      return tonumber(epoch), tonumber(sequence)
    end
  end
end

local function clock_ms()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

-- Of redis.pcall.
local function failed(answer) return type(answer) == 'table' and answer.err end

local function whole(number) return string.format('%.0f', number) end
