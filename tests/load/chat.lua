-- Asks the gateway over and over, as events, and looks whether each answer ended as it should.
--
--   wrk -t2 -c64 -d10s --latency -s tests/load/chat.lua http://127.0.0.1:8080
--
-- wrk knows statuses and sockets. An answer that fails after its first byte has status 200 all the same, so the end of
-- each body is read here.

wrk.method = "POST"
wrk.path = "/chat"
wrk.headers["Content-Type"] = "application/json"
wrk.headers["Accept"] = "text/event-stream"
wrk.body = '{"question": "Hello"}'

local threads = {}

function setup(thread)
    table.insert(threads, thread)
end

function init()
    complete, other = 0, 0
end

function response(status, headers, body)
    local last = body:match("^.*\n\n(.-)\n\n$") or "" -- the whole block, since `usage` may be of any length
    if status == 200 and last:find('event: end\ndata: {"reason":"complete"', 1, true) == 1 then
        complete = complete + 1
    else
        other = other + 1
    end
end

function done(summary)
    local all, bad = 0, 0
    for _, thread in ipairs(threads) do
        all = all + thread:get("complete")
        bad = bad + thread:get("other")
    end
    local sockets = summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout
    print(string.format("Answers: %d complete, %d not, %d socket errors", all, bad, sockets))
end
