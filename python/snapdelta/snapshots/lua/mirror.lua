-- Keeps a mirror's rows and its plain key; docs/redis-layout.md has the numbered rules.
-- KEYS:  head, rows, plain key if there is one
-- ARGV:  1 UPDATE | REBUILD | CHECK  2 layout  3-5 epoch, sequence and digest of the target  6-8 of the base
--        9 __meta__  10 plain key's length in bytes  11 plain key's text  12 number of symbols to remove
--        13... those symbols, then symbols and their JSON texts in turn; CHECK has 1 to 10, REBUILD removes none
-- Answers: {WRITTEN | SAME | AHEAD | NOHEAD | STALE | MISMATCH} {TYPE, key, type} {LAYOUT, layout},
--          or the server's error

local head_key, rows_key, plain_key = KEYS[1], KEYS[2], KEYS[3]
local mode, layout, meta = ARGV[1], ARGV[2], ARGV[9]
-- Lua's stack holds some thousands of values.
local BATCH = 1000

local function state(epoch, sequence, digest)
  epoch, sequence = tonumber(epoch or nil), tonumber(sequence or nil)
  if epoch and sequence and type(digest) == 'string' then return {epoch, sequence, digest} end
end
local function above(a, b) return a[1] > b[1] or a[1] == b[1] and a[2] > b[2] end
local function same(a, b) return a[1] == b[1] and a[2] == b[2] and a[3] == b[3] end
local function reaches(a, b) return same(a, b) or above(a, b) end
local function type_of(key) return redis.call('TYPE', key).ok end

-- Rules 1 to 3.
local head_type = type_of(head_key)
if head_type ~= 'hash' and head_type ~= 'none' then return {'TYPE', head_key, head_type} end
local fields = redis.call('HMGET', head_key, 'layout', 'epoch', 'sequence', 'digest')
if fields[1] and fields[1] ~= layout then return {'LAYOUT', fields[1]} end
local head = state(fields[2], fields[3], fields[4])
if not head then return {'NOHEAD'} end
local target, base = state(ARGV[3], ARGV[4], ARGV[5]), state(ARGV[6], ARGV[7], ARGV[8])
if not reaches(head, target) then return {'STALE'} end

-- Rule 4.
local found
if type_of(rows_key) == 'hash' then
  local read, parsed = pcall(cjson.decode, redis.call('HGET', rows_key, '__meta__') or '')
  if read and type(parsed) == 'table' then
    local written = tonumber(parsed.layout)
    if written and written > tonumber(layout) then return {'LAYOUT', tostring(parsed.layout)} end
    local complete = redis.call('HLEN', rows_key) - 1 == tonumber(parsed.symbols)
    found = complete and written and state(parsed.epoch, parsed.sequence, parsed.digest)
  end
end

-- Rules 5 to 8.
local there = found and same(found, target)
local plain_fits = not plain_key
  or type_of(plain_key) == 'string' and redis.call('STRLEN', plain_key) == tonumber(ARGV[10])
if there and plain_fits and mode ~= 'REBUILD' then return {'SAME'} end
if found and above(found, target) and reaches(head, found) then return {'AHEAD'} end
if mode == 'CHECK' then return {'MISMATCH'} end
local follows = found and base and same(found, base)
if mode == 'UPDATE' and not there and not follows then return {'MISMATCH'} end

-- The first write is one that a full server refuses, before anything is lost.
local answer
if mode == 'REBUILD' then
  answer = redis.pcall('SET', rows_key, '')
else
  answer = redis.pcall('HSET', rows_key, '__meta__', meta)
end
if type(answer) == 'table' and answer.err then return answer end
if mode == 'REBUILD' then
  redis.call('DEL', rows_key)
  redis.call('HSET', rows_key, '__meta__', meta)
end
local function in_batches(command, first, last)
  for start = first, last, BATCH do
    redis.call(command, rows_key, unpack(ARGV, start, math.min(start + BATCH - 1, last)))
  end
end
local last_removed = 12 + tonumber(ARGV[12])
in_batches('HDEL', 13, last_removed)
in_batches('HSET', last_removed + 1, #ARGV)
if plain_key then redis.call('SET', plain_key, ARGV[11]) end
local lives = redis.call('PTTL', head_key)
if lives > 0 then
  redis.call('PEXPIRE', rows_key, lives)
  if plain_key then redis.call('PEXPIRE', plain_key, lives) end
else
  redis.call('PERSIST', rows_key)
end
return {'WRITTEN'}
