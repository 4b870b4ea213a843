// The states of an answer and its ends, in words for people.

/** The states of an answer that is under way. */
export const STATES = {
  connecting: 'Connecting…',
  waiting: 'Waiting for the first token…',
  thinking: 'Thinking…',
  answering: 'Answering…',
  reconnecting: 'Connection lost, trying again…',
  unreachable: 'The gateway cannot be reached, trying again…',
  busy: 'The gateway is busy, trying again…',
}

const ENDS = {
  complete: 'Complete',
  stopped: 'Stopped',
  client_gone: 'Ended',
  timeout: 'Timed out',
  upstream_error: 'Failed',
  incomplete: 'Incomplete',
  shutting_down: 'Ended by a restart',
}

const FINISHES = {
  length: 'Cut at the token limit',
  content_filter: 'Cut by a content filter',
  tool_calls: 'Complete: it calls tools',
}

const CUT = ['length', 'content_filter'] // finish reasons

/** The state of an answer that is over, from the data of its `end`. `cut` means that the rest is missing. */
export function finalState({ reason, finish_reason }, failure) {
  if (failure) return 'failed'
  if (reason === 'stopped') return 'stopped'
  return reason === 'complete' && CUT.includes(finish_reason) ? 'cut' : 'complete'
}

/** How the answer came about, if it took more than one attempt, from the data of an `end`; else an empty text. */
export function attempted({ reason, model, attempts }) {
  if (!(attempts > 1)) return ''
  return reason === 'complete' && model ? `answered by ${model} in ${attempts} attempts` : `${attempts} attempts`
}

/** The words for it, from the data of an `end`. */
export function ended({ reason, finish_reason }) {
  return reason === 'complete' ? FINISHES[finish_reason] ?? ENDS.complete : ENDS[reason] ?? reason
}
