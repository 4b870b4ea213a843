// The turns of a conversation: asking, stopping, and returning to an answer after a reload or in another tab.

import { askWithEventSource, askWithFetch, start, stop, watch } from './client.js'
import { keepConversation } from './memory.js'
import { Turn } from './turn.js'

const STOP_SECONDS = 3 // to wait for the `end`; then this page goes on without it

export class Conversation {
  /**
   * `choose()` returns {way, whom, model, key} for the next question. `notify(turn)` is called when the state of a turn
   * has changed, and `grown()` when there is more to see.
   */
  constructor(list, { choose, notify, grown }) {
    Object.assign(this, { list, choose, grown, notify })
    this.turns = []
    this.running = null // the question that is being answered: {turn, leave, stopping}
  }

  add(question) {
    const again = (turn, failure) => this.again(turn, failure)
    const turn = new Turn(question, { notify: this.notify, grown: this.grown, again })
    this.turns.push(turn)
    this.list.append(turn.root)
    return turn
  }

  // Asking

  /** Asks the question of a turn. Answered turns before it are its history, except by GET, which has no room. */
  ask(turn, way = this.choose().way) {
    const { whom, model, key } = this.choose()
    const one = { ...whom, q: turn.question }
    const all = { ...whom, messages: this.messages(turn) }
    const headers = key ? { Authorization: `Bearer ${key}` } : {}
    return this.run(turn, { model, way }, async (on, { signal }) => {
      if (way === 'fetch') return askWithFetch(all, on, { signal, headers })
      if (!key) return askWithEventSource(one, on, { signal })
      return watch(await start(all, on, { signal, headers }), on, { signal }) // an EventSource cannot send a key
    })
  }

  /** Questions without an answer are left out. */
  messages(turn) {
    const earlier = this.turns.slice(0, this.turns.indexOf(turn)).filter(({ said }) => said)
    const exchanges = earlier.flatMap(({ question, said }) => [
      { role: 'user', content: question },
      { role: 'assistant', content: said },
    ])
    return [...exchanges, { role: 'user', content: turn.question }]
  }

  /** For the button of a failure. */
  again(turn, { other, resumes }) {
    if (this.running) return
    if (resumes) this.comeBack(turn, turn)
    else this.ask(turn, other ?? undefined)
  }

  comeBack(turn, { model, way, address, watching }) {
    return this.run(turn, { model, way, address, watching }, (on, { signal }) => watch(address, on, { signal }))
  }

  async run(turn, asked, talk) {
    const leaving = new AbortController()
    this.running = { turn, leave: () => leaving.abort(), stopping: false }
    turn.begin(asked)
    this.keep()
    const take = (event, address) => {
      const isNew = address !== undefined && turn.address !== address
      if (isNew) turn.address = address
      turn.take(event)
      if (!isNew) return
      this.keep()
      this.notify(turn)
    }
    try {
      await talk(take, { signal: leaving.signal })
    } catch (error) {
      if (leaving.signal.aborted) turn.stop()
      else turn.lose(error)
    } finally {
      if (this.running?.turn === turn) this.running = null
      this.keep()
      this.notify(turn)
    }
  }

  // Stopping

  /** Stops the answer for everyone. The second time, or if the gateway cannot be told, this page only leaves it. */
  async stop() {
    const { running } = this
    if (!running) return
    if (running.stopping || !running.turn.address) return running.leave()
    running.stopping = true
    setTimeout(running.leave, STOP_SECONDS * 1000)
    await stop(running.turn.address).catch(running.leave)
  }

  clear() {
    const { running } = this
    if (running?.turn.address && !running.turn.watching) stop(running.turn.address).catch(() => {}) // it ends anyway
    running?.leave()
    this.turns.length = 0
    this.list.replaceChildren()
    this.keep()
  }

  // Records outlive a reload

  get records() {
    return this.turns.map((turn) => turn.record())
  }

  keep() {
    keepConversation(this.records)
  }

  /** Shows the records, and follows the answer that is under way. With `watching`, another tab asked for it. */
  recall(records, { watching = false } = {}) {
    for (const record of records) {
      const turn = this.add(record.question)
      if (record.over) turn.recall(record)
      else if (record.address) this.comeBack(turn, watching ? { ...record, watching } : record)
      else turn.drop(record)
    }
  }

}
