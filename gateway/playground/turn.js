// One question and its answer in the page. Events come in by `take`; takes.js says what each of them does.

import { DROPPED, fromError } from './advice.js'
import { element } from './element.js'
import { Extra } from './extra.js'
import { inline } from './inline.js'
import { markdown } from './markdown.js'
import { Measures, seconds, summary, table, waiting } from './measures.js'
import { STATES, attempted } from './states.js'
import { TAKES } from './takes.js'

export class Turn {
  /** `notify(turn)` is called when the state has changed, `grown()` when there is more to see. */
  constructor(question, { notify, grown, again }) {
    Object.assign(this, { question, notify, grown })
    this.root = document.querySelector('#turn').content.cloneNode(true).firstElementChild
    this.part('.question').textContent = question
    this.part('.failure button').addEventListener('click', () => again(this, this.failure))
    this.part('.pictures').addEventListener('load', grown, { capture: true })
    this.part('.measures').addEventListener('toggle', (event) => event.target.scrollIntoView({ block: 'nearest' }))
  }

  part(selector) {
    return this.root.querySelector(selector)
  }

  // The life of a turn, in this order

  /** With an `address`, the answer is under way already. With `watching`, it was asked for in another tab. */
  begin({ model, way, address = null, watching = false }) {
    Object.assign(this, { model, way, address, watching })
    Object.assign(this, { text: '', refusal: '', calls: [], fragments: [], thought: 0 })
    Object.assign(this, { state: null, started: false, failure: null, end: null })
    this.measures = new Measures()
    this.measures.late = address !== null
    this.pending = this.rested = 0
    this.before = null // the state when the connection was lost
    for (const name of ['.prose', '.thoughts', '.calls', '.refusal p']) this.part(name).replaceChildren()
    for (const name of ['.reasoning', '.calls', '.refusal', '.failure']) this.part(name).hidden = true
    this.part('.who').replaceChildren(model || 'Answer')
    if (watching) this.remark('asked in another tab')
    this.extra = new Extra(this.part('.pictures'), this.part('.extra'))
    this.show = markdown(this.part('.prose'))
    this.timer = setInterval(() => this.measure(), 250)
    this.enter('connecting')
  }

  take(event) {
    TAKES[event.type]?.call(this, event.data, event)
  }

  /** For an answer that this page leaves without an `end`. */
  stop() {
    if (!this.end) this.settle('stopped', this.started ? 'Stopped here, out of touch with the gateway' : 'Stopped')
  }

  lose(error) {
    if (this.end) return // nothing is missing
    if (!this.failure) this.fail(fromError(error, this))
    this.settle('failed', error.status && !this.started ? 'Refused' : 'Connection lost')
  }

  /** For a question without any event before the page was reloaded. */
  drop({ model, way, watching }) {
    this.begin({ model, way, watching })
    this.fail(DROPPED)
    this.settle('failed', 'Not asked')
  }

  // How it looks

  /** Adds a few words behind the name of the model. */
  remark(words) {
    this.part('.who').append(' ', element('span', {}, words))
  }

  get running() {
    return this.state in STATES
  }

  /** The answer as later questions repeat it to the model: whole, or empty. Tool calls lack their results. */
  get said() {
    return this.end?.reason === 'complete' && !this.failure && !this.calls.length ? this.text || this.refusal : ''
  }

  /** Did the answer end well, but without anything to show? */
  get isEmpty() {
    const { text, refusal, calls, extra } = this
    const shows = text.trim() || refusal || calls.length || extra.shown.length
    return this.end?.reason === 'complete' && !this.failure && !shows
  }

  enter(state) {
    if (this.state === state) return
    this.state = state
    this.root.dataset.state = state
    this.label = STATES[state] ?? this.label
    this.part('.prose').setAttribute('aria-busy', String(this.running))
    this.measure()
    this.notify(this)
  }

  delta(state) {
    this.before = null
    this.measures.delta()
    this.enter(state)
  }

  /** The turn as plain values. For an answer that is under way, they say where to find it. */
  record() {
    const { question, model, way, address, watching } = this
    if (this.running) return { question, model, way, address, watching }
    const { state, label, text, refusal, fragments, thought, failure, end } = this
    const said = { text, refusal, fragments, thought, thoughts: this.part('.thoughts').textContent }
    const over = { state, label, failure, end, measures: this.measures.record(), ...said, extra: this.extra.record() }
    return { question, model, way, address: failure?.resumes ? address : null, watching, over }
  }

  /** Shows an answer that is over from its record. */
  recall({ model, way, address, watching, over }) {
    const { notify } = this
    this.notify = () => {} // nothing has changed
    this.begin({ model, way, address, watching })
    const said = Object.entries({ reasoning: over.thoughts, message: over.text, refusal: over.refusal })
    for (const [type, data] of said) if (data) this.take({ type, data })
    for (const data of over.fragments) this.take({ type: 'tool_call', data })
    if (over.extra) this.extra.recall(over.extra)
    Object.assign(this, { thought: over.thought, end: over.end, measures: Measures.recall(over.measures) })
    if (over.failure) this.fail(over.failure)
    this.settle(over.state, over.label)
    this.notify = notify
  }

  /** Draws in the next frame. A long answer is drawn less often: drawing takes at most a quarter of the time. */
  grow() {
    this.pending ||= requestAnimationFrame((now) => {
      this.pending = 0
      if (now < this.rested) return this.grow()
      this.draw(true)
      this.rested = performance.now() + 3 * (performance.now() - now)
    })
  }

  draw(open) {
    this.show(this.text, { open })
    this.grown()
  }

  fail(failure) {
    this.failure = failure
    const box = this.part('.failure')
    for (const [part, words] of [['strong', failure.message], ['p', failure.advice]]) {
      box.querySelector(part).replaceChildren()
      box.querySelector(part).hidden = !words
      inline(box.querySelector(part), words, { linked: true }) // no links: the upstream may have sent them
    }
    box.querySelector('span').textContent = failure.code ?? ''
    const again = failure.other ? `Ask with ${failure.other}` : 'Ask again'
    box.querySelector('button').textContent = failure.button ?? (failure.resumes ? 'Go on' : again)
    box.querySelector('button').hidden = !failure.again
    box.hidden = false
  }

  settle(state, label) {
    clearInterval(this.timer)
    cancelAnimationFrame(this.pending)
    this.draw(false)
    if (attempted(this.end ?? {})) this.remark(attempted(this.end))
    if (this.isEmpty) this.part('.prose').append(element('p', { class: 'nothing' }, 'The model sent no text.'))
    this.part('.measures dl').replaceChildren(...pairs(table(this.measures, this.end, this)))
    this.label = label
    this.enter(state)
    this.grown() // what is told of the answer may take several lines
  }

  measure() {
    const before = this.running ? waiting(this.measures) : []
    const after = this.running || this.said ? [] : ['not part of the conversation']
    const parts = [...before, ...summary(this.measures, this.end), ...after]
    const state = element('span', { class: 'dot' }, this.label)
    this.part('.measures summary').replaceChildren(state, ...parts.map((part) => element('span', {}, part)))
    const thoughts = this.part('.reasoning summary')
    const thought = this.thought < 0.05 ? 'Thoughts' : `Thought for ${seconds(this.thought)}`
    thoughts.textContent = this.state === 'thinking' ? 'Thinking…' : thought
  }
}

function pairs(rows) {
  return rows.map(([name, value]) => element('div', {}, element('dt', {}, name), element('dd', {}, value)))
}
