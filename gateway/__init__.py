"""Streams chats from any OpenAI-compatible server to browsers, over raw HTTP.

One stream, from top to bottom:

    request ──> admission ──> generation ──────────────> viewers
                              one task owns:             each is a cursor
                              attempts (each: target,    over one view of
                              splitter, decoder)         the stream's log
                              ─> log of entries

The rooms, from top to bottom. A room imports only from itself and from the rooms below it. Each adapter package is
imported by one module or one room only. `tests/test_architecture.py` checks both rules.

    cli  commands/   the commands for a person: serve, check, doctor, usage, key, demo-upstream
    serve  app  door wiring: the process, its sockets, the routes           demo/  an upstream to try it with
    workers/         several such processes, under gunicorn
    port             where the sockets come from: port, shared_port (with neighbours), takeover (of a neighbour's port)
    notify           messages to systemd about the process
    handlers/        HTTP in, HTTP out: a module per surface, middleware, sinks (aiohttp-sse), origins, negotiation
    handover/        other processes on this machine: folder, neighbours, offers
    streams/         registry (recorder), held, retention (shedding), unwatched (life), tickets, idempotency, epoch;
                     viewer, frames; generation, attempts (dependencies, hedging, surfaces, bill), failures,
                     attempt, response_body, watchdog, outcome; sharing: elsewhere (lookout, followed, losses),
                     presence, claims; resumed, upstream_places
    messages/        Anthropic's Messages API over chats: request (conversation), events and message (head,
                     blocks), errors
    responses/       OpenAI's Responses API over chats: request (items), head, events (output, ends); places, of
                     responses that upstreams make themselves
    admission/       admit, admit_v1, fields, translating, auth, addresses; limits, refusals, memory_limiter (limits),
                     redis_limiter (redis_reservation; through limit_line, by limit_commands and limit_replies);
                     budgets, periods, spending, owed; tokens, body_room, descriptors
    upstream/        client/ (aiohttp's: posting, response, connections, translation), payload, tap and chunked (reads);
                     routing (decides), targets, breaker (their states); catalogue, redaction, tls; dialects/ by shape
    shared/          what processes share through Redis: connection (redis-py), publisher (progress,
                     meta_commands), reader, process, their forms
    log/             entries that are kept or passed on: base, memory, window; their views, snapshots and receipts
    observe/         records, formatters, the writer of the log, the report over it; metrics/, lag; spans, traces
    config/          schema, rules, load
    sse/  endpoints  entries  errors  bounds    the core: standard library only; no event loop, clock or environment

To change:

    the form of a provider's stream          upstream/dialects/: chunks (fields), extras and halves (texts), openai;
                                             and its rows in the test table; texts, values and responses for other
                                             endpoints
    what Anthropic's server is asked         upstream/dialects/anthropic/: request, conversation, thinking;
                                             what it sends: answer
    the form of an entry for clients         one view in log/views.py
    the storage of streams                   one file in log/ (the log of a stream, not of the process), by the ports in
                                             log/base.py; one test suite runs over all; streams/retention.py
    the choice of a target                   upstream/routing.py
    what follows a failure                   upstream/routing.py, by the `recovery` of the error in errors.py
    when a target is left alone              upstream/breaker.py
    a limit                                  admission/limits.py, its order in admission/admit.py, its field in config/;
                                             both limiters count it: memory_limiter.py, and limit_commands.py for Redis
    what an answer may cost                  admission/budgets.py; streams/bill.py for several attempts at it
    the bound of a request's body            handlers/reading.py; its default is in config/schema.py
    a field of a request                     admission/fields.py, and admission/admit.py or admit_v1.py for its use
    what a response shows of an answer       responses/events.py, for SDKs that speak the Responses API
    what a message shows of an answer        messages/blocks.py, for SDKs that speak Anthropic's API
    what waits for a tool call               upstream/dialects/turns.py, for both of these
    an endpoint                              handlers/ and its row in app.py; .github/docs/http.md; endpoints.py if it
                                             asks a model
    a command                                cli.py, and a module in commands/
    a metric                                 observe/metrics/ for counts, streams/gauges.py for the state at a scrape
    an error                                 one class in errors.py: status, code, message
    a wait for others, a queue               bounds.py
    a span                                   observe/traces.py, and observe/spans.py for what it is told
    the parent of several workers            workers/parent.py
    an option                                config/schema.py and config.example.toml, which a test loads
    the version of aiohttp                   tests/test_private_names.py says who relies on what of its inside

Words: *downstream* is the client side, *upstream* the provider side, a *target* an upstream plus a model name, an
*attempt* one request to one target, a *hedge* a second attempt beside a silent one, a *breaker* the state that leaves a
failing target alone, a *payload* the body of a request, a *surface* one of the APIs, an *endpoint* a path at which
a model is asked, a *generation* the production of one answer, a *stream* its recorded *entries*, a *view* their form
for one kind of client, a *viewer* one client that follows, a *frame* the bytes of one entry in one view, a *dialect*
the wire format of a provider, a *heartbeat* a comment line that keeps a silent connection open.
"""

__version__ = "0.1.0"
