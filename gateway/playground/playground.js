// The page: what the person does, turned into questions, and the state of it all.
//
// How a page talks to the gateway is in client.js; how an answer is shown, in turn.js.

import { askWithEventSource, askWithFetch } from './client.js'
import { EXAMPLES, demos, explanation } from './demo.js'
import { element } from './element.js'
import { Turn } from './turn.js'

const WAYS = { EventSource: askWithEventSource, fetch: askWithFetch }
const HINTS = {
  fetch: '',
  EventSource: 'EventSource asks by GET, so each question stands alone.',
}
const BUSY = 'Esc or Stop first, then Enter sends.'
const CONNECTION = {
  connecting: 'Connecting',
  waiting: 'Connected',
  thinking: 'Streaming',
  answering: 'Streaming',
  reconnecting: 'Reconnecting',
}

const at = (id) => document.getElementById(id)
const form = at('composer')
const question = at('question')
const turns = []
let offer = { models: [], assistants: [], default: null }
let running = null // the turn that is being answered, and what stops it: {turn, stop}

// Asking

/** Asks `turn` (again), with the answered turns before it as its history where the way of asking can carry one. */
async function ask(turn, way = chosenWay()) {
  if (running) return
  const abort = new AbortController()
  running = { turn, stop: () => abort.abort() }
  turn.begin(chosenModel() || at('assistant').value || offer.default, way)
  try {
    await WAYS[way](fields(turn, way), (event) => turn.take(event), abort.signal)
  } catch (error) {
    if (abort.signal.aborted) turn.stop()
    else turn.lose(error)
  } finally {
    running = null
    showState(turn)
  }
}

function fields(turn, way) {
  const chosen = Object.entries({ model: chosenModel(), assistant: at('assistant').value, reasoning: '1' })
  const whom = Object.fromEntries(chosen.filter(([, value]) => value))
  return way === 'fetch' ? { ...whom, messages: messages(turn) } : { ...whom, q: turn.question }
}

function messages(turn) {
  const earlier = turns.slice(0, turns.indexOf(turn)).filter(({ said }) => said) // without an answer, no question
  const exchanges = earlier.flatMap(({ question, said }) => [
    { role: 'user', content: question },
    { role: 'assistant', content: said },
  ])
  return [...exchanges, { role: 'user', content: turn.question }]
}

function askNew(text) {
  if (running || !text.trim()) return
  const turn = new Turn(text.trim(), { notify: showState, grown: follow, askAgain })
  turns.push(turn)
  at('welcome').hidden = true
  at('anew').hidden = false
  at('conversation').append(turn.root)
  following = true
  ask(turn)
  follow()
}

function askAgain(turn, way) {
  ask(turn, way)
  keepFocus()
}

function startAnew() {
  running?.stop()
  turns.length = 0
  at('conversation').replaceChildren()
  at('welcome').hidden = false
  at('anew').hidden = at('latest').hidden = true
  question.focus()
}

// Whom and how

function chosenModel() {
  return (at('model').hidden ? at('model-name').value : at('model').value).trim()
}

function chosenWay() {
  return form.elements.way.value
}

function showHint() {
  const usual = [explanation(chosenModel()), HINTS[chosenWay()]].filter(Boolean).join(' ')
  at('hint').textContent = running && (question.value.trim() || !usual) ? BUSY : usual
}

async function loadOffer() {
  const response = await fetch('/playground/offer.json').catch(() => null)
  if (response?.ok) offer = await response.json()
  fill(at('model'), offer.models)
  fill(at('assistant'), offer.assistants)
  if (offer.assistants.length) at('model').prepend(element('option', { value: '' }, 'default'))
  if (!offer.assistants.includes('default')) at('assistant').prepend(element('option', { value: '' }, 'none'))
  at('model').value = offer.assistants.length ? '' : offer.default
  at('assistant').value = offer.assistants.includes('default') ? 'default' : ''
  at('assistant-field').hidden = !offer.assistants.length
  if (!offer.models.length) askForModelName()
  showHint()
}

function fill(select, names) {
  select.replaceChildren(...names.map((name) => element('option', {}, name)))
}

/** Where no models are configured, every name goes to the upstream: then it is written, not chosen. */
function askForModelName() {
  at('model').hidden = true
  at('model-name').hidden = false
  at('model-name').placeholder = offer.default ?? 'name of a model'
  document.querySelector('label[for=model]').htmlFor = 'model-name'
}

// The empty page

function welcome() {
  at('examples').replaceChildren(...EXAMPLES.map((text) => offered([text], () => askNew(text))))
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

// The state of it

function showState(turn) {
  const busy = running?.turn === turn && turn.running
  at('state').textContent = busy ? CONNECTION[turn.state] : 'Ready'
  at('state').dataset.state = busy ? turn.state : 'idle'
  swap(busy ? at('send') : at('stop'), busy ? at('stop') : at('send'))
  showHint()
  announce(turn)
}

/** Puts one button into the place of the other, and keeps the focus there. */
function swap(gone, come) {
  const focused = document.activeElement === gone
  come.hidden = false
  if (focused) come.focus({ preventScroll: true })
  gone.hidden = true
}

/** The next thing is another question; but on a phone its keyboard would cover the answer. */
function keepFocus() {
  const next = matchMedia('(pointer: coarse)').matches ? at('stop') : question
  next.focus({ preventScroll: true })
}

/** For screen readers: what state it is in, never the tokens. */
function announce(turn) {
  const { failure, label, running } = turn
  const answer = turn.part('.prose').textContent
  const short = answer.length <= 200 ? answer : '' // a longer one is read when the person goes there
  const words = running ? label : `${label}. ${failure ? `${failure.message} ${failure.advice}` : short}`
  if (at('announcer').textContent !== words) at('announcer').textContent = words
}

// Keeping the end in sight, for as long as the reader is there

let following = true

function follow() {
  if (following) scrollTo({ top: document.documentElement.scrollHeight })
  else at('latest').hidden = false
}

addEventListener('scroll', () => {
  const { scrollHeight } = document.documentElement
  following = innerHeight + scrollY >= scrollHeight - 32
  if (following) at('latest').hidden = true
}, { passive: true })

at('latest').addEventListener('click', () => {
  following = true
  follow()
  at('latest').hidden = true
})

// What the person does

form.addEventListener('submit', (event) => {
  event.preventDefault()
  if (running || !question.value.trim()) return
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
  if (event.detail < 2) running?.stop() // the second half of a double click on Send is no wish to stop
})

question.addEventListener('input', resize)
question.addEventListener('keydown', (event) => {
  if (event.key !== 'Enter' || event.shiftKey || event.isComposing) return // composing: Enter chooses a character
  event.preventDefault()
  form.requestSubmit()
})

document.addEventListener('keydown', (event) => {
  if (event.key === 'Escape' && !event.isComposing) running?.stop()
})

function resize() {
  question.style.height = 'auto'
  question.style.height = `${question.scrollHeight}px` // CSS bounds it
}

await loadOffer()
welcome()
