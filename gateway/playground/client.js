// How a page talks to the gateway, in the two ways that a browser has. Copy what you need.
//
// Both hand every event to `on` as {type, data, lastEventId}; an EventSource adds `reconnecting` to the types below.
// Both return a promise: it is kept when `end` has come, and broken when the gateway refuses or the connection is lost.
// Aborting `signal` stops the answer: the connection closes, and the gateway lets the model go.

import { events } from './events.js'

const TYPES = ['start', 'message', 'reasoning', 'refusal', 'tool_call', 'failure', 'end']

/** GET /chat: one question, as {q, model, assistant, reasoning}. A lost connection is the browser's to bring back. */
export function askWithEventSource(fields, on, signal) {
  return new Promise((resolve, reject) => {
    const source = new EventSource(`/chat?${new URLSearchParams(fields)}`)
    const close = (settle, value) => { source.close(); settle(value) }
    for (const type of TYPES) source.addEventListener(type, on)
    source.addEventListener('end', () => close(resolve)) // else the browser would reconnect, even after a clean end
    source.addEventListener('error', () => {
      if (source.readyState === EventSource.CONNECTING) on({ type: 'reconnecting' })
      else close(reject, new Error('The gateway refused, and an EventSource cannot read why.'))
    })
    signal?.addEventListener('abort', () => close(reject, signal.reason))
  })
}

/** POST /chat: {question} or {messages}, and any parameter. What the gateway refuses is an error that says why. */
export async function askWithFetch(fields, on, signal) {
  const response = await fetch('/chat', {
    method: 'POST',
    headers: { 'Content-Type': 'application/json', Accept: 'text/event-stream' },
    body: JSON.stringify(fields),
    signal,
  })
  if (!response.ok) {
    const { error } = await response.json().catch(() => ({})) // a proxy on the way may answer with a page of its own
    const message = error?.message ?? 'The answer comes from something on the way, not from the gateway.'
    throw Object.assign(new Error(message), { code: error?.code, status: response.status })
  }
  let ended = false
  for await (const event of events(response.body)) {
    on(event)
    ended ||= event.type === 'end'
  }
  if (!ended) throw new Error('The connection ended before the answer did.')
}
