// The times, the speed and the tokens of an answer, in words for people.

/** Records when things happened. `now` gives milliseconds. */
export class Measures {
  constructor(now = () => performance.now()) {
    this.now = now
    this.sent = now()
    this.first = null // when the first delta of any kind came
    this.last = null
    this.deltas = 0
    this.late = false // did the answer begin before this page watched it? Then its times are not known
  }

  /** The measures as plain values; `recall` reads them again. */
  record() {
    const { sent, first, last, deltas, late } = this
    return { whole: this.now() - sent, first: first && first - sent, last: last && last - sent, deltas, late }
  }

  /** The clock of these measures stands still. */
  static recall({ whole, ...noted }) {
    return Object.assign(new Measures(() => whole), noted, { sent: 0 })
  }

  delta() {
    this.hear()
    this.deltas += 1
  }

  /** For an event that is no piece of text. */
  hear() {
    this.last = this.now()
    this.first ??= this.last
  }

  /** The seconds until the first token, or null if they are not known. */
  get latency() {
    return this.first === null || this.late ? null : this.waited
  }

  get waited() {
    return ((this.first ?? this.now()) - this.sent) / 1000
  }

  get silent() {
    return (this.now() - (this.last ?? this.sent)) / 1000
  }

  /** The number of tokens per second, from the first to the last one, or null if it is not known. */
  speed(count) {
    const seconds = (this.last - this.first) / 1000
    return !this.late && count > 1 && seconds > 0.05 ? (count - 1) / seconds : null
  }
}

/** The words to show while nothing comes. */
export function waiting(measures) {
  if (measures.first === null) return [seconds(measures.waited)]
  return measures.silent > 2 ? [`silent for ${measures.silent.toFixed(0)} s`] : []
}

/** The known parts of the line that sums up an answer. */
export function summary(measures, end) {
  const { latency, deltas } = measures
  const tokens = end?.usage?.completion_tokens
  const speed = measures.speed(tokens ?? deltas)
  return [
    latency !== null && `first token ${seconds(latency)}`,
    speed && `${rate(speed)} ${tokens ? 'tokens' : 'deltas'}/s`,
    tokens && `${tokens} tokens`,
  ].filter(Boolean)
}

/** All that is known, as pairs of a name and a value. */
export function table(measures, end, { way, model }) {
  const { usage = null } = end ?? {}
  const speed = measures.speed(usage?.completion_tokens ?? measures.deltas)
  const pairs = {
    'Time to first token': measures.latency !== null && seconds(measures.latency),
    'Whole time': !measures.late && seconds((measures.now() - measures.sent) / 1000),
    [usage?.completion_tokens ? 'Tokens per second' : 'Deltas per second']: speed && rate(speed),
    'Deltas': String(measures.deltas),
    'Usage': usage ? tokens(usage) : 'not reported',
    'Finish reason': end?.finish_reason,
    'End reason': end?.reason,
    'Model': end?.model ?? model,
    'Asked with': way,
    'Attempts': end && String(end.attempts),
    'Skipped events': end?.skipped && String(end.skipped),
    'Stream': end?.stream,
  }
  return Object.entries(pairs).filter(([, value]) => value)
}

export function seconds(value) {
  return `${value.toFixed(value < 10 ? 2 : 1)} s`
}

function rate(value) {
  return value.toFixed(value < 10 ? 1 : 0)
}

function tokens(usage) {
  const reasoning = usage.completion_tokens_details?.reasoning_tokens
  const cached = usage.prompt_tokens_details?.cached_tokens
  return [
    `${usage.prompt_tokens ?? '?'} in`,
    cached && `${cached} of them cached`,
    `${usage.completion_tokens ?? '?'} out`,
    reasoning && `${reasoning} of them reasoning`,
  ].filter(Boolean).join(', ')
}
