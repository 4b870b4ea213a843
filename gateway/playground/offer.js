// The models and assistants that the gateway offers, and the choice of the person.

import { element } from './element.js'

const at = (id) => document.getElementById(id)
const NOTHING = { models: [], assistants: [], default: null, key: false }

export let offer = NOTHING

/** Loads the offer. Returns false if the gateway refuses the key. */
export async function loadOffer(key) {
  const headers = key ? { Authorization: `Bearer ${key}` } : {}
  const response = await fetch('/playground/offer.json', { headers }).catch(() => null)
  if (response?.status === 401) return false
  offer = response?.ok ? await response.json() : NOTHING
  show(key)
  return true
}

function show(key) {
  const { models, assistants } = offer
  const isGuest = lacksKey(key)
  const before = [at('model'), at('assistant')].map((select) => [select, chosenIn(select)])
  fill(at('model'), models)
  fill(at('assistant'), assistants)
  if (assistants.length) at('model').prepend(element('option', { value: '' }, 'default'))
  if (!assistants.includes('default') && !isGuest) at('assistant').prepend(element('option', { value: '' }, 'none'))
  at('model').value = assistants.length ? '' : offer.default
  at('assistant').value = assistants.includes('default') ? 'default' : isGuest ? assistants[0] ?? '' : ''
  for (const [select, value] of before) keep(select, value)
  at('assistant-field').hidden = !assistants.length
  at('model-field').hidden = isGuest // public assistants have a model of their own
  nameModel(!models.length)
}

/** The value that a person could choose; null if there was nothing to choose. */
function chosenIn(select) {
  return select.hidden || select.closest('.field').hidden ? null : select.value
}

/** Chooses `value` if it is offered. */
function keep(select, value) {
  if ([...select.options].some((option) => option.value === value)) select.value = value
}

/** Is a key needed for everything but public assistants? */
export function lacksKey(key) {
  return offer.key && !key && !offer.models.length && offer.default === null
}

function fill(select, names) {
  select.replaceChildren(...names.map((name) => element('option', {}, name)))
}

/** If no models are configured, every name goes to the upstream. Then the person writes the name. */
function nameModel(isWritten) {
  at('model').hidden = isWritten
  at('model-name').hidden = !isWritten
  at('model-name').placeholder = offer.default ?? 'name of a model'
  at('model-label').htmlFor = isWritten ? 'model-name' : 'model'
}

// The choice

export function chosenModel() {
  if (at('model-field').hidden) return ''
  return (at('model').hidden ? at('model-name').value : at('model').value).trim()
}

export function chosenWay() {
  return at('composer').elements.way.value
}

/** `whom` has the fields of a question that name the model or assistant; `model` is the name to show. */
export function choose() {
  const assistant = at('assistant').value
  const chosen = Object.entries({ model: chosenModel(), assistant, reasoning: '1' })
  const whom = Object.fromEntries(chosen.filter(([, value]) => value))
  return { way: chosenWay(), whom, model: chosenModel() || assistant || offer.default }
}

/** Chooses as for the last question, if that is still offered. */
export function chooseAgain({ model, way }) {
  at('composer').elements.way.value = way
  for (const select of [at('model'), at('assistant')]) keep(select, model || null)
}
