// Advice for a person about a failure: the gateway's own message says what happened, the advice says what to do next.
//
// The advice is empty where the message has said that already.

const ADVICE = {
  // The request
  model_not_found: 'Choose another model below.',
  assistant_not_found: 'Choose another assistant below.',
  model_missing: 'Write the name of a model into the field below.',
  origin_not_allowed: 'Open this page at the address that the gateway is known by (`public_url`).',
  body_too_large: 'The conversation has grown too long to send: start a new one.',
  query_too_long: 'Ask with fetch: it sends the question in a body, where there is room.',
  invalid_api_key: 'Write one into the field below.',
  rate_limit_exceeded: 'Wait a little before you ask again.',
  too_many_streams: 'The other answers may be in other tabs.',
  budget_reserved: 'The other answers may be in other tabs.',
  insufficient_quota: 'A shorter question or another model may cost less.',
  body_timeout: '',
  content_coding_not_supported: 'This page does not compress what it sends; a proxy on the way may do so.',
  two_api_keys: 'This page sends its key as `Authorization`; a proxy on the way may add `x-api-key`.',
  // The model's server
  upstream_unreachable: 'Is it running, and is its `base_url` right? `gateway check` shows what is configured.',
  upstream_tls: '`gateway check --connect` says whether a change of the configuration has helped.',
  upstream_misconfigured: 'Look at the key and the `base_url`; `gateway check` shows what is configured.',
  upstream_rate_limited: 'Wait a little before you ask again, or choose another model.',
  upstream_rejected: 'The same question would be rejected again: change it, or choose another model.',
  upstream_incomplete: 'What is above is only a part of the answer.',
  upstream_empty: 'If that happens again, choose another model.',
  // Time and size
  connect_timeout: 'Is it running? The time that is allowed is `timeouts.connect`.',
  first_token_timeout: 'The time that is allowed is `timeouts.first_token`.',
  idle_timeout: 'What is above is only a part of the answer. The silence that is allowed is `timeouts.idle`.',
  total_timeout: 'The time that is allowed is `timeouts.total`.',
  answer_too_large: 'One answer may take `stream.max_bytes`, and all running ones twice `store.max_bytes`.',
  event_too_large: 'The limit is `stream.max_event_bytes`.',
  // The gateway
  busy: '',
  too_many_running: 'The limit is `server.max_running`.',
  out_of_descriptors: '',
  shutting_down: '',
  internal_error: 'Look for this stream in the gateway’s log; its id is among the details below.',
}

/** From a `failure` event: {message, advice, code, again}. `again` says that asking again may work. */
export function fromEvent({ error, retryable }) {
  const otherwise = retryable ? 'Asking again may work.' : 'Asking the same again will not help.'
  return { message: error.message, advice: ADVICE[error.code] ?? otherwise, code: error.code, again: retryable }
}

/**
 * From an error that client.js throws. A turn has an `address` if the gateway has accepted the question. `resumes` says
 * that the rest of the answer may still be there.
 */
export function fromError(error, { address, way }) {
  const code = [error.status, error.code].filter(Boolean).join(' ')
  if (error.code === 'stream_not_found') return { ...FORGOTTEN, code }
  if (address && error.status < 500) return { message: error.message, advice: PART, code, again: true }
  if (address) return { ...LOST, code }
  if (error.status) return { ...refused(error, way), code }
  return { message: 'The gateway cannot be reached.', advice: 'Is it still running?', again: true }
}

const PART = 'What is above is a part of it. Ask again; the model then answers anew.'

const SPOILT = 'Something between the gateway and this page did that, and `gateway doctor` helps to find it. '
  + 'The answer can be had again without asking the model.'

const FORGOTTEN = {
  message: 'The gateway no longer has this answer.',
  advice: `It was restarted, or that was too long ago. ${PART}`,
  again: true,
}

const LOST = {
  message: 'The connection was lost in the middle of the answer.',
  advice: 'What is above is a part of it. If the gateway still has the rest, it can be had without asking again.',
  again: true,
  resumes: true,
}

/** For a text that is not the one that the gateway sent. The answer may have failed, too. */
export function changed({ message }, failure) {
  const also = failure ? ` The answer had failed, too: ${failure.message}` : ''
  return { message, advice: SPOILT + also, code: failure?.code, again: true, resumes: true, button: 'Get it again' }
}

/** For an answer that the gateway ended while the connection was lost. */
export const UNWATCHED = {
  message: 'The answer was ended, since nobody had watched it for a while.',
  advice: PART,
  again: true,
}

/** For a page that was reloaded before the gateway had accepted the question. */
export const DROPPED = {
  message: 'The page was reloaded before the gateway had answered.',
  advice: 'Ask again.',
  again: true,
}

function refused({ message, code, status }, way) {
  const otherwise = status >= 500 ? 'Asking again may work.' : 'The same question would be refused again.'
  const other = way === 'EventSource' && TOO_LONG.has(status) ? 'fetch' : null
  return { message, advice: ADVICE[code] ?? otherwise, again: status >= 429 || other !== null, other }
}

const TOO_LONG = new Set([414, 431]) // statuses for a long address; a body may be longer
