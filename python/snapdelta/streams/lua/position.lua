-- The slowest group's position: entries below `floor` are acknowledged by all groups. `at` says whether the
-- entry with exactly that id is unread (a pending one) or read (the last one delivered to a group without
-- pending ones). Ids are compared as text, because a sequence number may be above 2^53, Lua's largest exact
-- integer. Put before each of the other scripts.

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
    local fields = {}
    for i = 1, #group, 2 do fields[group[i]] = group[i + 1] end
    local id, pending = fields['last-delivered-id'], false
    if fields['pending'] > 0 then
      local waiting = redis.call('XPENDING', key, fields['name'], first, '+', 1)[1]
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
