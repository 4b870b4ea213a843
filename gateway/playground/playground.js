// The page: the actions of the person, and the state of the page.
//
// client.js talks to the gateway, conversation.js asks and stops, and turn.js shows a question with its answer.

import { Conversation } from './conversation.js'
import { EXAMPLES, demos, explanation } from './demo.js'
import { element } from './element.js'
import { chosenKey, loadKey, wantsKey } from './key.js'
import { keptConversation } from './memory.js'
import { choose, chooseAgain, chosenModel, chosenWay, offer } from './offer.js'
import { follow, followAgain } from './scroll.js'
import { hearTabs, tellTabs } from './tabs.js'

const HINTS = {
  fetch: '',
  EventSource: 'EventSource asks by GET, so each question stands alone.',
  keyed: 'An EventSource cannot send a key: fetch starts the answer, and it watches.',
}
const BUSY = { keyboard: 'Esc or Stop first, then Enter sends.', touch: 'Stop this answer first, then send.' }
const CONNECTION = {
  connecting: 'Connecting',
  waiting: 'Connected',
  thinking: 'Streaming',
  answering: 'Streaming',
  reconnecting: 'Reconnecting',
  unreachable: 'Reconnecting',
  busy: 'Reconnecting',
}

const at = (id) => document.getElementById(id)
const means = matchMedia('(hover: none) and (pointer: coarse)').matches ? 'touch' : 'keyboard'
const form = at('composer')
const question = at('question')
const conversation = new Conversation(at('conversation'), {
  choose: () => ({ ...choose(), key: chosenKey() }),
  notify: showState,
  grown: follow,
})

function askNew(text) {
  if (conversation.running || !text.trim()) return
  if (wantsKey()) return at('key').focus()
  conversation.ask(conversation.add(text.trim()))
  showConversation()
}

function showConversation() {
  at('welcome').hidden = true
  at('anew').hidden = false
  followAgain()
}

function startAnew() {
  conversation.clear()
  at('welcome').hidden = false
  at('anew').hidden = at('latest').hidden = true
  question.focus()
}

function showHint() {
  const way = chosenWay() === 'EventSource' && chosenKey() ? 'keyed' : chosenWay()
  const usual = [explanation(chosenModel()), HINTS[way]].filter(Boolean).join(' ')
  at('hint').textContent = conversation.running && (question.value.trim() || !usual) ? BUSY[means] : usual
}

// The empty page

function welcome() {
  hearTabs((answers) => {
    at('elsewhere').hidden = !answers.length
    at('arriving').replaceChildren(...answers.map((answer) => {
      const title = [element('b', {}, answer.question), element('span', {}, 'Watch it here, too')]
      return offered(title, () => watchHere(answer))
    }))
  })
  at('examples').replaceChildren(...EXAMPLES.map((text) => offered([text], () => askNew(text))))
}

function showDemos() {
  const shown = demos(offer.models)
  at('beyond').hidden = !shown.length
  at('demos').replaceChildren(...shown.map(([model, does, asked]) => {
    const title = [element('b', {}, model), element('span', {}, does)]
    return offered(title, () => askModel(model, asked))
  }))
}

function askModel(model, text) {
  at('model').value = model
  showHint()
  askNew(text)
}

function offered(content, act) {
  const button = element('button', { type: 'button' }, ...content)
  button.addEventListener('click', () => {
    act()
    keepFocus()
  })
  return element('li', {}, button)
}

// The state of the page

function showState(turn) {
  const busy = conversation.running?.turn === turn && turn.running
  const connection = CONNECTION[turn.state]
  at('state').textContent = !busy ? 'Ready' : turn.watching && connection === 'Streaming' ? 'Watching' : connection
  at('state').dataset.state = busy ? turn.state : 'idle'
  swap(busy ? at('send') : at('stop'), busy ? at('stop') : at('send'))
  showHint()
  announce(turn)
  showTabs(turn)
}

/** Replaces one button by the other, which gets the focus if the first one had it. */
function swap(gone, come) {
  const focused = document.activeElement === gone
  come.hidden = false
  if (focused) come.focus({ preventScroll: true })
  gone.hidden = true
}

/** Focuses the question for the next one. On a phone, its keyboard would cover the answer. */
function keepFocus() {
  const next = matchMedia('(pointer: coarse)').matches ? at('stop') : question
  next.focus({ preventScroll: true })
}

/** Tells screen readers the state of an answer, but not its tokens. */
function announce(turn) {
  const { failure, label, running } = turn
  const answer = turn.part('.prose').textContent
  const short = answer.length <= 200 ? answer : '' // the person can go to a longer one
  const words = running ? label : `${label}. ${failure ? `${failure.message} ${failure.advice}` : short}`
  if (at('announcer').textContent !== words) at('announcer').textContent = words
}

// Other tabs

const tabs = tellTabs(() => {
  const { turn } = conversation.running ?? {}
  return turn?.address ? { id: idOf(turn), question: turn.question, records: conversation.records } : null
})
let told = null // the id of the answer that other tabs know

function showTabs(turn) {
  if (!turn.address) return
  if (turn.running && told !== idOf(turn)) {
    told = idOf(turn)
    tabs.tell()
  }
  if (turn.end) tabs.over(idOf(turn))
}

function idOf({ address }) {
  return new URL(address, location).pathname
}

function watchHere({ records }) {
  if (conversation.running) return
  conversation.recall(records, { watching: true })
  showConversation()
}

// Actions of the person

form.addEventListener('submit', (event) => {
  event.preventDefault()
  if (conversation.running || !question.value.trim()) return
  if (wantsKey()) return at('key').focus()
  const typing = document.activeElement === question
  askNew(question.value)
  question.value = ''
  resize()
  showHint()
  if (typing) keepFocus()
})

form.addEventListener('input', showHint)
at('anew').addEventListener('click', startAnew)
at('stop').addEventListener('click', (event) => {
  if (event.detail < 2) conversation.stop() // a double click on Send must not stop the answer
})

question.addEventListener('input', resize)
question.addEventListener('keydown', (event) => {
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return // while composing, Enter chooses a character
  event.preventDefault()
  form.requestSubmit()
})

document.addEventListener('keydown', (event) => {
  if (event.key === 'Escape' && !event.isComposing) conversation.stop()
})

function resize() {
  question.style.height = 'auto'
  question.style.height = `${question.scrollHeight}px` // CSS limits it
}

if (means === 'touch') question.setAttribute('aria-describedby', 'hint') // without `keys`, which would be read out

await loadKey((note) => {
  showDemos()
  showHint()
  if (document.activeElement === at('key')) at('announcer').textContent = note
})
welcome()
const records = keptConversation()
if (records.length) {
  try {
    chooseAgain(records.at(-1))
    conversation.recall(records)
    showConversation()
  } catch (error) {
    startAnew() // the records may come from an earlier version of this page
    reportError(error)
  }
}
