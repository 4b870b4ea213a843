"""Streams chats from any OpenAI-compatible server to browsers, over raw HTTP.

One stream, from top to bottom:

    request ──> admission ──> generation ──────────────> viewers
                              one task owns:             each is a cursor
                              attempt (upstream,         over one view of
                              splitter, decoder)         the stream's log
                              ─> log of entries

The rooms, from top to bottom. A room imports only from itself and from the rooms below it. Each adapter package is
imported by one module only. `tests/test_architecture.py` checks both rules.

    cli  commands/   the commands for a person: serve, check, usage, key
    serve  app  door wiring: the process, its sockets, the routes           demo/  an upstream to try it with
    handlers/        HTTP in, HTTP out: a module per surface, middleware, sinks (aiohttp-sse), origins, negotiation
    streams/         registry, held, life, room; generation, account, watchdog; viewer, frames, tickets, idempotency
    admission/       admit, fields, auth, addresses; limits, memory_limiter (limits), tokens, bodies, descriptors
    upstream/        client (aiohttp's), tap and chunked (reads), routing, catalogue, redaction; dialects/ by shape
    log/             entries that are kept or passed on: base, memory, window; views and snapshots of them
    observe/         records, formatters, the writer of the log, sums over it
    config/          schema, rules, load
    sse/  entries  errors  bounds  the core: standard library only; no event loop, clock or environment

To change:

    the form of a provider's stream          one file in upstream/dialects/ and its rows in the test table
    the form of an entry for clients         one view in log/views.py
    the storage of streams                   one file in log/; one test suite runs over all of them
    the target of a model                    upstream/routing.py
    a limit                                  admission/limits.py, its order in admission/admit.py, its field in config/
    a field of a request                     admission/fields.py, and admission/admit.py for its use
    an endpoint                              handlers/ and its row in app.py
    an error                                 one class in errors.py: status, code, message
    a wait for others, a queue               bounds.py
    an option                                config/schema.py and config.example.toml, which a test loads
    the version of aiohttp                   tests/test_private_names.py says who relies on what of its inside

Words: *downstream* is the client side, *upstream* the provider side, a *target* an upstream plus a model name, an
*attempt* one request to one target, a *generation* the production of one answer, a *stream* its recorded *entries*, a
*view* their form for one kind of client, a *viewer* one client that follows, a *frame* the bytes of one entry in one
view, a *dialect* the wire format of a provider, a *heartbeat* a comment line that keeps a silent connection open.
"""

__version__ = "0.1.0"
