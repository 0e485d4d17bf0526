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
