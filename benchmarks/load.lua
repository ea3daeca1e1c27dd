-- Segment calls for wrk: about 1 KB each, a messageId of their own, signed as Segment signs (HMAC-SHA1 over the body).
--
--   wrk ... -s load.lua URL -- SECRET IDS SEED [SHOWN]
--
-- IDS     node: `node-next-<ms>-<uuid4>` as @segment/analytics-node makes them; uuid4: as the Python SDK makes them
-- SEED    two runs with different seeds never send the same messageId
-- SHOWN   prints that many requests (signature, space, body) and ends, so that somebody else can check them
--
-- What differs from call to call stands at the end of the body, so that the SHA-1 of all before it is computed once.

local bit = require("bit")
local ffi = require("ffi")
local band, bor, bxor, bnot = bit.band, bit.bor, bit.bxor, bit.bnot
local lshift, rol, tobit, tohex, bswap = bit.lshift, bit.rol, bit.tobit, bit.tohex, bit.bswap
local byte, char, format, rep, sub = string.byte, string.char, string.format, string.rep, string.sub
local floor, random = math.floor, math.random

ffi.cdef([[
  typedef struct { long seconds; long micros; } segment_lotus_time;
  int gettimeofday(segment_lotus_time *now, void *zone);
]])

-- ----------------------------------------------------------------------------------------------------------- SHA-1

local words = ffi.new("int32_t[80]")

-- One block: the five words of the state, and 64 bytes of `text` that begin at `at`.
local function compress(h0, h1, h2, h3, h4, text, at)
  for i = 0, 15 do
    local first, second, third, fourth = byte(text, at + i * 4, at + i * 4 + 3)
    words[i] = bor(lshift(first, 24), lshift(second, 16), lshift(third, 8), fourth)
  end
  for i = 16, 79 do
    words[i] = rol(bxor(words[i - 3], words[i - 8], words[i - 14], words[i - 16]), 1)
  end
  local a, b, c, d, e = h0, h1, h2, h3, h4
  for i = 0, 19 do
    local t = tobit(rol(a, 5) + bor(band(b, c), band(bnot(b), d)) + e + words[i] + 0x5a827999)
    e, d, c, b, a = d, c, rol(b, 30), a, t
  end
  for i = 20, 39 do
    local t = tobit(rol(a, 5) + bxor(b, c, d) + e + words[i] + 0x6ed9eba1)
    e, d, c, b, a = d, c, rol(b, 30), a, t
  end
  for i = 40, 59 do
    local t = tobit(rol(a, 5) + bor(band(b, c), band(b, d), band(c, d)) + e + words[i] + 0x8f1bbcdc)
    e, d, c, b, a = d, c, rol(b, 30), a, t
  end
  for i = 60, 79 do
    local t = tobit(rol(a, 5) + bxor(b, c, d) + e + words[i] + 0xca62c1d6)
    e, d, c, b, a = d, c, rol(b, 30), a, t
  end
  return tobit(h0 + a), tobit(h1 + b), tobit(h2 + c), tobit(h3 + d), tobit(h4 + e)
end

-- A state is {h0, h1, h2, h3, h4, how many bytes it has seen (whole blocks)}.
local START = {tobit(0x67452301), tobit(0xefcdab89), tobit(0x98badcfe), tobit(0x10325476), tobit(0xc3d2e1f0), 0}

-- The state after all whole blocks of `text`, and the bytes that are left over.
local function absorb(state, text)
  local h0, h1, h2, h3, h4, seen = unpack(state)
  local whole = #text - #text % 64
  for at = 1, whole, 64 do
    h0, h1, h2, h3, h4 = compress(h0, h1, h2, h3, h4, text, at)
  end
  return {h0, h1, h2, h3, h4, seen + whole}, sub(text, whole + 1)
end

local function word(number)
  return char(band(bit.rshift(number, 24), 255), band(bit.rshift(number, 16), 255),
    band(bit.rshift(number, 8), 255), band(number, 255))
end

local ZEROS = {}
for count = 0, 63 do
  ZEROS[count] = "\128" .. rep("\0", count) .. "\0\0\0\0"
end

-- The five words of the digest of what the state has seen and `text` after it.
local function finish(state, text)
  local length = state[6] + #text
  text = text .. ZEROS[(55 - length) % 64] .. word(length * 8)
  local h0, h1, h2, h3, h4 = state[1], state[2], state[3], state[4], state[5]
  for at = 1, #text, 64 do
    h0, h1, h2, h3, h4 = compress(h0, h1, h2, h3, h4, text, at)
  end
  return h0, h1, h2, h3, h4
end

