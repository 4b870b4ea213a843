// How a page talks to the gateway, in the two ways that a browser has. Copy what you need.
//
// Every event goes to `on(event, address)` as {type, data, lastEventId}. Three types are not in the stream: `open` says
// that there is a connection, `reconnecting` that it was lost and is tried again, and `changed`, after the `end`, that
// the text is not the one that the gateway sent; its `error` says how. From `start` on there is an address, which serves
// to watch the same answer elsewhere and to stop it for everyone.
// The promise resolves when `end` has come. It rejects when the gateway refuses, when it cannot be reached for about
// two minutes, or when `signal` is aborted. An abort does not stop the answer.
// If the connection is lost, no event is missing or repeated afterwards, and the model is asked only once.

import { events } from './events.js'
import { Receipt } from './receipt.js'

const TYPES = ['open', 'start', 'message', 'reasoning', 'refusal', 'tool_call', 'extra', 'failure', 'end']
const MOST_TRIES = 15 // in a row without an event

/** POST /chat: {question} or {messages}, and any parameter. */
export function askWithFetch(fields, on, { signal, headers } = {}) {
  const asking = posting(fields, headers)
  const connect = (address, take, over) => read(address ?? '/chat', take, over, address ? {} : asking)
  return follow(connect, on, signal, fields)
}

/** GET /chat: one question, as {q, model, assistant, format, reasoning}. */
export function askWithEventSource(fields, on, { signal } = {}) {
  const asking = `/chat?${new URLSearchParams({ ...fields, idempotency_key: newKey() })}`
  return follow((address, take, over) => hear(address ?? asking, take, over), on, signal, fields)
}

/** Follows an answer from its beginning: after a reload, in a second tab, or if a backend sent `POST /streams`. */
export function watch(address, on, { signal } = {}) {
  return follow(hear, on, signal, {}, address)
}

/** POST /streams: starts an answer, and returns its address for `watch`. `headers` may contain a key. */
export function start(fields, on, { signal, headers } = {}) {
  const asking = posting(fields, headers)
  return insist(async (over) => {
    const { id, ticket } = await (await accepted('/streams', { ...asking, signal: over })).json()
    return addressOf(id, ticket, fields)
  }, on, signal)
}

/** Stops the answer for everyone who watches it. Then comes an `end` with the reason `stopped`. */
export async function stop(address) {
  await accepted(address, { method: 'DELETE' })
}

// Reconnecting

/** `connect(address, take, over)` asks if there is no address yet; otherwise it requests the missing events. */
async function follow(connect, on, signal, view, address) {
  const receipt = new Receipt(address ? new URL(address, location).searchParams.get('format') : view.format)
  let last = '', ended = false
  const tell = (event) => {
    try { on(event, address) } catch (error) { reportError(error) } // an error of the page is no lost connection
  }
  await insist(async (over, alive) => {
    const take = (event) => {
      const { stream, ticket } = event.type === 'start' ? JSON.parse(event.data) : {}
      if (ticket) address = addressOf(stream, ticket, view)
      last = event.lastEventId || last
      ended ||= event.type === 'end'
      if (event.type !== 'open') alive()
      receipt.take(event)
      tell(event)
    }
    const hadAll = await connect(address && behind(last, address), take, over)
    if (!ended && !hadAll) throw new Error('The connection ended before the answer did.')
  }, (event) => on(event, address), signal)
  const fault = await receipt.fault()
  if (fault) tell({ type: 'changed', error: new Error(`The answer was changed on the way. ${fault}`) })
}

/** Repeats an attempt that had no connection, with growing waits. A refusal (4xx) is final. */
async function insist(attempt, on, signal) {
  for (let tries = 1; ; tries += 1) {
    const over = new AbortController()
    const cut = () => over.abort(new Error('The network has changed.')) // an old connection may die unnoticed
    addEventListener('online', cut, { signal: over.signal })
    signal?.addEventListener('abort', cut, { signal: over.signal })
    try {
      signal?.throwIfAborted()
      return await attempt(over.signal, () => { tries = 0 })
    } catch (error) {
      signal?.throwIfAborted()
      if (error.status < 500 || tries > MOST_TRIES) throw error
      on({ type: 'reconnecting', error })
    } finally {
      over.abort()
    }
    const most = Math.min(1000 * 2 ** (tries - 1), 10_000)
    await new Promise((resolve) => {
      setTimeout(resolve, most * (0.75 + Math.random() / 4)) // so that pages do not all return at once after a restart
      addEventListener('online', resolve, { once: true })
      signal?.addEventListener('abort', resolve, { once: true })
    })
  }
}

function addressOf(stream, ticket, { format = 'text', reasoning = 0 }) {
  return `/streams/${stream}?${new URLSearchParams({ ticket, format, reasoning })}`
}

function behind(last, address) {
  const url = new URL(address, location)
  if (last) url.searchParams.set('last_event_id', last)
  return url
}

/** A question that is sent again with the same key is asked only once. */
function newKey() {
  return btoa(String.fromCharCode(...crypto.getRandomValues(new Uint8Array(18))))
}

function posting(fields, headers) {
  const own = { 'Content-Type': 'application/json', 'Idempotency-Key': newKey() }
  return { method: 'POST', headers: { ...own, ...headers }, body: JSON.stringify(fields) }
}

// One connection

/** An EventSource gives up at any status but 200. Then a fetch follows, which can read the error. */
function hear(address, take, over) {
  return new Promise((resolve, reject) => {
    const source = new EventSource(address)
    const close = (settle, value) => { source.close(); settle(value) }
    for (const type of TYPES) source.addEventListener(type, take)
    source.addEventListener('end', () => close(resolve)) // else the browser would reconnect, even after a clean end
    source.addEventListener('error', () => {
      if (source.readyState === EventSource.CLOSED) resolve(read(address, take, over))
      else close(reject, new Error('The connection was lost.')) // otherwise the browser would try for ever
    })
    over.addEventListener('abort', () => close(reject, over.reason))
  })
}

async function read(address, take, over, request = {}) {
  const headers = { Accept: 'text/event-stream', ...request.headers }
  const response = await accepted(address, { ...request, headers, signal: over })
  if (response.status === 204) return true // the end came before
  take({ type: 'open' })
  for await (const event of events(response.body)) take(event)
}

async function accepted(address, request) {
  const response = await fetch(address, request)
  if (response.ok) return response
  const { error } = await response.json().catch(() => ({})) // a proxy may answer with a page of its own
  const message = error?.message ?? 'The answer comes from something on the way, not from the gateway.'
  throw Object.assign(new Error(message), { code: error?.code, status: response.status })
}
