// What an answer took: times, speed and tokens, as words for people.

/** Notes when things happened. `now` gives milliseconds. */
export class Measures {
  constructor(now = () => performance.now()) {
    this.now = now
    this.sent = now()
    this.first = null // when the first delta came, of whatever kind
    this.last = null
    this.deltas = 0
    this.late = false // did it begin before it was watched? Then it was not seen when things happened
  }

  /** As plain values, and back: the clock stands still then. */
  record() {
    const { sent, first, last, deltas, late } = this
    return { whole: this.now() - sent, first: first && first - sent, last: last && last - sent, deltas, late }
  }

  static recall({ whole, ...noted }) {
    return Object.assign(new Measures(() => whole), noted, { sent: 0 })
  }

  delta() {
    this.hear()
    this.deltas += 1
  }

  /** Something came that is no piece of text. */
  hear() {
    this.last = this.now()
    this.first ??= this.last
  }

  /** Until the first token; null where that is not known. */
  get latency() {
    return this.first === null || this.late ? null : this.waited
  }

  get waited() {
    return ((this.first ?? this.now()) - this.sent) / 1000
  }

  get silent() {
    return (this.now() - (this.last ?? this.sent)) / 1000
  }

  /** Per second, between the first and the last: what lies before the first is time to first token. */
  speed(count) {
    const seconds = (this.last - this.first) / 1000
    return !this.late && count > 1 && seconds > 0.05 ? (count - 1) / seconds : null
  }
}

/** What there is to say while nothing comes. */
export function waiting(measures) {
  if (measures.first === null) return [seconds(measures.waited)]
  return measures.silent > 2 ? [`silent for ${measures.silent.toFixed(0)} s`] : []
}

/** One line: the parts of it that are known. */
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

/** All of it, as pairs of a name and a value. */
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