-- The states after HMAC's two padded keys.
local function keyed(secret)
  assert(#secret <= 64, "a secret of at most 64 bytes")
  local inner, outer = {}, {}
  for i = 1, 64 do
    local one = byte(secret, i) or 0
    inner[i], outer[i] = char(bxor(one, 0x36)), char(bxor(one, 0x5c))
  end
  return (absorb(START, table.concat(inner))), (absorb(START, table.concat(outer)))
end

-- ----------------------------------------------------------------------------------------------------------- calls

local CONTEXT = '"context":{"groupId":"acct-9","ip":"203.0.113.7","locale":"en-US","timezone":"Europe/Berlin",'
  .. '"userAgent":"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36",'
  .. '"page":{"path":"/app/projects","referrer":"https://app.example.com/","title":"Projects",'
  .. '"url":"https://app.example.com/app/projects?tab=recent"},'
  .. '"library":{"name":"@segment/analytics-node","version":"3.1.0"}},'
  .. '"integrations":{"All":true},"_metadata":{"nodeVersion":"v20.20.2","jsRuntime":"node"},'
  .. '"version":2,"channel":"server","projectId":"pRoj3ctIdExample","anonymousId":null,'

-- One that a file of transforms/ takes, and one that falls to the default; each up to its last property.
local PREFIXES = {
  '{"type":"track","event":"API Call",' .. CONTEXT
    .. '"properties":{"endpoint":"/v1/complete","region":"eu-central-1","model":"large-2","status":200,"cached":false,'
    .. '"latency_ms":182.4,"labels":["batch","internal"],"output_tokens":356,"input_tokens":',
  '{"type":"track","event":"Order Paid",' .. CONTEXT
    .. '"properties":{"currency":"USD","coupon":null,"products":[{"product_id":"p1","price":19,"quantity":1},'
    .. '{"product_id":"p2","price":3.5,"quantity":2}],"shipping":4.9,"total":',
}

local now = ffi.new("segment_lotus_time")
local second, second_text = 0, ""

local function uuid4()
  return format("%04x%04x-%04x-4%03x-%04x-%04x%04x%04x", random(0, 65535), random(0, 65535), random(0, 65535),
    random(0, 4095), random(32768, 49151), random(0, 65535), random(0, 65535), random(0, 65535))
end

-- The end of a call's body.
local function tail(ids)
  ffi.C.gettimeofday(now, nil)
  local seconds, millis = tonumber(now.seconds), floor(tonumber(now.micros) / 1000)
  if seconds ~= second then
    second, second_text = seconds, os.date("!%Y-%m-%dT%H:%M:%S", seconds)
  end
  local id = uuid4()
  if ids == "node" then
    id = format("node-next-%d%03d-%s", seconds, millis, id)
  end
  return format('%d},"userId":"customer-%04d","timestamp":"%s.%03dZ","messageId":"%s"}', random(1, 4000),
    random(1, 1000), second_text, millis, id)
end

-- ------------------------------------------------------------------------------------------------------------- wrk

local threads = 0

function setup(thread)
  threads = threads + 1
  thread:set("number", threads)
end

function init(arguments)
  local secret, ids, seed = arguments[1], arguments[2], tonumber(arguments[3])
  math.randomseed(seed * 64 + (number or 0))
  local inner, outer = keyed(secret)
  local states, rests = {}, {}
  for index, prefix in ipairs(PREFIXES) do
    states[index], rests[index] = absorb(inner, prefix)
  end
  local next_prefix = 0

  local function signed()
    next_prefix = next_prefix % #PREFIXES + 1
    local ending = tail(ids)
    local h0, h1, h2, h3, h4 = finish(states[next_prefix], rests[next_prefix] .. ending)
    h0, h1, h2, h3, h4 = finish(outer, word(h0) .. word(h1) .. word(h2) .. word(h3) .. word(h4))
    local signature = tohex(h0) .. tohex(h1) .. tohex(h2) .. tohex(h3) .. tohex(h4)
    return signature, PREFIXES[next_prefix] .. ending
  end

  if arguments[4] then
    for _ = 1, tonumber(arguments[4]) do
      local signature, body = signed()
      print(signature .. " " .. body)
    end
    os.exit(0)
  end

  local head = "POST " .. wrk.path .. " HTTP/1.1\r\nuser-agent: Segment (Actions)\r\ncontent-type: application/json\r\n"
    .. "Accept: */*\r\nAccept-Encoding: gzip,deflate\r\nHost: " .. wrk.host .. ":" .. wrk.port
    .. "\r\nConnection: keep-alive\r\nx-signature: "

  function request()
    local signature, body = signed()
    return head .. signature .. "\r\nContent-Length: " .. #body .. "\r\n\r\n" .. body
  end
end

function done(summary, latency)
  local errors = summary.errors
  print(format('RESULT {"requests":%d,"seconds":%.6f,"refused":%d,"broken":%d,"p50_ms":%.3f,"p99_ms":%.3f,"max_ms":%.3f}',
    summary.requests, summary.duration / 1e6, errors.status, errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000, latency.max / 1000))
end
