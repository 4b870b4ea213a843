// The field for an API key. It is shown if the gateway has keys.

import { keepKey, keptKey } from './memory.js'
import { lacksKey, loadOffer, offer } from './offer.js'

const NOTES = {
  none: 'Kept in this tab alone.',
  needed: 'One is needed here.',
  taken: 'Taken. Kept in this tab alone.',
  refused: 'Refused: it is wrong, or has expired.',
  optional: 'Refused: it is wrong, or has expired. Clear the field to ask without a key.',
}

const field = document.getElementById('key-field')
const input = document.getElementById('key')
const note = document.getElementById('key-note')

let key = ''
let tried = '' // the key that was last checked

/** The key that the gateway has accepted, or an empty string. */
export function chosenKey() {
  return key
}

/** Loads the offer with the key that this tab had before. `changed(note)` is called for every new offer. */
export async function loadKey(changed) {
  input.value = keptKey()
  await apply(changed)
  const applyNew = () => input.value.trim() !== tried && apply(changed)
  input.addEventListener('change', applyNew)
  input.addEventListener('keydown', (event) => {
    if (event.key !== 'Enter') return
    event.preventDefault() // Enter in this field sends no question
    applyNew()
  })
}

export function wantsKey() {
  return lacksKey(key) && !offer.assistants.length
}

async function apply(changed) {
  tried = input.value.trim()
  const given = tried
  const isTaken = await loadOffer(given)
  if (!isTaken) await loadOffer('')
  if (given !== tried) return // another key is being checked
  key = isTaken ? given : ''
  keepKey(key)
  field.hidden = !offer.key
  input.setAttribute('aria-invalid', String(!isTaken))
  note.textContent = NOTES[isTaken ? accepted() : wantsKey() ? 'refused' : 'optional']
  changed(note.textContent)
}

function accepted() {
  return key ? 'taken' : wantsKey() ? 'needed' : 'none'
}
