-- For wrk: what a run came to, as one line of JSON. `wrk … -s report.lua URL -- PUT 4000000` sends so many bytes with each request.
function init(args)
  if args[1] then
    wrk.method = args[1]
    wrk.body = string.rep("x", tonumber(args[2]))
  end
end

function done(summary, latency)
  local errors = summary.errors
  local failed = errors.connect + errors.read + errors.write + errors.status + errors.timeout
  local micros = {}
  for i, share in ipairs({ 50, 75, 90, 99, 99.9, 99.99 }) do
    micros[i] = string.format("%d", latency:percentile(share))
  end
  micros[#micros + 1] = string.format("%d", latency.max)
  local form = '\n{"requests":%d,"failed":%d,"micros":%d,"bytes":%d,"latency":[%s]}\n'
  io.write(form:format(summary.requests, failed, summary.duration, summary.bytes, table.concat(micros, ",")))
end
