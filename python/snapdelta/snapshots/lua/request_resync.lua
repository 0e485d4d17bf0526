-- A reader that cannot go on asks for a full frame, if there is a head to ask.
-- KEYS: head
-- ARGV: the id that it cannot read

if redis.call('HEXISTS', KEYS[1], 'epoch') == 0 then return 0 end
return redis.call('HSET', KEYS[1], 'resync_request', ARGV[1])
