"""The Lua that knows which entries every consumer group has acknowledged. All of it works on one key."""

from __future__ import annotations

# The slowest group's position: entries below `floor` are acknowledged by all groups. `at` says whether the
# entry with exactly that id is unread (a pending one) or read (the last one delivered to a group without
# pending ones). Ids are compared as text, because a sequence number may be above 2^53, Lua's largest exact
# integer.
_POSITION = """
local function compare(a, b)
  local am, as = a:match('^(%d+)-(%d+)$')
  local bm, bs = b:match('^(%d+)-(%d+)$')
  if #am ~= #bm then return #am < #bm and -1 or 1 end
  if am ~= bm then return am < bm and -1 or 1 end
  if #as ~= #bs then return #as < #bs and -1 or 1 end
  if as ~= bs then return as < bs and -1 or 1 end
  return 0
end
local function position(key)
  local floor, at = false, false
  local oldest = redis.call('XRANGE', key, '-', '+', 'COUNT', 1)[1]
  -- What is pending before the first entry was trimmed away and waits for nobody.
  local first = oldest and oldest[1] or '+'
  for _, group in ipairs(redis.call('XINFO', 'GROUPS', key)) do
    local facts = {}
    for i = 1, #group, 2 do facts[group[i]] = group[i + 1] end
    local id, pending = facts['last-delivered-id'], false
    if facts['pending'] > 0 then
      local waiting = redis.call('XPENDING', key, facts['name'], first, '+', 1)[1]
      if waiting then id, pending = waiting[1], true end
    end
    local order = floor and compare(id, floor) or -1
    if order < 0 then floor, at = id, pending elseif order == 0 then at = at or pending end
  end
  return floor, at
end
local function unread(id, floor, at)
  if not floor then return false end
  local order = compare(id, floor)
  return order > 0 or (order == 0 and at)
end
"""

# Add one entry, and make room for it at the ceiling by dropping the oldest, read or not.
# KEYS[1] stream; ARGV[1] ceiling, ARGV[2] id, ARGV[3..] fields and values
# -> {id, entries dropped, entries dropped unread}
# Never more than 100 are dropped at once: what a larger backlog has is for the background task.
_OLDEST_ABOVE = (
    _POSITION
    + """
-- Of the entries above a length, the oldest: how many they are, and how many of them are unread.
local function oldest_above(key, excess)
  if excess <= 0 then return 0, 0 end
  local floor, at = position(key)
  local oldest, lost = redis.call('XRANGE', key, '-', '+', 'COUNT', math.min(excess, 100)), 0
  for _, entry in ipairs(oldest) do
    if unread(entry[1], floor, at) then lost = lost + 1 end
  end
  return #oldest, lost
end
"""
)
WRITE_UNDER_CEILING = (
    _OLDEST_ABOVE
    + """
local key, length = KEYS[1], redis.call('XLEN', KEYS[1])
local dropped, lost = oldest_above(key, length + 1 - tonumber(ARGV[1]))
local id = redis.pcall('XADD', key, unpack(ARGV, 2))
if type(id) == 'table' and id.err then return id end
if dropped > 0 then redis.call('XTRIM', key, 'MAXLEN', '=', length - dropped + 1) end
return {id, dropped, lost}
"""
)

# Lua passes at most 8,000 values on; an entry with more names and values is added by an XADD of its own. This
# script follows it: it drops the oldest entries above the ceiling.
# KEYS[1] stream; ARGV[1] ceiling
# -> {entries dropped, entries dropped unread}
MOST_VALUES = 7_900
HOLD_CEILING = (
    _OLDEST_ABOVE
    + """
local key, length = KEYS[1], redis.call('XLEN', KEYS[1])
local dropped, lost = oldest_above(key, length - tonumber(ARGV[1]))
if dropped > 0 then redis.call('XTRIM', key, 'MAXLEN', '=', length - dropped) end
return {dropped, lost}
"""
)

# Remove the oldest entries that every group has acknowledged, while the length stays at or above the target.
# KEYS[1] stream; ARGV[1] target, ARGV[2] most entries to remove by whole nodes, ARGV[3] most one by one
# -> {entries removed, length now, position of the slowest group or '', 1 if the entry there is unread,
#     1 if it stopped before it was done}
RELEASE_READ = (
    _POSITION
    + """
local key, target, most, walk = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local length, removed = redis.call('XLEN', key), 0
if length == 0 then return {0, 0, '', 0, 0} end
local floor, at = position(key)
if length - target >= most then
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
"""
)
