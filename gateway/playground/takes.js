// What each type of event does to a turn, which is `this` in each function.

import { UNWATCHED, changed, fromEvent } from './advice.js'
import { element } from './element.js'
import { ended, finalState } from './states.js'

export const TAKES = {
  open() {
    if (this.before) this.enter(this.before)
    this.before = null
  },

  start() {
    this.started = true
    this.enter('waiting')
  },

  message(data) {
    this.delta('answering')
    this.text += data
    this.grow()
  },

  reasoning(data) {
    this.delta('thinking')
    this.thought = (this.measures.last - this.measures.first) / 1000
    this.part('.reasoning').hidden = false
    this.part('.thoughts').append(data)
    this.grown()
  },

  refusal(data) {
    this.delta('answering')
    this.refusal += data
    this.part('.refusal').hidden = false
    this.part('.refusal p').append(data)
    this.grown()
  },

  tool_call(data) {
    this.delta('answering')
    const fragment = JSON.parse(data)
    this.fragments.push(data)
    const place = fragment.index ?? (fragment.id ? this.calls.length : this.calls.length - 1) // some send no index
    this.calls[place] ??= callIn(this.part('.calls'))
    this.calls[place].name.append(fragment.function?.name ?? '')
    this.calls[place].arguments.append(fragment.function?.arguments ?? '')
    this.part('.calls').hidden = false
    this.grown()
  },

  extra(data) {
    const state = this.extra.take(data)
    if (state) this.measures.hear()
    if (state && this.state !== 'answering') this.enter(state)
    this.grown()
  },

  failure(data) {
    this.fail(fromEvent(JSON.parse(data)))
  },

  end(data) {
    this.end = JSON.parse(data)
    if (this.end.reason === 'client_gone' && !this.failure) this.fail(UNWATCHED)
    this.settle(finalState(this.end, this.failure), ended(this.end))
  },

  changed(data, { error }) {
    this.fail(changed(error, this.failure))
    this.label = 'Changed on the way'
    this.enter('failed')
    this.measure()
    this.grown()
  },

  reconnecting(data, { error }) {
    this.before ??= this.state
    this.enter(this.started ? 'reconnecting' : error.code ? 'busy' : 'unreachable')
  },
}

function callIn(list) {
  const call = { name: element('b'), arguments: element('code') }
  list.append(element('li', {}, call.name, call.arguments))
  return call
}
