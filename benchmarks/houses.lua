-- Houses differ from request to request. BATCH houses a request; the requests are made before the clock starts.
local size = tonumber(os.getenv("BATCH") or "1")
local requests, place = {}, 0
local function house(number)
  return string.format('{"square_feet": %d, "bedrooms": %d, "bathrooms": %.2f, "age_years": %d, "distance_to_city": %.1f}',
    600 + number % 5000, number % 6, 1 + (number % 9) / 4, number % 90, (number % 300) / 10)
end
function init(args)
  local headers = {["Content-Type"] = "application/json"}
  local count = size == 1 and 20000 or 20
  math.randomseed(os.time())
  local first = math.random(1, 1000000)
  for number = 1, count do
    local body
    if size == 1 then
      body = house(first + number)
    else
      local houses = {}
      for row = 1, size do houses[row] = house(first + number * size + row) end
      body = '{"houses": [' .. table.concat(houses, ", ") .. ']}'
    end
    local path = size == 1 and "/predict" or "/predict/batch"
    requests[number] = wrk.format("POST", path, headers, body)
  end
end
function request()
  place = place % #requests + 1
  return requests[place]
end
function done(summary, latency)
  local errors = summary.errors
  io.write(string.format('RESULT {"requests": %d, "seconds": %f, "p50": %f, "p99": %f, "bad_status": %d, "broken": %d}\n',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.status, errors.connect + errors.read + errors.write + errors.timeout))
end
