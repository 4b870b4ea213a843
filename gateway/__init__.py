"""Streams chats from any OpenAI-compatible server to browsers, over raw HTTP.

One stream, from top to bottom:

    request ──> admission ──> generation ──────────────> viewers
                              one task owns:             each is a cursor
                              attempt (upstream,         over one view of
                              splitter, decoder)         the stream's log
                              ─> log of entries

The floors. A module imports from its own floor and from those below it, never upwards; `tests/test_architecture.py`
holds them to it. One module imports each adapter package: aiohttp's client, aiohttp-sse, dotenv, uvloop.

    5  edge       cli  usage  probe  announcement  __main__
    4  wiring     serve  app -> handlers (HTTP in, HTTP out)      demo (an upstream to try it with)
    3  use case   admission  streams (what is held)  stream  idempotency  generation (attempt, policy, record)  viewers
                  catalogue (what upstreams say of their models)
    2  adapters   upstream (the only aiohttp client)  downstream (the only aiohttp-sse)  limiter (the only limits)
                  streamlog.memory (kept)  streamlog.window (passed on)  logwriter  standard_streams  door
    1  policy     config  auth  origins  addresses  fields  routing  limits  negotiation  views  completion  dialects
                  tool_calls  tokens  redaction  unreachable  codings  shapes  surrogates  streamlog.base  observe
                  account  watchdog  descriptors
    0  core       errors  entries  sse.event  sse.splitter  sse.parser    (stdlib only; no asyncio, clock, environment)

Words: *downstream* is the client side, *upstream* the provider side, a *target* an upstream plus a model name, an
*attempt* one request to one target, a *generation* one answer being produced, a *stream* its recorded *entries*, a
*view* what one kind of client sees of them, a *viewer* one client that follows, a *frame* the bytes of one entry in one
view, a *dialect* a provider's wire shape, a *heartbeat* a comment line that keeps a silent connection open.
"""

__version__ = "0.1.0"
