-- The load of one slice, for wrk: the bodies of a file in their order, from a given one on.
local bodies = {}
for line in io.lines(os.getenv("LOAD_BODIES")) do bodies[#bodies + 1] = line end
local position = tonumber(os.getenv("LOAD_OFFSET"))
local threads = {}

for name, value in string.gmatch(os.getenv("LOAD_HEADERS"), "([^:\n]+): ([^\n]+)") do
  wrk.headers[name] = value
end
wrk.method = "POST"
failed = 0
example = ""

function setup(thread) threads[#threads + 1] = thread end

function request()
  local body = bodies[position % #bodies + 1]
  position = position + 1
  return wrk.format(nil, nil, nil, body)
end

function response(status, _, body)
  if status ~= 200 or body:find('"errors":', 1, true) then
    failed = failed + 1
    if example == "" then example = body:sub(1, 300) end
  end
end

function done(summary, latency)
  for _, thread in ipairs(threads) do
    local count = thread:get("failed")
    if count > 0 then io.write("EXAMPLE ", thread:get("example"):gsub("\n", " "), "\n") end
    summary.errors.answers = (summary.errors.answers or 0) + count
  end
  local e = summary.errors
  io.write(string.format("RESULT %d %d %d %d %d %d\n", summary.requests,
    (e.answers or 0) + e.connect + e.read + e.write + e.timeout, summary.duration, summary.bytes,
    latency:percentile(50), latency:percentile(99)))
end
