-- Sends the request bodies of a file in turn; each of wrk's threads starts at another line.

local threads = 0

function setup(thread)
    thread:set("at", threads * 7919)
    threads = threads + 1
end

function init()
    wrk.headers["Content-Type"] = "application/json"
    wrk.headers["Authorization"] = "Bearer " .. os.getenv("BENCH_TOKEN")
    requests = {}
    for line in io.lines(os.getenv("BENCH_BODIES")) do
        requests[#requests + 1] = wrk.format("POST", "/graphql", nil, line)
    end
end

function request()
    at = at + 1
    return requests[at % #requests + 1]
end

function done(summary, latency)
    local errors = summary.errors
    io.write(string.format("RESULT %d %d %d %d %d\n", summary.requests, summary.duration,
        latency:percentile(50), latency:percentile(99),
        errors.connect + errors.read + errors.write + errors.timeout + errors.status))
end
