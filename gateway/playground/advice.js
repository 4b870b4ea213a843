// What a person can do about a failure: the gateway's own message says what happened, this says what next.

const ADVICE = {
  // The request
  model_not_found: 'Choose another model below.',
  assistant_not_found: 'Choose another assistant below.',
  model_missing: 'Write the name of a model into the field below.',
  origin_not_allowed: 'Open this page at the address that the gateway is known by (`public_url`).',
  body_too_large: 'The conversation has grown too long to send: start a new one.',
  query_too_long: 'Ask with fetch: it sends the question in a body, where there is room.',
  // The model's server
  upstream_unreachable: 'Is it running, and is its `base_url` right? `gateway check` shows what is configured.',
  upstream_misconfigured: 'Look at the key and the `base_url`; `gateway check` shows what is configured.',
  upstream_rate_limited: 'Wait a little before you ask again, or choose another model.',
  upstream_rejected: 'The same question would be rejected again: change it, or choose another model.',
  upstream_incomplete: 'What is above is only a part of the answer: ask again for the whole.',
  upstream_empty: 'Ask again, or choose another model.',
  // Time and size
  connect_timeout: 'Is it running? The time that is allowed is `timeouts.connect`.',
  first_token_timeout: 'The time that is allowed is `timeouts.first_token`.',
  idle_timeout: 'What is above is only a part of the answer. The silence that is allowed is `timeouts.idle`.',
  total_timeout: 'The time that is allowed is `timeouts.total`.',
  answer_too_large: 'The limit is `stream.max_bytes`.',
  event_too_large: 'The limit is `stream.max_event_bytes`.',
  // The gateway
  busy: 'Wait a few seconds, then ask again.',
  shutting_down: 'Wait a few seconds, then ask again.',
  internal_error: 'Look for this stream in the gateway’s log; its id is among the details below.',
}

/** From a `failure` event: {message, advice, code, again}, where `again` says that asking once more may work. */
export function fromEvent({ error, retryable }) {
  const otherwise = retryable ? 'Asking again may work.' : 'Asking the same again will not help.'
  return { message: error.message, advice: ADVICE[error.code] ?? otherwise, code: error.code, again: retryable }
}

/** From what `client.js` throws. `started`: had the gateway taken the question on? */
export function fromError(error, { way, started }) {
  if (error.status) return refused(error)
  if (started) return { message: 'The connection was lost in the middle of the answer.', advice: LOST, again: true }
  if (way === 'EventSource') return { message: error.message, advice: UNREADABLE, again: true, other: 'fetch' }
  return { message: 'The gateway cannot be reached.', advice: 'Is it still running?', again: true }
}

const LOST = 'What is above is a part of it. Ask again; the model then answers anew.'
const UNREADABLE =
  'Most likely the question is too long for an address (8 KiB), or there is no such model. Fetch can read the reason.'

function refused({ message, code, status }) {
  const otherwise = status >= 500 ? 'Asking again may work.' : 'The same question would be refused again.'
  return { message, advice: ADVICE[code] ?? otherwise, code: `${status} ${code ?? ''}`.trim(), again: status >= 429 }
}
